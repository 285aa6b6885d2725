//! Where settings come from: the defaults, a file, the environment, flags; and the origin of each.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Provider};

use super::{Config, DEFAULTS, hide_password};

const ENVIRONMENT_PREFIX: &str = "SCANHOOK__";

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn a_value_that_would_break_the_daemon_later_is_refused_at_once() {
        for (name, value, problem) in [
            ("SCANHOOK__DISPATCH__LEASE", "299ms", "dispatch.lease: must be at least 300ms"),
            ("SCANHOOK__DISPATCH__RETRY_AFTER_LIMIT", "31days", "dispatch.retry_after_limit: must be at most 30days"),
            ("SCANHOOK__DATABASE__CONNECTIONS", "4294967295", "database.connections: must be at most 1000"),
        ] {
            assert_eq!(load(&[(name, value)]).expect_err(name).0, [problem]);
        }
    }

    #[test]
    fn open_mode_is_refused_off_loopback_unless_told_so_in_words() {
        let listen = ("SCANHOOK__SERVER__LISTEN", "0.0.0.0:7226");
        let errors = load(&[listen]).expect_err("exposed");
        assert!(errors.to_string().contains("can be reached from elsewhere"));
        assert!(load(&[listen, ("SCANHOOK__AUTH__MODE", "open-to-anyone")]).is_ok());
        assert!(load(&[listen, ("SCANHOOK__AUTH__MODE", "keys")]).is_err());
        // Without the role api there is nothing to be opened.
        assert!(load(&[listen, ("SCANHOOK__SERVER__ROLES", "dispatch,scan")]).is_ok());
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
