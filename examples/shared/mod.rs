//! What the examples share: how one waits, and how it ends.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Waits until `done` counts so many, or has not moved for so long. Gives the last count.
pub(crate) async fn until(most: usize, quiet: Duration, done: impl Fn() -> usize) -> usize {
    let (mut before, mut moved) = (done(), Instant::now());
    while before < most && moved.elapsed() < quiet {
        sleep(Duration::from_millis(10)).await;
        let now = done();
        if now != before {
            (before, moved) = (now, Instant::now());
        }
    }
    before
}

/// The exit status: 0 when it held, 1 when it did not, 2 when it could not be tried.
pub(crate) fn exit(example: &str, outcome: Result<bool, Box<dyn Error>>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("RESULT example={example} held=false error={:?}", error.to_string());
            ExitCode::from(2)
        }
    }
}
