//! The producer's side: runs in, outcomes out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use convoy_core::backend::{Fate, Run, Sent, Sink, Ticket};
use convoy_core::runtime::instant;
use convoy_core::{Content, Moment, Position, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::error;
use crate::state::{Channel, State, Stored};

/// A producer of one channel.
#[derive(Debug)]
pub(crate) struct MemorySink {
    channel: Arc<Channel>,
    outcomes: Arc<Outcomes>,
}

/// What became of the runs of one producer, until it is asked for.
#[derive(Debug)]
pub(crate) struct Outcomes {
    /// The producer, never used twice in this process.
    id: u64,
    known: Mutex<Known>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Known {
    sent: Vec<Sent>,
    /// Whether a `next` waits.
    waiting: bool,
    closed: bool,
}

impl MemorySink {
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Self { channel, outcomes: Arc::new(Outcomes { id, known: Mutex::default(), notify: Notify::new() }) }
    }

    pub(crate) fn close_now(&self) {
        self.outcomes.change(|known| known.closed = true);
    }
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        self.channel.with(|state, _| state.fates.retain(|(producer, _), _| *producer != self.outcomes.id));
    }
}

impl Outcomes {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn push(&self, sent: Sent) {
        self.change(|known| known.sent.push(sent));
    }

    /// A pending `next` looks at the clock again.
    pub(crate) fn nudge(&self) {
        self.change(|_| ());
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock();
        change(&mut known);
        let wake = std::mem::take(&mut known.waiting);
        drop(known);
        if wake {
            self.notify.notify_one();
        }
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn max_message(&self) -> usize {
        self.channel.options.max_message
    }

    fn max_run(&self) -> usize {
        // A larger run would never fit.
        self.channel.options.max_run.min(self.channel.options.capacity as usize)
    }

    fn submit(&self, runs: &mut Vec<Run>) {
        if runs.is_empty() {
            return;
        }
        // Reported after the channel's lock is let go, which reports outcomes itself.
        let mut sent = Vec::with_capacity(runs.len());
        if self.outcomes.known.lock().closed {
            let refused = |run: Run| Sent { ticket: run.ticket, outcome: Err(error::closed("send")) };
            sent.extend(runs.drain(..).map(refused));
        } else {
            self.channel.with(|state, now| {
                for run in runs.drain(..) {
                    if state.frozen {
                        state.held_back.push((Arc::clone(&self.outcomes), run));
                    } else {
                        sent.extend(state.take_run(&self.outcomes, run, now));
                    }
                }
            });
        }
        self.outcomes.change(|known| known.sent.append(&mut sent));
    }

    async fn next(&self, into: &mut Vec<Sent>) -> Result<()> {
        loop {
            {
                let mut known = self.outcomes.known.lock();
                if !known.sent.is_empty() {
                    into.append(&mut known.sent);
                    return Ok(());
                }
                if known.closed {
                    return Err(error::closed("send"));
                }
                known.waiting = true;
            }
            // What a fault holds back comes by the channel's clock, whoever looks at it.
            let until = self.channel.with(|state, now| {
                state.advance(now);
                state.timers.first()
            });
            let woken = self.outcomes.notify.notified();
            if until == Moment::NEVER {
                woken.await;
            } else {
                let _ = timeout_at(instant(until), woken).await;
            }
        }
    }

    async fn fate(&self, ticket: Ticket, until: Moment) -> Result<Fate> {
        self.channel.gate.pass("ask for the fate of a send", until).await?;
        Ok(self.channel.with(|state, now| {
            state.advance(now);
            state.fate(self.outcomes.id, ticket)
        }))
    }

    async fn close(&self, until: Moment) -> Result<()> {
        let answered = self.channel.gate.pass("close", until).await;
        self.close_now();
        answered
    }
}

impl State {
    /// Stores a run unless a fault has something else in mind; gives the outcome if it is known already.
    pub(crate) fn take_run(&mut self, from: &Arc<Outcomes>, run: Run, now: Moment) -> Option<Sent> {
        match self.faults.sends.take() {
            None => Some(self.send(run, now)),
            Some(fault) => self.send_faulty(from, run, fault, now),
        }
    }

    /// Stores a run, whole or not at all.
    pub(crate) fn send(&mut self, run: Run, now: Moment) -> Sent {
        let Run { ticket, session, messages, until, .. } = run;
        let refused = if until <= now { Err(error::too_late()) } else { self.refuse(&messages) };
        let outcome = match refused {
            Err(why) => Err(why),
            Ok(()) if messages.is_empty() => Ok(None),
            Ok(()) => {
                let last = self.append(&session, messages.into_iter().map(Stored::new), now);
                self.count_for_late(now);
                Ok(Some(Position::new(last)))
            }
        };
        Sent { ticket, outcome }
    }

    fn refuse(&self, messages: &[Arc<Content>]) -> Result<()> {
        let mut bytes = 0;
        for size in messages.iter().map(|m| m.size()) {
            if size > self.options.max_message {
                return Err(error::too_large("send", size, self.options.max_message));
            }
            bytes += size as u64;
        }
        let messages = messages.len() as u64;
        let fits = self.messages + messages <= u64::from(self.options.capacity)
            // One that is larger than all the room there is waits for all of it.
            && (self.bytes + bytes <= self.options.capacity_bytes || self.messages == 0);
        if fits { Ok(()) } else { Err(error::full(&self.name, self.messages, self.bytes)) }
    }
}
