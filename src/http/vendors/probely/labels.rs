//! Labels of targets, findings and users. A target's labels are its tags, so that what another vendor
//! calls a tag is a label here.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde_json::{Map, Value};

use super::call::{At, Call, Failure, Fields, View};
use super::fields::{Rule, check, entries, kept};
use super::list::{Key, Page, check_ids, is_among, is_found, order};
use crate::event::Vendor;
use crate::http::vendors::{Api, Params};
use crate::problem::check_text;
use crate::scanner::Refusal;
use crate::scanner::items::{self, NewItem};
use crate::vendors::probely::ids::vendor_id;
use crate::vendors::probely::objects::{self, label_id, tag_id};
use crate::world::{Item, Target, World};

const TARGET: &str = "target_label";

/// The most labels of one thing. (HostedScan documents this of its tags, which are the same here.)
const MOST_LABELS: usize = 10;

/// What a caller may set of a label. (Documented.)
const RULES: [(&str, Rule); 2] = [("name", Rule::Name(255)), ("color", Rule::Colour)];

/// One label: its id, its name, and the item where it was made or changed through this API.
#[derive(Debug, Clone)]
pub(super) struct Label {
    id: String,
    name: String,
    item: Option<Arc<Item>>,
    since: DateTime<Utc>,
}

fn text(item: &Item, name: &str) -> String {
    item.fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Label {
    fn made(item: &Arc<Item>) -> Self {
        let id = text(item, "id");
        let id = if id.is_empty() { vendor_id("label", item.id) } else { id };
        Self { id, name: text(item, "name"), since: item.changed_at, item: Some(Arc::clone(item)) }
    }

    fn is_meant(&self, by: &str) -> bool {
        self.id == by || self.name == by
    }

    fn shown(&self, view: &View) -> Value {
        match &self.item {
            Some(item) => objects::label(item, view.scene()),
            None => objects::label_of_tag(&self.name, self.since, view.scene()),
        }
    }

    fn fields(&self, color: &str) -> Map<String, Value> {
        let fields = [("id", &*self.id), ("name", &*self.name), ("color", color)];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }
}

/// The labels of a collection: those that were made, and those of targets' tags.
fn all(world: &World, collection: &str) -> Vec<Label> {
    let mut labels: Vec<Label> = world.items(Vendor::Probely, collection).map(Label::made).collect();
    if collection == TARGET {
        let mut names: HashSet<String> = labels.iter().map(|label| label.name.clone()).collect();
        let taken: HashSet<String> = labels.iter().map(|label| label.id.clone()).collect();
        for target in world.targets() {
            for tag in target.tags.iter().filter(|tag| names.insert((*tag).clone())) {
                let id = tag_id(tag, |id| taken.contains(id));
                labels.push(Label { id, name: tag.clone(), item: None, since: target.created_at });
            }
        }
    }
    labels
}

/// The tags that a list of labels means: objects with `id` or `name`, or ids or names as they are. A
/// name that there is no label of makes one.
pub(super) fn tags_in(world: &World, labels: &Value) -> Result<Vec<String>, Refusal> {
    let known = all(world, TARGET);
    let mut tags: Vec<String> = Vec::new();
    for given in entries(labels).unwrap_or_default() {
        let id = given.get("id").and_then(Value::as_str);
        let name = given.get("name").and_then(Value::as_str).or_else(|| given.as_str());
        let found = known.iter().find(|label| match (id, name) {
            (Some(id), _) => label.id == id,
            (None, Some(name)) => label.is_meant(name),
            (None, None) => false,
        });
        let tag = match (found, id, name) {
            (Some(label), ..) => label.name.clone(),
            // As every tag is checked.
            (None, None, Some(name)) if check_text("/labels", name, 1_020).is_ok() => name.to_owned(),
            _ => return Err(Refusal::field("/labels", "Object does not exist.")),
        };
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    check_count(tags.len())?;
    Ok(tags)
}

fn check_count(labels: usize) -> Result<(), Refusal> {
    let reason = || format!("Ensure this field has no more than {MOST_LABELS} elements.");
    if labels > MOST_LABELS { Err(Refusal::field("/labels", reason())) } else { Ok(()) }
}

/// The ids of the items that a list of labels of findings or users means.
pub(super) fn items_in(world: &World, collection: &str, labels: &Value) -> Result<Value, Refusal> {
    let known = all(world, collection);
    let item = |given: &Value| {
        let by = given.get("id").or_else(|| given.get("name")).unwrap_or(given).as_str()?;
        known.iter().find(|label| label.is_meant(by))?.item.as_ref().map(|item| item.id.to_string())
    };
    let mut found: Vec<String> = Vec::new();
    for given in entries(labels).unwrap_or_default() {
        let id = item(given).ok_or_else(|| Refusal::field("/labels", "Object does not exist."))?;
        if !found.contains(&id) {
            found.push(id);
        }
    }
    check_count(found.len())?;
    Ok(found.into())
}

/// The labels that a list is narrowed to: targets have one of them or, if the caller says `and`, all.
pub(super) struct LabelFilter<'p> {
    /// The names that each value of the parameter means.
    wanted: Vec<HashSet<String>>,
    operator: Option<&'p str>,
}

impl<'p> LabelFilter<'p> {
    pub(super) fn read(params: &'p Params, name: &str, world: &World) -> Self {
        let values: Vec<&str> = params.all(name).collect();
        let labels = if values.is_empty() { Vec::new() } else { all(world, TARGET) };
        let names = |value: &&str| {
            let meant = labels.iter().filter(|label| label.is_meant(value));
            meant.map(|label| label.name.clone()).collect()
        };
        let operator = if name == "label" { "label_logical_operator" } else { "target_label_logical_operator" };
        Self { wanted: values.iter().map(names).collect(), operator: params.get(operator) }
    }

    pub(super) fn holds(&self, target: &Target) -> bool {
        let has = |names: &HashSet<String>| target.tags.iter().any(|tag| names.contains(tag));
        match self.operator {
            _ if self.wanted.is_empty() => true,
            Some("and") => self.wanted.iter().all(has),
            _ => self.wanted.iter().any(has),
        }
    }
}

/// The collection that a path names.
fn collection(path: &str) -> Result<&'static str, Failure> {
    match path {
        "targets" => Ok(TARGET),
        "findings" => Ok("finding_label"),
        "users" => Ok("user_label"),
        _ => Err(Failure::not_found()),
    }
}

pub(super) fn many() -> MethodRouter<Api> {
    get(async |call: Call, params: Params| list(call, TARGET, params).await)
        .post(async |call: Call, Fields(fields): Fields| create(call, TARGET, fields).await)
}

pub(super) fn many_of() -> MethodRouter<Api> {
    get(async |call: Call, At(path): At<String>, params: Params| list(call, collection(&path)?, params).await).post(
        async |call: Call, At(path): At<String>, Fields(fields): Fields| create(call, collection(&path)?, fields).await,
    )
}

pub(super) fn one() -> MethodRouter<Api> {
    get(async |call: Call, At((path, id)): At<(String, String)>| {
        let view = call.view().await?;
        let label = find(&view.world, collection(&path)?, &id).ok_or_else(Failure::not_found)?;
        Ok::<_, Failure>(Json(label.shown(&view)))
    })
    .patch(change)
    .put(change)
    .delete(remove)
}

/// Checks a name as every tag is checked.
fn check_name(name: &str) -> Result<(), Refusal> {
    check_text("/name", name, 1_020).map_err(|problem| Refusal::Invalid(vec![problem]))
}

fn find(world: &World, collection: &str, id: &str) -> Option<Label> {
    all(world, collection).into_iter().find(|label| label.id == id)
}

async fn list(call: Call, collection: &'static str, params: Params) -> Result<Response, Failure> {
    let page = Page::read(&params)?;
    let view = call.view().await?;
    let mut labels = all(&view.world, collection);
    check_ids(&params, |id| labels.iter().any(|label| label.id == id))?;
    labels.retain(|label| is_among(&params, "id", &label.id) && is_found(&params, &[&label.name]));
    order(&mut labels, &params, "-changed", |label, field| match field {
        "changed" => Some(label.since.into()),
        "name" => Some(Key::Text(label.name.to_lowercase())),
        _ => None,
    });
    page.of(labels, |label| Some(label.shown(&view)))
}

async fn create(call: Call, collection: &'static str, fields: Map<String, Value>) -> Result<Response, Failure> {
    check(&fields, &RULES, &["name"])?;
    let set = kept(&fields, &RULES);
    let name = set.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let added = call
        .change(|world, rules| {
            check_name(&name)?;
            if all(world, collection).iter().any(|label| label.name == name) {
                return Err(Refusal::field("/name", "A label with this name already exists."));
            }
            let mut fields = set.clone();
            fields.entry("color").or_insert_with(|| "#00FF00".into());
            let id = label_id(&name);
            // The id that the name would have stays with the label that had the name first.
            if collection == TARGET && find(world, collection, &id).is_none() {
                fields.insert("id".to_owned(), id.into());
            }
            let vendor = Vendor::Probely;
            items::add(world, NewItem { vendor, collection, target_id: None, fields, is_fixed: false }, rules.now)
        })
        .await?;
    let view = call.view().await?;
    Ok((StatusCode::CREATED, Json(Label::made(&added).shown(&view))).into_response())
}

async fn change(call: Call, At((path, id)): At<(String, String)>, Fields(fields): Fields) -> Result<Response, Failure> {
    let collection = collection(&path)?;
    find(&call.view().await?.world, collection, &id).ok_or_else(Failure::not_found)?;
    check(&fields, &RULES, &[])?;
    let set = kept(&fields, &RULES);
    let changed = call
        .change(|world, rules| {
            let gone = || Refusal::NotFound("there is no such label".to_owned());
            let label = find(world, collection, &id).ok_or_else(gone)?;
            let name = set.get("name").and_then(Value::as_str).unwrap_or(&label.name).to_owned();
            check_name(&name)?;
            if all(world, collection).iter().any(|other| other.name == name && other.id != label.id) {
                return Err(Refusal::field("/name", "A label with this name already exists."));
            }
            let item = match &label.item {
                Some(item) => Arc::clone(item),
                None => {
                    let (vendor, fields) = (Vendor::Probely, label.fields("#00FF00"));
                    let new = NewItem { vendor, collection, target_id: None, fields, is_fixed: false };
                    items::add(world, new, rules.now)?
                }
            };
            if collection == TARGET && name != label.name {
                retag(world, &label.name, Some(&name), rules.now);
            }
            items::change(world, item.id, set.clone(), rules.now)
        })
        .await?;
    let view = call.view().await?;
    Ok(Json(Label::made(&changed).shown(&view)).into_response())
}

async fn remove(call: Call, At((path, id)): At<(String, String)>) -> Result<Response, Failure> {
    let collection = collection(&path)?;
    find(&call.view().await?.world, collection, &id).ok_or_else(Failure::not_found)?;
    call.change(|world, rules| {
        let Some(label) = find(world, collection, &id) else { return Ok(()) };
        if collection == TARGET {
            retag(world, &label.name, None, rules.now);
        }
        label.item.map_or(Ok(()), |item| items::remove(world, item.id, rules.now))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Gives a tag of targets another name, or takes it off.
fn retag(world: &mut World, tag: &str, name: Option<&str>, at: DateTime<Utc>) {
    let tagged: Vec<Arc<Target>> =
        world.targets().filter(|target| target.tags.iter().any(|own| own == tag)).cloned().collect();
    for target in tagged {
        let rename = |own: &String| if own == tag { name.map(str::to_owned) } else { Some(own.clone()) };
        let tags = target.tags.iter().filter_map(rename).collect();
        world.put(Target { tags, changed_at: at, ..Target::clone(&target) });
    }
}
