-- What a vendor's body needs beside the event, as it was known at publish: JSON text.
alter table event add column at_publish text;
-- The vendor's own switches for a subscriber (JSON), and its id in the vendor's shape.
alter table subscriber add column options text not null default '{}';
alter table subscriber add column vendor_id text;
