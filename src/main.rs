//! The `scanhook` program. Everything is in the library; see `cli`.

use std::process::ExitCode;

/// Much of a webhook's cost is memory that lives as long as its request; see docs/performance.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    scanhook::cli::main().await
}
