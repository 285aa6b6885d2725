//! The simulated world of an account: its users, its targets with their weaknesses, its scans.
//! Pure: the nouns, and the rules that hold between them. Times and chance come in.
//!
//! Invariant: a world only changes through a [`World`], which notes what has changed and which
//! [facts](fact::Fact) that makes, so that both are stored together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod definitions;
pub mod fact;
mod item;
pub mod nouns;
mod objects;
pub mod observe;
pub mod surface;
pub mod ticks;

pub use definitions::{Definition, Level, Place, Scanner, definition, definitions};
pub use fact::{About, Counts, Emitted, Fact, What};
pub use item::{Item, Settings};
pub use nouns::{
    Late, Missed, OtherTarget, Outcome, PciReport, PciState, Plan, Project, Run, RunState, Scan, ScanState, Schedule,
    Target, TargetKind, User, Weakness, WeaknessState,
};
pub use objects::{Kind, Object};
pub use observe::{Observation, observe};
pub use surface::Surface;

use crate::event::Vendor;
use crate::id::ObjectId;
use crate::random::Chance;

/// The e-mail address of the user that every account has.
pub const OWNER: &str = "owner@example.com";

/// What is not in any one object of a world.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Every draw of this world comes from streams of this seed.
    pub seed: u64,
    /// The last number given to each kind of object.
    pub numbers: BTreeMap<Kind, u64>,
}

/// When something in a world is due to go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    pub due_at: DateTime<Utc>,
    /// What goes on: a scan, a schedule, a run of a scenario, a PCI report.
    pub subject: ObjectId,
    pub kind: Kind,
}

/// A world, or as much of it as can change: finished scans and runs may be left out.
///
/// Cloning is cheap; objects are shared until they change.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Counts the changes that are stored; 0 is a world that is not stored yet.
    pub version: i64,
    pub head: Head,
    objects: BTreeMap<ObjectId, Object>,
    timers: BTreeMap<ObjectId, Timer>,
    /// The weaknesses of each target, by number.
    weaknesses: BTreeMap<ObjectId, BTreeMap<u64, ObjectId>>,
    /// The items, which are few beside the weaknesses and are looked for often.
    items: BTreeSet<ObjectId>,
    changed: BTreeSet<ObjectId>,
    changed_timers: BTreeSet<ObjectId>,
    facts: Vec<Fact>,
    emitted: Vec<Emitted>,
}

/// What has changed in a world since it was read.
#[derive(Debug, Default)]
pub struct Changes {
    pub objects: Vec<Object>,
    /// Timers by subject; none where one has ended.
    pub timers: Vec<(ObjectId, Option<Timer>)>,
    pub facts: Vec<Fact>,
    pub emitted: Vec<Emitted>,
}

impl World {
    /// A world that nothing has happened in.
    pub fn new(seed: u64) -> Self {
        Self { head: Head { seed, numbers: BTreeMap::new() }, ..Self::default() }
    }

    /// A world as it was stored.
    pub fn restore(version: i64, head: Head, objects: Vec<Object>, timers: Vec<Timer>) -> Self {
        let mut world = Self { version, head, ..Self::default() };
        for object in objects {
            world.insert(object);
        }
        world.timers = timers.into_iter().map(|timer| (timer.subject, timer)).collect();
        world
    }

    /// Takes what has changed since the world was read or this was last called.
    pub fn take_changes(&mut self) -> Changes {
        let changed = std::mem::take(&mut self.changed);
        let timers = std::mem::take(&mut self.changed_timers);
        Changes {
            objects: changed.iter().filter_map(|id| self.objects.get(id).cloned()).collect(),
            timers: timers.into_iter().map(|id| (id, self.timers.get(&id).cloned())).collect(),
            facts: std::mem::take(&mut self.facts),
            emitted: std::mem::take(&mut self.emitted),
        }
    }

    /// Forgets what cannot change any more.
    pub fn forget_finished(&mut self) {
        self.objects.retain(|_, object| !object.is_finished());
        let objects = &self.objects;
        self.weaknesses.retain(|target_id, _| objects.contains_key(target_id));
        self.items.retain(|id| objects.contains_key(id));
    }

    /// The chance of this world for one purpose and key.
    pub fn chance(&self, purpose: &str, key: impl std::fmt::Display) -> ChaCha12Rng {
        Chance::from_seed(self.head.seed).stream(purpose, key)
    }

    /// The number of the next object of a kind, and its id.
    pub fn next_id(&mut self, kind: Kind, at: DateTime<Utc>) -> (u64, ObjectId) {
        let number = self.head.numbers.entry(kind).or_default();
        *number += 1;
        let number = *number;
        (number, ObjectId::generate(at, number, &mut self.chance(kind.as_str(), number)))
    }

    /// Stores an object, new or changed.
    pub fn put(&mut self, object: impl Into<Object>) {
        let object = object.into();
        self.changed.insert(object.id());
        self.insert(object);
    }

    fn insert(&mut self, object: Object) {
        if let Object::Weakness(weakness) = &object {
            self.weaknesses.entry(weakness.target_id).or_default().insert(weakness.number, weakness.id);
        }
        if let Object::Item(item) = &object {
            self.items.insert(item.id);
        }
        self.objects.insert(object.id(), object);
    }

    /// Says when an object goes on, or that it does not.
    pub fn set_timer(&mut self, subject: ObjectId, kind: Kind, due_at: Option<DateTime<Utc>>) {
        // As it is stored: a timer that reads back otherwise would be taken for another.
        let due_at = due_at.map(|due_at| due_at.trunc_subsecs(6));
        self.changed_timers.insert(subject);
        match due_at {
            Some(due_at) => drop(self.timers.insert(subject, Timer { due_at, subject, kind })),
            None => drop(self.timers.remove(&subject)),
        }
    }

    /// When an object goes on.
    pub fn timer(&self, subject: ObjectId) -> Option<&Timer> {
        self.timers.get(&subject)
    }

    /// Tells a fact of this time, in the name of a user.
    pub fn tell(&mut self, at: DateTime<Utc>, by: &Arc<User>, what: What) {
        self.facts.push(Fact { at, by: Arc::clone(by), what });
    }

    /// Emits an event that no fact stands behind.
    pub fn emit(&mut self, event: Emitted) {
        self.emitted.push(event);
    }

    /// An object by its id.
    pub fn object(&self, id: ObjectId) -> Option<&Object> {
        self.objects.get(&id)
    }

    /// A target that has not been removed, by its id.
    pub fn target(&self, id: ObjectId) -> Option<&Arc<Target>> {
        match self.objects.get(&id) {
            Some(Object::Target(target)) if target.deleted_at.is_none() => Some(target),
            _ => None,
        }
    }

    /// A target that has not been removed, by its address.
    pub fn target_at(&self, address: &str) -> Option<&Arc<Target>> {
        self.targets().find(|target| target.address == address)
    }

    /// The targets that have not been removed, oldest first.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.objects.values().filter_map(|object| match object {
            Object::Target(target) if target.deleted_at.is_none() => Some(target),
            _ => None,
        })
    }

    /// The users that have not been removed, oldest first.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.objects.values().filter_map(|object| match object {
            Object::User(user) if user.is_active => Some(user),
            _ => None,
        })
    }

    /// All objects, oldest first.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// The scans that have not ended.
    pub fn running_scans(&self) -> impl Iterator<Item = &Arc<Scan>> {
        self.objects.values().filter_map(|object| match object {
            Object::Scan(scan) if !scan.state.has_ended() => Some(scan),
            _ => None,
        })
    }

    /// The weaknesses of a target, by number.
    pub fn weaknesses(&self, target_id: ObjectId) -> impl Iterator<Item = &Arc<Weakness>> {
        let ids = self.weaknesses.get(&target_id).into_iter().flat_map(BTreeMap::values);
        ids.filter_map(|id| match self.objects.get(id) {
            Some(Object::Weakness(weakness)) => Some(weakness),
            _ => None,
        })
    }

    /// A weakness of a target by its number.
    pub fn weakness(&self, target_id: ObjectId, number: u64) -> Option<&Arc<Weakness>> {
        match self.objects.get(self.weaknesses.get(&target_id)?.get(&number)?) {
            Some(Object::Weakness(weakness)) => Some(weakness),
            _ => None,
        }
    }

    /// What one vendor alone has, of one collection, oldest first.
    pub fn items(&self, vendor: Vendor, collection: &str) -> impl Iterator<Item = &Arc<Item>> {
        self.items.iter().filter_map(move |id| match self.objects.get(id)? {
            Object::Item(item)
                if item.vendor == vendor && item.collection == collection && item.deleted_at.is_none() =>
            {
                Some(item)
            }
            _ => None,
        })
    }

    /// The schedules that go on, oldest first.
    pub fn schedules(&self) -> impl Iterator<Item = &Arc<Schedule>> {
        self.objects.values().filter_map(|object| match object {
            Object::Schedule(schedule) if schedule.is_active => Some(schedule),
            _ => None,
        })
    }

    /// The number of the next weakness of a target.
    pub fn next_weakness_number(&self, target_id: ObjectId) -> u64 {
        let last = self.weaknesses.get(&target_id).and_then(|own| own.keys().next_back());
        last.copied().unwrap_or_default() + 1
    }

    /// A target as facts tell of it: with the counts of what is open on it.
    pub fn about(&self, target: &Arc<Target>) -> About {
        let open = self.weaknesses(target.id).filter(|weakness| weakness.state == WeaknessState::Open);
        About {
            target: Arc::clone(target),
            counts: Counts::of(open.map(|weakness| weakness.definition().threat_level)),
        }
    }

    /// The user that things are done by if nobody is named: the first; made if there is none.
    pub fn owner(&mut self, at: DateTime<Utc>) -> Arc<User> {
        if let Some(user) = self.users().next() {
            return Arc::clone(user);
        }
        let (number, id) = self.next_id(Kind::User, at);
        let owner = Arc::new(User {
            id,
            number,
            email: OWNER.to_owned(),
            first_name: "Account".to_owned(),
            last_name: "Owner".to_owned(),
            is_admin: true,
            is_active: true,
            created_at: at,
            changed_at: at,
            settings: Settings::new(),
        });
        self.put(Arc::clone(&owner));
        owner
    }
}

/// One of the items, drawn from a stream; none of none.
pub fn pick<'i, T>(items: &'i [T], rng: &mut ChaCha12Rng) -> Option<&'i T> {
    let length = u64::try_from(items.len()).ok().filter(|length| *length > 0)?;
    items.get(usize::try_from(rng.next_u64() % length).ok()?)
}

/// Whether something happens that has this probability, from 0 to 1.
pub fn happens(probability: f64, rng: &mut ChaCha12Rng) -> bool {
    // Drawn also where it is certain, so that what follows in the stream does not depend on it.
    let drawn = f64::from(rng.next_u32()) / (f64::from(u32::MAX) + 1.0);
    drawn < probability
}

/// An object as JSON.
pub fn to_value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("objects of a world serialise")
}
