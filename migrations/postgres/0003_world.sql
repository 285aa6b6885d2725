-- The simulated world of an account. `version` counts its changes: whoever changes a world must
-- have read the version that it replaces, so two processes cannot act on the same thing twice.
create table world (
    account_id text collate "C" primary key references account (id),
    version bigint not null,
    head text not null
);

-- Whatever a world holds, by kind: a user, a target, a weakness, a scan, … `document` is its JSON.
create table world_object (
    id text collate "C" primary key,
    account_id text collate "C" not null references account (id),
    kind text not null,
    number bigint not null,
    target_id text collate "C",
    is_finished boolean not null,
    document text not null
);
create index world_object_of_account on world_object (account_id, kind, id);
create index world_object_unfinished on world_object (account_id) where not is_finished;

-- When something in a world goes on by itself: one timer a subject.
create table timer (
    subject_id text collate "C" primary key,
    account_id text collate "C" not null references account (id),
    kind text not null,
    due_at bigint not null
);
create index timer_due on timer (due_at, subject_id);
