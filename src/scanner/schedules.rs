//! Schedules: scans that start by the clock. A tick is acted on once, whoever acts. Pure.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rand::Rng;
use tracing::warn;

use super::life::{self, NewScan};
use super::targets::{NewTarget, add_target};
use super::weaknesses::drift;
use super::{Refusal, Rules, missing};
use crate::id::ObjectId;
use crate::world::ticks::{NewSchedule, Recurrence, next_tick};
use crate::world::{Kind, Missed, Object, Outcome, Scanner, Schedule, Settings, Target, World};

/// A tick that is acted on later than this was missed.
const LATE: TimeDelta = TimeDelta::seconds(60);

/// Adds a schedule; its target must be there.
pub fn add(world: &mut World, new: &NewSchedule, at: DateTime<Utc>) -> Result<Arc<Schedule>, Refusal> {
    let mut problems = new.check(at);
    if world.target_at(&new.target).is_none() {
        let reason = format!("there is no target `{}` in this account", new.target);
        problems.push(crate::problem::FieldProblem::new("/target", reason));
    }
    if problems.is_empty() { put(world, new, None, at) } else { Err(Refusal::Invalid(problems)) }
}

fn put(world: &mut World, new: &NewSchedule, name: Option<&str>, at: DateTime<Utc>) -> Result<Arc<Schedule>, Refusal> {
    let (number, id) = world.next_id(Kind::Schedule, at);
    let duration = new.duration().map_err(|reason| Refusal::field("/duration", reason))?;
    let schedule = Arc::new(Schedule {
        id,
        number,
        cron: new.cron.clone(),
        recurrence: None,
        timezone: new.timezone().to_owned(),
        target: new.target.clone(),
        target_id: None,
        scanner: new.scanner,
        mix: new.mix.clone().unwrap_or_else(|| [(Outcome::Completed, 1.0)].into()),
        drift: new.drift.unwrap_or_default(),
        duration,
        missed: new.missed.unwrap_or_default(),
        name: name.map(str::to_owned),
        ticked_at: None,
        is_active: true,
        created_at: at,
        settings: Settings::new(),
    });
    world.put(Arc::clone(&schedule));
    set_next(world, &schedule, at)?;
    Ok(schedule)
}

/// A schedule that recurs without a cron expression.
#[derive(Debug, Clone)]
pub struct Recurring {
    pub recurrence: Recurrence,
    pub timezone: String,
    pub scanner: Scanner,
    pub settings: Settings,
}

/// Adds a schedule that recurs, or changes one.
pub fn put_recurring(
    world: &mut World,
    known: Option<ObjectId>,
    target: &Target,
    new: Recurring,
    at: DateTime<Utc>,
) -> Result<Arc<Schedule>, Refusal> {
    let Recurring { recurrence, timezone, scanner, settings } = new;
    let known = match known.map(|id| world.object(id).cloned().ok_or_else(|| missing("schedule", id))).transpose()? {
        Some(Object::Schedule(schedule)) => Some(schedule),
        _ => None,
    };
    let (number, id, created_at, ticked_at) = match &known {
        Some(known) => (known.number, known.id, known.created_at, known.ticked_at),
        None => {
            let (number, id) = world.next_id(Kind::Schedule, at);
            (number, id, at, None)
        }
    };
    let schedule = Arc::new(Schedule {
        id,
        number,
        cron: String::new(),
        recurrence: Some(recurrence),
        timezone,
        target: target.address.clone(),
        target_id: Some(target.id),
        scanner,
        mix: [(Outcome::Completed, 1.0)].into(),
        drift: 0.0,
        duration: None,
        missed: Missed::RunOnce,
        name: None,
        ticked_at,
        is_active: true,
        created_at,
        settings,
    });
    world.put(Arc::clone(&schedule));
    set_next(world, &schedule, at)?;
    Ok(schedule)
}

fn set_next(world: &mut World, schedule: &Schedule, after: DateTime<Utc>) -> Result<(), Refusal> {
    if let Some(recurrence) = schedule.recurrence {
        world.set_timer(schedule.id, Kind::Schedule, recurrence.next(&schedule.timezone, after));
        return Ok(());
    }
    let next = next_tick(&schedule.cron, &schedule.timezone, after);
    let next = next.map_err(|(field, reason)| Refusal::field(&format!("/{field}"), reason))?;
    world.set_timer(schedule.id, Kind::Schedule, next);
    Ok(())
}

/// Removes a schedule.
pub fn remove(world: &mut World, id: ObjectId) -> Result<(), Refusal> {
    let schedule = match world.object(id) {
        Some(Object::Schedule(schedule)) if schedule.is_active => Schedule::clone(schedule),
        _ => return Err(missing("schedule", id)),
    };
    world.put(Schedule { is_active: false, ..schedule });
    world.set_timer(id, Kind::Schedule, None);
    Ok(())
}

/// Removes the schedules that are of this target whatever its address.
pub(super) fn remove_of_target(world: &mut World, target_id: ObjectId) {
    let own: Vec<ObjectId> =
        world.schedules().filter(|schedule| schedule.target_id == Some(target_id)).map(|own| own.id).collect();
    own.into_iter().for_each(|id| drop(remove(world, id)));
}

/// Makes the schedules of the settings, and no others of theirs, be there. What has not changed
/// goes on as it was.
pub fn sync(world: &mut World, wanted: &[NewSchedule], at: DateTime<Utc>) -> Result<(), Refusal> {
    let name = |new: &NewSchedule| serde_json::to_string(new).expect("settings serialise");
    let known: Vec<(ObjectId, String)> = world
        .objects()
        .filter_map(|object| match object {
            Object::Schedule(schedule) if schedule.is_active => schedule.name.clone().map(|name| (schedule.id, name)),
            _ => None,
        })
        .collect();
    for (id, known) in &known {
        if wanted.iter().all(|new| name(new) != *known) {
            remove(world, *id)?;
        }
    }
    for new in wanted {
        if world.target_at(&new.target).is_none() {
            add_target(world, NewTarget { address: new.target.clone(), ..NewTarget::default() }, at)?;
        }
        if known.iter().all(|(_, known)| *known != name(new)) {
            put(world, new, Some(&name(new)), at)?;
        }
    }
    Ok(())
}

/// Acts on a tick: starts a scan, unless the tick was missed and is to be skipped.
pub fn tick(world: &mut World, rules: Rules<'_>, id: ObjectId, at: DateTime<Utc>) {
    let schedule = match world.object(id) {
        Some(Object::Schedule(schedule)) if schedule.is_active => Schedule::clone(schedule),
        _ => return world.set_timer(id, Kind::Schedule, None),
    };
    let is_missed = rules.now - at > LATE;
    // One scan stands for all that were missed, and it is of now.
    let starts_at = if is_missed { rules.now } else { at };
    let is_run = !is_missed || schedule.missed == Missed::RunOnce;
    let target = match schedule.target_id {
        Some(id) => world.target(id),
        None => world.target_at(&schedule.target),
    };
    if let Some(target) = target.cloned().filter(|_| is_run) {
        let key = format!("{}/{}", schedule.number, at.timestamp_micros());
        drift(world, &target, schedule.scanner, schedule.drift, &key, starts_at);
        let outcome = draw(&schedule, world, &key);
        let settings = schedule.settings.clone();
        let new =
            NewScan { outcome, duration: schedule.duration, settings, ..NewScan::of(target.id, schedule.scanner) };
        if let Err(refusal) = life::start(world, rules, new, starts_at) {
            warn!("schedule {id} started no scan: {refusal}");
        }
    }
    if set_next(world, &schedule, at.max(rules.now)).is_err() {
        world.set_timer(id, Kind::Schedule, None);
    }
    // What happens once and has happened is over.
    let is_over = schedule.recurrence.is_some() && world.timer(id).is_none();
    world.put(Schedule { ticked_at: Some(at), is_active: !is_over, ..schedule });
}

/// Draws an outcome by the weights of the mix.
fn draw(schedule: &Schedule, world: &World, key: &str) -> Outcome {
    let total: f64 = schedule.mix.values().sum();
    let drawn = world.chance("outcome", key).next_u32();
    let mut left = f64::from(drawn) / (f64::from(u32::MAX) + 1.0) * total;
    for (outcome, weight) in &schedule.mix {
        if left < *weight {
            return *outcome;
        }
        left -= weight;
    }
    Outcome::Completed
}
