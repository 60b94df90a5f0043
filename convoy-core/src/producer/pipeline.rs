//! The state machine: a queue a session, one run of it out at a time, and a halt after a failure.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::Ticket;
use crate::error::{Error, ErrorKind, Outcome};
use crate::message::{Content, MessageId, ProducerId, Stamp};
use crate::position::Position;
use crate::session::SessionId;
use crate::time::Moment;

use super::bugs::bug;
use super::error::SendError;
use super::load::Load;
use super::nodes::{Node, Nodes, State};
use super::options::Options;
use super::sessions::Sessions;

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
    pub(super) ready: VecDeque<u32>,
    pub(super) outcomes: Vec<(SendId, Result<Receipt, SendError>)>,
    pub(super) queued: Load,
    /// What halted sessions keep.
    pub(super) held: Load,
    numbers: u64,
    pub(super) serials: u64,
    pub(super) runs: u64,
    pub(super) halts: u64,
    /// Why sends are refused.
    closed: Option<Box<str>>,
}

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
            closed: None,
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

    /// How sends ended, oldest first.
    pub fn take_outcomes(&mut self) -> std::vec::Drain<'_, (SendId, Result<Receipt, SendError>)> {
        self.outcomes.drain(..)
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
        self.closed.get_or_insert_with(|| "the producer is closed".into());
    }

    /// Whether sends are refused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Ends everything: what is out is unknown, what waits is not applied. The messages are kept with their halted sessions.
    pub fn stop(&mut self, now: Moment, why: &str) {
        // The first reason stands.
        self.closed.get_or_insert_with(|| why.into());
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

    /// A mark behind every send so far, for [`answered_to`](Self::answered_to).
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.serials
    }

    /// Whether every send before the mark has its outcome. Exact when deadlines grow with the order of the sends, as with one time-out for all.
    #[must_use]
    pub fn answered_to(&self, mark: u64) -> bool {
        self.nodes.first_due().is_none_or(|(_, node)| node.serial > mark)
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
        if let Some(why) = &self.closed {
            let error = Error::new(ErrorKind::Closed, "send").because(&**why);
            return Err(SendError::refused(id, Arc::new(content), error));
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
