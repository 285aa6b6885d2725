//! Weaknesses that are made to be there, or fixed. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Refusal, missing};
use crate::id::ObjectId;
use crate::world::{
    Definition, Kind, Object, Scanner, Settings, Target, TargetKind, Weakness, WeaknessState, What, World, definition,
    definitions, happens,
};

/// The most weaknesses of one target.
pub const MOST_WEAKNESSES: u32 = 20_000;

/// Weaknesses by number or by key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "a number, or a list of weaknesses such as owasp-zap-missing-hsts")]
pub enum Findings {
    Count(u32),
    Keys(Vec<String>),
}

impl Findings {
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Count(count) if *count > MOST_WEAKNESSES => {
                Err(format!("is {count}; at most {MOST_WEAKNESSES} are allowed"))
            }
            Self::Count(_) => Ok(()),
            Self::Keys(keys) => keys.iter().try_for_each(|key| definition(key).map(drop)),
        }
    }

    /// What is wrong with it as what one scanner finds.
    pub fn check_for(&self, scanner: Scanner) -> Result<(), String> {
        self.check()?;
        let Self::Keys(keys) = self else { return Ok(()) };
        let is_foreign = |key: &&String| definition(key).is_ok_and(|one| one.scanner != scanner);
        match keys.iter().find(is_foreign) {
            Some(foreign) => Err(format!("`{foreign}` is not found by {scanner}")),
            None => Ok(()),
        }
    }

    /// The kinds of weakness and their instances, of one scanner if one is named, that can sit on
    /// this kind of target.
    fn of(&self, scanner: Option<Scanner>, kind: TargetKind) -> Result<Vec<(&'static Definition, u32)>, String> {
        self.check()?;
        let of_scanner = |one: &&Definition| scanner.is_none_or(|scanner| scanner == one.scanner);
        match self {
            Self::Keys(keys) => keys.iter().map(|key| definition(key).map(|one| (one, 0))).collect(),
            Self::Count(0) => Ok(Vec::new()),
            Self::Count(count) => {
                let fitting: Vec<&Definition> =
                    definitions().iter().filter(of_scanner).filter(|one| one.targets.contains(&kind)).collect();
                if fitting.is_empty() {
                    let scanner = scanner.map_or("a scanner", Scanner::as_str);
                    return Err(format!("{scanner} finds nothing on a {kind}"));
                }
                let nth = |n: u32| (fitting[n as usize % fitting.len()], n / fitting.len() as u32);
                Ok((0..*count).map(nth).collect())
            }
        }
    }
}

/// Draws the weaknesses of a new target: a few of each scanner.
pub(super) fn draw_weaknesses(world: &mut World, target: &Target, at: DateTime<Utc>) {
    let mut rng = world.chance("weaknesses", target.number);
    for scanner in Scanner::ALL {
        let fits = |one: &&'static Definition| one.scanner == scanner && one.targets.contains(&target.kind);
        let mut fitting: Vec<&'static Definition> = definitions().iter().filter(fits).collect();
        let count = (2 + rng.next_u32() % 4) as usize;
        for _ in 0..count.min(fitting.len()) {
            let index = (rng.next_u64() % fitting.len() as u64) as usize;
            let drawn = fitting.swap_remove(index);
            put_weakness(world, target, drawn, 0, at);
        }
    }
}

fn put_weakness(world: &mut World, target: &Target, definition: &Definition, instance: u32, at: DateTime<Utc>) {
    let number = world.next_weakness_number(target.id);
    let (_, id) = world.next_id(Kind::Weakness, at);
    world.put(Weakness {
        id,
        number,
        found_number: None,
        target_id: target.id,
        definition: definition.key.clone(),
        instance,
        is_present: true,
        state: WeaknessState::Latent,
        first_detected_at: None,
        last_detected_at: None,
        is_gone: false,
        scans: Vec::new(),
        changed_at: at,
        settings: Settings::new(),
    });
}

/// Whether a target can have so many weaknesses more.
fn check_room(world: &World, target: &Target, more: usize) -> Result<(), Refusal> {
    let known = world.weaknesses(target.id).count();
    if known + more > 2 * MOST_WEAKNESSES as usize {
        return Err(Refusal::Conflict(format!("the target has {known} weaknesses already, {more} more are too many")));
    }
    Ok(())
}

/// Makes weaknesses be there, new ones or such as had been fixed.
pub fn add_weaknesses(
    world: &mut World,
    target: &Target,
    findings: &Findings,
    scanner: Option<Scanner>,
    at: DateTime<Utc>,
) -> Result<(), Refusal> {
    let wanted = findings.of(scanner, target.kind).map_err(|reason| Refusal::field("/weaknesses", reason))?;
    check_room(world, target, wanted.len())?;
    let by_key = |one: &Arc<Weakness>| ((one.definition().key.as_str(), one.instance), Arc::clone(one));
    let known: HashMap<(&str, u32), Arc<Weakness>> = world.weaknesses(target.id).map(by_key).collect();
    for (definition, instance) in wanted {
        match known.get(&(definition.key.as_str(), instance)) {
            Some(known) => set_present(world, known, true, at),
            None => put_weakness(world, target, definition, instance, at),
        }
    }
    Ok(())
}

/// Makes exactly these weaknesses be there, of all that one scanner looks for.
pub fn set_findings(
    world: &mut World,
    target: &Target,
    scanner: Scanner,
    findings: &Findings,
    at: DateTime<Utc>,
) -> Result<(), Refusal> {
    let wrong = |reason| Refusal::field("/findings", reason);
    findings.check_for(scanner).map_err(wrong)?;
    let wanted = findings.of(Some(scanner), target.kind).map_err(wrong)?;
    check_room(world, target, wanted.len())?;
    let wanted: BTreeSet<(&str, u32)> = wanted.iter().map(|(one, instance)| (one.key.as_str(), *instance)).collect();
    let own: Vec<Arc<Weakness>> =
        world.weaknesses(target.id).filter(|one| one.definition().scanner == scanner).cloned().collect();
    let mut known = BTreeSet::new();
    for weakness in &own {
        let key = (weakness.definition().key.as_str(), weakness.instance);
        known.insert(key);
        set_present(world, weakness, wanted.contains(&key), at);
    }
    for (key, instance) in wanted.difference(&known) {
        let definition = definition(key).map_err(|reason| Refusal::field("/findings", reason))?;
        put_weakness(world, target, definition, *instance, at);
    }
    Ok(())
}

fn set_present(world: &mut World, weakness: &Weakness, is_present: bool, at: DateTime<Utc>) {
    if weakness.is_present != is_present {
        world.put(Weakness { is_present, changed_at: at, ..weakness.clone() });
    }
}

/// Fixes weaknesses: by key, or all of them. The next scan that looks for them closes them. The
/// answer is how many were there.
pub fn fix(world: &mut World, target: &Target, keys: Option<&[String]>, at: DateTime<Utc>) -> Result<usize, Refusal> {
    for key in keys.unwrap_or_default() {
        definition(key).map_err(|reason| Refusal::field("/weaknesses", reason))?;
    }
    let is_meant = |one: &&Arc<Weakness>| one.is_present && keys.is_none_or(|keys| keys.contains(&one.definition));
    let meant: Vec<Arc<Weakness>> = world.weaknesses(target.id).filter(is_meant).cloned().collect();
    meant.iter().for_each(|weakness| set_present(world, weakness, false, at));
    Ok(meant.len())
}

/// Closes a weakness because a user says that it is fixed. A scan that still finds it opens it again.
pub fn mark_fixed(world: &mut World, id: ObjectId, at: DateTime<Utc>) -> Result<(), Refusal> {
    let weakness = weakness(world, id)?;
    if weakness.state != WeaknessState::Open {
        return Ok(());
    }
    let by = world.owner(at);
    let (state, changed_at) = (WeaknessState::Closed, at);
    let weakness = Arc::new(Weakness { state, changed_at, ..Weakness::clone(&weakness) });
    world.put(Arc::clone(&weakness));
    if let Some(target) = world.target(weakness.target_id).cloned() {
        let about = world.about(&target);
        world.tell(at, &by, What::WeaknessMarkedFixed(weakness, about));
    }
    Ok(())
}

/// Opens a weakness again because a user says that it is not fixed.
pub fn reopen(world: &mut World, id: ObjectId, at: DateTime<Utc>) -> Result<(), Refusal> {
    let weakness = weakness(world, id)?;
    if weakness.state == WeaknessState::Closed {
        world.put(Weakness { state: WeaknessState::Open, changed_at: at, ..Weakness::clone(&weakness) });
    }
    Ok(())
}

fn weakness(world: &World, id: ObjectId) -> Result<Arc<Weakness>, Refusal> {
    match world.object(id) {
        Some(Object::Weakness(weakness)) => Ok(Arc::clone(weakness)),
        _ => Err(missing("weakness", id)),
    }
}

/// Lets chance change what is there: each weakness may be fixed, and each that was may return.
pub fn drift(world: &mut World, target: &Target, scanner: Scanner, chance: f64, key: &str, at: DateTime<Utc>) {
    let mut rng = world.chance("drift", key);
    let own: Vec<Arc<Weakness>> =
        world.weaknesses(target.id).filter(|one| one.definition().scanner == scanner).cloned().collect();
    for weakness in own {
        if happens(chance, &mut rng) {
            set_present(world, &weakness, !weakness.is_present, at);
        }
    }
}
