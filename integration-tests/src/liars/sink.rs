//! A producer's side that lies about what it stores. It takes one message at a time, so that each can be lied about.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use convoy_core::backend::{Fate, Run, Sent, Sink, Ticket};
use convoy_core::{Content, Error, ErrorKind, Moment, Outcome, Result, SessionId};
use tokio::sync::Notify;

use super::{Lie, lock};

/// What the sink stores of its own accord; its outcome is for nobody.
const OWN: Ticket = Ticket(u64::MAX);

#[derive(Debug)]
pub(super) struct LyingSink {
    inner: Arc<dyn Sink>,
    lie: Lie,
    told: Mutex<Told>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Told {
    /// The session that is lied about: the first that is sent to.
    session: Option<SessionId>,
    /// Its messages so far.
    count: u32,
    first: Option<Arc<Content>>,
    held: Option<Run>,
    /// The sends that are lied about.
    tickets: Vec<Ticket>,
    /// Outcomes that are made up.
    sent: Vec<Sent>,
}

impl LyingSink {
    pub(super) fn new(inner: Arc<dyn Sink>, lie: Lie) -> Self {
        Self { inner, lie, told: Mutex::default(), notify: Notify::new() }
    }

    /// What is stored instead of this run.
    fn store(&self, told: &mut Told, run: Run, into: &mut Vec<Run>) {
        if told.session.get_or_insert_with(|| run.session.clone()) != &run.session {
            return into.push(run);
        }
        told.count += 1;
        let content = run.messages.first().cloned();
        let again = |content: Arc<Content>| Run { ticket: OWN, messages: vec![content], ..run.clone() };
        match (self.lie, told.count) {
            (Lie::DropsConfirmed, 2) => told.sent.push(Sent { ticket: run.ticket, outcome: Ok(None) }),
            (Lie::Invents, 2) => {
                let invented = content.map(|content| again(Arc::new(invented(&content))));
                into.push(run);
                into.extend(invented);
            }
            (Lie::StoresWhatItRefused, 2) => {
                told.tickets.push(run.ticket);
                into.push(run);
            }
            (Lie::StoresOutOfOrder, 2) => {
                told.sent.push(Sent { ticket: run.ticket, outcome: Ok(None) });
                told.held = Some(Run { ticket: OWN, ..run });
            }
            (Lie::StoresOutOfOrder, _) => {
                told.tickets.push(run.ticket);
                into.push(run);
                into.extend(told.held.take());
            }
            (Lie::StoresTwice, 1) => {
                told.first = content;
                into.push(run);
            }
            (Lie::StoresTwice, 3) => {
                let twice = told.first.take().map(again);
                into.push(run);
                into.extend(twice);
            }
            _ => into.push(run),
        }
    }

    fn outcome(&self, told: &Told, sent: &mut Sent) {
        if !told.tickets.contains(&sent.ticket) {
            return;
        }
        match self.lie {
            Lie::StoresWhatItRefused => {
                sent.outcome = Err(Error::new(ErrorKind::Refused, "send").with_outcome(Outcome::NotApplied));
            }
            // A position would give it away.
            Lie::StoresOutOfOrder => sent.outcome = Ok(None),
            _ => {}
        }
    }
}

/// A message that nobody sent: its number was never given.
fn invented(like: &Content) -> Content {
    let mut content = Content::new("nobody sent this");
    if let Some(mut stamp) = like.stamp() {
        stamp.number += 1_000_000;
        content.set_stamp(stamp);
    }
    content
}

#[async_trait]
impl Sink for LyingSink {
    fn max_message(&self) -> usize {
        self.inner.max_message()
    }

    fn check_session(&self, session: &SessionId) -> Result<()> {
        self.inner.check_session(session)
    }

    fn submit(&self, runs: &mut Vec<Run>) {
        let mut told = lock(&self.told);
        let mut stored = Vec::with_capacity(runs.len() + 1);
        for run in runs.drain(..) {
            self.store(&mut told, run, &mut stored);
        }
        let made_up = !told.sent.is_empty();
        drop(told);
        self.inner.submit(&mut stored);
        if made_up {
            self.notify.notify_one();
        }
    }

    async fn next(&self, into: &mut Vec<Sent>) -> Result<()> {
        loop {
            let mut sent = Vec::new();
            let result = tokio::select! {
                biased;
                () = self.notify.notified() => Ok(()),
                result = self.inner.next(&mut sent) => result,
            };
            let mut told = lock(&self.told);
            into.append(&mut told.sent);
            for mut sent in sent.into_iter().filter(|sent| sent.ticket != OWN) {
                self.outcome(&told, &mut sent);
                into.push(sent);
            }
            if result.is_err() || !into.is_empty() {
                return result;
            }
        }
    }

    async fn fate(&self, ticket: Ticket, until: Moment) -> Result<Fate> {
        self.inner.fate(ticket, until).await
    }

    async fn close(&self, until: Moment) -> Result<()> {
        self.inner.close(until).await
    }
}
