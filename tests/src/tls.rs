//! TLS for tests: a certificate, and a real client.

use std::path::Path;
use std::process::{Command, Output};

/// Makes a self-signed certificate for 127.0.0.1 with this common name.
///
/// # Panics
/// When `openssl` doesn't run.
pub fn certificate(directory: &Path, name: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-subj", &format!("/CN={name}")])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(directory)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Runs curl, which trusts that certificate alone.
///
/// # Panics
/// When it doesn't run.
pub fn curl(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--cacert", "cert.pem"]).args(arguments);
    command.current_dir(directory).output().expect("curl runs")
}

/// The output of a program.
pub fn text(output: &Output) -> String {
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{errors}")
}
