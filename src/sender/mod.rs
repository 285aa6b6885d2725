//! The only place that connects to receivers: one shared client, so that connections are reused.
//!
//! It is built on hyper's own client because header names must go out spelled as the vendor spells
//! them (`X-HOSTEDSCAN-SIGNATURE`), which the larger clients cannot do.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Notify;
use tracing::debug;
use url::Url;

mod preflight;
mod resolve;
mod spelling;
mod tls;

pub use preflight::{Preflight, Step};

use crate::config::Dispatch;
use crate::delivery::{AttemptError, KEPT_BYTES, Response};
use resolve::{Blocked, BlockedAddress, HostMap, Mapped, Resolver, Unresolved};
use tls::{tls, trusting_tls};

/// How long an unused connection is kept: less than common servers keep one (2 s and more), since
/// a request on a connection that is just being closed would count as a failed attempt.
const IDLE: Duration = Duration::from_millis(1_500);
/// The most interim answers (1xx) before the final one.
const MOST_INTERIM: usize = 100;
/// How much of a body that is too long to keep is read on, so that its connection can be reused.
const DRAINED_BYTES: usize = 4 * KEPT_BYTES;

/// Sends requests to receivers, and looks whether they can be reached.
pub struct Sender {
    client: HttpClient,
    /// For receivers whose certificate is not to be checked; made when the first one is sent to.
    unchecked: OnceLock<HttpClient>,
    blocked: Arc<Blocked>,
    hosts: HostMap,
    tls: rustls::ClientConfig,
    /// The spelling of header names, by the names in order, with a space behind each.
    spellings: Mutex<HashMap<String, http::Extensions>>,
}

type HttpClient = Client<HttpsConnector<Mapped>, Full<Bytes>>;

/// One request: a POST.
#[derive(Debug)]
pub struct Outgoing<'o> {
    pub url: &'o Url,
    /// In the order and the spelling they are sent in; `Host` and `Content-Length` included.
    pub headers: &'o [(String, String)],
    pub body: Bytes,
    pub timeout: Duration,
    /// Whether the receiver's certificate must be one to trust.
    pub check_cert: bool,
}

/// No answer, or none that could be read to its end.
#[derive(Debug)]
pub struct NoAnswer {
    pub error: AttemptError,
    pub detail: String,
    /// The part of the answer that came.
    pub response: Option<Response>,
}

impl Sender {
    /// Makes the client. Fails if the extra authorities cannot be read.
    pub fn new(settings: &Dispatch) -> anyhow::Result<Self> {
        let blocked = Arc::new(Blocked(settings.blocked_networks.clone()));
        let hosts = HostMap::new(&settings.map_hosts);
        let tls = tls(&settings.extra_ca_file)?;
        let client = client(&blocked, &hosts, tls.clone());
        Ok(Self { client, unchecked: OnceLock::new(), blocked, hosts, tls, spellings: Mutex::default() })
    }

    /// Sends one request and reads the answer, within the time-out. Redirects are not followed.
    pub async fn send(&self, outgoing: Outgoing<'_>) -> Result<Response, NoAnswer> {
        let client = if outgoing.check_cert {
            &self.client
        } else {
            self.unchecked.get_or_init(|| client(&self.blocked, &self.hosts, trusting_tls()))
        };
        let timeout = outgoing.timeout;
        match self.request(outgoing).await {
            Ok(request) => exchange(client, request, timeout).await,
            Err(error) => Err(no_answer(&*error, None)),
        }
    }

    /// GETs a URL that is no receiver of webhooks, as [`send`](Self::send) does.
    pub async fn get(&self, url: &Url, timeout: Duration) -> Result<Response, NoAnswer> {
        match Request::get(url.as_str()).body(Full::default()) {
            Ok(request) => exchange(&self.client, request, timeout).await,
            Err(error) => Err(no_answer(&error, None)),
        }
    }

    async fn request(&self, outgoing: Outgoing<'_>) -> Result<Request<Full<Bytes>>, BoxError> {
        let mut request = Request::post(outgoing.url.as_str()).body(Full::new(outgoing.body))?;
        request.headers_mut().reserve(outgoing.headers.len());
        for (name, value) in outgoing.headers {
            request.headers_mut().append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
        *request.extensions_mut() = self.spelling(outgoing.headers).await?;
        Ok(request)
    }

    async fn spelling(&self, headers: &[(String, String)]) -> Result<http::Extensions, BoxError> {
        // No name holds a space.
        let names = headers.iter().fold(String::with_capacity(256), |names, (name, _)| names + name + " ");
        let known = self.spellings.lock().unwrap_or_else(PoisonError::into_inner).get(&names).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        // Boxed, as it is rare and large.
        let learned = Box::pin(spelling::learn(headers.iter().map(|(name, _)| name.as_str()))).await?;
        let mut spellings = self.spellings.lock().unwrap_or_else(PoisonError::into_inner);
        // Subscribers come and go with headers of their own; the map must not grow for ever.
        if spellings.len() >= 1_000 {
            spellings.clear();
        }
        spellings.insert(names, learned.clone());
        Ok(learned)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sender")
    }
}

type BoxError = Box<dyn StdError + Send + Sync>;

/// Makes a request and reads the answer, within the time-out.
async fn exchange(client: &HttpClient, request: Request<Full<Bytes>>, timeout: Duration) -> Result<Response, NoAnswer> {
    // What came before the time-out passed is kept.
    let mut partial = None;
    match tokio::time::timeout(timeout, answer(client, request, &mut partial)).await {
        Ok(Ok(())) => Ok(partial.expect("an exchange that ended well has an answer")),
        Ok(Err(error)) => Err(no_answer(&*error, partial)),
        Err(_) => {
            let detail = format!("no complete answer within {}", humantime::format_duration(timeout));
            Err(NoAnswer { error: AttemptError::Timeout, detail, response: partial })
        }
    }
}

fn no_answer(error: &(dyn StdError + 'static), response: Option<Response>) -> NoAnswer {
    NoAnswer { error: classify(error), detail: chain(error), response }
}

async fn answer(
    client: &HttpClient,
    mut request: Request<Full<Bytes>>,
    answer: &mut Option<Response>,
) -> Result<(), BoxError> {
    let too_many = watch_interim_answers(&mut request);
    let (parts, body) = tokio::select! {
        answered = client.request(request) => answered?.into_parts(),
        () = too_many.notified() => return Err(TooManyInterim.into()),
    };
    let headers = kept_headers(&parts.headers);
    let answer = answer.insert(Response { status: parts.status.as_u16(), headers, body: Vec::new() });
    // The status is the answer: vendors ignore the body, and some servers end it by hanging up.
    if let Err(error) = read_body(body, &mut answer.body).await {
        debug!("the answer's body broke off: {error}");
    }
    Ok(())
}

fn client(blocked: &Arc<Blocked>, hosts: &HostMap, tls: rustls::ClientConfig) -> HttpClient {
    let mut connector = HttpConnector::new_with_resolver(Resolver(Arc::clone(blocked)));
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let connector = Mapped { connector, hosts: hosts.clone(), blocked: Arc::clone(blocked) };
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .http1_ignore_invalid_headers_in_responses(true)
        .build(connector)
}

/// Counts the interim (1xx) answers to a request; the other end is told when there are too many. An
/// endless stream of them would keep a core busy until the time-out.
fn watch_interim_answers<B>(request: &mut Request<B>) -> Arc<Notify> {
    let too_many = Arc::new(Notify::new());
    let (told, count) = (Arc::clone(&too_many), AtomicUsize::new(0));
    hyper::ext::on_informational(request, move |_| {
        if count.fetch_add(1, Ordering::Relaxed) == MOST_INTERIM {
            told.notify_one();
        }
    });
    too_many
}

/// Reads a body up to what is kept, and a little further for the connection's sake.
async fn read_body(mut body: Incoming, kept: &mut Vec<u8>) -> Result<(), hyper::Error> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        read += data.len();
        let room = KEPT_BYTES - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        if read > DRAINED_BYTES {
            break;
        }
    }
    Ok(())
}

/// The answer's headers, as many as fit in what is kept; `Retry-After` always, since it decides
/// what follows.
fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut room = KEPT_BYTES;
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let fits = |(name, value): &(String, String)| {
        let length = name.len() + value.len();
        room = room.saturating_sub(length);
        room > 0
    };
    let mut kept: Vec<(String, String)> = headers.iter().map(text).take_while(fits).collect();
    if let Some(asked) = headers.get(RETRY_AFTER).filter(|asked| asked.len() <= 64)
        && kept.iter().all(|(name, _)| name != "retry-after")
    {
        kept.push(text((&RETRY_AFTER, asked)));
    }
    kept
}

#[derive(Debug, thiserror::Error)]
#[error("there were more than {MOST_INTERIM} interim answers (1xx) and no final one")]
struct TooManyInterim;

/// Walks an error and its causes. An `io::Error` hides its own inside.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    fn cause<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
        match error.downcast_ref::<std::io::Error>() {
            Some(error) => error.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    }
    std::iter::successors(Some(error), |error| cause(*error))
}

fn classify(error: &(dyn StdError + 'static)) -> AttemptError {
    let any = |test: fn(&(dyn StdError + 'static)) -> bool| causes(error).any(test);
    if any(|cause| cause.is::<BlockedAddress>()) {
        AttemptError::BlockedAddress
    } else if any(|cause| cause.is::<Unresolved>()) {
        AttemptError::Dns
    } else if any(|cause| cause.is::<rustls::Error>()) {
        AttemptError::Tls
    } else if any(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|e| e.is_connect())) {
        AttemptError::Connect
    } else {
        AttemptError::Protocol
    }
}

/// The error and its causes in one line, each said once.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in causes(error) {
        let text = cause.to_string();
        if !said.iter().any(|earlier| earlier.contains(&text)) {
            said.push(text);
        }
    }
    said.join(": ").chars().filter(|c| !c.is_control()).take(500).collect()
}
