//! A subscriber: a registered URL that wants events.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue};
use url::Url;

use crate::event::{Event, Vendor};
use crate::id::{AccountId, SubscriberId};
use crate::problem::{FieldProblem, check_text};
use crate::schedule::RetrySchedule;
use crate::words::words;

/// The longest URL, in bytes.
const LONGEST_URL: usize = 2_048;
/// The most headers a subscriber may add to its requests.
const MOST_HEADERS: usize = 32;
/// The most event-type patterns.
const MOST_PATTERNS: usize = 200;
/// The longest time-out of a request.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(120);

/// What signs a subscriber's webhooks. Never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret's text in the vendor's form.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for signing and to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Which of HostedScan's two sets of event types a subscriber gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Vocabulary {
    /// `scan.succeeded`, `risk.opened`, `risk.closed`: documented until 2023.
    #[default]
    Classic,
    /// `scan.created`, `scan.updated`, `risk.created`, `risk.updated`: since then.
    Current,
}

words!(
    /// Whose time signatures carry. The two differ only where the account has a clock of its own.
    #[derive(Default)]
    SignatureTime {
        /// The account's.
        #[default]
        Account = "account",
        /// The machine's, for receivers that refuse what was signed long ago.
        Real = "real",
    }
);

/// The vendor's own switches for a subscriber; each belongs to one vendor.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// HostedScan: which event types; `classic` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<Vocabulary>,
    /// Probely: the webhook's name, as its API shows it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Probely: only events about this target, as a webhook registered on a target gets them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_id: Option<String>,
    /// Probely: a target's webhook also gets `target_deleted`, `target_verified` and
    /// `target_verification_failed`, as the older documentation has it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub older_target_scope: bool,
    /// Probely: times with seven digits and no zone, as in the documentation's example.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub zoneless_times: bool,
    /// Probely: the field `ocurred_at`, as the older documentation spells it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub misspelt_occurred_at: bool,
    /// Probely: `false` sends also where the receiver's certificate is not to be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_cert: Option<bool>,
    /// Probely: leave `webhooks` out of the body.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_webhooks: bool,
    /// Halo: `pci-report-expire-today` also has `report_id`, as in the documentation's sample.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub report_id: bool,
}

impl Options {
    /// The options that are set but not among those of the vendor.
    pub fn foreign(&self, own: &[&str]) -> Vec<String> {
        let set = serde_json::to_value(self).unwrap_or_default();
        let names = set.as_object().into_iter().flat_map(|set| set.keys());
        names.filter(|name| !own.contains(&name.as_str())).cloned().collect()
    }
}

/// A registered URL that wants events of one vendor.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscriber {
    pub id: SubscriberId,
    pub account_id: AccountId,
    pub vendor: Vendor,
    pub url: Url,
    /// Exact names, or a trailing `*`. See [`wants`](Subscriber::wants).
    pub event_types: Vec<String>,
    /// What signs the webhooks; none where they are not signed.
    pub secret: Option<Secret>,
    /// What signs them as well until a time, after the secret was rotated.
    pub previous_secret: Option<(Secret, DateTime<Utc>)>,
    /// The waits between attempts; none means the vendor's own.
    pub retry_schedule: Option<RetrySchedule>,
    /// How long one request may take; none means `dispatch.timeout`.
    pub timeout: Option<Duration>,
    /// Headers added to every request.
    pub headers: BTreeMap<String, String>,
    pub options: Options,
    /// Its id in the vendor's own shape, where receivers see one.
    pub vendor_id: Option<String>,
    pub signature_time: SignatureTime,
    pub enabled: bool,
    /// Why scanhook disabled it by itself.
    pub disabled_reason: Option<String>,
    /// When the first failing attempt was made since which nothing was accepted, where that is kept.
    pub failing_since: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    /// When it was deleted. Its deliveries are kept for the record.
    pub deleted_at: Option<DateTime<Utc>>,
}

impl Subscriber {
    /// What signs at this time, the newest first.
    pub fn secrets_at(&self, now: DateTime<Utc>) -> Vec<&Secret> {
        let previous = self.previous_secret.as_ref().filter(|(_, until)| now < *until).map(|(secret, _)| secret);
        self.secret.iter().chain(previous).collect()
    }

    /// Whether an event makes a delivery to this subscriber.
    pub fn wants(&self, event: &Event) -> bool {
        self.enabled
            && self.deleted_at.is_none()
            && self.account_id == event.account_id
            && self.vendor == event.vendor
            && self.event_types.iter().any(|pattern| matches(pattern, &event.event_type))
    }
}

/// Whether an event-type pattern, an exact name or one with a trailing `*`, matches a name.
pub fn matches(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => event_type.starts_with(prefix),
        None => pattern == event_type,
    }
}

/// Reads a subscriber's URL: http or https, with a host, without a fragment or credentials.
pub fn parse_url(pointer: &str, text: &str) -> Result<Url, FieldProblem> {
    let problem = |reason: String| FieldProblem::new(pointer, reason);
    check_text(pointer, text, LONGEST_URL)?;
    let url = Url::parse(text)
        .map_err(|error| problem(format!("`{text}` is not a URL ({error}); write it as http://127.0.0.1:9000/hook")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(problem(format!("has the scheme `{}`; only http and https are sent to", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(problem("has no host".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(problem("must not carry a user or a password; use `headers` for credentials".to_owned()));
    }
    if url.fragment().is_some() {
        return Err(problem("must not have a fragment; it is never sent".to_owned()));
    }
    Ok(url)
}

/// Checks the headers that a subscriber adds. `reserved` are those the dialect sets itself.
pub fn check_headers(pointer: &str, headers: &BTreeMap<String, String>, reserved: &[&str]) -> Vec<FieldProblem> {
    // These describe the message or the connection; a wrong value would break the request.
    const FRAMING: [&str; 8] =
        ["connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"];
    let mut problems = Vec::new();
    if headers.len() > MOST_HEADERS {
        problems.push(FieldProblem::new(pointer, format!("has more than {MOST_HEADERS} headers")));
    }
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in headers {
        let at = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        let lower = name.to_ascii_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            problems.push(FieldProblem::new(at, format!("`{name}` is not a header name that HTTP allows")));
        } else if FRAMING.contains(&lower.as_str()) {
            problems.push(FieldProblem::new(at, format!("`{name}` is set by the request itself")));
        } else if reserved.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
            problems.push(FieldProblem::new(at, format!("`{name}` is set by the vendor's own format")));
        } else if seen.contains(&lower) {
            problems.push(FieldProblem::new(at, format!("`{name}` is given twice")));
        } else if value.len() > 4_096 || HeaderValue::from_str(value).is_err() {
            let reason = "the value is one that HTTP forbids: use visible ASCII, at most 4096 bytes";
            problems.push(FieldProblem::new(at, reason));
        }
        seen.push(lower);
    }
    problems
}

/// Checks event-type patterns against what the vendor can send; `known` is empty where any goes.
pub fn check_patterns(pointer: &str, patterns: &[String], known: &[&str]) -> Vec<FieldProblem> {
    if patterns.is_empty() {
        return vec![FieldProblem::new(pointer, "must name at least one event type; `*` is all of them")];
    }
    if patterns.len() > MOST_PATTERNS {
        return vec![FieldProblem::new(pointer, format!("has more than {MOST_PATTERNS} patterns"))];
    }
    let check = |(index, pattern): (usize, &String)| {
        let at = format!("{pointer}/{index}");
        if let Err(problem) = check_text(&at, pattern, 128) {
            return Some(problem);
        }
        if pattern.trim_end_matches('*').contains('*') || pattern.ends_with("**") {
            return Some(FieldProblem::new(at, format!("`{pattern}` may have one `*`, at its end")));
        }
        let fits = known.is_empty() || known.iter().any(|name| matches(pattern, name));
        let reason = || format!("`{pattern}` fits no event type of this vendor; known are {}", known.join(", "));
        (!fits).then(|| FieldProblem::new(at, reason()))
    };
    patterns.iter().enumerate().filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        for (pattern, name, expected) in [
            ("risk.opened", "risk.opened", true),
            ("risk.opened", "risk.opened2", false),
            ("risk.*", "risk.closed", true),
            ("risk.*", "scan.succeeded", false),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn urls_that_cannot_be_sent_to_are_refused_with_the_reason() {
        for (url, reason) in [
            ("not a url", "is not a URL"),
            ("ftp://127.0.0.1/", "scheme `ftp`"),
            ("file:///etc/passwd", "scheme `file`"),
            ("http://", "is not a URL"),
            ("http://user:word@127.0.0.1/", "must not carry a user"),
            ("http://127.0.0.1/#part", "fragment"),
            ("http://127.0.0.1:99999/", "is not a URL"),
            ("", "must not be empty"),
        ] {
            let problem = parse_url("/url", url).expect_err(url);
            assert!(problem.reason.contains(reason), "{url}: {}", problem.reason);
        }
        assert!(parse_url("/url", "https://[::1]:8443/a?b=c").is_ok());
    }

    #[test]
    fn headers_that_http_forbids_are_refused_by_name() {
        for (name, value, ok) in [
            ("X-Token", "abc", true),
            ("bad name", "abc", false),
            ("X-Token", "a\r\nb: c", false),
            ("Content-Length", "3", false),
            ("Webhook-Id", "3", false),
        ] {
            let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let problems = check_headers("/headers", &headers, &["webhook-id"]);
            assert_eq!(problems.is_empty(), ok, "{name}: {value:?}");
            assert!(problems.iter().all(|problem| problem.pointer == format!("/headers/{name}")));
        }
    }

    #[test]
    fn a_pattern_that_can_never_match_is_refused() {
        let check = |pattern: &str| check_patterns("/event_types", &[pattern.to_owned()], &["risk.opened"]);
        assert_eq!(check("risk.*"), []);
        assert_eq!(check("scan.*")[0].pointer, "/event_types/0");
        assert!(check("*.opened")[0].reason.contains("at its end"));
        assert_eq!(check_patterns("/event_types", &["any.thing".to_owned()], &[]), []);
    }
}
