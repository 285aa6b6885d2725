//! Items: what only one vendor has. Pure.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{Refusal, missing};
use crate::event::Vendor;
use crate::id::ObjectId;
use crate::world::{Item, Kind, Object, World};

/// The most items of one vendor's collection in an account.
const MOST_ITEMS: usize = 10_000;

/// An item to add.
#[derive(Debug, Clone)]
pub struct NewItem {
    pub vendor: Vendor,
    pub collection: &'static str,
    pub target_id: Option<ObjectId>,
    pub fields: Map<String, Value>,
    /// It never changes, so that only the store keeps it.
    pub is_fixed: bool,
}

/// Adds an item.
pub fn add(world: &mut World, new: NewItem, at: DateTime<Utc>) -> Result<Arc<Item>, Refusal> {
    let NewItem { vendor, collection, target_id, fields, is_fixed } = new;
    if world.items(vendor, collection).count() >= MOST_ITEMS {
        return Err(Refusal::Conflict(format!("there are {MOST_ITEMS} of these already")));
    }
    let (number, id) = world.next_id(Kind::Item, at);
    let collection = collection.to_owned();
    let (created_at, changed_at, deleted_at) = (at, at, None);
    let item = Item { id, number, vendor, collection, target_id, fields, is_fixed, created_at, changed_at, deleted_at };
    let item = Arc::new(item);
    world.put(Arc::clone(&item));
    Ok(item)
}

/// An item that has not been removed.
pub fn find(world: &World, id: ObjectId) -> Result<Arc<Item>, Refusal> {
    match world.object(id) {
        Some(Object::Item(item)) if item.deleted_at.is_none() => Ok(Arc::clone(item)),
        _ => Err(missing("item", id)),
    }
}

/// Sets fields of an item; the others stay as they are.
pub fn change(
    world: &mut World,
    id: ObjectId,
    fields: Map<String, Value>,
    at: DateTime<Utc>,
) -> Result<Arc<Item>, Refusal> {
    let mut item = Item::clone(&*find(world, id)?);
    item.fields.extend(fields);
    item.changed_at = at;
    let item = Arc::new(item);
    world.put(Arc::clone(&item));
    Ok(item)
}

/// Removes an item.
pub fn remove(world: &mut World, id: ObjectId, at: DateTime<Utc>) -> Result<(), Refusal> {
    let item = find(world, id)?;
    world.put(Item { deleted_at: Some(at), changed_at: at, ..Item::clone(&item) });
    Ok(())
}

/// Removes all that belongs to a target.
pub(super) fn remove_of_target(world: &mut World, target_id: ObjectId, at: DateTime<Utc>) {
    let is_own = |object: &&Object| matches!(object, Object::Item(item) if item.target_id == Some(target_id) && item.deleted_at.is_none());
    let own: Vec<ObjectId> = world.objects().filter(is_own).map(Object::id).collect();
    own.into_iter().for_each(|id| drop(remove(world, id, at)));
}
