//! Findings.

use serde_json::{Value, json};

use super::target::{simple_scope, url_of};
use super::{Scene, cut, labels_of, own, own_text, simple_user, user_or};
use crate::clock::format_time;
use crate::id::ObjectId;
use crate::vendors::probely::ids::{derived_id, vendor_id};
use crate::vendors::probely::requests::requests;
use crate::world::{Definition, Level, Object, Target, Weakness, WeaknessState, World};

/// A Finding. What only scans have changed is the system's.
pub(crate) fn finding(weakness: &Weakness, target: &Target, scene: Scene<'_>) -> Option<Value> {
    let definition = weakness.definition();
    let Spot { url, parameter } = Spot::of(weakness, &url_of(target)?);
    let attack = definition.additional_info.pointer("/instances/0/attack").and_then(Value::as_str).unwrap_or_default();
    let insertion_point = definition.place.insertion_point.as_deref().unwrap_or_default();
    let params = match insertion_point {
        "parameter" | "arbitrary_url_param" | "request_body" if !parameter.is_empty() => json!({&parameter: ["1"]}),
        _ => json!({}),
    };
    let own = own(&weakness.settings);
    let is_users = own_text(&weakness.settings, "changed") == Some(&*format_time(weakness.changed_at));
    let changed_by = match own.and_then(|own| own.get("changed_by")).filter(|_| is_users) {
        Some(id) => simple_user(user_or(scene, serde_json::from_value(id.clone()).ok())),
        // The id is a real one, from before ids were Base58.
        None => json!({"id": "-sDw5iRCtV3Y", "email": "", "name": "Probely"}),
    };
    let assignee = own.and_then(|own| serde_json::from_value(own.get("assignee")?.clone()).ok());
    let text = |name| own_text(&weakness.settings, name);
    Some(json!({
        "id": weakness.number,
        "target": simple_scope(target, scene)?,
        "scans": weakness.scans.iter().map(|id| vendor_id("scan", *id)).collect::<Vec<_>>(),
        "labels": labels_of("finding", &weakness.settings, scene),
        "fix": definition.solution,
        "requests": requests(&definition.place, &url, &parameter, attack, &definition.evidence),
        "evidence": Some(&definition.evidence).filter(|evidence| !evidence.is_empty()), "extra": "",
        "definition": definition_of(definition),
        "url": url, "path": url,
        "method": definition.place.method.as_deref().unwrap_or_default().to_lowercase(),
        "insertion_point": insertion_point, "parameter": parameter, "value": attack, "params": params,
        "assignee": assignee.map(|id| simple_user(user_or(scene, Some(id)))),
        "state": state(weakness),
        "severity": severity(definition.threat_level),
        "cvss_score": definition.cvss_score, "cvss_vector": definition.cvss_vector,
        "last_found": format_time(weakness.last_detected_at.unwrap_or(weakness.changed_at)),
        "retesting": is_retesting(weakness, scene.world), "new": is_new(weakness),
        "review_status": text("review_status").unwrap_or("notrequired"), "review_reason": text("review_reason"),
        "created_at": format_time(weakness.first_detected_at.unwrap_or(weakness.changed_at)),
        "changed": format_time(weakness.changed_at),
        "changed_by": changed_by,
        "comment": text("comment").unwrap_or_default(),
    }))
}

/// What is to be done about a finding: a user may have said so. (Documented: the four words.)
pub(crate) fn state(weakness: &Weakness) -> &str {
    match weakness.state {
        WeaknessState::Closed => "fixed",
        WeaknessState::Open | WeaknessState::Latent => own_text(&weakness.settings, "state").unwrap_or("notfixed"),
    }
}

/// Whether no scan but one has found it.
pub(crate) fn is_new(weakness: &Weakness) -> bool {
    weakness.state != WeaknessState::Closed && weakness.scans.len() <= 1
}

/// Whether the scan that looks for it again is still to end.
pub(crate) fn is_retesting(weakness: &Weakness, world: &World) -> bool {
    let scan = own_text(&weakness.settings, "retest").and_then(|id| id.parse::<ObjectId>().ok());
    matches!(scan.and_then(|id| world.object(id)), Some(Object::Scan(scan)) if !scan.state.has_ended())
}

pub(super) fn definition_of(definition: &Definition) -> Value {
    json!({
        "id": derived_id("definition", &definition.key),
        "name": cut(&definition.title, 255), "desc": definition.description,
    })
}

/// A severity as a number. (Documented.)
pub(crate) fn severity(level: Level) -> u8 {
    match level {
        Level::Low => 10,
        Level::Medium => 20,
        Level::High => 30,
        Level::Critical => 40,
    }
}

/// Where a finding is.
struct Spot {
    url: String,
    parameter: String,
}

impl Spot {
    /// Several weaknesses of one definition differ in the parameter, or where there is none, in the path.
    fn of(weakness: &Weakness, url: &str) -> Self {
        let place = &weakness.definition().place;
        let mut parameter = place.parameter.clone().unwrap_or_default();
        let base = url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/');
        let mut url = place.path.as_ref().map_or_else(|| url.to_owned(), |path| format!("{base}{path}"));
        if weakness.instance > 0 && parameter.is_empty() {
            url = format!("{}/{}", url.trim_end_matches('/'), weakness.instance);
        } else if weakness.instance > 0 {
            parameter = format!("{parameter}_{}", weakness.instance);
        }
        Self { url, parameter }
    }
}
