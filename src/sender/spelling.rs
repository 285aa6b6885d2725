//! The spelling of header names on the wire.
//!
//! The `http` crate keeps names in lower case. hyper writes the original spelling back for a
//! message that it has parsed, and keeps that spelling in the message's extensions. So a request
//! with the wanted names is parsed once, in memory, and its extensions serve the real requests.

use std::convert::Infallible;
use std::fmt::Write as _;

use http::{Extensions, Request, Response};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// Learns the spelling of these header names.
pub(super) async fn learn<'n>(names: impl Iterator<Item = &'n str> + Clone) -> std::io::Result<Extensions> {
    let mut message = "GET / HTTP/1.1\r\n".to_owned();
    for name in names.clone().filter(|name| !name.eq_ignore_ascii_case("content-length")) {
        // Writing to a string cannot fail.
        let _ = write!(message, "{name}: 1\r\n");
    }
    if let Some(length) = names.clone().find(|name| name.eq_ignore_ascii_case("content-length")) {
        let _ = write!(message, "{length}: 0\r\n");
    }
    message.push_str("\r\n");
    let (mut ours, theirs) = tokio::io::duplex(message.len() + 1);
    ours.write_all(message.as_bytes()).await?;
    ours.shutdown().await?;
    let (learned, mut answer) = mpsc::channel(1);
    let learn = service_fn(move |request: Request<Incoming>| {
        let sent = learned.try_send(request.extensions().clone());
        debug_assert!(sent.is_ok(), "one message gives one request");
        async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
    });
    // Nobody reads the answer, so the connection may end in an error after the request was seen.
    let _ = http1::Builder::new().preserve_header_case(true).serve_connection(TokioIo::new(theirs), learn).await;
    answer.try_recv().map_err(|_| std::io::Error::other("the header names cannot be sent"))
}
