//! A sink that does what a test says.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Run, Sent, Ticket};
use crate::backend::{Fate, Sink};
use crate::error::{Error, ErrorKind, Result};
use crate::position::Position;
use crate::session::SessionId;
use crate::time::Moment;

#[derive(Debug, Default)]
pub(super) struct Scripted {
    inner: Mutex<Inner>,
    moved: Notify,
    taken: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Every run that was handed over.
    runs: Vec<Run>,
    /// How many of them were looked at by `run()`.
    seen: usize,
    /// Confirm at once.
    confirms: bool,
    max_run: usize,
    answers: VecDeque<Sent>,
    failures: VecDeque<Error>,
    panics: bool,
    fate: Option<Fate>,
    asked: Vec<Ticket>,
    closed: bool,
}

impl Scripted {
    /// One that never answers by itself.
    pub(super) fn silent() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// One that confirms everything at once.
    pub(super) fn confirming() -> Arc<Self> {
        let sink = Self::silent();
        sink.inner.lock().confirms = true;
        sink
    }

    pub(super) fn taking(max_run: usize) -> Arc<Self> {
        let sink = Self::silent();
        sink.inner.lock().max_run = max_run;
        sink
    }

    /// The next run that is handed over.
    pub(super) async fn run(&self) -> Run {
        loop {
            {
                let mut inner = self.inner.lock();
                if let Some(run) = inner.runs.get(inner.seen).cloned() {
                    inner.seen += 1;
                    return run;
                }
            }
            self.taken.notified().await;
        }
    }

    pub(super) fn answer(&self, sent: Sent) {
        self.inner.lock().answers.push_back(sent);
        self.moved.notify_one();
    }

    pub(super) fn confirm_from_now_on(&self) {
        self.inner.lock().confirms = true;
    }

    pub(super) fn fail(&self, error: Error) {
        self.inner.lock().failures.push_back(error);
        self.moved.notify_one();
    }

    pub(super) fn panic(&self) {
        self.inner.lock().panics = true;
        self.moved.notify_one();
    }

    /// What `fate` answers; without this it never does.
    pub(super) fn knows(&self, fate: Fate) {
        self.inner.lock().fate = Some(fate);
    }

    pub(super) fn asked(&self) -> Vec<Ticket> {
        self.inner.lock().asked.clone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    /// The bodies of all that was handed over, in order.
    pub(super) fn bodies(&self) -> Vec<String> {
        let inner = self.inner.lock();
        let messages = inner.runs.iter().flat_map(|run| &run.messages);
        messages.map(|content| String::from_utf8_lossy(content.body()).into_owned()).collect()
    }
}

#[async_trait]
impl Sink for Scripted {
    fn max_message(&self) -> usize {
        64
    }

    fn max_run(&self) -> usize {
        self.inner.lock().max_run.max(1)
    }

    fn check_session(&self, session: &SessionId) -> Result<()> {
        session.as_text().map(|_| ())
    }

    fn submit(&self, runs: &mut Vec<Run>) {
        let mut inner = self.inner.lock();
        for run in runs.drain(..) {
            if inner.confirms {
                let position = Some(Position::new(inner.runs.len() as u64));
                inner.answers.push_back(Sent { ticket: run.ticket, outcome: Ok(position) });
            }
            inner.runs.push(run);
        }
        drop(inner);
        self.taken.notify_one();
        self.moved.notify_one();
    }

    async fn next(&self, into: &mut Vec<Sent>) -> Result<()> {
        loop {
            {
                let mut inner = self.inner.lock();
                assert!(!inner.panics, "as the test wanted");
                if let Some(error) = inner.failures.pop_front() {
                    return Err(error);
                }
                if !inner.answers.is_empty() {
                    into.extend(inner.answers.drain(..));
                    return Ok(());
                }
            }
            self.moved.notified().await;
        }
    }

    async fn fate(&self, ticket: Ticket, _: Moment) -> Result<Fate> {
        let fate = {
            let mut inner = self.inner.lock();
            inner.asked.push(ticket);
            inner.fate
        };
        match fate {
            Some(fate) => Ok(fate),
            None => std::future::pending().await,
        }
    }

    async fn close(&self, _: Moment) -> Result<()> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Error::new(ErrorKind::Closed, "close"));
        }
        inner.closed = true;
        Ok(())
    }
}
