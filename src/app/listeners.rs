//! The addresses that scanhook listens on: the main one, and those of the vendors' own APIs.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::Router;
use axum::serve::{Listener, ListenerExt};
use futures_util::future::try_join_all;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tls_listener::TlsListener;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::{Config, VendorSettings};
use crate::event::Vendor;
use crate::http::{Api, router, vendor_router};
use crate::role::Role;

/// Bound addresses.
#[derive(Debug)]
pub struct Listeners {
    main: TcpListener,
    vendors: Vec<VendorListener>,
}

/// The address of one vendor's own API.
#[derive(Debug)]
struct VendorListener {
    vendor: Vendor,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
}

impl Listeners {
    /// Binds what the settings name.
    pub(super) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let main = bind(config.server.listen).await?;
        let mut vendors = Vec::new();
        let served = Vendor::ALL.into_iter().filter(|_| config.server.roles.has(Role::Api));
        for vendor in served {
            let VendorSettings { listen, tls_cert_file, tls_key_file, .. } = config.vendors.of(vendor);
            let Some(listen) = *listen else { continue };
            let has_tls = !tls_cert_file.as_os_str().is_empty();
            let tls = has_tls.then(|| server_config(vendor, tls_cert_file, tls_key_file)).transpose()?;
            vendors.push(VendorListener { vendor, listener: bind(listen).await?, tls });
        }
        Ok(Self { main, vendors })
    }

    /// The URL of the main address.
    pub fn url(&self) -> io::Result<String> {
        Ok(format!("http://{}", self.main.local_addr()?))
    }

    /// The URLs of the vendors' own APIs.
    pub fn vendor_urls(&self) -> io::Result<Vec<(Vendor, String)>> {
        let url = |one: &VendorListener| {
            let scheme = if one.tls.is_some() { "https" } else { "http" };
            Ok((one.vendor, format!("{scheme}://{}", one.listener.local_addr()?)))
        };
        self.vendors.iter().map(url).collect()
    }

    /// Serves until `stop`, then lets requests that are under way end, within `limit`.
    pub(super) async fn serve(self, api: &Api, stop: &CancellationToken, limit: Duration) -> anyhow::Result<()> {
        let main = serve(at_once(self.main), router(api.clone()), stop, limit);
        let of_vendor = async |VendorListener { vendor, listener, tls }| {
            let Some(router) = vendor_router(vendor, api) else { return Ok(()) };
            match tls {
                None => serve(at_once(listener), router, stop, limit).await,
                Some(tls) => serve(TlsListener::new(TlsAcceptor::from(tls), listener), router, stop, limit).await,
            }
        };
        let vendors = try_join_all(self.vendors.into_iter().map(of_vendor));
        tokio::try_join!(main, vendors).map(|_| ())
    }
}

/// Sends small answers without waiting for the client's acknowledgement.
fn at_once(listener: TcpListener) -> impl Listener<Addr = SocketAddr> {
    listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            debug!("cannot set nodelay: {error}");
        }
    })
}

/// Serves one address.
async fn serve<L: Listener<Addr: std::fmt::Debug>>(
    listener: L,
    router: Router,
    stop: &CancellationToken,
    limit: Duration,
) -> anyhow::Result<()> {
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let past_limit = async {
        stop.cancelled().await;
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        served = server => served.context("the HTTP server failed"),
        () = past_limit => {
            warn!("clients still held connections at the limit");
            Ok(())
        }
    }
}

/// Reads a certificate and its key.
fn server_config(vendor: Vendor, cert_file: &Path, key_file: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let [cert_name, key_name] = [("tls_cert_file", cert_file), ("tls_key_file", key_file)]
        .map(|(name, file)| format!("vendors.{vendor}.{name} {}", file.display()));
    let certs = CertificateDer::pem_file_iter(cert_file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certs = certs.with_context(|| format!("{cert_name} cannot be read as PEM"))?;
    if certs.is_empty() {
        return Err(anyhow!("{cert_name} holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(key_file);
    let key = key.with_context(|| format!("{key_name} cannot be read as a private key in PEM"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .with_context(|| format!("{cert_name} and {key_name} do not fit together"))?;
    Ok(Arc::new(config))
}

/// Binds a TCP address; an error says what to do.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("cannot listen on {address}: the port is in use; stop what uses it, or choose another with --listen (port 0 takes a free one)")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("cannot listen on {address}: permission denied; ports below 1024 need root")
        }
        _ => anyhow!("cannot listen on {address}: {error}"),
    })
}
