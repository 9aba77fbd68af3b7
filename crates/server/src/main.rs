//! The binary `everywire`.

use std::process::ExitCode;

/// Few, shared pages: an idle connection's kilobyte must not drown in an allocator's caches.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    everywire_server::run()
}
