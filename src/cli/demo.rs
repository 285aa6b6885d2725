//! `scanhook demo`: the whole way of an event, live, on this machine alone.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Global;
use super::client::Client;
use super::output::{print_json, say, table, text};
use crate::app::{App, bind};
use crate::clock::Clock;
use crate::event::Vendor;
use crate::receiver::{Received, ReceiverSettings, router};
use crate::subscriber::Secret;
use crate::telemetry;

/// Show the whole way: a daemon, a target that is scanned twice, what three vendors say of it,
/// receivers that fail at first, every attempt as it happens, and what became of each delivery.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook demo\n  scanhook demo --json")]
pub(super) struct Args {}

/// How long everything may take.
const LIMIT: Duration = Duration::from_secs(9);
/// Whose webhooks are shown, and what each receiver answers before it answers 200.
const VENDORS: [(Vendor, &[u16]); 3] =
    [(Vendor::Hostedscan, &[503, 500]), (Vendor::Halo, &[]), (Vendor::Probely, &[503])];
/// What is scanned.
const TARGET: &str = "shop.example.test";
/// How often the daemon is asked how far it is.
const LOOKS_EVERY: Duration = Duration::from_millis(50);
/// What each vendor must have told of two scans that find two weaknesses, and of the fix of one.
const STORY: [(&str, usize); 12] = [
    ("risk.opened", 2),
    ("scan.succeeded", 2),
    ("risk.closed", 1),
    ("target-add", 1),
    ("target-scan-start", 2),
    ("issue-add", 2),
    ("target-scan-first", 1),
    ("target-scan-finish", 1),
    ("scan_started", 2),
    ("finding_detected", 2),
    ("finding_fixed", 1),
    ("scan_completed", 2),
];

pub(super) async fn run(global: &Global, _args: Args) -> anyhow::Result<()> {
    let flags = vec![
        ("database.url", "sqlite::memory:".to_owned(), "the demo"),
        ("server.listen", "127.0.0.1:0".to_owned(), "the demo"),
        ("auth.mode", "open".to_owned(), "the demo"),
        ("log.level", "error".to_owned(), "the demo"),
        ("chance.seed", "1".to_owned(), "the demo"),
    ];
    let (config, _) = global.load(flags)?;
    telemetry::start(&config.log);
    let app = App::open(config, Clock::Real).await?;
    let listeners = app.bind().await?;
    let daemon = listeners.url()?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let serving = tasks.spawn(app.run(listeners, stop.clone()));
    let told = tokio::time::timeout(LIMIT, tell(global, &daemon, &tasks, &stop)).await;
    stop.cancel();
    serving.await.context("the daemon panicked")??;
    match told {
        Ok(told) => told,
        Err(_) => bail!("the demo was not over within {} s", LIMIT.as_secs()),
    }
}

/// Tells the story and checks how it ended.
async fn tell(global: &Global, daemon: &str, tasks: &TaskTracker, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut stage = Stage {
        client: Client::at(daemon.parse()?, String::new())?,
        quiet: global.json,
        seen: Vec::new(),
        accepted: Vec::new(),
    };
    stage.say(&format!("daemon      {daemon}  (SQLite in memory; everything is gone at the end)"));
    let (arrive, mut arriving) = mpsc::unbounded_channel();
    for (vendor, answers) in VENDORS {
        let receiver = bind("127.0.0.1:0".parse()?).await?;
        let url = format!("http://{}/hook", receiver.local_addr()?);
        let subscriber = json!({"url": url, "vendor": vendor, "retry_schedule": ["300ms", "600ms", "1s", "2s"]});
        let subscriber = stage.client.post("/api/v1/subscribers", subscriber.to_string(), &[]).await?;
        let secret = subscriber["secret"].as_str().map(Secret::new);
        let told: String = answers.iter().map(|status| format!("{status}, then ")).collect();
        stage.say(&format!("subscriber  {:<10}  {url}, answers {told}200", vendor.as_str()));
        receive(receiver, vendor, secret, answers, arrive.clone(), tasks, stop);
    }
    let weaknesses = ["owasp-zap-missing-hsts", "owasp-zap-missing-csp"];
    let target = json!({"address": TARGET, "tags": ["shop"], "weaknesses": weaknesses});
    let target = stage.client.post("/api/v1/targets", target.to_string(), &[]).await?;
    stage.say(&format!("\nthe target {TARGET} has two weaknesses: {}", weaknesses.join(" and ")));
    stage.scan("the first scan finds both", &mut arriving).await?;
    let fixed = json!({"weaknesses": [weaknesses[0]]});
    stage.client.post(&format!("/api/v1/targets/{}/fix", text(&target["id"])), fixed.to_string(), &[]).await?;
    stage.say(&format!("\n{} is fixed", weaknesses[0]));
    stage.scan("the second scan closes it", &mut arriving).await?;
    let deliveries = stage.wait_until_finished(&mut arriving).await?;
    stage.summarise(global, deliveries).await
}

/// What the story is told on, and what has been seen of it.
struct Stage {
    client: Client,
    quiet: bool,
    seen: Vec<Seen>,
    /// The types of the events that receivers accepted.
    accepted: Vec<String>,
}

/// A request that arrived: whose, and whether its signature is right, where the vendor signs.
struct Seen {
    vendor: Vendor,
    verdict: Option<bool>,
}

impl Stage {
    fn say(&self, line: &str) {
        if !self.quiet {
            say!("{line}");
        }
    }

    fn see(&mut self, (vendor, received): (Vendor, Received)) {
        let body: Value = serde_json::from_slice(&received.body).unwrap_or_default();
        let event_type = ["type", "key", "event_type"].iter().find_map(|field| body[*field].as_str()).unwrap_or("?");
        let verdict = received.verdict.map(|verdict| verdict.is_ok());
        let signature = match verdict {
            Some(true) => "signature verified",
            Some(false) => "SIGNATURE WRONG",
            None => "unsigned, as the vendor sends it",
        };
        let answer = received.answer.as_u16();
        self.say(&format!("  attempt   {:<10}  {event_type:<17} answered {answer}, {signature}", vendor.as_str()));
        if received.answer.is_success() {
            self.accepted.push(event_type.to_owned());
        }
        self.seen.push(Seen { vendor, verdict });
    }

    /// Runs a scan of the target and shows the attempts that it makes, until it has ended.
    async fn scan(
        &mut self,
        what: &str,
        arriving: &mut mpsc::UnboundedReceiver<(Vendor, Received)>,
    ) -> anyhow::Result<()> {
        let scan = json!({"target": TARGET, "scanner": "OWASP_ZAP", "duration": "1200ms"});
        let scan = self.client.post("/api/v1/scans", scan.to_string(), &[]).await?;
        let id = text(&scan["id"]);
        self.say(&format!("scan {id} starts: {what}"));
        loop {
            let scan = self.client.get(&format!("/api/v1/scans/{id}"), &[]).await?;
            if scan["state"] == "completed" {
                return Ok(());
            }
            tokio::select! {
                received = arriving.recv() => self.see(received.context("the receivers have stopped")?),
                () = tokio::time::sleep(LOOKS_EVERY) => (),
            }
        }
    }

    /// Shows attempts as they arrive, until nothing is owed any more: every delivery, oldest first.
    async fn wait_until_finished(
        &mut self,
        arriving: &mut mpsc::UnboundedReceiver<(Vendor, Received)>,
    ) -> anyhow::Result<Vec<Value>> {
        let mut deliveries = loop {
            let list = self.client.get("/api/v1/deliveries", &[("limit", Some("250".to_owned()))]).await?;
            let owed = |delivery: &Value| matches!(delivery["status"].as_str(), Some("scheduled" | "rescheduled"));
            let deliveries = list["data"].as_array().cloned().unwrap_or_default();
            if !deliveries.iter().any(owed) {
                break deliveries;
            }
            tokio::select! {
                received = arriving.recv() => self.see(received.context("the receivers have stopped")?),
                () = tokio::time::sleep(LOOKS_EVERY) => (),
            }
        };
        while let Ok(received) = arriving.try_recv() {
            self.see(received);
        }
        deliveries.reverse();
        Ok(deliveries)
    }

    /// Prints what became of every delivery. Fails unless all succeeded and every signature of a
    /// vendor that signs was verified.
    async fn summarise(&self, global: &Global, deliveries: Vec<Value>) -> anyhow::Result<()> {
        let mut rows = table(&["EVENT", "EVENT TYPE", "DELIVERY", "STATUS", "ATTEMPTS"]);
        let mut details = Vec::new();
        for delivery in &deliveries {
            let detail = self.client.get(&format!("/api/v1/deliveries/{}", text(&delivery["id"])), &[]).await?;
            let attempts = detail["attempts"].as_array().cloned().unwrap_or_default();
            let attempt = |attempt: &Value| {
                format!("{} in {} ms", text(&attempt["response_status"]), text(&attempt["duration_ms"]))
            };
            let attempts = attempts.iter().map(attempt).collect::<Vec<_>>().join(", ");
            let [event_id, event_type, id, status] =
                ["event_id", "event_type", "id", "status"].map(|field| text(&detail[field]));
            rows.add_row([event_id, event_type, id, status, attempts]);
            details.push(detail);
        }
        let all_succeeded = deliveries.iter().all(|delivery| delivery["status"] == "succeeded");
        let count_of = |event_type: &str| self.accepted.iter().filter(|one| *one == event_type).count();
        let told = STORY.iter().all(|(event_type, count)| count_of(event_type) == *count);
        let signs = |vendor: Vendor| vendor == Vendor::Hostedscan;
        let all_verified = self.seen.iter().all(|seen| seen.verdict == signs(seen.vendor).then_some(true));
        let (count, attempts) = (deliveries.len(), self.seen.len());
        if global.json {
            print_json(&json!({"requests": attempts, "all_verified": all_verified, "deliveries": details}));
        } else {
            say!("\n{rows}");
            say!(
                "{count} events, {attempts} attempts, all succeeded: {all_succeeded}, all signatures verified: {all_verified}"
            );
        }
        ensure!(all_succeeded, "not every delivery succeeded");
        ensure!(told, "the receivers did not hear the whole story: {:?}", self.accepted);
        ensure!(all_verified, "the receivers could not verify every signature");
        Ok(())
    }
}

fn receive(
    listener: TcpListener,
    vendor: Vendor,
    secret: Option<Secret>,
    answers: &[u16],
    arrive: mpsc::UnboundedSender<(Vendor, Received)>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let answers = answers.iter().chain(&[200]).filter_map(|status| StatusCode::from_u16(*status).ok()).collect();
    let (seen, mut arriving) = mpsc::unbounded_channel();
    let server = axum::serve(listener, router(ReceiverSettings { vendor, secret, answers }, seen));
    let server = server.with_graceful_shutdown(stop.clone().cancelled_owned());
    tasks.spawn(async move { server.await });
    tasks.spawn(async move {
        while let Some(received) = arriving.recv().await {
            // The stage may have ended already.
            let _ = arrive.send((vendor, received));
        }
    });
}
