//! The binary: parse the arguments, call `cli`, exit with its code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: weirgate::Allocator = weirgate::Allocator;

fn main() -> ExitCode {
    ExitCode::from(weirgate::cli::run(std::env::args_os()))
}
