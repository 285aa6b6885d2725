//! One thing that a JSON value must have: something at a JSONPath (RFC 9535), or a value there.

use serde_json::Value;
use serde_json_path::JsonPath;

use crate::problem::quote;

/// The longest path, in bytes.
const LONGEST_PATH: usize = 256;
/// The most conditions on one content or body.
pub const MOST_CONDITIONS: usize = 20;
/// The most `..` and the most commas in a path: each multiplies how much there is to look at.
const MOST_DESCENTS: usize = 2;
const MOST_COMMAS: usize = 8;
/// The most values that a miss shows.
const MOST_SHOWN: usize = 3;

/// One thing that a JSON value must have.
#[derive(Debug, Clone)]
pub struct Condition {
    path: JsonPath,
    /// The path as it was written.
    written: String,
    /// What one of the selected values must be; anything will do if there is none.
    equals: Option<Value>,
}

impl Condition {
    /// Reads a path. Errors are texts for the user.
    pub fn new(path: &str, equals: Option<Value>) -> Result<Self, String> {
        if path.len() > LONGEST_PATH {
            return Err(format!("{} is {} bytes long; at most {LONGEST_PATH} are allowed", quote(path), path.len()));
        }
        if path.matches("..").count() > MOST_DESCENTS || path.matches(',').count() > MOST_COMMAS {
            return Err(format!(
                "{} has more than {MOST_DESCENTS} `..` or {MOST_COMMAS} commas; that is too much to look at",
                quote(path)
            ));
        }
        let parsed = JsonPath::parse(path).map_err(|error| {
            format!("{} is not a JSONPath ({error}); write it as $.risk.id or $.targets[*].id", quote(path))
        })?;
        Ok(Self { path: parsed, written: path.to_owned(), equals })
    }

    /// Reads `PATH=JSON`; what is not JSON is a text. Errors are texts for the user.
    pub fn parse_pair(pair: &str) -> Result<(String, Value), String> {
        // A path may have `==` in a filter: the first split whose left side is a path counts.
        let splits = pair.match_indices('=').map(|(at, _)| (&pair[..at], &pair[at + 1..]));
        let split = splits.into_iter().find(|(path, _)| JsonPath::parse(path).is_ok());
        let (path, value) = split.ok_or_else(|| {
            format!("{} is not PATH=JSON with a JSONPath; write it as '$.risk.id=\"abc\"'", quote(pair))
        })?;
        Ok((path.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))))
    }

    /// What a value lacks, in words; none if it has all. `value` is none where it is not JSON that
    /// can be read.
    pub fn miss(&self, value: Option<&Value>) -> Option<String> {
        let path = &self.written;
        let Some(value) = value else { return Some("it is no JSON that can be read".to_owned()) };
        let found = self.path.query(value).all();
        let is_met = match &self.equals {
            Some(wanted) => found.iter().any(|found| is_same(found, wanted)),
            None => !found.is_empty(),
        };
        if is_met {
            return None;
        }
        let shown: Vec<String> = found.iter().take(MOST_SHOWN).map(|value| shown(value)).collect();
        Some(match found.len().saturating_sub(MOST_SHOWN) {
            0 if shown.is_empty() => format!("{path} selects nothing"),
            0 => format!("{path} is {}", shown.join(", ")),
            more => format!("{path} is {} and {more} more", shown.join(", ")),
        })
    }
}

/// A value as JSON, cut if it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Whether two values are the same. Numbers are compared as numbers: 1 is 1.0.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || (a.is_f64() || b.is_f64()) && a.as_f64().is_some_and(|a| Some(a) == b.as_f64())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_miss_says_what_stands_there_instead() {
        let value = json!({
            "risk": {"id": "abc", "cvss": 9.0, "tags": ["a", "b", "c", "d", "e"], "at": {"x": 1, "y": [2]}},
        });
        for (path, equals, miss) in [
            ("$.risk.id", Some(json!("abc")), None),
            ("$.risk.id", Some(json!("abd")), Some(r#"$.risk.id is "abc""#)),
            ("$.risk.id", None, None),
            ("$.risk.name", None, Some("$.risk.name selects nothing")),
            ("$.risk.name", Some(json!(null)), Some("$.risk.name selects nothing")),
            ("$.risk.cvss", Some(json!(9)), None),
            ("$.risk.at", Some(json!({"y": [2.0], "x": 1})), None),
            ("$.risk.at", Some(json!({"x": 1})), Some(r#"$.risk.at is {"x":1,"y":[2]}"#)),
            ("$.risk.tags[*]", Some(json!("d")), None),
            ("$.risk.tags[*]", Some(json!("f")), Some(r#"$.risk.tags[*] is "a", "b", "c" and 2 more"#)),
            ("$[?@.id=='abc'].cvss", Some(json!(9.0)), None),
            ("$[?match(@.id, 'a.c')]", None, None),
        ] {
            let condition = Condition::new(path, equals).expect(path);
            assert_eq!(condition.miss(Some(&value)).as_deref(), miss, "{path}");
        }
        let unread = Condition::new("$", None).expect("a path").miss(None).expect("a miss");
        assert!(unread.contains("no JSON"), "{unread}");
    }

    #[test]
    fn paths_that_are_none_or_too_costly_are_refused() {
        for (path, reason) in [
            ("risk.id", "is not a JSONPath"),
            ("", "is not a JSONPath"),
            ("$..*..*..*", "more than 2 `..`"),
            ("$[0,0,0,0,0,0,0,0,0,0]", "8 commas"),
            (&format!("${}", ".a".repeat(200)), "at most 256"),
        ] {
            let error = Condition::new(path, None).expect_err(path);
            assert!(error.contains(reason), "{error}");
        }
        // Whether or not it is one, nested to the limit it must not exhaust the stack.
        for nested in ["[?(", "[?", "[?!("] {
            let _ = Condition::new(&format!("${}", nested.repeat(LONGEST_PATH / nested.len() - 1)), None);
        }
    }

    #[test]
    fn a_pair_is_split_where_its_path_ends() {
        let parse = |pair: &str| Condition::parse_pair(pair);
        assert_eq!(parse(r#"$.id="abc""#), Ok(("$.id".to_owned(), json!("abc"))));
        assert_eq!(parse("$.id=abc"), Ok(("$.id".to_owned(), json!("abc"))));
        assert_eq!(parse("$.n=7"), Ok(("$.n".to_owned(), json!(7))));
        assert_eq!(parse("$[?@.a=='x'].b=a=b"), Ok(("$[?@.a=='x'].b".to_owned(), json!("a=b"))));
        assert!(parse("$.id").expect_err("no value").contains("PATH=JSON"));
        assert!(parse("id=3").expect_err("no path").contains("JSONPath"));
    }
}
