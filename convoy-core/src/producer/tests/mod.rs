//! Tests of the pipeline, rule by rule, and against a naive model.

#[cfg(feature = "seeded-bugs")]
mod bugs;
#[cfg(feature = "runtime")]
mod handle;
mod model;
mod rules;
#[cfg(feature = "runtime")]
mod scripted;

use std::time::Duration;

use super::{Options, Pipeline, Receipt, SendError, SendId};
use crate::backend::{Run, Sent, Ticket};
use crate::error::{Error, ErrorKind, Outcome};
use crate::message::{Content, ProducerId};
use crate::position::Position;
use crate::session::SessionId;
use crate::time::Moment;

fn id(name: &str) -> SessionId {
    SessionId::new(name.to_owned()).unwrap()
}

fn at(seconds: u64) -> Moment {
    Moment::ORIGIN + Duration::from_secs(seconds)
}

fn pipeline(change: impl FnOnce(&mut Options)) -> Pipeline {
    let mut options = Options::default();
    change(&mut options);
    Pipeline::new(options, ProducerId::from_u128(7))
}

/// Sends a body to a session at second 0, to be sent by second 30.
fn send(pipeline: &mut Pipeline, session: &str, body: &str) -> Result<SendId, SendError> {
    pipeline.enqueue(at(0), id(session), Content::new(body.to_owned()), at(30))
}

fn runs(pipeline: &mut Pipeline) -> Vec<Run> {
    let mut runs = Vec::new();
    pipeline.take_runs(&mut runs);
    runs
}

fn bodies(run: &Run) -> Vec<&str> {
    run.messages.iter().map(|c| std::str::from_utf8(c.body()).unwrap()).collect()
}

fn outcomes(pipeline: &mut Pipeline) -> Vec<(SendId, Result<Receipt, SendError>)> {
    pipeline.take_outcomes().collect()
}

/// The one run there is.
fn only(pipeline: &mut Pipeline) -> Run {
    let mut runs = runs(pipeline);
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0)
}

fn ok(ticket: Ticket, position: u64) -> Sent {
    Sent { ticket, outcome: Ok(Some(Position::new(position))) }
}

fn refused(ticket: Ticket) -> Sent {
    Sent { ticket, outcome: Err(Error::new(ErrorKind::Refused, "send")) }
}

fn unknown(ticket: Ticket) -> Sent {
    let error = Error::new(ErrorKind::Disconnected, "send").with_outcome(Outcome::Unknown);
    Sent { ticket, outcome: Err(error) }
}
