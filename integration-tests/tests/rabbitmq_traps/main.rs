//! What only RabbitMQ can do wrong: each trap that was fallen into once, on a real broker. It is the one of `CONVOY_RABBITMQ_URL`, or the one that `cargo xtask brokers up
//! rabbitmq` starts. Each scenario has a virtual host of its own.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use libtest_mimic::{Arguments, Trial};

#[path = "../support/http.rs"]
mod http;
mod members;
mod seen;
mod stage;
mod tap;

mod bindings;
mod ends;
mod findings;
mod handing;
mod hostile;
mod permissions;
mod plain;
mod policies;
mod release;
mod sending;
mod timeouts;

use stage::{Server, Stage};

/// So long a scenario may take.
const LIMIT: Duration = Duration::from_secs(300);
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
    let server = Arc::new(Server::from_env());
    let all = [
        bindings::ALL,
        ends::ALL,
        findings::ALL,
        handing::ALL,
        hostile::ALL,
        permissions::ALL,
        plain::ALL,
        policies::ALL,
        release::ALL,
        sending::ALL,
        timeouts::ALL,
    ];
    let trial = |trap: &Trap| {
        let (server, trap) = (Arc::clone(&server), *trap);
        Trial::test(trap.name, move || play(&server, trap).map_err(Into::into))
    };
    let conclusion = libtest_mimic::run(&arguments, all.concat().iter().map(trial).collect());
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    let (passed, failed) = (conclusion.num_passed, conclusion.num_failed);
    for note in server.notes() {
        println!("note: {note}");
    }
    // Something ran, and all of it held.
    let held = passed > 0 && !conclusion.has_failed();
    let (version, seed) = (server.version(), server.seed());
    println!("RESULT traps=rabbitmq-{version} passed={passed} failed={failed} seed={seed} held={held}");
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(server: &Arc<Server>, trap: Trap) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
    let stage = Stage::new(server, trap.name)?;
    let played = runtime.block_on(async { tokio::time::timeout(LIMIT, (trap.play)(Arc::new(stage))).await });
    played.map_err(|_| format!("it did not end within {LIMIT:?}"))
}
