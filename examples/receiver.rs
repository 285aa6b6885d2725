//! A consumer's endpoint: takes webhooks of the `standard` dialect and verifies them with the
//! `standardwebhooks` crate.
//!
//! ```sh
//! cargo run --example receiver -- whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz
//! scanhook subscribers add http://127.0.0.1:9000 --vendor standard --secret whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz
//! scanhook publish standard invoice.paid '{"amount": 1}'
//! ```

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use standardwebhooks::Webhook;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let secret = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("give the secret as the argument"))?;
    let webhook = Arc::new(Webhook::new(&secret)?);
    let router = Router::new().route("/", post(receive)).with_state(webhook);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:9000").await?;
    println!("receiving on http://127.0.0.1:9000");
    axum::serve(listener, router).await?;
    Ok(())
}

/// Verifies over the raw bytes, before anything parses them.
async fn receive(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match webhook.verify(&body, &headers) {
        Ok(()) => {
            println!("verified: {}", String::from_utf8_lossy(&body));
            StatusCode::NO_CONTENT
        }
        Err(error) => {
            println!("refused: {error}");
            StatusCode::UNAUTHORIZED
        }
    }
}
