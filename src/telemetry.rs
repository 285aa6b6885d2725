//! Logs: one `info` line per attempt, `warn` when scanhook coped, `error` when a person must act.
//! Never secrets, bodies, or URLs with credentials.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

/// Starts logging to standard error. A second call in one process changes nothing.
pub fn start(settings: &Log) {
    // The level was checked with the settings.
    let filter = EnvFilter::try_new(&settings.level).unwrap_or_else(|_| EnvFilter::new("info"));
    // What goes wrong in a handshake is a client's affair, and no person here must act.
    let filter = match "tls_listener=off".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A log that cannot be written must not stop deliveries: reporting that would panic.
    let lines = lines.with_ansi(std::io::stderr().is_terminal()).log_internal_errors(false);
    let started = match settings.format {
        LogFormat::Text => lines.compact().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging had been started before");
    }
}
