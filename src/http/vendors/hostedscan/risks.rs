//! Risks: list and show. What no scan has found is none, and those of a removed target are gone
//! with it. (Documented.)

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::{Api, Caller, Failure, Id, List, PAGE, Params, one};
use crate::vendors::hostedscan::objects;
use crate::world::{Object, Target, Weakness, WeaknessState, World};

/// The keys that risks can be filtered by. (Documented.)
const KEYS: [&str; 6] = [
    "target_id",
    "status",
    "tags",
    "risk_definition.scan_type",
    "risk_definition.threat_level",
    "risk_definition.title",
];

/// An object, if it is a risk, and its target.
pub(super) fn as_risk<'w>(world: &'w World, object: &'w Object) -> Option<(&'w Weakness, &'w Target)> {
    match object {
        Object::Weakness(weakness) if weakness.state != WeaknessState::Latent => {
            Some((&**weakness, &**world.target(weakness.target_id)?))
        }
        _ => None,
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    Caller(account_id): Caller,
    params: Params,
) -> Result<Json<Value>, Failure> {
    let filters = params.filters(&KEYS)?;
    let list = List::new(&api, account_id, "risks");
    let position = list.position(&params)?;
    let world = api.scanner.world(account_id).await?;
    let mut objects: Vec<&Object> = world.objects().collect();
    objects.reverse();
    let after = objects.into_iter().skip_while(|object| position.is_some_and(|position| object.id() >= position));
    let risks = after.filter_map(|object| {
        let (weakness, target) = as_risk(&world, object)?;
        let shown = objects::risk_with_times(weakness, target);
        filters.keep(&shown).then_some((weakness.id, shown))
    });
    Ok(list.page(risks.take(PAGE + 1).collect()))
}

pub(super) async fn show(
    State(api): State<Api>,
    Caller(account_id): Caller,
    Id(id): Id,
) -> Result<Json<Value>, Failure> {
    let world = api.scanner.world(account_id).await?;
    let mut risks = world.objects().filter_map(|object| as_risk(&world, object));
    let found = risks.find(|(weakness, _)| objects::is_id_of(&id, "risk", weakness.id));
    let (weakness, target) = found.ok_or_else(Failure::missing)?;
    Ok(one(objects::risk_with_times(weakness, target)))
}
