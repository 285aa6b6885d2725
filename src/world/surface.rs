//! What can be seen of a target from outside.

use chrono::{DateTime, TimeDelta, Utc};
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use super::nouns::TargetKind;
use super::{happens, pick};

/// What can be seen of a target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Surface {
    pub ports: Vec<Port>,
    pub technologies: Vec<Technology>,
    pub certificate: Option<Certificate>,
    /// How its domain is registered.
    pub registration: Option<Registration>,
    /// The parts of its website.
    pub elements: Vec<Element>,
    pub emails: Vec<String>,
    pub phones: Vec<String>,
    /// Of a domain: the hosts below it.
    pub hosts: Vec<String>,
    /// Of a domain: its name under other top-level domains.
    pub tlds: Vec<String>,
    /// Of a network: the addresses that answer.
    pub addresses: Vec<NetworkAddress>,
}

/// An open port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub port: u16,
    pub protocol: String,
    pub service: String,
    pub banner: String,
}

/// A product that a website is made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Technology {
    pub name: String,
    pub version: String,
}

/// The certificate that a website shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// Two letters.
    pub issuer_country: String,
    pub expires_at: DateTime<Utc>,
    /// 1 low, 2 medium, 3 high.
    pub risk: u8,
    pub risk_reason: String,
}

/// How a domain is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub domain: String,
    pub registrar: String,
    pub expires_at: DateTime<Utc>,
}

/// What kind of part of a website.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ElementKind {
    Cookie,
    Download,
    Form,
    Header,
    Link,
    Script,
    Traffic,
}

impl ElementKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Cookie, Self::Download, Self::Form, Self::Header, Self::Link, Self::Script, Self::Traffic];
}

/// A part of a website.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    pub kind: ElementKind,
    /// A cookie's or a header's name, a form's action, or a URL; of traffic, the host.
    pub name: String,
    /// The host that it belongs to or leads to.
    pub host: String,
    /// Two letters: where that host is.
    pub country: String,
    pub is_out_of_scope: bool,
    /// 1 low, 2 medium, 3 high.
    pub risk: u8,
    pub risk_reason: String,
    /// Whether a user wants to hear of its changes.
    pub is_monitored: bool,
    /// Grows when it changes.
    pub revision: u32,
}

/// An address of a network that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAddress {
    pub ip: String,
    /// Ports and protocols.
    pub ports: Vec<(u16, String)>,
}

impl Surface {
    /// How many things there are to see.
    pub fn size(&self) -> usize {
        let ports: usize = self.addresses.iter().map(|address| 1 + address.ports.len()).sum();
        let names = [&self.emails, &self.phones, &self.hosts, &self.tlds];
        let names: usize = names.iter().map(|names| names.len()).sum();
        ports + names + self.ports.len() + self.technologies.len() + self.elements.len()
    }

    /// Draws what can be seen of a new target.
    pub fn draw(kind: TargetKind, host: &str, at: DateTime<Utc>, rng: &mut ChaCha12Rng) -> Self {
        let mut surface = Self::default();
        match kind {
            TargetKind::Host | TargetKind::Url => surface.draw_website(host, at, rng),
            TargetKind::Domain => {
                for name in ["www", "mail", "api", "shop", "dev"] {
                    if happens(0.7, rng) {
                        surface.hosts.push(format!("{name}.{host}"));
                    }
                }
                surface.registration = Some(Registration::draw(host, at, rng));
            }
            TargetKind::Network => {
                let base = host.split('/').next().unwrap_or(host);
                let prefix = base.rsplit_once('.').map_or(base, |(prefix, _)| prefix);
                for last in 1..=6 {
                    if happens(0.6, rng) {
                        let mut ports = vec![(443, "tcp".to_owned())];
                        ports.extend(happens(0.5, rng).then(|| (22, "tcp".to_owned())));
                        surface.addresses.push(NetworkAddress { ip: format!("{prefix}.{last}"), ports });
                    }
                }
            }
        }
        surface
    }

    fn draw_website(&mut self, host: &str, at: DateTime<Utc>, rng: &mut ChaCha12Rng) {
        let port = |port, service: &str, banner: &str| Port {
            port,
            protocol: "tcp".to_owned(),
            service: service.to_owned(),
            banner: banner.to_owned(),
        };
        self.ports = vec![port(80, "http", "nginx 1.24.0"), port(443, "https", "nginx 1.24.0")];
        self.ports.extend(happens(0.4, rng).then(|| port(22, "ssh", "OpenSSH 9.2p1")));
        self.ports.extend(happens(0.2, rng).then(|| port(465, "smtps", "Exim smtpd 4.96")));
        for (name, version) in [("nginx", "1.24.0"), ("PHP", "8.1.2"), ("jQuery", "3.6.0"), ("PostgreSQL", "15.4")] {
            if happens(0.6, rng) {
                self.technologies.push(Technology { name: name.to_owned(), version: version.to_owned() });
            }
        }
        let issuers = [("Example Trust RSA CA 2", "US"), ("Example Secure Server CA", "GB"), ("Example E1", "DE")];
        let (issuer, country) = pick(&issuers, rng).copied().unwrap_or(issuers[0]);
        let days = 60 + i64::from(rng.next_u32() % 240);
        self.certificate = Some(Certificate {
            subject: host.to_owned(),
            issuer: issuer.to_owned(),
            issuer_country: country.to_owned(),
            expires_at: at + TimeDelta::days(days),
            risk: 1,
            risk_reason: String::new(),
        });
        self.registration = Some(Registration::draw(host, at, rng));
        for (kind, name) in [
            (ElementKind::Cookie, "session".to_owned()),
            (ElementKind::Form, "login".to_owned()),
            (ElementKind::Header, "Content-Security-Policy".to_owned()),
            (ElementKind::Script, format!("https://{host}/app.js")),
        ] {
            self.elements.push(Element::new(kind, &name, host));
        }
    }
}

impl Registration {
    fn draw(host: &str, at: DateTime<Utc>, rng: &mut ChaCha12Rng) -> Self {
        let mut labels: Vec<&str> = host.rsplit('.').take(2).collect();
        labels.reverse();
        let days = 90 + i64::from(rng.next_u32() % 600);
        Self {
            domain: labels.join("."),
            registrar: "Example Registrar".to_owned(),
            expires_at: at + TimeDelta::days(days),
        }
    }
}

impl Element {
    /// A harmless part of a website.
    pub fn new(kind: ElementKind, name: &str, host: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            host: host.to_owned(),
            country: "US".to_owned(),
            is_out_of_scope: false,
            risk: 1,
            risk_reason: String::new(),
            is_monitored: false,
            revision: 0,
        }
    }
}
