//! Filters of lists, in both forms that the vendor's own clients send. Pure.
//!
//! Documented: JSON text of an object of arrays. Inferred from the vendor's example with a newer
//! axios: `filters[key][0]=value`, plain or percent-encoded. Inferred: any value of a key will do,
//! and every key must be met. Assumed: a lone value stands for an array of one, and an empty array
//! filters nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::problem::quote;

/// What to keep of a list: the values of each key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<&'static str, Vec<String>>);

impl Filters {
    /// Reads the query's parameters; those that are not filters are somebody else's.
    pub(super) fn of_query<'q>(
        parameters: impl Iterator<Item = (&'q str, &'q str)>,
        known: &[&'static str],
    ) -> Result<Self, String> {
        let mut filters = Self::default();
        for (name, value) in parameters {
            if name == "filters" {
                if !value.trim().is_empty() {
                    let value = serde_json::from_str(value)
                        .map_err(|error| format!("filters: {} is not JSON: {error}", quote(value)))?;
                    filters.add_object("filters", &value, known)?;
                }
            } else if let Some(rest) = name.strip_prefix("filters[") {
                let key = bracketed(rest)
                    .ok_or_else(|| format!("{} is malformed; write filters[status][0]=OPEN", quote(name)))?;
                filters.add("filters", key, known, [value.to_owned()])?;
            }
        }
        Ok(filters)
    }

    /// Reads an object of arrays, given under a name.
    pub(super) fn of_object(name: &str, object: &Value, known: &[&'static str]) -> Result<Self, String> {
        let mut filters = Self::default();
        filters.add_object(name, object, known)?;
        Ok(filters)
    }

    fn add_object(&mut self, name: &str, object: &Value, known: &[&'static str]) -> Result<(), String> {
        let Value::Object(object) = object else { return Err(format!("{name}: must be an object of arrays")) };
        for (key, values) in object {
            let wrong = || format!("{name}: {} must be an array of strings", quote(key));
            let values: Option<Vec<String>> = match values {
                Value::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
                value => value.as_str().map(|value| vec![value.to_owned()]),
            };
            self.add(name, key, known, values.ok_or_else(wrong)?)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        name: &str,
        key: &str,
        known: &[&'static str],
        values: impl IntoIterator<Item = String>,
    ) -> Result<(), String> {
        let known_key = known.iter().find(|known| **known == key);
        let key =
            known_key.ok_or_else(|| format!("{name}: unknown key {}; known are {}", quote(key), known.join(", ")))?;
        self.0.entry(key).or_default().extend(values);
        Ok(())
    }

    /// Whether an object is to be kept, by its JSON: a key's dots lead into it, and of an array any
    /// item will do.
    pub(super) fn keep(&self, shown: &Value) -> bool {
        self.keep_by(|key| {
            let found = key.split('.').try_fold(shown, |value, field| value.get(field));
            match found {
                Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
                Some(value) => value.as_str().into_iter().collect(),
                None => Vec::new(),
            }
        })
    }

    /// Whether an object is to be kept, by its values of each key.
    pub(super) fn keep_by<'v>(&self, values: impl Fn(&str) -> Vec<&'v str>) -> bool {
        self.0.iter().filter(|(_, wanted)| !wanted.is_empty()).all(|(key, wanted)| {
            let values = values(key);
            wanted.iter().any(|wanted| values.contains(&wanted.as_str()))
        })
    }
}

/// The key of `key]`, `key][]` or `key][0]`. It may have dots.
fn bracketed(rest: &str) -> Option<&str> {
    let (key, index) = rest.strip_suffix(']')?.split_once("][").unwrap_or((rest.strip_suffix(']')?, ""));
    let is_plain = !key.is_empty() && !key.contains(['[', ']']);
    (is_plain && index.chars().all(|c| c.is_ascii_digit())).then_some(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use url::form_urlencoded;

    use super::*;

    const KNOWN: [&str; 3] = ["status", "tags", "risk_definition.scan_type"];

    fn read(query: &str) -> Result<Filters, String> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Filters::of_query(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())), &KNOWN)
    }

    #[track_caller]
    fn check(query: &str, wanted: Value) {
        let shown: BTreeMap<&str, Vec<String>> = read(query).expect("filters").0;
        assert_eq!(json!(shown), wanted, "{query}");
    }

    #[test]
    fn all_forms_mean_the_same() {
        let nmap = json!({"risk_definition.scan_type": ["NMAP", "NMAP_UDP"], "status": ["OPEN"]});
        check(
            "filters[risk_definition.scan_type][0]=NMAP&filters[risk_definition.scan_type][1]=NMAP_UDP&filters[status][0]=OPEN",
            nmap.clone(),
        );
        check(
            "filters%5Brisk_definition.scan_type%5D%5B0%5D=NMAP&filters%5Brisk_definition.scan_type%5D%5B1%5D=NMAP_UDP&filters%5Bstatus%5D%5B0%5D=OPEN",
            nmap.clone(),
        );
        check(
            "filters=%7B%22risk_definition.scan_type%22%3A%5B%22NMAP%22%2C%22NMAP_UDP%22%5D%2C%22status%22%3A%5B%22OPEN%22%5D%7D",
            nmap,
        );
        check("filters[status][]=OPEN&filters[status][]=CLOSED", json!({"status": ["OPEN", "CLOSED"]}));
        check("filters[status]=OPEN&page_token=x", json!({"status": ["OPEN"]}));
        check(r#"filters={"status":"OPEN"}"#, json!({"status": ["OPEN"]}));
        check("", json!({}));
        check("filters=", json!({}));
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (query, named) in [
            ("filters={", "not JSON"),
            ("filters=[1]", "object of arrays"),
            (r#"filters={"status":[1]}"#, "status"),
            (r#"filters={"status":{"OPEN":true}}"#, "status"),
            (r#"filters={"colour":["red"]}"#, "colour"),
            ("filters[colour][0]=red", "colour"),
            ("filters[risk_definition][scan_type]=NMAP", "filters[risk_definition][scan_type]"),
            ("filters[status", "filters[status"),
            ("filters[]=OPEN", "filters[]"),
            ("filters[status][0][1]=OPEN", "filters[status][0][1]"),
        ] {
            assert!(read(query).is_err_and(|error| error.contains(named)), "{query}");
        }
    }

    #[test]
    fn any_value_of_a_key_will_do_and_every_key_must_be_met() {
        let risk = json!({"status": "OPEN", "tags": ["prod", "eu"], "risk_definition": {"scan_type": "NMAP"}});
        for (query, kept) in [
            ("", true),
            (r#"filters={"status":[]}"#, true),
            ("filters[status][]=CLOSED&filters[status][]=OPEN", true),
            ("filters[status]=CLOSED", false),
            ("filters[tags]=eu&filters[risk_definition.scan_type]=NMAP", true),
            ("filters[tags]=eu&filters[risk_definition.scan_type]=SSLYZE", false),
            ("filters[tags]=us", false),
            ("filters[status]=", false),
        ] {
            assert_eq!(read(query).expect("filters").keep(&risk), kept, "{query}");
        }
        assert!(!read("filters[tags]=x").expect("filters").keep(&json!({})));
    }
}
