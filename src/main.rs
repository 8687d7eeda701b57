//! The `kiket` binary: wipes freed memory, parses the command line, and tells by the exit code how it went.

use std::process::ExitCode;

/// Freed memory holds no secret.
#[cfg(feature = "zeroizing-alloc")]
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    kiket_sidecar::cli::run()
}
