//! Expressions in scenarios: `{{ first.hostedscan.id }}`, over what came before.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

/// Names that every expression knows: the time of the step, and the number of the run.
pub const RESERVED: [&str; 2] = ["now", "run"];
/// The longest text that an expression may be worth.
const LONGEST: usize = 64 * 1024;
/// How much work one expression may be.
const FUEL: u64 = 20_000;

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
}

/// The expression of a text that is nothing else, so that its value keeps its type.
fn alone(text: &str) -> Option<&str> {
    let inside = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!inside.contains("{{") && !inside.contains("}}")).then_some(inside.trim())
}

/// What is wrong with the expressions in a value, given the names that they may use.
pub(super) fn faults(value: &Value, known: &BTreeSet<&str>) -> Vec<String> {
    match value {
        Value::String(text) if text.contains("{{") || text.contains("{%") => fault(text, known).into_iter().collect(),
        Value::Array(items) => items.iter().flat_map(|item| faults(item, known)).collect(),
        Value::Object(fields) => fields.values().flat_map(|field| faults(field, known)).collect(),
        _ => Vec::new(),
    }
}

fn fault(text: &str, known: &BTreeSet<&str>) -> Option<String> {
    let environment = environment();
    let undeclared = match alone(text) {
        Some(inside) => environment.compile_expression(inside).map(|one| one.undeclared_variables(false)),
        None => environment.template_from_str(text).map(|one| one.undeclared_variables(false)),
    };
    match undeclared {
        Err(error) => Some(format!("`{text}` is not an expression: {error}")),
        Ok(used) => {
            let is_known = |name: &&String| !known.contains(name.as_str()) && !RESERVED.contains(&name.as_str());
            let mut unknown: Vec<&String> = used.iter().filter(is_known).collect();
            unknown.sort();
            let unknown = unknown.first()?;
            Some(format!("`{text}` uses `{unknown}`, which no earlier step has named"))
        }
    }
}

/// Whether there are expressions in a value.
pub(super) fn is_in(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{") || text.contains("{%"),
        Value::Array(items) => items.iter().any(is_in),
        Value::Object(fields) => fields.values().any(is_in),
        _ => false,
    }
}

/// Replaces the expressions in a value by what they are worth.
pub(super) fn resolve(value: &Value, names: &BTreeMap<String, Value>) -> Result<Value, String> {
    match value {
        Value::String(text) if text.contains("{{") || text.contains("{%") => evaluate(text, names),
        Value::Array(items) => items.iter().map(|item| resolve(item, names)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| Ok((name.clone(), resolve(field, names)?))).collect()
        }
        plain => Ok(plain.clone()),
    }
}

fn evaluate(text: &str, names: &BTreeMap<String, Value>) -> Result<Value, String> {
    let environment = environment();
    let names = minijinja::value::Value::from(minijinja::value::Serde(names));
    let wrong = |error: minijinja::Error| format!("`{text}` cannot be worked out: {error}");
    let Some(inside) = alone(text) else {
        let text = environment.render_str(text, names).map_err(wrong)?;
        return bounded(Value::from(text));
    };
    let value = environment.compile_expression(inside).and_then(|one| one.eval(names)).map_err(wrong)?;
    if value.is_undefined() {
        return Err(format!("`{text}` is worth nothing"));
    }
    bounded(serde_json::to_value(&value).map_err(|error| format!("`{text}` has no value in JSON: {error}"))?)
}

fn bounded(value: Value) -> Result<Value, String> {
    let is_long = value.as_str().is_some_and(|text| text.len() > LONGEST);
    if is_long { Err(format!("an expression is worth more than {LONGEST} bytes")) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_expression_alone_keeps_its_type_and_among_words_it_is_text() {
        let names = BTreeMap::from([("first".to_owned(), json!({"id": 7, "tags": ["a"]}))]);
        let value = json!({"n": "{{ first.id }}", "t": "scan {{ first.id }}", "l": ["{{ first.tags }}"], "plain": 1});
        let resolved = resolve(&value, &names).expect("worked out");
        assert_eq!(resolved, json!({"n": 7, "t": "scan 7", "l": [["a"]], "plain": 1}));
        assert!(resolve(&json!("{{ first.nothing }}"), &names).is_err());
        assert!(resolve(&json!("{{ 'x' * 70000 }}"), &names).is_err(), "so is what it is worth");
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(resolve(&json!(endless), &names).is_err(), "work is bounded");
    }

    #[test]
    fn what_cannot_be_worked_out_is_seen_beforehand() {
        let known = BTreeSet::from(["first"]);
        for (text, fault) in [
            ("{{ first.id }}", None),
            ("{{ now }} and {{ first }}", None),
            ("{{ second.id }}", Some("uses `second`")),
            ("a {{ second }} b", Some("uses `second`")),
            ("{{ first. }}", Some("is not an expression")),
            ("{{ first", Some("is not an expression")),
        ] {
            let found = faults(&json!([text]), &known);
            assert_eq!(found.len(), usize::from(fault.is_some()), "{text}: {found:?}");
            assert!(found.iter().all(|one| one.contains(fault.unwrap_or_default())), "{text}: {found:?}");
        }
    }
}
