-- The vendor's switches of a delivery's subscriber as they were at publish (JSON): the body depends
-- on them, and every attempt sends the same bytes.
alter table delivery add column options text not null default '{}';
