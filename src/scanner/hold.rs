//! Holding a scan: it is paused, goes on, or is cancelled, each of which takes a moment, in which
//! the scan says so. Pure.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Refusal, Rules, life, missing};
use crate::id::ObjectId;
use crate::world::{Kind, Late, Object, Scan, ScanState, World};

/// How long the moment is in the real world. (Assumed.)
const MOMENT: Duration = Duration::from_secs(20);

/// Pauses a scan that is queued or running.
pub fn pause(world: &mut World, rules: Rules<'_>, id: ObjectId, at: DateTime<Utc>) -> Result<Arc<Scan>, Refusal> {
    let scan = running(world, id)?;
    match scan.state {
        ScanState::Queued | ScanState::Started => {
            let scan = Scan { state: ScanState::Pausing, paused_at: Some(at), ..scan };
            Ok(turn(world, rules, scan, at))
        }
        state => Err(refusal(id, state, "paused")),
    }
}

/// Lets a scan go on that is paused.
pub fn resume(world: &mut World, rules: Rules<'_>, id: ObjectId, at: DateTime<Utc>) -> Result<Arc<Scan>, Refusal> {
    let scan = running(world, id)?;
    match scan.state {
        ScanState::Pausing | ScanState::Paused => {
            Ok(turn(world, rules, Scan { state: ScanState::Resuming, ..scan }, at))
        }
        state => Err(refusal(id, state, "resumed")),
    }
}

/// Cancels a scan that has not ended.
pub fn cancel(world: &mut World, rules: Rules<'_>, id: ObjectId, at: DateTime<Utc>) -> Result<Arc<Scan>, Refusal> {
    let scan = running(world, id)?;
    match scan.state {
        ScanState::Cancelling => Err(refusal(id, scan.state, "cancelled")),
        _ => Ok(turn(world, rules, Scan { state: ScanState::Cancelling, ..scan }, at)),
    }
}

fn running(world: &World, id: ObjectId) -> Result<Scan, Refusal> {
    match world.object(id) {
        Some(Object::Scan(scan)) if !scan.state.has_ended() => Ok(Scan::clone(scan)),
        _ => Err(missing("running scan", id)),
    }
}

fn refusal(id: ObjectId, state: ScanState, done: &str) -> Refusal {
    let state = serde_json::to_value(state).ok().and_then(|state| state.as_str().map(str::to_owned));
    Refusal::Conflict(format!("scan {id} is {}; it cannot be {done}", state.unwrap_or_default()))
}

fn turn(world: &mut World, rules: Rules<'_>, scan: Scan, at: DateTime<Utc>) -> Arc<Scan> {
    let moment = MOMENT.div_f64(rules.settings.time_scale);
    let scan = Arc::new(scan);
    world.put(Arc::clone(&scan));
    world.set_timer(scan.id, Kind::Scan, Some(at + moment));
    scan
}

/// Ends the moment.
pub(super) fn step(world: &mut World, scan: &Scan, at: DateTime<Utc>) {
    let mut scan = scan.clone();
    match scan.state {
        ScanState::Pausing => {
            world.set_timer(scan.id, Kind::Scan, None);
            world.put(Scan { state: ScanState::Paused, ..scan });
        }
        ScanState::Resuming => {
            let stood = at - scan.paused_at.take().unwrap_or(at);
            scan.held = Late(scan.held.0 + stood.to_std().unwrap_or_default());
            scan.state = if scan.started_at.is_some() { ScanState::Started } else { ScanState::Queued };
            let due = life::next_due(world, &scan);
            world.set_timer(scan.id, Kind::Scan, Some(due.max(at)));
            world.put(scan);
        }
        ScanState::Cancelling if life::cancel(world, scan.id, at).is_ok() => (),
        _ => world.set_timer(scan.id, Kind::Scan, None),
    }
}
