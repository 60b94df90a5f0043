//! Where events go when they happen.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use zerocopy::IntoBytes;

use super::event::{Event, What};
use super::record::{RECORD_LEN, Record};

/// The time now: nanoseconds of `CLOCK_MONOTONIC`, one clock for all processes of a machine.
pub fn now() -> u64 {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanos = i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec);
    u64::try_from(nanos).unwrap_or(0)
}

/// Takes events where they happen.
pub trait Recorder: Send + Sync {
    /// Writes down what happened at `time`, which the caller took where it happened.
    fn record(&self, time: u64, group: u32, what: What);
}

/// An append-only file of one process. Each record is one `write(2)`, so that a `kill -9` loses
/// nothing that had happened.
#[derive(Debug)]
pub struct Writer {
    file: File,
    process: u32,
    number: AtomicU64,
    failed: AtomicBool,
}

impl Writer {
    /// Makes the file, one for each life of a process. `process` must be unique in the run; it is
    /// a number of the harness's own, since a process id may come back.
    ///
    /// # Errors
    /// What the file system says; a file that exists is one, since numbers would repeat in it.
    pub fn create(path: impl AsRef<Path>, process: u32) -> io::Result<Self> {
        let file = OpenOptions::new().create_new(true).append(true).open(path)?;
        Ok(Self { file, process, number: AtomicU64::new(0), failed: AtomicBool::new(false) })
    }

    /// Appends one record. When it returns, the record survives the death of this process.
    ///
    /// # Errors
    /// What the file system says; a short write is an error too, and leaves a torn record.
    pub fn write(&self, time: u64, group: u32, what: What) -> io::Result<()> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let record = Record::from(&Event { time, process: self.process, number, group, what });
        let written = loop {
            match (&self.file).write(record.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if written == RECORD_LEN { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Whether a record could not be written: such a history must not be judged as whole.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Recorder for Writer {
    fn record(&self, time: u64, group: u32, what: What) {
        if self.write(time, group, what).is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// A recorder in memory, for what runs in one process.
#[derive(Debug, Default)]
pub struct Memory {
    process: u32,
    events: Mutex<Vec<Event>>,
}

impl Memory {
    /// An empty recorder for a process of this number.
    pub fn new(process: u32) -> Self {
        Self { process, events: Mutex::default() }
    }

    /// Takes the events out, sorted by (time, process, number).
    pub fn take(&self) -> Vec<Event> {
        let mut events = std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner));
        events.sort_by_key(|event| (event.time, event.process, event.number));
        events
    }
}

impl Recorder for Memory {
    fn record(&self, time: u64, group: u32, what: What) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let number = events.len() as u64;
        events.push(Event { time, process: self.process, number, group, what });
    }
}
