//! `everywire backup`: a consistent copy of the data directory, while a server uses it or not.
//!
//! The log is the truth, and is copied up to its last whole record. The data that is derived from it is left out, and
//! is made again when the copy is started. The operator's token goes with it.

use std::path::Path;

use crate::cli::Backup;
use crate::{Failure, files, token};

pub(crate) fn run(arguments: &Backup) -> Result<(), Failure> {
    let Backup { to, data } = arguments;
    let fault = |error: std::io::Error| format!("the backup can't be written to {}: {error}", to.display());
    let is_empty = match std::fs::read_dir(to) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(fault(error).into()),
    };
    if !is_empty {
        return Err(format!("{} is not empty: name a directory for this backup alone", to.display()).into());
    }
    if !data.join("log").is_dir() {
        return Err(
            format!("there is no log in {}: name the server's data directory with --data", data.display()).into()
        );
    }
    files::private_directory(to).map_err(fault)?;
    let copied = everywire_node::backup(data, to).map_err(|error| format!("{}: {error}", data.display()))?;
    copy_token(data, to).map_err(fault)?;
    println!("{}: {} bytes, up to offset {}", to.display(), copied.bytes, copied.last.0);
    Ok(())
}

/// Copies the operator's token. The copy of a file keeps its permissions.
fn copy_token(data: &Path, to: &Path) -> std::io::Result<()> {
    let file = token::admin_file(data);
    if file.exists() { std::fs::copy(file, token::admin_file(to)).map(drop) } else { Ok(()) }
}
