//! The vendors' own APIs over the account's world: what a consumer calls back. One folder a vendor.
//!
//! Each is mounted below its vendor's name on the main address, and at the vendor's own paths on an
//! address of its own. The vendor's own header names the account; without a key nobody gets in,
//! also in open mode, because the real vendor lets nobody in either.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request};
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower::Layer;
use tower_http::normalize_path::NormalizePathLayer;
use url::form_urlencoded;

use super::Api;
use crate::account::ApiKey;
use crate::config::AuthMode;
use crate::event::Vendor;
use crate::id::{AccountId, ObjectId};
use crate::store;
use crate::world::{Kind, Object};

mod halo;
mod hostedscan;
mod probely;

/// Where each vendor's API is on the main address, and by itself.
const PLACES: [(Vendor, &str, &str); 3] = [
    (Vendor::Hostedscan, "/hostedscan/v1", "/v1"),
    (Vendor::Halo, "/halo/api/v1", "/api/v1"),
    (Vendor::Probely, "/probely", ""),
];

/// The vendors' APIs on the main address.
pub(super) fn mounted(api: &Api) -> Router {
    PLACES.into_iter().fold(Router::new(), |router, (vendor, path, _)| match routes(vendor, api) {
        Some(routes) => router.nest_service(path, NormalizePathLayer::trim_trailing_slash().layer(routes)),
        None => router,
    })
}

/// One vendor's API by itself.
pub(super) fn alone(vendor: Vendor, api: &Api) -> Option<Router> {
    let (.., path) = PLACES.into_iter().find(|(of, ..)| *of == vendor)?;
    let routes = NormalizePathLayer::trim_trailing_slash().layer(routes(vendor, api)?);
    Some(match path {
        "" => Router::new().fallback_service(routes),
        path => Router::new().nest_service(path, routes).fallback(async move || not_found(vendor)),
    })
}

/// The routes of a vendor, without the trailing slashes that some clients write.
fn routes(vendor: Vendor, api: &Api) -> Option<Router> {
    match vendor {
        Vendor::Hostedscan => Some(hostedscan::router(api.clone())),
        Vendor::Halo => Some(halo::router(api.clone())),
        Vendor::Probely => Some(probely::router(api.clone())),
        Vendor::Standard => None,
    }
}

fn not_found(vendor: Vendor) -> axum::response::Response {
    match vendor {
        Vendor::Halo => halo::not_found(),
        _ => hostedscan::not_found(),
    }
}

/// The account that a key opens; in open mode the default account, if no other.
async fn account_of(api: &Api, key: &str) -> Result<Option<AccountId>, store::Error> {
    let found = api.store.account_by_key_hash(&ApiKey::new(key).hash()).await?;
    Ok(match api.auth_mode {
        AuthMode::Keys => found,
        AuthMode::Open | AuthMode::OpenToAnyone => Some(found.unwrap_or(AccountId::DEFAULT)),
    })
}

/// The query's parameters, in their order; one may come several times.
#[derive(Debug, Default)]
struct Params(Vec<(String, String)>);

impl Params {
    /// The first value of a parameter that is not empty.
    fn get<'p>(&'p self, name: &'p str) -> Option<&'p str> {
        self.all(name).next()
    }

    /// Every value of a parameter that is not empty.
    fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        let named = self.0.iter().filter(move |(own, value)| own == name && !value.is_empty());
        named.map(|(_, value)| value.as_str())
    }

    fn parse(query: &[u8]) -> Self {
        Self(
            form_urlencoded::parse(query)
                .map(|(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default().as_bytes()))
    }
}

/// Why a body could not be read.
#[derive(Debug)]
enum BodyError {
    TooLarge,
    BrokenOff,
}

/// Reads a body up to the setting `server.body_limit_bytes`.
async fn read_body(api: &Api, request: Request<Body>) -> Result<Bytes, BodyError> {
    match Limited::new(request.into_body(), api.body_limit_bytes).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Err(_) => Err(BodyError::BrokenOff),
    }
}

/// Every object of one kind, also those that have ended, oldest first; of one target's, if one is named.
async fn all_objects<T>(
    api: &Api,
    account_id: AccountId,
    kind: Kind,
    target_id: Option<ObjectId>,
) -> Result<Vec<Arc<T>>, store::Error>
where
    Arc<T>: TryFrom<Object>,
{
    let objects = api.store.world_objects(account_id, kind, target_id, None, u32::MAX).await?;
    Ok(objects.into_iter().rev().filter_map(|object| Arc::try_from(object).ok()).collect())
}

/// The object of a kind that a vendor knows by an id, also if it has ended. Vendors' ids are made
/// from ours by a function, so that they need not be stored; this goes the other way.
async fn named<T>(
    api: &Api,
    account_id: AccountId,
    kind: Kind,
    is_meant: impl Fn(ObjectId) -> bool,
) -> Result<Option<Arc<T>>, store::Error>
where
    Arc<T>: TryFrom<Object>,
{
    let ids = api.store.world_ids(account_id, kind).await?;
    let Some(id) = ids.into_iter().rev().find(|id| is_meant(*id)) else { return Ok(None) };
    Ok(Arc::try_from(api.store.world_object(account_id, kind, id).await?).ok())
}
