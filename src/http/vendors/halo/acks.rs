//! `ack/host-…`: hosts that are acknowledged, so that they raise no alarm. In a world nothing raises
//! one for a host, so acknowledging changes nothing else.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::super::{Api, Params};
use super::call::{Answer, Page, is_text_wanted, not_valid, required, text_filter, world};
use super::{Caller, Failure};
use crate::event::Vendor;
use crate::problem::check_text;
use crate::vendors::halo::objects;
use crate::world::{Item, Kind, Object, World};

/// What these are among the vendor's things in a world.
const COLLECTION: &str = "acknowledged_host";
/// The longest host name, and the longest comment. (Assumed.)
const LONGEST_HOST: usize = 253;
const LONGEST_COMMENT: usize = 1_000;
/// The most acknowledged hosts of an account. (Assumed.)
const MOST_HOSTS: usize = 10_000;

/// The hosts that are acknowledged, oldest first.
fn acknowledged(world: &World) -> impl Iterator<Item = &Arc<Item>> {
    world.objects().filter_map(|object| match object {
        Object::Item(item) if item.vendor == Vendor::Halo && item.collection == COLLECTION => {
            Some(item).filter(|item| item.deleted_at.is_none())
        }
        _ => None,
    })
}

/// `ack/host-list.json`. (Documented. The filter `host` and `sort` 0 by host are assumed.)
pub(super) async fn list(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let page = Page::read(&params, 0)?;
    let host = text_filter(&params, "host")?;
    let world = world(&api, account_id).await?;
    let host_of = |item: &Item| item.fields.get("host").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut hosts: Vec<_> = acknowledged(&world).filter(|item| is_text_wanted(host.as_ref(), &host_of(item))).collect();
    hosts.sort_by_cached_key(|item| (host_of(item), item.number));
    let show = |item: &&Arc<Item>| json!({"awk_host": objects::acknowledged_host(item)});
    Ok(page.answer(world.targets().count(), hosts, show))
}

/// `ack/host-add.json`: a GET that adds. (Documented, with the texts of the errors.)
pub(super) async fn add(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let kind = kind(&params)?.ok_or_else(|| not_valid("type"))?;
    let host = required(&params, "host")?;
    let comment = params.get("comment").unwrap_or_default();
    check_text("/host", host, LONGEST_HOST).map_err(|_| not_valid("host"))?;
    if !comment.is_empty() {
        check_text("/comment", comment, LONGEST_COMMENT).map_err(|_| not_valid("comment"))?;
    }
    let added = api.scanner.change(account_id, |world, rules| {
        if acknowledged(world).any(|item| is_of(item, host, Some(kind))) {
            return Ok(Err("Host Already Acknowledged"));
        }
        if acknowledged(world).count() >= MOST_HOSTS {
            return Ok(Err("too many hosts acknowledged"));
        }
        let by = world.owner(rules.now);
        let (number, id) = world.next_id(Kind::Item, rules.now);
        let by = objects::full_name(&by);
        let fields = [("host", host), ("type", kind), ("comment", comment), ("created_by", &by)];
        let own = fields.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
        world.put(Item {
            id,
            number,
            vendor: Vendor::Halo,
            collection: COLLECTION.to_owned(),
            target_id: None,
            fields: own.collect::<Map<_, _>>(),
            is_fixed: false,
            created_at: rules.now,
            changed_at: rules.now,
            deleted_at: None,
        });
        Ok(Ok(()))
    });
    added.await?.map_err(|message| Failure::new(0, message))?;
    Ok(Json(json!({"success": 1})))
}

/// `ack/host-delete.json`: a GET that deletes; without `type`, of every type. (Documented, with the
/// texts of the errors; that no type means every one is assumed.)
pub(super) async fn delete(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let host = required(&params, "host")?;
    let kind = kind(&params)?;
    let deleted = api.scanner.change(account_id, |world, rules| {
        let meant: Vec<Arc<Item>> = acknowledged(world).filter(|item| is_of(item, host, kind)).cloned().collect();
        for item in &meant {
            world.put(Item { deleted_at: Some(rules.now), changed_at: rules.now, ..Item::clone(item) });
        }
        Ok(meant.len())
    });
    match deleted.await? {
        0 => Err(Failure::new(0, "nothing deleted")),
        _ => Ok(Json(json!({"success": 1}))),
    }
}

/// The type that is asked for, if one is.
fn kind(params: &Params) -> Result<Option<&str>, Failure> {
    let is_known = |kind: &&str| objects::HOST_TYPES.contains(kind);
    params.get("type").map(|kind| Some(kind).filter(is_known).ok_or_else(|| not_valid("type"))).transpose()
}

fn is_of(item: &Item, host: &str, kind: Option<&str>) -> bool {
    let has = |name: &str, value: &str| item.fields.get(name).and_then(Value::as_str) == Some(value);
    has("host", host) && kind.is_none_or(|kind| has("type", kind))
}
