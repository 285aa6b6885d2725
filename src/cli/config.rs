//! `scanhook config`: the settings in force, and where each comes from.

use super::Global;
use super::output::{print_json, say, table};

/// Print the settings in force and where each comes from.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook config\n  SCANHOOK__DISPATCH__LEASE=5s scanhook config --json\n  scanhook config --defaults > scanhook.toml"
)]
pub(super) struct Args {
    /// Print the commented defaults, to start a settings file from.
    #[arg(long)]
    defaults: bool,
}

pub(super) fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    if args.defaults {
        say!("{}", crate::config::DEFAULTS.trim_end());
        return Ok(());
    }
    let (_, origins) = global.load(Vec::new())?;
    if global.json {
        print_json(&serde_json::to_value(&origins)?);
        return Ok(());
    }
    let mut rows = table(&["SETTING", "VALUE", "FROM"]);
    for origin in origins {
        rows.add_row([origin.key, origin.value, origin.source]);
    }
    say!("{rows}");
    Ok(())
}
