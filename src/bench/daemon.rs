//! The daemon under test: a process of its own, so that what it uses is its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use url::Url;

use super::load::{EVENT_TYPE, Target, call};
use crate::clock::Clock;
use crate::id::SubscriberId;

/// How long a daemon may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// How long everything may take to be recorded once it has been sent.
const RECORDS_WITHIN: Duration = Duration::from_secs(60);
/// How often the API is asked whether it is.
const LOOKS_EVERY: Duration = Duration::from_millis(2);
/// The tick that Linux tells CPU time in, on every processor.
const TICK: Duration = Duration::from_millis(10);

/// A running `scanhook serve`. It is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    process: Child,
    pub(super) address: SocketAddr,
    /// From the start of the process to 200 from `/readyz`.
    pub(super) ready_after: Duration,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) resident_mib: f64,
    pub(super) peak_mib: f64,
}

impl Daemon {
    /// Starts this very program as a daemon on a database, with its documented settings and these
    /// in the environment, and waits until it is ready.
    pub(super) async fn start(
        program: &Path,
        database_url: &str,
        settings: &[(&'static str, String)],
    ) -> anyhow::Result<Self> {
        let stopwatch = Clock::Real.stopwatch();
        let mut process = Command::new(program)
            .args(["serve", "--json", "--listen", "127.0.0.1:0"])
            // A URL may hold a password, and everybody can read arguments.
            .env("SCANHOOK__DATABASE__URL", database_url)
            .env("SCANHOOK__LOG__LEVEL", "warn")
            .envs(settings.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let said = process.stdout.take().context("the daemon has no standard output")?;
        let line = async {
            let line = BufReader::new(said).lines().next_line().await?;
            line.context("the daemon ended before it was ready; what it says of that is above")
        };
        let line = tokio::time::timeout(STARTS_WITHIN, line).await;
        let line = line.map_err(|_| anyhow!("the daemon was not ready after {} s", STARTS_WITHIN.as_secs()))??;
        let said: Value = serde_json::from_str(&line).context("the daemon says where it listens")?;
        let url: Url = said["url"].as_str().unwrap_or_default().parse().context("the daemon's URL")?;
        let address = url.socket_addrs(|| None)?.first().copied().context("the daemon's address")?;
        call(address, Method::GET, "/readyz", None).await?;
        Ok(Self { process, address, ready_after: stopwatch.elapsed() })
    }

    /// Where events are published.
    pub(super) fn target(&self, path: &'static str) -> Target {
        Target { address: self.address, path }
    }

    /// Registers a subscriber that gets every event of the load maker's.
    pub(super) async fn subscribe(&self, url: &str) -> anyhow::Result<SubscriberId> {
        self.subscribe_to(url, EVENT_TYPE).await
    }

    /// Registers a subscriber of one event type, which has half a minute to answer.
    pub(super) async fn subscribe_to(&self, url: &str, event_type: &str) -> anyhow::Result<SubscriberId> {
        let subscriber = json!({"url": url, "vendor": "standard", "event_types": [event_type], "timeout": "30s"});
        let made = call(self.address, Method::POST, "/api/v1/subscribers", Some(subscriber)).await?;
        made["id"].as_str().unwrap_or_default().parse().context("a subscriber's id")
    }

    /// Waits until the newest deliveries, to all or to one, have succeeded. They end last, or so
    /// nearly that the difference is one commit.
    pub(super) async fn wait_until_recorded(&self, subscriber: Option<SubscriberId>) -> anyhow::Result<()> {
        let of = subscriber.map(|id| format!("&subscriber_id={id}")).unwrap_or_default();
        let newest = format!("/api/v1/deliveries?limit=100{of}");
        let recorded = async {
            loop {
                let list = call(self.address, Method::GET, &newest, None).await?;
                let deliveries = list["data"].as_array().context("a list of deliveries")?;
                if deliveries.iter().all(|delivery| delivery["status"] == "succeeded") {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(LOOKS_EVERY).await;
            }
        };
        let in_time = tokio::time::timeout(RECORDS_WITHIN, recorded).await;
        in_time.unwrap_or_else(|_| Err(anyhow!("not all was recorded after {} s", RECORDS_WITHIN.as_secs())))
    }

    /// Checks that every delivery to a subscriber has succeeded, however old. What is being recorded
    /// at this moment is waited for.
    pub(super) async fn check_all_succeeded(&self, subscriber: SubscriberId) -> anyhow::Result<()> {
        let stopwatch = Clock::Real.stopwatch();
        loop {
            let mut left = Vec::new();
            for status in ["scheduled", "rescheduled", "failed"] {
                let path = format!("/api/v1/deliveries?limit=1&status={status}&subscriber_id={subscriber}");
                let list = call(self.address, Method::GET, &path, None).await?;
                left.extend(list["data"].as_array().into_iter().flatten().map(|_| status));
            }
            if left.is_empty() {
                return Ok(());
            }
            let is_patient = left != ["failed"] && stopwatch.elapsed() < RECORDS_WITHIN;
            ensure!(is_patient, "there are deliveries that have not succeeded: {}", left.join(", "));
            tokio::time::sleep(LOOKS_EVERY * 10).await;
        }
    }

    /// What the process has used so far. Linux tells it in `/proc`.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        let id = self.process.id().context("the daemon has ended")?;
        let read = |file: &str| {
            let path = format!("/proc/{id}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}, which only Linux has"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let kib = line.trim().trim_end_matches(" kB").parse::<f64>();
            kib.map(|kib| kib / 1024.0).with_context(|| format!("no {name} in /proc/{id}/status"))
        };
        Ok(Usage { cpu: cpu_time(&stat)?, resident_mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")? })
    }

    /// Ends it at once. Nothing that it has answered for is lost by that.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("cannot end a daemon")
    }
}

/// The CPU time in a line of `/proc/PID/stat`, in the program and for it in the kernel.
fn cpu_time(stat: &str) -> anyhow::Result<Duration> {
    // The name before the last bracket may hold anything; utime and stime are the 12th and 13th after it.
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let mut fields = after_name.split_whitespace().skip(11).map(str::parse::<u32>);
    match (fields.next(), fields.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(TICK * (user + system)),
        _ => Err(anyhow!("/proc has no CPU times: {stat}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_whatever_the_program_is_called() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(cpu_time(stat).ok(), Some(Duration::from_secs(2)));
        assert!(cpu_time("7 (a) S 1").is_err());
    }
}
