//! Users.

use serde_json::{Value, json};

use super::{Scene, full_name, is_set, labels_of, own, own_text, simple_user};
use crate::clock::format_time;
use crate::vendors::probely::ids::{role_id, vendor_id};
use crate::world::User;

/// A User, as it was last changed by someone.
pub(crate) fn user(user: &User, scene: Scene<'_>) -> Value {
    let role = if user.is_admin { "Administrator" } else { "Security engineer" };
    let mut shown = json!({
        "id": vendor_id("user", user.id), "email": user.email, "name": full_name(user), "title": "",
        "is_billing_admin": user.is_admin,
        "changed_by": simple_user(scene.by), "changed": format_time(user.changed_at),
        "last_login": null, "is_apiuser": false,
        "active": user.is_active, "is_active": user.is_active, "is_admin": user.is_admin,
        "labels": labels_of("user", &user.settings, scene),
        "user_roles": [
            {"role": {"id": role_id(role), "name": role}, "scope": "account", "team": null, "target": null},
        ],
    });
    if let Some(title) = own_text(&user.settings, "title") {
        shown["title"] = title.into();
    }
    for name in ["is_billing_admin", "is_apiuser"] {
        if own(&user.settings).is_some_and(|own| own.contains_key(name)) {
            shown[name] = is_set(&user.settings, name).into();
        }
    }
    shown
}

/// A User as it sees itself: with what the vendor's own pages need.
pub(crate) fn profile_of(own_user: &User, scene: Scene<'_>) -> Value {
    let mut shown = user(own_user, scene);
    let more = json!({"intercom_user_id": vendor_id("intercom", own_user.id), "is_sso": false, "is_owner": true});
    if let (Value::Object(fields), Value::Object(more)) = (&mut shown, more) {
        fields.extend(more);
    }
    shown
}
