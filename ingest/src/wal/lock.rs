//! One process at a time writes to a data folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Write,
    path::Path,
};

use tracehouse_engine::{Error, ErrorKind, Result};

/// The lock on a data folder, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Creates the folder if need be and takes `<data_dir>/LOCK`. Fails at once (`Unavailable`) if another process has it.
    pub fn acquire(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("LOCK");
        std::fs::create_dir_all(data_dir).map_err(|e| Error::from(e).context(format!("cannot create {}", data_dir.display())))?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| Error::from(e).context(format!("cannot open {}", path.display())))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = std::fs::read_to_string(&path).unwrap_or_default();
                let owner = owner.trim();
                let owner = if owner.is_empty() { String::new() } else { format!(" (process {owner})") };
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("data folder {} is in use by another process{owner}: stop it or choose another folder", data_dir.display()),
                ));
            }
            Err(TryLockError::Error(e)) => return Err(Error::from(e).context(format!("cannot lock {}", path.display()))),
        }
        // The process id is only a hint for the message above; the lock does not depend on it.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_has_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDirLock::acquire(dir.path()).unwrap();
        let error = DataDirLock::acquire(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        DataDirLock::acquire(dir.path()).unwrap();
    }
}
