//! Worker processes: started, watched, killed, frozen, drained.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use convoy_conformance::history::{Fault, Phase, Recorder, Side, What, Writer, now};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// How long a process may take to drain: its handlers, its last sends, and a broker that may be just away.
const DRAIN: Duration = Duration::from_secs(60);
const REAP: Duration = Duration::from_secs(10);
/// How long a process may take until it can be asked to end: on a machine with more than enough to do it starts late.
const UP: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// One life of a worker.
#[derive(Debug)]
pub(crate) struct Life {
    /// Its number in the history, of no other life.
    pub(crate) process: u32,
    child: Child,
    pid: Pid,
    input: Option<ChildStdin>,
    told: Told,
    log: PathBuf,
}

/// What a worker said last of each thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Arc<Mutex<HashMap<String, String>>>);

impl Told {
    fn line(&self, line: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in line.split_whitespace().filter_map(|pair| pair.split_once('=')) {
            told.insert(key.to_owned(), value.to_owned());
        }
    }

    pub(crate) fn number(&self, key: &str) -> u64 {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(key).and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn says(&self, key: &str, value: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).is_some_and(|told| told == value)
    }
}

/// The program beside this one.
fn program() -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|e| format!("where am I? {e}"))?;
    Ok(here.with_file_name("worker"))
}

/// Runs the worker once, to its end.
pub(crate) async fn once(args: &[String], limit: Duration) -> Result<(), String> {
    let mut worker = Command::new(program()?);
    worker.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output =
        timeout(limit, worker.output()).await.map_err(|_| format!("worker {args:?}: not done in {limit:?}"))?;
    let output = output.map_err(|e| format!("worker: {e}"))?;
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("worker {args:?}: {}: {why}", output.status)) }
}

impl Life {
    /// Starts a worker that writes its history to `history` and what it complains of to a log beside it.
    pub(crate) fn start(process: u32, args: &[String], history: &Path) -> Result<Self, String> {
        let log = history.with_extension("log");
        let complaints = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let mut worker = Command::new(program()?);
        worker.args(args).arg("--history").arg(history).args(["--process", &process.to_string()]);
        worker.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints).kill_on_drop(true);
        let mut child = worker.spawn().map_err(|e| format!("worker: {e}"))?;
        let pid =
            child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).ok_or("a worker without a number")?;
        let (input, told) = (child.stdin.take(), Told::default());
        if let Some(output) = child.stdout.take() {
            let told = told.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    told.line(&line);
                }
            });
        }
        Ok(Self { process, child, pid, input, told, log })
    }

    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// Its exit status, when it has ended by itself. It is recorded as gone then.
    pub(crate) fn ended(&mut self, history: &Writer) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten()?;
        history.record(now(), 0, What::Reaped { target: self.process });
        Some(status)
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(&mut self, history: &Writer) -> Result<(), String> {
        history.record(now(), 0, What::KillSent { target: self.process });
        self.signal(Signal::KILL)?;
        timeout(REAP, self.child.wait())
            .await
            .map_err(|_| "a killed process is still there")?
            .map_err(|e| e.to_string())?;
        history.record(now(), 0, What::Reaped { target: self.process });
        Ok(())
    }

    /// Stops it where it stands, or lets it go on.
    pub(crate) fn freeze(&self, history: &Writer, on: bool) -> Result<(), String> {
        let phase = if on { Phase::Begin } else { Phase::End };
        let what = What::Fault { fault: Fault::Freeze, side: Side::Client, phase, target: self.process };
        history.record(now(), 0, what);
        self.signal(if on { Signal::STOP } else { Signal::CONT })
    }

    /// Waits until it listens to who asks it to end: a signal before that ends it as a kill would. One that does not come up, or is gone, is asked all the same.
    async fn up(&mut self) {
        let listens = async {
            while !self.told.says("up", "true") && matches!(self.child.try_wait(), Ok(None)) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = timeout(UP, listens).await;
    }

    /// Asks it to end in order and waits for that. One that does not is killed, and told of.
    pub(crate) async fn drain(&mut self, history: &Writer) -> Result<(), String> {
        self.up().await;
        self.signal(Signal::TERM)?;
        let ended = timeout(DRAIN, self.child.wait()).await;
        match ended {
            Ok(Ok(status)) => {
                history.record(now(), 0, What::Reaped { target: self.process });
                // The reader may be a moment behind.
                tokio::time::sleep(Duration::from_millis(20)).await;
                match (status.success(), self.told.says("drained", "false")) {
                    (true, false) => Ok(()),
                    (true, true) => Err(format!("process {} left without all being drained", self.process)),
                    (false, _) => {
                        Err(format!("process {} did not end well: {status}: {}", self.process, self.last_words()))
                    }
                }
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                self.kill(history).await?;
                Err(format!("process {} did not end within {DRAIN:?} and was killed", self.process))
            }
        }
    }

    /// Tells it something.
    pub(crate) async fn say(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            // One that is gone or frozen need not hear it.
            let _ = timeout(Duration::from_secs(1), input.write_all(format!("{line}\n").as_bytes())).await;
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(self.pid, signal).map_err(|e| format!("process {}: {e}", self.process))
    }

    /// The end of what it complained of.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().next_back().unwrap_or("it said nothing").to_owned()
    }
}
