//! Overrides: changing an example by dotted paths before it is published.

use serde_json::{Map, Value};

use crate::problem::FieldProblem;

/// Sets the value at a dotted path, such as `risk_definition.title` or `tags.0`. Objects on the way
/// are made where they are missing; the index after an array's last appends.
pub fn set(content: &mut Value, path: &str, value: Value) -> Result<(), FieldProblem> {
    let mut place = content;
    for step in path.split('.') {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = match place {
            Value::Object(fields) => fields.entry(step).or_insert(Value::Null),
            Value::Array(items) => {
                let index = step.parse::<usize>().ok().filter(|index| *index <= items.len());
                let index = index.ok_or_else(|| problem("set", path, &format!("has no item `{step}` on its way")))?;
                if index == items.len() {
                    items.push(Value::Null);
                }
                &mut items[index]
            }
            _ => return Err(problem("set", path, &format!("meets a plain value before `{step}`"))),
        };
    }
    *place = value;
    Ok(())
}

/// Removes what is at a dotted path.
pub fn remove(content: &mut Value, path: &str) -> Result<(), FieldProblem> {
    let missing = || problem("remove", path, "is not there to be removed");
    let (parent, last) = match path.rsplit_once('.') {
        Some((parent, last)) => {
            let pointer = format!("/{}", parent.replace('.', "/"));
            (content.pointer_mut(&pointer).ok_or_else(missing)?, last)
        }
        None => (content, path),
    };
    match parent {
        Value::Object(fields) => fields.shift_remove(last).map(drop).ok_or_else(missing),
        Value::Array(items) => match last.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                Ok(())
            }
            _ => Err(missing()),
        },
        _ => Err(missing()),
    }
}

fn problem(field: &str, path: &str, reason: &str) -> FieldProblem {
    FieldProblem::new(format!("/{field}/{path}"), format!("`{path}` {reason}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_sets_makes_and_appends() {
        let mut content = json!({"a": {"b": 1}, "list": [1]});
        for (path, value) in [("a.b", json!(2)), ("a.c.d", json!("x")), ("list.0", json!(9)), ("list.1", json!(8))] {
            set(&mut content, path, value).expect("set");
        }
        assert_eq!(content, json!({"a": {"b": 2, "c": {"d": "x"}}, "list": [9, 8]}));
        for path in ["a.b.c", "list.7", "list.x"] {
            assert!(set(&mut content, path, json!(1)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_path_removes_or_is_told_to_be_missing() {
        let mut content = json!({"a": {"b": 1}, "list": [1, 2]});
        remove(&mut content, "a.b").expect("removed");
        remove(&mut content, "list.0").expect("removed");
        assert_eq!(content, json!({"a": {}, "list": [2]}));
        for path in ["a.b", "z", "list.5", "a.b.c"] {
            assert!(remove(&mut content, path).is_err(), "{path}");
        }
    }
}
