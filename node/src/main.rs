//! The binary. Everything is in the library; here it only splits off the compiler's process, which must not parse a command line.

use hookswitch::guest::compile::{SUBCOMMAND, compile_component_main};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == SUBCOMMAND) {
        return compile_component_main(&args.collect::<Vec<_>>());
    }
    hookswitch::cli::main()
}
