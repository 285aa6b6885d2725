-- Why what followed an attempt did, as the rule of retrying was given it: JSON text.
alter table attempt add column reason text;
