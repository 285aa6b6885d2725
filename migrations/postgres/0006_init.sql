-- Init files that have been applied, each once. `hash` is of a file's text; `made` is a list of what
-- it made (JSON), each with a digest of what was said of it, so that additions can be told apart.
create table init_file (
    name text collate "C" primary key,
    hash text not null,
    made text not null,
    applied_at bigint not null
);
