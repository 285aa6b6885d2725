-- Where an account's own clock stands; null while the account goes by the machine's.
alter table account add column clock_now bigint;
-- When a delivery of an account with a clock of its own is due by that clock. Such a delivery is
-- never due by the machine's: its `due_at` is null or, while it is leased, the time its lease lapses.
alter table delivery add column manual_due_at bigint;
create index delivery_manual_due on delivery (account_id, manual_due_at, event_id) where manual_due_at is not null;
create index timer_of_account on timer (account_id, due_at, subject_id);
-- Whose time signatures carry, 'account' or 'real'; the account's where it is null.
alter table subscriber add column signature_time text;
