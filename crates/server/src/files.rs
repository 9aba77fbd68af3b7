//! The files that a server cares for at its start: the limit of open ones, the data directory, and the ready file.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, and returns a line about the result.
pub(crate) fn raise_limit() -> String {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let words = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
    match raised {
        _ if current == maximum => format!("open files: at most {} (ulimit -Hn)", words(current)),
        Ok(()) => format!("open files: at most {}, raised from {}", words(maximum), words(current)),
        Err(error) => format!("open files: at most {}, raising it failed: {error}", words(current)),
    }
}

/// The permission bits that others must not have in the data directory.
const OTHERS: u32 = 0o077;
/// The permission bit of a directory where anybody may make files.
const STICKY: u32 = 0o1000;

/// Makes the data directory for this user alone: messages and secrets are in it. A directory that exists and is ours is
/// closed to others; any other gets a warning.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    let found = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        }
        found => found?,
    };
    let mode = found.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    // A directory that others share on purpose is not ours alone.
    let is_ours = mode & STICKY == 0 && found.uid() == rustix::process::geteuid().as_raw();
    let closed = is_ours.then(|| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o700)));
    if let Some(Ok(())) = closed {
        tracing::info!("the data directory {} is closed to other users now", path.display());
    } else {
        tracing::warn!("other users can look into the data directory {}: `chmod 700` it", path.display());
    }
    Ok(())
}

/// The ready file: `{"pid":1,"http":"127.0.0.1:8080"}`. It appears whole, once all listeners accept.
pub(crate) struct ReadyFile(PathBuf);

impl ReadyFile {
    /// Removes the file of an earlier server, so that nobody takes it for ours.
    pub(crate) fn prepare(path: &Path) -> Result<Self, String> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fault(path, &error)),
            _ => Ok(Self(path.to_owned())),
        }
    }

    /// Writes the file.
    pub(crate) fn write(&self, addresses: &[(&'static str, SocketAddr)]) -> Result<(), String> {
        let mut beside = self.0.clone().into_os_string();
        beside.push(format!(".{}", std::process::id()));
        let written = std::fs::write(&beside, content(addresses)).and_then(|()| std::fs::rename(&beside, &self.0));
        written.map_err(|error| fault(&self.0, &error))
    }
}

fn content(addresses: &[(&'static str, SocketAddr)]) -> String {
    let listeners = addresses.iter().map(|(name, address)| format!(",\"{name}\":\"{address}\""));
    format!("{{\"pid\":{}{}}}\n", std::process::id(), listeners.collect::<String>())
}

fn fault(path: &Path, error: &io::Error) -> String {
    format!("the ready file {} can't be written: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_file_replaces_an_earlier_one_and_names_the_listeners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        std::fs::write(&path, "old").unwrap();
        let ready = ReadyFile::prepare(&path).unwrap();
        assert!(!path.exists());
        ready.write(&[("http", "127.0.0.1:8080".parse().unwrap()), ("https", "[::1]:8443".parse().unwrap())]).unwrap();
        let expected =
            format!("{{\"pid\":{},\"http\":\"127.0.0.1:8080\",\"https\":\"[::1]:8443\"}}\n", std::process::id());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_data_directory_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let rights = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let made = folder.path().join("a/b");
        private_directory(&made).unwrap();
        assert_eq!(rights(&made), 0o700);
        for (before, after) in [(0o755, 0o700), (0o750, 0o700), (0o500, 0o500), (0o1777, 0o1777)] {
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(before)).unwrap();
            private_directory(&made).unwrap();
            assert_eq!(rights(&made), after, "{before:o}");
        }
    }

    #[test]
    fn a_place_that_does_not_exist_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let ready = ReadyFile::prepare(&folder.path().join("none/ready.json")).unwrap();
        assert!(ready.write(&[]).unwrap_err().contains("none/ready.json"));
    }
}
