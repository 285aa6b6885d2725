//! The file that says that the daemon is ready, and where.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

/// A ready file that has been written; it is removed when this is dropped.
#[derive(Debug)]
pub(super) struct ReadyFile(PathBuf);

impl ReadyFile {
    /// Removes a file that a killed daemon has left: nobody may take it for this one's.
    pub(super) fn clear(path: &Path) -> anyhow::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot replace the ready file {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Writes the file. It is there with all of its text or not at all, and only its owner may read
    /// it, because it holds a key.
    pub(super) fn write(path: &Path, text: &Value) -> anyhow::Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.tmp", std::process::id()));
        let beside = PathBuf::from(beside);
        let write = || {
            Self::clear(&beside)?;
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
            writeln!(file, "{text}")?;
            fs::rename(&beside, path)?;
            anyhow::Ok(())
        };
        write().with_context(|| format!("cannot write the ready file {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // It may be gone already; then it is as it should be.
        let _ = fs::remove_file(&self.0);
    }
}
