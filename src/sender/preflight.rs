//! Looking whether a receiver can be reached, step by step: its name, a connection, TLS, an HTTP
//! answer. Nothing is sent that a receiver could take for a webhook.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::resolve::resolve;
use super::{Sender, chain, trusting_tls};
use crate::clock::Clock;

/// How long one step may take.
const LONGEST_STEP: Duration = Duration::from_secs(5);

/// One step on the way to a receiver.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Step {
    /// `dns`, `tcp`, `tls` or `http`.
    #[schema(example = "tcp")]
    pub step: &'static str,
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do, where something is wrong or odd.
    pub advice: Option<String>,
    pub duration_ms: u64,
}

/// Whether a receiver can be reached, and how far the way goes.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Preflight {
    pub url: String,
    pub ok: bool,
    /// Up to the first that fails.
    pub steps: Vec<Step>,
}

/// What a step gives: what it hands to the next, what it found, and advice; or an error with advice.
type Outcome<T> = Result<(T, String, Option<String>), (String, String)>;

/// A connection, with TLS or without.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

impl Sender {
    /// Walks the way to a receiver.
    pub async fn preflight(&self, url: &Url, check_cert: bool, clock: &Clock) -> Preflight {
        let mut steps = Vec::new();
        let ok = self.walk(url, check_cert, &mut Notes { steps: &mut steps, clock }).await.is_some();
        Preflight { url: url.to_string(), ok, steps }
    }

    async fn walk(&self, url: &Url, check_cert: bool, notes: &mut Notes<'_>) -> Option<()> {
        let addresses = notes.take("dns", self.dns(url)).await?;
        let connection = notes.take("tcp", tcp(url, addresses)).await?;
        let connection: Box<dyn Connection> = match url.scheme() {
            "https" => Box::new(notes.take("tls", self.tls(url, check_cert, connection)).await?),
            _ => Box::new(connection),
        };
        notes.take("http", head(url, connection)).await
    }

    async fn dns(&self, url: &Url) -> Outcome<Vec<SocketAddr>> {
        let own = url.host_str().unwrap_or_default();
        let mapped = self.hosts.get(own);
        let host = mapped.unwrap_or(own).trim_matches(['[', ']']);
        let by = match mapped {
            Some(_) => format!(" (in place of {own}, by dispatch.map_hosts)"),
            None => String::new(),
        };
        let advice = format!(
            "check the name; from a container, a receiver on the host is reached with --map-host {own}=host.docker.internal; \
             addresses in dispatch.blocked_networks are never sent to"
        );
        let found = resolve(host, &self.blocked).await.map_err(|error| (chain(&*error), advice))?;
        let list: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
        Ok((found, format!("{host}{by} is {}", list.join(", ")), None))
    }

    async fn tls(
        &self,
        url: &Url,
        check_cert: bool,
        connection: TcpStream,
    ) -> Outcome<tokio_rustls::client::TlsStream<TcpStream>> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let config = if check_cert { self.tls.clone() } else { trusting_tls() };
        let name =
            ServerName::try_from(host.clone()).map_err(|error| (error.to_string(), "check the URL".to_owned()))?;
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, connection).await;
        let advice = "give the authority's certificate as dispatch.extra_ca_file; a Probely subscriber may say \
                      check_cert=false; or the port does not speak TLS, and the URL must begin with http://";
        let shaken = shaken.map_err(|error| (chain(&error), advice.to_owned()))?;
        let version = shaken.get_ref().1.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
        let trust = if check_cert { "is trusted" } else { "was not checked" };
        let found = format!("{version}; the certificate for {host} {trust}");
        Ok((shaken, found, None))
    }
}

/// The steps as they are taken.
struct Notes<'n> {
    steps: &'n mut Vec<Step>,
    clock: &'n Clock,
}

impl Notes<'_> {
    /// Takes a step and notes it: what it hands to the next, if it went well.
    async fn take<T>(&mut self, step: &'static str, run: impl Future<Output = Outcome<T>>) -> Option<T> {
        let stopwatch = self.clock.stopwatch();
        let outcome = tokio::time::timeout(LONGEST_STEP, run).await.unwrap_or_else(|_| {
            let found = format!("nothing came of it within {}", humantime::format_duration(LONGEST_STEP));
            let advice = "something on the way drops packets, or the receiver hangs: check firewalls and its log";
            Err((found, advice.to_owned()))
        });
        let duration_ms = u64::try_from(stopwatch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (handed_on, ok, found, advice) = match outcome {
            Ok((handed_on, found, advice)) => (Some(handed_on), true, found, advice),
            Err((found, advice)) => (None, false, found, Some(advice)),
        };
        self.steps.push(Step { step, ok, found, advice, duration_ms });
        handed_on
    }
}

async fn tcp(url: &Url, addresses: Vec<SocketAddr>) -> Outcome<TcpStream> {
    let port = url.port_or_known_default().unwrap_or(80);
    let mut refused = String::new();
    for address in addresses {
        let address = SocketAddr::new(address.ip(), port);
        match TcpStream::connect(address).await {
            Ok(connection) => return Ok((connection, format!("{address} is open"), None)),
            Err(error) => refused = format!("{address}: {error}"),
        }
    }
    let advice = format!(
        "start the receiver, and have it listen on port {port}; one in a container or on another machine must listen on \
         0.0.0.0, not on its own loopback"
    );
    Err((refused, advice))
}

/// Asks by HEAD: whatever the answer is, somebody speaks HTTP there.
async fn head(url: &Url, connection: Box<dyn Connection>) -> Outcome<()> {
    let advice =
        "what listens there does not speak HTTP; if it speaks TLS, the URL must begin with https://".to_owned();
    let failed = |error: hyper::Error| (chain(&error), advice.clone());
    let (mut client, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(failed)?;
    let path = url.path().to_owned() + &url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let request = Request::builder().method(Method::HEAD).uri(path).header("host", host).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| (error.to_string(), "check the URL".to_owned()))?;
    let mut answer = std::pin::pin!(client.send_request(request));
    let answered = tokio::select! {
        answered = &mut answer => answered,
        // The connection has ended, so that the answer is there, or never will be.
        ended = driver => match ended {
            Err(error) => Err(error),
            Ok(()) => answer.await,
        },
    };
    let status = answered.map_err(failed)?.status();
    let advice = match status.as_u16() {
        404 => Some("there may be nothing at this path: check it".to_owned()),
        401 | 403 => Some("it may want credentials: put them in the URL or in the subscriber's headers".to_owned()),
        300..=399 => Some("it redirects, and redirects are not followed: register the URL it leads to".to_owned()),
        500..=599 => Some("the receiver fails already at a HEAD request: look into its log".to_owned()),
        _ => None,
    };
    Ok(((), format!("HEAD was answered with {status}"), advice))
}
