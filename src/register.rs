//! Registering subscribers: what may be said of one, and the checks. The API and init files share them.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use url::Url;
use utoipa::ToSchema;

use crate::event::Vendor;
use crate::id::{AccountId, SubscriberId};
use crate::json::object;
use crate::problem::FieldProblem;
use crate::random::Chance;
use crate::schedule::{RetrySchedule, format_duration, parse_duration};
use crate::subscriber::{
    LONGEST_TIMEOUT, Options, Secret, SignatureTime, Subscriber, check_headers, check_patterns, parse_url,
};
use crate::vendors::{Scheme, dialect, event_types};

/// How long an old secret signs beside a new one, where it is not said.
const KEEP_OLD_SECRET: Duration = Duration::from_secs(24 * 3_600);
const LONGEST_KEPT_SECRET: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Why a subscriber cannot be registered.
#[derive(Debug)]
pub enum Unusable {
    UnknownVendor(String),
    Fields(Vec<FieldProblem>),
}

/// A retry schedule as it is written: the waits themselves, or a formula for them.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub enum Waits {
    List(Vec<String>),
    Formula { base: String, factor: Option<f64>, cap: Option<String>, window: String },
}

/// A subscriber to register.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSubscriber {
    /// Where the webhooks go: http or https.
    #[schema(example = "http://127.0.0.1:9000/hook")]
    pub url: String,
    /// Whose webhooks these are.
    #[schema(example = "hostedscan")]
    pub vendor: String,
    /// Exact names, or a trailing `*`. All of them if left out.
    #[schema(example = json!(["risk.*", "scan.succeeded"]))]
    pub event_types: Option<Vec<String>>,
    /// What signs the webhooks, in the vendor's shape. Made if left out and the vendor signs.
    pub secret: Option<String>,
    /// The vendor's own switches. Those that are left out are off.
    #[serde(default, deserialize_with = "object")]
    pub options: Option<Options>,
    /// Waits such as `["5s", "5m"]`, or `{base, factor, cap, window}`. Null: the vendor's own.
    #[schema(value_type = Option<Waits>, example = json!(["5s", "5m", "30m"]))]
    pub retry_schedule: Option<RetrySchedule>,
    /// How long one request may take. Null: the setting `dispatch.timeout`.
    #[schema(example = "10s")]
    pub timeout: Option<String>,
    /// Headers added to every request.
    #[schema(example = json!({"X-Environment": "test"}))]
    pub headers: Option<BTreeMap<String, String>>,
    /// A disabled subscriber gets nothing; what it is owed waits.
    pub enabled: Option<bool>,
    /// Whose time signatures carry: the account's, or the machine's for receivers that refuse what
    /// was signed long ago. The two differ where the account has a clock of its own.
    pub signature_time: Option<SignatureTime>,
}

/// What to change. A field that is left out stays as it is.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriberPatch {
    pub url: Option<String>,
    pub event_types: Option<Vec<String>>,
    pub secret: Option<String>,
    #[serde(default, deserialize_with = "object")]
    pub options: Option<Options>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Waits>)]
    pub retry_schedule: Option<Option<RetrySchedule>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub timeout: Option<Option<String>>,
    pub headers: Option<BTreeMap<String, String>>,
    pub enabled: Option<bool>,
    pub signature_time: Option<SignatureTime>,
}

/// Tells a field that is null from one that is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Checks a time-out: from 1ms to two minutes.
fn parse_timeout(text: &str) -> Result<Duration, FieldProblem> {
    let problem = |reason| FieldProblem::new("/timeout", reason);
    let timeout = parse_duration(text).map_err(problem)?;
    if (Duration::from_millis(1)..=LONGEST_TIMEOUT).contains(&timeout) {
        Ok(timeout)
    } else {
        Err(problem(format!("must be from 1ms to {}", format_duration(LONGEST_TIMEOUT))))
    }
}

/// Applies what was given to a subscriber, and tells all that is wrong with it.
pub fn apply(subscriber: &mut Subscriber, changes: SubscriberPatch) -> Result<(), Vec<FieldProblem>> {
    let dialect = dialect(subscriber.vendor);
    let mut problems = Vec::new();
    if let Some(url) = changes.url {
        match parse_url("/url", &url) {
            Ok(url) => {
                // Another receiver has not failed yet.
                subscriber.failing_since = subscriber.failing_since.filter(|_| subscriber.url == url);
                subscriber.url = url;
            }
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(options) = changes.options {
        for name in options.foreign(dialect.options()) {
            let reason = format!("is not an option of {}; it has: {}", subscriber.vendor, dialect.options().join(", "));
            problems.push(FieldProblem::new(format!("/options/{name}"), reason));
        }
        subscriber.options = options;
    }
    if let Some(event_types) = changes.event_types {
        subscriber.event_types = event_types;
    }
    let known = event_types(subscriber.vendor, &subscriber.options);
    problems.extend(check_patterns("/event_types", &subscriber.event_types, &known));
    if let Some(secret) = changes.secret {
        if let Err(reason) = dialect.check_secret(&secret) {
            problems.push(FieldProblem::new("/secret", reason));
        }
        subscriber.secret = Some(Secret::new(secret));
        subscriber.previous_secret = None;
    }
    if let Some(retry_schedule) = changes.retry_schedule {
        subscriber.retry_schedule = retry_schedule;
    }
    match changes.timeout.map(|timeout| timeout.as_deref().map(parse_timeout).transpose()) {
        Some(Ok(timeout)) => subscriber.timeout = timeout,
        Some(Err(problem)) => problems.push(problem),
        None => (),
    }
    if let Some(headers) = changes.headers {
        problems.extend(check_headers("/headers", &headers, dialect.header_names()));
        subscriber.headers = headers;
    }
    if let Some(enabled) = changes.enabled {
        subscriber.enabled = enabled;
        subscriber.disabled_reason = None;
        subscriber.failing_since = None;
    }
    subscriber.signature_time = changes.signature_time.unwrap_or(subscriber.signature_time);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// A new secret for a subscriber.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// In the vendor's shape. Made if left out.
    pub secret: Option<String>,
    /// How long the old secret signs as well, for vendors whose header carries several signatures:
    /// there 24 hours if left out, and up to 30 days.
    #[schema(example = "24h")]
    pub keep_old_for: Option<String>,
}

/// Gives a subscriber a new secret, beside which the old one signs for a while.
pub fn rotate(
    subscriber: &mut Subscriber,
    rotation: Rotation,
    now: DateTime<Utc>,
    chance: &Chance,
) -> Result<(), Vec<FieldProblem>> {
    let dialect = dialect(subscriber.vendor);
    let field = |pointer: &str, reason: String| vec![FieldProblem::new(pointer, reason)];
    let takes_several = dialect.scheme().is_some_and(Scheme::takes_several);
    let keep = match &rotation.keep_old_for {
        None if takes_several => KEEP_OLD_SECRET,
        None => Duration::ZERO,
        Some(text) => parse_duration(text).map_err(|reason| field("/keep_old_for", reason))?,
    };
    if !takes_several && !keep.is_zero() {
        let reason = format!("must be left out: a webhook of {} carries one signature", subscriber.vendor);
        return Err(field("/keep_old_for", reason));
    }
    if keep > LONGEST_KEPT_SECRET {
        return Err(field("/keep_old_for", format!("must be at most {}", format_duration(LONGEST_KEPT_SECRET))));
    }
    let secret = match rotation.secret {
        Some(secret) => {
            dialect.check_secret(&secret).map_err(|reason| field("/secret", reason))?;
            Secret::new(secret)
        }
        None => {
            let sequence = chance.next_in_sequence("rotation", subscriber.account_id);
            let mut stream = chance.stream("rotation", format!("{}/{sequence}", subscriber.account_id));
            let missing = || field("/secret", format!("must be given: {} does not sign by itself", subscriber.vendor));
            dialect.generate_secret(&mut stream).ok_or_else(missing)?
        }
    };
    let old = subscriber.secret.replace(secret);
    subscriber.previous_secret = old.filter(|_| !keep.is_zero()).map(|old| (old, now + keep));
    subscriber.changed_at = now;
    Ok(())
}

/// A subscriber that gets every event of a vendor.
pub fn new_subscriber(
    account_id: AccountId,
    vendor: Vendor,
    url: Url,
    now: DateTime<Utc>,
    chance: &Chance,
) -> Subscriber {
    let sequence = chance.next_in_sequence("subscriber", account_id);
    let key = format!("{account_id}/{sequence}");
    let id = SubscriberId::generate(now, sequence, &mut chance.stream("subscriber", &key));
    Subscriber {
        id,
        account_id,
        vendor,
        url,
        event_types: vec!["*".to_owned()],
        // Not keyed by the id, which holds the time: with a seed the secrets are known beforehand.
        secret: dialect(vendor).generate_secret(&mut chance.stream("secret", &key)),
        previous_secret: None,
        retry_schedule: None,
        timeout: None,
        headers: BTreeMap::new(),
        options: Options::default(),
        signature_time: SignatureTime::default(),
        vendor_id: dialect(vendor).subscriber_id(&mut chance.stream("vendor-subscriber", id)),
        enabled: true,
        disabled_reason: None,
        failing_since: None,
        created_at: now,
        changed_at: now,
        deleted_at: None,
    }
}

/// Checks a subscriber that is to be registered, and makes it.
pub fn subscriber(
    new: NewSubscriber,
    account_id: AccountId,
    now: DateTime<Utc>,
    chance: &Chance,
) -> Result<Subscriber, Unusable> {
    let vendor: Vendor = new.vendor.parse().map_err(|error| Unusable::UnknownVendor(format!("{error}")))?;
    let url = parse_url("/url", &new.url).map_err(|problem| Unusable::Fields(vec![problem]))?;
    let mut subscriber = new_subscriber(account_id, vendor, url, now, chance);
    let NewSubscriber { event_types, secret, options, headers, enabled, signature_time, .. } = new;
    let (retry_schedule, timeout) = (new.retry_schedule.map(Some), new.timeout.map(Some));
    let changes = SubscriberPatch {
        url: None,
        event_types,
        secret,
        options,
        retry_schedule,
        timeout,
        headers,
        enabled,
        signature_time,
    };
    apply(&mut subscriber, changes).map_err(Unusable::Fields)?;
    Ok(subscriber)
}
