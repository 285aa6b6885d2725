//! A YAML text as a tree that knows its places, so that whatever is wrong with a field can be told
//! by line and column. Pure.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

/// A value, and where it stands: line and column from 1.
#[derive(Debug)]
pub(super) struct Node {
    place: (u64, u64),
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Map(Vec<(String, Node)>),
    List(Vec<Node>),
    Scalar(Value),
}

impl Node {
    /// Whether there is no value: an empty text, or comments only.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.kind, Kind::Scalar(Value::Null))
    }

    fn child(&self, name: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, node)| node),
            Kind::List(items) => name.parse().ok().and_then(|index: usize| items.get(index)),
            Kind::Scalar(_) => None,
        }
    }

    fn children(&self) -> Vec<(String, &Self)> {
        match &self.kind {
            Kind::Map(fields) => fields.iter().map(|(name, node)| (name.clone(), node)).collect(),
            Kind::List(items) => items.iter().enumerate().map(|(index, node)| (index.to_string(), node)).collect(),
            Kind::Scalar(_) => Vec::new(),
        }
    }

    /// The node at a JSON pointer, or the nearest above it that is there.
    fn nearest(&self, pointer: &str) -> &Self {
        let names = pointer.split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~"));
        let mut node = self;
        for name in names {
            let Some(child) = node.child(&name) else { break };
            node = child;
        }
        node
    }

    /// Where the value at a JSON pointer stands, or what is nearest above it.
    pub(super) fn place(&self, pointer: &str) -> (u64, u64) {
        self.nearest(pointer).place
    }

    /// The JSON pointer of the innermost value that begins at a place.
    pub(super) fn pointer_at(&self, line: u64, column: u64) -> Option<String> {
        let below = |(name, node): (String, &Self)| {
            node.pointer_at(line, column).map(|rest| format!("/{}{rest}", name.replace('~', "~0").replace('/', "~1")))
        };
        let own = || (self.place == (line, column)).then(String::new);
        self.children().into_iter().find_map(below).or_else(own)
    }

    /// A digest of what stands at a JSON pointer, whatever its layout and the order of its fields;
    /// of these fields only, if any are named.
    pub(super) fn digest(&self, pointer: &str, fields: &[&str]) -> String {
        let mut value = self.nearest(pointer).value();
        if let Some(map) = value.as_object_mut().filter(|_| !fields.is_empty()) {
            map.retain(|name, _| fields.contains(&name.as_str()));
        }
        hex::encode(Sha256::digest(value.to_string()))
    }

    fn value(&self) -> Value {
        match &self.kind {
            Kind::Map(fields) => {
                let mut fields: Vec<(&String, Value)> =
                    fields.iter().map(|(name, node)| (name, node.value())).collect();
                fields.sort_by_key(|(name, _)| *name);
                Value::Object(fields.into_iter().map(|(name, value)| (name.clone(), value)).collect::<Map<_, _>>())
            }
            Kind::List(items) => items.iter().map(Self::value).collect(),
            Kind::Scalar(value) => value.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Self { place: (referenced.line(), referenced.column()), kind: value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("YAML")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Kind, M::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Kind::Map(fields))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Kind, S::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\nlist:\n  - name: a\n    more: {n: 1}\n  - {more: {n: 1}, name: a}\n";

    fn tree() -> Node {
        serde_saphyr::from_str(TEXT).expect("YAML")
    }

    #[test]
    fn a_field_is_found_by_its_pointer_and_one_that_is_missing_by_what_holds_it() {
        for (pointer, place) in
            [("/list/0/name", (3, 11)), ("/list/0/more/n", (4, 15)), ("/list/0/none/at/all", (3, 5)), ("/none", (2, 1))]
        {
            assert_eq!(tree().place(pointer), place, "{pointer}");
        }
        assert_eq!(tree().pointer_at(3, 11).as_deref(), Some("/list/0/name"));
        assert_eq!(tree().pointer_at(1, 1), None);
    }

    #[test]
    fn a_digest_does_not_depend_on_layout_and_order() {
        assert_eq!(tree().digest("/list/0", &[]), tree().digest("/list/1", &[]));
        assert_ne!(tree().digest("/list/0", &[]), tree().digest("/list/0", &["name"]));
        assert_ne!(tree().digest("/list/0", &[]), tree().digest("/list/0/name", &[]));
    }
}
