//! What only Kafka can do wrong: each trap that was fallen into once, or that the notes of it name, on a real broker. It is the one of `CONVOY_KAFKA_URL`, or the one that `cargo xtask brokers up
//! kafka` starts. Each scenario has a topic of its own.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use libtest_mimic::{Arguments, Trial};

#[allow(dead_code, reason = "the suite spoils the link of single clients, too")]
#[path = "../support/kafka_wire.rs"]
mod kafka_wire;
mod lanes;
mod positions;
mod records;
mod stage;

use stage::Stage;

/// So long a scenario may take.
const LIMIT: Duration = Duration::from_secs(120);
/// They mostly wait for the broker.
const AT_ONCE: usize = 4;

/// A scenario.
#[derive(Clone, Copy)]
struct Trap {
    name: &'static str,
    play: fn(Arc<Stage>) -> BoxFuture<'static, ()>,
}

/// Scenarios, by the names of their functions.
macro_rules! traps {
    ($($name:ident),* $(,)?) => {
        pub(crate) const ALL: &[crate::Trap] =
            &[$(crate::Trap { name: stringify!($name), play: |stage| Box::pin($name(stage)) }),*];
    };
}
pub(crate) use traps;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let trial = |trap: &Trap| {
        let trap = *trap;
        Trial::test(trap.name, move || play(trap).map_err(Into::into))
    };
    let all = [lanes::ALL, positions::ALL, records::ALL].concat();
    let conclusion = libtest_mimic::run(&arguments, all.iter().map(trial).collect());
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    let (passed, failed) = (conclusion.num_passed, conclusion.num_failed);
    // Something ran, and all of it held.
    let held = passed > 0 && !conclusion.has_failed();
    println!("RESULT traps=kafka passed={passed} failed={failed} held={held}");
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(trap: Trap) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
    let played = runtime.block_on(async {
        let stage = Arc::new(Stage::new(trap.name));
        let played = tokio::time::timeout(LIMIT, (trap.play)(Arc::clone(&stage))).await;
        stage.clear().await;
        played
    });
    played.map_err(|_| format!("it did not end within {LIMIT:?}"))
}
