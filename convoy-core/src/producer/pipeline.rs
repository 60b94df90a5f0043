//! The state machine: a queue a session, one run of it out at a time, and a halt after a failure.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::{Fate, Run, Sent, Ticket};
use crate::error::{Error, ErrorKind, Outcome};
use crate::message::{Content, MessageId, ProducerId, Stamp};
use crate::position::Position;
use crate::session::SessionId;
use crate::time::Moment;

use super::error::SendError;
use super::list::NIL;
use super::nodes::{Node, Nodes, State};
use super::options::Options;
use super::sessions::{Halt, Sessions};

/// Whether the named defect is switched on; without the feature, `false`.
#[cfg(feature = "seeded-bugs")]
macro_rules! bug {
    ($self:expr, $name:ident) => {
        $self.options.bug == Some(super::ProducerBug::$name)
    };
}
#[cfg(not(feature = "seeded-bugs"))]
macro_rules! bug {
    ($self:expr, $name:ident) => {
        false
    };
}
pub(super) use bug;

/// Names one send: a message sent again after a halt gets another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SendId {
    pub(super) serial: u64,
    pub(super) slot: u32,
}

/// A confirmed send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Where the message stands in its session, where the broker tells it. Of messages that it took as one, only the last has it.
    pub position: Option<Position>,
    /// The message's id.
    pub id: MessageId,
    /// Its number in its producer's count.
    pub number: u64,
}

/// The producer without clock, I/O and runtime: messages in, runs and outcomes out.
///
/// After every call, take the runs with [`take_runs`](Self::take_runs) and the outcomes with [`take_outcomes`](Self::take_outcomes); call
/// [`tick`](Self::tick) at [`next_deadline`](Self::next_deadline).
#[derive(Debug)]
pub struct Pipeline {
    pub(super) options: Options,
    producer: ProducerId,
    pub(super) sessions: Sessions,
    pub(super) nodes: Nodes,
    ready: VecDeque<u32>,
    outcomes: Vec<(SendId, Result<Receipt, SendError>)>,
    pub(super) queued: Load,
    /// What halted sessions keep.
    pub(super) held: Load,
    numbers: u64,
    pub(super) serials: u64,
    runs: u64,
    halts: u64,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    messages: usize,
    bytes: usize,
}

impl Load {
    pub(super) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn sub(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// So many bits of a ticket say which session it is of.
const SLOT_BITS: u32 = 28;

impl Pipeline {
    /// An empty pipeline of this producer incarnation.
    #[must_use]
    pub fn new(options: Options, producer: ProducerId) -> Self {
        Self {
            options: options.within_reason(),
            producer,
            sessions: Sessions::new(),
            nodes: Nodes::new(),
            ready: VecDeque::new(),
            outcomes: Vec::new(),
            queued: Load::default(),
            held: Load::default(),
            numbers: 0,
            serials: 0,
            runs: 0,
            halts: 0,
            closed: false,
        }
    }

    /// Queues a message behind the others of its session and stamps it.
    ///
    /// # Errors
    /// Certainly not applied, and the message is in the error: [`Backpressure`](ErrorKind::Backpressure) when the bounds are met and
    /// [`TooLarge`](ErrorKind::TooLarge), which both halt the session; [`Halted`](ErrorKind::Halted) when it is; [`Closed`](ErrorKind::Closed).
    /// Backpressure because of what halted sessions keep halts nothing; its [`place`](SendError::place) is `None`.
    pub fn enqueue(
        &mut self,
        now: Moment,
        session: SessionId,
        content: Content,
        deadline: Moment,
    ) -> Result<SendId, SendError> {
        let room = self.has_room_for(content.size());
        self.put(now, session, content, deadline, room)
    }

    /// As [`enqueue`](Self::enqueue), over the bounds: for the rest of a batch that was let in.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), but for the bounds on what is queued.
    pub fn enqueue_over(
        &mut self,
        now: Moment,
        session: SessionId,
        content: Content,
        deadline: Moment,
    ) -> Result<SendId, SendError> {
        self.put(now, session, content, deadline, true)
    }

    /// Whether a message of this size would be let in.
    #[must_use]
    pub fn has_room_for(&self, size: usize) -> bool {
        let Load { messages, bytes } = self.queued;
        let fits = messages == 0 || bytes.saturating_add(size) <= self.options.max_queued_bytes;
        messages < self.options.max_queued && fits && !self.is_choked()
    }

    /// Whether no more than half of the bounds is used.
    #[must_use]
    pub fn is_roomy(&self) -> bool {
        let Load { messages, bytes } = self.queued;
        let half = messages <= self.options.max_queued / 2 && bytes <= self.options.max_queued_bytes / 2;
        half && !self.is_choked()
    }

    /// Hands out what may go to the broker: of each session at most one run, the sessions in the order in which they became ready.
    pub fn take_runs(&mut self, into: &mut Vec<Run>) {
        while let Some(session) = self.ready.pop_front() {
            // A slot may be stale: its session may have halted, or be another one by now.
            if std::mem::take(&mut self.sessions.items[session as usize].ready) {
                self.cut(session, into);
            }
        }
    }

    /// How sends ended, oldest first.
    pub fn take_outcomes(&mut self) -> std::vec::Drain<'_, (SendId, Result<Receipt, SendError>)> {
        self.outcomes.drain(..)
    }

    /// A run was answered. An answer after the run's time-out is recorded with the kept messages, and is no outcome any more.
    pub fn on_sent(&mut self, now: Moment, sent: Sent) {
        let Sent { ticket, outcome } = sent;
        let Some(session) = self.session_of(ticket) else { return };
        let Some(first) = self.first_out(session, ticket.0) else {
            return self.learn(ticket, late(&outcome));
        };
        match outcome {
            Ok(position) => self.confirm(now, session, first, position),
            Err(error) if bug!(self, UnknownTakenForOk) && error.outcome() == Outcome::Unknown => {
                self.confirm(now, session, first, None);
            }
            Err(error) => self.halt(now, session, first, Some(ticket), error),
        }
    }

    /// Ends what is out of time, and forgets what was idle for long.
    pub fn tick(&mut self, now: Moment) {
        while let Some((n, node)) = self.nodes.first_due().filter(|(_, node)| node.deadline <= now) {
            let (session, run) = (node.session, node.run);
            if node.state == State::Out {
                // A run ends as one.
                let first = self.first_out(session, run).unwrap_or(n);
                let why = "the broker did not answer within the send time-out";
                let error = Error::new(ErrorKind::OutcomeUnknown, "send").because(why);
                self.halt(now, session, first, Some(Ticket(run)), error);
            } else {
                let why = "the message was still queued when the send time-out was over";
                let error = Error::new(ErrorKind::Timeout, "send").because(why).with_outcome(Outcome::NotApplied);
                self.halt(now, session, n, None, error);
            }
        }
        while self.sessions.idle_since().is_some_and(|since| since + self.options.remember_for <= now) {
            self.sessions.forget_oldest();
        }
    }

    /// When [`tick`](Self::tick) has to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Moment {
        let due = self.nodes.first_due().map_or(Moment::NEVER, |(_, node)| node.deadline);
        let idle = self.sessions.idle_since().map_or(Moment::NEVER, |since| since + self.options.remember_for);
        due.min(idle)
    }

    /// Refuses sends from now on; what is queued goes on.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether sends are refused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Ends everything: what is out is unknown, what waits is not applied. The messages are kept with their halted sessions.
    pub fn stop(&mut self, now: Moment, why: &str) {
        self.closed = true;
        for session in 0..self.sessions.items.len() as u32 {
            let first = self.sessions.items[session as usize].queue.head;
            let Some(node) = self.nodes.items.get(first as usize) else { continue };
            match node.state {
                State::Halted { .. } => {}
                State::Out => {
                    let run = Ticket(node.run);
                    let error = Error::new(ErrorKind::OutcomeUnknown, "send").because(why);
                    self.halt(now, session, first, Some(run), error);
                }
                State::Waiting => {
                    self.halt(now, session, first, None, Error::new(ErrorKind::Closed, "send").because(why));
                }
            }
        }
    }

    /// How many messages are queued or out.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.queued.messages
    }

    /// How many messages halted sessions keep.
    #[must_use]
    pub fn kept_messages(&self) -> usize {
        self.held.messages
    }

    /// How many sessions are known: with messages, or remembered.
    #[must_use]
    pub fn known_sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The pending send that runs out of time first: with one time-out for all, the oldest.
    #[must_use]
    pub fn oldest_pending(&self) -> Option<SendId> {
        self.nodes.first_due().map(|(slot, node)| SendId { serial: node.serial, slot })
    }

    /// What a pending send carries, with its stamp.
    #[must_use]
    pub fn content(&self, send: SendId) -> Option<&Arc<Content>> {
        let node = self.nodes.items.get(send.slot as usize)?;
        (node.serial == send.serial).then_some(node.content.as_ref()).flatten()
    }

    fn put(
        &mut self,
        now: Moment,
        id: SessionId,
        mut content: Content,
        deadline: Moment,
        room: bool,
    ) -> Result<SendId, SendError> {
        let size = content.size();
        if self.closed {
            return Err(SendError::refused(id, Arc::new(content), Error::new(ErrorKind::Closed, "send")));
        }
        let halt = self.sessions.find(&id).and_then(|at| self.sessions.items[at as usize].halt.as_ref());
        if let Some(halt) = halt.filter(|_| !bug!(self, AcceptsWhileHalted)) {
            let cause = Arc::clone(&halt.cause);
            return Err(SendError::new(ErrorKind::Halted, Outcome::NotApplied, id, Arc::new(content), None, cause));
        }
        if self.is_choked() {
            let why = "halted sessions keep as many messages as the producer may hold; resume some";
            let error = Error::new(ErrorKind::Backpressure, "send").because(why);
            return Err(SendError::refused(id, Arc::new(content), error));
        }

        self.numbers += 1;
        self.serials += 1;
        let (number, serial) = (self.numbers, self.serials);
        let at = self.sessions.join(&id);
        let session = &mut self.sessions.items[at as usize];
        let (prev, skipped) = (session.last, std::mem::take(&mut session.skipped));
        session.last = number;
        content.set_stamp(Stamp { producer: self.producer, number, prev, skipped });
        let node = Node::new(Arc::new(content), at, serial, number, deadline, State::Waiting);
        let n = self.nodes.insert(node);
        let tail = session.queue.tail;
        session.queue.insert_after(&mut self.nodes.items, |n| &mut n.link, tail, n);
        self.nodes.watch(n);
        self.queued.add(size);
        let send = SendId { serial, slot: n };

        if size > self.options.max_message || !room {
            let error = if room { self.too_large(size) } else { self.no_room() };
            self.halt(now, at, n, None, error);
            // The last outcome is the one of this send: told here, it is none of the others'.
            if let Some((_, Err(error))) = self.outcomes.pop_if(|(told, _)| *told == send) {
                return Err(error);
            }
        } else {
            self.make_ready(at);
        }
        Ok(send)
    }

    /// The session in the slot that the ticket names: the ticket's own, or a later one.
    pub(super) fn session_of(&self, ticket: Ticket) -> Option<u32> {
        let slot = (ticket.0 & ((1 << SLOT_BITS) - 1)) as u32;
        self.sessions.items.get(slot as usize)?.id.as_ref().map(|_| slot)
    }

    /// Hands out the head of a session's queue.
    fn cut(&mut self, session: u32, into: &mut Vec<Run>) {
        let state = &mut self.sessions.items[session as usize];
        let Some(id) = &state.id else { return };
        let mut n = state.queue.head;
        while n != NIL && self.nodes.items[n as usize].state != State::Waiting {
            n = self.nodes.items[n as usize].link.next;
        }
        self.runs += 1;
        let ticket = Ticket((self.runs << SLOT_BITS) | u64::from(session));
        let mut messages = Vec::new();
        let mut bytes = 0usize;
        let mut until = Moment::NEVER;
        while n != NIL && messages.len() < self.options.max_run {
            let node = &mut self.nodes.items[n as usize];
            bytes = bytes.saturating_add(node.size);
            let fits = messages.is_empty() || bytes <= self.options.max_message;
            if node.state != State::Waiting || !fits {
                break;
            }
            let Some(content) = &node.content else { break };
            if messages.is_empty() {
                let more = self.options.max_run > 1 && node.link.next != NIL;
                messages.reserve_exact(if more { self.options.max_run.min(16) } else { 1 });
            }
            messages.push(Arc::clone(content));
            node.state = State::Out;
            node.run = ticket.0;
            until = until.min(node.deadline - self.options.answer_margin);
            n = node.link.next;
        }
        if !messages.is_empty() {
            state.out += messages.len() as u32;
            into.push(Run { ticket, session: id.clone(), messages, until });
            if bug!(self, TwoRunsOut) {
                self.make_ready(session);
            }
        }
    }

    pub(super) fn make_ready(&mut self, session: u32) {
        let state = &mut self.sessions.items[session as usize];
        if !state.ready && (state.out == 0 || bug!(self, TwoRunsOut)) {
            state.ready = true;
            self.ready.push_back(session);
        }
    }

    /// The first message of this run that is out.
    fn first_out(&self, session: u32, run: u64) -> Option<u32> {
        let mut n = self.sessions.items[session as usize].queue.head;
        while n != NIL {
            let node = &self.nodes.items[n as usize];
            match node.state {
                State::Waiting => return None,
                State::Out if node.run == run => return Some(n),
                _ => n = node.link.next,
            }
        }
        None
    }

    fn confirm(&mut self, now: Moment, session: u32, first: u32, position: Option<Position>) {
        let run = self.nodes.items[first as usize].run;
        let mut n = first;
        while n != NIL {
            let node = &self.nodes.items[n as usize];
            if node.state != State::Out || node.run != run {
                break;
            }
            let (number, size, send) = (node.number, node.size, SendId { serial: node.serial, slot: n });
            let next = node.link.next;
            let is_last = self.nodes.items.get(next as usize).is_none_or(|next| next.run != run);
            self.nodes.unwatch(n);
            self.queued.sub(size);
            let state = &mut self.sessions.items[session as usize];
            state.out -= 1;
            state.queue.remove(&mut self.nodes.items, |n| &mut n.link, n);
            if let Some(content) = self.nodes.free(n) {
                let receipt = Receipt { position: position.filter(|_| is_last), id: content.id(), number };
                self.outcomes.push((send, Ok(receipt)));
            }
            n = next;
        }
        if self.sessions.items[session as usize].queue.is_empty() {
            self.sessions.became_idle(now, session, self.options.remember);
        } else {
            self.make_ready(session);
        }
    }

    /// `first`, with all of its run if that was out, failed. What is behind it fails as not applied.
    pub(super) fn halt(&mut self, now: Moment, session: u32, first: u32, run: Option<Ticket>, error: Error) {
        let (kind, outcome) = (error.kind(), error.outcome());
        let cause = Arc::new(error);
        let holds = self.holds(outcome);
        let (mut n, mut place) = (first, 0);
        while n != NIL {
            let node = &self.nodes.items[n as usize];
            let (next, state) = (node.link.next, node.state);
            let own = n == first || (state == State::Out && run == Some(Ticket(node.run)));
            if own {
                self.fail(n, place, kind, outcome, &cause);
            } else if !state.is_halted() && holds {
                self.fail(n, place, ErrorKind::Halted, Outcome::NotApplied, &cause);
            }
            place += 1;
            n = next;
        }
        self.halts += 1;
        let unknown = run.filter(|_| outcome == Outcome::Unknown);
        let state = &mut self.sessions.items[session as usize];
        state.halt = Some(Box::new(Halt { serial: self.halts, since: now, cause, unknown }));
        if !holds {
            self.make_ready(session);
        }
    }

    /// Tells the outcome of a message and keeps it.
    fn fail(&mut self, n: u32, place: usize, kind: ErrorKind, outcome: Outcome, cause: &Arc<Error>) {
        self.nodes.unwatch(n);
        let node = &mut self.nodes.items[n as usize];
        let session = &mut self.sessions.items[node.session as usize];
        if node.state == State::Out {
            session.out -= 1;
        }
        let fate = if outcome == Outcome::Unknown { Fate::Unknown } else { Fate::Never };
        node.state = State::Halted { kind, fate };
        self.queued.sub(node.size);
        self.held.add(node.size);
        if let (Some(id), Some(content)) = (&session.id, &node.content) {
            let (id, content) = (id.clone(), Arc::clone(content));
            let error = SendError::new(kind, outcome, id, content, Some(place), Arc::clone(cause));
            self.outcomes.push((SendId { serial: node.serial, slot: n }, Err(error)));
        }
    }

    /// Whether a failure stops what is behind it; only a seeded bug says no.
    fn holds(&self, outcome: Outcome) -> bool {
        let _ = outcome;
        !(bug!(self, OvertakesAfterFailure) || (bug!(self, HaltForgottenAfterTimeout) && outcome == Outcome::Unknown))
    }

    fn is_choked(&self) -> bool {
        self.held.messages >= self.options.max_queued || self.held.bytes >= self.options.max_queued_bytes
    }

    pub(super) fn too_large(&self, size: usize) -> Error {
        let most = self.options.max_message;
        Error::new(ErrorKind::TooLarge, "send")
            .because(format!("the message has {size} bytes, the broker takes {most}"))
    }

    fn no_room(&self) -> Error {
        let Load { messages, bytes } = self.queued;
        let why = format!("{messages} messages ({bytes} bytes) are queued, which is as many as the producer may hold");
        Error::new(ErrorKind::Backpressure, "send").because(why)
    }
}

/// What the answer to a run that was given up as unknown says of it.
fn late(outcome: &Result<Option<Position>, Error>) -> Fate {
    match outcome {
        Ok(_) => Fate::Landed,
        Err(error) if error.outcome() == Outcome::NotApplied => Fate::Never,
        Err(_) => Fate::Unknown,
    }
}
