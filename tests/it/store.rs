//! The store's own promises: leases, one transaction, migrations, on both databases.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use scanhook::account::Account;
use scanhook::delivery::{Attempt, Claimed, Next, Outcome, Response, Status};
use scanhook::event::{Event, Vendor};
use scanhook::id::{AccountId, DeliveryId, EventId, SubscriberId};
use scanhook::random::Chance;
use scanhook::store::{Effect, Inserted, NewDelivery, OpenError, Publication, Record, Store, Tenants};
use scanhook::subscriber::{Options, Secret, SignatureTime, Subscriber};
use sqlx::{Connection, Executor};

use crate::support::{Database, on_both_databases, start_time, test_config};

const LEASE: Duration = Duration::from_secs(30);

async fn open(database: &Database) -> Store {
    Store::open(&test_config(database).database).await.expect("the store opens")
}

fn subscriber(n: u64) -> Subscriber {
    Subscriber {
        id: SubscriberId::generate(start_time(), n, &mut Chance::from_seed(n).stream("subscriber", n)),
        account_id: AccountId::DEFAULT,
        vendor: Vendor::Standard,
        url: "http://127.0.0.1:9/".parse().expect("a URL"),
        event_types: vec!["*".to_owned()],
        secret: Some(Secret::new("secret")),
        previous_secret: None,
        retry_schedule: None,
        timeout: None,
        headers: [("X-A".to_owned(), "1".to_owned())].into(),
        options: Options { target_id: Some("t".to_owned()), ..Options::default() },
        vendor_id: Some("v".to_owned()),
        signature_time: SignatureTime::Real,
        enabled: true,
        disabled_reason: None,
        failing_since: None,
        created_at: start_time(),
        changed_at: start_time(),
        deleted_at: None,
    }
}

fn publication(n: u64, to: &Subscriber, key: Option<&str>, lease: Option<(i64, DateTime<Utc>)>) -> Publication {
    let chance = Chance::from_seed(n);
    let event = Event {
        id: EventId::generate(start_time(), n, &mut chance.stream("event", n)),
        account_id: AccountId::DEFAULT,
        vendor: Vendor::Standard,
        vendor_event_id: format!("msg_{n}"),
        occurred_at: start_time(),
        event_type: "a.b".to_owned(),
        object_type: "a".to_owned(),
        content: format!("{{ \"n\":  {n} }}"),
        idempotency_key: key.map(str::to_owned),
        created_at: start_time(),
        at_publish: None,
    };
    let id = DeliveryId::generate(start_time(), n, &mut chance.stream("delivery", n));
    let delivery = NewDelivery {
        id,
        subscriber_id: to.id,
        next_try: start_time(),
        options: Options::default(),
        lease,
        is_manual: false,
    };
    Publication { event: Arc::new(event), deliveries: vec![delivery] }
}

fn record(claimed: &Claimed, next: Next) -> Record {
    Record {
        account_id: AccountId::DEFAULT,
        delivery_id: claimed.id,
        subscriber_id: claimed.subscriber_id,
        lease: claimed.lease,
        attempt: Attempt {
            number: claimed.attempt,
            url: "http://127.0.0.1:9/".to_owned(),
            started_at: start_time(),
            finished_at: start_time(),
            duration: Duration::from_millis(3),
            request_headers: vec![("Host".to_owned(), "127.0.0.1:9".to_owned())],
            outcome: Outcome::Accepted { status: 200 },
            response: Some(Response { status: 200, headers: vec![], body: vec![0, 159, 146, 150] }),
            reason: None,
        },
        next,
        effect: None,
    }
}

async fn insert(store: &Store, publications: impl Into<Vec<Publication>>) -> Vec<Inserted> {
    let publications: Vec<Publication> = publications.into();
    let (stored, ()) =
        store.insert_events([AccountId::DEFAULT], None, |_| (publications.clone(), ())).await.expect("stored");
    stored.into_iter().map(|(_, inserted)| inserted).collect()
}

async fn claim(store: &Store, now: DateTime<Utc>, lease: i64) -> Vec<Claimed> {
    store.claim_due(now, lease, now + LEASE, 100, &[]).await.expect("a claim")
}

async fn enable(store: &Store, subscriber: &Subscriber, enabled: bool) {
    let change = store.change_subscriber(AccountId::DEFAULT, subscriber.id, |subscriber| {
        subscriber.enabled = enabled;
        Ok::<(), ()>(())
    });
    change.await.expect("the database answers").expect("no refusal");
}

/// Which subscribers a publish is told of when it stores its event, which owes each of them a delivery.
async fn told(store: &Store, n: u64) -> Vec<SubscriberId> {
    let plan = |tenants: Tenants| {
        let mut one = publication(n, &subscriber(0), None, None);
        let delivery = one.deliveries.remove(0);
        one.deliveries.extend(tenants.subscribers.iter().enumerate().map(|(index, subscriber)| {
            let sequence = n * 10 + index as u64;
            let id = DeliveryId::generate(start_time(), sequence, &mut Chance::from_seed(n).stream("to", sequence));
            NewDelivery { id, subscriber_id: subscriber.id, ..delivery.clone() }
        }));
        (vec![one], ())
    };
    let (stored, ()) = store.insert_events([AccountId::DEFAULT], None, plan).await.expect("stored");
    assert!(matches!(stored[0].1, Inserted::Stored));
    let there = store.event(AccountId::DEFAULT, stored[0].0.event.id).await.expect("stored");
    let mut told: Vec<SubscriberId> = there.deliveries.iter().map(|delivery| delivery.subscriber_id).collect();
    told.sort_unstable();
    told
}

on_both_databases! {
    async fn a_lapsed_lease_is_claimed_again(database) {
        let store = open(database).await;
        let subscriber = subscriber(1);
        store.insert_subscriber(&subscriber).await.expect("stored");
        insert(&store, [publication(1, &subscriber, None, None)]).await;
        let now = start_time();
        assert_eq!(claim(&store, now, 1).await.len(), 1);
        assert_eq!(claim(&store, now + LEASE - Duration::from_micros(1), 2).await.len(), 0);
        let again = claim(&store, now + LEASE, 3).await;
        assert_eq!((again.len(), again[0].attempt, again[0].lease), (1, 1, 3));
        assert_eq!(again[0].subscriber_id, subscriber.id);
        let found = store.subscribers_by_id(&[subscriber.id]).await.expect("answers");
        assert_eq!(found[&subscriber.id].as_ref().expect("readable").as_deref(), Some(&subscriber));
        assert_eq!(again[0].event.content, "{ \"n\":  1 }");
    }

    async fn only_the_leases_holder_records_an_attempt(database) {
        let store = open(database).await;
        let subscriber = subscriber(1);
        store.insert_subscriber(&subscriber).await.expect("stored");
        insert(&store, [publication(1, &subscriber, None, None)]).await;
        let late = claim(&store, start_time(), 1).await.remove(0);
        let holder = claim(&store, start_time() + LEASE, 2).await.remove(0);
        let recorded = store.record_attempts(&[record(&late, Next::Failed)]).await.expect("answers");
        assert_eq!(recorded, [false]);
        let recorded = store.record_attempts(&[record(&holder, Next::Succeeded)]).await.expect("answers");
        assert_eq!(recorded, [true]);
        let detail = store.delivery(AccountId::DEFAULT, holder.id).await.expect("found");
        assert_eq!(detail.attempts, [record(&holder, Next::Succeeded).attempt]);
        assert_eq!(claim(&store, start_time() + LEASE * 10, 3).await.len(), 0);
    }

    async fn what_is_handed_over_is_not_claimed_until_its_lease_lapses(database) {
        let store = open(database).await;
        let subscriber = subscriber(1);
        store.insert_subscriber(&subscriber).await.expect("stored");
        let leased = publication(1, &subscriber, None, Some((7, start_time() + LEASE)));
        insert(&store, [leased]).await;
        assert_eq!(claim(&store, start_time(), 8).await.len(), 0);
        assert_eq!(store.next_due(start_time()).await.expect("answers"), Some(start_time() + LEASE));
        assert_eq!(claim(&store, start_time() + LEASE, 9).await.len(), 1);
    }

    async fn a_renewed_lease_holds_longer_and_a_lost_one_cannot_be_renewed(database) {
        let store = open(database).await;
        let subscriber = subscriber(1);
        store.insert_subscriber(&subscriber).await.expect("stored");
        insert(&store, [publication(1, &subscriber, None, None)]).await;
        let now = start_time();
        let id = claim(&store, now, 1).await[0].id;
        assert_eq!(store.renew_leases(&[(id, 1)], now + LEASE * 2).await.expect("answers"), [id].into());
        assert_eq!(claim(&store, now + LEASE, 2).await.len(), 0);
        assert_eq!(claim(&store, now + LEASE * 2, 2).await.len(), 1);
        assert!(store.renew_leases(&[(id, 1)], now + LEASE * 9).await.expect("answers").is_empty());
    }

    async fn a_released_delivery_is_due_at_once(database) {
        let store = open(database).await;
        let subscriber = subscriber(1);
        store.insert_subscriber(&subscriber).await.expect("stored");
        insert(&store, [publication(1, &subscriber, None, None)]).await;
        let claimed = claim(&store, start_time(), 1).await.remove(0);
        store.release(&[claimed]).await.expect("released");
        assert_eq!(claim(&store, start_time(), 2).await.len(), 1);
    }

    async fn claims_at_the_same_time_never_share_a_delivery(database) {
        let store = open(database).await;
        let subscriber = subscriber(1);
        store.insert_subscriber(&subscriber).await.expect("stored");
        let publications: Vec<_> = (0..1_500).map(|n| publication(n, &subscriber, None, None)).collect();
        insert(&store, publications).await;
        let claims = (1..=8).map(|lease| {
            let store = store.clone();
            crate::support::spawn(async move {
                let mut ids = Vec::new();
                loop {
                    let claimed = claim(&store, start_time(), lease).await;
                    if claimed.is_empty() {
                        return ids;
                    }
                    ids.extend(claimed.into_iter().map(|claimed| claimed.id));
                }
            })
        });
        let claims: Vec<_> = claims.collect();
        let mut ids = Vec::new();
        for claim in claims {
            ids.extend(claim.await.expect("no panic"));
        }
        assert_eq!(ids.len(), 1_500);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 1_500);
    }

    async fn a_claim_passes_over_subscribers_that_are_full(database) {
        let store = open(database).await;
        let (full, other) = (subscriber(1), subscriber(2));
        for subscriber in [&full, &other] {
            store.insert_subscriber(subscriber).await.expect("stored");
        }
        insert(&store, [publication(1, &full, None, None), publication(2, &other, None, None)]).await;
        let now = start_time();
        let claimed = store.claim_due(now, 1, now + LEASE, 10, &[full.id]).await.expect("a claim");
        assert_eq!(claimed.iter().map(|claimed| claimed.subscriber_id).collect::<Vec<_>>(), [other.id]);
    }

    async fn a_known_idempotency_key_stores_nothing_also_within_one_batch(database) {
        let store = open(database).await;
        let subscriber = subscriber(1);
        store.insert_subscriber(&subscriber).await.expect("stored");
        let batch =
            vec![publication(1, &subscriber, Some("k"), None), publication(2, &subscriber, Some("k"), None), publication(3, &subscriber, None, None)];
        let inserted = insert(&store, batch).await;
        assert!(matches!(&inserted[..], [Inserted::Stored, Inserted::Repeat(first), Inserted::Stored] if first.event.vendor_event_id == "msg_1"));
        let again = insert(&store, [publication(4, &subscriber, Some("k"), None)]).await;
        assert!(matches!(&again[..], [Inserted::Repeat(first)] if first.deliveries.len() == 1));
        assert_eq!(claim(&store, start_time(), 1).await.len(), 2);
    }

    async fn what_another_process_changes_while_events_are_planned_is_planned_anew(database) {
        let (store, other) = (open(database).await, open(database).await);
        let to = subscriber(1);
        store.insert_subscriber(&to).await.expect("stored");
        let mut asked = Vec::new();
        let plan = |tenants: Tenants| {
            asked.push(tenants.subscribers.len());
            // In steps nobody can change anything meanwhile; the short way, which is tried first, holds nothing yet.
            if asked.len() == 1 {
                let disable = enable(&other, &to, false);
                // Plans are not asynchronous; another thread's runtime is as far away as another process.
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(disable));
            }
            let mut publication = publication(1, &to, None, None);
            publication.deliveries.truncate(tenants.subscribers.len());
            (vec![publication], ())
        };
        let (stored, ()) = store.insert_events([AccountId::DEFAULT], None, plan).await.expect("stored");
        assert_eq!(asked, [1, 0]);
        assert!(matches!(stored[0].1, Inserted::Stored));
        assert_eq!(store.event(AccountId::DEFAULT, stored[0].0.event.id).await.expect("stored").deliveries.len(), 0);
    }

    async fn what_another_process_does_to_subscribers_counts_at_the_next_publish(database) {
        let (store, other) = (open(database).await, open(database).await);
        assert_eq!(told(&store, 1).await, []);
        let (one, two) = (subscriber(1), subscriber(2));
        other.insert_subscriber(&one).await.expect("stored");
        assert_eq!(told(&store, 2).await, [one.id]);
        other.insert_subscriber(&two).await.expect("stored");
        assert_eq!(told(&store, 3).await, [one.id, two.id]);
        enable(&other, &one, false).await;
        assert_eq!(told(&store, 4).await, [two.id]);
        enable(&other, &one, true).await;
        assert_eq!(told(&store, 5).await, [one.id, two.id]);
        other.delete_subscriber(AccountId::DEFAULT, two.id, start_time()).await.expect("deleted");
        assert_eq!(told(&store, 6).await, [one.id]);
    }

    async fn what_changes_a_subscriber_is_counted_and_what_changes_deliveries_only_is_not(database) {
        let store = open(database).await;
        let to = subscriber(1);
        store.insert_subscriber(&to).await.expect("stored");
        let before = store.changes();
        insert(&store, [publication(1, &to, None, None), publication(2, &to, None, None)]).await;
        let claimed = claim(&store, start_time(), 1).await;
        let held: Vec<_> = claimed.iter().map(|claimed| (claimed.id, claimed.lease)).collect();
        store.renew_leases(&held, start_time() + 2 * LEASE).await.expect("renewed");
        store.release(&claimed[..1]).await.expect("given back");
        let mut record = record(&claimed[1], Next::Rescheduled { at: start_time() });
        assert_eq!(store.record_attempts(std::slice::from_ref(&record)).await.expect("recorded"), [true]);
        assert_eq!(store.changes(), before);

        let again = claim(&store, start_time(), 2).await;
        let again = again.iter().find(|again| again.id == record.delivery_id).expect("it is due again");
        (record.lease, record.attempt.number) = (again.lease, again.attempt);
        record.effect = Some(Effect::Disable("gone".to_owned()));
        assert_eq!(store.record_attempts(&[record]).await.expect("recorded"), [true]);
        let disabled = store.changes();
        enable(&store, &to, true).await;
        let enabled = store.changes();
        store.set_account_clock(AccountId::DEFAULT, Some(start_time())).await.expect("set");
        let set = store.changes();
        store.delete_subscriber(AccountId::DEFAULT, to.id, start_time()).await.expect("deleted");
        let deleted = store.changes();
        store.reset_account(AccountId::DEFAULT, &[]).await.expect("reset");
        let counts = [before, disabled, enabled, set, deleted, store.changes()];
        assert!(counts.is_sorted_by(|earlier, later| earlier < later), "{counts:?}");
    }

    async fn a_reset_or_restore_by_another_process_counts_at_the_next_publish(database) {
        let (store, other) = (open(database).await, open(database).await);
        let to = subscriber(1);
        other.insert_subscriber(&to).await.expect("stored");
        assert_eq!(told(&store, 1).await, [to.id]);
        other.reset_account(AccountId::DEFAULT, &[]).await.expect("reset");
        assert_eq!(told(&store, 2).await, []);
        other.insert_subscriber(&to).await.expect("stored again, with the id it had");
        assert_eq!(told(&store, 3).await, [to.id]);
    }

    async fn an_account_that_another_process_deletes_takes_no_event_and_others_of_the_batch_are_stored(database) {
        let (store, other) = (open(database).await, open(database).await);
        let id = AccountId::generate(start_time(), 1, &mut Chance::from_seed(1).stream("account", 1));
        let account = Account { id, name: "short-lived".to_owned(), created_at: start_time(), clock_now: None };
        store.insert_account(&account, "a hash").await.expect("stored");
        let to = subscriber(1);
        store.insert_subscriber(&to).await.expect("stored");
        let publish = async |n: u64| {
            let mut foreign = publication(n, &to, None, None);
            foreign.event = Arc::new(Event { account_id: id, ..Event::clone(&foreign.event) });
            foreign.deliveries.clear();
            let both = vec![foreign, publication(n + 1, &to, None, None)];
            let accounts = [id, AccountId::DEFAULT];
            let (stored, ()) = store.insert_events(accounts, None, |_| (both.clone(), ())).await.expect("stored");
            stored.into_iter().map(|(_, inserted)| inserted).collect::<Vec<_>>()
        };
        assert!(matches!(&publish(1).await[..], [Inserted::Stored, Inserted::Stored]));
        other.delete_account(id).await.expect("deleted");
        assert!(matches!(&publish(3).await[..], [Inserted::AccountGone, Inserted::Stored]));
        assert_eq!(claim(&store, start_time(), 1).await.len(), 2);
    }

    async fn an_event_with_the_id_of_another_is_a_clash_and_the_rest_of_its_batch_is_stored(database) {
        let store = open(database).await;
        let to = subscriber(1);
        store.insert_subscriber(&to).await.expect("stored");
        insert(&store, [publication(1, &to, None, None)]).await;
        let again = publication(1, &to, None, None);
        let other = Event { vendor_event_id: "msg_other".to_owned(), ..Event::clone(&again.event) };
        let batch = vec![Publication { event: Arc::new(other), ..again }, publication(2, &to, None, None)];
        assert!(matches!(&insert(&store, batch).await[..], [Inserted::Clash, Inserted::Stored]));
        assert_eq!(claim(&store, start_time(), 1).await.len(), 2);
    }

    async fn a_record_whose_lease_has_lapsed_does_not_take_the_one_beside_it_along(database) {
        let store = open(database).await;
        let to = subscriber(1);
        store.insert_subscriber(&to).await.expect("stored");
        insert(&store, [publication(1, &to, None, None), publication(2, &to, None, None)]).await;
        let claimed = claim(&store, start_time(), 1).await;
        let lost = store.claim_due(start_time() + LEASE * 2, 2, start_time() + LEASE * 3, 1, &[]).await.expect("a claim");
        let records: Vec<Record> = claimed.iter().map(|claimed| record(claimed, Next::Succeeded)).collect();
        let recorded = store.record_attempts(&records).await.expect("recorded");
        let expected: Vec<bool> = claimed.iter().map(|claimed| claimed.id != lost[0].id).collect();
        assert_eq!(recorded, expected);
        for (claimed, recorded) in claimed.iter().zip(recorded) {
            let detail = store.delivery(AccountId::DEFAULT, claimed.id).await.expect("there");
            assert_eq!(detail.attempts.len(), usize::from(recorded));
            // Every column of an attempt reads back as it was, a body that is no text too.
            assert!(detail.attempts.iter().all(|attempt| *attempt == records[0].attempt));
        }
    }

    async fn of_two_records_of_one_delivery_only_the_leases_holder_counts(database) {
        let store = open(database).await;
        let to = subscriber(1);
        store.insert_subscriber(&to).await.expect("stored");
        insert(&store, [publication(1, &to, None, None)]).await;
        let lost = claim(&store, start_time(), 1).await;
        let held = claim(&store, start_time() + LEASE * 2, 2).await;
        let records = [record(&lost[0], Next::Failed), record(&held[0], Next::Succeeded)];
        assert_eq!(store.record_attempts(&records).await.expect("recorded"), [false, true]);
        let detail = store.delivery(AccountId::DEFAULT, held[0].id).await.expect("there");
        assert_eq!((detail.listed.delivery.status, detail.attempts.len()), (Status::Succeeded, 1));
    }

    async fn what_would_be_tried_again_waits_for_a_subscriber_that_another_process_disabled(database) {
        let (store, other) = (open(database).await, open(database).await);
        let to = subscriber(1);
        store.insert_subscriber(&to).await.expect("stored");
        insert(&store, [publication(1, &to, None, None)]).await;
        let claimed = claim(&store, start_time(), 1).await;
        enable(&other, &to, false).await;
        let again = Next::Rescheduled { at: start_time() + LEASE };
        assert_eq!(store.record_attempts(&[record(&claimed[0], again)]).await.expect("recorded"), [true]);
        assert_eq!(claim(&store, start_time() + LEASE * 9, 2).await.len(), 0);
        enable(&other, &to, true).await;
        assert_eq!(claim(&store, start_time() + LEASE * 9, 2).await.len(), 1);
    }

    async fn two_processes_may_open_a_new_database_at_once(database) {
        let config = test_config(database).database;
        let opens: Vec<_> = (0..4).map(|_| { let config = config.clone(); crate::support::spawn(async move { Store::open(&config).await }) }).collect();
        let mut numbers = Vec::new();
        for open in opens {
            let store = open.await.expect("no panic").expect("every process opens it");
            numbers.push(store.enter("a key").await.expect("enters").process_number);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4]);
    }

    async fn a_database_of_a_newer_version_is_refused(database) {
        open(database).await.close().await;
        let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
            values (9999, 'later', true, '', 0)";
        if database.is_postgres() {
            let newer = newer.replace("''", "''::bytea");
            let mut connection = sqlx::PgConnection::connect(&database.url).await.expect("connects");
            connection.execute(sqlx::AssertSqlSafe(newer)).await.expect("inserted");
        } else {
            let mut connection = sqlx::SqliteConnection::connect(&database.url).await.expect("connects");
            connection.execute(newer).await.expect("inserted");
        }
        let error = Store::open(&test_config(database).database).await.expect_err("refused");
        assert!(matches!(error, OpenError::Newer { migration: 9999, .. }), "{error}");
        assert!(error.to_string().contains("was written by a newer scanhook"), "{error}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_named_without_its_password() {
    let mut settings = test_config(&Database::sqlite()).database;
    for (url, part) in [
        ("postgres://me:word@127.0.0.1:1/none", "cannot open the database postgres://me:***@127.0.0.1:1/none: "),
        ("sqlite:/no/such/directory/a.db", "there is no folder /no/such/directory"),
        ("sqlite:file::memory:", "neither `sqlite:FILE`, `sqlite::memory:` nor"),
        ("sqlite:a.db?mode=memory", "neither `sqlite:FILE`, `sqlite::memory:` nor"),
        ("sqlite:file:a.db", "neither `sqlite:FILE`, `sqlite::memory:` nor"),
        ("postgres://me:word@127.0.0.1:port/none", "postgres://***@127.0.0.1:port/none"),
        ("mysql://127.0.0.1/none", "neither `sqlite:FILE`"),
        ("sqlite:", "neither `sqlite:FILE`"),
    ] {
        url.clone_into(&mut settings.url);
        let error = Store::open(&settings).await.expect_err(url).to_string();
        assert!(error.contains(part), "{error}");
        assert!(!error.contains("word"), "{error}");
    }
}

#[tokio::test]
async fn the_log_of_sqlite_is_copied_and_has_room_set_aside_to_grow_into() {
    let database = Database::sqlite();
    let store = open(&database).await;
    store.insert_subscriber(&subscriber(1)).await.expect("stored");
    let file = database.url.strip_prefix("sqlite:").expect("a file").to_owned();
    let size = |file: &str| std::fs::metadata(file).expect("it is there").len();
    let before = size(&file);
    store.tidy().await.expect("tidied");
    assert!(size(&file) > before, "nothing was copied into {before} bytes");
    let log = std::fs::metadata(format!("{file}-wal")).expect("it is there");
    #[cfg(target_os = "linux")]
    {
        let blocks = std::os::unix::fs::MetadataExt::blocks(&log);
        assert!(blocks * 512 >= 2 * log.len(), "{blocks} blocks for {} bytes", log.len());
    }
    assert!(log.len() > 0);
    store.close().await;
}
