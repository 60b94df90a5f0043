//! TLS with a real broker: what is refused, by which words, and that nothing of a secret is in them.
//!
//! Brokers are started by `cargo xtask brokers`, one after the other, each with other certificates; `CONVOY_RABBITMQ_RELEASE` says of which release.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};

mod broker;
mod cases;
mod certificates;

use broker::{Kind, Started};

/// The broker that runs, and the certificates of this run.
#[derive(Debug)]
struct Stage {
    folder: tempfile::TempDir,
    broker: Mutex<Option<Started>>,
}

impl Stage {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each change of the broker takes seconds: the cases of one come together.
    arguments.test_threads = Some(1);
    let made = tempfile::tempdir().map_err(|e| e.to_string()).and_then(|folder| {
        certificates::make(folder.path())?;
        Ok(Arc::new(Stage { folder, broker: Mutex::default() }))
    });
    let stage = match made {
        Ok(stage) => stage,
        Err(why) => {
            eprintln!("no certificates: {why}");
            return ExitCode::FAILURE;
        }
    };
    let trials = cases::ALL.iter().map(|(name, kind, case)| {
        let stage = Arc::clone(&stage);
        Trial::test(*name, move || play(&stage, *kind, *case).map_err(Into::into))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    let mut broker = stage.broker.lock().unwrap_or_else(PoisonError::into_inner);
    let version = broker.as_ref().map_or_else(|| "none".to_owned(), |broker| broker.version.clone());
    let ended = broker.take().map_or(Ok(()), Started::end);
    if let Err(why) = &ended {
        eprintln!("the broker was not ended: {why}");
    }
    let (passed, failed) = (conclusion.num_passed, conclusion.num_failed);
    let held = passed > 0 && failed == 0 && ended.is_ok();
    println!("RESULT suite=rabbitmq-tls version={version} passed={passed} failed={failed} held={held}");
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays one case on the broker that it is about.
fn play(stage: &Stage, kind: Kind, case: cases::Case) -> Result<(), String> {
    let mut broker = stage.broker.lock().unwrap_or_else(PoisonError::into_inner);
    if broker.as_ref().is_none_or(|started| started.kind != kind) {
        broker.take().map_or(Ok(()), Started::end)?;
        *broker = Some(Started::start(kind, &stage.file(kind.folder()))?);
    }
    let started = broker.as_ref().ok_or("no broker")?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    runtime.block_on(case(stage, started))
}
