//! `scanhook receive`: a receiver that verifies signatures and answers as told.

use std::net::SocketAddr;

use anyhow::anyhow;
use http::StatusCode;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::output::say;
use super::{Global, stop_on_signals};
use crate::app::bind;
use crate::event::Vendor;
use crate::receiver::{Received, ReceiverSettings, router};
use crate::subscriber::Secret;
use crate::vendors::dialect;

/// Receive webhooks: verify their signatures, print them, answer as told.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook receive --vendor hostedscan --secret s3cret\n  scanhook receive --listen 127.0.0.1:9000 --answers 503,503,200"
)]
pub(super) struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9000", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Whose webhooks are expected.
    #[arg(long, default_value = "standard")]
    vendor: Vendor,
    /// What to verify with; without it signatures are not checked.
    #[arg(long)]
    secret: Option<String>,
    /// The statuses to answer with, in order; the last repeats.
    #[arg(long, value_delimiter = ',', default_value = "200", value_parser = parse_status)]
    answers: Vec<StatusCode>,
}

fn parse_status(text: &str) -> Result<StatusCode, String> {
    let status = text.trim().parse::<u16>().ok().filter(|status| (200..=599).contains(status));
    status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| format!("`{text}` is not an HTTP status from 200 to 599"))
}

pub(super) async fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    if let Some(secret) = &args.secret {
        dialect(args.vendor).check_secret(secret).map_err(|reason| anyhow!("--secret: {reason}"))?;
    }
    let listener = bind(args.listen).await?;
    let url = format!("http://{}", listener.local_addr()?);
    if global.json {
        say!("{}", json!({"url": url}));
    } else {
        say!("receiving on {url}");
    }
    let settings =
        ReceiverSettings { vendor: args.vendor, secret: args.secret.map(Secret::new), answers: args.answers };
    let (seen, mut arriving) = mpsc::unbounded_channel();
    let stop = stop_on_signals(&TaskTracker::new())?;
    let server = axum::serve(listener, router(settings, seen)).with_graceful_shutdown(stop.cancelled_owned());
    let print = async {
        while let Some(received) = arriving.recv().await {
            print(&received, global.json);
        }
    };
    // The printer ends when the server has dropped its end of the channel.
    let (served, ()) = tokio::join!(server, print);
    Ok(served?)
}

fn print(received: &Received, as_json: bool) {
    let Received { number, method, uri, headers, body, verdict, answer } = received;
    let body = String::from_utf8_lossy(body);
    if as_json {
        let headers: Vec<(&str, String)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let verified = verdict.as_ref().map(Result::is_ok);
        let problem = verdict.as_ref().and_then(|verdict| verdict.as_ref().err());
        say!(
            "{}",
            json!({
                "number": number, "method": method.as_str(), "path": uri.to_string(), "headers": headers,
                "body": body, "verified": verified, "problem": problem, "answer": answer.as_u16(),
            })
        );
        return;
    }
    let signature = match verdict {
        Some(Ok(())) => "signature ok".to_owned(),
        Some(Err(problem)) => format!("SIGNATURE WRONG: {problem}"),
        None => "signature not checked (no --secret)".to_owned(),
    };
    say!("#{number} {method} {uri}: {signature}, answered {}", answer.as_u16());
    say!("   {body}");
}
