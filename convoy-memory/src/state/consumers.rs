//! The consumers of a channel: what they asked for, what waits for them, and how their connection stands.

use std::collections::VecDeque;
use std::sync::Arc;

use convoy_core::Moment;
use convoy_core::backend::{Command, Event, Fate, Grant, LeaseCell, Loss};
use tokio::sync::Notify;

use super::{NONE, Spot, State, Timer};
use crate::error;

/// A consumer, as the broker sees it.
#[derive(Debug, Default)]
pub(crate) struct Consumer {
    /// Never used twice in this process; 0 in a free slot.
    pub(crate) id: u64,
    pub(crate) group: u32,
    pub(crate) link: Link,
    pub(crate) notify: Arc<Notify>,
    /// Whether a `next` waits.
    pub(crate) waiting: bool,
    /// Until when it would wait.
    pub(super) sleeps_until: Moment,
    /// Told at the next `next`, before any message.
    pub(super) outbox: VecDeque<Event>,
    /// Locks under which messages can be delivered.
    pub(super) hot: VecDeque<(u32, Grant)>,
    /// Locks it holds.
    pub(super) holds: u32,
    /// How many requests for the next free session it keeps open.
    pub(super) wanted: u32,
    /// Requests that were answered, the answer still in the outbox.
    pub(super) queued: u32,
    /// Requests whose answer the last `next` gave: it can not have said yet whether it wants others.
    pub(super) handed: u32,
    /// Whether it stands among those who ask.
    pub(super) asking: bool,
    /// Whether a lease of it ran out, so that it has to show life before it gets another.
    pub(super) lapsed: bool,
    /// Whether it said that it wants no right any more.
    pub(super) leaving: bool,
    /// The right that ended last.
    pub(crate) last_ended: Option<Grant>,
    /// What came while the broker stood still.
    pub(super) held_back: Vec<(Moment, Command)>,
    /// Whether its handle is gone though locks of it last.
    dropped: bool,
}

/// How the connection of a consumer stands.
#[derive(Debug, Default)]
pub(crate) enum Link {
    #[default]
    Up,
    /// Cut, and both ends know.
    Cut,
    /// Half-open: nothing passes, and the consumer does not know. These are the rights that it knows of.
    Silent(Vec<(Grant, Arc<LeaseCell>)>),
    /// Ended by the consumer.
    Closed,
}

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Consumer {
    /// Whether it may win a right now.
    pub(crate) fn may_win(&self) -> Result<(), convoy_core::Error> {
        match self.link {
            Link::Up if self.leaving => Err(error::closed("accept")),
            Link::Up => Ok(()),
            _ => Err(error::disconnected("accept")),
        }
    }

    /// How many requests for the next free session are open at the broker.
    pub(super) fn open_requests(&self) -> u32 {
        match self.link {
            Link::Up if !self.leaving => self.wanted.saturating_sub(self.queued).saturating_sub(self.handed),
            _ => 0,
        }
    }
}

impl State {
    /// Opens a consumer under this id; gives its slot.
    pub(crate) fn open_consumer(&mut self, id: u64, group: u32, notify: &Arc<Notify>, now: Moment) -> u32 {
        let notify = Arc::clone(notify);
        let slot = self.consumers.insert(Consumer { id, group, notify, ..Consumer::default() });
        self.join(slot, now);
        slot
    }

    /// The slot of a consumer, if it is there.
    pub(crate) fn consumer(&self, id: u64) -> Option<u32> {
        (0..self.consumers.end()).find(|slot| self.consumers[*slot].id == id)
    }

    /// A consumer wants so many requests for the next free session open; they are served as far as there are free ones.
    pub(crate) fn want(&mut self, slot: u32, wanted: u32, now: Moment) {
        let consumer = &mut self.consumers[slot];
        consumer.wanted = wanted;
        let group = consumer.group;
        self.ask(slot);
        self.serve_askers(group, now);
    }

    /// Puts an event where the consumer's `next` finds it.
    pub(crate) fn tell(&mut self, slot: u32, event: Event) {
        let consumer = &mut self.consumers[slot];
        if matches!(consumer.link, Link::Up | Link::Cut) {
            consumer.outbox.push_back(event);
            self.wake(slot);
        }
    }

    /// The consumer wants no right any more; what it holds stays.
    pub(crate) fn leave_for_good(&mut self, slot: u32, now: Moment) {
        self.consumers[slot].leaving = true;
        self.leave(slot, now);
        self.named_are_over(slot, || error::closed("accept"));
    }

    /// The connection ended and both sides know: all rights are free at once.
    pub(crate) fn cut(&mut self, slot: u32, now: Moment) {
        self.reconnect_silent(slot, now);
        self.consumers[slot].link = Link::Cut;
        self.leave(slot, now);
        self.named_are_over(slot, || error::disconnected("accept"));
        self.end_all(slot, Some(Loss::Disconnected), now);
    }

    /// The connection is there again.
    pub(crate) fn reconnect(&mut self, slot: u32, now: Moment) {
        if self.consumers[slot].link == Link::Closed {
            return;
        }
        self.reconnect_silent(slot, now);
        self.consumers[slot].link = Link::Up;
        self.join(slot, now);
        self.ask(slot);
        let group = self.consumers[slot].group;
        self.serve_askers(group, now);
        self.wake(slot);
    }

    /// A half-open connection is noticed: what the consumer believes to hold is gone.
    fn reconnect_silent(&mut self, slot: u32, now: Moment) {
        if !matches!(self.consumers[slot].link, Link::Silent(_)) {
            return;
        }
        let Link::Silent(known) = std::mem::take(&mut self.consumers[slot].link) else { return };
        for (grant, lease) in known {
            lease.end();
            self.tell(slot, Event::Lost { grant, why: Loss::Disconnected });
        }
        self.end_all(slot, None, now);
    }

    /// Nothing passes in either direction from now on, and neither side knows.
    pub(crate) fn silence(&mut self, slot: u32) {
        if self.consumers[slot].link != Link::Up {
            return;
        }
        // It hears of that when it is connected again.
        self.named_are_over(slot, || error::disconnected("accept"));
        let mine = self.locks.slots(|holding| holding.consumer == slot);
        let known = mine.iter().filter_map(|lock| self.locks.get(*lock).known()).collect();
        self.consumers[slot].link = Link::Silent(known);
    }

    /// The consumer says that it ends. What it has not given back runs out by itself.
    pub(crate) fn close_consumer(&mut self, slot: u32, now: Moment) {
        if self.consumers[slot].link == Link::Closed {
            return;
        }
        self.named_are_over(slot, || error::closed("accept"));
        self.consumers[slot].link = Link::Closed;
        self.leave(slot, now);
        self.wake(slot);
    }

    /// The handle of a consumer is gone: without a close before, like a connection that dies.
    pub(crate) fn drop_consumer(&mut self, slot: u32, now: Moment) {
        self.consumers[slot].dropped = true;
        if self.frozen {
            // Nothing moves; `thaw` comes back to it.
            return;
        }
        if self.consumers[slot].link != Link::Closed {
            self.close_consumer(slot, now);
            self.end_all(slot, None, now);
        }
        self.forget_if_gone(slot);
    }

    /// Forgets a consumer whose handle is gone, once it holds nothing.
    pub(super) fn forget_if_gone(&mut self, slot: u32) {
        let consumer = &self.consumers[slot];
        if !consumer.dropped || consumer.holds > 0 || consumer.link != Link::Closed {
            return;
        }
        let group = &mut self.groups[consumer.group as usize];
        group.askers.retain(|asker| *asker != slot);
        group.members.retain(|member| *member != slot);
        self.consumers.remove(slot);
    }

    fn end_all(&mut self, slot: u32, why: Option<Loss>, now: Moment) {
        let group = self.consumers[slot].group;
        for lock in self.locks.slots(|holding| holding.consumer == slot) {
            self.end(lock, why, true, now);
        }
        self.share_lanes(group, now);
    }

    /// The broker stands still: it answers nothing and moves nothing.
    pub(crate) fn freeze(&mut self) {
        self.frozen = true;
    }

    /// The broker goes on: first what was asked meanwhile is done, then what ran out meanwhile ends.
    pub(crate) fn thaw(&mut self, now: Moment) {
        self.frozen = false;
        for slot in 0..self.consumers.end() {
            for (asked_at, command) in std::mem::take(&mut self.consumers[slot].held_back) {
                // With its last lock a consumer that was dropped is forgotten.
                if self.consumers[slot].id > 0 {
                    self.command(slot, command, asked_at, now);
                }
            }
            if self.consumers[slot].dropped {
                self.drop_consumer(slot, now);
            }
            self.wake(slot);
        }
        for (outcomes, run) in std::mem::take(&mut self.held_back) {
            let Some(sent) = self.take_run(&outcomes, run, now) else { continue };
            // Its sender may have stopped waiting for this answer.
            let fate = if sent.outcome.is_ok() { Fate::Landed } else { Fate::Never };
            self.fates.entry((outcomes.id(), sent.ticket)).or_insert(fate);
            self.report(outcomes, sent);
        }
    }

    /// Carries out what a consumer asks for, or keeps it while the broker stands still.
    pub(crate) fn take_commands(&mut self, slot: u32, commands: &mut Vec<Command>, now: Moment) {
        self.advance(now);
        for command in commands.drain(..) {
            match self.consumers[slot].link {
                Link::Silent(_) => self.unheard(slot, command),
                _ if self.frozen => self.consumers[slot].held_back.push((now, command)),
                _ => self.command(slot, command, now, now),
            }
        }
    }

    /// What a half-open consumer says is lost, but its wishes are told again when it is connected again.
    fn unheard(&mut self, slot: u32, command: Command) {
        let consumer = &mut self.consumers[slot];
        match command {
            Command::Accept { wanted } => consumer.wanted = wanted,
            Command::Leave => consumer.leaving = true,
            Command::AcceptNamed { session, .. } => {
                consumer.outbox.push_back(Event::Denied { session, error: error::disconnected("accept") });
            }
            _ => {}
        }
    }

    /// The group of a consumer that holds this session under this grant.
    pub(crate) fn fence_state(&self, slot: u32, grant: Grant, session: &convoy_core::SessionId) -> Option<u32> {
        let holding = self.locks.get(self.held(slot, grant)?);
        match (holding.spot, &self.log) {
            (Spot::Session(s), super::Log::Sessions(log)) if log.find(session) == Some(s) => Some(holding.group),
            _ => None,
        }
    }

    /// Holds an event back until `at`.
    pub(crate) fn tell_at(&mut self, slot: u32, event: Event, at: Moment) {
        let id = self.consumers[slot].id;
        self.timers.add(at, Timer::Tell { consumer: slot, id, event });
        self.arm(at);
    }

    /// The spot that `grant` covers, if this consumer holds it.
    pub(crate) fn held(&self, slot: u32, grant: Grant) -> Option<u32> {
        let lock = self.locks.find(grant)?;
        (slot != NONE && self.locks.get(lock).consumer == slot).then_some(lock)
    }
}
