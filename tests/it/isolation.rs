//! Accounts that do not see one another: made, deleted, reset, and put back as they were.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use scanhook::Scanhook;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::support::{Answer, Database, Receiver, Reply, Service, humantime, on_both_databases, start_time, text};

/// Runs SQL of the test's own.
async fn execute(database: &Database, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    if database.is_postgres() {
        let mut connection = PgConnection::connect(&database.url).await.expect("the database opens");
        connection.execute(sql).await.expect("runs");
    } else {
        let mut connection = SqliteConnection::connect(&database.url).await.expect("the database opens");
        connection.execute(sql).await.expect("runs");
    }
}

/// What SQL of the test's own answers, in one column of text.
async fn texts(database: &Database, sql: &str) -> Vec<String> {
    let sql = AssertSqlSafe(sql.to_owned());
    if database.is_postgres() {
        let mut connection = PgConnection::connect(&database.url).await.expect("the database opens");
        sqlx::query_scalar(sql).fetch_all(&mut connection).await.expect("answers")
    } else {
        let mut connection = SqliteConnection::connect(&database.url).await.expect("the database opens");
        sqlx::query_scalar(sql).fetch_all(&mut connection).await.expect("answers")
    }
}

/// Every table whose rows are of accounts, by the database's own catalogue.
async fn tables(database: &Database) -> Vec<String> {
    let sql = if database.is_postgres() {
        "select table_name::text from information_schema.columns
         where table_schema = current_schema() and column_name = 'account_id' order by 1"
    } else {
        "select sqlite_master.name from sqlite_master join pragma_table_info(sqlite_master.name) as held
         where sqlite_master.type = 'table' and held.name = 'account_id' order by 1"
    };
    texts(database, sql).await
}

/// How many rows each table has of an account.
async fn counts(database: &Database, account_id: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for table in tables(database).await {
        let count = format!("select cast(count(*) as text) from {table} where account_id = '{account_id}'");
        let count = texts(database, &count).await.remove(0).parse().expect("a number");
        counts.insert(table, count);
    }
    counts
}

/// The tables that have rows of an account.
async fn filled(database: &Database, account_id: &str) -> Vec<String> {
    let counts = counts(database, account_id).await;
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(table, _)| table).collect()
}

/// Every row of an account but its snapshots, each to the last byte; and apart the world's version.
async fn rows(database: &Database, account_id: &str) -> (BTreeMap<String, Vec<String>>, i64) {
    let mut all = BTreeMap::new();
    for table in tables(database).await.into_iter().filter(|table| table != "snapshot") {
        let row = match (database.is_postgres(), table.as_str()) {
            (_, "world") => "head".to_owned(),
            (true, _) => "held::text".to_owned(),
            (false, _) => {
                let columns = texts(database, &format!("select name from pragma_table_info('{table}')")).await;
                columns.iter().map(|column| format!("quote(\"{column}\")")).collect::<Vec<_>>().join(" || ',' || ")
            }
        };
        let mut rows =
            texts(database, &format!("select {row} from {table} as held where account_id = '{account_id}'")).await;
        rows.sort();
        all.insert(table, rows);
    }
    let version = format!("select cast(version as text) from world where account_id = '{account_id}'");
    let version = texts(database, &version).await.pop().map_or(0, |version| version.parse().expect("a number"));
    (all, version)
}

/// An account made for a test: its id and its key.
async fn make_account(service: &Service, name: &str) -> (String, String) {
    let created = service.post("/api/v1/accounts", json!({"name": name})).await.expect(201);
    (text(&created["id"]), text(&created["api_key"]))
}

/// A request with an account's key.
async fn ask(service: &Service, key: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let request = service.request(method, path).bearer_auth(key);
    service
        .send(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
}

fn event(event_type: &str) -> Value {
    json!({"vendor": "standard", "event_type": event_type, "content": {"n": 1}})
}

async fn snapshot(service: &Service) -> String {
    text(&service.post("/api/v1/snapshots", json!({})).await.expect(201)["id"])
}

async fn restore(service: &Service, id: &str) -> Value {
    service.request_restore(id).await.expect(200)
}

impl Service {
    async fn request_restore(&self, id: &str) -> Answer {
        self.send(self.request("POST", &format!("/api/v1/snapshots/{id}/restore"))).await
    }

    async fn add_target(&self, address: &str) -> String {
        let target = json!({"address": address, "weaknesses": ["nmap-open-tcp-port-22"]});
        text(&self.post("/api/v1/targets", target).await.expect(201)["id"])
    }

    /// Whether the world as it is kept in memory has a target.
    async fn knows(&self, address: &str) -> bool {
        self.get(&format!("/api/v1/scans?target={address}")).await.status == 200
    }

    /// The addresses of the account's targets.
    async fn targets(&self) -> Vec<String> {
        let list = self.get("/api/v1/targets").await.expect(200);
        let mut addresses: Vec<String> =
            list["data"].as_array().expect("a list").iter().map(|target| text(&target["address"])).collect();
        addresses.sort();
        addresses
    }
}

/// Gives the account that the service acts in rows in every table.
async fn fill(service: &Service, receiver: &Receiver) {
    service.subscribe(&receiver.url).await;
    service.publish("a.b").await;
    service.dispatch().await;
    service.add_target("shop.example.test").await;
    let scan = json!({"target": "shop.example.test", "scanner": "NMAP", "duration": "40m"});
    service.post("/api/v1/scans", scan).await.expect(201);
    snapshot(service).await;
}

on_both_databases! {
    async fn deleting_an_account_removes_its_rows_from_every_table(database) {
        let mut service = Service::start(database).await;
        let receiver = Receiver::answering([500]).await;
        let (id, key) = make_account(&service, "short-lived").await;
        let (other_id, other_key) = make_account(&service, "stays").await;
        for key in [&key, &other_key] {
            service.with_key(Some(key));
            fill(&service, &receiver).await;
        }
        // Whoever adds a table has `fill` fill it, and `store/reset.rs` list it.
        let (all, of_other) = (tables(database).await, counts(database, &other_id).await);
        assert_eq!(filled(database, &id).await, all);
        service.with_key(None);
        service.delete(&format!("/api/v1/accounts/{id}")).await.expect(204);
        assert_eq!(filled(database, &id).await, [""; 0]);
        assert_eq!(counts(database, &other_id).await, of_other);
        let names = texts(database, "select name from account order by name").await;
        assert_eq!(names, ["default", "stays"]);
        service.get(&format!("/api/v1/accounts/{id}")).await.assert_problem(405, "method-not-allowed", "");
        service.delete(&format!("/api/v1/accounts/{id}")).await.assert_problem(404, "not-found", &id);
        let refused = ask(&service, &key, "GET", "/api/v1/events", None).await;
        refused.assert_problem(401, "unauthorized", "no account has this API key");
        service.with_key(Some(&other_key));
        service.live().await;
        let events = service.events().await;
        assert!(events.iter().any(|event| event["event_type"] == "scan.succeeded"), "{events:?}");
    }

    async fn an_account_is_deleted_by_its_own_key_or_the_default_accounts(database) {
        let service = Service::start(database).await;
        let (id, key) = make_account(&service, "one").await;
        let (other_id, _) = make_account(&service, "two").await;
        let default = "/api/v1/accounts/1111111111111111111111";
        service.delete(default).await.assert_problem(409, "default-account", "POST /api/v1/reset");
        for foreign in [default, &format!("/api/v1/accounts/{other_id}")] {
            let refused = ask(&service, &key, "DELETE", foreign, None).await;
            refused.assert_problem(403, "forbidden", "only the default account deletes another");
        }
        service.delete("/api/v1/accounts/nonsense").await.assert_problem(404, "not-found", "nonsense");
        ask(&service, &key, "DELETE", &format!("/api/v1/accounts/{id}"), None).await.expect(204);
        ask(&service, &key, "GET", "/api/v1/account", None).await.assert_problem(401, "unauthorized", "");
    }

    async fn accounts_are_listed_and_shown(database) {
        let service = Service::start(database).await;
        let (id, key) = make_account(&service, "one").await;
        make_account(&service, "two").await;
        let first = service.get("/api/v1/accounts?limit=2").await.expect(200);
        let cursor = text(&first["next_cursor"]);
        let rest = service.get(&format!("/api/v1/accounts?limit=2&cursor={cursor}")).await.expect(200);
        let names = |page: &Value| page["data"].as_array().expect("a list").iter().map(|one| text(&one["name"])).collect::<Vec<_>>();
        assert_eq!((names(&first), names(&rest)), (vec!["default".to_owned(), "one".to_owned()], vec!["two".to_owned()]));
        assert_eq!(rest["next_cursor"], Value::Null);
        service.get("/api/v1/accounts?limit=0").await.assert_problem(400, "invalid-parameter", "limit is 0");
        service.get("/api/v1/accounts?cursor=x").await.assert_problem(400, "invalid-cursor", "");
        let refused = ask(&service, &key, "GET", "/api/v1/accounts", None).await;
        refused.assert_problem(403, "forbidden", "GET /api/v1/account");
        let subscriber = json!({"url": "http://127.0.0.1:9/", "vendor": "standard"});
        let kept = ask(&service, &key, "POST", "/api/v1/subscribers", Some(subscriber.clone())).await.expect(201);
        let gone = ask(&service, &key, "POST", "/api/v1/subscribers", Some(subscriber)).await.expect(201);
        ask(&service, &key, "POST", "/api/v1/events", Some(event("a.b"))).await.expect(202);
        ask(&service, &key, "DELETE", &format!("/api/v1/subscribers/{}", text(&gone["id"])), None).await.expect(204);
        assert!(kept["id"].is_string());
        let own = ask(&service, &key, "GET", "/api/v1/account", None).await.expect(200);
        let expected = json!({
            "id": id, "name": "one", "created_at": "2026-01-01T00:00:00.000000Z",
            "counts": {"subscribers": 1, "events": 1, "deliveries": 2},
        });
        assert_eq!(own, expected);
    }

    async fn what_is_in_flight_of_a_deleted_account_ends_without_a_trace(database) {
        let mut service = Service::start(database).await;
        let (slow, other) = (Receiver::answering_once_open(500).await, Receiver::answering([200]).await);
        service.subscribe(&other.url).await;
        let (id, key) = make_account(&service, "short-lived").await;
        service.with_key(Some(&key));
        service.subscribe(&slow.url).await;
        service.publish("a.b").await;
        let delete = async {
            slow.wait_for(1).await;
            service.delete(&format!("/api/v1/accounts/{id}")).await.expect(204);
            slow.gate().open();
        };
        let (attempts, ()) = tokio::join!(service.dispatch(), delete);
        assert_eq!(attempts, 1);
        assert_eq!(filled(database, &id).await, [""; 0]);
        service.with_key(None);
        let event = service.publish("a.b").await;
        assert_eq!(service.dispatch().await, 1);
        assert_eq!((service.only_delivery(&event).await["status"].clone(), slow.count()), (json!("succeeded"), 1));
    }

    async fn a_reset_leaves_the_account_as_it_was_made(database) {
        let mut service = Service::start(database).await;
        let receiver = Receiver::answering([500]).await;
        let (id, key) = make_account(&service, "reset").await;
        service.with_key(Some(&key));
        fill(&service, &receiver).await;
        let (before, version) = rows(database, &id).await;
        let reset = service.post("/api/v1/reset", json!({})).await.expect(200);
        assert_eq!(reset["counts"], json!({"subscribers": 0, "events": 0, "deliveries": 0}));
        assert_eq!(filled(database, &id).await, ["snapshot", "world"]);
        let (after, new_version) = rows(database, &id).await;
        assert_eq!(new_version, version + 1);
        // The world's seed stays: the same is told again.
        let seed = |head: &str| serde_json::from_str::<Value>(head).expect("JSON")["seed"].clone();
        assert_eq!(seed(&after["world"][0]), seed(&before["world"][0]));
        assert_eq!(serde_json::from_str::<Value>(&after["world"][0]).expect("JSON")["numbers"], json!({}));
        for path in ["events", "deliveries", "subscribers", "targets", "scans", "schedules", "scenarios/runs"] {
            let list = service.get(&format!("/api/v1/{path}")).await.expect(200);
            assert_eq!(list["data"], json!([]), "{path}");
        }
        service.live().await;
        assert_eq!((service.events().await.len(), receiver.count()), (0, 1));
        fill(&service, &receiver).await;
        service.post("/api/v1/reset", json!({"keep": ["events"]})).await.assert_problem(422, "invalid-field", "keep.0");
        service.post("/api/v1/reset", json!({"all": true})).await.assert_problem(422, "invalid-field", "all");
    }

    async fn a_reset_can_keep_the_subscribers(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        let (kept, _) = service.subscribe(&receiver.url).await;
        let (deleted, _) = service.subscribe(&receiver.url).await;
        service.delete(&format!("/api/v1/subscribers/{deleted}")).await.expect(204);
        service.publish("a.b").await;
        // The event is in hand, and has not been sent yet.
        let reset = service.post("/api/v1/reset", json!({"keep": ["subscribers"]})).await.expect(200);
        assert_eq!(reset["counts"], json!({"subscribers": 1, "events": 0, "deliveries": 0}));
        assert_eq!(counts(database, "1111111111111111111111").await["subscriber"], 1);
        assert_eq!((service.dispatch().await, receiver.count()), (0, 0));
        let event = service.publish("a.b").await;
        assert_eq!(service.dispatch().await, 1);
        assert_eq!(service.only_delivery(&event).await["subscriber_id"], kept);
    }

    async fn a_reset_of_the_default_account_keeps_the_schedules_of_the_settings(database) {
        let mut config = crate::support::test_config(database);
        let schedule = json!({"cron": "0 0 3 * * *", "target": "shop.example.test", "scanner": "NMAP"});
        config.scanner.schedule = vec![serde_json::from_value(schedule).expect("a schedule")];
        let service = Service::start_with(config).await;
        assert_eq!(service.targets().await, ["shop.example.test"]);
        service.add_target("other.example.test").await;
        service.post("/api/v1/reset", json!({})).await.expect(200);
        assert_eq!(service.targets().await, ["shop.example.test"]);
        let schedules = service.get("/api/v1/schedules").await.expect(200);
        assert_eq!(schedules["data"].as_array().map(Vec::len), Some(1));
    }

    async fn a_restored_account_is_as_it_was_to_the_last_byte(database) {
        let mut service = Service::start(database).await;
        let (id, key) = make_account(&service, "odd").await;
        service.with_key(Some(&key));
        let all_bytes = Reply { body: (0..=255).collect(), headers: vec![("x-odd", "\"'\\".to_owned())], ..500.into() };
        let odd = Receiver::answering([all_bytes, 500.into(), 204.into()]).await;
        for url in [&*odd.url, "http://127.0.0.1:1/"] {
            let subscriber = json!({
                "url": url, "vendor": "standard", "headers": {"X-Odd": "a \"quoted\" \\ 'b'"},
                "retry_schedule": ["5s", "5m"], "timeout": "3s", "event_types": ["a.*", "scan.*"],
            });
            service.subscribe_as(subscriber).await;
        }
        let odd_content = r#"{"n":  1e999, "price": 0.10, "s": "\u0000 \ud800 \\u0041 é😀 '' \" \n", "long": 12345678901234567890123, "none": null , "deep": [[[[]]]]}"#;
        let body = format!(r#"{{"vendor": "standard", "event_type": "a.b", "occurred_at": "1999-12-31T23:59:59.999999Z", "content": {odd_content}}}"#);
        let request = service.request("POST", "/api/v1/events").header("content-type", "application/json");
        let published = service.send(request.header("idempotency-key", "it's \"me\"").body(body.clone())).await;
        assert_eq!(published.status, 202, "{}", published.text);
        service.dispatch().await;
        service.advance("5s");
        service.dispatch().await;
        service.add_target("shop.example.test").await;
        let scan = json!({"target": "shop.example.test", "scanner": "NMAP", "duration": "40m"});
        service.post("/api/v1/scans", scan).await.expect(201);
        let (before, version) = rows(database, &id).await;
        let taken = service.post("/api/v1/snapshots", json!({"name": "odd é😀"})).await.expect(201);
        assert_eq!(taken["name"], "odd é😀");
        let own = service.get("/api/v1/account").await.expect(200);
        assert_eq!(taken["counts"], own["counts"]);
        for round in 0..2 {
            service.live().await;
            service.add_target("other.example.test").await;
            service.publish("a.b").await;
            if round == 1 {
                service.post("/api/v1/reset", json!({})).await.expect(200);
            }
            let (changed, changed_version) = rows(database, &id).await;
            assert_ne!(changed, before);
            let restored = restore(&service, &text(&taken["id"])).await;
            assert_eq!(restored, own);
            let (after, new_version) = rows(database, &id).await;
            for (table, held) in &before {
                assert_eq!(&after[table], held, "{table}");
            }
            assert!(version < changed_version && changed_version < new_version);
            assert_eq!(service.targets().await, ["shop.example.test"]);
        }
        // Not every JSON number is one of `serde_json`'s.
        let id_of = |answer: &Answer| answer.text.split('"').nth(3).expect("an id").to_owned();
        let again = service.get(&format!("/api/v1/events/{}", id_of(&published))).await;
        assert!(again.text.contains(odd_content), "{}", again.text);
        let request = service.request("POST", "/api/v1/events").header("content-type", "application/json");
        let repeat = service.send(request.header("idempotency-key", "it's \"me\"").body(body)).await;
        assert_eq!((repeat.status, id_of(&repeat)), (202, id_of(&published)), "{}", repeat.text);
        let sent = odd.count();
        service.live().await;
        assert!(odd.count() > sent, "what was due in the snapshot is due again");
        let events = service.get("/api/v1/events").await;
        assert!(events.text.contains("scan.succeeded"), "the scan went on: {}", events.text);
    }

    async fn what_was_leased_in_a_snapshot_is_due_after_its_restore(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        let (subscriber, _) = service.subscribe(&receiver.url).await;
        let event = service.publish("a.b").await;
        let (leased, path) = (snapshot(&service).await, format!("/api/v1/subscribers/{subscriber}"));
        service.patch(&path, json!({"enabled": false})).await.expect(200);
        let leased_and_disabled = snapshot(&service).await;
        service.patch(&path, json!({"enabled": true})).await.expect(200);
        // The delivery is in hand, but what is in hand is of the account as it was before.
        restore(&service, &leased).await;
        assert_eq!((service.dispatch().await, receiver.count()), (1, 1));
        assert_eq!(service.only_delivery(&event).await["status"], "succeeded");
        restore(&service, &leased).await;
        assert_eq!(service.only_delivery(&event).await["status"], "scheduled");
        assert_eq!((service.dispatch().await, receiver.count()), (1, 2));
        restore(&service, &leased_and_disabled).await;
        assert_eq!((service.dispatch().await, receiver.count()), (0, 2));
        service.patch(&path, json!({"enabled": true})).await.expect(200);
        assert_eq!((service.dispatch().await, receiver.count()), (1, 3));
    }

    async fn a_world_in_memory_is_not_taken_for_the_one_put_in_its_place(database) {
        let (first, second) = (Service::start(database).await, Service::start(database).await);
        let empty = snapshot(&first).await;
        first.add_target("a.example.test").await;
        let one = snapshot(&first).await;
        first.add_target("b.example.test").await;
        assert!(second.knows("b.example.test").await);
        restore(&first, &one).await;
        // The second process has kept the world with both targets.
        assert!(second.knows("a.example.test").await && !second.knows("b.example.test").await);
        second.add_target("c.example.test").await;
        assert_eq!(first.targets().await, ["a.example.test", "c.example.test"]);
        assert!(first.knows("c.example.test").await);
        second.post("/api/v1/reset", json!({})).await.expect(200);
        assert!(!first.knows("a.example.test").await);
        first.add_target("d.example.test").await;
        assert_eq!(second.targets().await, ["d.example.test"]);
        restore(&second, &one).await;
        assert!(first.knows("a.example.test").await);
        restore(&second, &empty).await;
        assert!(!first.knows("a.example.test").await);
        assert_eq!(first.targets().await, [""; 0]);
    }

    async fn a_restore_puts_the_clock_back_and_the_same_fires_again(database) {
        let builder = Scanhook::builder().database(&database.url).manual_clock(start_time()).seed(1);
        let scanhook = builder.setting("publish.validation", "off").start().await.expect("it starts");
        let call = async |method: &str, path: &str, body: Value| scanhook.call(method, path, Some(&body)).await.expect(path);
        let receiver = Receiver::answering([503]).await;
        call("POST", "/api/v1/subscribers", json!({"url": receiver.url, "vendor": "standard"})).await;
        let published = call("POST", "/api/v1/events", event("a.b")).await;
        scanhook.advance(humantime("1h")).await.expect("the clock moves");
        let clock = scanhook.call("GET", "/api/v1/clock", None).await.expect("a clock");
        let taken = call("POST", "/api/v1/snapshots", json!({})).await;
        let put_back = format!("/api/v1/snapshots/{}/restore", text(&taken["id"]));
        let mut told = Vec::new();
        for round in 0..2 {
            scanhook.run_until_idle(humantime("10d")).await.expect("the clock moves");
            let delivery = format!("/api/v1/events/{}", text(&published["id"]));
            let shown = scanhook.call("GET", &delivery, None).await.expect("an event");
            let delivery = format!("/api/v1/deliveries/{}", text(&shown["webhooks"][0]["id"]));
            let shown = scanhook.call("GET", &delivery, None).await.expect("a delivery");
            let times: Vec<String> = shown["attempts"].as_array().expect("a list").iter().map(|one| text(&one["started_at"])).collect();
            told.push((shown["status"].clone(), times));
            if round == 1 {
                // Also where the account has gone by the machine's clock since.
                call("PUT", "/api/v1/clock", json!({"mode": "real"})).await;
            }
            call("POST", &put_back, json!({})).await;
            assert_eq!(scanhook.call("GET", "/api/v1/clock", None).await.expect("a clock"), clock);
        }
        assert_eq!(told[0], told[1]);
        assert!(told[0].0 == "failed" && told[0].1.len() > 5, "{told:?}");
        call("POST", "/api/v1/reset", json!({})).await;
        assert_eq!(scanhook.call("GET", "/api/v1/clock", None).await.expect("a clock"), clock, "a reset leaves the clock");
        scanhook.stop().await.expect("it stops");
    }

    async fn snapshots_belong_to_their_account(database) {
        let mut service = Service::start(database).await;
        let (id, key) = make_account(&service, "one").await;
        service.with_key(Some(&key));
        service.publish("a.b").await;
        let own = snapshot(&service).await;
        service.advance("1s");
        let second = snapshot(&service).await;
        let page = service.get("/api/v1/snapshots?limit=1").await.expect(200);
        assert_eq!((&page["data"][0]["id"], &page["data"][0]["name"]), (&json!(own), &Value::Null));
        assert_eq!(page["data"][0]["counts"], json!({"subscribers": 0, "events": 1, "deliveries": 0}));
        let rest = service.get(&format!("/api/v1/snapshots?cursor={}", text(&page["next_cursor"]))).await.expect(200);
        assert_eq!((&rest["data"][0]["id"], &rest["next_cursor"]), (&json!(second), &Value::Null));
        service.with_key(None);
        service.request_restore(&own).await.assert_problem(404, "not-found", "no such snapshot in this account");
        service.delete(&format!("/api/v1/snapshots/{own}")).await.assert_problem(404, "not-found", "no such snapshot");
        assert_eq!(service.get("/api/v1/snapshots").await.expect(200)["data"], json!([]));
        service.with_key(Some(&key));
        service.delete(&format!("/api/v1/snapshots/{second}")).await.expect(204);
        service.request_restore(&second).await.assert_problem(404, "not-found", "no such snapshot");
        restore(&service, &own).await;
        assert_eq!(counts(database, &id).await["snapshot"], 1);
        let too_long = json!({"name": "n".repeat(201)});
        service.post("/api/v1/snapshots", too_long).await.assert_problem(422, "invalid-field", "at most 200");
        service.post("/api/v1/snapshots", json!({"name": "a\nb"})).await.assert_problem(422, "invalid-field", "control");
        service.request_restore("nonsense").await.assert_problem(404, "not-found", "nonsense");
    }

    async fn an_account_that_holds_too_much_is_not_taken(database) {
        let service = Service::start(database).await;
        let event = service.publish("a.b").await;
        let id = text(&event["id"]);
        let large = if database.is_postgres() { "repeat('a', 140000000)" } else { "hex(zeroblob(70000000))" };
        execute(database, &format!("update event set content = {large} where id = '{id}'")).await;
        let refused = service.post("/api/v1/snapshots", json!({})).await;
        refused.assert_problem(409, "account-too-large", "140000000 bytes");
        execute(database, &format!("update event set content = '{{}}' where id = '{id}'")).await;
        let numbers = if database.is_postgres() {
            "select generate_series(1, 100000) as n"
        } else {
            "with recursive series (n) as (select 1 union all select n + 1 from series where n < 100000) select n from series"
        };
        let many = format!(
            "insert into event (id, account_id, vendor, vendor_event_id, occurred_at, event_type, object_type, content, created_at)
             select 'e' || n, account_id, vendor, 'e' || n, occurred_at, event_type, object_type, content, created_at
             from event cross join ({numbers}) as numbers where id = '{id}'"
        );
        execute(database, &many).await;
        let refused = service.post("/api/v1/snapshots", json!({})).await;
        refused.assert_problem(409, "account-too-large", "100001 rows");
        // One less is taken.
        execute(database, "delete from event where id = 'e1'").await;
        let taken = snapshot(&service).await;
        service.post("/api/v1/reset", json!({})).await.expect(200);
        assert_eq!(restore(&service, &taken).await["counts"]["events"], 100_000);
    }

    async fn a_snapshot_keeps_the_columns_of_later_migrations(database) {
        let mut service = Service::start(database).await;
        let (id, key) = make_account(&service, "one").await;
        service.with_key(Some(&key));
        service.publish("a.b").await;
        let old = snapshot(&service).await;
        execute(database, "alter table event add column later bigint not null default 7").await;
        execute(database, "alter table account add column later text").await;
        execute(database, "update event set later = 8").await;
        execute(database, &format!("update account set later = 'it''s' where id = '{id}'")).await;
        let new = snapshot(&service).await;
        execute(database, "update event set later = 9").await;
        execute(database, "update account set later = 'changed'").await;
        restore(&service, &new).await;
        let later = "select cast(event.later as text) || account.later || account.name from event join account on account.id = account_id";
        assert_eq!(texts(database, later).await, ["8it'sone"]);
        restore(&service, &old).await;
        assert_eq!(texts(database, later).await, ["7it'sone"]);
    }

    async fn what_is_published_while_its_account_is_deleted_leaves_no_rows(database) {
        let (first, second) = (Service::start(database).await, Service::start(database).await);
        let receiver = Receiver::answering([200]).await;
        let mut ids = Vec::new();
        for round in 0..8 {
            let (id, key) = make_account(&first, "short-lived").await;
            let subscriber = json!({"url": receiver.url, "vendor": "standard"});
            ask(&first, &key, "POST", "/api/v1/subscribers", Some(subscriber.clone())).await.expect(201);
            let target = json!({"address": "shop.example.test", "weaknesses": []});
            let scan = json!({"target": "shop.example.test", "scanner": "NMAP"});
            let writes = (0..12).map(|n| match n % 4 {
                0 => ("/api/v1/targets", target.clone()),
                1 => ("/api/v1/scans", scan.clone()),
                2 => ("/api/v1/subscribers", subscriber.clone()),
                _ => ("/api/v1/events", event("a.b")),
            });
            let writes = writes.map(|(path, body)| ask(&first, &key, "POST", path, Some(body)));
            let delete = async {
                for _ in 0..round {
                    tokio::task::yield_now().await;
                }
                second.delete(&format!("/api/v1/accounts/{id}")).await.expect(204);
            };
            let (answers, ()) = tokio::join!(join_all(writes), delete);
            for answer in answers {
                // A scan of a target that is not there yet is refused with 422, a second such target with 409.
                assert!(matches!(answer.status, 201 | 202 | 401 | 409 | 422), "{}", answer.text);
            }
            ids.push(id);
        }
        first.dispatch().await;
        second.live().await;
        for id in ids {
            assert_eq!(filled(database, &id).await, [""; 0]);
        }
        first.subscribe(&receiver.url).await;
        let event = first.publish("a.b").await;
        first.dispatch().await;
        assert_eq!(first.only_delivery(&event).await["status"], "succeeded");
    }

    async fn two_hundred_accounts_at_once_do_not_see_one_another(database) {
        let service = &Service::start(database).await;
        let receiver = &Receiver::answering([200]).await;
        let base = receiver.url.trim_end_matches("/hook");
        let publish = |n: usize| async move {
            let (id, key) = make_account(service, "same").await;
            let subscriber = json!({"url": format!("{base}/{id}"), "vendor": "standard"});
            ask(service, &key, "POST", "/api/v1/subscribers", Some(subscriber)).await.expect(201);
            let request = service.request("POST", "/api/v1/events").bearer_auth(&key);
            let published = service.send(request.header("idempotency-key", "same").json(&event("a.b"))).await.expect(202);
            (n, id, key, text(&published["vendor_event_id"]))
        };
        let made = join_all((0..200).map(publish)).await;
        assert_eq!((service.dispatch().await, receiver.count()), (200, 200));
        let got: BTreeMap<String, String> = receiver
            .got()
            .iter()
            .map(|got| (got.path.trim_start_matches('/').to_owned(), got.headers["webhook-id"].to_str().expect("text").to_owned()))
            .collect();
        let own: BTreeMap<String, String> = made.iter().map(|(_, id, _, event)| (id.clone(), event.clone())).collect();
        assert_eq!((got.len(), &got), (200, &own));
        let lists = made.iter().map(|(_, id, key, event)| async move {
            let events = ask(service, key, "GET", "/api/v1/events", None).await.expect(200);
            assert_eq!((events["data"].as_array().map(Vec::len), text(&events["data"][0]["vendor_event_id"])), (Some(1), event.clone()));
            let account = ask(service, key, "GET", "/api/v1/account", None).await.expect(200);
            assert_eq!(account["counts"], json!({"subscribers": 1, "events": 1, "deliveries": 1}));
            assert_eq!(account["id"], *id);
        });
        join_all(lists).await;
        // Half of them go; the others stay as they are.
        let delete = |(_, id, key, _): &(usize, String, String, String)| {
            let (path, key) = (format!("/api/v1/accounts/{id}"), key.clone());
            async move { ask(service, &key, "DELETE", &path, None).await.expect(204) }
        };
        join_all(made[..100].iter().map(delete)).await;
        let held = texts(database, "select account_id from delivery order by 1").await;
        let mut left: Vec<String> = made[100..].iter().map(|(_, id, ..)| id.clone()).collect();
        left.sort();
        assert_eq!(held, left);
    }
}
