//! What is wrong with something handed in: which field, and why.

use std::fmt;

/// One thing wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldProblem {
    /// A JSON pointer into what was handed in, such as `/retry_schedule/0`.
    #[schema(example = "/retry_schedule/0")]
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl FieldProblem {
    /// A problem with the field at `pointer`.
    pub fn new(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), reason: reason.into() }
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.pointer.trim_start_matches('/').replace('/', ".");
        if name.is_empty() { formatter.write_str(&self.reason) } else { write!(formatter, "{name}: {}", self.reason) }
    }
}

/// A text fit to be quoted in an error: cut if it is long.
pub fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

/// Checks a short text: not empty, at most `longest` bytes, no control characters.
/// (Postgres refuses a text with a NUL, and a line break in a name garbles logs and tables.)
pub fn check_text(pointer: &str, text: &str, longest: usize) -> Result<(), FieldProblem> {
    let reason = if text.is_empty() {
        "must not be empty".to_owned()
    } else if text.len() > longest {
        format!("is {} bytes long; at most {longest} are allowed", text.len())
    } else if text.chars().any(char::is_control) {
        "must not contain control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(FieldProblem::new(pointer, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_checked() {
        for (text, ok) in [("a", true), ("", false), ("12345678", true), ("123456789", false), ("a\0", false)] {
            assert_eq!(check_text("/name", text, 8).is_ok(), ok, "{text:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_when_it_is_quoted() {
        assert_eq!(quote("acme"), "`acme`");
        assert_eq!(quote(&"é".repeat(1_000)).chars().count(), 83);
    }

    #[test]
    fn a_problem_reads_as_field_and_reason() {
        assert_eq!(FieldProblem::new("/retry_schedule/0", "is negative").to_string(), "retry_schedule.0: is negative");
        assert_eq!(FieldProblem::new("", "is not an object").to_string(), "is not an object");
    }
}
