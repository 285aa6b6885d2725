-- Why what followed an attempt did, as the rule of retrying was given it: JSON text.
alter table attempt add column reason text;
-- An answer whose body breaks off is an answer now.
update attempt set error = 'protocol' where error = 'body';
