//! What is wrong with a scenario that reads well: what it names and is not there.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::{EmitStep, Fault, MOST_STEPS, ScanStep, Scenario, Step, Wait, expression, names, story_time};
use crate::event::Vendor;
use crate::problem::{check_text, quote};
use crate::scanner::change::parse_from_now;
use crate::scanner::targets::check_target;
use crate::vendors::{EventType, dialect, remove, set};
use crate::world::OWNER;
use crate::world::ticks::LONGEST_SCAN;

/// What a step may refer to.
struct Known<'s> {
    targets: BTreeSet<&'s str>,
    users: BTreeSet<&'s str>,
    /// Scans that earlier steps have named.
    scans: BTreeSet<&'s str>,
    /// Scans that any step names.
    all_scans: BTreeSet<&'s str>,
}

/// All that is wrong with a scenario.
pub(super) fn check(scenario: &Scenario) -> Vec<Fault> {
    let mut faults = Vec::new();
    let name = &scenario.name;
    faults.extend(check_text("", &name.value, 100).err().map(|problem| Fault::at(name.referenced, problem.reason)));
    if let Some(speed) = scenario.speed.as_ref().filter(|speed| !(0.001..=1_000_000.0).contains(&speed.value)) {
        faults.push(Fault::at(speed.referenced, "the speed must be from 0.001 to 1000000"));
    }
    if scenario.steps.is_empty() {
        faults.push(Fault::at(name.referenced, "there are no steps"));
    }
    if scenario.steps.len() > MOST_STEPS {
        faults.push(Fault::at(name.referenced, format!("there are more than {MOST_STEPS} steps")));
    }
    let mut known =
        Known { targets: BTreeSet::new(), users: [OWNER].into(), scans: BTreeSet::new(), all_scans: names(scenario) };
    for target in &scenario.targets {
        check_new_target(&target.value, target.referenced, &mut known, &mut faults);
    }
    for step in &scenario.steps {
        check_step(step, &mut known, &mut faults);
    }
    faults
}

fn check_new_target<'s>(
    target: &'s crate::scanner::targets::NewTarget,
    at: Location,
    known: &mut Known<'s>,
    faults: &mut Vec<Fault>,
) {
    faults.extend(check_target(target).into_iter().map(|problem| Fault::at(at, problem.to_string())));
    if !known.targets.insert(&target.address) {
        faults.push(Fault::at(at, format!("the target {} is there already", quote(&target.address))));
    }
}

fn check_step<'s>(step: &'s Spanned<Step>, known: &mut Known<'s>, faults: &mut Vec<Fault>) {
    let at = step.referenced;
    match &step.value {
        Step::Scan(scan) => check_scan(scan, known, faults),
        Step::Wait(Wait::For { scan }) => check_name(scan, at, known, faults),
        Step::Wait(Wait::Duration(text)) => faults.extend(story_time(text).err().map(|reason| Fault::at(at, reason))),
        Step::Cancel(scan) => check_name(&scan.value, scan.referenced, known, faults),
        Step::Change(change) => {
            check_known(&change.target, "target", &known.targets, faults);
            let problems = change.to.value.check();
            let fault = |(field, reason)| Fault::at(change.to.referenced, format!("{field}: {reason}"));
            faults.extend(problems.into_iter().map(fault));
        }
        Step::Emit(emit) => check_emit(emit, at, known, faults),
        Step::AddTarget(target) => check_new_target(target, at, known, faults),
        Step::RemoveTarget(address) => {
            check_known(address, "target", &known.targets, faults);
            known.targets.remove(address.value.as_str());
        }
        Step::VerifyTarget(verify) => check_known(&verify.target, "target", &known.targets, faults),
        Step::AddUser(user) => {
            let email = &user.email;
            if !email.value.contains('@') {
                let reason = format!("{} is not an e-mail address", quote(&email.value));
                faults.push(Fault::at(email.referenced, reason));
            } else if !known.users.insert(&email.value) {
                faults.push(Fault::at(email.referenced, format!("the user {} is there already", quote(&email.value))));
            }
        }
        Step::RemoveUser(email) => {
            check_known(email, "user", &known.users, faults);
            known.users.remove(email.value.as_str());
        }
        Step::AddKey(email) => check_known(email, "user", &known.users, faults),
        Step::PciReport(pci) => {
            let is_odd = pci.expires_in_days.is_some_and(|days| !(-3_650..=90).contains(&days));
            faults.extend(is_odd.then(|| Fault::at(at, "expires_in_days must be from -3650 to 90")));
        }
        Step::Project(_) => (),
    }
}

fn check_known(name: &Spanned<String>, what: &str, known: &BTreeSet<&str>, faults: &mut Vec<Fault>) {
    if !known.contains(name.value.as_str()) {
        let list = known.iter().copied().collect::<Vec<_>>().join(", ");
        let known = if list.is_empty() { "none yet".to_owned() } else { list };
        let reason = format!("unknown {what} {}; the story has: {known}", quote(&name.value));
        faults.push(Fault::at(name.referenced, reason));
    }
}

/// Checks the name of a scan that a step refers to.
fn check_name(name: &str, at: Location, known: &Known<'_>, faults: &mut Vec<Fault>) {
    if known.scans.contains(name) {
        return;
    }
    faults.push(Fault::at(
        at,
        if known.all_scans.contains(name) {
            format!("{} is named by a later step: this one would wait for itself", quote(name))
        } else {
            format!("no scan is named {}; name it with `as`", quote(name))
        },
    ));
}

fn check_scan<'s>(scan: &'s ScanStep, known: &mut Known<'s>, faults: &mut Vec<Fault>) {
    check_known(&scan.target, "target", &known.targets, faults);
    let duration = scan.duration.as_ref().filter(|text| story_time(&text.value).is_ok_and(|time| time > LONGEST_SCAN));
    faults.extend(duration.map(|text| Fault::at(text.referenced, "a scan takes at most 7 days")));
    for time in scan.duration.iter().chain(scan.late.values()) {
        faults.extend(story_time(&time.value).err().map(|reason| Fault::at(time.referenced, reason)));
    }
    for (event_type, late) in &scan.late {
        let tells = |vendor: &Vendor| dialect(*vendor).catalogue().is_some_and(|all| all.get(event_type).is_some());
        if !Vendor::ALL.iter().any(tells) {
            faults.push(Fault::at(late.referenced, format!("no vendor has the event type {}", quote(event_type))));
        }
    }
    if let Some(findings) = &scan.findings {
        let wrong = findings.value.check_for(scan.scanner).err();
        faults.extend(wrong.map(|reason| Fault::at(findings.referenced, reason)));
    }
    if let Some(name) = &scan.name {
        let is_word = name.value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let starts_well = name.value.starts_with(|c: char| c.is_ascii_alphabetic());
        if !is_word || !starts_well || expression::RESERVED.contains(&name.value.as_str()) {
            let reason = format!("{} is not a name: use letters, digits and _", quote(&name.value));
            faults.push(Fault::at(name.referenced, reason));
        } else if !known.scans.insert(&name.value) {
            faults.push(Fault::at(name.referenced, format!("{} is named twice", quote(&name.value))));
        }
    }
}

fn check_emit(emit: &EmitStep, at: Location, known: &Known<'_>, faults: &mut Vec<Fault>) {
    let before = faults.len();
    for time in emit.deliver_after.iter() {
        faults.extend(story_time(&time.value).err().map(|reason| Fault::at(time.referenced, reason)));
    }
    for time in emit.occurred.iter() {
        faults.extend(parse_from_now(&time.value).err().map(|reason| Fault::at(time.referenced, reason)));
    }
    if emit.count.is_some_and(|count| !(1..=1_000).contains(&count)) {
        faults.push(Fault::at(at, "count must be from 1 to 1000"));
    }
    let values = emit.set.values().chain(&emit.content);
    let wrong = values.flat_map(|value| expression::faults(value, &known.scans));
    faults.extend(wrong.map(|reason| Fault::at(at, reason)));
    let dialect = dialect(emit.vendor);
    let event_type = &emit.event_type;
    let Some(catalogue) = dialect.catalogue() else {
        let name = dialect.check_name(&event_type.value).err().map(|problem| problem.reason);
        let content = emit.content.is_none().then(|| format!("{} has no examples: give the content", emit.vendor));
        faults.extend(name.into_iter().chain(content).map(|reason| Fault::at(event_type.referenced, reason)));
        return;
    };
    let Some(found) = catalogue.get(&event_type.value) else {
        let reason = format!("{} has no event type {}", emit.vendor, quote(&event_type.value));
        faults.push(Fault::at(event_type.referenced, reason));
        return;
    };
    if faults.len() == before && emit.checked && emit.content.is_none() {
        faults.extend(check_fields(emit, found).map(|reason| Fault::at(at, reason)));
    }
}

/// Whether what is set and removed are fields that the event type has.
fn check_fields(emit: &EmitStep, event_type: &EventType) -> impl Iterator<Item = String> {
    let mut content = event_type.example.clone();
    let mut wrong = Vec::new();
    for (path, value) in &emit.set {
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent).replace('.', "/");
        let parent = if parent.is_empty() { String::new() } else { format!("/{parent}") };
        let field = path.rsplit('.').next().unwrap_or(path);
        // What only a scanner says has no fixed fields.
        let is_free = path.contains("additional_info.");
        let is_known = match content.pointer(&parent) {
            Some(Value::Object(fields)) => fields.contains_key(field) || has_property(&event_type.schema, field),
            Some(Value::Array(_)) => true,
            _ => false,
        };
        if !is_free && !is_known {
            wrong.push(format!("{} has no field {}", event_type.name, quote(path)));
        } else if let Err(problem) = set(&mut content, path, value.clone()) {
            wrong.push(problem.reason);
        }
    }
    for path in &emit.remove {
        wrong.extend(remove(&mut content, path).err().map(|problem| problem.reason));
    }
    // What expressions will be worth is not known yet.
    if wrong.is_empty() && !emit.set.values().any(expression::is_in) {
        wrong.extend(event_type.violations(&content).iter().map(ToString::to_string));
    }
    wrong.into_iter()
}

fn has_property(schema: &Value, field: &str) -> bool {
    schema["properties"].get(field).is_some()
}
