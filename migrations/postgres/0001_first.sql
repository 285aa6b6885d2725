-- Times are microseconds since 1970 in UTC, on both databases: exact, and compared as numbers.
-- Ids are fixed-width Base58 text that sorts by time.

-- One row. `processes` counts the processes that have opened this database; `cursor_key` signs
-- the cursors of lists, so that every process accepts them.
create table installation (
    id bigint primary key check (id = 1),
    processes bigint not null,
    cursor_key text
);
insert into installation (id, processes) values (1, 0);

create table account (
    id text collate "C" primary key,
    name text not null,
    key_hash text constraint account_key unique,
    created_at bigint not null
);
insert into account (id, name, created_at) values ('1111111111111111111111', 'default', 0);

-- A deleted subscriber keeps its row, without its secret: its deliveries still name it.
create table subscriber (
    id text collate "C" primary key,
    account_id text collate "C" not null references account (id),
    vendor text not null,
    url text not null,
    event_types text not null,
    secret text not null,
    retry_schedule text,
    timeout_ms bigint,
    headers text not null,
    enabled boolean not null,
    disabled_reason text,
    created_at bigint not null,
    deleted_at bigint
);
create index subscriber_of_account on subscriber (account_id, id) where deleted_at is null;

create table event (
    id text collate "C" primary key,
    account_id text collate "C" not null,
    vendor text not null,
    vendor_event_id text not null,
    occurred_at bigint not null,
    event_type text not null,
    object_type text not null,
    content text not null,
    idempotency_key text,
    created_at bigint not null,
    constraint event_vendor_event_id unique (account_id, vendor_event_id)
);
create index event_of_account on event (account_id, id);
create unique index event_idempotency_key on event (account_id, idempotency_key)
    where idempotency_key is not null;

-- `due_at` is when the delivery may be claimed: its next try or, while it is leased, the time its
-- lease lapses. It is null when nothing is owed or the subscriber is disabled, so the index on it
-- holds only what can fall due. `lease_holder` and `due_at` are the lease's two columns.
create table delivery (
    id text collate "C" primary key,
    account_id text collate "C" not null,
    event_id text collate "C" not null references event (id),
    subscriber_id text collate "C" not null,
    api_version text not null,
    status text not null,
    next_try bigint not null,
    retries bigint not null,
    schedule_start bigint not null,
    due_at bigint,
    lease_holder bigint,
    created_at bigint not null
);
create index delivery_of_event on delivery (event_id);
create index delivery_of_account on delivery (account_id, id);
create index delivery_of_subscriber on delivery (subscriber_id, id);
create index delivery_due on delivery (due_at) where due_at is not null;

create table attempt (
    delivery_id text collate "C" not null references delivery (id),
    number bigint not null,
    account_id text collate "C" not null,
    url text not null,
    started_at bigint not null,
    finished_at bigint not null,
    duration_ms bigint not null,
    request_headers text not null,
    response_status bigint,
    response_headers text,
    response_body bytea,
    outcome text not null,
    error text,
    error_detail text,
    primary key (delivery_id, number)
);
