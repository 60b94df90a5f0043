//! Session mode: a log a session, locks on single sessions, and who waits for one.

use std::collections::VecDeque;
use std::sync::Arc;

use convoy_core::backend::{Event, Place, Recovered};
use convoy_core::{Content, Moment, SessionId};

use super::done::HandOvers;
use super::locks::Granted;
use super::slab::{Link, Linked};
use super::{Group, Log, Map, NONE, Slab, Spot, State, Stored, Timer};
use crate::error;

/// All sessions that have messages, a lock or somebody who waits for them; all others are forgotten.
#[derive(Debug)]
pub(crate) struct SessionLog {
    index: Map<SessionId, u32>,
    sessions: Slab<Session>,
    nodes: Slab<Node>,
    /// The position of the next message; one count for all sessions, so that a forgotten session goes on above where it was.
    next_position: u64,
}

#[derive(Debug)]
struct Session {
    /// None in a free slot.
    id: Option<SessionId>,
    head: u32,
    tail: u32,
    /// Locks and waiters, over all groups.
    holds: u32,
}

/// A message and the next one of its session.
#[derive(Debug, Default)]
struct Node {
    position: u64,
    next: u32,
    /// Groups that have not settled it.
    groups: u32,
    stored: Option<Stored>,
}

/// What a group knows of a session.
#[derive(Debug)]
pub(crate) struct GroupSession {
    /// The first message that is not settled.
    first: u32,
    /// The next to deliver to the holder.
    cursor: u32,
    /// The lock, if somebody holds it.
    pub(crate) lock: u32,
    /// Whether it stands in the list of free sessions.
    ready: bool,
    /// Whether the holder before ended without giving it back.
    unclean: bool,
    link: Link,
    hand_overs: HandOvers,
}

/// Somebody who waits for a session by name.
#[derive(Debug)]
pub(crate) struct Waiter {
    consumer: u32,
    number: u64,
}

impl Default for Session {
    fn default() -> Self {
        Self { id: None, head: NONE, tail: NONE, holds: 0 }
    }
}

impl Default for GroupSession {
    fn default() -> Self {
        Self {
            first: NONE,
            cursor: NONE,
            lock: NONE,
            ready: false,
            unclean: false,
            link: Link::default(),
            hand_overs: HandOvers::default(),
        }
    }
}

impl Linked for GroupSession {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// A message to deliver, as the log has it.
pub(super) struct Next<'a> {
    pub(super) position: u64,
    pub(super) session: &'a SessionId,
    pub(super) count: u32,
    pub(super) stored: &'a Stored,
}

impl SessionLog {
    pub(super) fn new() -> Self {
        Self { index: Map::default(), sessions: Slab::new(), nodes: Slab::new(), next_position: 1 }
    }

    pub(crate) fn find(&self, id: &SessionId) -> Option<u32> {
        self.index.get(id).copied()
    }

    /// How many sessions are remembered.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn next_position(&self) -> u64 {
        self.next_position
    }

    /// Some message that is kept.
    pub(super) fn any(&self) -> Option<(SessionId, u64, Arc<Content>)> {
        let slot = (0..self.sessions.end()).find(|slot| self.sessions[*slot].head != NONE)?;
        let node = &self.nodes[self.sessions[slot].head];
        Some((self.id(slot), node.position, Arc::clone(&node.stored.as_ref()?.content)))
    }

    pub(super) fn id(&self, slot: u32) -> SessionId {
        match &self.sessions[slot].id {
            Some(id) => id.clone(),
            None => SessionId::lone(slot, 0),
        }
    }

    /// A new group: the first one of the channel has to settle everything that is there.
    pub(super) fn join(&mut self, group: &mut Group, first: bool) {
        group.sessions.resize_with(self.sessions.end() as usize, GroupSession::default);
        if !first {
            return;
        }
        for slot in 0..self.sessions.end() {
            let mut node = self.sessions[slot].head;
            if node == NONE {
                continue;
            }
            group.sessions[slot as usize].first = node;
            group.sessions[slot as usize].cursor = node;
            group.sessions[slot as usize].ready = true;
            group.ready.push_back(&mut group.sessions, slot);
            while node != NONE {
                self.nodes[node].groups = 1;
                group.unsettled += 1;
                node = self.nodes[node].next;
            }
        }
    }

    fn intern(&mut self, id: &SessionId, groups: &mut [Group]) -> u32 {
        if let Some(slot) = self.find(id) {
            return slot;
        }
        let slot = self.sessions.insert(Session { id: Some(id.clone()), ..Session::default() });
        self.index.insert(id.clone(), slot);
        for group in groups {
            if group.sessions.len() <= slot as usize {
                group.sessions.resize_with(self.sessions.end() as usize, GroupSession::default);
            }
        }
        slot
    }

    fn push(&mut self, slot: u32, stored: Stored, groups: &mut [Group]) -> u64 {
        let position = self.next_position;
        self.next_position += 1;
        let node = Node { position, next: NONE, groups: groups.len() as u32, stored: Some(stored) };
        let node = self.nodes.insert(node);
        let session = &mut self.sessions[slot];
        match session.tail {
            NONE => session.head = node,
            tail => self.nodes[tail].next = node,
        }
        session.tail = node;
        for group in groups {
            let of_group = &mut group.sessions[slot as usize];
            group.unsettled += 1;
            if of_group.first == NONE {
                of_group.first = node;
            }
            if of_group.cursor == NONE {
                of_group.cursor = node;
            }
        }
        position
    }

    /// A group settled this message; gives it back when it was the last one.
    fn settle(&mut self, slot: u32, node: u32) -> Option<Stored> {
        self.nodes[node].groups -= 1;
        if self.nodes[node].groups > 0 {
            return None;
        }
        // Every group settles in order and later groups see a suffix, so what is settled by all is the head.
        let freed = self.nodes.remove(node);
        let session = &mut self.sessions[slot];
        session.head = freed.next;
        if session.head == NONE {
            session.tail = NONE;
        }
        freed.stored
    }

    fn forget_if_idle(&mut self, slot: u32, groups: &mut [Group]) {
        let session = &self.sessions[slot];
        if session.head != NONE || session.holds > 0 {
            return;
        }
        if let Some(id) = self.sessions.remove(slot).id {
            self.index.remove(&id);
        }
        for group in groups {
            group.sessions[slot as usize] = GroupSession::default();
        }
        if self.index.is_empty() && self.index.capacity() > 1 << 16 {
            self.index = Map::default();
        }
    }
}

impl State {
    pub(super) fn append_to_session(
        &mut self,
        session: &SessionId,
        messages: impl Iterator<Item = Stored>,
        now: Moment,
    ) -> u64 {
        let Log::Sessions(log) = &mut self.log else { return 0 };
        let slot = log.intern(session, &mut self.groups);
        let mut last = 0;
        for stored in messages {
            self.messages += 1;
            self.bytes += u64::from(stored.size);
            last = log.push(slot, stored, &mut self.groups);
        }
        for group in 0..self.groups.len() as u32 {
            match self.groups[group as usize].sessions[slot as usize].lock {
                NONE => self.offer(group, slot, now),
                lock => self.mark_hot(lock),
            }
        }
        last
    }

    /// The next message for the holder of this lock, and whether there is another.
    pub(super) fn next_of_session(&mut self, group: u32, session: u32) -> Option<Next<'_>> {
        let Log::Sessions(log) = &self.log else { return None };
        let of_group = &mut self.groups[group as usize].sessions[session as usize];
        let node = of_group.cursor;
        if node == NONE {
            return None;
        }
        let node = &log.nodes[node];
        let (Some(stored), Some(id)) = (&node.stored, &log.sessions[session].id) else { return None };
        of_group.cursor = node.next;
        let count = of_group.hand_overs.next(node.position);
        Some(Next { position: node.position, session: id, count, stored })
    }

    pub(super) fn session_has_more(&self, group: u32, session: u32) -> bool {
        self.groups[group as usize].sessions[session as usize].cursor != NONE
    }

    /// Settles everything below `watermark` that was delivered under this lock.
    pub(crate) fn settle_session(&mut self, slot: u32, watermark: u64) {
        let holding = self.locks.get_mut(slot);
        let Spot::Session(session) = holding.spot else { return };
        let watermark = watermark.min(holding.end);
        let Log::Sessions(log) = &mut self.log else { return };
        let group = &mut self.groups[holding.group as usize];
        let of_group = &mut group.sessions[session as usize];
        while of_group.first != NONE && log.nodes[of_group.first].position < watermark {
            let node = of_group.first;
            of_group.first = log.nodes[node].next;
            holding.out -= 1;
            group.unsettled -= 1;
            if let Some(stored) = log.settle(session, node) {
                self.messages -= 1;
                self.bytes -= u64::from(stored.size);
            }
        }
        of_group.hand_overs.forget_below(watermark);
        if of_group.cursor != NONE {
            self.mark_hot(slot);
        }
    }

    /// The first unsettled position of a session in a group.
    pub(crate) fn head_of_session(&self, group: u32, session: u32) -> Option<u64> {
        let Log::Sessions(log) = &self.log else { return None };
        let first = self.groups[group as usize].sessions[session as usize].first;
        (first != NONE).then(|| log.nodes[first].position)
    }

    /// A lock ended whose holder had got so far.
    pub(super) fn session_is_free(&mut self, group: u32, session: u32, end: u64, unclean: bool, now: Moment) {
        let Log::Sessions(log) = &mut self.log else { return };
        log.sessions[session].holds -= 1;
        let of_group = &mut self.groups[group as usize].sessions[session as usize];
        of_group.lock = NONE;
        of_group.unclean = unclean;
        of_group.cursor = of_group.first;
        if of_group.first != NONE {
            of_group.hand_overs.record(end, log.nodes[of_group.first].position);
        }
        self.offer(group, session, now);
        if let Log::Sessions(log) = &mut self.log {
            log.forget_if_idle(session, &mut self.groups);
        }
    }

    /// A session without holder is for whoever waits for it by name, or for the next who asks if it has messages.
    fn offer(&mut self, group: u32, session: u32, now: Moment) {
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
        let start = convoy_core::Position::new(start);
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

/// The free sessions of a group.
impl Group {
    pub(crate) fn free_sessions(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn waiting_by_name(&self) -> usize {
        self.named.values().map(VecDeque::len).sum()
    }
}
