//! The web files are part of the crate: a new one must lead to a new build.

fn main() {
    println!("cargo:rerun-if-changed=../../web");
}
