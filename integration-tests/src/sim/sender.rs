//! A producer process: the real pipeline, over a broker that takes runs, refuses them, or leaves their outcome open.

use std::sync::Arc;

use bytes::Bytes;
use convoy_core::backend::{Fate, Run, Sent, Ticket};
use convoy_core::producer::{Options, Pipeline, Resume, SendError, SendId};
use convoy_core::{Content, Error, ErrorKind, Headers, MessageId, Moment, Outcome, Position, ProducerId};

use super::broker::Broker;
use super::env::{Env, tell};
use super::faults::Kind;
use super::log::Entry;
use super::plan::{Defect, MS, SEC};
use super::queue::Ev;
use crate::history::{self, Answer, Message, What};

static BODY: [u8; 64] = [b'.'; 64];

/// The kind of process in a producer's number.
pub(crate) const PRODUCERS: u32 = 1 << 20;

/// A run on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    sender: u8,
    incarnation: u32,
    ticket: Ticket,
    session: u8,
    messages: Vec<Arc<Content>>,
    lands: bool,
    pub(crate) landed: u64,
    cancelled: bool,
    /// What its producer is told.
    outcome: Option<Outcome>,
}

impl Flight {
    pub(crate) fn sender(&self) -> u8 {
        self.sender
    }

    /// Whether it may still land.
    pub(crate) fn may_land(&self) -> bool {
        self.lands && self.landed == 0 && !self.cancelled
    }

    /// Whether its outcome waits for its landing.
    pub(crate) fn waits(&self) -> bool {
        self.may_land() && self.outcome.is_none()
    }
}

/// A producer process.
#[derive(Debug)]
pub(crate) struct Sender {
    index: u8,
    pub(crate) incarnation: u32,
    pipeline: Option<Pipeline>,
    /// What it still has to send, of each session.
    pub(crate) to_send: Vec<u16>,
    pub(crate) left: u32,
    /// The session of each of its messages.
    sessions: Vec<u8>,
    halted: Vec<u8>,
    armed: u64,
    timeout: u64,
    runs: Vec<Run>,
}

impl Sender {
    pub(crate) fn new(index: u8) -> Self {
        Self {
            index,
            incarnation: 0,
            pipeline: None,
            to_send: Vec::new(),
            left: 0,
            sessions: Vec::new(),
            halted: Vec::new(),
            armed: u64::MAX,
            timeout: 0,
            runs: Vec::new(),
        }
    }

    pub(crate) fn reset(&mut self, sessions: u8) {
        self.forget();
        self.to_send.clear();
        self.to_send.resize(sessions as usize, 0);
        self.left = 0;
    }

    fn forget(&mut self) {
        self.pipeline = None;
        self.sessions.clear();
        self.halted.clear();
        self.armed = u64::MAX;
        self.runs.clear();
    }

    /// Whether everything is sent and every outcome known.
    pub(crate) fn is_done(&self) -> bool {
        let idle = self.pipeline.as_ref().is_none_or(|pipeline| pipeline.pending() == 0);
        self.left == 0 && idle && self.halted.is_empty()
    }

    pub(crate) fn boot(&mut self, env: &mut Env) {
        self.forget();
        env.incarnations += 1;
        self.incarnation = env.incarnations;
        self.timeout = env.rng.range(200 * MS, 3 * SEC);
        let mut options = Options::default();
        options.max_run = env.plan.max_run;
        options.max_queued = if env.rng.permille(200) { 4 } else { 4096 };
        options.answer_margin = std::time::Duration::from_nanos(self.timeout / 10);
        options.remember = 64;
        if let Defect::Producer(bug) = env.plan.defect {
            options.bug = Some(bug);
        }
        self.pipeline = Some(Pipeline::new(options, ProducerId::from_u128(u128::from(self.incarnation))));
        env.after(0, Ev::Send(self.index));
    }

    /// The process is gone; what it had handed over may land all the same.
    pub(crate) fn crash(&mut self, env: &mut Env) {
        let target = self.incarnation;
        env.judge.push_outside(env.now, 0, What::KillSent { target });
        env.judge.push_outside(env.now, 0, What::Reaped { target });
        self.forget();
        let pause = env.rng.range(100 * MS, 2 * SEC);
        env.after(pause, Ev::Producer(self.index));
    }

    /// Sends a few messages, and comes again.
    pub(crate) fn wake(&mut self, env: &mut Env, flights: &mut Vec<Flight>) {
        if self.pipeline.is_none() || self.left == 0 {
            return;
        }
        let burst = env.rng.range(1, 8);
        for _ in 0..burst {
            self.send_one(env);
        }
        self.step(env, flights);
        let more = u64::from(self.left).max(1);
        let rest = env.plan.quiet.saturating_sub(env.now).max(200 * MS);
        let pause = if env.calm { 50 * MS } else { env.rng.below(rest / (more / 4 + 1)) + MS };
        if self.left > 0 {
            env.after(pause, Ev::Send(self.index));
        }
    }

    fn send_one(&mut self, env: &mut Env) {
        let sessions = self.to_send.len();
        let from = env.rng.index(sessions);
        let Some(session) = (from..sessions).chain(0..from).find(|at| self.to_send[*at] > 0) else { return };
        let Some(pipeline) = &mut self.pipeline else { return };
        let id = (u128::from(self.incarnation) << 64) | u128::from(env.rng.next());
        let body = Bytes::from_static(&BODY[..env.rng.range(8, 64) as usize]);
        let content = Content::received(MessageId::from_u128(id), body, Headers::default());
        let deadline = Moment::from_nanos(env.now + self.timeout);
        let now = env.moment();
        match pipeline.enqueue(now, env.names.ids[session].clone(), content, deadline) {
            Ok(_) => {
                self.sessions.push(session as u8);
                self.to_send[session] -= 1;
                self.left -= 1;
            }
            Err(error) if error.content().stamp().is_some() => {
                // It is kept behind the halt that it made.
                self.sessions.push(session as u8);
                self.to_send[session] -= 1;
                self.left -= 1;
                self.failed(env, &error);
            }
            Err(_) => {}
        }
    }

    fn key(&self, number: u64) -> (u8, Message) {
        let session = self.sessions.get((number - 1) as usize).copied().unwrap_or(0);
        (session, Message { producer: self.incarnation, pseq: number })
    }

    /// Hands out what may go, and tells how sends ended.
    fn step(&mut self, env: &mut Env, flights: &mut Vec<Flight>) {
        let Some(pipeline) = &mut self.pipeline else { return };
        let outcomes: Vec<_> = pipeline.take_outcomes().collect();
        for (_, outcome) in outcomes {
            match outcome {
                Ok(receipt) => {
                    let (session, message) = self.key(receipt.number);
                    let position = receipt.position.map(|p| history::Position { generation: 0, value: p.value });
                    let session = u64::from(session);
                    let what = What::Send { session, message, outcome: Answer::Ok, position };
                    env.judge.push_outside(env.now, self.incarnation, what);
                }
                Err(error) => self.failed(env, &error),
            }
        }
        let Some(pipeline) = &mut self.pipeline else { return };
        let mut runs = std::mem::take(&mut self.runs);
        pipeline.take_runs(&mut runs);
        for run in runs.drain(..) {
            self.launch(env, flights, run);
        }
        self.runs = runs;
        self.arm(env);
    }

    fn arm(&mut self, env: &mut Env) {
        let Some(pipeline) = &self.pipeline else { return };
        let next = pipeline.next_deadline().as_nanos();
        if pipeline.pending() > 0 && next < self.armed {
            self.armed = next;
            env.queue.push(next.max(env.now), Ev::SendTick(self.index));
        }
    }

    fn failed(&mut self, env: &mut Env, error: &SendError) {
        let Some(stamp) = error.content().stamp() else { return };
        let (session, message) = self.key(stamp.number);
        let outcome = if error.outcome() == Outcome::Unknown { Answer::Unknown } else { Answer::Refused };
        tell!(env, "producer {} {error}", self.incarnation);
        let what = What::Send { session: u64::from(session), message, outcome, position: None };
        env.judge.push_outside(env.now, self.incarnation, what);
        if !self.halted.contains(&session) {
            self.halted.push(session);
            let pause = env.rng.range(10 * MS, 1500 * MS);
            env.after(pause, Ev::Resume(self.index, self.incarnation, session));
        }
    }

    /// A run is handed to the client library.
    fn launch(&mut self, env: &mut Env, flights: &mut Vec<Flight>, run: Run) {
        let session = super::names::session_key(&run.session) as u8;
        for content in &run.messages {
            let Some(stamp) = content.stamp() else { continue };
            let (_, message) = self.key(stamp.number);
            let (prev, hash) = (stamp.prev, stamp.number);
            let what = What::SendReq { session: u64::from(session), message, prev, hash };
            env.judge.push_outside(env.now, self.incarnation, what);
        }
        let mut flight = Flight {
            sender: self.index,
            incarnation: self.incarnation,
            ticket: run.ticket,
            session,
            messages: run.messages,
            lands: true,
            landed: 0,
            cancelled: false,
            outcome: None,
        };
        let mut late = 0;
        let mut tells = true;
        if env.strikes(env.plan.send_faults) {
            match env.rng.below(4) {
                0 => {
                    env.disturbed(Kind::SendFailed);
                    (flight.lands, flight.outcome) = (false, Some(Outcome::NotApplied));
                }
                1 => {
                    env.disturbed(Kind::SendUnknown);
                    (flight.outcome, tells) = (Some(Outcome::Unknown), env.rng.permille(500));
                }
                2 => {
                    env.disturbed(Kind::SendNever);
                    (flight.lands, flight.outcome) = (false, Some(Outcome::Unknown));
                    tells = env.rng.permille(500);
                }
                _ => {
                    env.disturbed(Kind::SendLate);
                    late = env.rng.range(self.timeout / 2, 2 * self.timeout);
                }
            }
        }
        let there = env.delay() + late;
        let back = env.delay();
        let at = flights.len() as u16;
        if flight.lands {
            env.after(there, Ev::Land(at));
        }
        if tells {
            env.after(there + back, Ev::Sent(at));
        }
        flights.push(flight);
    }

    /// The broker answers a run.
    pub(crate) fn sent(&mut self, env: &mut Env, flights: &mut Vec<Flight>, at: u16) {
        let flight = &flights[at as usize];
        if flight.incarnation != self.incarnation {
            return;
        }
        let outcome = match flight.outcome {
            Some(Outcome::NotApplied) => Err(Error::new(ErrorKind::Refused, "send").with_outcome(Outcome::NotApplied)),
            Some(Outcome::Unknown) => Err(Error::new(ErrorKind::OutcomeUnknown, "send")),
            None if flight.cancelled => return,
            None => Ok(Some(Position::new(flight.landed))),
        };
        let ticket = flight.ticket;
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.on_sent(env.moment(), Sent { ticket, outcome });
        }
        self.step(env, flights);
    }

    pub(crate) fn tick(&mut self, env: &mut Env, flights: &mut Vec<Flight>) {
        if env.now < self.armed {
            return;
        }
        self.armed = u64::MAX;
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.tick(env.moment());
        }
        self.step(env, flights);
    }

    /// A halted session goes on: first the broker is asked what became of an unknown run, and sees to it that it does not land any more.
    pub(crate) fn resume(&mut self, env: &mut Env, flights: &mut Vec<Flight>, session: u8) {
        let id = env.names.ids[session as usize].clone();
        let now = env.moment();
        let Some(pipeline) = &mut self.pipeline else { return };
        self.halted.retain(|halted| *halted != session);
        let Some(unsettled) = pipeline.unsettled(&id) else { return };
        let mut twice = false;
        if let Some(ticket) = unsettled.ticket {
            let flight = flights.iter_mut().find(|f| f.incarnation == self.incarnation && f.ticket == ticket);
            if let Some(flight) = flight {
                if env.rng.permille(700) {
                    let fate = if flight.landed > 0 { Fate::Landed } else { Fate::Never };
                    flight.cancelled |= flight.landed == 0;
                    pipeline.learn(ticket, fate);
                } else {
                    twice = flight.landed > 0 || flight.may_land();
                }
            }
        }
        // Sent again, it would lie in the log twice under one name, and the history could not tell its two settlements apart.
        let how = if !twice && env.rng.permille(800) { Resume::Resend } else { Resume::Skip };
        let deadline = Moment::from_nanos(env.now + self.timeout);
        let producer = self.incarnation;
        env.judge.push_outside(env.now, producer, What::Resume { session: u64::from(session), producer });
        let _: Vec<SendId> = pipeline.resume(now, &id, how, deadline);
        self.step(env, flights);
    }
}

impl Broker {
    /// A run reaches the broker.
    pub(crate) fn land(&mut self, env: &mut Env, flights: &mut [Flight], at: u16) {
        let flight = &mut flights[at as usize];
        if flight.cancelled {
            return;
        }
        let place =
            if env.plan.personality.locks_sessions() { flight.session } else { flight.session % env.plan.places };
        let (session, incarnation) = (flight.session, flight.incarnation);
        for at in 0..flight.messages.len() {
            let content = Arc::clone(&flight.messages[at]);
            let pseq = content.stamp().map_or(0, |stamp| stamp.number);
            let poison = env.plan.poison > 0 && env.rng.permille(env.plan.poison);
            let message = Message { producer: incarnation, pseq };
            let entry = Entry { session, place, message, content, defect: None, poison, settled: false, delivered: 0 };
            flight.landed = self.append(env, entry);
        }
        tell!(env, "broker has {session} up to {} of producer {}", flight.landed, flight.sender);
    }
}
