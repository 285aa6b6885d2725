//! How commands print: JSON as the API gives it, or a table for people.

use std::fmt;
use std::io::{self, Write};

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

/// Prints a line. Whoever reads may stop reading (`| head`); then there is nothing left to do.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::output::print_line(format_args!($($text)*))
    };
}
pub(super) use say;

/// Prints a line, or ends the program: well if nobody reads any more, badly if it cannot be written.
pub(super) fn print_line(line: fmt::Arguments<'_>) {
    match writeln!(io::stdout().lock(), "{line}") {
        Ok(()) => (),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("error: cannot write to standard output: {error}");
            std::process::exit(1);
        }
    }
}

/// A table with these headings.
pub(super) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled).set_header(headings);
    table
}

/// Prints JSON in one line: an answer of the API's as it came.
pub(super) fn print_json(json: &impl fmt::Display) {
    say!("{json}");
}

/// A field as a person reads it: a text without quotes, a list joined by commas.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Prints the items of a list as a table, and how to get the rest.
pub(super) fn print_list(list: &Value, columns: &[(&str, &str)]) {
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut table = table(&headings);
    for item in list["data"].as_array().into_iter().flatten() {
        table.add_row(columns.iter().map(|(_, field)| text(&item[*field])));
    }
    say!("{table}");
    if let Some(cursor) = list["next_cursor"].as_str() {
        say!("there is more: --cursor {cursor}");
    }
}

/// Prints the fields of one thing, a line each.
pub(super) fn print_fields(thing: &Value, fields: &[&str]) {
    for field in fields {
        say!("{field:>16}  {}", text(&thing[*field]));
    }
}
