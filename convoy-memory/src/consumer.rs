//! The consumer's side: commands in, events out.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use convoy_core::backend::{Command, Event, Grant, Limits, Place, SessionState, Source};
use convoy_core::runtime::instant;
use convoy_core::{Moment, Result, SessionId};
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::error;
use crate::state::{Channel, ConsumerLink, Poll, lane_of};

/// A consumer of one channel in one group. Dropping it without a close is a connection that dies: its locks are free at once.
#[derive(Debug)]
pub(crate) struct MemorySource {
    channel: Arc<Channel>,
    id: u64,
    slot: u32,
    notify: Arc<Notify>,
}

impl MemorySource {
    pub(crate) fn open(channel: Arc<Channel>, id: u64, group: u32) -> Self {
        let notify = Arc::new(Notify::new());
        let slot = channel.with(|state, now| state.open_consumer(id, group, &notify, now));
        Self { channel, id, slot, notify }
    }

    /// Waits until the broker answers this consumer; not for ever.
    async fn answered(&self, operation: &'static str) -> Result<()> {
        let until = self.channel.answer_limit();
        self.channel.gate.pass(operation, until).await?;
        if self.channel.with(|state, _| matches!(state.consumers[self.slot].link, ConsumerLink::Silent(_))) {
            tokio::time::sleep_until(instant(until)).await;
            return Err(error::no_answer(operation));
        }
        Ok(())
    }

    pub(crate) fn close_now(&self) {
        self.channel.with(|state, now| state.close_consumer(self.slot, now));
    }
}

#[async_trait]
impl Source for MemorySource {
    fn limits(&self) -> Limits {
        self.channel.options.limits()
    }

    async fn next(&self, into: &mut Vec<Event>) -> Result<()> {
        loop {
            // A wake-up between the look and the wait is kept by `notify`.
            let until = match self.channel.with(|state, now| state.poll(self.slot, into, now)) {
                Poll::Ready => return Ok(()),
                Poll::Closed => return Err(error::closed("next").with("consumer", self.id)),
                Poll::Sleep(until) => until,
            };
            let woken = self.notify.notified();
            if until == Moment::NEVER {
                woken.await;
            } else {
                // Nothing to do when the time is over but to look again.
                let _ = timeout_at(instant(until), woken).await;
            }
        }
    }

    fn submit(&self, commands: &mut Vec<Command>) {
        if !commands.is_empty() {
            self.channel.with(|state, now| state.take_commands(self.slot, commands, now));
        }
    }

    fn place(&self, session: &SessionId) -> Place {
        match self.channel.options.lanes {
            0 => Place::Session(session.clone()),
            lanes => Place::Lane(lane_of(session, lanes)),
        }
    }

    fn is_ready(&self) -> bool {
        self.channel.with(|state, _| !state.frozen && state.consumers[self.slot].link == ConsumerLink::Up)
    }

    fn session_state(&self) -> Option<&dyn SessionState> {
        (self.channel.options.lanes == 0).then_some(self as &dyn SessionState)
    }

    async fn close(&self, until: Moment) -> Result<()> {
        let answered = self.channel.gate.pass("close", until).await;
        self.close_now();
        answered
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        self.channel.with(|state, now| state.drop_consumer(self.slot, now));
    }
}

#[async_trait]
impl SessionState for MemorySource {
    async fn state(&self, grant: Grant, session: &SessionId) -> Result<Option<Bytes>> {
        self.answered("read state").await?;
        self.channel.with(|state, now| {
            state.advance(now);
            let group = state.fence_state(self.slot, grant, session).ok_or_else(|| error::lock_lost("read state"))?;
            Ok(state.groups[group as usize].states.get(session).cloned())
        })
    }

    async fn set_state(&self, grant: Grant, session: &SessionId, value: Option<Bytes>) -> Result<()> {
        self.answered("write state").await?;
        self.channel.with(|state, now| {
            state.advance(now);
            let group = state.fence_state(self.slot, grant, session).ok_or_else(|| error::lock_lost("write state"))?;
            let (size, most) = (value.as_ref().map_or(0, Bytes::len), state.options.state_size());
            if size > most {
                return Err(error::too_large("write state", size, most));
            }
            let states = &mut state.groups[group as usize].states;
            match value {
                Some(value) => states.insert(session.detached(), value),
                None => states.remove(session),
            };
            Ok(())
        })
    }
}
