//! The `scanhook` program. Everything is in the library; see `cli`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    scanhook::cli::main().await
}
