//! The settings: read once, checked once with all errors at once, passed down as parts.
//!
//! `config.toml` at the root is the documentation and the defaults. A file, the environment and
//! flags override it, in this order. Nothing else reads the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Provider};
use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

use crate::event::Vendor;
use crate::schedule::{RetrySchedule, human};

/// The documented defaults.
pub const DEFAULTS: &str = include_str!("../config.toml");
const ENVIRONMENT_PREFIX: &str = "SCANHOOK__";

/// Every setting. See `config.toml` for what each means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub auth: Auth,
    pub database: Database,
    pub dispatch: Dispatch,
    pub vendors: Vendors,
    pub chance: ChanceSettings,
    pub log: Log,
    pub client: Client,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
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
    pub blocked_networks: Vec<IpNet>,
    pub extra_ca_file: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vendors {
    pub standard: VendorSettings,
    pub hostedscan: VendorSettings,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorSettings {
    pub retry_schedule: RetrySchedule,
}

impl Vendors {
    /// The settings of one vendor.
    pub fn of(&self, vendor: Vendor) -> &VendorSettings {
        match vendor {
            Vendor::Standard => &self.standard,
            Vendor::Hostedscan => &self.hostedscan,
        }
    }
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

/// One setting in force: its value fit to be shown, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    pub key: String,
    pub value: String,
    pub source: String,
}

/// All that is wrong with the settings.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the settings have {} problem(s):", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// A value that overrides a default.
struct Override {
    key: String,
    value: Value,
    source: String,
}

/// What overrides the defaults.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// The environment's variables.
    pub environment: Vec<(String, String)>,
    /// Keys, values and the flags that set them.
    pub flags: Vec<(&'static str, String, &'static str)>,
}

/// The environment of this process, as far as it is text.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl Config {
    /// The documented defaults, with nothing overridden.
    pub fn defaults() -> Self {
        let (config, _) = Self::load(&Sources::default()).expect("a test holds that the defaults are valid");
        config
    }

    /// Reads the settings from all sources and checks them. All errors are told at once.
    pub fn load(sources: &Sources) -> Result<(Self, Vec<Origin>), ConfigErrors> {
        let defaults = Figment::from(Toml::string(DEFAULTS));
        let known = leaves(&dictionary(&defaults), &BTreeMap::new());
        let mut problems = Vec::new();
        let mut merged = defaults.clone();
        let mut origins: BTreeMap<String, Origin> = known
            .iter()
            .map(|(key, value)| {
                (key.clone(), Origin { key: key.clone(), value: show(key, value), source: "default".into() })
            })
            .collect();
        for Override { key, value, source } in overrides(sources, &known, &mut problems) {
            if !known.contains_key(&key) {
                problems.push(unknown(&key, &source, &known));
                continue;
            }
            let one = Serialized::default(&key, &value);
            if let Err(error) = defaults.clone().merge(&one).extract::<Self>() {
                problems.push(format!("{key}: {} (from {source})", error.kind));
                continue;
            }
            merged = merged.merge(&one);
            let shown = show(&key, &value);
            origins.insert(key.clone(), Origin { key, value: shown, source });
        }
        let config = match merged.extract::<Self>() {
            Ok(config) => config,
            Err(error) => {
                problems.push(error.to_string());
                return Err(ConfigErrors(problems));
            }
        };
        problems.extend(config.contradictions());
        if problems.is_empty() { Ok((config, origins.into_values().collect())) } else { Err(ConfigErrors(problems)) }
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
        let at_least_one = "must be at least 1";
        for (key, number) in [
            ("server.body_limit_bytes", self.server.body_limit_bytes),
            ("server.batch_body_limit_bytes", self.server.batch_body_limit_bytes),
            ("database.connections", self.database.connections as usize),
            ("dispatch.concurrency", concurrency),
            ("dispatch.concurrency_per_subscriber", concurrency_per_subscriber),
            ("dispatch.in_hand", in_hand),
            ("dispatch.in_hand_per_subscriber", in_hand_per_subscriber),
        ] {
            require(number >= 1, &format!("{key}: {at_least_one}"));
        }
        require(in_hand <= 100_000, "dispatch.in_hand: must be at most 100000");
        for (key, duration) in [
            ("dispatch.lease", self.dispatch.lease),
            ("dispatch.poll_every", self.dispatch.poll_every),
            ("dispatch.timeout", self.dispatch.timeout),
            ("database.connect_timeout", self.database.connect_timeout),
        ] {
            let day = Duration::from_secs(86_400);
            let holds = (Duration::from_millis(10)..=day).contains(&duration);
            require(holds, &format!("{key}: must be from 10ms to 1day"));
        }
        require((0.0..=1.0).contains(&self.dispatch.jitter), "dispatch.jitter: must be from 0 to 1");
        let keyless = self.auth.mode == AuthMode::Keys && self.auth.default_key.is_empty();
        require(!keyless, "auth.default_key: must be set when auth.mode is \"keys\"");
        let exposed = self.auth.mode == AuthMode::Open && !self.server.listen.ip().to_canonical().is_loopback();
        require(
            !exposed,
            &format!(
                "auth.mode: is \"open\", but server.listen {} can be reached from elsewhere; set it to \"keys\" with auth.default_key, or to \"open-to-anyone\"",
                self.server.listen
            ),
        );
        require(matches!(self.client.url.scheme(), "http" | "https"), "client.url: must be http:// or https://");
        let filter = tracing_subscriber::EnvFilter::from_str(&self.log.level);
        require(
            filter.is_ok(),
            "log.level: must be error, warn, info, debug, trace, or a filter such as info,sqlx=debug",
        );
        problems
    }
}

fn dictionary(figment: &Figment) -> Dict {
    figment.data().ok().and_then(|mut profiles| profiles.remove(&figment::Profile::Default)).unwrap_or_default()
}

/// The leaves of a dictionary by dotted key. A key of `known` is a leaf whatever its value.
fn leaves(dictionary: &Dict, known: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    fn descend(prefix: &str, dictionary: &Dict, known: &BTreeMap<String, Value>, found: &mut BTreeMap<String, Value>) {
        for (name, value) in dictionary {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value.as_dict() {
                Some(inner) if !known.contains_key(&key) && name != "retry_schedule" => {
                    descend(&key, inner, known, found);
                }
                _ => {
                    found.insert(key, value.clone());
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    descend("", dictionary, known, &mut found);
    found
}

/// All that overrides the defaults, the weakest first.
fn overrides(sources: &Sources, known: &BTreeMap<String, Value>, problems: &mut Vec<String>) -> Vec<Override> {
    let mut overrides = Vec::new();
    if let Some(path) = &sources.file {
        match read_file(path) {
            Ok(dictionary) => {
                let source = path.display().to_string();
                let of_file = |(key, value)| Override { key, value, source: source.clone() };
                overrides.extend(leaves(&dictionary, known).into_iter().map(of_file));
            }
            Err(problem) => problems.push(problem),
        }
    }
    for (name, text) in &sources.environment {
        let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let key = path.to_ascii_lowercase().replace("__", ".");
        overrides.push(Override { value: parse(&key, text, known), key, source: format!("environment {name}") });
    }
    for (key, text, flag) in &sources.flags {
        let key = (*key).to_owned();
        overrides.push(Override { value: parse(&key, text, known), key, source: format!("flag {flag}") });
    }
    overrides
}

/// Reads a value written as plain text; where the default is a text, the text is taken as it is.
fn parse(key: &str, text: &str, known: &BTreeMap<String, Value>) -> Value {
    match known.get(key) {
        Some(Value::String(..)) if key != "chance.seed" => Value::from(text),
        _ => Value::from_str(text).unwrap_or_else(|_| Value::from(text)),
    }
}

fn read_file(path: &Path) -> Result<Dict, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let profiles = Toml::string(&text).data().map_err(|error| format!("{shown}: {}", error.kind))?;
    Ok(profiles.into_values().next().unwrap_or_default())
}

fn unknown(key: &str, source: &str, known: &BTreeMap<String, Value>) -> String {
    let nearest = known.keys().max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
    format!("{key}: is not a setting (from {source}){hint}")
}

/// A value fit to be shown: secrets and passwords are hidden.
fn show(key: &str, value: &Value) -> String {
    let text = match value {
        Value::String(_, text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    };
    if matches!(key, "auth.default_key" | "client.api_key") && !text.is_empty() {
        return "***".to_owned();
    }
    if key.ends_with("url") { hide_password(&text) } else { text }
}

/// A URL fit to be shown: its password is hidden.
pub fn hide_password(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            // Only URLs that cannot have a password refuse one.
            let _ = parsed.set_password(Some("***"));
            parsed.to_string()
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<(Config, Vec<Origin>), ConfigErrors> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::load(&Sources { environment, ..Sources::default() })
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = Config::defaults();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:7226");
        assert_eq!(config.vendors.hostedscan.retry_schedule.waits().len(), 9);
    }

    #[test]
    fn the_environment_overrides_and_is_named_as_the_source() {
        let (config, origins) = load(&[("SCANHOOK__DISPATCH__LEASE", "5s"), ("HOME", "/")]).expect("valid");
        assert_eq!(config.dispatch.lease, Duration::from_secs(5));
        let origin = origins.iter().find(|origin| origin.key == "dispatch.lease").expect("listed");
        assert_eq!((&*origin.value, &*origin.source), ("5s", "environment SCANHOOK__DISPATCH__LEASE"));
    }

    #[test]
    fn flags_override_the_environment() {
        let sources = Sources {
            environment: vec![("SCANHOOK__SERVER__LISTEN".to_owned(), "127.0.0.1:1".to_owned())],
            flags: vec![("server.listen", "127.0.0.1:2".to_owned(), "--listen")],
            ..Sources::default()
        };
        let (config, _) = Config::load(&sources).expect("valid");
        assert_eq!(config.server.listen.port(), 2);
    }

    #[test]
    fn a_retry_schedule_may_be_a_list_or_a_formula_whatever_the_default_is() {
        let (config, _) =
            load(&[("SCANHOOK__VENDORS__HOSTEDSCAN__RETRY_SCHEDULE", "[\"1s\", \"2s\"]")]).expect("valid");
        assert_eq!(config.vendors.hostedscan.retry_schedule.waits().len(), 2);
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_key_and_source() {
        let errors = load(&[
            ("SCANHOOK__DISPATCH__LEESE", "5s"),
            ("SCANHOOK__DISPATCH__TIMEOUT", "soon"),
            ("SCANHOOK__DISPATCH__CONCURRENCY", "-1"),
            ("SCANHOOK__AUTH__MODE", "shut"),
            ("SCANHOOK__DISPATCH__JITTER", "7"),
            ("SCANHOOK__CHANCE__SEED", "dice"),
        ])
        .expect_err("six problems");
        let all = errors.to_string();
        for part in [
            "dispatch.leese: is not a setting (from environment SCANHOOK__DISPATCH__LEESE); did you mean `dispatch.lease`?",
            "dispatch.timeout: `soon` is not a duration",
            "dispatch.concurrency: ",
            "auth.mode: ",
            "dispatch.jitter: must be from 0 to 1",
            "chance.seed: must be \"random\" or a whole number",
        ] {
            assert!(all.contains(part), "{part} is missing in: {all}");
        }
        assert_eq!(errors.0.len(), 6);
    }

    #[test]
    fn open_mode_is_refused_off_loopback_unless_told_so_in_words() {
        let listen = ("SCANHOOK__SERVER__LISTEN", "0.0.0.0:7226");
        let errors = load(&[listen]).expect_err("exposed");
        assert!(errors.to_string().contains("can be reached from elsewhere"));
        assert!(load(&[listen, ("SCANHOOK__AUTH__MODE", "open-to-anyone")]).is_ok());
        assert!(load(&[listen, ("SCANHOOK__AUTH__MODE", "keys")]).is_err());
        assert!(load(&[listen, ("SCANHOOK__AUTH__MODE", "keys"), ("SCANHOOK__AUTH__DEFAULT_KEY", "k")]).is_ok());
    }

    #[test]
    fn secrets_and_passwords_are_not_shown() {
        let (_, origins) = load(&[
            ("SCANHOOK__CLIENT__API_KEY", "shk_word"),
            ("SCANHOOK__DATABASE__URL", "postgres://me:word@127.0.0.1/scanhook"),
        ])
        .expect("valid");
        assert!(origins.iter().all(|origin| !origin.value.contains("word")), "{origins:?}");
    }
}
