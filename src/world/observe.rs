//! What a scan sees of a target's surface that the scan before it had not seen.

use chrono::{DateTime, Utc};

use super::surface::{Certificate, Element, NetworkAddress, Port, Registration, Surface, Technology};

/// From how many days before it ends a certificate or a registration is said to expire soon.
/// (Assumed: the vendor's page was not found.)
const EXPIRES_SOON: i64 = 30;
/// From which rating a risk is told of: 1 is low, 2 medium, 3 high. (Documented for certificates:
/// from low up to medium or high. The numbers are assumed.)
const RISKY: u8 = 2;

/// What is new about a part of a website.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementChange {
    MonitoredChanged,
    NewCountry,
    OutOfScope,
    Risk,
}

/// What is new about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CertificateChange {
    NewIssuer,
    NewCountry,
    Risk,
    /// Days until it expires.
    Expiring(i64),
    Expired(i64),
}

/// What is new about a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegistrationChange {
    Changed,
    Expiring(i64),
    Expired(i64),
}

/// Something that a scan saw and that the one before it had not.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    PortOpened(Port),
    /// The banner before.
    BannerChanged(Port, String),
    /// Whether this is the first scan.
    TechnologySeen(Technology, bool),
    Certificate(Certificate, CertificateChange),
    Registration(Registration, RegistrationChange),
    Element(Element, ElementChange),
    EmailSeen(String),
    PhoneSeen(String),
    HostSeen(String),
    TldSeen(String),
    AddressSeen(String),
    AddressGone(String),
    NetworkPortOpened {
        ip: String,
        port: u16,
        protocol: String,
    },
    NetworkPortClosed {
        ip: String,
        port: u16,
        protocol: String,
    },
}

/// Says what a scan at `at` observes, given what the last one saw. A first scan has nothing to
/// compare with: it tells what it finds, not what has changed.
pub fn observe(seen: Option<(&Surface, DateTime<Utc>)>, now: &Surface, at: DateTime<Utc>) -> Vec<Observation> {
    let empty = Surface::default();
    let is_first = seen.is_none();
    let (before, before_at) = seen.unwrap_or((&empty, DateTime::<Utc>::MIN_UTC));
    let mut found = Vec::new();
    if !is_first {
        observe_ports(before, now, &mut found);
    }
    let technologies = now.technologies.iter().filter(|one| !before.technologies.contains(one));
    found.extend(technologies.map(|one| Observation::TechnologySeen(one.clone(), is_first)));
    if let Some(certificate) = &now.certificate {
        observe_certificate((before.certificate.as_ref(), before_at), certificate, at, &mut found);
    }
    if let Some(registration) = &now.registration {
        observe_registration((before.registration.as_ref(), before_at), registration, at, &mut found);
    }
    observe_elements((!is_first).then_some(before), now, &mut found);
    let is_new = |known: &[String]| {
        let known = known.to_vec();
        move |one: &&String| !known.contains(one)
    };
    if !is_first {
        found.extend(now.emails.iter().filter(is_new(&before.emails)).cloned().map(Observation::EmailSeen));
        found.extend(now.phones.iter().filter(is_new(&before.phones)).cloned().map(Observation::PhoneSeen));
    }
    found.extend(now.hosts.iter().filter(is_new(&before.hosts)).cloned().map(Observation::HostSeen));
    found.extend(now.tlds.iter().filter(is_new(&before.tlds)).cloned().map(Observation::TldSeen));
    observe_network(before, now, &mut found);
    found
}

fn observe_ports(before: &Surface, now: &Surface, found: &mut Vec<Observation>) {
    for port in &now.ports {
        let known = before.ports.iter().find(|one| (one.port, &one.protocol) == (port.port, &port.protocol));
        match known {
            None => found.push(Observation::PortOpened(port.clone())),
            Some(known) if known.banner != port.banner => {
                found.push(Observation::BannerChanged(port.clone(), known.banner.clone()));
            }
            Some(_) => (),
        }
    }
}

/// Whether something with this end is valid (0), expires soon (1) or has expired (2), and in how
/// many days.
fn expiry(expires_at: DateTime<Utc>, at: DateTime<Utc>) -> (u8, i64) {
    let days = (expires_at - at).num_seconds().div_euclid(86_400);
    match days {
        ..0 => (2, days),
        0..=EXPIRES_SOON => (1, days),
        _ => (0, days),
    }
}

fn observe_certificate(
    (before, before_at): (Option<&Certificate>, DateTime<Utc>),
    now: &Certificate,
    at: DateTime<Utc>,
    found: &mut Vec<Observation>,
) {
    let mut tell = |change| found.push(Observation::Certificate(now.clone(), change));
    if let Some(before) = before {
        if before.issuer != now.issuer {
            tell(CertificateChange::NewIssuer);
        }
        if before.issuer_country != now.issuer_country {
            tell(CertificateChange::NewCountry);
        }
    }
    if now.risk >= RISKY && before.is_none_or(|before| before.risk < RISKY) {
        tell(CertificateChange::Risk);
    }
    let (stage, days) = expiry(now.expires_at, at);
    let told = before.filter(|before| before.expires_at == now.expires_at);
    let told = told.map_or(0, |before| expiry(before.expires_at, before_at).0);
    match stage {
        2 if told < 2 => tell(CertificateChange::Expired(days)),
        1 if told < 1 => tell(CertificateChange::Expiring(days)),
        _ => (),
    }
}

fn observe_registration(
    (before, before_at): (Option<&Registration>, DateTime<Utc>),
    now: &Registration,
    at: DateTime<Utc>,
    found: &mut Vec<Observation>,
) {
    let mut tell = |change| found.push(Observation::Registration(now.clone(), change));
    if before.is_some_and(|before| before.registrar != now.registrar) {
        tell(RegistrationChange::Changed);
    }
    let (stage, days) = expiry(now.expires_at, at);
    let told = before.filter(|before| before.expires_at == now.expires_at);
    let told = told.map_or(0, |before| expiry(before.expires_at, before_at).0);
    match stage {
        2 if told < 2 => tell(RegistrationChange::Expired(days)),
        1 if told < 1 => tell(RegistrationChange::Expiring(days)),
        _ => (),
    }
}

fn observe_elements(before: Option<&Surface>, now: &Surface, found: &mut Vec<Observation>) {
    for element in &now.elements {
        let all = before.map(|before| before.elements.as_slice()).unwrap_or_default();
        let known: Vec<&Element> = all.iter().filter(|one| one.kind == element.kind).collect();
        let itself = known.iter().find(|one| one.name == element.name);
        let mut tell = |change| found.push(Observation::Element(element.clone(), change));
        if before.is_some() && known.iter().all(|one| one.country != element.country) {
            tell(ElementChange::NewCountry);
        }
        if element.is_out_of_scope && itself.is_none_or(|itself| !itself.is_out_of_scope) {
            tell(ElementChange::OutOfScope);
        }
        if element.risk >= RISKY && itself.is_none_or(|itself| itself.risk < RISKY) {
            tell(ElementChange::Risk);
        }
        if element.is_monitored && itself.is_some_and(|itself| itself.revision != element.revision) {
            tell(ElementChange::MonitoredChanged);
        }
    }
}

fn observe_network(before: &Surface, now: &Surface, found: &mut Vec<Observation>) {
    for address in &now.addresses {
        let known = before.addresses.iter().find(|one| one.ip == address.ip);
        if known.is_none() {
            found.push(Observation::AddressSeen(address.ip.clone()));
        }
        let was_open = |port: &&(u16, String)| known.is_some_and(|known| known.ports.contains(port));
        for (port, protocol) in address.ports.iter().filter(|port| !was_open(port)) {
            let (ip, port, protocol) = (address.ip.clone(), *port, protocol.clone());
            found.push(Observation::NetworkPortOpened { ip, port, protocol });
        }
        let closed = |port: &&(u16, String)| !address.ports.contains(port);
        for (port, protocol) in known.into_iter().flat_map(|known| known.ports.iter()).filter(closed) {
            let (ip, port, protocol) = (address.ip.clone(), *port, protocol.clone());
            found.push(Observation::NetworkPortClosed { ip, port, protocol });
        }
    }
    let is_gone = |one: &&NetworkAddress| now.addresses.iter().all(|address| address.ip != one.ip);
    found.extend(before.addresses.iter().filter(is_gone).map(|one| Observation::AddressGone(one.ip.clone())));
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::random::Chance;
    use crate::world::TargetKind;
    use crate::world::surface::ElementKind;

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(days)
    }

    fn website() -> Surface {
        Surface::draw(TargetKind::Host, "shop.example.test", at(0), &mut Chance::from_seed(1).stream("surface", 1))
    }

    #[test]
    fn a_first_scan_tells_what_it_finds_and_not_what_has_changed() {
        let surface = website();
        let found = observe(None, &surface, at(0));
        assert!(!found.is_empty());
        let is_found = |one: &Observation| matches!(one, Observation::TechnologySeen(_, true));
        assert!(found.iter().all(is_found), "{found:?}");
        assert_eq!(observe(Some((&surface, at(0))), &surface, at(1)), []);
    }

    #[test]
    fn a_certificate_is_told_of_once_as_it_nears_its_end_and_once_when_it_ends() {
        let mut surface = website();
        let certificate = surface.certificate.as_mut().expect("a website has one");
        certificate.expires_at = at(100);
        surface.registration = None;
        let mut told = Vec::new();
        let mut before = None;
        for day in (0..120).step_by(5) {
            let seen = before.map(|before| (&surface, before));
            for observation in observe(seen, &surface, at(day)) {
                if let Observation::Certificate(_, change) = observation {
                    told.push((day, change));
                }
            }
            before = Some(at(day));
        }
        assert_eq!(told, [(70, CertificateChange::Expiring(30)), (105, CertificateChange::Expired(-5))]);
    }

    #[test]
    fn every_change_of_an_element_is_seen() {
        let before = website();
        let mut now = before.clone();
        let element = now.elements.iter_mut().find(|one| one.kind == ElementKind::Form).expect("a form");
        element.is_out_of_scope = true;
        element.country = "BR".to_owned();
        element.risk = 3;
        element.is_monitored = true;
        element.revision = 1;
        let found = observe(Some((&before, at(0))), &now, at(1));
        let changes: Vec<ElementChange> = found
            .iter()
            .filter_map(|one| match one {
                Observation::Element(_, change) => Some(*change),
                _ => None,
            })
            .collect();
        use ElementChange::{MonitoredChanged, NewCountry, OutOfScope, Risk};
        assert_eq!(changes, [NewCountry, OutOfScope, Risk, MonitoredChanged]);
    }

    #[test]
    fn a_networks_addresses_and_ports_come_and_go() {
        let address = |ip: &str, ports: &[u16]| NetworkAddress {
            ip: ip.to_owned(),
            ports: ports.iter().map(|port| (*port, "tcp".to_owned())).collect(),
        };
        let before = Surface { addresses: vec![address("a", &[22, 80]), address("b", &[22])], ..Surface::default() };
        let now = Surface { addresses: vec![address("a", &[22, 443]), address("c", &[])], ..Surface::default() };
        let tcp = || "tcp".to_owned();
        assert_eq!(
            observe(Some((&before, at(0))), &now, at(1)),
            [
                Observation::NetworkPortOpened { ip: "a".to_owned(), port: 443, protocol: tcp() },
                Observation::NetworkPortClosed { ip: "a".to_owned(), port: 80, protocol: tcp() },
                Observation::AddressSeen("c".to_owned()),
                Observation::AddressGone("b".to_owned()),
            ]
        );
    }
}
