//! The settings: read once, checked once with all errors at once, passed down as parts.
//!
//! `config.toml` at the root is the documentation and the defaults. A file, the environment and
//! flags override it, in this order. Nothing else reads the environment.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

mod shown;
mod sources;

pub use shown::hide_password;
pub use sources::{ConfigErrors, Origin, Sources, environment};

use crate::clock::check_time;
use crate::event::Vendor;
use crate::role::{Role, Roles};
use crate::schedule::{RetrySchedule, human};
use crate::world::ticks::NewSchedule;

/// The documented defaults.
pub const DEFAULTS: &str = include_str!("../../config.toml");

/// Every setting. See `config.toml` for what each means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub auth: Auth,
    pub database: Database,
    pub publish: Publish,
    pub dispatch: Dispatch,
    pub vendors: Vendors,
    pub scanner: ScannerSettings,
    pub chance: ChanceSettings,
    pub clock: ClockSettings,
    pub log: Log,
    pub client: Client,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    /// Which parts this process plays.
    pub roles: Roles,
    pub body_limit_bytes: usize,
    pub batch_body_limit_bytes: usize,
    #[serde(with = "human")]
    pub shutdown_limit: Duration,
}

/// Who may use the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMode {
    Open,
    Keys,
    OpenToAnyone,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub mode: AuthMode,
    pub default_key: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Auth({:?})", self.mode)
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: String,
    pub connections: u32,
    #[serde(with = "human")]
    pub connect_timeout: Duration,
    #[serde(with = "human")]
    pub answer_timeout: Duration,
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Database({} connections)", self.connections)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispatch {
    pub concurrency: usize,
    pub concurrency_per_subscriber: usize,
    pub in_hand: usize,
    pub in_hand_per_subscriber: usize,
    #[serde(with = "human")]
    pub lease: Duration,
    #[serde(with = "human")]
    pub poll_every: Duration,
    #[serde(with = "human")]
    pub timeout: Duration,
    pub jitter: f64,
    #[serde(with = "human")]
    pub retry_after_limit: Duration,
    #[serde(with = "human")]
    pub disable_after: Duration,
    pub blocked_networks: Vec<IpNet>,
    pub extra_ca_file: PathBuf,
    pub map_hosts: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vendors {
    pub standard: VendorSettings,
    pub hostedscan: VendorSettings,
    pub halo: VendorSettings,
    pub probely: VendorSettings,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorSettings {
    pub retry_schedule: RetrySchedule,
    /// Where the vendor's own API listens by itself, besides the main address.
    #[serde(default, deserialize_with = "address")]
    pub listen: Option<SocketAddr>,
    /// PEM files; both or none.
    #[serde(default)]
    pub tls_cert_file: PathBuf,
    #[serde(default)]
    pub tls_key_file: PathBuf,
    /// Whether the vendor's API takes webhooks at https URLs only.
    #[serde(default)]
    pub https_only: bool,
}

/// An address, or the empty text for none.
fn address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || serde::de::Error::custom("must be \"\" or an address and a port, such as 127.0.0.1:8443");
    text.parse().map(Some).map_err(|_| wrong())
}

impl Vendors {
    /// The settings of one vendor.
    pub fn of(&self, vendor: Vendor) -> &VendorSettings {
        match vendor {
            Vendor::Standard => &self.standard,
            Vendor::Hostedscan => &self.hostedscan,
            Vendor::Halo => &self.halo,
            Vendor::Probely => &self.probely,
        }
    }
}

/// How a content is checked against its event type's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Validation {
    /// Not at all.
    Off,
    /// What is wrong is told, and the event is published.
    Warn,
    /// What is wrong is refused.
    Enforce,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    pub validation: Validation,
}

/// The fake scanner.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScannerSettings {
    pub time_scale: f64,
    pub vendors: Vec<Vendor>,
    #[serde(with = "human")]
    pub poll_every: Duration,
    pub schedule: Vec<NewSchedule>,
}

/// Where chance comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seed {
    Random,
    Fixed(u64),
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value.as_str() == Some("random") {
            return Ok(Self::Random);
        }
        let wrong = || serde::de::Error::custom("must be \"random\" or a whole number from 0");
        value.as_u64().map(Self::Fixed).ok_or_else(wrong)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChanceSettings {
    pub seed: Seed,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockSettings {
    /// Where the default account's own clock stands at the start.
    #[serde(deserialize_with = "time")]
    pub manual_from: Option<DateTime<Utc>>,
}

/// A time, or the empty text for none.
fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || serde::de::Error::custom("must be \"\" or a time from 1970 to 9999, such as 2026-01-01T00:00:00Z");
    let time = text.parse().map_err(|_| wrong())?;
    check_time("", time).map(|()| Some(time.trunc_subsecs(6))).map_err(|_| wrong())
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub url: Url,
    pub api_key: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Client({})", self.url)
    }
}

impl Config {
    /// The documented defaults, with nothing overridden.
    pub fn defaults() -> Self {
        let (config, _) = Self::load(&Sources::default()).expect("a test holds that the defaults are valid");
        config
    }

    /// What is wrong with values that are well-formed.
    fn contradictions(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        let Dispatch { concurrency, concurrency_per_subscriber, in_hand, in_hand_per_subscriber, .. } = self.dispatch;
        for (key, number) in [
            ("server.body_limit_bytes", self.server.body_limit_bytes),
            ("server.batch_body_limit_bytes", self.server.batch_body_limit_bytes),
            ("database.connections", self.database.connections as usize),
            ("dispatch.concurrency", concurrency),
            ("dispatch.concurrency_per_subscriber", concurrency_per_subscriber),
            ("dispatch.in_hand", in_hand),
            ("dispatch.in_hand_per_subscriber", in_hand_per_subscriber),
        ] {
            require(number >= 1, &format!("{key}: must be at least 1"));
        }
        require(self.database.connections <= 1_000, "database.connections: must be at most 1000");
        let is_pair = |pair: &String| pair.split_once('=').is_some_and(|(from, to)| !from.is_empty() && !to.is_empty());
        let form = "dispatch.map_hosts: each must be FROM=TO, such as localhost=host.docker.internal";
        require(self.dispatch.map_hosts.iter().all(is_pair), form);
        require(in_hand <= 100_000, "dispatch.in_hand: must be at most 100000");
        for (key, duration) in [
            ("dispatch.lease", self.dispatch.lease),
            ("dispatch.poll_every", self.dispatch.poll_every),
            ("dispatch.timeout", self.dispatch.timeout),
            ("database.connect_timeout", self.database.connect_timeout),
            ("database.answer_timeout", self.database.answer_timeout),
            ("scanner.poll_every", self.scanner.poll_every),
        ] {
            let day = Duration::from_secs(86_400);
            let holds = (Duration::from_millis(10)..=day).contains(&duration);
            require(holds, &format!("{key}: must be from 10ms to 1day"));
        }
        // Renewals must keep up with commits.
        require(self.dispatch.lease >= Duration::from_millis(300), "dispatch.lease: must be at least 300ms");
        let month = Duration::from_secs(30 * 86_400);
        require(self.dispatch.retry_after_limit <= month, "dispatch.retry_after_limit: must be at most 30days");
        require((0.0..=1.0).contains(&self.dispatch.jitter), "dispatch.jitter: must be from 0 to 1");
        let scale = self.scanner.time_scale;
        require((0.001..=1_000_000.0).contains(&scale), "scanner.time_scale: must be from 0.001 to 1000000");
        let told = self.scanner.vendors.iter().all(|vendor| *vendor != Vendor::Standard);
        require(told, "scanner.vendors: standard has no words of its own for a scan; leave it out");
        for (index, schedule) in self.scanner.schedule.iter().enumerate() {
            // Whether it ever fires does not depend on the day it is asked.
            for problem in schedule.check(DateTime::UNIX_EPOCH + TimeDelta::days(20_000)) {
                require(
                    false,
                    &format!("scanner.schedule.{index}{}: {}", problem.pointer.replace('/', "."), problem.reason),
                );
            }
        }
        // Where nobody is let in, it does not matter who may.
        let serves_api = self.server.roles.has(Role::Api);
        let keyless = self.auth.mode == AuthMode::Keys && self.auth.default_key.is_empty();
        require(!(keyless && serves_api), "auth.default_key: must be set when auth.mode is \"keys\"");
        problems.extend(self.roles_problem());
        if serves_api {
            problems.extend(self.exposures());
        }
        let mut require = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        require(matches!(self.client.url.scheme(), "http" | "https"), "client.url: must be http:// or https://");
        let filter = tracing_subscriber::EnvFilter::from_str(&self.log.level);
        require(
            filter.is_ok(),
            "log.level: must be error, warn, info, debug, trace, or a filter such as info,sqlx=debug",
        );
        problems
    }

    /// What is wrong with the roles.
    fn roles_problem(&self) -> Option<String> {
        let roles = &self.server.roles;
        if roles.is_empty() {
            return Some(
                "server.roles: name at least one of api, dispatch and scan, or leave it out for all".to_owned(),
            );
        }
        let file = self.database.url.strip_prefix("sqlite:").unwrap_or_default();
        let in_memory = file.strip_prefix("//").unwrap_or(file) == ":memory:";
        let missing = roles.missing();
        (in_memory && !missing.is_empty()).then(|| {
            format!(
                "server.roles: {missing} is missing, and no other process can do that in a database in memory; leave the roles out for all of them, or give a file or Postgres by database.url (--database-url)"
            )
        })
    }

    /// What is wrong with the addresses that are listened on.
    fn exposures(&self) -> Vec<String> {
        let of_vendor = |vendor: Vendor| (format!("vendors.{vendor}.listen"), self.vendors.of(vendor).listen);
        let listens = std::iter::once(("server.listen".to_owned(), Some(self.server.listen)));
        let exposed = listens.chain(Vendor::ALL.map(of_vendor)).filter_map(|(key, listen)| {
            let listen = listen.filter(|listen| !listen.ip().to_canonical().is_loopback())?;
            (self.auth.mode == AuthMode::Open).then(|| {
                format!(
                    "auth.mode: is \"open\", but {key} {listen} can be reached from elsewhere; set it to \"keys\" with auth.default_key, or to \"open-to-anyone\""
                )
            })
        });
        let with_tls = Vendor::ALL.into_iter().filter_map(|vendor| {
            let VendorSettings { listen, tls_cert_file, tls_key_file, .. } = self.vendors.of(vendor);
            let [cert, key] = [tls_cert_file, tls_key_file].map(|file| !file.as_os_str().is_empty());
            match (cert, key) {
                (true, true) if listen.is_none() => {
                    Some(format!("vendors.{vendor}.tls_cert_file: needs vendors.{vendor}.listen"))
                }
                (true, true) | (false, false) => None,
                _ => Some(format!("vendors.{vendor}.tls_cert_file and tls_key_file: give both or none")),
            }
        });
        exposed.chain(with_tls).collect()
    }
}
