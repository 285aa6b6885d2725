//! The catalogue of a vendor's event types: schema, example and provenance, from a data file.

use std::collections::HashMap;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::problem::FieldProblem;
use crate::subscriber::Vocabulary;

/// How sure a fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provenance {
    /// The vendor's documentation has the fields.
    Documented,
    /// Derived from what is documented, or from what the vendor's clients rely on.
    Inferred,
    /// A guess, made for completeness.
    Assumed,
}

/// One kind of event that a vendor sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventType {
    #[serde(rename = "event_type")]
    pub name: String,
    /// What its content describes.
    pub object_type: String,
    /// The vendor's own label.
    pub subject: String,
    pub description: String,
    /// Which of HostedScan's two vocabularies it belongs to.
    #[serde(default)]
    pub vocabulary: Option<Vocabulary>,
    pub provenance: Provenance,
    /// Where the fact comes from.
    pub source: String,
    /// The JSON Schema (2020-12) of the content, complete in itself.
    pub schema: Value,
    /// A realistic content.
    pub example: Value,
    #[serde(skip)]
    validator: OnceLock<Validator>,
}

/// Every event type of one vendor, in the vendor's order.
#[derive(Debug)]
pub struct Catalogue {
    pub event_types: Vec<EventType>,
    by_name: HashMap<String, usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "$defs")]
    definitions: Value,
    event_types: Vec<EventType>,
}

impl Catalogue {
    /// Reads a data file that is compiled in.
    ///
    /// # Panics
    /// If the file is malformed; a test reads every one.
    pub(super) fn read(file: &str) -> Self {
        let File { definitions, mut event_types } = serde_json::from_str(file).expect("a test holds that it reads");
        for event_type in &mut event_types {
            if let Some(schema) = event_type.schema.as_object_mut() {
                schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
                schema.insert("$defs".to_owned(), definitions.clone());
            }
        }
        let by_name = event_types.iter().enumerate().map(|(index, one)| (one.name.clone(), index)).collect();
        Self { event_types, by_name }
    }

    /// The event type of this name.
    pub fn get(&self, name: &str) -> Option<&EventType> {
        self.by_name.get(name).map(|index| &self.event_types[*index])
    }
}

impl EventType {
    /// What is wrong with a content, by the schema. Pointers start at `/content`.
    pub fn violations(&self, content: &Value) -> Vec<FieldProblem> {
        let validator = self
            .validator
            .get_or_init(|| jsonschema::validator_for(&self.schema).expect("a test holds that every schema compiles"));
        let problem = |error: jsonschema::ValidationError<'_>| {
            FieldProblem::new(format!("/content{}", error.instance_path()), error.to_string())
        };
        let mut problems: Vec<FieldProblem> = Vec::new();
        // A schema that refers to a definition may ask for the same thing twice.
        for problem in validator.iter_errors(content).map(problem) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        problems
    }
}
