//! `scanhook sign` and `scanhook verify`: signatures by hand, without a daemon.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, json};

use super::Global;
use super::output::{print_json, say};
use crate::clock::Clock;
use crate::event::Vendor;
use crate::subscriber::Secret;
use crate::vendors::{Scheme, dialect};

/// Print the signature headers for exactly the bytes of a file.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook sign --vendor hostedscan --secret s3cret body.json\n  scanhook sign --vendor standard --secret whsec_… --id msg_1 --timestamp 1767225600 body.json"
)]
pub(super) struct Sign {
    #[arg(long)]
    vendor: Vendor,
    #[arg(long)]
    secret: String,
    /// The timestamp as the vendor writes it: HostedScan in milliseconds, others in seconds [default: now].
    #[arg(long, value_name = "NUMBER")]
    timestamp: Option<i64>,
    /// The message's id, where the vendor signs one.
    #[arg(long, default_value = "msg_1")]
    id: String,
    /// The body; `-` is standard input.
    body: PathBuf,
}

/// Check a signature, and explain why it does not verify. Exits with 1 if it does not.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  scanhook verify --vendor hostedscan --secret s3cret --header 'X-HOSTEDSCAN-TIMESTAMP: 1767225600000' --header 'X-HOSTEDSCAN-SIGNATURE: 305d…' body.json"
)]
pub(super) struct Verify {
    #[arg(long)]
    vendor: Vendor,
    #[arg(long)]
    secret: String,
    /// A secret that was used before, to try as well. May be repeated.
    #[arg(long = "old-secret", value_name = "SECRET")]
    old_secrets: Vec<String>,
    /// A header of the request. May be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The body; `-` is standard input.
    body: PathBuf,
}

fn scheme(vendor: Vendor) -> anyhow::Result<&'static Scheme> {
    dialect(vendor).scheme().ok_or_else(|| anyhow!("{vendor} signs nothing"))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body).context("cannot read standard input")?;
        return Ok(body);
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(super) fn sign(global: &Global, args: &Sign) -> anyhow::Result<()> {
    let scheme = scheme(args.vendor)?;
    dialect(args.vendor).check_secret(&args.secret).map_err(|reason| anyhow!("the secret {reason}"))?;
    let timestamp = args.timestamp.map_or_else(|| scheme.write_time(Clock::Real.now()), |time| time.to_string());
    let headers = scheme.sign(&args.id, timestamp, &read(&args.body)?, &[&Secret::new(args.secret.as_str())]);
    if global.json {
        let headers: Map<_, _> = headers.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        print_json(&serde_json::Value::from(headers));
    } else {
        headers.iter().for_each(|(name, value)| say!("{name}: {value}"));
    }
    Ok(())
}

pub(super) fn verify(global: &Global, args: Verify) -> anyhow::Result<()> {
    let scheme = scheme(args.vendor)?;
    let mut headers = HeaderMap::new();
    for header in &args.headers {
        let wrong = || anyhow!("`{header}` is not a header; write it as 'Name: value'");
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        headers.insert(name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?);
    }
    let old: Vec<Secret> = args.old_secrets.into_iter().map(Secret::new).collect();
    let explanation = scheme.explain(&Secret::new(args.secret), &old, &headers, &read(&args.body)?);
    if global.json {
        print_json(&json!(explanation));
    } else {
        say!("{}", if explanation.valid { "valid" } else { "NOT valid" });
        say!("signed    {} bytes: {}", explanation.signed_bytes, explanation.signed);
        say!("expected  {}", explanation.expected);
        say!("received  {}", explanation.received.as_deref().unwrap_or("-"));
        explanation.diagnosis.iter().for_each(|reason| say!("because   {reason}"));
    }
    if explanation.valid { Ok(()) } else { bail!("the signature does not verify") }
}
