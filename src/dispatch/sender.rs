//! The only place that connects to receivers: one shared client, so that connections are reused.
//!
//! It is built on hyper's own client because header names must go out spelled as the vendor spells
//! them (`X-HOSTEDSCAN-SIGNATURE`), which the larger clients cannot do.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::sync::Notify;
use tower::Service;
use url::{Host, Url};

use super::spelling;
use crate::config::Dispatch;
use crate::delivery::{AttemptError, KEPT_BYTES, Response};

/// How long an unused connection is kept: less than common servers keep one (2 s and more), since
/// a request on a connection that is just being closed would count as a failed attempt.
const IDLE: Duration = Duration::from_millis(1_500);
/// The most interim answers (1xx) before the final one.
const MOST_INTERIM: usize = 100;
/// How much of a body that is too long to keep is read on, so that its connection can be reused.
const DRAINED_BYTES: usize = 4 * KEPT_BYTES;

/// Sends requests to receivers.
pub(super) struct Sender {
    client: HttpClient,
    /// For receivers whose certificate is not to be checked; made when the first one is sent to.
    unchecked: OnceLock<HttpClient>,
    blocked: Arc<Blocked>,
    /// The spelling of header names, by the names in order.
    spellings: Mutex<HashMap<Vec<String>, http::Extensions>>,
}

type HttpClient = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// One request: a POST.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub url: Url,
    /// In the order and the spelling they are sent in; `Host` and `Content-Length` included.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub timeout: Duration,
    /// Whether the receiver's certificate must be one to trust.
    pub check_cert: bool,
}

/// No answer, or none that could be read to its end.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub error: AttemptError,
    pub detail: String,
    /// The part of the answer that came.
    pub response: Option<Response>,
}

impl Sender {
    /// Makes the client. Fails if the extra authorities cannot be read.
    pub(super) fn new(settings: &Dispatch) -> anyhow::Result<Self> {
        let blocked = Arc::new(Blocked(settings.blocked_networks.clone()));
        let client = client(&blocked, tls(&settings.extra_ca_file)?);
        Ok(Self { client, unchecked: OnceLock::new(), blocked, spellings: Mutex::default() })
    }

    /// Sends one request and reads the answer, within the time-out. Redirects are not followed.
    pub(super) async fn send(&self, outgoing: Outgoing) -> Result<Response, NoAnswer> {
        let timeout = outgoing.timeout;
        // What came before the time-out passed is kept.
        let mut partial = None;
        match tokio::time::timeout(timeout, self.exchange(outgoing, &mut partial)).await {
            Ok(Ok(())) => Ok(partial.expect("an exchange that ended well has an answer")),
            Ok(Err(error)) => Err(NoAnswer { error: classify(&*error), detail: chain(&*error), response: partial }),
            Err(_) => {
                let detail = format!("no complete answer within {}", humantime::format_duration(timeout));
                Err(NoAnswer { error: AttemptError::Timeout, detail, response: partial })
            }
        }
    }

    async fn exchange(&self, outgoing: Outgoing, answer: &mut Option<Response>) -> Result<(), BoxError> {
        let client = if outgoing.check_cert {
            &self.client
        } else {
            self.unchecked.get_or_init(|| client(&self.blocked, trusting_tls()))
        };
        let mut request = self.request(outgoing).await?;
        let too_many = watch_interim_answers(&mut request);
        let (parts, body) = tokio::select! {
            answered = client.request(request) => answered?.into_parts(),
            () = too_many.notified() => return Err(TooManyInterim.into()),
        };
        let headers = kept_headers(&parts.headers);
        let answer = answer.insert(Response { status: parts.status.as_u16(), headers, body: Vec::new() });
        read_body(body, &mut answer.body).await.map_err(|error| Box::new(BrokenBody(error)) as BoxError)
    }

    async fn request(&self, outgoing: Outgoing) -> Result<Request<Full<Bytes>>, BoxError> {
        // A literal address never reaches the resolver.
        match outgoing.url.host() {
            Some(Host::Ipv4(address)) => self.blocked.check(address.into())?,
            Some(Host::Ipv6(address)) => self.blocked.check(address.into())?,
            Some(Host::Domain(_)) | None => (),
        }
        let mut request = Request::post(outgoing.url.as_str()).body(Full::new(outgoing.body))?;
        for (name, value) in &outgoing.headers {
            request.headers_mut().append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
        *request.extensions_mut() = self.spelling(outgoing.headers.into_iter().map(|(name, _)| name).collect()).await?;
        Ok(request)
    }

    async fn spelling(&self, names: Vec<String>) -> Result<http::Extensions, BoxError> {
        let known = self.spellings.lock().unwrap_or_else(PoisonError::into_inner).get(&names).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let learned = spelling::learn(&names).await?;
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

fn client(blocked: &Arc<Blocked>, tls: rustls::ClientConfig) -> HttpClient {
    let mut connector = HttpConnector::new_with_resolver(Resolver(Arc::clone(blocked)));
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .http1_ignore_invalid_headers_in_responses(true)
        .build(connector)
}

/// TLS as receivers expect it: public authorities compiled in, so that every machine trusts the
/// same ones, and those of a file.
fn tls(extra_ca_file: &Path) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if !extra_ca_file.as_os_str().is_empty() {
        let unreadable = || format!("dispatch.extra_ca_file {} cannot be read", extra_ca_file.display());
        let public = roots.len();
        for certificate in CertificateDer::pem_file_iter(extra_ca_file).with_context(unreadable)? {
            roots.add(certificate.with_context(unreadable)?).with_context(unreadable)?;
        }
        if roots.len() == public {
            bail!("dispatch.extra_ca_file {} has no certificate in PEM", extra_ca_file.display());
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// TLS that takes any certificate, for subscribers that say so.
fn trusting_tls() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default protocol versions");
    config.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))).with_no_client_auth()
}

/// Takes any certificate, but still checks that the receiver has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
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

/// Networks that are never sent to.
#[derive(Debug)]
struct Blocked(Vec<IpNet>);

#[derive(Debug, thiserror::Error)]
#[error("the address {address} is in {network}, which dispatch.blocked_networks forbids")]
struct BlockedAddress {
    address: IpAddr,
    network: IpNet,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot resolve {host}: {source}")]
struct Unresolved {
    host: String,
    source: std::io::Error,
}

#[derive(Debug, thiserror::Error)]
#[error("there were more than {MOST_INTERIM} interim answers (1xx) and no final one")]
struct TooManyInterim;

#[derive(Debug, thiserror::Error)]
#[error("the answer broke off in its body")]
struct BrokenBody(#[source] hyper::Error);

impl Blocked {
    fn check(&self, address: IpAddr) -> Result<(), BlockedAddress> {
        let address = address.to_canonical();
        match self.0.iter().find(|network| network.contains(&address)) {
            Some(&network) => Err(BlockedAddress { address, network }),
            None => Ok(()),
        }
    }
}

/// Resolves names and drops blocked addresses, so that the check is on what is connected to.
#[derive(Debug, Clone)]
struct Resolver(Arc<Blocked>);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let blocked = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            let unresolved = |source| Unresolved { host: host.clone(), source };
            let found: Vec<SocketAddr> = found.map_err(unresolved)?.collect();
            let refused = found.iter().find_map(|address| blocked.check(address.ip()).err());
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| blocked.check(address.ip()).is_ok()).collect();
            match refused {
                Some(refused) if allowed.is_empty() => Err(refused.into()),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}

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
    } else if any(|cause| cause.is::<BrokenBody>()) {
        AttemptError::Body
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
