-- The secret before the present one, which signs as well until a time; both null where there is none.
alter table subscriber add column previous_secret text;
alter table subscriber add column previous_secret_until bigint;
-- When the first of the failing attempts was made since which nothing was accepted. Kept only where
-- `dispatch.disable_after` asks for it.
alter table subscriber add column failing_since bigint;
