//! The generated code is what the schema says (RULES 38).

use std::path::Path;

#[test]
fn the_generated_code_is_made_from_the_schema() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = home.join("../../../proto");
    let files = protox::compile(["everywire.proto"], [&schema]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut config = prost_build::Config::new();
    config.out_dir(out.path()).compile_fds(files).unwrap();
    let made = std::fs::read_to_string(out.path().join("everywire.v1.rs")).unwrap();
    let kept = home.join("src/everywire.v1.rs");
    if std::env::var_os("EVERYWIRE_BLESS").is_some() {
        std::fs::write(kept, made).unwrap();
        return;
    }
    assert!(
        made == std::fs::read_to_string(kept).unwrap(),
        "run it with EVERYWIRE_BLESS=1 after a change of the schema"
    );
}
