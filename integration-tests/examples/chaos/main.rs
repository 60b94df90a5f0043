//! A run with faults on a real broker: processes that send and handle, a seeded schedule of what goes wrong, and the checker over what they all wrote.
//!
//! `cargo xtask chaos rabbitmq` and `cargo xtask chaos kafka` build and start it. The broker is its own, so that it may be killed; every worker reaches it over a link of its own, so that
//! that may be spoilt. In the end everything is healed, everything that was sent is handled, and the histories of all processes are judged as one.

mod args;
mod backend;
mod broker;
mod excerpt;
mod judge;
mod live;
mod plan;
mod process;
mod report;
mod run;
mod stage;
mod strike;

use std::process::ExitCode;

use args::{Args, USAGE};

fn main() -> ExitCode {
    let args = match Args::read(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("chaos: {why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ran = runtime.map_err(|e| e.to_string()).and_then(|runtime| runtime.block_on(run::run(&args)));
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("chaos: {why}");
            println!("RESULT cmd=chaos broker={} seed={} held=false", args.backend.name(), args.seed);
            ExitCode::FAILURE
        }
    }
}
