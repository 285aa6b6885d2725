//! SQLite's log, looked after so that no commit has to wait for it.

use std::sync::atomic::Ordering;

use super::{Error, Pools, Store};

impl Store {
    /// Copies what was written from SQLite's log into the file, beside the writer, if this process has
    /// written since. There is nothing to do on Postgres, or in memory.
    pub async fn tidy(&self) -> Result<(), Error> {
        if let Pools::Sqlite { tidy: Some(tidy), .. } = &self.pools
            && self.has_written.swap(false, Ordering::Relaxed)
        {
            #[cfg(target_os = "linux")]
            room::make(tidy.connect_options().get_filename()).await;
            // It copies what it can without waiting for anybody.
            sqlx::query("pragma wal_checkpoint(passive)").execute(tidy).await?;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod room {
    use std::ffi::OsString;
    use std::path::Path;

    use rustix::fs::{FallocateFlags, fallocate};
    use tracing::debug;

    /// From this length on SQLite itself starts the log anew, and its blocks are used again.
    const LONGEST: u64 = 64 << 20;

    /// Has the file system set blocks aside for a database's log to grow into, as many again as it has.
    ///
    /// Copying begins with a sync of the log, for which ext4 finds each new block a place; a commit that
    /// comes to a new block waits for all of that. One that comes to a block set aside does not.
    pub(super) async fn make(database: &Path) {
        let mut log = OsString::from(database);
        log.push("-wal");
        let made = tokio::task::spawn_blocking(move || {
            let log = std::fs::File::options().write(true).open(log)?;
            let length = log.metadata()?.len();
            if length < LONGEST {
                fallocate(&log, FallocateFlags::KEEP_SIZE, 0, (2 * length).min(LONGEST))?;
            }
            std::io::Result::Ok(())
        });
        match made.await {
            Ok(Ok(())) => (),
            // Not every file system can, and a disk may be full: commits wait, as they did.
            Ok(Err(failure)) => debug!("no room was set aside for the log: {failure}"),
            Err(stopped) => debug!("no room was set aside for the log: {stopped}"),
        }
    }
}
