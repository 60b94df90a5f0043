//! Runs: what is handed to the broker, and its answers.

use std::sync::Arc;

use crate::backend::{Fate, Run, Sent, Ticket};
use crate::error::{Error, Outcome};
use crate::position::Position;
use crate::time::Moment;

use super::bugs::bug;
use super::list::NIL;
use super::nodes::State;
use super::pipeline::{Pipeline, Receipt, SendId};

/// So many bits of a ticket say which session it is of.
const SLOT_BITS: u32 = 28;

impl Pipeline {
    /// Hands out what may go to the broker: of each session at most one run, the sessions in the order in which they became ready.
    pub fn take_runs(&mut self, into: &mut Vec<Run>) {
        while let Some(session) = self.ready.pop_front() {
            // A slot may be stale: its session may have halted, or be another one by now.
            if std::mem::take(&mut self.sessions.items[session as usize].ready) {
                self.cut(session, into);
            }
        }
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
    pub(super) fn first_out(&self, session: u32, run: u64) -> Option<u32> {
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
}

/// What the answer to a run that was given up as unknown says of it.
fn late(outcome: &Result<Option<Position>, Error>) -> Fate {
    match outcome {
        Ok(_) => Fate::Landed,
        Err(error) if error.outcome() == Outcome::NotApplied => Fate::Never,
        Err(_) => Fate::Unknown,
    }
}
