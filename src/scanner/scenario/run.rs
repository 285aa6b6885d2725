//! A scenario as it is told: step after step, each with the timer for the next. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{EmitStep, Fault, ScanStep, Scenario, Step, Wait, expression, read, story_time};
use crate::clock::format_time;
use crate::event::Vendor;
use crate::id::ObjectId;
use crate::scanner::change::{change_target, parse_from_now};
use crate::scanner::life::{self, NewScan};
use crate::scanner::targets::{add_target, remove_target, verify_target};
use crate::scanner::{Refusal, Rules, hand, missing};
use crate::vendors::{dialect, remove, set};
use crate::world::{Emitted, Kind, Late, Object, Run, RunState, Scan, Settings, Target, World, to_value};

/// The most that one step may emit, in bytes.
const MOST_EMITTED_BYTES: usize = 16 * 1024 * 1024;
/// The most events that are emitted in one change of the world, but for one step's.
const MOST_EMITTED: u32 = 1_000;
/// How long a step waits for what another process is at.
const SOON: TimeDelta = TimeDelta::milliseconds(50);

/// A run to start.
#[derive(Debug, Clone)]
pub struct NewRun<'s> {
    pub source: &'s str,
    pub scenario: &'s Scenario,
    /// How much faster than the story the clock goes; none means as the scenario or the settings say.
    pub speed: Option<f64>,
}

/// Starts to tell a scenario. Its targets are added now; its first step is due at once.
pub fn start(world: &mut World, rules: Rules<'_>, new: &NewRun<'_>, at: DateTime<Utc>) -> Result<Arc<Run>, Refusal> {
    let NewRun { source, scenario, speed } = new;
    world.owner(at);
    let (number, id) = world.next_id(Kind::Run, at);
    for target in &scenario.targets {
        if world.target_at(&target.value.address).is_none() {
            add_target(world, target.value.clone(), at)?;
        }
    }
    let own = scenario.speed.as_ref().map(|speed| speed.value);
    let run = Arc::new(Run {
        id,
        number,
        name: scenario.name.value.clone(),
        source: (*source).to_owned(),
        state: RunState::Running,
        step: 0,
        steps: scenario.steps.len(),
        names: BTreeMap::new(),
        error: None,
        speed: speed.or(own).unwrap_or(rules.settings.time_scale),
        vendors: scenario.vendors.clone().unwrap_or_else(|| rules.settings.vendors.clone()),
        started_at: at,
        ended_at: None,
    });
    world.put(Arc::clone(&run));
    world.set_timer(id, Kind::Run, Some(at));
    Ok(run)
}

/// Takes the steps that are due, up to one that waits.
pub fn step(world: &mut World, rules: Rules<'_>, id: ObjectId, at: DateTime<Utc>) {
    let run = match world.object(id) {
        Some(Object::Run(run)) if run.state == RunState::Running => Run::clone(run),
        _ => return world.set_timer(id, Kind::Run, None),
    };
    let scenario = match read(&run.source) {
        Ok(scenario) => scenario,
        Err(faults) => {
            let reasons: Vec<String> = faults.iter().map(Fault::to_string).collect();
            return fail(world, id, at, &reasons.join("; "));
        }
    };
    let mut teller = Teller { run, rules, at, emitted: 0 };
    while let Some(step) = scenario.steps.get(teller.run.step) {
        match teller.take(world, &step.value) {
            Ok(Then::GoOn) => {
                teller.run.step += 1;
                // What follows is for another change: one must not hold up everybody else's.
                if teller.emitted >= MOST_EMITTED {
                    world.put(teller.run);
                    return world.set_timer(id, Kind::Run, Some(at));
                }
            }
            Ok(Then::WaitUntil(time)) => {
                teller.run.step += 1;
                world.put(teller.run);
                return world.set_timer(id, Kind::Run, Some(time));
            }
            Ok(Then::LookAgain(time)) => {
                world.put(teller.run);
                return world.set_timer(id, Kind::Run, Some(time));
            }
            Err(refusal) => {
                let line = step.referenced.line();
                let reason = format!("step {} (line {line}): {refusal}", teller.run.step + 1);
                world.put(teller.run);
                return fail(world, id, at, &reason);
            }
        }
    }
    end(world, teller.run, RunState::Completed, None, at);
}

/// Ends a run that cannot go on.
pub fn fail(world: &mut World, id: ObjectId, at: DateTime<Utc>, reason: &str) {
    if let Some(Object::Run(run)) = world.object(id).cloned() {
        end(world, Run::clone(&run), RunState::Failed, Some(reason.to_owned()), at);
    }
}

/// Ends a run before its time. The scans that it started go on.
pub fn cancel(world: &mut World, id: ObjectId, at: DateTime<Utc>) -> Result<(), Refusal> {
    match world.object(id).cloned() {
        Some(Object::Run(run)) if run.state == RunState::Running => {
            end(world, Run::clone(&run), RunState::Cancelled, None, at);
            Ok(())
        }
        _ => Err(missing("running run", id)),
    }
}

fn end(world: &mut World, run: Run, state: RunState, error: Option<String>, at: DateTime<Utc>) {
    world.set_timer(run.id, Kind::Run, None);
    // Nothing refers to its scans any more.
    for id in run.names.values() {
        if let Some(Object::Scan(scan)) = world.object(*id).cloned() {
            world.put(Scan { is_named: false, ..Scan::clone(&scan) });
        }
    }
    world.put(Run { state, error, ended_at: Some(at), ..run });
}

/// What follows a step.
enum Then {
    GoOn,
    /// The next step is due then.
    WaitUntil(DateTime<Utc>),
    /// This step is due again then.
    LookAgain(DateTime<Utc>),
}

/// Tells one run.
struct Teller<'r> {
    run: Run,
    rules: Rules<'r>,
    at: DateTime<Utc>,
    /// How many events these steps have emitted.
    emitted: u32,
}

impl Teller<'_> {
    fn take(&mut self, world: &mut World, step: &Step) -> Result<Then, Refusal> {
        let at = self.at;
        match step {
            Step::Scan(scan) => self.scan(world, scan)?,
            Step::Wait(Wait::Duration(text)) => return Ok(Then::WaitUntil(at + self.clock_time(text)?)),
            Step::Wait(Wait::For { scan }) => return self.wait_for(world, scan),
            Step::Cancel(name) => {
                if let Some(Object::Scan(scan)) = self.named(world, &name.value).cloned()
                    && !scan.state.has_ended()
                {
                    life::cancel(world, scan.id, at)?;
                }
            }
            Step::Change(change) => {
                let id = target(world, &change.target.value)?.id;
                change_target(world, id, &change.to.value, at)?;
            }
            Step::Emit(emit) => self.emit(world, emit)?,
            Step::AddTarget(new) => drop(add_target(world, new.clone(), at)?),
            Step::RemoveTarget(address) => {
                let id = target(world, &address.value)?.id;
                remove_target(world, id, at)?;
            }
            Step::VerifyTarget(verify) => {
                let id = target(world, &verify.target.value)?.id;
                verify_target(world, id, verify.error.clone(), at)?;
            }
            Step::AddUser(user) => drop(hand::add_user(world, &user.email.value, &user.name, Settings::new(), at)?),
            Step::RemoveUser(email) => hand::remove_user(world, &email.value, at)?,
            Step::AddKey(email) => hand::add_key(world, &email.value, at)?,
            Step::PciReport(pci) => {
                hand::move_pci_report(world, &pci.name, pci.state, pci.expires_in_days, at);
            }
            Step::Project(project) => {
                let changes = (project.engineer.clone(), project.state.clone(), project.file.clone());
                hand::move_project(world, &project.name, changes, at);
            }
        }
        Ok(Then::GoOn)
    }

    /// A duration of the story on the clock.
    fn clock_time(&self, text: &str) -> Result<Duration, Refusal> {
        let story = story_time(text).map_err(|reason| Refusal::field("/wait", reason))?;
        Ok(Duration::from_secs_f64(story.as_secs_f64() / self.run.speed))
    }

    fn named<'w>(&self, world: &'w World, name: &str) -> Option<&'w Object> {
        self.run.names.get(name).and_then(|id| world.object(*id))
    }

    fn scan(&mut self, world: &mut World, step: &ScanStep) -> Result<(), Refusal> {
        let target = target(world, &step.target.value)?;
        let duration = step.duration.as_ref().map(|text| self.clock_time(&text.value)).transpose()?;
        // A scan of no given length takes as long as such scans do, by the run's own speed.
        let settings = crate::config::ScannerSettings { time_scale: self.run.speed, ..self.rules.settings.clone() };
        let late = |(event_type, text): (&String, &serde_saphyr::Spanned<String>)| {
            Ok((event_type.clone(), Late(self.clock_time(&text.value)?)))
        };
        let new = NewScan {
            outcome: step.outcome,
            reason: step.reason.clone(),
            duration,
            findings: step.findings.as_ref().map(|findings| findings.value.clone()),
            vendors: Some(self.run.vendors.clone()),
            late: step.late.iter().map(late).collect::<Result<_, Refusal>>()?,
            is_named: step.name.is_some(),
            ..NewScan::of(target.id, step.scanner)
        };
        let scan = life::start(world, Rules { settings: &settings, now: self.rules.now }, new, self.at)?;
        if let Some(name) = &step.name {
            self.run.names.insert(name.value.clone(), scan.id);
        }
        Ok(())
    }

    fn wait_for(&self, world: &World, name: &str) -> Result<Then, Refusal> {
        let Some(Object::Scan(scan)) = self.named(world, name) else {
            return Err(Refusal::NotFound(format!("no scan is named `{name}`")));
        };
        if scan.state.has_ended() {
            return Ok(Then::GoOn);
        }
        // Just after the scan's own last step, which another process may still be at.
        let end = life::end_of(world, scan) + TimeDelta::microseconds(1);
        Ok(Then::LookAgain(if end > self.at { end } else { self.rules.now.max(self.at) + SOON }))
    }

    fn emit(&mut self, world: &mut World, step: &EmitStep) -> Result<(), Refusal> {
        let names = self.context(world);
        let wrong = |reason: String| Refusal::field("/emit", reason);
        let dialect = dialect(step.vendor);
        let example = dialect.catalogue().and_then(|catalogue| catalogue.get(&step.event_type.value));
        let mut content = match (&step.content, example) {
            (Some(content), _) => expression::resolve(content, &names).map_err(wrong)?,
            (None, Some(event_type)) => event_type.example.clone(),
            (None, None) => json!({}),
        };
        for (path, value) in &step.set {
            let value = expression::resolve(value, &names).map_err(wrong)?;
            set(&mut content, path, value).map_err(|problem| Refusal::Invalid(vec![problem]))?;
        }
        for path in &step.remove {
            remove(&mut content, path).map_err(|problem| Refusal::Invalid(vec![problem]))?;
        }
        let bytes = content.to_string().len() * step.count.unwrap_or(1) as usize;
        if bytes > MOST_EMITTED_BYTES {
            return Err(wrong(format!("emits {bytes} bytes; at most {MOST_EMITTED_BYTES} are allowed in one step")));
        }
        let ago = step.occurred.as_ref().map(|text| parse_from_now(&text.value)).transpose().map_err(wrong)?;
        let after = step.deliver_after.as_ref().map(|text| self.clock_time(&text.value)).transpose()?;
        self.emitted += step.count.unwrap_or(1);
        for _ in 0..step.count.unwrap_or(1) {
            world.emit(Emitted {
                vendor: step.vendor,
                event_type: step.event_type.value.clone(),
                content: content.clone(),
                occurred_at: self.at + ago.unwrap_or_default(),
                deliver_at: after.map(|after| self.at + after),
                is_checked: step.checked,
            });
        }
        Ok(())
    }

    /// What expressions can use: each named scan, as scanhook and as each vendor shows it.
    fn context(&self, world: &World) -> BTreeMap<String, Value> {
        let named = |(name, id): (&String, &ObjectId)| {
            let object = world.object(*id)?;
            let mut value = match object {
                Object::Scan(scan) => to_value(&**scan),
                _ => return None,
            };
            for vendor in Vendor::ALL {
                if let Some(shown) = dialect(vendor).show(object, world) {
                    value[vendor.as_str()] = shown;
                }
            }
            Some((name.clone(), value))
        };
        let mut names: BTreeMap<String, Value> = self.run.names.iter().filter_map(named).collect();
        names.insert("now".to_owned(), format_time(self.at).into());
        names.insert("run".to_owned(), self.run.number.into());
        names
    }
}

fn target(world: &World, address: &str) -> Result<Arc<Target>, Refusal> {
    let found = world.target_at(address).cloned();
    found.ok_or_else(|| Refusal::NotFound(format!("there is no target `{address}` in this account")))
}
