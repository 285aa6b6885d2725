//! Opening the database: the pools, the migrations under a lock, and this process's number.

use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Database, hide_password};
use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::known::Memory;
use super::{Installation, Pools, Store, write};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// How long a connection that is given back may take to answer.
const ANSWERS_PING: Duration = Duration::from_secs(5);
/// How many statements SQLite's writer keeps prepared.
const WRITER_STATEMENTS: usize = 40;
/// How long a connection may have been idle to be used without being asked first.
const IDLE_UNASKED: Duration = Duration::from_secs(1);

/// Why the database could not be opened; the texts are for the user.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("database.url `{0}` is neither `sqlite:FILE`, `sqlite::memory:` nor `postgres://…`")]
    UnknownUrl(String),
    #[error(
        "cannot open the database {url}: {reason}; check database.url, and that its server runs or its file can be written"
    )]
    Unreachable { url: String, reason: String },
    #[error(
        "the database {url} was written by a newer scanhook: it has migration {migration}, which this program lacks; use that version or another database"
    )]
    Newer { url: String, migration: i64 },
    #[error("cannot migrate the database {url}")]
    Migrate {
        url: String,
        #[source]
        source: MigrateError,
    },
    #[error("cannot lock {path} to migrate the database")]
    Lock {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

impl Store {
    /// Opens the database, makes it if it is missing (SQLite), and brings its schema up to date.
    pub async fn open(options: &Database) -> Result<Self, OpenError> {
        let url = hide_password(&options.url);
        if options.url.starts_with("postgres://") || options.url.starts_with("postgresql://") {
            Self::open_postgres(options, url).await
        } else if let Some(file) = options.url.strip_prefix("sqlite:") {
            Self::open_sqlite(options, file.strip_prefix("//").unwrap_or(file), url).await
        } else {
            Err(OpenError::UnknownUrl(url))
        }
    }

    async fn open_postgres(options: &Database, url: String) -> Result<Self, OpenError> {
        let unreachable = |error: sqlx::Error| OpenError::Unreachable { url: url.clone(), reason: reason(&error) };
        let connect = PgConnectOptions::from_str(&options.url).map_err(unreachable)?.application_name("scanhook");
        // A transaction whose end got lost on its way must not keep its locks.
        let given_up = options.answer_timeout.as_millis().to_string();
        let connect = connect.options([("idle_in_transaction_session_timeout", given_up)]);
        // A dead server must be told apart from a busy pool, so the first connection is made alone.
        let first = <sqlx::PgConnection as sqlx::Connection>::connect_with(&connect);
        match tokio::time::timeout(options.connect_timeout, first).await {
            Ok(Ok(connection)) => drop(sqlx::Connection::close(connection).await),
            Ok(Err(error)) => return Err(unreachable(error)),
            Err(_) => {
                let reason = format!("no answer within {}", humantime::format_duration(options.connect_timeout));
                return Err(OpenError::Unreachable { url, reason });
            }
        }
        let pool = PgPoolOptions::new()
            .max_connections(options.connections)
            .acquire_timeout(options.connect_timeout)
            // One that was just used need not be asked whether it still answers.
            .test_before_acquire(false)
            .before_acquire(|connection, usage| {
                Box::pin(async move {
                    if usage.idle_for < IDLE_UNASKED {
                        return Ok(true);
                    }
                    let answered = tokio::time::timeout(ANSWERS_PING, connection.ping()).await;
                    Ok(answered.is_ok_and(|answered| answered.is_ok()))
                })
            })
            // A connection that has fallen silent must not keep its place in the pool.
            .after_release(|connection, _| {
                Box::pin(async move {
                    let answered = tokio::time::timeout(ANSWERS_PING, connection.ping()).await;
                    answered.unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()))).map(|()| true)
                })
            })
            .connect_with(connect)
            .await
            .map_err(unreachable)?;
        // The migrator takes an advisory lock by itself.
        POSTGRES.run(&pool).await.map_err(|error| refused(url, error))?;
        Ok(Self {
            pools: Pools::Postgres(pool),
            answer_timeout: options.answer_timeout,
            activity: Arc::default(),
            others: Arc::default(),
            memory: Arc::default(),
            has_written: Arc::default(),
        })
    }

    async fn open_sqlite(options: &Database, file: &str, url: String) -> Result<Self, OpenError> {
        let unreachable = |error: sqlx::Error| OpenError::Unreachable { url: url.clone(), reason: reason(&error) };
        let in_memory = file == ":memory:";
        // Other ways to say "in memory" would give each connection a database of its own.
        let is_other_memory = !in_memory && (file.contains(":memory:") || file.contains("mode=memory"));
        if file.is_empty() || file.starts_with("file:") || is_other_memory {
            return Err(OpenError::UnknownUrl(url));
        }
        let connect = SqliteConnectOptions::from_str(&options.url)
            .map_err(unreachable)?
            .create_if_missing(true)
            .journal_mode(if in_memory { SqliteJournalMode::Memory } else { SqliteJournalMode::Wal })
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(10))
            // In pages of 4 KiB: 64 MiB. A checkpoint here holds up the commit that makes it; see `tidy`.
            .pragma("wal_autocheckpoint", "16384")
            // Without statistics plans stay as they are tested. With those of a database that had one
            // subscriber, recording went through every subscriber there was for each attempt.
            .pragma("temp_store", "memory");
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(options.connect_timeout)
                .test_before_acquire(false)
                // A database in memory lives as long as its one connection.
                .idle_timeout(None)
                .max_lifetime(None)
                // SQLite ends a transaction by itself when the disk is full. The connection then
                // counts one that is not there, and no other could begin on it.
                .before_acquire(move |connection, _| {
                    let is_free = !connection.is_in_transaction();
                    Box::pin(async move { Ok(is_free || in_memory) })
                })
        };
        let folder = connect.get_filename().parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !in_memory && !folder.is_dir()) {
            let reason = format!("there is no folder {}", folder.display());
            return Err(OpenError::Unreachable { url, reason });
        }
        let lock = if in_memory { None } else { Some(lock_beside(connect.get_filename()).await?) };
        // In KiB. With the default of 2 MiB the writer has to read most pages again under load.
        let write = connect.clone().pragma("cache_size", "-16384");
        // Texts of many rows are large once they are prepared.
        let write = write.statement_cache_capacity(WRITER_STATEMENTS);
        let memory = Arc::<Memory>::default();
        let writes = pool(1).after_connect({
            // The version of the database that goes with it is the connection's own.
            let memory = Arc::clone(&memory);
            move |_, _| {
                memory.forget_all();
                Box::pin(async { Ok(()) })
            }
        });
        let write = writes.connect_with(write).await.map_err(unreachable)?;
        SQLITE.run(&write).await.map_err(|error| refused(url.clone(), error))?;
        drop(lock);
        let tidy = (!in_memory).then(|| pool(1).connect_lazy_with(connect.clone()));
        let read = if in_memory {
            write.clone()
        } else {
            pool(options.connections).connect_lazy_with(connect.read_only(true))
        };
        Ok(Self {
            pools: Pools::Sqlite { write, read, tidy },
            answer_timeout: options.answer_timeout,
            activity: Arc::default(),
            others: Arc::default(),
            memory,
            has_written: Arc::default(),
        })
    }

    /// Counts this process in, and makes the cursor key if this is the first.
    pub async fn enter(&self, new_cursor_key: &str) -> Result<Installation, super::Error> {
        let (process_number, cursor_key) = write!(self, |tx| {
            sqlx::query_as::<Db, (i64, String)>(
                "update installation set processes = processes + 1, cursor_key = coalesce(cursor_key, $1)
                 where id = 1 returning processes, cursor_key",
            )
            .bind(new_cursor_key)
            .fetch_one(&mut *tx)
            .await?
        });
        Ok(Installation { process_number, cursor_key })
    }
}

/// Locks a file beside the database, so that two processes may start at once. SQLite's migrator
/// takes no lock of its own. The lock ends when the file is dropped, also by a kill.
async fn lock_beside(database: &Path) -> Result<File, OpenError> {
    let mut path = database.as_os_str().to_owned();
    path.push("-lock");
    let shown = path.to_string_lossy().into_owned();
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        file.lock()?;
        Ok(file)
    });
    let locked = locked.await.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
    locked.map_err(|source| OpenError::Lock { path: shown, source })
}

fn refused(url: String, error: MigrateError) -> OpenError {
    match error {
        MigrateError::VersionMissing(migration) => OpenError::Newer { url, migration },
        source => OpenError::Migrate { url, source },
    }
}

/// The error without sqlx's own framing.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}
