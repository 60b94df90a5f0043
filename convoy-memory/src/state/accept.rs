//! Session mode: who wants which session, and who gets it.

use std::collections::VecDeque;

use convoy_core::backend::{Event, Place, Recovered};
use convoy_core::{Moment, Position, SessionId};

use super::locks::Granted;
use super::{Group, Log, NONE, Spot, State, Timer};
use crate::error;

/// Somebody who waits for a session by name.
#[derive(Debug)]
pub(crate) struct Waiter {
    consumer: u32,
    number: u64,
}

impl State {
    /// A session without holder is for whoever waits for it by name, or for the next who asks if it has messages.
    pub(super) fn offer(&mut self, group: u32, session: u32, now: Moment) {
        if !self.groups[group as usize].reserved.is_empty() && self.is_reserved(group, session, now) {
            return;
        }
        let of_group = &mut self.groups[group as usize];
        if !of_group.named.is_empty()
            && let Some(waiters) = of_group.named.get_mut(&session)
            && let Some(waiter) = waiters.pop_front()
        {
            if waiters.is_empty() {
                of_group.named.remove(&session);
            }
            self.timers.cancel(waiter.number);
            self.grant_session(group, session, waiter.consumer, false, now);
            if let Log::Sessions(log) = &mut self.log {
                log.sessions[session].holds -= 1;
            }
            return;
        }
        let it = &mut of_group.sessions[session as usize];
        if it.first != NONE && !it.ready {
            it.ready = true;
            of_group.ready.push_back(&mut of_group.sessions, session);
            self.serve_askers(group, now);
        }
    }

    /// Whether a fault keeps a free session for one consumer; it is given to it as soon as it asks for one.
    fn is_reserved(&mut self, group: u32, session: u32, now: Moment) -> bool {
        let reserved = &mut self.groups[group as usize].reserved;
        let Some(at) = reserved.iter().position(|(s, _)| *s == session) else { return false };
        let consumer = reserved[at].1;
        let open = self.consumers[consumer].open_requests() > 0;
        if open || self.consumers[consumer].may_win().is_err() {
            reserved.remove(at);
        }
        if open {
            self.grant_session(group, session, consumer, true, now);
        }
        open || self.consumers[consumer].may_win().is_ok()
    }

    /// Offers what was kept for one consumer: it may have asked, or gone.
    pub(super) fn serve_reserved(&mut self, group: u32, now: Moment) {
        for (session, _) in self.groups[group as usize].reserved.clone() {
            if self.groups[group as usize].sessions[session as usize].lock == NONE {
                self.offer(group, session, now);
            }
        }
    }

    /// Deals free sessions to open requests, the oldest to the oldest.
    pub(crate) fn serve_askers(&mut self, group: u32, now: Moment) {
        if !self.groups[group as usize].reserved.is_empty() {
            self.serve_reserved(group, now);
        }
        while !self.groups[group as usize].ready.is_empty() {
            let of_group = &mut self.groups[group as usize];
            let Some(consumer) = of_group.askers.pop_front() else { return };
            self.consumers[consumer].asking = false;
            if self.consumers[consumer].open_requests() == 0 {
                continue;
            }
            let Some(session) = of_group.ready.pop_front(&mut of_group.sessions) else { return };
            of_group.sessions[session as usize].ready = false;
            self.grant_session(group, session, consumer, true, now);
            self.ask(consumer);
        }
    }

    /// Puts a consumer that has open requests among those who ask.
    pub(super) fn ask(&mut self, slot: u32) {
        let consumer = &mut self.consumers[slot];
        if !consumer.asking && consumer.open_requests() > 0 {
            consumer.asking = true;
            self.groups[consumer.group as usize].askers.push_back(slot);
        }
    }

    /// Gives a free session to a consumer; `asked` when it asked for any.
    pub(crate) fn grant_session(&mut self, group: u32, session: u32, consumer: u32, asked: bool, now: Moment) {
        let of_group = &mut self.groups[group as usize];
        if !of_group.reserved.is_empty() {
            of_group.reserved.retain(|(s, _)| *s != session);
        }
        if of_group.sessions[session as usize].ready {
            of_group.sessions[session as usize].ready = false;
            of_group.ready.remove(&mut of_group.sessions, session);
        }
        let Log::Sessions(log) = &mut self.log else { return };
        log.sessions[session].holds += 1;
        let place = Place::Session(log.id(session));
        let first = of_group.sessions[session as usize].first;
        let start = if first == NONE { log.next_position } else { log.nodes[first].position };
        let mut recovered = Recovered::default();
        recovered.unclean = of_group.sessions[session as usize].unclean;
        let Granted { lock, grant, lease } = self.lock(consumer, Spot::Session(session), &place, now);
        self.groups[group as usize].sessions[session as usize].lock = lock;
        let start = Position::new(start);
        self.consumers[consumer].queued += u32::from(asked);
        self.tell(consumer, Event::Granted { grant, place, start, recovered, lease });
        if first != NONE {
            self.mark_hot(lock);
        }
    }

    /// A consumer wants this session, and waits for it until then.
    pub(crate) fn accept_named(&mut self, consumer: u32, session: SessionId, until: Moment, now: Moment) {
        let group = self.consumers[consumer].group;
        let refused = match (&self.log, self.consumers[consumer].may_win()) {
            (Log::Lanes(_), _) => Some(error::named_on_lanes()),
            (Log::Sessions(_), may) => may.err(),
        };
        if let Some(error) = refused {
            return self.tell(consumer, Event::Denied { session, error });
        }
        let Log::Sessions(log) = &mut self.log else { return };
        let slot = log.intern(&session, &mut self.groups);
        if self.groups[group as usize].sessions[slot as usize].lock == NONE {
            return self.grant_session(group, slot, consumer, false, now);
        }
        if until <= now {
            return self.tell(consumer, Event::Denied { session, error: error::not_in_time() });
        }
        log.sessions[slot].holds += 1;
        let number = self.timers.add(until, Timer::Named { group, session: slot });
        self.groups[group as usize].named.entry(slot).or_default().push_back(Waiter { consumer, number });
        self.arm(until);
    }

    /// The limit of somebody who waits for a session by name is over.
    pub(super) fn named_is_over(&mut self, group: u32, session: u32, number: u64, error: convoy_core::Error) {
        let of_group = &mut self.groups[group as usize];
        let Some(waiters) = of_group.named.get_mut(&session) else { return };
        let Some(at) = waiters.iter().position(|w| w.number == number) else { return };
        let Some(waiter) = waiters.remove(at) else { return };
        if waiters.is_empty() {
            of_group.named.remove(&session);
        }
        let Log::Sessions(log) = &mut self.log else { return };
        let id = log.id(session);
        log.sessions[session].holds -= 1;
        log.forget_if_idle(session, &mut self.groups);
        self.tell(waiter.consumer, Event::Denied { session: id, error });
    }

    /// Ends all waiting of a consumer that is not connected any more.
    pub(super) fn named_are_over(&mut self, consumer: u32, error: impl Fn() -> convoy_core::Error) {
        let group = self.consumers[consumer].group;
        let waits = self.groups[group as usize].named.iter();
        let of_consumer = |w: &&Waiter| w.consumer == consumer;
        let mut mine: Vec<(u64, u32)> =
            waits.flat_map(|(s, ws)| ws.iter().filter(of_consumer).map(|w| (w.number, *s))).collect();
        mine.sort_unstable();
        for (number, session) in mine {
            self.timers.cancel(number);
            self.named_is_over(group, session, number, error());
        }
    }
}

impl Group {
    pub(crate) fn free_sessions(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn waiting_by_name(&self) -> usize {
        self.named.values().map(VecDeque::len).sum()
    }
}
