-- A vendor's API may delete an event: it is not shown there any more, and stays on record.
alter table event add column is_hidden boolean not null default false;
-- A subscriber's last change; its creation where it is null.
alter table subscriber add column changed_at bigint;
