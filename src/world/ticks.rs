//! Schedules: when they tick. Pure.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::definitions::Scanner;
use super::nouns::{Missed, Outcome};
use crate::problem::{FieldProblem, check_text, quote};
use crate::schedule::parse_duration;

/// The longest that a scan may take.
pub const LONGEST_SCAN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Scans to start by the clock.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    /// Second, minute, hour, day of month, month, day of week.
    #[schema(example = "0 */5 * * * *")]
    pub cron: String,
    /// An IANA name; UTC if left out.
    #[schema(example = "Europe/Lisbon")]
    pub timezone: Option<String>,
    /// The address of a target. One from the settings is added if it is missing.
    #[schema(example = "shop.example.test")]
    pub target: String,
    #[schema(value_type = String, example = "OWASP_ZAP")]
    pub scanner: Scanner,
    /// The weights of the outcomes; all complete if left out.
    #[schema(value_type = Option<Object>, example = json!({"completed": 0.9, "failed": 0.1}))]
    pub mix: Option<BTreeMap<Outcome, f64>>,
    /// The chance that a weakness is fixed, or that one which was returns, before each scan.
    pub drift: Option<f64>,
    /// From queued to ended; as long as such a scan takes, by the time scale, if left out.
    pub duration: Option<String>,
    /// What is done about ticks that were missed while scanhook did not run: `run_once` or `skip`.
    pub missed: Option<Missed>,
}

impl NewSchedule {
    /// All that is wrong with it, at a time that its ticks must come after.
    pub fn check(&self, now: DateTime<Utc>) -> Vec<FieldProblem> {
        let mut problems = Vec::new();
        let mut add = |field: &str, reason: String| problems.push(FieldProblem::new(format!("/{field}"), reason));
        match next_tick(&self.cron, self.timezone(), now) {
            Ok(Some(_)) => (),
            Ok(None) => add("cron", format!("{} never fires", quote(&self.cron))),
            Err((field, reason)) => add(field, reason),
        }
        if let Err(problem) = check_text("/target", &self.target, 2_048) {
            add("target", problem.reason);
        }
        if let Some(mix) = &self.mix {
            let is_weight = |weight: &f64| weight.is_finite() && *weight >= 0.0;
            let sum: f64 = mix.values().sum();
            if !mix.values().all(is_weight) || sum <= 0.0 || !sum.is_finite() {
                add("mix", "must be weights from 0, at least one of them more".to_owned());
            }
        }
        if self.drift.is_some_and(|drift| !(0.0..=1.0).contains(&drift)) {
            add("drift", "must be from 0 to 1".to_owned());
        }
        match self.duration() {
            Err(reason) => add("duration", reason),
            Ok(Some(duration)) if duration > LONGEST_SCAN => add("duration", "is longer than 7 days".to_owned()),
            Ok(_) => (),
        }
        problems
    }

    /// Its time zone's name.
    pub fn timezone(&self) -> &str {
        self.timezone.as_deref().unwrap_or("UTC")
    }

    /// How long its scans take, if that is given.
    pub fn duration(&self) -> Result<Option<Duration>, String> {
        self.duration.as_deref().map(parse_duration).transpose()
    }
}

/// The first tick after a time; none if there never is one. The error names the field at fault.
pub fn next_tick(
    cron: &str,
    timezone: &str,
    after: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, (&'static str, String)> {
    let zone = timezone.parse::<Tz>().map_err(|_| {
        ("timezone", format!("{} is not a time zone; write it as Europe/Lisbon or UTC", quote(timezone)))
    })?;
    let six = cron.split_whitespace().count() == 6;
    let parsed = cron::Schedule::from_str(cron).ok().filter(|_| six);
    let parsed = parsed.ok_or_else(|| {
        let shape = "write second, minute, hour, day of month, month and day of week, as in `0 */5 * * * *`";
        ("cron", format!("{} is not a cron expression; {shape}", quote(cron)))
    })?;
    Ok(parsed.after(&after.with_timezone(&zone)).next().map(|tick| tick.with_timezone(&Utc)))
}

/// How often something recurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// It happens once.
    Never,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
}

/// Which one of a weekday's occurrences in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nth {
    First,
    Second,
    Third,
    Fourth,
    Last,
}

/// A first time, and others after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurrence {
    pub first_at: DateTime<Utc>,
    pub every: Every,
    /// By month and by quarter: not on the first time's day of the month, but on this weekday.
    pub on: Option<(Nth, Weekday)>,
}

impl Recurrence {
    /// The first time that is later than `after`, by the clocks of a time zone; none if there is none.
    pub fn next(&self, timezone: &str, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.first_at > after {
            return Some(self.first_at);
        }
        let zone = timezone.parse::<Tz>().unwrap_or(Tz::UTC);
        let elapsed = after - self.first_at;
        // As many as have surely passed; then one by one.
        let passed = match self.every {
            Every::Never => return None,
            Every::Hour => elapsed.num_hours(),
            Every::Day => elapsed.num_days() - 1,
            Every::Week => elapsed.num_days() / 7 - 1,
            Every::Month => elapsed.num_days() / 31,
            Every::Quarter => elapsed.num_days() / 93,
        };
        let mut step = u32::try_from(passed.max(0)).ok()?;
        loop {
            let time = self.nth(step, zone)?;
            if time > after {
                return Some(time);
            }
            step += 1;
        }
    }

    /// The time so many steps after the first.
    fn nth(&self, step: u32, zone: Tz) -> Option<DateTime<Utc>> {
        let first = self.first_at.with_timezone(&zone).naive_local();
        match self.every {
            Every::Never => None,
            Every::Hour => self.first_at.checked_add_signed(TimeDelta::hours(step.into())),
            Every::Day => local(zone, first.checked_add_days(Days::new(step.into()))?),
            Every::Week => local(zone, first.checked_add_days(Days::new(u64::from(step) * 7))?),
            Every::Month => local(zone, self.in_month(first, step)?),
            Every::Quarter => local(zone, self.in_month(first, step.checked_mul(3)?)?),
        }
    }

    /// The time in a month after the first one's.
    fn in_month(&self, first: NaiveDateTime, months: u32) -> Option<NaiveDateTime> {
        let same_day = first.checked_add_months(Months::new(months))?;
        let Some((nth, weekday)) = self.on else { return Some(same_day) };
        let (year, month) = (same_day.year(), same_day.month());
        let of_month = |n| NaiveDate::from_weekday_of_month_opt(year, month, weekday, n);
        let date = match nth {
            Nth::First => of_month(1),
            Nth::Second => of_month(2),
            Nth::Third => of_month(3),
            Nth::Fourth => of_month(4),
            Nth::Last => of_month(5).or_else(|| of_month(4)),
        };
        Some(date?.and_time(first.time()))
    }
}

/// A local time, or the first after it where clocks leave it out.
fn local(zone: Tz, time: NaiveDateTime) -> Option<DateTime<Utc>> {
    let found = zone.from_local_datetime(&time).earliest();
    found.or_else(|| zone.from_local_datetime(&(time + TimeDelta::hours(1))).earliest()).map(|at| at.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn a_schedule_ticks_by_the_second_and_in_its_time_zone() {
        let now = at("2026-03-28T23:59:59Z");
        let tick = |cron, zone| next_tick(cron, zone, now).expect("it parses").expect("it fires");
        assert_eq!(tick("*/10 * * * * *", "UTC"), at("2026-03-29T00:00:00Z"));
        assert_eq!(tick("0 30 9 * * *", "Asia/Kolkata"), at("2026-03-29T04:00:00Z"));
        // Clocks go forward in Lisbon on this night: 09:00 there is 08:00 UTC.
        assert_eq!(tick("0 0 9 * * *", "Europe/Lisbon"), at("2026-03-29T08:00:00Z"));
    }

    #[test]
    fn what_recurs_keeps_to_the_clocks_of_its_time_zone() {
        let recurrence = |every, on| Recurrence { first_at: at("2026-01-31T09:00:00Z"), every, on };
        let next =
            |recurrence: Recurrence, after| recurrence.next("Europe/Lisbon", at(after)).map(|at| at.to_rfc3339());
        let is = |recurrence, after, expected: &str| {
            assert_eq!(next(recurrence, after), Some(at(expected).to_rfc3339()));
        };
        is(recurrence(Every::Never, None), "2026-01-31T08:59:59Z", "2026-01-31T09:00:00Z");
        assert_eq!(next(recurrence(Every::Never, None), "2026-01-31T09:00:00Z"), None);
        is(recurrence(Every::Hour, None), "2026-02-01T00:30:00Z", "2026-02-01T01:00:00Z");
        // It is summer in Lisbon: nine o'clock is an hour earlier in UTC.
        is(recurrence(Every::Day, None), "2026-06-01T08:30:00Z", "2026-06-02T08:00:00Z");
        is(recurrence(Every::Week, None), "2026-06-01T08:30:00Z", "2026-06-06T08:00:00Z");
        // The shorter months have no 31st.
        is(recurrence(Every::Month, None), "2026-02-01T00:00:00Z", "2026-02-28T09:00:00Z");
        is(recurrence(Every::Month, None), "2026-03-01T00:00:00Z", "2026-03-31T08:00:00Z");
        is(recurrence(Every::Quarter, None), "2026-02-01T00:00:00Z", "2026-04-30T08:00:00Z");
        let last_friday = recurrence(Every::Month, Some((Nth::Last, Weekday::Fri)));
        is(last_friday, "2026-02-01T00:00:00Z", "2026-02-27T09:00:00Z");
        let second_monday = recurrence(Every::Quarter, Some((Nth::Second, Weekday::Mon)));
        is(second_monday, "2026-02-01T00:00:00Z", "2026-04-13T08:00:00Z");
    }

    #[test]
    fn what_never_fires_or_cannot_be_read_is_refused_by_field() {
        let schedule = NewSchedule {
            cron: "0 0 0 30 2 *".to_owned(),
            timezone: None,
            target: "a.test".to_owned(),
            scanner: Scanner::Nmap,
            mix: Some([(Outcome::Failed, -1.0)].into()),
            drift: Some(2.0),
            duration: Some("soon".to_owned()),
            missed: None,
        };
        let now = at("2026-01-01T00:00:00Z");
        let fields: Vec<String> = schedule.check(now).into_iter().map(|problem| problem.pointer).collect();
        assert_eq!(fields, ["/cron", "/mix", "/drift", "/duration"]);
        assert!(schedule.check(now)[0].reason.contains("never fires"));
        for (cron, zone, field) in
            [("* * * * *", "UTC", "cron"), ("often", "UTC", "cron"), ("0 0 0 * * *", "Mars/Base", "timezone")]
        {
            assert_eq!(next_tick(cron, zone, now).expect_err(cron).0, field);
        }
    }
}
