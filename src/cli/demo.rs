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

/// Show the whole way: a daemon, three vendors' events, receivers that fail at first, every attempt
/// as it happens, and what became of each delivery.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook demo\n  scanhook demo --json")]
pub(super) struct Args {}

/// How long everything may take.
const LIMIT: Duration = Duration::from_secs(9);
/// Whose webhooks are shown, and what each receiver answers before it answers 200.
const VENDORS: [(Vendor, &[u16]); 3] =
    [(Vendor::Hostedscan, &[503, 500]), (Vendor::Halo, &[]), (Vendor::Probely, &[503])];

pub(super) async fn run(global: &Global, _args: Args) -> anyhow::Result<()> {
    let flags = vec![
        ("database.url", "sqlite::memory:".to_owned(), "the demo"),
        ("server.listen", "127.0.0.1:0".to_owned(), "the demo"),
        ("auth.mode", "open".to_owned(), "the demo"),
        ("log.level", "error".to_owned(), "the demo"),
    ];
    let (config, _) = global.load(flags)?;
    telemetry::start(&config.log);
    let app = App::open(config, Clock::Real).await?;
    let listener = app.bind().await?;
    let daemon = format!("http://{}", listener.local_addr()?);
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let serving = tasks.spawn(app.run(listener, stop.clone()));
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
    let mut stage = Stage { client: Client::at(daemon.parse()?, String::new())?, quiet: global.json, seen: Vec::new() };
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
    stage.say("");
    for (vendor, event_type, content) in story() {
        let event = match content {
            Some(content) => json!({"vendor": vendor, "event_type": event_type, "raw": content}),
            None => json!({"vendor": vendor, "event_type": event_type}),
        };
        let answer = stage.client.post("/api/v1/trigger", event.to_string(), &[]).await?;
        stage.say(&format!(
            "published   {:<10}  {event_type:<17} {}",
            vendor.as_str(),
            text(&answer["data"][0]["event"]["id"])
        ));
        // The first attempt of each event is shown before the next event is published.
        stage.see(arriving.recv().await.context("the receivers have stopped")?);
    }
    let deliveries = stage.wait_until_finished(&mut arriving).await?;
    stage.summarise(global, deliveries).await
}

/// What the story is told on, and what has been seen of it.
struct Stage {
    client: Client,
    quiet: bool,
    seen: Vec<Seen>,
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
        self.seen.push(Seen { vendor, verdict });
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
                () = tokio::time::sleep(Duration::from_millis(50)) => (),
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
        let all_succeeded =
            deliveries.len() == story().len() && deliveries.iter().all(|delivery| delivery["status"] == "succeeded");
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

/// What HostedScan says of one scan that finds two risks, one of which is then fixed; and what the
/// other two say of a certificate and of a finding, by their catalogues' examples.
fn story() -> [(Vendor, &'static str, Option<Value>); 8] {
    let target_id = "652d0b000b6f4a0012dd0001";
    let target = "shop.example.test";
    let risk = |id: &str, status: &str, title: &str, level: &str, port: &str| {
        json!({
            "id": id, "target_id": target_id, "target": target, "tags": ["shop"], "status": status,
            "risk_definition": {
                "scan_type": "NMAP", "title": title, "threat_level": level,
                "description": "A service answers on this port.", "additional_info": {"port": port, "protocol": "tcp"},
            },
        })
    };
    let scan = json!({
        "id": "652d0c000b6f4a0012aa0001", "type": "NMAP", "state": "SUCCEEDED", "progress": 100,
        "results": [{"result_id": "652d0c8d0b6f4a0012cc0001", "content_type": "application/json"}],
        "requested_targets": [{"target_id": target_id, "target": target}],
        "resolved_targets": [{"target_id": target_id, "resolved_target": "192.0.2.10"}],
        "skipped_targets": [],
    });
    let (first, second) = ("652d0c8d0b6f4a0012ee0001", "652d0c8d0b6f4a0012ee0002");
    let port_21 = |status| risk(second, status, "Open TCP Port: 21", "HIGH", "21");
    [
        (Vendor::Hostedscan, "risk.opened", Some(risk(first, "OPEN", "Open TCP Port: 8080", "MEDIUM", "8080"))),
        (Vendor::Hostedscan, "risk.opened", Some(port_21("OPEN"))),
        (Vendor::Hostedscan, "scan.succeeded", Some(scan)),
        (Vendor::Hostedscan, "risk.closed", Some(port_21("CLOSED"))),
        (Vendor::Halo, "website-cert-risk", None),
        (Vendor::Probely, "scan_started", None),
        (Vendor::Probely, "finding_detected", None),
        (Vendor::Probely, "scan_completed", None),
    ]
}
