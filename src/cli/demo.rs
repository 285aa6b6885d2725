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
use super::output::{print_json, table, text};
use crate::app::{App, bind};
use crate::clock::Clock;
use crate::event::Vendor;
use crate::receiver::{Received, ReceiverSettings, router};
use crate::subscriber::Secret;
use crate::telemetry;

/// Show the whole way: a daemon, a receiver that fails at first, a HostedScan story, every attempt
/// as it happens, and what became of each delivery.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook demo\n  scanhook demo --json")]
pub(super) struct Args {}

/// How long everything may take.
const LIMIT: Duration = Duration::from_secs(9);
/// What the receiver answers, in order; the last repeats.
const ANSWERS: [StatusCode; 3] = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::OK];

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
    let say = |line: String| {
        if !global.json {
            println!("{line}");
        }
    };
    let client = Client::at(daemon.parse()?, String::new())?;
    let receiver = bind("127.0.0.1:0".parse()?).await?;
    let url = format!("http://{}/hook", receiver.local_addr()?);
    let subscriber = json!({"url": url, "vendor": "hostedscan", "retry_schedule": ["300ms", "600ms", "1s", "2s"]});
    let subscriber = client.post("/api/v1/subscribers", subscriber.to_string(), &[]).await?;
    say(format!("daemon      {daemon}  (SQLite in memory; everything is gone at the end)"));
    say(format!("receiver    {url}  (answers 503, then 500, then 200)"));
    say(format!("subscriber  {}  hostedscan, retries after 0.3 s, 0.6 s, 1 s, 2 s\n", text(&subscriber["id"])));
    let secret = Secret::new(text(&subscriber["secret"]));
    let mut arriving = receive(receiver, secret, tasks, stop);

    let mut all_verified = true;
    let mut requests = 0;
    let mut see = |received: Received| {
        let verified = matches!(received.verdict, Some(Ok(())));
        all_verified &= verified;
        requests += 1;
        let body: Value = serde_json::from_slice(&received.body).unwrap_or_default();
        let (event_type, signature) = (text(&body["type"]), if verified { "verified" } else { "WRONG" });
        let answer = received.answer;
        say(format!("  attempt   {event_type:<15} signature {signature}, receiver answers {}", answer.as_u16()));
    };
    for (event_type, content) in story() {
        let event = json!({"vendor": "hostedscan", "event_type": event_type, "content": content});
        let event = client.post("/api/v1/events", event.to_string(), &[]).await?;
        say(format!("published   {event_type:<15} event {}", text(&event["id"])));
        // The first attempt of each event is shown before the next event is published.
        see(arriving.recv().await.context("the receiver has stopped")?);
    }
    let deliveries = loop {
        let list = client.get("/api/v1/deliveries", &[("limit", Some("250".to_owned()))]).await?;
        let owed = |delivery: &Value| matches!(delivery["status"].as_str(), Some("scheduled" | "rescheduled"));
        let deliveries = list["data"].as_array().cloned().unwrap_or_default();
        if !deliveries.iter().any(owed) {
            break deliveries;
        }
        tokio::select! {
            received = arriving.recv() => see(received.context("the receiver has stopped")?),
            () = tokio::time::sleep(Duration::from_millis(50)) => (),
        }
    };
    while let Ok(received) = arriving.try_recv() {
        see(received);
    }
    summarise(global, &client, deliveries, requests, all_verified).await
}

fn receive(
    listener: TcpListener,
    secret: Secret,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> mpsc::UnboundedReceiver<Received> {
    let settings = ReceiverSettings { vendor: Vendor::Hostedscan, secret: Some(secret), answers: ANSWERS.to_vec() };
    let (seen, arriving) = mpsc::unbounded_channel();
    let server = axum::serve(listener, router(settings, seen)).with_graceful_shutdown(stop.clone().cancelled_owned());
    tasks.spawn(async move { server.await });
    arriving
}

/// Prints what became of every delivery. Fails unless all succeeded and all were verified.
async fn summarise(
    global: &Global,
    client: &Client,
    mut deliveries: Vec<Value>,
    requests: usize,
    all_verified: bool,
) -> anyhow::Result<()> {
    deliveries.reverse();
    let mut rows = table(&["EVENT", "EVENT TYPE", "DELIVERY", "STATUS", "ATTEMPTS"]);
    let mut details = Vec::new();
    for delivery in &deliveries {
        let detail = client.get(&format!("/api/v1/deliveries/{}", text(&delivery["id"])), &[]).await?;
        let attempts = detail["attempts"].as_array().cloned().unwrap_or_default();
        let attempt =
            |attempt: &Value| format!("{} in {} ms", text(&attempt["response_status"]), text(&attempt["duration_ms"]));
        let attempts = attempts.iter().map(attempt).collect::<Vec<_>>().join(", ");
        let [event_id, event_type, id, status] =
            ["event_id", "event_type", "id", "status"].map(|field| text(&detail[field]));
        rows.add_row([event_id, event_type, id, status, attempts]);
        details.push(detail);
    }
    let all_succeeded =
        deliveries.len() == story().len() && deliveries.iter().all(|delivery| delivery["status"] == "succeeded");
    if global.json {
        print_json(&json!({"requests": requests, "all_verified": all_verified, "deliveries": details}));
    } else {
        println!("\n{rows}");
        println!(
            "{} events, {requests} attempts, all succeeded: {all_succeeded}, all signatures verified: {all_verified}",
            deliveries.len()
        );
    }
    ensure!(all_succeeded, "not every delivery succeeded");
    ensure!(all_verified, "the receiver could not verify every signature");
    Ok(())
}

/// What HostedScan says of one scan that finds two risks, one of which is then fixed.
fn story() -> [(&'static str, Value); 4] {
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
    [
        ("risk.opened", risk(first, "OPEN", "Open TCP Port: 8080", "MEDIUM", "8080")),
        ("risk.opened", risk(second, "OPEN", "Open TCP Port: 21", "HIGH", "21")),
        ("scan.succeeded", scan),
        ("risk.closed", risk(second, "CLOSED", "Open TCP Port: 21", "HIGH", "21")),
    ]
}
