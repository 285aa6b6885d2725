//! A scenario told here and now: on a clock of its own that goes straight to whatever is due next.
//! The same seed gives the same ledger to the last byte, on either database.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::Client;
use super::output::text;
use crate::app::{App, bind};
use crate::clock::{Clock, format_time};
use crate::config::{Config, Seed};
use crate::delivery::Attempt;
use crate::event::{Event, Vendor};
use crate::id::{AccountId, DeliveryId, EventId};
use crate::receiver::{ReceiverSettings, router};
use crate::store::{DeliveryFilter, EventFilter, Page};
use crate::subscriber::Secret;

/// When every story begins.
const BEGINS_AT: &str = "2026-01-01T00:00:00Z";
/// The longest that a story may last, by its own clock.
const LONGEST: Duration = Duration::from_secs(400 * 86_400);
/// How many rows the ledger reads at once.
const ROWS: u32 = 500;

/// Who listens: every vendor, and both of HostedScan's vocabularies.
const LISTENERS: [(Vendor, Option<&str>); 4] = [
    (Vendor::Hostedscan, Some("classic")),
    (Vendor::Hostedscan, Some("current")),
    (Vendor::Halo, None),
    (Vendor::Probely, None),
];

/// A scenario to tell.
pub(super) struct Story {
    pub config: Config,
    pub source: String,
    pub seed: Option<u64>,
    pub speed: Option<f64>,
    pub answers: Vec<u16>,
    pub database_url: Option<String>,
    pub ledger: Option<PathBuf>,
}

/// What became of it.
pub(super) struct Told {
    pub events: usize,
    pub attempts: usize,
    pub deliveries: usize,
    /// How long it lasted, by its own clock.
    pub story_time: String,
    /// The ledger's last hash.
    pub hash: String,
    pub run: End,
}

/// How the run ended.
pub(super) struct End {
    pub state: String,
    pub error: Option<String>,
}

impl Story {
    /// Tells the story to its end.
    pub(super) async fn tell(self) -> anyhow::Result<Told> {
        let mut config = self.config.clone();
        config.database.url = self.database_url.clone().unwrap_or_else(|| "sqlite::memory:".to_owned());
        if let Some(seed) = self.seed {
            config.chance.seed = Seed::Fixed(seed);
        }
        // Answers come at once on a clock that stands still meanwhile.
        let clock = Clock::manual(BEGINS_AT.parse().context("the beginning is a time")?);
        let app = App::open(config, clock.clone()).await?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let told = self.tell_on(&app, &clock, &tasks, &stop).await;
        stop.cancel();
        app.close().await;
        told
    }

    async fn tell_on(
        &self,
        app: &App,
        clock: &Clock,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<Told> {
        let any =
            app.store.events(AccountId::DEFAULT, &EventFilter::default(), &Page { before: None, limit: 1 }).await?;
        if !any.is_empty() {
            bail!("the database is not empty: a story is told from the beginning; name a new one");
        }
        let api = bind("127.0.0.1:0".parse()?).await?;
        let client = Client::at(format!("http://{}", api.local_addr()?).parse()?, String::new())?;
        let serving = axum::serve(api, app.router()).with_graceful_shutdown(stop.clone().cancelled_owned());
        tasks.spawn(serving.into_future());
        for (vendor, vocabulary) in LISTENERS {
            self.listen(&client, vendor, vocabulary, tasks, stop).await?;
        }
        let body = json!({"source": self.source, "speed": self.speed.unwrap_or(1.0)});
        let run = client.post("/api/v1/scenarios/runs", body.to_string(), &[]).await?;
        let began_at = clock.now();
        self.go_through(app, clock, began_at).await?;
        let run = client.get(&format!("/api/v1/scenarios/runs/{}", text(&run["id"])), &[]).await?;
        let mut told = self.write_ledger(app).await?;
        let story_time = (clock.now() - began_at).to_std().unwrap_or_default();
        told.story_time = humantime::format_duration(Duration::from_secs(story_time.as_secs())).to_string();
        told.run = End { state: text(&run["state"]), error: run["error"].as_str().map(str::to_owned) };
        Ok(told)
    }

    /// Starts a receiver and subscribes it to all of a vendor's events.
    async fn listen(
        &self,
        client: &Client,
        vendor: Vendor,
        vocabulary: Option<&str>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let listener = bind("127.0.0.1:0".parse()?).await?;
        let mut subscriber = json!({"url": format!("http://{}/hook", listener.local_addr()?), "vendor": vendor});
        if let Some(vocabulary) = vocabulary {
            subscriber["options"] = json!({"vocabulary": vocabulary});
        }
        let created = client.post("/api/v1/subscribers", subscriber.to_string(), &[]).await?;
        let answers = self.answers.iter().map(|status| StatusCode::from_u16(*status)).collect::<Result<_, _>>();
        let answers = answers.context("--answers are HTTP statuses, such as 503,200")?;
        let settings = ReceiverSettings { vendor, secret: created["secret"].as_str().map(Secret::new), answers };
        // What arrives stands in the ledger; nobody need watch.
        let (seen, _) = mpsc::unbounded_channel();
        let server =
            axum::serve(listener, router(settings, seen)).with_graceful_shutdown(stop.clone().cancelled_owned());
        tasks.spawn(server.into_future());
        Ok(())
    }

    /// Goes from one due time to the next until nothing is due any more.
    async fn go_through(&self, app: &App, clock: &Clock, began_at: DateTime<Utc>) -> anyhow::Result<()> {
        loop {
            let stepped = app.scanner.run_once().await?;
            let sent = app.dispatcher.run_once().await?;
            if stepped + sent > 0 {
                continue;
            }
            let next = [app.scanner.next_due().await?, app.store.next_due(clock.now()).await?];
            let Some(next) = next.into_iter().flatten().min() else { return Ok(()) };
            if next - began_at > chrono::TimeDelta::from_std(LONGEST)? {
                bail!("the story is not over after {} days of its own time", LONGEST.as_secs() / 86_400);
            }
            clock.advance((next - clock.now()).to_std().unwrap_or_default());
        }
    }

    /// Writes a line for each event and each attempt, in the order of their times.
    async fn write_ledger(&self, app: &App) -> anyhow::Result<Told> {
        let entries = entries(app).await?;
        let mut ledger = String::new();
        let mut hash = String::new();
        for (index, entry) in entries.lines.iter().enumerate() {
            let line = entry.replacen('{', &format!("{{\"line\":{},", index + 1), 1);
            hash = hex::encode(Sha256::digest(format!("{hash}{line}")));
            let end = line.len() - 1;
            ledger.push_str(&format!("{},\"hash\":\"{hash}\"}}\n", &line[..end]));
        }
        if let Some(path) = &self.ledger {
            std::fs::write(path, ledger).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let Entries { events, attempts, deliveries, .. } = entries;
        let run = End { state: String::new(), error: None };
        Ok(Told { events, attempts, deliveries, story_time: String::new(), hash, run })
    }
}

/// What a ledger tells of, in order, each as the text of a JSON object.
struct Entries {
    lines: Vec<String>,
    events: usize,
    attempts: usize,
    deliveries: usize,
}

/// Where an entry stands: by its time; at one time, by event, delivery and attempt.
type Place = (DateTime<Utc>, EventId, Option<DeliveryId>, u32);

async fn entries(app: &App) -> anyhow::Result<Entries> {
    let account = AccountId::DEFAULT;
    let mut keyed: Vec<(Place, String)> = Vec::new();
    let mut page = Page { before: None, limit: ROWS };
    loop {
        let events = app.store.events(account, &EventFilter::default(), &page).await?;
        page.before = events.last().map(|last| last.event.id.to_string());
        for one in &events {
            keyed.push(((one.event.created_at, one.event.id, None, 0), event_line(&one.event)?));
        }
        if events.len() < ROWS as usize {
            break;
        }
    }
    let events = keyed.len();
    let mut deliveries = 0;
    page.before = None;
    loop {
        let listed = app.store.deliveries(account, &DeliveryFilter::default(), &page).await?;
        page.before = listed.last().map(|last| last.delivery.id.to_string());
        deliveries += listed.len();
        for one in &listed {
            let detail = app.store.delivery(account, one.delivery.id).await?;
            for attempt in &detail.attempts {
                let key = (attempt.started_at, one.delivery.event_id, Some(one.delivery.id), attempt.number);
                keyed.push((key, attempt_line(&detail.event, one.delivery.id, attempt)));
            }
        }
        if listed.len() < ROWS as usize {
            break;
        }
    }
    keyed.sort_by_key(|(key, _)| *key);
    let lines = keyed.into_iter().map(|(_, line)| line).collect::<Vec<_>>();
    Ok(Entries { attempts: lines.len() - events, lines, events, deliveries })
}

fn event_line(event: &Event) -> anyhow::Result<String> {
    #[derive(serde::Serialize)]
    struct Line<'e> {
        kind: &'static str,
        at: String,
        id: EventId,
        vendor: Vendor,
        vendor_event_id: &'e str,
        event_type: &'e str,
        occurred_at: String,
        content: &'e RawValue,
    }
    let line = Line {
        kind: "event",
        at: format_time(event.created_at),
        id: event.id,
        vendor: event.vendor,
        vendor_event_id: &event.vendor_event_id,
        event_type: &event.event_type,
        occurred_at: format_time(event.occurred_at),
        content: serde_json::from_str(&event.content).context("a content is JSON")?,
    };
    Ok(serde_json::to_string(&line)?)
}

fn attempt_line(event: &Event, delivery_id: DeliveryId, attempt: &Attempt) -> String {
    // The receiver's port is another on every run.
    let headers = attempt.request_headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host"));
    let headers: Vec<Value> = headers.map(|(name, value)| json!([name, value])).collect();
    json!({
        "kind": "attempt", "at": format_time(attempt.started_at), "event": event.id, "delivery": delivery_id,
        "vendor": event.vendor, "event_type": event.event_type, "number": attempt.number,
        "outcome": attempt.outcome.as_str(), "status": attempt.response.as_ref().map(|response| response.status),
        "headers": headers,
    })
    .to_string()
}
