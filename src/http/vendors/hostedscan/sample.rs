//! What the key `test-data-key` gets: the same sample answers for any id. Nothing is stored, nothing
//! runs, no webhook is sent.
//!
//! Documented: the key, and that no scan is run. Inferred from the vendor's example: the values, a
//! scan that runs when it is started and has succeeded when it is asked for. Assumed: request
//! bodies and filters do not matter.

use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::files::{Document, Format};
use super::{Failure, Id, file, not_found, one};

const TARGET_ID: &str = "61918de9ed4b650040af5b03";
const RISK_ID: &str = "61918e1eed4b650040af5b1f";
const REPORT_ID: &str = "6f1f8a52-3d0c-4c57-9b7e-2a4f0c8d1e93";
const RESULTS: [(&str, Format); 3] = [
    ("627855c972c53e004090c162", Format::Html),
    ("627855c972c53e004090c163", Format::Json),
    ("627855c972c53e004090c164", Format::Pdf),
];

pub(super) fn router() -> Router {
    Router::new()
        .route("/scans", get(async || list(&finished())).post(async || one(running())))
        .route("/scans/{id}", get(async |Id(_): Id| one(finished())))
        .route("/results/{id}", get(result))
        .route("/risks", get(async || list(&risk())))
        .route("/risks/{id}", get(async |Id(_): Id| one(risk())))
        .route("/targets", get(async || list(&target())).post(async || one(target())))
        .route(
            "/targets/{id}",
            get(async |Id(_): Id| one(target())).put(async |Id(_): Id| one(target())).delete(async |Id(_): Id| ()),
        )
        .route("/targets/{id}/auth/selenium", post(async |Id(_): Id| one(target())))
        .route("/reports", post(async || one(json!({"id": REPORT_ID}))))
        .route("/reports/{id}", get(async |Id(_): Id| download(Format::Pdf)))
        .method_not_allowed_fallback(async || not_found())
        .fallback(async || not_found())
}

fn list(sample: &Value) -> Json<Value> {
    Json(json!({"data": [sample]}))
}

/// The scan as it is started.
fn running() -> Value {
    json!({
        "id": "61918df1ed4b650040af5b0a", "type": "SSLYZE", "state": "RUNNING", "progress": 0, "results": [],
        "requested_targets": [{"target_id": TARGET_ID, "target": "https://expired.badssl.com"}],
        "resolved_targets": [{"target_id": TARGET_ID, "resolved_target": "192.0.2.1"}],
        "skipped_targets": [],
    })
}

/// The scan as it is asked for.
fn finished() -> Value {
    let mut scan = running();
    scan["state"] = "SUCCEEDED".into();
    scan["progress"] = 100.into();
    let result = |(id, format): (&str, Format)| json!({"result_id": id, "content_type": format.content_type()});
    scan["results"] = RESULTS.map(result).to_vec().into();
    scan["risks"] = json!({"new_open": [], "still_open": [{"risk_id": RISK_ID}], "closed": []});
    scan
}

fn risk() -> Value {
    json!({
        "id": RISK_ID, "target_id": TARGET_ID, "target": "https://expired.badssl.com", "tags": [], "status": "OPEN",
        "risk_definition": {
            "scan_type": "SSLYZE", "title": "certificate has expired", "threat_level": "MEDIUM",
            "description": "The certificate that the server shows is no longer valid.",
            "solution": "Renew the certificate.", "references": ["https://www.rfc-editor.org/rfc/rfc5280"],
            "cvss": "5.3", "additional_info": {"port": "443"},
        },
        "target_label": "Expired certificate", "is_accepted": false, "accepted_by": [],
        "first_detected_at": "2021-11-14T22:30:06.000Z", "last_detected_at": "2022-05-08T23:44:09.000Z",
    })
}

fn target() -> Value {
    json!({"id": TARGET_ID, "target": "https://expired.badssl.com", "label": "Expired certificate", "tags": []})
}

/// Any id has a result: of those that the scan names, each in its format; of any other, a page.
async fn result(Id(id): Id) -> Result<Response, Failure> {
    let named = RESULTS.into_iter().find(|(own, _)| *own == id);
    download(named.map_or(Format::Html, |(_, format)| format))
}

fn download(format: Format) -> Result<Response, Failure> {
    let facts = vec![("Targets", "https://expired.badssl.com".to_owned())];
    let bytes = Document::new("Sample results", facts, vec![risk()]).render(format);
    Ok(file(format.content_type(), bytes.map_err(|_| Failure::missing())?))
}
