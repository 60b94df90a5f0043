//! Session mode: a log a session, and how far each group is with it.

use std::hash::BuildHasher;
use std::sync::Arc;

use convoy_core::{Content, Moment, SessionId};
use hashbrown::HashTable;

use super::done::HandOvers;
use super::slab::{Link, Linked};
use super::{Group, KEPT, Log, NONE, Slab, Spot, State, Stored};

/// All sessions that have messages, a lock or somebody who waits for them; all others are forgotten.
#[derive(Debug)]
pub(crate) struct SessionLog {
    /// Slots by session id.
    index: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    pub(super) sessions: Slab<Session>,
    pub(super) nodes: Slab<Node>,
    /// The position of the next message; one count for all sessions, so that a forgotten session goes on above where it was.
    pub(super) next_position: u64,
}

#[derive(Debug)]
pub(super) struct Session {
    /// None in a free slot.
    id: Option<SessionId>,
    hash: u64,
    head: u32,
    tail: u32,
    /// Locks and waiters, over all groups.
    pub(super) holds: u32,
}

/// A message and the next one of its session.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) position: u64,
    next: u32,
    /// Groups that have not settled it.
    groups: u32,
    stored: Option<Stored>,
}

/// What a group knows of a session.
#[derive(Debug)]
pub(crate) struct GroupSession {
    /// The first message that is not settled.
    pub(super) first: u32,
    /// The next to deliver to the holder.
    pub(super) cursor: u32,
    /// The lock, if somebody holds it.
    pub(crate) lock: u32,
    /// Whether it stands in the list of free sessions.
    pub(super) ready: bool,
    /// Whether the holder before ended without giving it back.
    pub(super) unclean: bool,
    link: Link,
    hand_overs: HandOvers,
}

impl Default for Session {
    fn default() -> Self {
        Self { id: None, hash: 0, head: NONE, tail: NONE, holds: 0 }
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
        let (index, hasher) = (HashTable::new(), foldhash::fast::RandomState::default());
        Self { index, hasher, sessions: Slab::new(), nodes: Slab::new(), next_position: 1 }
    }

    pub(crate) fn find(&self, id: &SessionId) -> Option<u32> {
        self.find_hashed(id, self.hasher.hash_one(id))
    }

    fn find_hashed(&self, id: &SessionId, hash: u64) -> Option<u32> {
        let same = |slot: &u32| self.sessions[*slot].hash == hash && self.sessions[*slot].id.as_ref() == Some(id);
        self.index.find(hash, same).copied()
    }

    /// How many sessions are remembered.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
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

    pub(super) fn intern(&mut self, id: &SessionId, groups: &mut [Group]) -> u32 {
        let hash = self.hasher.hash_one(id);
        if let Some(slot) = self.find_hashed(id, hash) {
            return slot;
        }
        let slot = self.sessions.insert(Session { id: Some(id.clone()), hash, ..Session::default() });
        self.index.insert_unique(hash, slot, |slot| self.sessions[*slot].hash);
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

    pub(super) fn forget_if_idle(&mut self, slot: u32, groups: &mut [Group]) {
        let session = &self.sessions[slot];
        if session.head != NONE || session.holds > 0 {
            return;
        }
        if let Ok(entry) = self.index.find_entry(session.hash, |at| *at == slot) {
            entry.remove();
        }
        self.sessions.remove(slot);
        let all_gone = self.index.is_empty() && self.index.capacity() > KEPT;
        for group in groups {
            group.sessions[slot as usize] = GroupSession::default();
            if !group.reserved.is_empty() {
                group.reserved.retain(|(session, _)| *session != slot);
            }
            if all_gone {
                group.sessions = Vec::new();
            }
        }
        if all_gone {
            self.index = HashTable::new();
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
            holding.out = holding.out.saturating_sub(1);
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
}
