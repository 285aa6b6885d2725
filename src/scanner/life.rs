//! The life of a scan: queued, started, progress, and an end. Pure: each step changes the world
//! and says when the next is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::Rng;

use super::weaknesses::{Findings, set_findings};
use super::{Refusal, Rules, hold, missing};
use crate::event::Vendor;
use crate::id::ObjectId;
use crate::world::ticks::LONGEST_SCAN;
use crate::world::{
    About, Kind, Late, Object, OtherTarget, Outcome, Plan, Scan, ScanState, Scanner, Settings, Target, User, Weakness,
    WeaknessState, What, World, observe,
};

/// When a scan starts, in percent of its duration. Until then it is queued.
const STARTS_AT: u32 = 5;
/// When a running scan tells of its progress, in percent of its duration.
const PROGRESS: [u32; 3] = [25, 50, 75];
/// When a scan fails whose target does not answer.
const UNREACHABLE_AT: u32 = 10;
/// The most scans that a weakness remembers.
const MOST_SCANS: usize = 100;
/// The most weaknesses that are found or closed in one change of the world. What is left follows at
/// once: one change must not hold up everybody else's.
const MOST_AT_ONCE: usize = 500;

/// A scan to start.
#[derive(Debug, Clone)]
pub struct NewScan {
    pub target_id: ObjectId,
    /// Further targets.
    pub others: Vec<ObjectId>,
    pub scanner: Scanner,
    pub outcome: Outcome,
    /// Why it fails; none where it does not, or for the usual reason.
    pub reason: Option<String>,
    /// From queued to ended; none means as long as such a scan takes, by the time scale.
    pub duration: Option<Duration>,
    /// What it finds; none means what is there.
    pub findings: Option<Findings>,
    /// Whose events tell of it; none means the setting.
    pub vendors: Option<Vec<Vendor>>,
    pub late: BTreeMap<String, Late>,
    /// A story refers to it.
    pub is_named: bool,
    /// What a vendor's own API sets on it.
    pub settings: Settings,
}

impl NewScan {
    /// A scan that finds what is there and completes.
    pub fn of(target_id: ObjectId, scanner: Scanner) -> Self {
        let (outcome, late) = (Outcome::Completed, BTreeMap::new());
        let (reason, duration, findings, vendors, is_named) = (None, None, None, None, false);
        let (others, settings) = (Vec::new(), Settings::new());
        Self { target_id, others, scanner, outcome, reason, duration, findings, vendors, late, is_named, settings }
    }
}

/// Queues a scan.
pub fn start(world: &mut World, rules: Rules<'_>, new: NewScan, at: DateTime<Utc>) -> Result<Arc<Scan>, Refusal> {
    let target = world.target(new.target_id).cloned().ok_or_else(|| missing("target", new.target_id))?;
    let other = |id: &ObjectId| {
        let target = world.target(*id).ok_or_else(|| missing("target", *id))?;
        let Target { id, kind, address, is_unreachable, .. } = &**target;
        Ok(OtherTarget { id: *id, kind: *kind, address: address.clone(), is_unreachable: *is_unreachable })
    };
    let others = new.others.iter().map(other).collect::<Result<Vec<_>, Refusal>>()?;
    if let Some(findings) = &new.findings {
        set_findings(world, &target, new.scanner, findings, at)?;
    }
    if new.duration.is_some_and(|duration| duration > LONGEST_SCAN) {
        return Err(Refusal::field("/duration", "is longer than 7 days"));
    }
    let owner = world.owner(at);
    let (number, id) = world.next_id(Kind::Scan, at);
    let (from, to) = new.scanner.minutes();
    let seconds = from * 60 + world.chance("scan-duration", number).next_u64() % ((to - from) * 60);
    let natural = || Duration::from_secs_f64(seconds as f64 / rules.settings.time_scale);
    let outcome = if target.is_unreachable { Outcome::Failed } else { new.outcome };
    let usual = if target.is_unreachable { "Host unreachable" } else { "The scanner stopped unexpectedly" };
    let reason = new.reason.unwrap_or_else(|| usual.to_owned());
    let scan = Arc::new(Scan {
        id,
        number,
        target_id: target.id,
        others,
        scanner: new.scanner,
        state: ScanState::Queued,
        progress: 0,
        plan: Plan {
            outcome,
            reason: if outcome == Outcome::Failed { reason } else { String::new() },
            duration: new.duration.unwrap_or_else(natural),
            late: new.late,
        },
        is_first: target.seen.is_none(),
        counts: Default::default(),
        new: Vec::new(),
        again: Vec::new(),
        closed: Vec::new(),
        vendors: new.vendors.unwrap_or_else(|| rules.settings.vendors.clone()),
        is_named: new.is_named,
        by: owner.id,
        created_at: at,
        started_at: None,
        paused_at: None,
        held: Late::default(),
        ended_at: None,
        settings: new.settings,
    });
    world.put(Arc::clone(&scan));
    for target in looked_at(world, &scan, Some(target)) {
        let about = world.about(&target);
        world.tell(at, &owner, What::ScanQueued(Arc::clone(&scan), about));
    }
    world.set_timer(id, Kind::Scan, Some(due(&scan, STARTS_AT)));
    Ok(scan)
}

/// When a scan is this far, in percent of its duration.
fn due(scan: &Scan, percent: u32) -> DateTime<Utc> {
    scan.created_at + scan.held.0 + scan.plan.duration * percent / 100
}

/// How far a scan is when it ends, in percent of its duration.
fn ends_at(world: &World, scan: &Scan) -> u32 {
    let is_unreachable = world.target(scan.target_id).is_some_and(|target| target.is_unreachable);
    match scan.plan.outcome {
        Outcome::Completed => 100,
        Outcome::Failed if is_unreachable => UNREACHABLE_AT,
        Outcome::Failed | Outcome::Cancelled => 30 + world.chance("scan-end", scan.number).next_u32() % 60,
    }
}

/// When a scan will have ended, if nobody cancels it.
pub fn end_of(world: &World, scan: &Scan) -> DateTime<Utc> {
    due(scan, ends_at(world, scan))
}

/// When a running scan, or one that is queued, goes on.
pub(super) fn next_due(world: &World, scan: &Scan) -> DateTime<Utc> {
    let ends_at = ends_at(world, scan);
    let percent = if scan.started_at.is_none() { STARTS_AT } else { next_percent(scan.progress.into(), ends_at) };
    due(scan, percent)
}

/// How far a scan is at its next step.
fn next_percent(progress: u32, ends_at: u32) -> u32 {
    PROGRESS.into_iter().find(|one| *one > progress && *one < ends_at).unwrap_or(ends_at)
}

/// Takes the next step of a scan.
pub fn step(world: &mut World, id: ObjectId, at: DateTime<Utc>) {
    let Some(Object::Scan(scan)) = world.object(id).cloned() else { return world.set_timer(id, Kind::Scan, None) };
    let ends_at = ends_at(world, &scan);
    let next = |progress: u32| next_percent(progress, ends_at);
    match scan.state {
        ScanState::Queued => {
            let mut scan = Scan::clone(&scan);
            scan.state = ScanState::Started;
            scan.started_at = Some(at);
            let due = due(&scan, next(0));
            put_and_tell(world, scan, at, What::ScanStarted);
            world.set_timer(id, Kind::Scan, Some(due));
        }
        ScanState::Started if next(scan.progress.into()) < ends_at => {
            let progress = next(scan.progress.into());
            let mut scan = Scan::clone(&scan);
            if !find(world, &mut scan, progress, at) {
                world.put(scan);
                return world.set_timer(id, Kind::Scan, Some(at));
            }
            scan.progress = u8::try_from(progress).unwrap_or(100);
            let due = due(&scan, next(progress));
            put_and_tell(world, scan, at, What::ScanProgressed);
            world.set_timer(id, Kind::Scan, Some(due));
        }
        ScanState::Started => end(world, &scan, at),
        ScanState::Pausing | ScanState::Resuming | ScanState::Cancelling => hold::step(world, &scan, at),
        ScanState::Paused | ScanState::Completed | ScanState::Failed | ScanState::Cancelled => {
            world.set_timer(id, Kind::Scan, None);
        }
    }
}

/// Ends a scan before its time.
pub fn cancel(world: &mut World, id: ObjectId, at: DateTime<Utc>) -> Result<Arc<Scan>, Refusal> {
    let Some(Object::Scan(scan)) = world.object(id).cloned() else { return Err(missing("running scan", id)) };
    if scan.state.has_ended() {
        return Err(Refusal::Conflict(format!("scan {id} has ended")));
    }
    let mut scan = Scan::clone(&scan);
    scan.plan.outcome = Outcome::Cancelled;
    end(world, &scan, at);
    match world.object(id) {
        Some(Object::Scan(scan)) => Ok(Arc::clone(scan)),
        _ => Err(missing("scan", id)),
    }
}

fn end(world: &mut World, scan: &Scan, at: DateTime<Utc>) {
    let mut scan = Scan::clone(scan);
    let is_complete = scan.plan.outcome == Outcome::Completed;
    if is_complete && !(find(world, &mut scan, 100, at) && close(world, &mut scan, at)) {
        let id = scan.id;
        world.put(scan);
        return world.set_timer(id, Kind::Scan, Some(at));
    }
    scan.ended_at = Some(at);
    world.set_timer(scan.id, Kind::Scan, None);
    match scan.plan.outcome {
        Outcome::Completed => {
            scan.progress = 100;
            look_around(world, &scan, at);
            scan.state = ScanState::Completed;
            put_and_tell(world, scan, at, What::ScanCompleted);
        }
        Outcome::Failed => {
            scan.state = ScanState::Failed;
            put_and_tell(world, scan, at, What::ScanFailed);
        }
        Outcome::Cancelled => {
            scan.state = ScanState::Cancelled;
            put_and_tell(world, scan, at, What::ScanCancelled);
        }
    }
}

/// The user in whose name a scan runs, and its target. Both stay on record when they are removed.
fn parties(world: &mut World, scan: &Scan, at: DateTime<Utc>) -> (Arc<User>, Option<Arc<Target>>) {
    let by = match world.object(scan.by) {
        Some(Object::User(user)) => Arc::clone(user),
        _ => world.owner(at),
    };
    let target = match world.object(scan.target_id) {
        Some(Object::Target(target)) => Some(Arc::clone(target)),
        _ => None,
    };
    (by, target)
}

/// What a scan looks at: its target, unless it has been removed, and the others that it can reach.
fn looked_at(world: &World, scan: &Scan, target: Option<Arc<Target>>) -> Vec<Arc<Target>> {
    let others = scan.others.iter().filter(|other| !other.is_unreachable);
    target.into_iter().chain(others.filter_map(|other| world.target(other.id).cloned())).collect()
}

/// Notes on the targets of a scan that it has ended.
fn note_end(world: &mut World, scan: &Scan, target: Option<Arc<Target>>) {
    let (new, again, closed) = (Vec::new(), Vec::new(), Vec::new());
    let last_scan = Box::new(Scan { new, again, closed, ..scan.clone() });
    for target in looked_at(world, scan, target.filter(|target| target.deleted_at.is_none())) {
        let last_scan = Box::new(Scan { counts: world.counts_of(scan, target.id), ..(*last_scan).clone() });
        world.put(Target { last_scan: Some(last_scan), ..Target::clone(&target) });
    }
}

fn put_and_tell(world: &mut World, scan: Scan, at: DateTime<Utc>, what: fn(Arc<Scan>, About) -> What) {
    let (by, target) = parties(world, &scan, at);
    if scan.state.has_ended() {
        note_end(world, &scan, target);
    }
    let (_, target) = parties(world, &scan, at);
    let scan = Arc::new(scan);
    world.put(Arc::clone(&scan));
    // Of a scan of several targets, what happens is told for each.
    for target in looked_at(world, &scan, target) {
        let about = world.about(&target);
        world.tell(at, &by, what(Arc::clone(&scan), about));
    }
}

/// Finds what a scan has come upon when it is this far: weaknesses in the order of their numbers.
/// The answer is whether that is all; the rest is for another change.
fn find(world: &mut World, scan: &mut Scan, percent: u32, at: DateTime<Utc>) -> bool {
    let (by, target) = parties(world, scan, at);
    let targets = looked_at(world, scan, target);
    let is_there = |one: &&Arc<Weakness>| one.is_present && one.definition().scanner == scan.scanner;
    let of_targets = targets.iter().flat_map(|target| world.weaknesses(target.id));
    let there: Vec<Arc<Weakness>> = of_targets.filter(is_there).cloned().collect();
    let reached = there.len() * percent as usize / 100;
    let found: BTreeSet<ObjectId> = scan.new.iter().chain(&scan.again).copied().collect();
    let mut abouts = abouts(world, &targets);
    let mut facts = Vec::new();
    let left: Vec<_> = there.into_iter().take(reached).filter(|one| !found.contains(&one.id)).collect();
    let is_all = left.len() <= MOST_AT_ONCE;
    for weakness in left.into_iter().take(MOST_AT_ONCE) {
        let before = weakness.state;
        let mut weakness = Weakness::clone(&weakness);
        weakness.state = WeaknessState::Open;
        weakness.found_number.get_or_insert_with(|| world.next_found_number(weakness.target_id));
        weakness.first_detected_at.get_or_insert(at);
        weakness.last_detected_at = Some(at);
        weakness.changed_at = at;
        weakness.scans.push(scan.id);
        let forgotten = weakness.scans.len().saturating_sub(MOST_SCANS);
        weakness.scans.drain(..forgotten);
        let level = weakness.definition().threat_level;
        scan.counts.add(level);
        let weakness = Arc::new(weakness);
        world.put(Arc::clone(&weakness));
        let what = match before {
            WeaknessState::Open => {
                scan.again.push(weakness.id);
                continue;
            }
            WeaknessState::Latent => What::WeaknessDetected,
            WeaknessState::Closed => What::WeaknessReturned,
        };
        scan.new.push(weakness.id);
        if let Some(about) = abouts.get_mut(&weakness.target_id) {
            about.counts.add(level);
            facts.push((weakness, what, about.clone()));
        }
    }
    // Facts show the scan as it is when all of this step is found.
    let scan = Arc::new(scan.clone());
    for (weakness, what, about) in facts {
        world.tell(at, &by, what(weakness, Arc::clone(&scan), about));
    }
    is_all
}

/// Each target as facts tell of it.
fn abouts(world: &World, targets: &[Arc<Target>]) -> BTreeMap<ObjectId, About> {
    targets.iter().map(|target| (target.id, world.about(target))).collect()
}

/// Closes what was open and was not found. The answer is whether that is all.
fn close(world: &mut World, scan: &mut Scan, at: DateTime<Utc>) -> bool {
    let (by, target) = parties(world, scan, at);
    let targets = looked_at(world, scan, target);
    // What was fixed after this scan had found it is for the next.
    let found: BTreeSet<ObjectId> = scan.new.iter().chain(&scan.again).copied().collect();
    let is_gone = |one: &&Arc<Weakness>| {
        one.state == WeaknessState::Open
            && !one.is_present
            && one.definition().scanner == scan.scanner
            && !found.contains(&one.id)
    };
    let of_targets = targets.iter().flat_map(|target| world.weaknesses(target.id));
    let gone: Vec<Arc<Weakness>> = of_targets.filter(is_gone).cloned().collect();
    let is_all = gone.len() <= MOST_AT_ONCE;
    scan.closed.extend(gone.iter().take(MOST_AT_ONCE).map(|weakness| weakness.id));
    let shared = Arc::new(scan.clone());
    let mut abouts = abouts(world, &targets);
    for weakness in gone.into_iter().take(MOST_AT_ONCE) {
        let mut weakness = Weakness::clone(&weakness);
        weakness.state = WeaknessState::Closed;
        weakness.changed_at = at;
        let weakness = Arc::new(weakness);
        world.put(Arc::clone(&weakness));
        if let Some(about) = abouts.get_mut(&weakness.target_id) {
            about.counts.remove(weakness.definition().threat_level);
            world.tell(at, &by, What::WeaknessFixed(weakness, Arc::clone(&shared), about.clone()));
        }
    }
    is_all
}

/// Tells what the scan saw of the target's surface that the one before had not.
fn look_around(world: &mut World, scan: &Scan, at: DateTime<Utc>) {
    let (by, target) = parties(world, scan, at);
    let scan = Arc::new(scan.clone());
    for target in looked_at(world, &scan, target) {
        let seen = target.seen.as_ref().map(|(surface, seen_at)| (surface, *seen_at));
        let observations = observe(seen, &target.surface, at);
        let mut target = Target::clone(&target);
        target.seen = Some((target.surface.clone(), at));
        let target = Arc::new(target);
        world.put(Arc::clone(&target));
        let about = world.about(&target);
        for observation in observations {
            world.tell(at, &by, What::Observed(observation, Arc::clone(&scan), about.clone()));
        }
    }
}
