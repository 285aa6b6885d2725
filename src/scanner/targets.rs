//! Targets come and go. Pure.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use super::weaknesses::{Findings, add_weaknesses, draw_weaknesses};
use super::{Refusal, items, life, missing, schedules};
use crate::id::ObjectId;
use crate::problem::{FieldProblem, check_text, quote};
use crate::world::{Kind, Settings, Surface, Target, TargetKind, Weakness, What, World};

/// The most tags of a target. (HostedScan documents ten.)
const MOST_TAGS: usize = 10;
/// The most bytes of a label or a tag: 255 characters, which Probely documents, of up to four bytes.
const LONGEST_NAME: usize = 1_020;

/// A target to add.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTarget {
    /// A host name or an IP address, a URL, a network such as `192.0.2.0/28`, or a domain.
    #[schema(example = "shop.example.test")]
    pub address: String,
    /// `host`, `url`, `network` or `domain`; told from the address if left out (never `domain`).
    pub kind: Option<TargetKind>,
    #[serde(default)]
    pub label: String,
    #[serde(default)]
    pub tags: Vec<String>,
    /// The weaknesses on it: how many, or which by their keys. Some are drawn if left out.
    pub weaknesses: Option<Findings>,
    /// Scans of it fail.
    #[serde(default)]
    pub unreachable: bool,
    /// What a vendor's own API sets on it.
    #[serde(skip)]
    pub settings: Settings,
    /// Another target may have this address.
    #[serde(skip)]
    pub may_repeat: bool,
}

/// Tells from an address what kind of target it names, and checks it.
fn kind_of(address: &str, given: Option<TargetKind>) -> Result<TargetKind, String> {
    let kind = given.unwrap_or(if address.contains("://") {
        TargetKind::Url
    } else if address.contains('/') {
        TargetKind::Network
    } else {
        TargetKind::Host
    });
    let is_name = |text: &str| {
        let is_label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        text.parse::<std::net::IpAddr>().is_ok() || text.split('.').all(is_label)
    };
    let quoted = quote(address);
    match kind {
        TargetKind::Url if !Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) => {
            Err(format!("{quoted} is not an http or https URL"))
        }
        TargetKind::Network if address.parse::<IpNet>().is_err() => {
            Err(format!("{quoted} is not a network; write it as 192.0.2.0/28"))
        }
        TargetKind::Domain if !is_name(address) || !address.contains('.') => {
            Err(format!("{quoted} is not a domain name"))
        }
        TargetKind::Host if !is_name(address) => Err(format!("{quoted} is neither a host name nor an IP address")),
        kind => Ok(kind),
    }
}

/// Checks a target that is to be added.
pub fn check_target(new: &NewTarget) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    problems.extend(check_text("/address", &new.address, 2_048).err());
    problems.extend(kind_of(&new.address, new.kind).err().map(|reason| FieldProblem::new("/address", reason)));
    if !new.label.is_empty() {
        problems.extend(check_text("/label", &new.label, LONGEST_NAME).err());
    }
    if new.tags.len() > MOST_TAGS {
        problems.push(FieldProblem::new("/tags", format!("are more than {MOST_TAGS}")));
    }
    let check_tag = |(index, tag): (usize, &String)| check_text(&format!("/tags/{index}"), tag, LONGEST_NAME).err();
    problems.extend(new.tags.iter().enumerate().filter_map(check_tag));
    if let Some(reason) = new.weaknesses.as_ref().and_then(|findings| findings.check().err()) {
        problems.push(FieldProblem::new("/weaknesses", reason));
    }
    problems
}

/// Adds a target with its weaknesses and its surface.
pub fn add_target(world: &mut World, new: NewTarget, at: DateTime<Utc>) -> Result<Arc<Target>, Refusal> {
    let problems = check_target(&new);
    if !problems.is_empty() {
        return Err(Refusal::Invalid(problems));
    }
    if !new.may_repeat && world.target_at(&new.address).is_some() {
        return Err(Refusal::Conflict(format!("there is a target {} already", quote(&new.address))));
    }
    let kind = kind_of(&new.address, new.kind).map_err(|reason| Refusal::field("/address", reason))?;
    let by = world.owner(at);
    let (number, id) = world.next_id(Kind::Target, at);
    let mut target = Target {
        id,
        number,
        kind,
        address: new.address,
        label: new.label,
        tags: new.tags,
        is_verified: false,
        verified_at: None,
        verification_error: String::new(),
        is_unreachable: new.unreachable,
        surface: Surface::default(),
        seen: None,
        last_scan: None,
        created_at: at,
        changed_at: at,
        deleted_at: None,
        settings: new.settings,
    };
    target.surface = Surface::draw(kind, &target.host(), at, &mut world.chance("surface", number));
    let target = Arc::new(target);
    world.put(Arc::clone(&target));
    match &new.weaknesses {
        Some(findings) => add_weaknesses(world, &target, findings, None, at)?,
        None => draw_weaknesses(world, &target, at),
    }
    let about = world.about(&target);
    world.tell(at, &by, What::TargetAdded(about));
    Ok(target)
}

/// Removes a target; scans of it that are running are cancelled.
pub fn remove_target(world: &mut World, id: ObjectId, at: DateTime<Utc>) -> Result<(), Refusal> {
    let target = world.target(id).cloned().ok_or_else(|| missing("target", id))?;
    let running: Vec<ObjectId> =
        world.running_scans().filter(|scan| scan.target_id == id).map(|scan| scan.id).collect();
    for scan in running {
        life::cancel(world, scan, at)?;
    }
    let by = world.owner(at);
    let about = world.about(&target);
    items::remove_of_target(world, id, at);
    schedules::remove_of_target(world, id);
    let weaknesses: Vec<_> = world.weaknesses(id).cloned().collect();
    for weakness in weaknesses {
        world.put(Weakness { is_gone: true, changed_at: at, ..Weakness::clone(&weakness) });
    }
    world.put(Target { deleted_at: Some(at), changed_at: at, ..Target::clone(&target) });
    world.tell(at, &by, What::TargetRemoved(about));
    Ok(())
}

/// Gives a target another URL, which is not verified.
pub fn rename_target(world: &mut World, id: ObjectId, url: &str, at: DateTime<Utc>) -> Result<(), Refusal> {
    let target = world.target(id).cloned().ok_or_else(|| missing("target", id))?;
    let kind = kind_of(url, Some(TargetKind::Url)).map_err(|reason| Refusal::field("/address", reason))?;
    let (address, verified_at, is_verified) = (url.to_owned(), None, false);
    world.put(Target { address, kind, is_verified, verified_at, changed_at: at, ..Target::clone(&target) });
    Ok(())
}

/// Verifies that a target is the account's, or fails to, with a reason.
pub fn verify_target(
    world: &mut World,
    id: ObjectId,
    failed: Option<String>,
    at: DateTime<Utc>,
) -> Result<(), Refusal> {
    let target = world.target(id).cloned().ok_or_else(|| missing("target", id))?;
    let by = world.owner(at);
    let mut target = Target::clone(&target);
    target.changed_at = at;
    target.is_verified = failed.is_none();
    target.verified_at = failed.is_none().then_some(at);
    target.verification_error = failed.unwrap_or_default();
    let is_verified = target.is_verified;
    let target = Arc::new(target);
    world.put(Arc::clone(&target));
    let about = world.about(&target);
    let what = if is_verified { What::TargetVerified(about) } else { What::VerificationFailed(about) };
    world.tell(at, &by, what);
    Ok(())
}
