//! From the host of a URL to the addresses that are connected to: other hosts that stand for it, the
//! resolver, and the networks that are never sent to.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use ipnet::IpNet;
use tower::Service;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Networks that are never sent to.
#[derive(Debug)]
pub(super) struct Blocked(pub(super) Vec<IpNet>);

#[derive(Debug, thiserror::Error)]
#[error("the address {address} is in {network}, which dispatch.blocked_networks forbids")]
pub(super) struct BlockedAddress {
    address: IpAddr,
    network: IpNet,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot resolve {host}: {source}")]
pub(super) struct Unresolved {
    host: String,
    source: std::io::Error,
}

impl Blocked {
    pub(super) fn check(&self, address: IpAddr) -> Result<(), BlockedAddress> {
        let address = address.to_canonical();
        match self.0.iter().find(|network| network.contains(&address)) {
            Some(&network) => Err(BlockedAddress { address, network }),
            None => Ok(()),
        }
    }
}

/// The addresses that a host name or an address leads to, without those that are blocked.
pub(super) async fn resolve(host: &str, blocked: &Blocked) -> Result<Vec<SocketAddr>, BoxError> {
    let found = tokio::net::lookup_host((host, 0)).await;
    let unresolved = |source| Unresolved { host: host.to_owned(), source };
    let found: Vec<SocketAddr> = found.map_err(unresolved)?.collect();
    let refused = found.iter().find_map(|address| blocked.check(address.ip()).err());
    let allowed: Vec<SocketAddr> = found.into_iter().filter(|address| blocked.check(address.ip()).is_ok()).collect();
    match refused {
        Some(refused) if allowed.is_empty() => Err(refused.into()),
        _ => Ok(allowed),
    }
}

/// Resolves names and drops blocked addresses, so that the check is on what is connected to.
#[derive(Debug, Clone)]
pub(super) struct Resolver(pub(super) Arc<Blocked>);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let blocked = Arc::clone(&self.0);
        Box::pin(async move { Ok(resolve(name.as_str(), &blocked).await?.into_iter()) })
    }
}

/// Which hosts are connected to in place of others.
#[derive(Debug, Clone, Default)]
pub(super) struct HostMap(Arc<BTreeMap<String, String>>);

impl HostMap {
    /// Of pairs such as `localhost=host.docker.internal`, which have been checked.
    pub(super) fn new(pairs: &[String]) -> Self {
        let pair = |pair: &String| pair.split_once('=').map(|(from, to)| (from.to_ascii_lowercase(), to.to_owned()));
        Self(Arc::new(pairs.iter().filter_map(pair).collect()))
    }

    /// The host to connect to in place of this one, if there is one.
    pub(super) fn get(&self, host: &str) -> Option<&str> {
        self.0.get(host.trim_matches(['[', ']'])).map(String::as_str)
    }
}

/// Connects to the host that stands for the URL's. The request and TLS keep the URL's own.
#[derive(Debug, Clone)]
pub(super) struct Mapped {
    pub(super) connector: HttpConnector<Resolver>,
    pub(super) hosts: HostMap,
    pub(super) blocked: Arc<Blocked>,
}

impl Service<Uri> for Mapped {
    type Response = <HttpConnector<Resolver> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Service::<Uri>::poll_ready(&mut self.connector, context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let target = match uri.host().and_then(|host| self.hosts.get(host)) {
            Some(host) => with_host(&uri, host),
            None => Ok(uri),
        };
        // A literal address never reaches the resolver.
        let allowed = target.and_then(|target| {
            let address = target.host().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
            address.map_or(Ok(()), |address| self.blocked.check(address).map_err(BoxError::from))?;
            Ok(target)
        });
        match allowed {
            Ok(target) => {
                let connecting = self.connector.call(target);
                Box::pin(async move { connecting.await.map_err(Into::into) })
            }
            Err(refused) => Box::pin(async move { Err(refused) }),
        }
    }
}

fn with_host(uri: &Uri, host: &str) -> Result<Uri, BoxError> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let authority = match uri.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(authority.parse()?);
    Ok(Uri::from_parts(parts)?)
}
