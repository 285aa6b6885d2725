//! What weaknesses there are: a catalogue of realistic definitions, from a data file.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TargetKind;
use crate::problem::quote;

/// What looks for weaknesses. (HostedScan's six scan types.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Scanner {
    Nmap,
    NmapUdp,
    Openvas,
    OwaspZap,
    OwaspZapActive,
    Sslyze,
}

impl Scanner {
    /// Every scanner.
    pub const ALL: [Self; 6] =
        [Self::Nmap, Self::NmapUdp, Self::Openvas, Self::OwaspZap, Self::OwaspZapActive, Self::Sslyze];

    /// Its name, as HostedScan writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nmap => "NMAP",
            Self::NmapUdp => "NMAP_UDP",
            Self::Openvas => "OPENVAS",
            Self::OwaspZap => "OWASP_ZAP",
            Self::OwaspZapActive => "OWASP_ZAP_ACTIVE",
            Self::Sslyze => "SSLYZE",
        }
    }

    /// How long one scan takes in the real world, in minutes: from, to. (Assumed.)
    pub fn minutes(self) -> (u64, u64) {
        match self {
            Self::Nmap => (3, 10),
            Self::NmapUdp => (15, 30),
            Self::Openvas => (30, 90),
            Self::OwaspZap => (10, 30),
            Self::OwaspZapActive => (40, 120),
            Self::Sslyze => (1, 4),
        }
    }
}

impl fmt::Display for Scanner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Scanner {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|scanner| scanner.as_str() == text);
        found.ok_or_else(|| format!("unknown scanner {}; known are {}", quote(text), known()))
    }
}

/// How bad a weakness is: by its CVSS score, from 0.1, 4, 7 and 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    Low,
    Medium,
    High,
    Critical,
}

/// Where a weakness sits: a place in a website, or a port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub path: Option<String>,
    pub method: Option<String>,
    pub parameter: Option<String>,
    pub insertion_point: Option<String>,
    pub port: Option<u16>,
    pub protocol: Option<String>,
}

/// One kind of weakness, as its scanner reports it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its name in scenarios, such as `owasp-zap-missing-hsts`.
    pub key: String,
    pub scanner: Scanner,
    pub title: String,
    pub threat_level: Level,
    pub cvss_vector: String,
    /// The base score of the vector.
    pub cvss_score: f64,
    pub description: String,
    pub solution: String,
    /// URLs, and bare CVE ids.
    pub references: Vec<String>,
    pub cwe: Option<u32>,
    /// The kinds of target it can sit on.
    pub targets: Vec<TargetKind>,
    pub place: Place,
    /// What the scanner quotes; empty if nothing.
    pub evidence: String,
    /// What only this scanner says.
    pub additional_info: Value,
}

static DEFINITIONS: LazyLock<Vec<Definition>> =
    LazyLock::new(|| serde_json::from_str(include_str!("weaknesses.json")).expect("a test holds that it reads"));
static BY_KEY: LazyLock<HashMap<&'static str, &'static Definition>> =
    LazyLock::new(|| definitions().iter().map(|definition| (definition.key.as_str(), definition)).collect());

/// Every kind of weakness.
pub fn definitions() -> &'static [Definition] {
    &DEFINITIONS
}

/// The kind of weakness with this key. The error is a text for the user.
pub fn definition(key: &str) -> Result<&'static Definition, String> {
    BY_KEY.get(key).copied().ok_or_else(|| {
        let near = BY_KEY.keys().max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
        format!("unknown weakness {}; did you mean `{}`?", quote(key), near.copied().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_at_least_80_kinds_and_some_for_every_scanner_and_level() {
        assert!(definitions().len() >= 80, "{}", definitions().len());
        let keys: BTreeSet<&str> = definitions().iter().map(|definition| definition.key.as_str()).collect();
        assert_eq!(keys.len(), definitions().len());
        for scanner in Scanner::ALL {
            let own: Vec<&Definition> = definitions().iter().filter(|one| one.scanner == scanner).collect();
            assert!(own.len() >= 10, "{scanner}");
            let prefix = format!("{}-", scanner.as_str().to_lowercase().replace('_', "-"));
            assert!(own.iter().all(|one| one.key.starts_with(&prefix)), "{scanner}");
        }
    }

    /// The base score of a CVSS 3.1 vector, by the formulas of its specification.
    fn base_score(vector: &str) -> f64 {
        let metric = |name: &str| {
            let found = vector.split('/').find_map(|part| part.strip_prefix(name)).expect("a base metric");
            found.trim_start_matches(':').to_owned()
        };
        let is_changed = metric("S:") == "C";
        let impact_of = |name| match metric(name).as_str() {
            "H" => 0.56,
            "L" => 0.22,
            _ => 0.0,
        };
        let iss = 1.0 - (1.0 - impact_of("C:")) * (1.0 - impact_of("I:")) * (1.0 - impact_of("A:"));
        let impact = if is_changed { 7.52 * (iss - 0.029) - 3.25 * (iss - 0.02_f64).powi(15) } else { 6.42 * iss };
        let av = match metric("AV:").as_str() {
            "N" => 0.85,
            "A" => 0.62,
            "L" => 0.55,
            _ => 0.2,
        };
        let ac = if metric("AC:") == "L" { 0.77 } else { 0.44 };
        let pr = match (metric("PR:").as_str(), is_changed) {
            ("N", _) => 0.85,
            ("L", true) => 0.68,
            ("L", false) => 0.62,
            (_, true) => 0.5,
            (_, false) => 0.27,
        };
        let ui = if metric("UI:") == "N" { 0.85 } else { 0.62 };
        let total = impact + 8.22 * av * ac * pr * ui;
        if impact <= 0.0 {
            return 0.0;
        }
        let total = if is_changed { 1.08 * total } else { total };
        // Rounded up to one decimal, as the specification's appendix has it.
        let hundred_thousandths = (total.min(10.0) * 100_000.0).round() as i64;
        if hundred_thousandths % 10_000 == 0 {
            hundred_thousandths as f64 / 100_000.0
        } else {
            (hundred_thousandths / 10_000 + 1) as f64 / 10.0
        }
    }

    #[test]
    fn every_score_is_its_vectors_and_every_level_its_scores() {
        for one in definitions() {
            assert!(one.cvss_vector.starts_with("CVSS:3.1/AV:"), "{}", one.key);
            assert!((base_score(&one.cvss_vector) - one.cvss_score).abs() < 0.001, "{}", one.key);
            let level = match one.cvss_score {
                score if score >= 9.0 => Level::Critical,
                score if score >= 7.0 => Level::High,
                score if score >= 4.0 => Level::Medium,
                _ => Level::Low,
            };
            assert_eq!(one.threat_level, level, "{}", one.key);
            let texts = [&one.title, &one.description, &one.solution];
            assert!(texts.iter().all(|text| !text.is_empty()) && !one.references.is_empty(), "{}", one.key);
            assert!(one.cvss_score > 0.0 && one.additional_info.is_object() && !one.targets.is_empty(), "{}", one.key);
            assert!(one.place.path.is_some() != one.place.protocol.is_some(), "{}", one.key);
        }
    }

    #[test]
    fn an_unknown_weakness_is_told_with_the_nearest() {
        assert!(definition("owasp-zap-missing-hsts").is_ok());
        let error = definition("owasp-zap-missing-hst").expect_err("unknown");
        assert_eq!(error, "unknown weakness `owasp-zap-missing-hst`; did you mean `owasp-zap-missing-hsts`?");
    }
}
