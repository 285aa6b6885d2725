//! Targets: add, list, show, change, remove; and the upload of a Selenium recording.
//!
//! Documented: IPv4 addresses, FQDNs and URLs; up to 10 tags; `upsert`; DELETE answers 200 without
//! a body and deletes the target's risks. Inferred from a client: the text that a duplicate gets.
//! Assumed: `upsert` may stand in the body too; an upload answers with the target.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use futures_util::{future, stream};
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use super::body::{Fields, bytes, query_boolean, wrong};
use super::{Api, Caller, Failure, Id, List, PAGE, Params, one};
use crate::event::Vendor;
use crate::problem::quote;
use crate::scanner::Refusal;
use crate::scanner::targets::{NewTarget, add_target, check_target, remove_target};
use crate::vendors::hostedscan::objects;
use crate::world::{Item, Kind, Target, World};

/// What a duplicate gets.
const DUPLICATE: &str = "Target already exists";

/// Checks that an address is an IPv4 address, a FQDN or a URL.
pub(super) fn check_address(address: &str) -> Result<(), String> {
    let is_numeric = address.split('.').next_back().is_some_and(|last| last.chars().all(|c| c.is_ascii_digit()));
    let is_name = address.contains('.') && address.len() <= 253 && !is_numeric && !address.contains('/');
    let quoted = quote(address);
    if !address.contains("://") && !is_name && address.parse::<Ipv4Addr>().is_err() {
        return Err(format!("{quoted} is neither an IPv4 address nor a FQDN nor a URL"));
    }
    let new = NewTarget { address: address.to_owned(), ..NewTarget::default() };
    check_target(&new).into_iter().next().map_or(Ok(()), |problem| Err(problem.reason))
}

/// Checks what may be changed about a target.
fn check_changes(label: Option<&String>, tags: Option<&Vec<String>>) -> Result<(), Failure> {
    let (label, tags) = (label.cloned().unwrap_or_default(), tags.cloned().unwrap_or_default());
    let new = NewTarget { address: "example.test".to_owned(), label, tags, ..NewTarget::default() };
    check_target(&new).first().map_or(Ok(()), |problem| Err(Failure::bad(problem.to_string())))
}

/// What is asked to be set on a target.
struct Changes {
    label: Option<String>,
    tags: Option<Vec<String>>,
}

impl Changes {
    fn read(fields: &Fields) -> Result<Self, Failure> {
        let changes = Self { label: fields.text("label")?.map(str::to_owned), tags: fields.texts("tags")? };
        check_changes(changes.label.as_ref(), changes.tags.as_ref())?;
        Ok(changes)
    }

    fn make(&self, world: &mut World, target: &Target, at: DateTime<Utc>) -> Value {
        let mut changed = target.clone();
        changed.label = self.label.clone().unwrap_or(changed.label);
        changed.tags = self.tags.clone().unwrap_or(changed.tags);
        if changed != *target {
            changed.changed_at = at;
            world.put(changed.clone());
        }
        objects::target(&changed)
    }
}

/// A target by the vendor's id.
pub(super) fn find_target<'w>(world: &'w World, id: &str) -> Option<&'w Arc<Target>> {
    world.targets().find(|target| objects::is_id_of(id, "target", target.id))
}

fn found(world: &World, id: &str) -> Result<Arc<Target>, Refusal> {
    find_target(world, id).cloned().ok_or_else(|| Refusal::NotFound(format!("there is no target {}", quote(id))))
}

pub(super) async fn add(
    State(api): State<Api>,
    Caller(account_id): Caller,
    params: Params,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let asked = query_boolean("upsert", params.get("upsert"))?;
    let fields = Fields::read(&api, request).await?;
    let is_upsert = fields.boolean("upsert")?.or(asked).unwrap_or_default();
    let address = fields.text("target")?.ok_or_else(|| wrong("target", "is required"))?;
    check_address(address).map_err(|reason| wrong("target", &reason))?;
    let changes = Changes::read(&fields)?;
    let add = |world: &mut World, at| match world.target_at(address).cloned() {
        Some(target) if is_upsert => Ok(changes.make(world, &target, at)),
        Some(_) => Err(Refusal::Conflict(DUPLICATE.to_owned())),
        None => {
            let (label, tags) = (changes.label.clone().unwrap_or_default(), changes.tags.clone().unwrap_or_default());
            let new = NewTarget { address: address.to_owned(), label, tags, ..NewTarget::default() };
            Ok(objects::target(&*add_target(world, new, at)?))
        }
    };
    Ok(one(api.scanner.change(account_id, |world, rules| add(world, rules.now)).await?))
}

pub(super) async fn list(
    State(api): State<Api>,
    Caller(account_id): Caller,
    params: Params,
) -> Result<Json<Value>, Failure> {
    let list = List::new(&api, account_id, "targets");
    let position = list.position(&params)?;
    let world = api.scanner.world(account_id).await?;
    let mut targets: Vec<&Arc<Target>> = world.targets().collect();
    targets.reverse();
    let after = targets.into_iter().filter(|target| position.is_none_or(|position| target.id < position));
    Ok(list.page(after.take(PAGE + 1).map(|target| (target.id, objects::target(target))).collect()))
}

pub(super) async fn show(
    State(api): State<Api>,
    Caller(account_id): Caller,
    Id(id): Id,
) -> Result<Json<Value>, Failure> {
    let world = api.scanner.world(account_id).await?;
    Ok(one(objects::target(find_target(&world, &id).ok_or_else(Failure::missing)?)))
}

pub(super) async fn change(
    State(api): State<Api>,
    Caller(account_id): Caller,
    Id(id): Id,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let changes = Changes::read(&Fields::read(&api, request).await?)?;
    let change = |world: &mut World, at| {
        let target = found(world, &id)?;
        Ok(changes.make(world, &target, at))
    };
    Ok(one(api.scanner.change(account_id, |world, rules| change(world, rules.now)).await?))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Caller(account_id): Caller,
    Id(id): Id,
) -> Result<impl IntoResponse, Failure> {
    let remove = |world: &mut World, at| {
        let target = found(world, &id)?;
        remove_target(world, target.id, at)
    };
    api.scanner.change(account_id, |world, rules| remove(world, rules.now)).await?;
    Ok(())
}

/// Reads the one file of a form: a Selenium recording, which is a JSON object. Its text.
async fn read_recording(api: &Api, request: Request) -> Result<String, Failure> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(content_type)
        .map_err(|_| Failure::bad("the body must be multipart/form-data with a boundary"))?;
    let body = bytes(api, request).await?;
    let mut form = multer::Multipart::new(stream::once(future::ready(Ok::<_, Infallible>(body))), boundary);
    let broken = |error: multer::Error| Failure::bad(format!("the form cannot be read: {error}"));
    let mut recording = None;
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if field.name() == Some("file") {
            recording = Some(field.bytes().await.map_err(broken)?);
        }
    }
    let recording = recording.ok_or_else(|| wrong("file", "is required"))?;
    let is_object = serde_json::from_slice::<Map<String, Value>>(&recording).is_ok();
    let text = String::from_utf8(recording.into()).ok().filter(|_| is_object);
    text.ok_or_else(|| wrong("file", "is not a Selenium recording, which is a JSON object"))
}

pub(super) async fn upload(
    State(api): State<Api>,
    Caller(account_id): Caller,
    Id(id): Id,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let recording = read_recording(&api, request).await?;
    let keep = |world: &mut World, at| {
        let target = found(world, &id)?;
        let (number, item_id) = world.next_id(Kind::Item, at);
        world.put(Item {
            id: item_id,
            number,
            vendor: Vendor::Hostedscan,
            collection: "selenium".to_owned(),
            target_id: Some(target.id),
            // As text: it may be nested as deep as JSON is read, and here it is one level deeper.
            fields: Map::from_iter([("recording".to_owned(), recording.clone().into())]),
            is_fixed: true,
            created_at: at,
            changed_at: at,
            deleted_at: None,
        });
        Ok(objects::target(&target))
    };
    Ok(one(api.scanner.change(account_id, |world, rules| keep(world, rules.now)).await?))
}
