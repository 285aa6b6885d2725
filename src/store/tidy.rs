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
    use std::fs::{File, canonicalize};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
    use tracing::debug;

    /// How much is set aside at most. At about this length each commit makes SQLite copy the log, so that it
    /// soon begins anew, in the same blocks.
    const MOST: u64 = 64 << 20;
    /// How many times as much must be free: no disk is filled for this.
    const SPARED: u64 = 16;

    /// Has the file system set blocks aside for a database's log to grow into, as many again as it has.
    ///
    /// Copying begins with a sync of the log, for which ext4 finds each new block a place; a commit that
    /// comes to a new block waits for all of that. One that comes to a block set aside does not.
    pub(super) async fn make(database: &Path) {
        let database = database.to_owned();
        let made = tokio::task::spawn_blocking(move || set_aside(&database));
        match made.await {
            Ok(Ok(())) => (),
            // Not every file system can: commits wait, as they did.
            Ok(Err(failure)) => debug!("no room was set aside for the log: {failure}"),
            Err(stopped) => debug!("no room was set aside for the log: {stopped}"),
        }
    }

    /// SQLite holds no lock on its log, which to close the file would release.
    fn set_aside(database: &Path) -> std::io::Result<()> {
        let mut log = canonicalize(database)?.into_os_string();
        log.push("-wal");
        let log = File::options().write(true).open(log)?;
        let there = log.metadata()?;
        let (length, wanted) = (there.len(), (2 * there.len()).min(MOST));
        if length >= wanted || there.blocks() * 512 >= wanted {
            return Ok(());
        }
        let disk = fstatvfs(&log)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) / SPARED >= wanted {
            fallocate(&log, FallocateFlags::KEEP_SIZE, length, wanted - length)?;
        }
        Ok(())
    }
}
