//! scanhook inside a Rust test: a consumer that fails at first lives through hours of retries at once.
//!
//! ```sh
//! cargo run --example in_process
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::ensure;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use scanhook::Scanhook;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The consumer under test: it is down for the first three webhooks.
    let seen = Arc::new(AtomicU32::new(0));
    let consumer = Router::new().route("/hook", post(consume)).with_state(Arc::clone(&seen));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    let _serving = TaskTracker::new().spawn(async move { axum::serve(listener, consumer).await });

    let scanhook =
        Scanhook::builder().ephemeral().manual_clock("2026-01-01T00:00:00Z".parse()?).seed(1).start().await?;
    let subscriber = json!({"vendor": "hostedscan", "url": url});
    scanhook.call("POST", "/api/v1/subscribers", Some(&subscriber)).await?;
    let event = json!({"vendor": "hostedscan", "event_type": "risk.opened"});
    scanhook.call("POST", "/api/v1/trigger", Some(&event)).await?;

    let moved = scanhook.run_until_idle(Duration::from_secs(12 * 3_600)).await?;
    for fired in &moved.fired {
        println!("{}", fired.at);
    }
    ensure!(seen.load(Ordering::Relaxed) == 4, "three failures and a success");
    let deliveries = scanhook.call("GET", "/api/v1/deliveries", None).await?;
    ensure!(deliveries["data"][0]["status"] == "succeeded", "{deliveries}");
    scanhook.stop().await
}

/// What a consumer's endpoint does.
async fn consume(State(seen): State<Arc<AtomicU32>>) -> StatusCode {
    if seen.fetch_add(1, Ordering::Relaxed) < 3 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}
