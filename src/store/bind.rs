//! Rows as they are bound, the same in steps and in one go.

/// What an event's row is made of.
pub(super) const NEW_EVENT_COLUMNS: &str = "id, account_id, vendor, vendor_event_id, occurred_at, event_type,
    object_type, content, idempotency_key, created_at, at_publish";
/// What a new delivery's row is made of.
pub(super) const NEW_DELIVERY_COLUMNS: &str = "id, account_id, event_id, subscriber_id, api_version, status, next_try,
    retries, schedule_start, due_at, manual_due_at, lease_holder, created_at, options";

/// Binds an event's row, on either database.
macro_rules! bind_event {
    ($row:expr, $event:expr) => {{
        let event = $event;
        $row.push_bind(event.id)
            .push_bind(event.account_id)
            .push_bind(event.vendor.as_str())
            .push_bind(event.vendor_event_id.clone())
            .push_bind($crate::store::micros(event.occurred_at))
            .push_bind(event.event_type.clone())
            .push_bind(event.object_type.clone())
            .push_bind(event.content.clone())
            .push_bind(event.idempotency_key.clone())
            .push_bind($crate::store::micros(event.created_at))
            .push_bind(event.at_publish.clone());
    }};
}

/// Binds a new delivery's row, on either database.
macro_rules! bind_delivery {
    ($row:expr, $event:expr, $delivery:expr) => {{
        let (event, delivery) = ($event, $delivery);
        let micros = $crate::store::micros;
        let due_at = delivery.lease.map_or(delivery.next_try, |(_, until)| until);
        $row.push_bind(delivery.id)
            .push_bind(event.account_id)
            .push_bind(event.id)
            .push_bind(delivery.subscriber_id)
            .push_bind($crate::delivery::API_VERSION)
            .push_bind($crate::delivery::Status::Scheduled.as_str())
            .push_bind(micros(delivery.next_try))
            .push_bind(0_i64)
            .push_bind(0_i64)
            .push_bind((!delivery.is_manual).then(|| micros(due_at)))
            .push_bind(delivery.is_manual.then(|| micros(delivery.next_try)))
            .push_bind(delivery.lease.map(|(holder, _)| holder))
            .push_bind(micros(event.created_at))
            .push_bind($crate::store::to_json(&delivery.options));
    }};
}

/// What an attempt's row is made of.
pub(super) const ATTEMPT_COLUMNS: &str = "delivery_id, number, account_id, url, started_at, finished_at, duration_ms,
    request_headers, response_status, response_headers, response_body, outcome, error, error_detail, reason";

/// Binds an attempt's row, on either database.
macro_rules! bind_attempt {
    ($row:expr, $record:expr) => {{
        let (record, attempt) = ($record, &$record.attempt);
        let (error, detail) = attempt.outcome.error().unzip();
        let response = attempt.response.as_ref();
        $row.push_bind(record.delivery_id)
            .push_bind(i64::from(attempt.number))
            .push_bind(record.account_id)
            .push_bind(attempt.url.clone())
            .push_bind($crate::store::micros(attempt.started_at))
            .push_bind($crate::store::micros(attempt.finished_at))
            .push_bind(i64::try_from(attempt.duration.as_millis()).unwrap_or(i64::MAX))
            .push_bind($crate::store::to_json(&attempt.request_headers))
            .push_bind(response.map(|response| i64::from(response.status)))
            .push_bind(response.map(|response| $crate::store::to_json(&response.headers)))
            .push_bind(response.map(|response| response.body.clone()))
            .push_bind(attempt.outcome.as_str())
            .push_bind(error.map($crate::delivery::AttemptError::as_str))
            .push_bind(detail.map(str::to_owned))
            .push_bind(attempt.reason.as_ref().map($crate::store::to_json))
    }};
}

/// Binds what an attempt makes of its delivery: see [`MOVE_ON`].
macro_rules! bind_made {
    ($row:expr, $record:expr) => {{
        let (status, at) = $crate::store::claims::after($record.next);
        $row.push_bind($record.delivery_id)
            .push_bind($record.lease)
            .push_bind(status.as_str())
            .push_bind(i64::from($record.attempt.number) - 1)
            .push_bind(at)
            .push_bind(at);
    }};
}

/// The columns of [`MOVE_ON`]'s rows.
pub(super) const MADE_COLUMNS: &str = "made (id, lease, status, retries, next_try, due_at)";
/// Moves on deliveries that are still leased to their record's claim, by rows called `made`.
pub(super) const MOVE_ON: &str = "update delivery set retries = made.retries, lease_holder = null,
        status = case when made.due_at is not null and subscriber.deleted_at is not null then 'failed'
            else made.status end,
        next_try = coalesce(made.next_try, delivery.next_try),
        due_at = case when subscriber.enabled and delivery.manual_due_at is null then made.due_at end,
        manual_due_at = case when subscriber.enabled and delivery.manual_due_at is not null then made.due_at end
     from made, subscriber
     where delivery.id = made.id and delivery.lease_holder = made.lease and subscriber.id = delivery.subscriber_id";

pub(super) use {bind_attempt, bind_delivery, bind_event, bind_made};
