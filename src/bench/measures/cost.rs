//! What it takes: processor, memory, disk, and the time to start.

use std::time::Duration;

use super::super::Lab;
use super::super::daemon::Daemon;
use super::super::database::{Database, Kind};
use super::super::receiver::{Manner, Receiver};
use super::super::report::{Bar, Sample};
use super::throughput::Load;

const CONNECTIONS: usize = 128;
/// Subscribers under full load.
const SUBSCRIBERS: usize = 20;
/// How long a daemon is left alone before its memory counts as that of an idle one.
const IDLES: Duration = Duration::from_secs(1);
const IN_MEMORY: &str = "sqlite::memory:";

pub(in super::super) async fn cost(lab: &Lab, kind: Kind) -> anyhow::Result<Vec<Sample>> {
    let database = lab.database(kind).await?;
    let daemon = lab.daemon(&database).await?;
    tokio::time::sleep(IDLES).await;
    let idle = daemon.usage()?.resident_mib;
    let receiver = Receiver::start(Manner::Prompt).await?;
    let mut subscribers = vec![daemon.subscribe(&receiver.url()).await?];
    load(&daemon, &receiver, &subscribers).through(lab.sizes.warm_up).await?;
    let (cpu_before, bytes_before) = (daemon.usage()?.cpu, size(&database).await?);
    let deliveries = load(&daemon, &receiver, &subscribers).through(lab.sizes.load).await?.requests as f64;
    let cpu = (daemon.usage()?.cpu - cpu_before).as_secs_f64() * 1e6 / deliveries;
    let bytes = (size(&database).await? - bytes_before) / deliveries;
    while subscribers.len() < SUBSCRIBERS {
        subscribers.push(daemon.subscribe(&receiver.url()).await?);
    }
    load(&daemon, &receiver, &subscribers).through(lab.sizes.load).await?;
    let peak = daemon.usage()?.peak_mib;
    daemon.kill().await?;
    lab.remove(database).await?;
    Ok(vec![
        Sample::new("the daemon's CPU time for an event and its delivery", "µs", cpu),
        Sample::new("in the database for an event, its delivery and its attempt", "bytes", bytes),
        Sample::new("resident memory, idle", "MiB", idle).bar(Bar::AtMost(30.0)),
        Sample::new("resident memory, most under full load", "MiB", peak).bar(Bar::AtMost(120.0)),
    ])
}

pub(in super::super) async fn start(lab: &Lab) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for _ in 0..lab.sizes.starts {
        let daemon = Daemon::start(&lab.program, IN_MEMORY, &[]).await?;
        let ms = daemon.ready_after.as_secs_f64() * 1_000.0;
        let resident = daemon.usage()?.resident_mib;
        daemon.kill().await?;
        samples.push(Sample::new("from start to ready, in memory", "ms", ms).bar(Bar::AtMost(50.0)));
        samples.push(Sample::new("resident memory then", "MiB", resident).bar(Bar::AtMost(30.0)));
    }
    Ok(samples)
}

fn load<'a>(daemon: &'a Daemon, receiver: &'a Receiver, subscribers: &'a [crate::id::SubscriberId]) -> Load<'a> {
    Load { daemon, receiver, subscribers, connections: CONNECTIONS }
}

async fn size(database: &Database) -> anyhow::Result<f64> {
    let store = database.store().await?;
    let size = store.size_bytes().await;
    store.close().await;
    Ok(size? as f64)
}
