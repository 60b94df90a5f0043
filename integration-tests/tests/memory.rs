//! The scenarios, on the memory broker as one that locks sessions.

use std::process::ExitCode;

use convoy_conformance::suite;

#[path = "support/memory.rs"]
mod memory;

fn main() -> ExitCode {
    suite::main(memory::Memory::sessions())
}
