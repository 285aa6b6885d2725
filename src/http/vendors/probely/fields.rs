//! What may be set of an object: each field's rule, and what is said of a value that breaks it.
//! Pure. Fields without a rule are passed over, as the real service does.

use chrono::{DateTime, Datelike, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value, json};
use url::Url;

use super::call::{Failure, kind_of};

/// What a field takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// A text of at most so many characters.
    Text(usize),
    /// A text that is not empty either.
    Name(usize),
    /// Such a text or null.
    MaybeText(usize),
    Flag,
    /// A flag or null.
    MaybeFlag,
    /// A whole number or null.
    MaybeNumber,
    Choice(&'static [&'static str]),
    ChoiceOrNull(&'static [&'static str]),
    Numbers(&'static [i64]),
    /// An absolute http or https URL.
    Url,
    /// A URL or the empty text, which null stands for.
    MaybeUrl,
    /// A URL or null.
    UrlOrNull,
    Email,
    Time,
    /// A time of the day.
    TimeOfDay,
    /// Days of the week, from 1 to 7.
    Weekdays,
    /// The name of a time zone.
    Zone,
    /// Pairs of `name` and `value`.
    Pairs,
    /// Pairs that also say whether they are tested and whether they authenticate.
    Headers,
    Texts,
    /// Objects, or ids: they are looked up where they are used.
    List,
    /// An object with rules of its own.
    Fields(&'static [(&'static str, Rule)]),
    /// An object with rules of its own, or null.
    FieldsOrNull(&'static [(&'static str, Rule)]),
    /// An object, whatever is in it, or null.
    Object,
    /// A regular expression's worth of a colour. (Documented.)
    Colour,
}

/// The most entries of a list. (Assumed; lists are part of every webhook about what they belong to.)
const MOST_ENTRIES: usize = 100;

/// When nothing may be done in or to a target. (Documented.)
pub(super) const BLACKOUT: &[(&str, Rule)] = &[
    ("begin", Rule::TimeOfDay),
    ("cease", Rule::TimeOfDay),
    ("weekdays", Rule::Weekdays),
    ("enabled", Rule::Flag),
    ("timezone", Rule::Zone),
];

/// Checks fields against their rules; those in `needed` must be there. All that is wrong is told.
pub(super) fn check(fields: &Map<String, Value>, rules: &[(&str, Rule)], needed: &[&str]) -> Result<(), Failure> {
    let wrong = problems(fields, rules, needed);
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Fields(wrong)) }
}

fn problems(fields: &Map<String, Value>, rules: &[(&str, Rule)], needed: &[&str]) -> Map<String, Value> {
    let mut wrong = Map::new();
    for name in needed.iter().filter(|name| !fields.contains_key(**name)) {
        wrong.insert((*name).to_owned(), json!(["This field is required."]));
    }
    for (name, rule) in rules {
        if let Some(problem) = fields.get(*name).and_then(|value| problem(value, *rule)) {
            wrong.insert((*name).to_owned(), problem);
        }
    }
    wrong
}

/// What is wrong with a value, in the words of the service's framework.
fn problem(value: &Value, rule: Rule) -> Option<Value> {
    let is_maybe = matches!(
        rule,
        Rule::MaybeFlag
            | Rule::MaybeNumber
            | Rule::MaybeText(_)
            | Rule::MaybeUrl
            | Rule::UrlOrNull
            | Rule::FieldsOrNull(_)
            | Rule::ChoiceOrNull(_)
            | Rule::Object
    );
    if value.is_null() {
        return (!is_maybe).then(|| json!(["This field may not be null."]));
    }
    match rule {
        Rule::Fields(rules) | Rule::FieldsOrNull(rules) => match value {
            Value::Object(fields) => {
                Some(problems(fields, rules, &[])).filter(|wrong| !wrong.is_empty()).map(Value::from)
            }
            other => Some(no_dictionary(other)),
        },
        Rule::Object if !value.is_object() => Some(no_dictionary(value)),
        Rule::Object => None,
        Rule::Texts | Rule::List | Rule::Pairs | Rule::Headers | Rule::Weekdays => {
            list_problem(value, rule).map(|text| json!([text]))
        }
        _ => text_problem(value, rule).map(|text| json!([text])),
    }
}

fn no_dictionary(value: &Value) -> Value {
    json!({"non_field_errors": [format!("Invalid data. Expected a dictionary, but got {}.", kind_of(value))]})
}

/// What is wrong with a value that must be a list.
fn list_problem(value: &Value, rule: Rule) -> Option<String> {
    let Some(items) = entries(value).filter(|_| value.is_array() || matches!(rule, Rule::List | Rule::Texts)) else {
        return Some(format!("Expected a list of items but got type \"{}\".", kind_of(value)));
    };
    if items.len() > MOST_ENTRIES {
        return Some(format!("Ensure this field has no more than {MOST_ENTRIES} elements."));
    }
    let is_short = |one: &Value, most: usize| one.as_str().is_some_and(|text| text.chars().count() <= most);
    let holds = match rule {
        Rule::Texts => items.iter().all(|one| is_short(one, 2_048)),
        Rule::Pairs | Rule::Headers => {
            items.iter().all(|one| is_short(&one["name"], 255) && is_short(&one["value"], 4_096))
        }
        Rule::Weekdays => items.iter().all(|one| as_number(one).is_some_and(|day| (1..=7).contains(&day))),
        _ => true,
    };
    (!holds).then(|| "Not a valid list of its items.".to_owned())
}

/// What is wrong with a value that is neither a list nor a dictionary.
fn text_problem(value: &Value, rule: Rule) -> Option<String> {
    let text = value.as_str();
    let say = |holds: bool, reason: &str| (!holds).then(|| reason.to_owned());
    let choice = |holds: bool| (!holds).then(|| format!("{} is not a valid choice.", quoted(value)));
    match rule {
        Rule::Text(most) | Rule::Name(most) | Rule::MaybeText(most) => match as_text(value) {
            None => Some("Not a valid string.".to_owned()),
            Some(text) if text.trim().is_empty() && matches!(rule, Rule::Name(_)) => {
                Some("This field may not be blank.".to_owned())
            }
            Some(text) if text.contains('\0') => Some("Null characters are not allowed.".to_owned()),
            Some(text) if text.chars().count() > most => {
                Some(format!("Ensure this field has no more than {most} characters."))
            }
            Some(_) => None,
        },
        Rule::Flag | Rule::MaybeFlag => say(as_flag(value).is_some(), "Must be a valid boolean."),
        Rule::MaybeNumber => say(as_number(value).is_some(), "A valid integer is required."),
        Rule::Choice(known) | Rule::ChoiceOrNull(known) => choice(text.is_some_and(|text| known.contains(&text))),
        Rule::Numbers(known) => choice(as_number(value).is_some_and(|number| known.contains(&number))),
        Rule::MaybeUrl if text == Some("") => None,
        Rule::Url | Rule::MaybeUrl | Rule::UrlOrNull => say(text.is_some_and(is_url), "Enter a valid URL."),
        Rule::Email => say(text.is_some_and(is_email), "Enter a valid email address."),
        Rule::Time => {
            const FORMATS: &str = "YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]";
            let is_time = text.is_some_and(|text| as_time(text, Tz::UTC).is_some());
            let reason = || format!("Datetime has wrong format. Use one of these formats instead: {FORMATS}.");
            (!is_time).then(reason)
        }
        Rule::TimeOfDay => {
            let is_time = |text: &str| text.len() <= 15 && (text.parse::<NaiveTime>().is_ok());
            let reason = "Time has wrong format. Use one of these formats instead: hh:mm[:ss[.uuuuuu]].";
            say(text.is_some_and(is_time), reason)
        }
        Rule::Zone => choice(text.is_some_and(|text| text.parse::<Tz>().is_ok())),
        Rule::Colour => {
            let is_colour =
                |text: &str| text.len() <= 32 && text.chars().all(|c| c.is_ascii_alphanumeric() || "#_-".contains(c));
            say(text.is_some_and(is_colour), "Enter a valid value.")
        }
        _ => None,
    }
}

fn is_url(text: &str) -> bool {
    let is_plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    let has_host =
        |text: &str| ["http://", "https://"].iter().any(|scheme| text.to_ascii_lowercase().starts_with(scheme));
    is_plain && text.len() <= 2_048 && has_host(text) && Url::parse(text).is_ok()
}

fn is_email(text: &str) -> bool {
    let is_plain = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let is_host = |host: &str| host.contains('.') && host.split('.').all(|label| !label.is_empty());
    let holds = |(name, host): (&str, &str)| !name.is_empty() && !host.contains('@') && is_host(host);
    is_plain && text.len() <= 254 && text.split_once('@').is_some_and(holds)
}

fn quoted(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let short: String = text.chars().take(100).collect();
    format!("\"{short}\"")
}

/// A text; numbers count as such, as in the service's framework.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A time; one without an offset is by the clocks of a time zone. Its year has four digits in UTC,
/// too: others cannot be written the same way.
pub(super) fn as_time(text: &str, zone: Tz) -> Option<DateTime<Utc>> {
    let time = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.to_utc(),
        Err(_) => {
            let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
            let naive = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?;
            zone.from_local_datetime(&naive).earliest()?.to_utc()
        }
    };
    (1..=9_999).contains(&time.year()).then_some(time)
}

/// A flag, also as forms write it. (As in the service's framework.)
pub(super) fn as_flag(value: &Value) -> Option<bool> {
    match as_text(value).or_else(|| value.as_bool().map(|flag| flag.to_string()))?.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A whole number, also as forms write it.
fn as_number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// The entries of a list; forms write a list of one like a value.
pub(super) fn entries(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(entries) => Some(entries),
        Value::String(_) => Some(std::slice::from_ref(value)),
        _ => None,
    }
}

/// Takes a text out of fields that have been checked.
pub(super) fn take_text(fields: &mut Map<String, Value>, name: &str) -> Option<String> {
    as_text(&fields.remove(name)?)
}

/// Of fields that have been checked, those with a rule, in the form they are kept.
pub(super) fn kept(fields: &Map<String, Value>, rules: &[(&str, Rule)]) -> Map<String, Value> {
    let keep = |(name, rule): &(&str, Rule)| {
        let value = fields.get(*name)?;
        let value = match (rule, value) {
            (Rule::Flag | Rule::MaybeFlag, value) => as_flag(value).map_or(Value::Null, Value::from),
            (Rule::MaybeText(_) | Rule::MaybeNumber, Value::Null) => Value::Null,
            (Rule::Text(_) | Rule::Name(_) | Rule::MaybeText(_), value) => as_text(value)?.into(),
            (Rule::MaybeNumber | Rule::Numbers(_), value) => as_number(value)?.into(),
            (Rule::Weekdays, Value::Array(days)) => days.iter().filter_map(as_number).collect(),
            (Rule::Fields(rules) | Rule::FieldsOrNull(rules), Value::Object(inner)) => kept(inner, rules).into(),
            (Rule::MaybeUrl, Value::Null) => "".into(),
            (Rule::List | Rule::Texts, value) => entries(value)?.into(),
            (Rule::Pairs, value) => pairs(value, false),
            (Rule::Headers, value) => pairs(value, true),
            (_, value) => value.clone(),
        };
        Some(((*name).to_owned(), value))
    };
    rules.iter().filter_map(keep).collect()
}

/// Pairs of `name` and `value`; headers have two flags more.
fn pairs(value: &Value, are_headers: bool) -> Value {
    let pair = |one: &Value| {
        let mut pair = json!({"name": one["name"], "value": one["value"]});
        for flag in ["allow_testing", "authentication"].into_iter().filter(|_| are_headers) {
            pair[flag] = as_flag(&one[flag]).unwrap_or_default().into();
        }
        pair
    };
    value.as_array().into_iter().flatten().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [(&str, Rule); 6] = [
        ("name", Rule::Name(5)),
        ("on", Rule::Flag),
        ("url", Rule::Url),
        ("kind", Rule::Choice(&["a", "b"])),
        ("inner", Rule::Fields(&[("most", Rule::MaybeNumber)])),
        ("pairs", Rule::Pairs),
    ];

    fn wrong(fields: Value) -> Value {
        let fields = fields.as_object().expect("an object");
        problems(fields, &RULES, &["name"]).into()
    }

    #[test]
    fn everything_that_is_wrong_is_told_where_it_is() {
        let fields = json!({
            "on": "perhaps", "url": "ftp://a", "kind": 3, "inner": {"most": "x"}, "pairs": [{"name": "a"}],
        });
        assert_eq!(
            wrong(fields),
            json!({
                "name": ["This field is required."], "on": ["Must be a valid boolean."],
                "url": ["Enter a valid URL."], "kind": ["\"3\" is not a valid choice."],
                "inner": {"most": ["A valid integer is required."]}, "pairs": ["Not a valid list of its items."],
            })
        );
        assert_eq!(wrong(json!({"name": "  "})), json!({"name": ["This field may not be blank."]}));
        assert_eq!(
            wrong(json!({"name": "longer"})),
            json!({"name": ["Ensure this field has no more than 5 characters."]})
        );
        assert_eq!(wrong(json!({"name": null})), json!({"name": ["This field may not be null."]}));
        let inner = json!({"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]});
        assert_eq!(wrong(json!({"name": "a", "inner": []})), json!({"inner": inner}));
    }

    #[test]
    fn what_has_a_rule_is_kept_in_one_form_and_the_rest_is_passed_over() {
        let fields = json!({"name": 7, "on": "True", "inner": {"most": 1, "other": 2}, "id": "mine"});
        assert_eq!(wrong(fields.clone()), json!({}));
        let kept = kept(fields.as_object().expect("an object"), &RULES);
        assert_eq!(Value::from(kept), json!({"name": "7", "on": true, "inner": {"most": 1}}));
    }
}
