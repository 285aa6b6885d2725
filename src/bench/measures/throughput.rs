//! How much a second: the bare limit, the whole pipeline, batches.

use std::time::Duration;

use super::super::Lab;
use super::super::daemon::Daemon;
use super::super::database::Kind;
use super::super::load::{Answered, event, flood, hundred_events};
use super::super::receiver::{Manner, Receiver};
use super::super::report::{Bar, Sample};
use super::{BATCHES, EVENTS, PATIENCE};
use crate::clock::Clock;
use crate::id::SubscriberId;

const FEW: usize = 32;
const MANY: usize = 128;
/// How many subscribers share the events where there is more than one.
const SUBSCRIBERS: u64 = 20;

pub(in super::super) async fn limit(lab: &Lab) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for connections in [FEW, MANY] {
        let name = format!("bare limit, {connections} connections");
        samples.push(Sample::new(name, "exchanges/s", bare(lab, connections).await?));
    }
    Ok(samples)
}

pub(in super::super) async fn pipeline(lab: &Lab, kind: Kind) -> anyhow::Result<Vec<Sample>> {
    let bar = match kind {
        Kind::Sqlite => Bar::AtLeast(0.30),
        Kind::Postgres => Bar::AtLeast(0.24),
    };
    let mut samples = Vec::new();
    for (connections, subscribers) in [(FEW, 1), (MANY, 1), (MANY, SUBSCRIBERS)] {
        let bare = bare(lab, connections).await?;
        let events = delivered(lab, kind, connections, subscribers).await?;
        let of =
            format!("{connections} connections, {subscribers} subscriber{}", if subscribers == 1 { "" } else { "s" });
        samples.push(Sample::new(format!("delivered, {of}"), "events/s", events));
        if subscribers > 1 {
            samples.push(Sample::new(format!("delivered to all, {of}"), "deliveries/s", events * subscribers as f64));
            continue;
        }
        let ratio = Sample::ratio(format!("pipeline ÷ bare limit, {of}"), events, bare);
        samples.push(if connections == MANY { ratio.bar(bar) } else { ratio });
    }
    Ok(samples)
}

pub(in super::super) async fn batch(lab: &Lab, kind: Kind) -> anyhow::Result<Vec<Sample>> {
    let database = lab.database(kind).await?;
    let daemon = lab.daemon(&database).await?;
    flood(daemon.target(EVENTS), MANY, lab.sizes.warm_up, event).await?;
    let singly = flood(daemon.target(EVENTS), MANY, lab.sizes.load, event).await?.per_second();
    flood(daemon.target(BATCHES), FEW, lab.sizes.warm_up, hundred_events).await?;
    let batches = flood(daemon.target(BATCHES), FEW, lab.sizes.load, hundred_events).await?.per_second() * 100.0;
    daemon.kill().await?;
    lab.remove(database).await?;
    Ok(vec![
        Sample::new("published one by one, 128 connections, no subscriber", "events/s", singly),
        Sample::new("published 100 a request, 32 connections, no subscriber", "events/s", batches),
        Sample::ratio("published by batch ÷ one by one", batches, singly).bar(Bar::AtLeast(3.0)),
    ])
}

/// Exchanges a second of the load maker with the receiver.
async fn bare(lab: &Lab, connections: usize) -> anyhow::Result<f64> {
    let receiver = Receiver::start(Manner::Prompt).await?;
    flood(receiver.target(), connections, lab.sizes.warm_up, event).await?;
    Ok(flood(receiver.target(), connections, lab.sizes.load, event).await?.per_second())
}

/// Events a second, from the first POST until all are delivered and recorded.
async fn delivered(lab: &Lab, kind: Kind, connections: usize, subscribers: u64) -> anyhow::Result<f64> {
    let database = lab.database(kind).await?;
    let daemon = lab.daemon(&database).await?;
    let receiver = Receiver::start(Manner::Prompt).await?;
    let mut ids = Vec::new();
    for _ in 0..subscribers {
        ids.push(daemon.subscribe(&receiver.url()).await?);
    }
    let load = Load { daemon: &daemon, receiver: &receiver, subscribers: &ids, connections };
    load.through(lab.sizes.warm_up).await?;
    let events = load.through(lab.sizes.load).await?.per_second();
    daemon.kill().await?;
    lab.remove(database).await?;
    Ok(events)
}

/// Events that are published one by one as fast as they are answered.
pub(super) struct Load<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) receiver: &'a Receiver,
    /// All that get the events.
    pub(super) subscribers: &'a [SubscriberId],
    pub(super) connections: usize,
}

impl Load<'_> {
    /// Publishes for a time, and waits until all is delivered and recorded, and checks it: how many
    /// events in how long.
    pub(super) async fn through(&self, time: Duration) -> anyhow::Result<Answered> {
        let before = self.receiver.count();
        let stopwatch = Clock::Real.stopwatch();
        let requests = flood(self.daemon.target(EVENTS), self.connections, time, event).await?.requests;
        self.receiver.wait_for(before + requests * self.subscribers.len() as u64, PATIENCE).await?;
        self.daemon.wait_until_recorded(None).await?;
        let elapsed = stopwatch.elapsed();
        for subscriber in self.subscribers {
            self.daemon.check_all_succeeded(*subscriber).await?;
        }
        Ok(Answered { requests, elapsed })
    }
}
