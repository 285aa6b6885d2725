//! The parts that a process plays: all of them, or some, with other processes on the same database for
//! the rest.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

use crate::words::words;

words! {
    /// A part that a process plays.
    Role {
        /// Answers the API and the vendors' own, and moves the clocks of accounts.
        Api = "api",
        /// Claims what is due by the machine's clock, sends it and records what became of it.
        Dispatch = "dispatch",
        /// Goes on with scans, schedules and scenarios by the machine's clock.
        Scan = "scan",
    }
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Api, Self::Dispatch, Self::Scan];
}

/// The roles of a process: each once, in the order of [`Role::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Roles(Vec<Role>);

impl Roles {
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// What other processes must do.
    pub fn missing(&self) -> Self {
        Self(Role::ALL.into_iter().filter(|role| !self.has(*role)).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|role| role.as_str()).collect();
        formatter.write_str(&words.join(","))
    }
}

/// Reads a list of words, or one text with commas between them.
impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            List(Vec<String>),
            Text(String),
            Other(IgnoredAny),
        }
        let words = match Written::deserialize(deserializer)? {
            Written::List(words) => words,
            Written::Text(text) => text.split(',').map(|word| word.trim().to_owned()).collect(),
            Written::Other(_) => return Err(Error::custom("must be a list of api, dispatch and scan")),
        };
        let named = words.iter().filter(|word| !word.is_empty());
        let named: BTreeSet<usize> = named.map(|word| place(word)).collect::<Result<_, _>>().map_err(Error::custom)?;
        Ok(Self(named.into_iter().map(|place| Role::ALL[place]).collect()))
    }
}

/// Where a role stands in [`Role::ALL`].
fn place(word: &str) -> Result<usize, String> {
    let role: Role = word.parse()?;
    Ok(Role::ALL.iter().position(|one| *one == role).expect("every role is one of all"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn roles_are_a_list_or_a_text_with_commas_in_any_order() {
        let read = |value: Value| serde_json::from_value::<Roles>(value).map(|roles| roles.to_string());
        for (written, roles) in [
            (json!(["scan", "api", "scan"]), "api,scan"),
            (json!("dispatch"), "dispatch"),
            (json!("scan, dispatch,api"), "api,dispatch,scan"),
            (json!(""), ""),
            (json!([]), ""),
        ] {
            assert_eq!(read(written.clone()).expect("roles"), roles, "{written}");
        }
        for (written, problem) in [
            (json!(["send"]), "`send` is none of api, dispatch, scan"),
            (json!("api dispatch"), "`api dispatch` is none of api, dispatch, scan"),
            (json!(3), "must be a list of api, dispatch and scan"),
        ] {
            assert_eq!(read(written).expect_err(problem).to_string(), problem);
        }
    }

    #[test]
    fn what_is_missing_is_for_other_processes() {
        let roles: Roles = serde_json::from_value(json!("dispatch")).expect("roles");
        assert_eq!(roles.missing().to_string(), "api,scan");
        assert!(roles.missing().missing() == roles && roles.has(Role::Dispatch) && !roles.has(Role::Api));
    }
}
