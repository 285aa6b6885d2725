//! Changes of a target: what can be seen of it from outside, and which weaknesses are there. The
//! next scan tells of them. Pure.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::weaknesses::{Findings, add_weaknesses, fix};
use super::{Refusal, missing};
use crate::id::ObjectId;
use crate::json::object;
use crate::schedule::parse_duration;
use crate::world::surface::{Certificate, Element, ElementKind, NetworkAddress, Port, Registration, Technology};
use crate::world::{Surface, Target, World};

/// The most that there is to see of one target.
const MOST_SEEN: usize = 2_000;

/// What to change about a target.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// Weaknesses to fix, by key, or `all`.
    #[schema(example = json!(["owasp-zap-missing-hsts"]))]
    pub fix: Option<Fix>,
    /// Weaknesses that appear, or return: how many, or which by their keys.
    pub introduce: Option<Findings>,
    /// Whether scans reach it.
    pub reachable: Option<bool>,
    #[serde(deserialize_with = "object")]
    pub open_port: Option<PortChange>,
    #[serde(deserialize_with = "object")]
    pub close_port: Option<PortChange>,
    /// A port's new banner.
    #[serde(deserialize_with = "object")]
    pub banner: Option<PortChange>,
    #[serde(deserialize_with = "object")]
    pub technology: Option<TechnologyChange>,
    #[serde(deserialize_with = "object")]
    pub certificate: Option<CertificateChange>,
    #[serde(deserialize_with = "object")]
    pub registration: Option<RegistrationChange>,
    #[serde(deserialize_with = "object")]
    pub element: Option<ElementChange>,
    /// An e-mail address that a page shows.
    pub email: Option<String>,
    /// A telephone number that a page shows.
    pub phone: Option<String>,
    /// A host below a domain.
    pub host: Option<String>,
    /// A domain's name under another top-level domain, such as `example.net`.
    pub tld: Option<String>,
    /// An address of a network that answers.
    pub ip: Option<String>,
    /// An address of a network that answers no more.
    pub ip_gone: Option<String>,
}

/// Weaknesses to fix.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "\"all\", or a list of weaknesses such as owasp-zap-missing-hsts")]
pub enum Fix {
    Word(String),
    Keys(Vec<String>),
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortChange {
    pub port: u16,
    /// `tcp` if left out.
    pub protocol: Option<String>,
    pub service: Option<String>,
    pub banner: Option<String>,
    /// Of a network: whose port.
    pub ip: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TechnologyChange {
    pub name: String,
    #[serde(default)]
    pub version: String,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CertificateChange {
    /// From now; in the past with a minus: `20d`, `-1d`.
    pub expires_in: Option<String>,
    pub issuer: Option<String>,
    pub issuer_country: Option<String>,
    /// 1 low, 2 medium, 3 high.
    pub risk: Option<u8>,
    pub risk_reason: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegistrationChange {
    /// From now; in the past with a minus: `20d`, `-1d`.
    pub expires_in: Option<String>,
    pub registrar: Option<String>,
}

/// A part of a website, by its kind and name; made if it is not there.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ElementChange {
    pub kind: ElementKind,
    pub name: String,
    pub host: Option<String>,
    /// Two letters.
    pub country: Option<String>,
    pub out_of_scope: Option<bool>,
    /// 1 low, 2 medium, 3 high.
    pub risk: Option<u8>,
    pub risk_reason: Option<String>,
    pub monitored: Option<bool>,
    /// Whether its content changes.
    #[serde(default)]
    pub changes: bool,
}

/// Reads a time from now, such as `20d` or `-1d`.
pub fn parse_from_now(text: &str) -> Result<TimeDelta, String> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let duration = parse_duration(text)?;
    let delta = TimeDelta::from_std(duration).ok().filter(|delta| *delta <= TimeDelta::days(36_500));
    delta.map(|delta| delta * sign).ok_or_else(|| format!("`{text}` is longer than a hundred years"))
}

impl Change {
    /// What is wrong with it, whatever the target.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let ends = [
            ("certificate", self.certificate.as_ref().and_then(|one| one.expires_in.as_ref())),
            ("registration", self.registration.as_ref().and_then(|one| one.expires_in.as_ref())),
        ];
        for (field, text) in ends {
            problems.extend(text.and_then(|text| parse_from_now(text).err()).map(|reason| (field, reason)));
        }
        if let Some(Fix::Word(word)) = &self.fix
            && word != "all"
        {
            problems.push(("fix", format!("`{word}` is neither `all` nor a list of weaknesses")));
        }
        if let Some(Fix::Keys(keys)) = &self.fix {
            problems.extend(Findings::Keys(keys.clone()).check().err().map(|reason| ("fix", reason)));
        }
        for (field, port) in
            [("open_port", &self.open_port), ("close_port", &self.close_port), ("banner", &self.banner)]
        {
            let Some(port) = port else { continue };
            if port.port == 0 {
                problems.push((field, "port must be from 1 to 65535".to_owned()));
            }
            if port.protocol.as_ref().is_some_and(|protocol| !matches!(protocol.as_str(), "tcp" | "udp")) {
                problems.push((field, "protocol must be tcp or udp".to_owned()));
            }
        }
        let risks = [
            ("certificate", self.certificate.as_ref().and_then(|one| one.risk)),
            ("element", self.element.as_ref().and_then(|one| one.risk)),
        ];
        for (field, risk) in risks {
            problems.extend(
                risk.filter(|risk| !(1..=3).contains(risk)).map(|_| (field, "risk must be from 1 to 3".to_owned())),
            );
        }
        problems.extend(self.introduce.as_ref().and_then(|one| one.check().err()).map(|reason| ("introduce", reason)));
        problems
    }
}

/// Changes a target.
pub fn change_target(
    world: &mut World,
    id: ObjectId,
    change: &Change,
    at: DateTime<Utc>,
) -> Result<Arc<Target>, Refusal> {
    if let Some((field, reason)) = change.check().into_iter().next() {
        return Err(Refusal::field(&format!("/{field}"), reason));
    }
    let target = world.target(id).cloned().ok_or_else(|| missing("target", id))?;
    match &change.fix {
        Some(Fix::Word(_)) => drop(fix(world, &target, None, at)?),
        Some(Fix::Keys(keys)) => drop(fix(world, &target, Some(keys), at)?),
        None => (),
    }
    if let Some(findings) = &change.introduce {
        add_weaknesses(world, &target, findings, None, at)?;
    }
    let mut changed = Target::clone(&target);
    if let Some(is_reachable) = change.reachable {
        changed.is_unreachable = !is_reachable;
    }
    let host = changed.host();
    change_surface(&mut changed.surface, change, &host, at)?;
    if changed.surface.size() > MOST_SEEN {
        return Err(Refusal::Conflict(format!("there are {MOST_SEEN} things to see of this target already")));
    }
    changed.changed_at = at;
    let changed = Arc::new(changed);
    world.put(Arc::clone(&changed));
    Ok(changed)
}

fn change_surface(surface: &mut Surface, change: &Change, host: &str, at: DateTime<Utc>) -> Result<(), Refusal> {
    if let Some(port) = &change.open_port {
        open_port(surface, port)?;
    }
    if let Some(port) = &change.close_port {
        close_port(surface, port);
    }
    if let Some(port) = &change.banner {
        let known = surface.ports.iter_mut().find(|one| one.port == port.port);
        let known = known.ok_or_else(|| Refusal::field("/banner", format!("port {} is not open", port.port)))?;
        known.banner = port.banner.clone().unwrap_or_default();
    }
    if let Some(TechnologyChange { name, version }) = change.technology.clone() {
        surface.technologies.retain(|one| one.name != name);
        surface.technologies.push(Technology { name, version });
    }
    if let Some(new) = &change.certificate {
        change_certificate(surface, new, host, at)?;
    }
    if let Some(new) = &change.registration {
        let end = expiry(new.expires_in.as_deref(), at)?;
        let registration = surface.registration.get_or_insert_with(|| Registration {
            domain: host.to_owned(),
            registrar: "Example Registrar".to_owned(),
            expires_at: at + TimeDelta::days(365),
        });
        registration.expires_at = end.unwrap_or(registration.expires_at);
        registration.registrar = new.registrar.clone().unwrap_or(registration.registrar.clone());
    }
    if let Some(new) = &change.element {
        change_element(surface, new, host);
    }
    let lists = [
        (&change.email, &mut surface.emails),
        (&change.phone, &mut surface.phones),
        (&change.host, &mut surface.hosts),
        (&change.tld, &mut surface.tlds),
    ];
    for (new, list) in lists {
        list.extend(new.clone().filter(|new| !list.contains(new)));
    }
    if let Some(ip) = change.ip.clone()
        && surface.addresses.iter().all(|one| one.ip != ip)
    {
        surface.addresses.push(NetworkAddress { ip, ports: Vec::new() });
    }
    if let Some(ip) = &change.ip_gone {
        surface.addresses.retain(|one| one.ip != *ip);
    }
    Ok(())
}

fn open_port(surface: &mut Surface, new: &PortChange) -> Result<(), Refusal> {
    let protocol = new.protocol.clone().unwrap_or_else(|| "tcp".to_owned());
    if let Some(ip) = &new.ip {
        let address = surface.addresses.iter_mut().find(|one| one.ip == *ip);
        let address = address.ok_or_else(|| Refusal::field("/open_port/ip", format!("{ip} does not answer")))?;
        if !address.ports.contains(&(new.port, protocol.clone())) {
            address.ports.push((new.port, protocol));
        }
        return Ok(());
    }
    surface.ports.retain(|one| (one.port, &one.protocol) != (new.port, &protocol));
    let service = new.service.clone().unwrap_or_else(|| "unknown".to_owned());
    surface.ports.push(Port { port: new.port, protocol, service, banner: new.banner.clone().unwrap_or_default() });
    Ok(())
}

fn close_port(surface: &mut Surface, gone: &PortChange) {
    let protocol = gone.protocol.as_deref().unwrap_or("tcp");
    match &gone.ip {
        Some(ip) => {
            let addresses = surface.addresses.iter_mut().filter(|one| one.ip == *ip);
            addresses.for_each(|one| one.ports.retain(|(port, of)| (*port, of.as_str()) != (gone.port, protocol)));
        }
        None => surface.ports.retain(|one| (one.port, one.protocol.as_str()) != (gone.port, protocol)),
    }
}

fn expiry(text: Option<&str>, at: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Refusal> {
    let delta = text.map(parse_from_now).transpose().map_err(|reason| Refusal::field("/expires_in", reason))?;
    Ok(delta.map(|delta| at + delta))
}

fn change_certificate(
    surface: &mut Surface,
    new: &CertificateChange,
    host: &str,
    at: DateTime<Utc>,
) -> Result<(), Refusal> {
    let end = expiry(new.expires_in.as_deref(), at)?;
    let certificate = surface.certificate.get_or_insert_with(|| Certificate {
        subject: host.to_owned(),
        issuer: "Example Trust RSA CA 2".to_owned(),
        issuer_country: "US".to_owned(),
        expires_at: at + TimeDelta::days(365),
        risk: 1,
        risk_reason: String::new(),
    });
    certificate.expires_at = end.unwrap_or(certificate.expires_at);
    certificate.risk = new.risk.unwrap_or(certificate.risk);
    for (new, field) in [
        (&new.issuer, &mut certificate.issuer),
        (&new.issuer_country, &mut certificate.issuer_country),
        (&new.risk_reason, &mut certificate.risk_reason),
    ] {
        if let Some(new) = new {
            field.clone_from(new);
        }
    }
    Ok(())
}

fn change_element(surface: &mut Surface, new: &ElementChange, host: &str) {
    let index = surface.elements.iter().position(|one| one.kind == new.kind && one.name == new.name);
    let index = index.unwrap_or_else(|| {
        surface.elements.push(Element::new(new.kind, &new.name, host));
        surface.elements.len() - 1
    });
    let element = &mut surface.elements[index];
    element.is_out_of_scope = new.out_of_scope.unwrap_or(element.is_out_of_scope);
    element.is_monitored = new.monitored.unwrap_or(element.is_monitored);
    element.risk = new.risk.unwrap_or(element.risk);
    element.revision += u32::from(new.changes);
    for (new, field) in [
        (&new.host, &mut element.host),
        (&new.country, &mut element.country),
        (&new.risk_reason, &mut element.risk_reason),
    ] {
        if let Some(new) = new {
            field.clone_from(new);
        }
    }
}
