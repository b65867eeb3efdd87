//! Arguments, then the library, then an exit code.

fn main() -> std::process::ExitCode {
    keyferry_loader::cli::main()
}
