//! Sessions that stand still after a failure: what they keep, and how they go on.

use std::sync::Arc;

use crate::backend::{Fate, Ticket};
use crate::error::{Error, ErrorKind};
use crate::message::Message;
use crate::session::SessionId;
use crate::time::Moment;

use super::bugs::bug;
use super::list::NIL;
use super::nodes::State;
use super::pipeline::{Pipeline, SendId};

/// What becomes of the messages of a halted session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resume {
    /// Send all of them again, in order. One whose outcome is unknown may then arrive twice, with the same id and number; one that was confirmed
    /// late is not sent again.
    Resend,
    /// Give up those whose own send failed or is unknown, and send those that were only held back. The next message is marked as following a skip.
    Skip,
    /// Give up all of them.
    Discard,
}

/// A message that a halted session keeps.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HaltedMessage {
    /// The message, with the stamp it was given.
    pub message: Message,
    /// Its number in its producer's count.
    pub number: u64,
    /// How its own send failed; [`Halted`](ErrorKind::Halted) when it was only held back.
    pub kind: ErrorKind,
    /// What is known of it by now: [`Never`](Fate::Never) when it did not land, [`Landed`](Fate::Landed) when that was learnt after its send had been
    /// reported as unknown.
    pub fate: Fate,
}

/// A session that stands still.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HaltedSession {
    /// The session.
    pub session: SessionId,
    /// The failure that halted it.
    pub cause: Arc<Error>,
    /// When that was.
    pub since: Moment,
    /// How many messages it keeps.
    pub messages: usize,
}

/// What has to be settled before a halted session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsettled {
    /// Grows with every failure of the session: a decision about an older one is out of date.
    pub halt: u64,
    /// The run whose outcome is unknown and which may still land.
    pub ticket: Option<Ticket>,
}

impl Pipeline {
    /// The sessions that stand still.
    #[must_use]
    pub fn halted(&self) -> Vec<HaltedSession> {
        let kept = |at: u32| self.kept(at).count();
        let listed = self.sessions.items.iter().enumerate().filter_map(|(at, session)| {
            let (id, halt) = (session.id.as_ref()?, session.halt.as_ref()?);
            let (session, cause) = (id.clone(), Arc::clone(&halt.cause));
            Some(HaltedSession { session, cause, since: halt.since, messages: kept(at as u32) })
        });
        listed.collect()
    }

    /// How many sessions stand still.
    #[must_use]
    pub fn halted_count(&self) -> usize {
        self.sessions.items.iter().filter(|session| session.halt.is_some()).count()
    }

    /// The messages that a halted session keeps, in order; none when it is not halted.
    #[must_use]
    pub fn halted_messages(&self, session: &SessionId) -> Vec<HaltedMessage> {
        let Some(at) = self.sessions.find(session) else { return Vec::new() };
        let listed = self.kept(at).filter_map(|n| {
            let node = &self.nodes.items[n as usize];
            let State::Halted { kind, fate } = node.state else { return None };
            let content = node.content.as_deref()?.clone();
            let message = Message::from_parts(session.clone(), content);
            Some(HaltedMessage { message, number: node.number, kind, fate })
        });
        listed.collect()
    }

    /// What has to be settled before this session goes on; `None` when it is not halted.
    #[must_use]
    pub fn unsettled(&self, session: &SessionId) -> Option<Unsettled> {
        let halt = self.sessions.items[self.sessions.find(session)? as usize].halt.as_ref()?;
        Some(Unsettled { halt: halt.serial, ticket: halt.unknown })
    }

    /// What became of a run whose outcome was unknown: recorded with the kept messages.
    pub fn learn(&mut self, ticket: Ticket, fate: Fate) {
        let Some(at) = self.session_of(ticket) else { return };
        let Some(halt) = &mut self.sessions.items[at as usize].halt else { return };
        if halt.unknown != Some(ticket) || fate == Fate::Unknown {
            return;
        }
        halt.unknown = None;
        let mut n = self.sessions.items[at as usize].queue.head;
        while n != NIL {
            let node = &mut self.nodes.items[n as usize];
            match &mut node.state {
                State::Halted { fate: known, .. } if node.run == ticket.0 => *known = fate,
                _ => {}
            }
            n = node.link.next;
        }
    }

    /// Lets a halted session go on. What is sent again keeps its id and number and has until `deadline`; its new sends are returned, in order.
    /// Does nothing to a session that is not halted.
    ///
    /// The broker should be asked first for the fate of a run whose outcome is unknown (see [`unsettled`](Self::unsettled) and
    /// [`learn`](Self::learn)): its answer is not waited for here, and a later one is ignored.
    pub fn resume(&mut self, now: Moment, session: &SessionId, how: Resume, deadline: Moment) -> Vec<SendId> {
        let Some(at) = self.sessions.find(session) else { return Vec::new() };
        if self.sessions.items[at as usize].halt.take().is_none() {
            return Vec::new();
        }
        let kept = self.kept(at).collect::<Vec<_>>();
        let mut prev = kept.first().map_or(0, |n| self.prev_of(*n));
        let mut gap = false;
        let mut again = Vec::new();
        for n in kept {
            let node = &self.nodes.items[n as usize];
            let State::Halted { kind, fate } = node.state else { continue };
            let number = node.number;
            let given_up = match how {
                Resume::Resend => false,
                Resume::Skip => kind != ErrorKind::Halted,
                Resume::Discard => true,
            };
            if fate == Fate::Landed {
                (prev, gap) = (number, false);
                self.drop_kept(at, n);
            } else if given_up {
                gap = true;
                self.drop_kept(at, n);
            } else {
                self.restamp(n, prev);
                again.push(self.requeue(n, deadline));
                (prev, gap) = (number, false);
            }
        }
        let state = &mut self.sessions.items[at as usize];
        // What was given up behind the last one earlier is still missing there.
        (state.last, state.skipped) = (prev, state.skipped || gap);
        if bug!(self, ResendOutOfOrder) {
            self.first_to_the_back(at);
        }
        if self.sessions.items[at as usize].queue.is_empty() {
            self.sessions.became_idle(now, at, self.options.remember);
        } else {
            self.make_ready(at);
            self.refuse_too_large(now, at);
        }
        again
    }

    /// The halted messages of a session, in order.
    fn kept(&self, session: u32) -> impl Iterator<Item = u32> + '_ {
        let head = self.sessions.items[session as usize].queue.head;
        self.nodes.from(head).filter(|(_, node)| node.state.is_halted()).map(|(n, _)| n)
    }

    fn prev_of(&self, n: u32) -> u64 {
        let stamp = self.nodes.items[n as usize].content.as_ref().and_then(|c| c.stamp());
        stamp.map_or(0, |s| s.prev)
    }

    /// Its predecessor is another one when what was directly before it was given up: that is marked. An older mark stays.
    fn restamp(&mut self, n: u32, prev: u64) {
        let Some(content) = &mut self.nodes.items[n as usize].content else { return };
        let Some(mut stamp) = content.stamp() else { return };
        if stamp.prev != prev {
            (stamp.prev, stamp.skipped) = (prev, true);
            Arc::make_mut(content).set_stamp(stamp);
        }
    }

    fn requeue(&mut self, n: u32, deadline: Moment) -> SendId {
        self.serials += 1;
        let node = &mut self.nodes.items[n as usize];
        node.serial = self.serials;
        node.deadline = deadline;
        node.run = 0;
        node.state = State::Waiting;
        self.held.sub(node.size);
        self.queued.add(node.size);
        self.nodes.watch(n);
        SendId { serial: self.serials, slot: n }
    }

    fn drop_kept(&mut self, session: u32, n: u32) {
        self.held.sub(self.nodes.items[n as usize].size);
        self.sessions.items[session as usize].queue.remove(&mut self.nodes.items, |n| &mut n.link, n);
        self.nodes.free(n);
    }

    /// A message that was too large still is.
    fn refuse_too_large(&mut self, now: Moment, session: u32) {
        let mut n = self.sessions.items[session as usize].queue.head;
        while n != NIL {
            let node = &self.nodes.items[n as usize];
            if node.size > self.options.max_message {
                let cause = self.too_large(node.size);
                return self.halt(now, session, n, None, cause);
            }
            n = node.link.next;
        }
    }

    fn first_to_the_back(&mut self, session: u32) {
        let queue = &mut self.sessions.items[session as usize].queue;
        let head = queue.head;
        if head != queue.tail {
            queue.remove(&mut self.nodes.items, |n| &mut n.link, head);
            let tail = queue.tail;
            queue.insert_after(&mut self.nodes.items, |n| &mut n.link, tail, head);
        }
    }
}
