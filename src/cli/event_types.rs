//! `scanhook event-types`: what each vendor sends. Read from the program itself; no daemon needed.

use anyhow::anyhow;
use serde_json::json;

use super::Global;
use super::output::{print_json, say, table};
use crate::event::Vendor;
use crate::vendors::{EventType, dialect};

/// List what each vendor sends, or show one event type's schema and example.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  scanhook event-types\n  scanhook event-types halo --json\n  scanhook event-types show hostedscan risk.opened"
)]
pub(super) struct Args {
    /// Only this vendor's: standard, hostedscan, halo or probely.
    vendor: Option<Vendor>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Show(Show),
}

/// Show an event type with its schema and an example.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook event-types show hostedscan risk.opened --json")]
struct Show {
    vendor: Vendor,
    event_type: String,
}

fn as_json(vendor: Vendor, event_type: &EventType) -> serde_json::Value {
    json!({
        "vendor": vendor, "event_type": event_type.name, "object_type": event_type.object_type,
        "subject": event_type.subject, "description": event_type.description, "vocabulary": event_type.vocabulary,
        "provenance": event_type.provenance, "source": event_type.source,
    })
}

pub(super) fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    match args.command {
        Some(Command::Show(show_args)) => show(global, &show_args),
        None => {
            list(global, args.vendor);
            Ok(())
        }
    }
}

fn list(global: &Global, wanted: Option<Vendor>) {
    let mut all = Vec::new();
    let mut rows = table(&["VENDOR", "EVENT TYPE", "SUBJECT", "PROVENANCE"]);
    for vendor in Vendor::ALL.into_iter().filter(|vendor| wanted.is_none_or(|wanted| wanted == *vendor)) {
        let Some(catalogue) = dialect(vendor).catalogue() else {
            rows.add_row([vendor.as_str(), "any name, such as invoice.paid", "", ""]);
            continue;
        };
        for event_type in &catalogue.event_types {
            all.push(as_json(vendor, event_type));
            let provenance = format!("{:?}", event_type.provenance).to_lowercase();
            rows.add_row([vendor.as_str(), &event_type.name, &event_type.subject, &provenance]);
        }
    }
    if global.json { print_json(&json!({"data": all})) } else { say!("{rows}") }
}

fn show(global: &Global, args: &Show) -> anyhow::Result<()> {
    let vendor = args.vendor;
    let known = dialect(vendor).catalogue().and_then(|catalogue| catalogue.get(&args.event_type));
    let known = known.ok_or_else(|| {
        anyhow!("{vendor} has no event type `{}`; `scanhook event-types {vendor}` lists them", args.event_type)
    })?;
    if global.json {
        let mut shown = as_json(vendor, known);
        shown["schema"] = known.schema.clone();
        shown["example"] = known.example.clone();
        print_json(&shown);
        return Ok(());
    }
    let EventType { name, subject, description, provenance, source, .. } = known;
    say!("{vendor} {name}: {subject}\n{description}\n{provenance:?}: {source}\n");
    say!("example\n{:#}\n\nschema\n{:#}", known.example, known.schema);
    Ok(())
}
