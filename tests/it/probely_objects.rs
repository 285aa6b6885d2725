//! What Probely's API shows, held against its documentation field by field; users, labels, schedules
//! and the rest.

use serde_json::{Value, json};

use crate::probely_api::{Probely, scanned, start, step};
use crate::support::{on_both_databases, text};

/// The documented fields of each object: `name:type`; `?` may be null, `[…]` is a list.
fn fields_of(object: &str) -> Option<String> {
    let site = "id:id name:str desc:str url:url host:str has_form_login:bool form_login_url:url-or-empty \
        form_login_check_pattern:str form_login:[Pair]? logout_detection_enabled:bool has_sequence_login:bool \
        has_sequence_navigation:bool has_basic_auth:bool basic_auth:BasicAuth headers:[Header] cookies:[Header] \
        whitelist:[str] blacklist:[str] changed:time changed_by:SimpleUser auth_enabled:bool logout_condition:str \
        check_session_url:str has_otp:bool otp_secret:str otp_algorithm:str otp_digits:int otp_field:str otp_submit:str \
        otp_login_sequence_totp_value:str otp_type:str otp_url:str api_scan_settings:Api?";
    let short = "id:id status:str started:time? completed:time? scan_profile:str lows:int mediums:int highs:int \
        criticals:int created:time";
    let running = format!("{short} crawler:Part fingerprinter:Fingerprinter scanner:Part stack:[Framework]");
    let schedule = "id:id date_time:time recurrence:str timezone:str blackout_period:Blackout? run_on_day_of_week:bool \
        scheduled_day_of_week:int? week_index:str? partial_scan:bool override_target_settings:bool incremental:bool \
        reduced_scope:bool scan_profile:str unlimited:bool changed:time changed_by:SimpleUser";
    let user = "id:id email:str name:str title:str is_billing_admin:bool changed_by:SimpleUser changed:time \
        last_login:time? is_apiuser:bool active:bool is_active:bool is_admin:bool labels:[Label] user_roles:[UserRole]";
    let asset = "id:id name:str desc:str host:str include:bool headers:[Header] cookies:[Header] stack:[Framework] \
        verified:bool verification_token:uuid verification_date:time? verification_method:str \
        verification_last_error:str changed:time changed_by:SimpleUser";
    Some(match object {
        "SimpleUser" => "id:id email:str name:str".to_owned(),
        "Framework" | "Definition" => "id:id name:str desc:str".to_owned(),
        "Pair" => "name:str value:str".to_owned(),
        "Header" => "name:str value:str allow_testing:bool authentication:bool".to_owned(),
        "BasicAuth" => "username:str password:str".to_owned(),
        "Label" => "id:id name:str color:str changed_by:SimpleUser changed:time".to_owned(),
        "Team" => "id:id name:str".to_owned(),
        "Profile" => "id:str name:str description:str builtin:bool".to_owned(),
        "Blackout" => "begin:str cease:str weekdays:[int] enabled:bool timezone:str changed:time changed_by:SimpleUser".to_owned(),
        "Api" => "api_schema_type:str api_schema_url:url? api_schema_file:str? custom_api_parameters:[Pair] media_type:str \
            api_login_url:url-or-empty api_login_payload:str api_login_enabled:bool api_login_token_field:str \
            token_prefix:str token_parameter_name:str token_parameter_location:str".to_owned(),
        "SiteOptions" => site.to_owned(),
        "Site" => format!("{site} stack:[Framework] verified:bool verification_token:uuid verification_date:time? \
            verification_method:str verification_last_error:str"),
        "Scope" => "id:id name:str site:Site type:str desc:str labels:[Label] has_assets:bool report_fileformat:str \
            scanning_agent:null? teams:[Team] blackout_period:Blackout?".to_owned(),
        "Short" => short.to_owned(),
        "Running" => running,
        "Part" => "state:str status:[int] warning:[Coded] error:[Coded]".to_owned(),
        "Fingerprinter" => "state:str count:int warning:[str] error:[str]".to_owned(),
        "Coded" => "code:str message:str".to_owned(),
        "ScanOptions" => "site:SiteOptions has_assets:bool scanning_agent:null?".to_owned(),
        "Scan" => format!("{running} target:Scope unlimited:bool changed:time changed_by:SimpleUser \
            target_options:ScanOptions has_sequence_navigation:bool incremental:bool reduced_scope:bool \
            crawl_sequences_only:bool ignore_blackout_period:bool user_data:str?"),
        "Targetless" => schedule.to_owned(),
        "Schedule" => format!("{schedule} target:Scope"),
        "Asset" => asset.to_owned(),
        "Sequence" => "id:id name:str requires_authentication:bool type:str enabled:bool index:int? changed:time changed_by:SimpleUser".to_owned(),
        "Target" => "id:id name:str site:Site lows:int? mediums:int? highs:int? criticals:int? risk:int? last_scan:Short? \
            running_scan:Running? next_scan:Targetless? assets:[Asset] scan_profile:str type:str enabled:bool \
            environment:str connected_target:str? unlimited:bool report_type:str report_fileformat:str \
            allowed_scan_profiles:[Profile] labels:[Label] scanning_agent:null? include_deduplicated_endpoints:bool? \
            teams:[Team] blackout_period:Blackout? fail_fast:bool? login_video:url? changed:time changed_by:SimpleUser \
            incremental:bool reduced_scope:bool schedule_incremental:bool schedule_reduced_scope:bool \
            crawl_sequences_only:bool schedule_crawl_sequences_only:bool".to_owned(),
        "Exchange" => "request:fenced response:fenced".to_owned(),
        "Finding" => "id:int target:Scope scans:[id] labels:[Label] fix:str requests:[Exchange] evidence:str? extra:str \
            definition:Definition url:url path:url method:lower insertion_point:str parameter:str value:str params:lists? \
            assignee:SimpleUser? state:str severity:int cvss_score:number cvss_vector:str last_found:time retesting:bool \
            new:bool review_status:str? review_reason:str? created_at:time changed:time changed_by:SimpleUser \
            comment:str".to_owned(),
        "Role" => "id:id name:str".to_owned(),
        "UserRole" => "role:Role scope:str team:null? target:null?".to_owned(),
        "User" => user.to_owned(),
        "Profile of oneself" => format!("{user} intercom_user_id:str is_sso:bool is_owner:bool"),
        "Webhook" => "id:id name:str url:url api_version:str check_cert:bool created:time created_by:SimpleUser \
            changed:time changed_by:SimpleUser".to_owned(),
        "Owed" => "id:id api_version:str status:str next_try:time retries:int".to_owned(),
        _ => return account_fields_of(object).map(str::to_owned),
    })
}

/// Those of what an account has as a whole.
fn account_fields_of(object: &str) -> Option<&'static str> {
    Some(match object {
        "Plan" => {
            "id:str name:str description:str is_trial:bool charge_model:str price:number currency_code:str \
            period:int period_unit:str allowed_scan_profiles:[str]"
        }
        "Account" => {
            "status:str plan:Plan free_target_quantity:int plan_target_quantity:int pool_size:int \
            auto_collection:bool next_billing_at:time trial_end:time? balance:number balance_currency_code:str \
            has_used_trial:bool heroku:bool plan_amount:number available_slots:int"
        }
        "Whole profile" => {
            "id:str name:str? description:str? archived:bool? type:str speed:int? payloads:int? \
            vulnerabilities:[Definition] methods:str? can_scan_unverified:bool delay:int? max_run_time:int? \
            dedup_enabled:bool? auto_patterns_enabled:bool? max_urls:int? builtin:bool"
        }
        _ => return None,
    })
}

fn is_scalar(value: &Value, kind: &str) -> bool {
    let text = value.as_str();
    let is_url = |text: &str| url::Url::parse(text).is_ok_and(|url| url.has_host());
    match kind {
        "str" => text.is_some(),
        "bool" => value.is_boolean(),
        "int" => value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        "lower" => text.is_some_and(|text| text == text.to_lowercase()),
        "url" => text.is_some_and(is_url),
        "url-or-empty" => text.is_some_and(|text| text.is_empty() || is_url(text)),
        "fenced" => text.is_some_and(|text| text.starts_with("```") && text.ends_with("```")),
        "uuid" => text.is_some_and(|text| text.parse::<uuid::Uuid>().is_ok()),
        // 12 characters; old ones of the vendor's own are not Base58.
        "id" => text.is_some_and(|text| {
            text.len() == 12 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        }),
        // Six digits and a Z, as every one that was seen.
        "time" => text.is_some_and(|text| {
            text.len() == 27 && text.ends_with('Z') && text.parse::<chrono::DateTime<chrono::Utc>>().is_ok()
        }),
        "lists" => value.as_object().is_some_and(|lists| {
            lists.values().all(|one| one.as_array().is_some_and(|list| list.iter().all(Value::is_string)))
        }),
        other => panic!("{other} is no type"),
    }
}

/// Checks a value against a documented type: all of its fields, and no others.
#[track_caller]
fn hold_to(value: &Value, kind: &str, place: &str) {
    if let Some(kind) = kind.strip_suffix('?') {
        if !value.is_null() {
            hold_to(value, kind, place);
        }
        return;
    }
    if let Some(kind) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
        let list = value.as_array().unwrap_or_else(|| panic!("{place} is no list: {value}"));
        return list.iter().for_each(|one| hold_to(one, kind, &format!("{place}[]")));
    }
    let Some(documented) = fields_of(kind) else {
        return assert!(is_scalar(value, kind), "{place} is not {kind}: {value}");
    };
    let object = value.as_object().unwrap_or_else(|| panic!("{place} is no object: {value}"));
    let documented: Vec<(&str, &str)> =
        documented.split_whitespace().filter_map(|field| field.split_once(':')).collect();
    for name in object.keys() {
        assert!(documented.iter().any(|(known, _)| known == name), "{place} has {name}, which is not documented");
    }
    for (name, kind) in documented {
        let inner = object.get(name).unwrap_or_else(|| panic!("{place} lacks {name}"));
        hold_to(inner, kind, &format!("{place}.{name}"));
    }
}

/// Checks every object of a list.
async fn check_list(probely: &Probely<'_>, path: &str, kind: &str) {
    let page = probely.get(&format!("{path}?length=1000")).await;
    let results = page["results"].as_array().expect("a list");
    assert!(!results.is_empty(), "{path} is empty");
    results.iter().for_each(|one| hold_to(one, kind, path));
}

on_both_databases! {
    async fn every_object_has_the_documented_fields_and_no_others(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let red = probely.post("/labels/targets/", json!({"name": "red", "color": "#ff0000"})).await.expect(201);
        let team = probely.post("/teams/", json!({"name": "Blue"})).await.expect(201);
        let target = json!({
            "site": {
                "url": "https://a.example.com", "headers": [{"name": "X", "value": "1"}], "form_login": [{"name": "u", "value": "1"}],
                "api_scan_settings": {"media_type": "application/json"}, "basic_auth": {"username": "u"},
            },
            "scan_profile": "full", "labels": [red], "teams": [team], "login_video": "https://a.example.com/v", "blackout_period": {"begin": "10:00"},
        });
        let target = text(&probely.post("/targets/", target).await.expect(201)["id"]);
        let own = format!("/targets/{target}");
        probely.post(&format!("{own}/assets/"), json!({"host": "b.example.com", "cookies": [{"name": "a", "value": "b"}]})).await.expect(201);
        probely.post(&format!("{own}/sequences/"), json!({"name": "in", "content": "[]"})).await.expect(201);
        probely.post(&format!("{own}/scheduledscans/"), json!({"date_time": "2027-01-01T00:00:00Z", "blackout_period": {"cease": "11:00"}})).await.expect(201);
        probely.post("/webhooks/", json!({"url": "http://127.0.0.1:9/"})).await.expect(201);
        let user = probely.post("/users/", json!({"name": "Robin Doe", "email": "robin@example.com"})).await.expect(201);
        probely.delete(&format!("/users/{}/", text(&user["id"]))).await.expect(204);
        let scan = probely.scan_now(&target).await;
        step(&service, "1h").await;
        assert_eq!(probely.status_of(&scan).await, "started");
        hold_to(&probely.get(&format!("/scans/{scan}/")).await, "Scan", "a running scan");
        hold_to(&probely.get(&format!("{own}/")).await, "Target", "a target that is scanned");
        step(&service, "48h").await;
        let finding = probely.field("/findings/", "id").await[0].clone();
        let label = probely.post("/labels/findings/", json!({"name": "mine"})).await.expect(201);
        probely.patch(&format!("{own}/findings/{finding}/"), json!({"state": "fixed", "labels": [label], "assignee": probely.get("/profile/").await})).await.expect(200);
        probely.post(&format!("{own}/verify/"), json!({})).await.expect(200);
        probely.delete(&format!("/targets/{}/", probely.add_target("https://gone.example.com").await)).await.expect(204);
        for (path, kind) in [
            ("/targets/", "Target"), ("/scans/", "Scan"), ("/findings/", "Finding"), ("/users/", "User"), ("/webhooks/", "Webhook"),
            ("/labels/targets/", "Label"), ("/labels/findings/", "Label"), ("/teams/", "Team"), ("/targets/assets/", "Asset"),
            ("/targets/sequences/", "Sequence"), ("/scheduledscans/", "Schedule"), ("/roles/", "Role"),
        ] {
            check_list(&probely, path, kind).await;
        }
        hold_to(&probely.get("/profile/").await, "Profile of oneself", "/profile/");
        hold_to(&probely.get("/account/").await, "Account", "/account/");
        hold_to(&probely.get("/scan-profiles/full/").await, "Whole profile", "/scan-profiles/full/");
        check_list(&probely, "/scan-profiles/", "Whole profile").await;
        check_list(&probely, "/roles/", "Role").await;
        let events = probely.get("/events/?length=1000").await;
        let mut types = std::collections::BTreeSet::new();
        for event in events["results"].as_array().expect("a list") {
            let names: Vec<&String> = event.as_object().expect("an object").keys().collect();
            assert_eq!(names, ["id", "event_type", "occurred_at", "object_type", "content", "webhooks"]);
            let kind = match event["object_type"].as_str() {
                Some("user") => "User",
                Some("target") => "Target",
                Some("scan") => "Scan",
                Some("finding") => "Finding",
                other => panic!("{other:?}"),
            };
            hold_to(&event["content"], kind, &text(&event["event_type"]));
            hold_to(&event["webhooks"], "[Owed]", "webhooks");
            hold_to(&event["id"], "id", "id");
            hold_to(&event["occurred_at"], "time", "occurred_at");
            types.insert(text(&event["event_type"]));
        }
        assert_eq!(types.len(), 9, "{types:?}");
    }

    async fn what_is_shown_can_be_put_back(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = scanned(&probely, "https://a.example.com").await;
        probely.patch(&format!("/targets/{target}/"), json!({"site": {"api_scan_settings": {"api_login_enabled": true}}, "blackout_period": {"enabled": false}})).await.expect(200);
        let made = async |path: &str, body: Value| format!("{path}{}/", text(&probely.post(path, body).await.expect(201)["id"]));
        let finding = probely.field("/findings/", "id").await[0].clone();
        for path in [
            format!("/targets/{target}/"),
            format!("/targets/{target}/findings/{finding}/"),
            "/users/".to_owned() + &text(&probely.get("/profile/").await["id"]) + "/",
            made("/labels/targets/", json!({"name": "red"})).await,
            made("/teams/", json!({"name": "red"})).await,
            made(&format!("/targets/{target}/assets/"), json!({"host": "b.example.com"})).await,
            made(&format!("/targets/{target}/scheduledscans/"), json!({"date_time": "2027-01-01T00:00:00Z"})).await,
        ] {
            let shown = probely.get(&path).await;
            let mut put = probely.call("PUT", &path, Some(shown.clone())).await.expect(200);
            let mut shown = shown;
            for one in [&mut put, &mut shown] {
                let fields = one.as_object_mut().expect("an object");
                for name in ["changed", "changed_by", "site", "blackout_period", "target"] {
                    fields.remove(name);
                }
            }
            assert_eq!(put, shown, "{path}");
        }
    }

    async fn users_come_go_and_come_back(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        assert_eq!(probely.post("/users/", json!({"name": "R", "email": "r@x"})).await.expect(400), json!({"email": ["Enter a valid email address."]}));
        let made = probely.post("/users/", json!({"name": "Robin Doe", "email": "robin@example.com", "title": "dev"})).await.expect(201);
        let one = format!("/users/{}/", text(&made["id"]));
        probely.post("/users/", json!({"name": "R", "email": "robin@example.com"})).await.expect(400);
        assert_eq!(probely.patch(&one, json!({"title": "cto", "name": "Robin Roe"})).await.expect(200)["name"], "Robin Roe");
        probely.patch(&one, json!({"email": "owner@example.com"})).await.expect(400);
        assert_eq!(probely.delete(&one).await.text, "");
        assert_eq!(probely.get(&one).await["active"], false);
        assert_eq!((probely.count("/users/").await, probely.count("/users/?is_active=true").await), (2, 1));
        probely.delete(&one).await.expect(204);
        let again = probely.post("/users/", json!({"name": "Robin Doe", "email": "robin@example.com"})).await.expect(201);
        assert_eq!((&again["id"], &again["active"]), (&made["id"], &json!(true)));
        let me = probely.get("/profile/").await;
        assert!(probely.delete(&format!("/users/{}/", text(&me["id"]))).await.expect(400)["error"].is_string());
        let told = probely.field("/events/?ordering=x", "event_type").await;
        assert_eq!(told, ["user_created", "user_deleted", "user_created"]);
    }

    async fn labels_are_the_tags_of_all_vendors(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        service.post("/api/v1/targets", json!({"address": "shop.example.com", "tags": ["prod"]})).await.expect(201);
        let label = probely.get("/labels/").await["results"][0].clone();
        let target = probely.get("/targets/").await["results"][0].clone();
        assert_eq!((&label["name"], &target["labels"][0]["id"]), (&json!("prod"), &label["id"]));
        let one = format!("/labels/targets/{}/", text(&label["id"]));
        assert_eq!(probely.patch(&one, json!({"name": "live", "color": "green"})).await.expect(200)["id"], label["id"]);
        assert_eq!(probely.get("/targets/").await["results"][0]["labels"][0]["name"], "live");
        assert_eq!(service.get("/api/v1/targets").await.expect(200)["data"][0]["tags"], json!(["live"]));
        // The name is free again, and what has it then is another label.
        service.post("/api/v1/targets", json!({"address": "new.example.com", "tags": ["prod"]})).await.expect(201);
        let mut ids = probely.field("/labels/targets/", "id").await;
        assert_eq!(ids.len(), 2);
        ids.dedup();
        assert_eq!(ids.len(), 2, "every label has an id of its own");
        let new = probely.get("/targets/?search=new.example").await["results"][0]["labels"][0].clone();
        assert_eq!((&new["name"], ids.contains(&new["id"]), new["id"] == label["id"]), (&json!("prod"), true, false));
        assert_eq!(probely.count(&format!("/targets/?label={}", text(&new["id"]))).await, 1);
        probely.delete(&one).await.expect(204);
        assert_eq!(probely.get("/targets/?search=shop").await["results"][0]["labels"], json!([]));
        assert_eq!(probely.post("/labels/targets/", json!({"name": "x", "color": "#!"})).await.expect(400), json!({"color": ["Enter a valid value."]}));
        probely.call("GET", "/labels/planets/", None).await.expect(404);
        let eleven: Vec<Value> = (0..11).map(|n| json!({"name": format!("l{n}")})).collect();
        let id = text(&target["id"]);
        assert!(probely.patch(&format!("/targets/{id}/"), json!({"labels": eleven})).await.expect(400)["labels"].is_array());
        assert!(probely.post("/targets/", json!({"site": {"url": "https://b.test"}, "labels": eleven})).await.expect(400)["labels"].is_array());
        assert!(probely.post("/targets/", json!({"site": {"url": "https://b.test", "name": "a\nb"}})).await.expect(400)["site"]["name"].is_array());
    }

    async fn scheduled_scans_start_at_their_times(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = probely.add_target("https://a.example.com").await;
        probely.patch(&format!("/targets/{target}/"), json!({"scan_profile": "full"})).await.expect(200);
        let place = format!("/targets/{target}/scheduledscans/");
        assert_eq!(probely.post(&place, json!({})).await.expect(400), json!({"date_time": ["This field is required."]}));
        for (field, value) in [("date_time", json!("soon")), ("timezone", json!("Mars/Base")), ("recurrence", json!("y")), ("week_index", json!("fifth")), ("date_time", json!("9999-12-31T23:59:59-12:00"))] {
            let mut body = json!({"date_time": "2026-02-01T00:00:00Z"});
            body[field] = value;
            assert!(probely.post(&place, body).await.expect(400)[field].is_array(), "{field}");
        }
        let weekly = json!({"date_time": "2026-03-20T09:00:00Z", "recurrence": "w", "timezone": "Europe/Lisbon"});
        let made = probely.post(&place, weekly).await.expect(201);
        assert_eq!((&made["date_time"], &made["scan_profile"]), (&json!("2026-03-20T09:00:00.000000Z"), &json!("full")));
        let one = format!("{place}{}/", text(&made["id"]));
        assert_eq!(probely.get(&format!("/targets/{target}/")).await["next_scan"]["id"], made["id"]);
        // Clocks go forward in Lisbon on the 29th of March.
        for due in ["2026-03-27T09:00:00.000000Z", "2026-04-03T08:00:00.000000Z"] {
            let next: chrono::DateTime<chrono::Utc> = text(&probely.get(&one).await["date_time"]).parse().expect("a time");
            service.clock.advance((next - service.clock.now()).to_std().expect("in the future"));
            service.app.scanner.run_once().await.expect("the scanner goes on");
            assert_eq!(probely.get(&one).await["date_time"], due);
            assert_eq!(probely.get("/scans/?status=queued").await["results"][0]["scan_profile"], "full");
        }
        assert_eq!(probely.count("/scans/").await, 2);
        let monthly = probely.patch(&one, json!({"recurrence": "m", "run_on_day_of_week": true, "week_index": "last", "scheduled_day_of_week": 5})).await.expect(200);
        assert_eq!(monthly["week_index"], "last");
        let first = probely.patch(&one, json!({"week_index": "first"})).await.expect(200);
        assert_eq!((&first["week_index"], &first["scheduled_day_of_week"]), (&json!("first"), &json!(5)));
        probely.delete(&one).await.expect(204);
        probely.delete(&one).await.expect(404);
        let bulk = json!({"targets": [{"id": target}], "scheduledscan": {"date_time": "2027-01-01T00:00:00Z"}});
        let made = probely.post("/scheduledscans/bulk/", bulk).await.expect(201);
        let schedules = json!({"scheduledscans": [{"id": made[0]["id"]}], "scheduledscan": {"recurrence": "d"}});
        assert_eq!(probely.patch("/scheduledscans/bulk/", schedules.clone()).await.expect(200)[0]["recurrence"], "d");
        probely.call("DELETE", "/scheduledscans/bulk/", Some(schedules)).await.expect(204);
        assert_eq!(probely.count("/scheduledscans/").await, 0);
    }

    async fn extra_hosts_and_sequences_belong_to_their_target(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let (target, other) = (probely.add_target("https://a.example.com").await, probely.add_target("https://b.example.com").await);
        for (kind, body, field) in [("assets", json!({"host": "c.example.com"}), "host"), ("sequences", json!({"name": "in", "content": "[1]"}), "name")] {
            let place = format!("/targets/{target}/{kind}/");
            let made = probely.post(&format!("{place}?include=target&include=content"), body).await.expect(201);
            assert_eq!(made["target"]["id"], target);
            let id = text(&made["id"]);
            probely.call("GET", &format!("/targets/{other}/{kind}/{id}/"), None).await.expect(404);
            assert_eq!(probely.patch(&format!("{place}{id}/"), json!({field: "d"})).await.expect(200)[field], "d");
            assert_eq!((probely.count(&place).await, probely.count(&format!("/targets/{kind}/")).await, probely.count(&format!("/targets/{other}/{kind}/")).await), (1, 1, 0));
            probely.delete(&format!("{place}{id}/")).await.expect(204);
            probely.call("GET", &format!("{place}{id}/"), None).await.expect(404);
        }
        assert_eq!(probely.get("/scan-profiles/full/").await["id"], "full");
        probely.call("GET", "/scan-profiles/none/", None).await.expect(404);
        for path in ["/scanning-agents/", "/integrations/"] {
            assert_eq!(probely.count(path).await, 0);
        }
        probely.post("/cli/analytics/event/", json!({"x": 1})).await.expect(200);
    }

    async fn pages_are_as_documented(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let empty = probely.call("GET", "/scans/?length=30", None).await;
        assert_eq!(empty.text, r#"{"count":0,"page_total":1,"page":1,"length":30,"results":[]}"#);
        assert_eq!(empty.headers["content-type"], "application/json");
        for n in 0..11 {
            probely.post("/webhooks/", json!({"url": format!("https://a.test/{n}")})).await.expect(201);
        }
        let second = probely.get("/webhooks/?page=2").await;
        assert_eq!((&second["count"], &second["page_total"], &second["page"], &second["length"]), (&json!(11), &json!(2), &json!(2), &json!(10)));
        assert_eq!(second["results"].as_array().map(Vec::len), Some(1));
        assert_eq!(probely.get("/webhooks/?length=10000").await["length"], 10_000);
        for page in ["0", "3", "-1", "x", "99999999999999999999", "4294967295"] {
            let answer = probely.call("GET", &format!("/webhooks/?page={page}"), None).await;
            assert_eq!(answer.expect(404), json!({"detail": "Invalid page."}), "{page}");
        }
    }
}
