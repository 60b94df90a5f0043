//! What a test can make go wrong.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoy_core::backend::Place;
use convoy_core::{Defect, Result, SessionId};

use crate::backend::{Broker, MemoryBroker};
use crate::state::Channel;

/// Makes a broker misbehave, at the moment of the call or at the next requests of a kind. Every fault is one that real brokers show.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> convoy_core::Result<()> {
/// use convoy_memory::{AnswerFault, MemoryBroker, SendFault};
///
/// let broker = MemoryBroker::new();
/// broker.faults().group("orders", "billing")?.settlements(1, AnswerFault::AnswerLost);
/// broker.faults().channel("orders")?.sends(2, SendFault::Full);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    broker: Arc<Broker>,
}

/// Faults of a channel: its sends, and what foreign producers put there.
#[derive(Clone, Debug)]
pub struct ChannelFaults {
    channel: Arc<Channel>,
}

/// Faults of one consumer group: its locks, its answers, its consumers' connections.
#[derive(Clone, Debug)]
pub struct GroupFaults {
    channel: Arc<Channel>,
    group: u32,
}

/// Names a consumer of a broker: they are numbered in the order they were opened, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

/// What goes wrong with the answer to a settlement, to a copy for the dead-letter store, or to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerFault {
    /// It is done at once, and the answer comes that much later.
    Delay(Duration),
    /// It is not done. A settlement or renewal ends the right with it, as a broker does that gave the lock away; a store refuses what it
    /// has no room or no permission for.
    Refuse,
    /// It is not done, and the answer says so; the right stands. A renewal has no such answer: it gets none.
    NotApplied,
    /// It is not done, and no answer comes: it is unknown after the broker's `answer_limit`.
    Unanswered,
    /// It is done, and no answer comes: it is unknown after the broker's `answer_limit`.
    AnswerLost,
}

/// What goes wrong with a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendFault {
    /// The broker says no.
    Refuse,
    /// The broker says that it is full, as under a memory alarm.
    Full,
    /// It lands at once, and the outcome comes that much later.
    Delay(Duration),
    /// It lands at once, and the outcome is unknown.
    Landed,
    /// It does not land, and the outcome is unknown.
    NeverLands,
    /// It lands later, and the outcome is unknown before. Asking for its [fate](convoy_core::backend::Sink::fate) keeps it from landing,
    /// unless [`hide_fates`](ChannelFaults::hide_fates) is on.
    LandsLate(Landing),
}

/// When a run lands that was late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Landing {
    /// When [`ChannelFaults::land`] is called.
    OnCommand,
    /// That much later.
    After(Duration),
    /// When so many other runs have landed in the channel.
    AfterSends(u32),
}

/// An event under a right that is gone, as a client library may still hand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StaleEvent {
    /// A message.
    Delivered,
    /// The answer to a settlement.
    Settled,
    /// Evidence for the lease.
    Proved,
}

impl MemoryBroker {
    /// The handle by which tests make this broker misbehave.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults { broker: Arc::clone(self.shared()) }
    }
}

impl Faults {
    /// The broker stands still: it answers nothing and moves nothing, until [`thaw`](Self::thaw). Requests wait in its door.
    pub fn freeze(&self) {
        self.broker.gate.freeze();
        for channel in self.broker.all() {
            channel.with(|state, _| state.freeze());
        }
    }

    /// The broker goes on: first it does what was asked meanwhile, then it ends what ran out meanwhile.
    pub fn thaw(&self) {
        // The door opens last: who asks then what became of a send hears what was done with it.
        for channel in self.broker.all() {
            channel.with(|state, now| state.thaw(now));
        }
        self.broker.gate.thaw();
    }

    /// The faults of a channel, which is made where channels are made on first use.
    ///
    /// # Errors
    /// [`NotFound`](convoy_core::ErrorKind::NotFound).
    pub fn channel(&self, channel: &str) -> Result<ChannelFaults> {
        Ok(ChannelFaults { channel: self.broker.open("faults", channel)? })
    }

    /// The faults of a group, which is made where groups are made on first use.
    ///
    /// # Errors
    /// [`NotFound`](convoy_core::ErrorKind::NotFound).
    pub fn group(&self, channel: &str, group: &str) -> Result<GroupFaults> {
        let (channel, group) = self.broker.open_group("faults", channel, group)?;
        Ok(GroupFaults { channel, group })
    }
}

impl ChannelFaults {
    /// The next `n` runs meet this fault; faults asked for earlier come first.
    pub fn sends(&self, n: u32, fault: SendFault) {
        self.channel.with(|state, _| state.faults.sends.push(n, fault));
    }

    /// What is late lands now, in the order it was sent; says how many runs that were.
    #[must_use = "nothing was late when it is 0"]
    pub fn land(&self) -> usize {
        self.channel.with(|state, now| state.land_late(|_| true, now))
    }

    /// Whether the broker keeps the fate of runs to itself: then it is unknown, and asking for it prevents nothing.
    pub fn hide_fates(&self, hide: bool) {
        self.channel.with(|state, _| state.faults.hide_fates = hide);
    }

    /// Puts a message into the channel as a foreign producer would, with something wrong; gives its position. A message without a usable
    /// session id gets a session of its own. A misrouted one stands in the lane after its own.
    ///
    /// # Errors
    /// [`Unsupported`](convoy_core::ErrorKind::Unsupported) for a misrouted message where there are no two lanes.
    pub fn foreign(&self, defect: Defect, session: &SessionId, body: impl Into<Bytes>) -> Result<u64> {
        let body = body.into();
        self.channel.with(|state, now| state.put_foreign(defect, session, body, now))
    }

    /// Forgets all faults of sends that were asked for and did not happen.
    pub fn clear(&self) {
        self.channel.with(|state, _| state.faults.sends.clear());
    }
}

impl GroupFaults {
    /// The consumers of the group, in the order they were opened.
    #[must_use]
    pub fn consumers(&self) -> Vec<ConsumerId> {
        self.channel.with(|state, _| state.consumers_of(self.group)).into_iter().map(ConsumerId).collect()
    }

    /// Who holds this session or lane.
    #[must_use]
    pub fn holder(&self, place: &Place) -> Option<ConsumerId> {
        self.channel.with(|state, now| {
            state.advance(now);
            Some(ConsumerId(state.consumers[state.locks.get(state.holder(self.group, place)?).consumer].id))
        })
    }

    /// The lock is gone now: its holder is told so, and the place is for whoever is next. `false` when nobody holds it.
    #[must_use = "nothing happened when it is false"]
    pub fn lose(&self, place: &Place) -> bool {
        self.channel.with(|state, now| state.lose(self.group, place, now))
    }

    /// The lock goes to another consumer of the group, though its holder may be at work; a session goes as soon as the other one asks for
    /// one. `false` when nobody holds it or there is no other consumer.
    #[must_use = "nothing happened when it is false"]
    pub fn hand_to_another(&self, place: &Place) -> bool {
        self.channel.with(|state, now| state.hand_to_another(self.group, place, now))
    }

    /// The lock is taken from its holder and given back to it under another grant, a session as soon as it asks for one. `false` when nobody
    /// holds it, or a consumer that can win nothing any more.
    #[must_use = "nothing happened when it is false"]
    pub fn give_back(&self, place: &Place) -> bool {
        self.channel.with(|state, now| state.take_and_give_back(self.group, place, now))
    }

    /// The holder of a lane is told to give it back within the hand-over time. `false` when nobody holds it, or it is a session.
    #[must_use = "nothing happened when it is false"]
    pub fn revoke(&self, place: &Place) -> bool {
        self.channel.with(|state, now| state.revoke_place(self.group, place, now))
    }

    /// The next `n` settlements of the group meet this fault; faults asked for earlier come first.
    pub fn settlements(&self, n: u32, fault: AnswerFault) {
        self.queue(|faults| faults.settlements.push(n, fault));
    }

    /// The same of copies for the dead-letter store.
    pub fn set_asides(&self, n: u32, fault: AnswerFault) {
        self.queue(|faults| faults.set_asides.push(n, fault));
    }

    /// The same of renewals.
    pub fn renewals(&self, n: u32, fault: AnswerFault) {
        self.queue(|faults| faults.renewals.push(n, fault));
    }

    /// Forgets all faults of answers that were asked for and did not happen.
    pub fn clear(&self) {
        self.queue(|faults| *faults = crate::state::GroupFaults::default());
    }

    /// The connection of a consumer ends and both sides know: all its locks are free at once. It connects again after that time, or by
    /// [`reconnect`](Self::reconnect). `false` when there is no such consumer.
    #[must_use = "nothing happened when it is false"]
    pub fn cut(&self, consumer: ConsumerId, reconnect_after: Option<Duration>) -> bool {
        self.with_consumer(consumer, |state, slot, now| state.cut_for(slot, reconnect_after, now))
    }

    /// Nothing passes between this consumer and the broker any more, in either direction, and neither knows: a half-open connection. Its
    /// locks run out at the broker. [`reconnect`](Self::reconnect) ends it.
    #[must_use = "nothing happened when it is false"]
    pub fn silence(&self, consumer: ConsumerId) -> bool {
        self.with_consumer(consumer, |state, slot, _| state.silence(slot))
    }

    /// A consumer that was cut off is connected again. One that was silenced hears first that everything it held is lost.
    #[must_use = "nothing happened when it is false"]
    pub fn reconnect(&self, consumer: ConsumerId) -> bool {
        self.with_consumer(consumer, |state, slot, now| state.reconnect(slot, now))
    }

    /// An event under the right that this consumer lost last. `false` when there is no such consumer or it lost none.
    #[must_use = "nothing happened when it is false"]
    pub fn stale(&self, consumer: ConsumerId, event: StaleEvent) -> bool {
        let mut told = false;
        self.with_consumer(consumer, |state, slot, now| told = state.tell_stale(slot, event, now)) && told
    }

    fn queue(&self, change: impl FnOnce(&mut crate::state::GroupFaults)) {
        self.channel.with(|state, _| change(&mut state.groups[self.group as usize].faults));
    }

    fn with_consumer(
        &self,
        consumer: ConsumerId,
        change: impl FnOnce(&mut crate::state::State, u32, convoy_core::Moment),
    ) -> bool {
        self.channel.with(|state, now| {
            state.advance(now);
            let slot = state.consumer(consumer.0).filter(|slot| state.consumers[*slot].group == self.group);
            slot.map(|slot| change(state, slot, now)).is_some()
        })
    }
}
