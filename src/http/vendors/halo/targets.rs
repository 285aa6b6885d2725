//! `target/…`, and what the last scan of each target saw: `port/…`, `technology/…`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::{Api, Params};
use super::call::{Answer, Page, is_number_wanted, is_text_wanted, number_filter, required_number, text_filter, world};
use super::scans::History;
use super::{Caller, Failure};
use crate::id::AccountId;
use crate::vendors::halo::objects;
use crate::world::surface::Port;
use crate::world::{Surface, Target, World};

/// `target/list.json`: `sort` 0 is by name. (Documented.) The filters `target`, `target_name` and
/// `target_id` are assumed; so is that domains and networks are among the targets.
pub(super) async fn list(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let page = Page::read(&params, 0)?;
    let world = world(&api, account_id).await?;
    let targets = wanted(&world, &params)?;
    Ok(page.answer(world.targets().count(), targets, |target| json!({"target": objects::target_reference(target)})))
}

/// The targets that the parameters ask for, by name.
fn wanted<'w>(world: &'w World, params: &Params) -> Result<Vec<&'w Arc<Target>>, Failure> {
    let (host, name) = (text_filter(params, "target")?, text_filter(params, "target_name")?);
    let id = number_filter(params, "target_id")?;
    let is_wanted = |target: &&Arc<Target>| {
        is_text_wanted(host.as_ref(), &target.host())
            && is_text_wanted(name.as_ref(), &objects::target_name(target))
            && is_number_wanted(id.as_ref(), objects::target_id(target))
    };
    let mut targets: Vec<_> = world.targets().filter(is_wanted).collect();
    targets.sort_by_cached_key(|target| (objects::target_name(target), objects::target_id(target)));
    Ok(targets)
}

/// `target/get.json`. (Documented; the text of the 404 is assumed.)
pub(super) async fn get(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let id = required_number(&params, "target_id")?;
    let world = world(&api, account_id).await?;
    let target = world.targets().find(|target| objects::target_id(target) == id);
    let target = target.ok_or_else(|| Failure::new(404, "target not found"))?;
    let history = History::read(&api, account_id, target.id).await?;
    let shown = objects::target(target, history.current().map(|scan| &**scan), history.recent());
    Ok(Json(json!({"target": shown})))
}

/// `port/list.json`: the open ports that the last scan saw. The filters `state`, `service`,
/// `protocol` and `port` are those of a public client; the form and the order are assumed.
pub(super) async fn ports(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let [state, service, protocol] = ["state", "service", "protocol"].map(|name| text_filter(&params, name));
    let (state, service, protocol) = (state?, service?, protocol?);
    let number = number_filter(&params, "port")?;
    let is_wanted = |port: &Port| {
        is_text_wanted(state.as_ref(), "open")
            && is_text_wanted(service.as_ref(), &port.service)
            && is_text_wanted(protocol.as_ref(), &port.protocol)
            && is_number_wanted(number.as_ref(), port.port.into())
    };
    let ports = |seen: &Surface| seen.ports.iter().filter(|port| is_wanted(port)).map(objects::port).collect();
    seen(&api, account_id, &params, "port", ports).await
}

/// `technology/list.json`: the technologies that the last scan saw. (The form is assumed, and the
/// filters `technology` and `version`.)
pub(super) async fn technologies(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let (name, version) = (text_filter(&params, "technology")?, text_filter(&params, "version")?);
    let technologies = |seen: &Surface| {
        let wanted = seen
            .technologies
            .iter()
            .filter(|one| is_text_wanted(name.as_ref(), &one.name) && is_text_wanted(version.as_ref(), &one.version));
        wanted.map(objects::technology).collect()
    };
    seen(&api, account_id, &params, "technology", technologies).await
}

/// A row for each thing that the last completed scan of each wanted target saw, by target.
async fn seen(
    api: &Api,
    account_id: AccountId,
    params: &Params,
    name: &str,
    things: impl Fn(&Surface) -> Vec<Value>,
) -> Answer {
    let page = Page::read(params, 0)?;
    let world = world(api, account_id).await?;
    let mut rows = Vec::new();
    for target in wanted(&world, params)? {
        let things = target.seen.as_ref().map(|(surface, _)| things(surface)).unwrap_or_default();
        rows.extend(things.into_iter().map(|thing| (thing, target)));
    }
    let show = |(thing, target): &(Value, &Arc<Target>)| {
        let mut row = serde_json::Map::new();
        row.insert(name.to_owned(), thing.clone());
        row.insert("target".to_owned(), objects::target_reference(target));
        Value::Object(row)
    };
    Ok(page.answer(world.targets().count(), rows, show))
}
