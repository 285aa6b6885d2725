//! What waits in the table: how fast it is drained, by one daemon and by several.

use std::time::Duration;

use super::super::Lab;
use super::super::database::{Database, Kind, Standing};
use super::super::load::EVENT_TYPE;
use super::super::receiver::{Manner, Receiver};
use super::super::report::{Bar, Sample};
use super::PATIENCE;
use crate::clock::Clock;
use crate::id::SubscriberId;

/// How long the receiver that several daemons share takes to answer.
const THINKS: Duration = Duration::from_millis(20);
/// How many attempts each of several daemons may make at once: so few that the receiver's answers,
/// not this machine's processors, are what one daemon waits for.
const AT_ONCE: usize = 16;
/// How many of its deliveries each of several daemons takes ahead, so that none takes all.
const IN_HAND: usize = 128;

pub(in super::super) async fn drain(
    lab: &Lab,
    kind: Kind,
    crowded: &mut Option<Database>,
) -> anyhow::Result<Vec<Sample>> {
    let (count, others) = (lab.sizes.backlog, lab.sizes.others);
    let alone = lab.database(kind).await?;
    let without = drained(lab, &alone, count).await?;
    lab.remove(alone).await?;
    if crowded.is_none() {
        *crowded = Some(crowd(lab, kind).await?);
    }
    let with = match crowded {
        Some(database) => drained(lab, database, count).await?,
        None => f64::NAN,
    };
    Ok(vec![
        Sample::new(format!("drain of {count} due deliveries"), "deliveries/s", without),
        Sample::new(format!("the same, {others} finished and {others} far-future beside"), "deliveries/s", with),
        Sample::ratio("drain with other rows ÷ without", with, without).bar(Bar::AtLeast(0.9)),
    ])
}

pub(in super::super) async fn retries(lab: &Lab, kind: Kind) -> anyhow::Result<Vec<Sample>> {
    let count = lab.sizes.backlog;
    let database = lab.database(kind).await?;
    let receiver = Receiver::start(Manner::Prompt).await?;
    let subscriber = subscriber(lab, &database, &receiver).await?;
    // Long enough to fill the table and start the daemon. Where it is not, they are due at the start.
    let wait = Duration::from_secs(3) + Duration::from_millis(count as u64 / 10);
    let stopwatch = Clock::Real.stopwatch();
    database.fill(lab, subscriber, Standing::RetryAfter(wait), count).await?;
    let daemon = lab.daemon(&database).await?;
    let due = wait.max(stopwatch.elapsed());
    receiver.wait_for(1, PATIENCE).await?;
    let first = stopwatch.elapsed().saturating_sub(due);
    receiver.wait_for(count as u64, PATIENCE).await?;
    daemon.wait_until_recorded(Some(subscriber)).await?;
    let seconds = stopwatch.elapsed().saturating_sub(due).as_secs_f64();
    daemon.check_all_succeeded(subscriber).await?;
    daemon.kill().await?;
    lab.remove(database).await?;
    Ok(vec![
        Sample::new(format!("{count} retries due at once, until the first arrives"), "ms", first.as_secs_f64() * 1e3),
        Sample::new(format!("{count} retries due at once, until all are recorded"), "s", seconds),
        Sample::new("retries due at once", "deliveries/s", count as f64 / seconds),
    ])
}

pub(in super::super) async fn daemons(lab: &Lab) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut rates = Vec::new();
    for count in 1..=3 {
        let rate = shared(lab, count).await?;
        let daemons = if count == 1 { "daemon" } else { "daemons" };
        let name = format!("{count} {daemons}, {AT_ONCE} attempts at once each, receiver thinks 20 ms");
        samples.push(Sample::new(name, "deliveries/s", rate));
        rates.push(rate);
    }
    let ratio = Sample::ratio("three daemons ÷ one", rates[2], rates[0]);
    samples.push(ratio.bar(Bar::AtLeast(2.5)));
    Ok(samples)
}

/// A subscriber of a database that no daemon runs on yet.
async fn subscriber(lab: &Lab, database: &Database, receiver: &Receiver) -> anyhow::Result<SubscriberId> {
    lab.subscriber(database, &receiver.url(), EVENT_TYPE).await
}

/// A database with many deliveries that are not due.
async fn crowd(lab: &Lab, kind: Kind) -> anyhow::Result<Database> {
    let database = lab.database(kind).await?;
    // Nothing is ever sent there.
    let id = lab.subscriber(&database, "http://127.0.0.1:9/", "bench.other").await?;
    for standing in [Standing::Finished, Standing::FarFuture] {
        database.fill(lab, id, standing, lab.sizes.others).await?;
    }
    Ok(database)
}

/// Deliveries a second, from the start of a daemon that finds them due until all are recorded.
async fn drained(lab: &Lab, database: &Database, count: usize) -> anyhow::Result<f64> {
    let receiver = Receiver::start(Manner::Prompt).await?;
    let subscriber = subscriber(lab, database, &receiver).await?;
    database.fill(lab, subscriber, Standing::Due, count).await?;
    let stopwatch = Clock::Real.stopwatch();
    let daemon = lab.daemon(database).await?;
    receiver.wait_for(count as u64, PATIENCE).await?;
    daemon.wait_until_recorded(Some(subscriber)).await?;
    let seconds = stopwatch.elapsed().as_secs_f64();
    daemon.check_all_succeeded(subscriber).await?;
    daemon.kill().await?;
    Ok(count as f64 / seconds)
}

/// Deliveries a second of several daemons on one Postgres, over the middle of a backlog: neither
/// their start nor the last that one of them has in hand.
async fn shared(lab: &Lab, daemons: usize) -> anyhow::Result<f64> {
    let database = lab.database(Kind::Postgres).await?;
    let receiver = Receiver::start(Manner::Thinks(THINKS)).await?;
    let subscriber = subscriber(lab, &database, &receiver).await?;
    let count = lab.sizes.shared;
    database.fill(lab, subscriber, Standing::Due, count).await?;
    let settings = [
        ("SCANHOOK__DISPATCH__CONCURRENCY", AT_ONCE.to_string()),
        ("SCANHOOK__DISPATCH__CONCURRENCY_PER_SUBSCRIBER", AT_ONCE.to_string()),
        ("SCANHOOK__DISPATCH__IN_HAND", IN_HAND.to_string()),
        ("SCANHOOK__DISPATCH__IN_HAND_PER_SUBSCRIBER", IN_HAND.to_string()),
    ];
    let mut running = Vec::new();
    for _ in 0..daemons {
        running.push(lab.daemon_with(&database, &settings).await?);
    }
    let begin = receiver.count().max(count as u64 / 10);
    receiver.wait_for(begin, PATIENCE).await?;
    let (begin, stopwatch) = (receiver.count(), Clock::Real.stopwatch());
    let end = begin.max(count as u64 * 8 / 10);
    receiver.wait_for(end, PATIENCE).await?;
    let rate = (receiver.count() - begin) as f64 / stopwatch.elapsed().as_secs_f64();
    for daemon in running {
        daemon.kill().await?;
    }
    lab.remove(database).await?;
    Ok(rate)
}
