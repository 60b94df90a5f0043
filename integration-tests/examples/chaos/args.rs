//! What the command line says.

use std::path::PathBuf;
use std::time::Duration;

use crate::backend::Backend;

/// The settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) backend: Backend,
    pub(crate) messages: u64,
    pub(crate) sessions: u32,
    pub(crate) faults: usize,
    /// Instead of a number of faults: as many as take about so long.
    pub(crate) minutes: Option<u64>,
    /// One node, or a cluster of three.
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    pub(crate) lanes: u32,
    pub(crate) heartbeat: Duration,
    /// More options of the workers' URL.
    pub(crate) with: Vec<String>,
    /// Which release of the broker.
    pub(crate) release: String,
    pub(crate) port: u16,
    /// The program that starts and ends brokers.
    pub(crate) xtask: PathBuf,
    /// Where histories, logs and the report go.
    pub(crate) out: PathBuf,
    /// Only faults of this kind, one after the other.
    pub(crate) only: Option<String>,
    /// A broken settle path, to be found.
    pub(crate) lie: Option<String>,
    /// The broker stays up at the end.
    pub(crate) keep: bool,
    /// Only print the schedule.
    pub(crate) dry: bool,
    /// Only judge what an earlier run has left.
    pub(crate) again: bool,
}

pub(crate) const USAGE: &str = "\
cargo xtask chaos rabbitmq|kafka [OPTIONS]
  --messages N       how many messages are sent, by two producers (200000)
  --sessions N       in how many sessions (1000)
  --faults N         how many faults strike (60)
  --minutes N        as many as take about so long, instead
  --nodes 1|3        a broker of one node, or a cluster: then its nodes fail, one at a time (1)
  --seed N           what is drawn: the same seed, the same schedule (drawn and printed)
  --release R        of RabbitMQ 4.3, 4.0 or 3.10 (4.3); of Kafka 4.4
  --lanes N          lanes of the consumer group (16)
  --heartbeat S      in seconds; faults last in proportion to it (2)
  --with OPTION      one more option of the workers' URL, as `assignor=range`
  --only KIND        only faults of this kind, one after the other: consumer-kill, restart, node-kill, …
  --broken-settle early|ahead
                     consumers whose settle path is broken: the run must fail
  --keep             leave the broker up at the end
  --judge-again      judge what the run of this seed has left, and run nothing
  --dry              print the schedule, and nothing else";

impl Args {
    pub(crate) fn read(given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut given = given;
        let backend = Backend::RabbitMq;
        let mut args = Self {
            backend,
            messages: 200_000,
            sessions: 1000,
            faults: 60,
            minutes: None,
            nodes: 1,
            seed: fastrand::u64(1..1_000_000),
            lanes: 16,
            heartbeat: Duration::from_secs(2),
            with: Vec::new(),
            release: backend.release().to_owned(),
            port: backend.port(),
            xtask: PathBuf::new(),
            out: PathBuf::new(),
            only: None,
            lie: None,
            keep: false,
            dry: false,
            again: false,
        };
        while let Some(name) = given.next() {
            match name.as_str() {
                "--keep" => args.keep = true,
                "--dry" => args.dry = true,
                "--judge-again" => args.again = true,
                _ => args.set(&name, given.next().ok_or_else(|| format!("{name} wants a value"))?)?,
            }
        }
        if args.sessions == 0 || args.messages == 0 || args.heartbeat.is_zero() {
            return Err("there must be sessions, messages and a heartbeat".to_owned());
        }
        if ![1, 3].contains(&args.nodes) {
            return Err("a broker has 1 node here, or 3".to_owned());
        }
        Ok(args)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            // What follows may say otherwise of the others.
            "--backend" => {
                self.backend = Backend::named(&value)?;
                (self.release, self.port) = (self.backend.release().to_owned(), self.backend.port());
            }
            "--with" => self.with.push(value),
            "--messages" => self.messages = number(name, &value)?,
            "--sessions" => self.sessions = number(name, &value)?,
            "--faults" => self.faults = number(name, &value)?,
            "--minutes" => self.minutes = Some(number(name, &value)?),
            "--nodes" => self.nodes = number(name, &value)?,
            "--seed" => self.seed = number(name, &value)?,
            "--lanes" => self.lanes = number(name, &value)?,
            "--heartbeat" => self.heartbeat = Duration::from_secs(number(name, &value)?),
            "--release" => self.release = value,
            "--port" => self.port = number(name, &value)?,
            "--xtask" => self.xtask = value.into(),
            "--out" => self.out = value.into(),
            "--only" => self.only = Some(value),
            "--broken-settle" => self.lie = Some(value),
            _ => return Err(format!("there is no option {name}")),
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} wants a number, not `{value}`"))
}
