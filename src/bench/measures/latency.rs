//! How long from a POST to its receipt: alone, beside a hung subscriber, to many subscribers.

use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::super::Lab;
use super::super::daemon::Daemon;
use super::super::database::{Database, Kind, Standing};
use super::super::load::{Target, call, event, pace};
use super::super::receiver::{Manner, Receiver};
use super::super::report::{Bar, Sample, quantile, sorted};
use super::{EVENTS, PATIENCE};

/// Events a second; the bars are about the first.
const RATES: [u32; 2] = [200, 1_000];
/// Events that are paced out before those that count.
const WARM_UP: u64 = 200;
/// What a subscriber that never answers is to get.
const HUNG_TYPE: &str = "bench.hung";

pub(in super::super) async fn latency(lab: &Lab, kind: Kind) -> anyhow::Result<Vec<Sample>> {
    let bar = match kind {
        Kind::Sqlite => Bar::AtMost(4.0),
        Kind::Postgres => Bar::AtMost(6.0),
    };
    let mut samples = Vec::new();
    for rate in RATES {
        let receiver = Receiver::noting(Manner::Prompt, lab.sizes.paced).await?;
        let bare = paced(lab, receiver.target(), &receiver, rate).await?;
        let database = lab.database(kind).await?;
        let daemon = lab.daemon(&database).await?;
        let piped = healthy(lab, &daemon, rate).await?;
        daemon.kill().await?;
        lab.remove(database).await?;
        for (what, latencies) in [("bare exchange", &bare), ("POST to receipt", &piped)] {
            for (share, name) in [(0.5, "median"), (0.99, "p99"), (0.999, "p99.9")] {
                let name = format!("{what} at {rate}/s, {name}");
                samples.push(Sample::new(name, "ms", quantile(latencies, share)));
            }
        }
        let (piped, bare) = (quantile(&piped, 0.99), quantile(&bare, 0.99));
        let ratio = Sample::ratio(format!("POST to receipt ÷ bare exchange at {rate}/s, p99"), piped, bare);
        samples.push(if rate == RATES[0] { ratio.bar(bar) } else { ratio });
    }
    Ok(samples)
}

pub(in super::super) async fn hung(lab: &Lab, kind: Kind) -> anyhow::Result<Vec<Sample>> {
    let without = {
        let database = lab.database(kind).await?;
        let daemon = lab.daemon(&database).await?;
        let latencies = healthy(lab, &daemon, RATES[0]).await?;
        daemon.kill().await?;
        lab.remove(database).await?;
        quantile(&latencies, 0.99)
    };
    let hung = Receiver::start(Manner::Hangs).await?;
    let database = lab.database(kind).await?;
    let daemon = beside(lab, &database, &hung).await?;
    let latencies = healthy(lab, &daemon, RATES[0]).await?;
    daemon.kill().await?;
    lab.remove(database).await?;
    let with = quantile(&latencies, 0.99);
    let count = lab.sizes.hung;
    Ok(vec![
        Sample::new("healthy subscriber alone at 200/s, p99", "ms", without),
        Sample::new(format!("beside a hung one with {count} due, p99"), "ms", with),
        Sample::ratio("healthy p99 beside a hung subscriber ÷ without", with, without).bar(Bar::AtMost(1.3)),
    ])
}

pub(in super::super) async fn fanout(lab: &Lab, kind: Kind) -> anyhow::Result<Vec<Sample>> {
    let database = lab.database(kind).await?;
    let daemon = lab.daemon(&database).await?;
    let receiver = Receiver::start(Manner::Prompt).await?;
    for _ in 0..lab.sizes.subscribers {
        daemon.subscribe(&receiver.url()).await?;
    }
    let mut seconds = 0.0;
    // The first makes the connections.
    for number in 0..2 {
        let body: Value = serde_json::from_slice(&event(number))?;
        let start = receiver.since().elapsed();
        call(daemon.address, Method::POST, EVENTS, Some(body)).await?;
        receiver.wait_for((number + 1) * lab.sizes.subscribers, PATIENCE).await?;
        seconds = (receiver.since().elapsed() - start).as_secs_f64();
        daemon.wait_until_recorded(None).await?;
    }
    daemon.kill().await?;
    lab.remove(database).await?;
    let name = format!("one event to {} subscribers, until all have it", lab.sizes.subscribers);
    Ok(vec![Sample::new(name, "s", seconds).bar(Bar::AtMost(0.15))])
}

/// A daemon that owes much to a subscriber that never answers, and has begun to send it.
async fn beside(lab: &Lab, database: &Database, hung: &Receiver) -> anyhow::Result<Daemon> {
    let id = lab.subscriber(database, &hung.url(), HUNG_TYPE).await?;
    database.fill(lab, id, Standing::Due, lab.sizes.hung).await?;
    lab.daemon(database).await
}

/// The latencies of events through a daemon to a prompt subscriber, in milliseconds, ascending.
async fn healthy(lab: &Lab, daemon: &Daemon, rate: u32) -> anyhow::Result<Vec<f64>> {
    let receiver = Receiver::noting(Manner::Prompt, lab.sizes.paced).await?;
    daemon.subscribe(&receiver.url()).await?;
    paced(lab, daemon.target(EVENTS), &receiver, rate).await
}

/// The latencies of requests at a fixed rate, in milliseconds, ascending: from the moment that each
/// was to be sent, so that what waits behind a slow answer counts.
async fn paced(lab: &Lab, target: Target, receiver: &Receiver, rate: u32) -> anyhow::Result<Vec<f64>> {
    let (count, every) = (lab.sizes.paced, Duration::from_secs(1) / rate);
    // Numbered beyond those that are noted.
    pace(target, receiver.since(), every, count, WARM_UP).await?;
    let start = pace(target, receiver.since(), every, 0, count).await?;
    receiver.wait_for(WARM_UP + count, PATIENCE).await?;
    let latency = |(number, arrival): (usize, Duration)| {
        let sent = start + every * u32::try_from(number).unwrap_or(u32::MAX);
        arrival.saturating_sub(sent).as_secs_f64() * 1_000.0
    };
    let latencies: Vec<f64> = receiver.arrivals()?.into_iter().enumerate().map(latency).collect();
    Ok(sorted(&latencies))
}
