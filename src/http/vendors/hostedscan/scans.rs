//! Scans: start, list, show. Each runs in the account's world, so its webhooks follow.
//!
//! Documented: the fields of a scan; `type` is required, and at least one of `targets`,
//! `target_ids` and `tags`; the filters `type`, `state` and `scheduled_by`; targets that do not
//! exist yet are added (the line was dropped later). Assumed: the three ways to name targets add
//! up; `scheduled_by` is the id or the e-mail address of the user in whose name a scan runs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Map, Value};

use super::body::{Fields, wrong};
use super::filters::Filters;
use super::targets::{check_address, find_target};
use super::{Api, Caller, Failure, Id, List, PAGE, Params, one};
use crate::event::Vendor;
use crate::http::vendors::named;
use crate::id::{AccountId, ObjectId};
use crate::problem::quote;
use crate::scanner::life::{self, NewScan};
use crate::scanner::targets::{NewTarget, add_target};
use crate::scanner::{Refusal, Rules};
use crate::store;
use crate::vendors::hostedscan::objects;
use crate::world::{Kind, Object, Scan, Scanner, Settings, Target, World};

/// The most targets of one scan. (Assumed.)
const MOST_TARGETS: usize = 250;

/// A scan that is asked for.
struct Wanted {
    scanner: Scanner,
    targets: Vec<String>,
    target_ids: Vec<String>,
    tags: Vec<String>,
    uses_authentication: bool,
}

impl Wanted {
    fn read(fields: &Fields) -> Result<Self, Failure> {
        let scanner = fields.text("type")?.ok_or_else(|| wrong("type", "is required"))?;
        let wanted = Self {
            scanner: scanner.parse().map_err(|reason: String| wrong("type", &reason))?,
            targets: fields.texts("targets")?.unwrap_or_default(),
            target_ids: fields.texts("target_ids")?.unwrap_or_default(),
            tags: fields.texts("tags")?.unwrap_or_default(),
            uses_authentication: fields.boolean("use_authentication")?.unwrap_or_default(),
        };
        let count = wanted.targets.len() + wanted.target_ids.len() + wanted.tags.len();
        if count == 0 {
            return Err(Failure::bad("at least one of targets, target_ids and tags is required"));
        }
        if count > MOST_TARGETS {
            return Err(Failure::bad(format!("targets, target_ids and tags are more than {MOST_TARGETS}")));
        }
        for (index, address) in wanted.targets.iter().enumerate() {
            check_address(address).map_err(|reason| wrong(&format!("targets[{index}]"), &reason))?;
        }
        Ok(wanted)
    }

    /// Starts it.
    fn start(&self, world: &mut World, rules: Rules<'_>) -> Result<Value, Refusal> {
        let mut targets = self.find_targets(world, rules)?;
        // A scan whose first target does not answer fails; the others are passed over one by one.
        targets.sort_by_key(|target| target.is_unreachable);
        let mut ids = targets.iter().map(|target| target.id);
        let first = ids.next().ok_or_else(|| Refusal::field("/tags", "no target has any of them"))?;
        let own = Map::from_iter([("use_authentication".to_owned(), self.uses_authentication.into())]);
        let settings = Settings::from([(Vendor::Hostedscan, own)]);
        let new = NewScan { others: ids.collect(), settings, ..NewScan::of(first, self.scanner) };
        let scan = life::start(world, rules, new, rules.now)?;
        Ok(objects::scan(&scan, &targets[0]))
    }

    /// Every target that is meant, each once, in the order in which they are named.
    fn find_targets(&self, world: &mut World, rules: Rules<'_>) -> Result<Vec<Arc<Target>>, Refusal> {
        let mut found: Vec<Arc<Target>> = Vec::new();
        let mut add = |target: Arc<Target>| {
            if !found.iter().any(|known| known.id == target.id) {
                found.push(target);
            }
        };
        for address in &self.targets {
            let known = world.target_at(address).cloned();
            let new = || NewTarget { address: address.clone(), ..NewTarget::default() };
            add(known.map_or_else(|| add_target(world, new(), rules.now), Ok)?);
        }
        for (index, id) in self.target_ids.iter().enumerate() {
            let unknown =
                || Refusal::field(&format!("/target_ids/{index}"), format!("there is no target {}", quote(id)));
            add(Arc::clone(find_target(world, id).ok_or_else(unknown)?));
        }
        world.targets().filter(|target| self.tags.iter().any(|tag| target.tags.contains(tag))).cloned().for_each(add);
        if found.len() > MOST_TARGETS {
            return Err(Refusal::field("/tags", format!("name more than {MOST_TARGETS} targets")));
        }
        Ok(found)
    }
}

pub(super) async fn start(
    State(api): State<Api>,
    Caller(account_id): Caller,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let wanted = Wanted::read(&Fields::read(&api, request).await?)?;
    Ok(one(api.scanner.change(account_id, |world, rules| wanted.start(world, rules)).await?))
}

/// A target, also one that has been removed.
pub(super) async fn target(
    api: &Api,
    account_id: AccountId,
    world: &World,
    id: ObjectId,
) -> Result<Option<Arc<Target>>, store::Error> {
    let found = match world.object(id) {
        Some(found) => found.clone(),
        None => match api.store.world_object(account_id, Kind::Target, id).await {
            Ok(found) => found,
            Err(store::Error::NotFound(_)) => return Ok(None),
            Err(failure) => return Err(failure),
        },
    };
    Ok(Arc::try_from(found).ok())
}

/// Reads a list's scans, newest first, until there are enough.
async fn read_list(
    api: &Api,
    account_id: AccountId,
    mut before: Option<ObjectId>,
    filters: &Filters,
) -> Result<Vec<(ObjectId, Value)>, Failure> {
    let world = api.scanner.world(account_id).await?;
    let mut targets: HashMap<ObjectId, Option<Arc<Target>>> = HashMap::new();
    let mut found = Vec::new();
    let limit = u32::try_from(PAGE + 1).unwrap_or(u32::MAX);
    loop {
        let read = api.store.world_objects(account_id, Kind::Scan, None, before, limit).await?;
        let is_last = read.len() <= PAGE;
        before = read.last().map(Object::id);
        for scan in read.into_iter().filter_map(|object| Arc::<Scan>::try_from(object).ok()) {
            let target = match targets.entry(scan.target_id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(target(api, account_id, &world, scan.target_id).await?),
            };
            let Some(target) = target else { continue };
            let shown = objects::scan_with_risks(&scan, target);
            let user_id = objects::vendor_id("user", scan.by);
            let email = match world.object(scan.by) {
                Some(Object::User(user)) => &*user.email,
                _ => "",
            };
            let is_kept = filters.keep_by(|key| match key {
                "scheduled_by" => vec![user_id.as_str(), email],
                key => shown[key].as_str().into_iter().collect(),
            });
            if is_kept {
                found.push((scan.id, shown));
            }
        }
        if is_last || found.len() > PAGE {
            return Ok(found);
        }
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    Caller(account_id): Caller,
    params: Params,
) -> Result<Json<Value>, Failure> {
    let filters = params.filters(&["type", "state", "scheduled_by"])?;
    let list = List::new(&api, account_id, "scans");
    let scans = read_list(&api, account_id, list.position(&params)?, &filters).await?;
    Ok(list.page(scans))
}

pub(super) async fn show(
    State(api): State<Api>,
    Caller(account_id): Caller,
    Id(id): Id,
) -> Result<Json<Value>, Failure> {
    let scan = named::<Scan>(&api, account_id, Kind::Scan, |own| objects::is_id_of(&id, "scan", own)).await?;
    let scan = scan.ok_or_else(Failure::missing)?;
    let world = api.scanner.world(account_id).await?;
    let target = target(&api, account_id, &world, scan.target_id).await?.ok_or_else(Failure::missing)?;
    Ok(one(objects::scan_with_risks(&scan, &target)))
}
