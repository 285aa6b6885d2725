-- What an account held at one time. `document` is a JSON object: for each table a list of the
-- account's rows. The counts are of what it holds, so that a list need not read it.
create table snapshot (
    id text collate "C" primary key,
    account_id text collate "C" not null references account (id),
    name text,
    created_at bigint not null,
    subscribers bigint not null,
    events bigint not null,
    deliveries bigint not null,
    document text not null
);
create index snapshot_of_account on snapshot (account_id, id);
-- Whoever deletes or resets an account wants its deleted subscribers too.
create index subscriber_ever_of_account on subscriber (account_id);
