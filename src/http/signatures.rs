//! Signatures: why a request verifies, or does not.

use std::collections::BTreeMap;

use axum::Json;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::JsonBody;
use crate::event::Vendor;
use crate::problem::FieldProblem;
use crate::subscriber::Secret;
use crate::vendors::{Explanation, dialect};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(verify))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ToVerify {
    #[schema(example = "hostedscan")]
    vendor: String,
    secret: String,
    /// Secrets that were used before, to try as well.
    #[serde(default)]
    old_secrets: Vec<String>,
    /// The request's headers.
    headers: BTreeMap<String, String>,
    /// The request's body, as it came.
    body: String,
}

/// Check a signature, and explain why it does not verify.
///
/// Where it does not, the usual mistakes are tried: a body that was serialised again, a line break,
/// seconds for milliseconds, base64 for hex, a prefix, an old secret, the wrong joiner.
#[utoipa::path(
    post, path = "/api/v1/verify", tag = "signatures", request_body = ToVerify,
    responses(
        (status = 200, description = "Valid or not, and why", body = Explanation),
        (status = 422, description = "Unknown vendor, one that does not sign, or an unusable field", body = Problem),
    )
)]
async fn verify(JsonBody(request): JsonBody<ToVerify>) -> Result<Json<Explanation>, Problem> {
    let vendor: Vendor = request.vendor.parse().map_err(|error| Problem::unknown_vendor(format!("{error}")))?;
    let scheme = dialect(vendor)
        .scheme()
        .ok_or_else(|| Problem::invalid(vec![FieldProblem::new("/vendor", format!("{vendor} signs nothing"))]))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
        let (parsed_name, parsed_value) = parsed.ok_or_else(|| {
            Problem::invalid(vec![FieldProblem::new(format!("/headers/{name}"), "is not a header that HTTP allows")])
        })?;
        headers.insert(parsed_name, parsed_value);
    }
    let old: Vec<Secret> = request.old_secrets.into_iter().map(Secret::new).collect();
    Ok(Json(scheme.explain(&Secret::new(request.secret), &old, &headers, request.body.as_bytes())))
}
