//! A failure: what failed is told and kept, and what is behind it is held back.

use std::sync::Arc;

use crate::backend::{Fate, Ticket};
use crate::error::{Error, ErrorKind, Outcome};
use crate::time::Moment;

use super::bugs::bug;
use super::error::SendError;
use super::list::NIL;
use super::nodes::State;
use super::pipeline::{Pipeline, SendId};
use super::sessions::Halt;

impl Pipeline {
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
        let forgotten = bug!(self, HaltForgottenAfterTimeout) && outcome == Outcome::Unknown;
        !forgotten && !bug!(self, OvertakesAfterFailure)
    }
}
