//! Arguments, then the library, then an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    keyferry_brokerctl::main()
}
