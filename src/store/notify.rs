//! LISTEN and NOTIFY of Postgres: how processes on one database hear of one another.
//!
//! The channel is the schema's own, so that installations in one database do not hear each other.

use sqlx::ConnectOptions;
use sqlx::postgres::{PgListener, PgPoolOptions};

use super::{Error, Pools, Store};

/// The channel of the schema that this installation is in. Named by its number: names may be too long.
macro_rules! channel {
    () => {
        "(select 'scanhook ' || oid from pg_namespace where nspname = current_schema())"
    };
}

/// Hears what the processes on this database say, this one included.
pub struct Ear(PgListener);

impl std::fmt::Debug for Ear {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Ear")
    }
}

impl Ear {
    /// Waits for what is said next. After an error nothing is heard any more.
    pub async fn hear(&mut self) -> Result<String, Error> {
        match self.0.try_recv().await? {
            Some(said) => Ok(said.payload().to_owned()),
            None => Err(Error::Away(sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into()))),
        }
    }
}

impl Store {
    /// Whether processes on this database can hear one another.
    pub fn can_notify(&self) -> bool {
        matches!(self.pools, Pools::Postgres(_))
    }

    /// Begins to hear what is said from now on, on a connection beside those of the pool; none on SQLite.
    pub async fn listen(&self) -> Result<Option<Ear>, Error> {
        let Pools::Postgres(pool) = &self.pools else { return Ok(None) };
        let listen = async {
            // A pool of its own goes with it: a connection that has fallen silent cannot be given back.
            let own = PgPoolOptions::new()
                .max_connections(1)
                .idle_timeout(None)
                .max_lifetime(None)
                .connect_lazy_with((*pool.connect_options()).clone().disable_statement_logging());
            let mut listener = PgListener::connect_with(&own).await?;
            listener.eager_reconnect(false);
            let channel = concat!("select ", channel!());
            let channel: String = sqlx::query_scalar(channel).fetch_one(&mut listener).await?;
            listener.listen(&channel).await?;
            Ok(Some(Ear(listener)))
        };
        self.in_time(listen).await
    }

    /// Says something, under 8,000 bytes, to every process on this database that listens.
    pub async fn notify(&self, said: &str) -> Result<(), Error> {
        let Pools::Postgres(pool) = &self.pools else { return Ok(()) };
        let notify = async {
            // Postgres lets one transaction at a time say something, and there is nothing that must
            // outlive a crash: so it does not wait for the disk.
            let notify =
                concat!("select set_config('synchronous_commit', 'off', true), pg_notify(", channel!(), ", $1)");
            sqlx::query(notify).bind(said).execute(pool).await?;
            Ok(())
        };
        self.in_time(notify).await
    }
}
