//! Unit tests of the engine, a file a concern, on one small [`World`]: an engine, a clock that is moved by hand, and everything that comes out, as short text.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod bounds;
mod claims;
mod defects;
mod dispatch;
mod drain;
mod invariants;
mod lease;
mod misbehaviour;
mod notes;
mod random;
mod retry;
mod settle;
mod tables;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{CancelWhy, ClaimId, Config, End, Engine, Input, Next, Note, Notice, RunId, Start, Then};
use crate::backend::{Above, Answer, Command, Event, Grant, LeaseCell, Limits, Loss, Place, Recovered, Ticket};
use crate::message::{Content, Defect, Headers, Inbound, MessageId, Redelivered};
use crate::policy::Retry;
use crate::position::Position;
use crate::session::SessionId;
use crate::time::Moment;

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

/// What evidence is worth here; the deadline is half a second (the margin) earlier.
const VALID: Duration = Duration::from_secs(30);

/// How many bytes a message counts.
const SIZE: usize = 10;

fn id(name: &str) -> SessionId {
    SessionId::new(name.to_owned()).unwrap()
}

fn message(session: &str, position: u64) -> Inbound {
    let content = Content::received(MessageId::from_u128(1), Bytes::from_static(&[7; SIZE]), Headers::default());
    Inbound {
        position: Position::new(position),
        session: id(session),
        redelivered: Redelivered::No,
        defect: None,
        content: Arc::new(content),
    }
}

/// An engine under test.
struct World {
    engine: Engine,
    now: Moment,
    epoch: u64,
    commands: Vec<Command>,
    notices: Vec<Notice>,
    notes: Vec<Note>,
    /// Settlements without an answer, oldest first.
    tickets: VecDeque<(Grant, Ticket)>,
    /// The latest run of each message, by `session@position`.
    runs: HashMap<String, RunId>,
    run_names: HashMap<u64, String>,
    claim_names: HashMap<u64, String>,
    /// The lease of the latest grant.
    lease: Arc<LeaseCell>,
}

impl World {
    fn new(config: Config, limits: Limits) -> Self {
        Self {
            engine: Engine::new(config, limits),
            now: Moment::ORIGIN + 1_000 * SEC,
            epoch: 0,
            commands: Vec::new(),
            notices: Vec::new(),
            notes: Vec::new(),
            tickets: VecDeque::new(),
            runs: HashMap::new(),
            run_names: HashMap::new(),
            claim_names: HashMap::new(),
            lease: Arc::default(),
        }
    }

    fn lanes() -> Self {
        Self::new(config(), Limits::lanes())
    }

    fn sessions() -> Self {
        Self::new(config(), Limits::sessions())
    }

    fn input(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.collect();
    }

    fn event(&mut self, event: Event) {
        self.input(Input::Event(event));
    }

    /// Takes what came out, and looks at the engine's tables.
    fn collect(&mut self) {
        for command in self.engine.commands() {
            if let Command::Settle { grant, ticket, .. } = command {
                self.tickets.push_back((*grant, *ticket));
            }
        }
        self.commands.append(self.engine.commands());
        self.notices.append(self.engine.notices());
        self.notes.append(self.engine.notes());
        self.engine.check_invariants(self.now);
    }

    /// Lets time pass, with a tick at each time that the engine asks for.
    fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.input(Input::Tick);
            let next = self.engine.next_deadline();
            assert!(next.is_none_or(|next| next > self.now), "a tick leaves nothing due");
        }
        self.now = until;
    }

    // Rights.

    fn granted(&mut self, place: Place) -> Grant {
        self.epoch += 1;
        let grant = Grant::new(self.epoch, &place);
        self.lease = Arc::default();
        let (start, recovered, lease) = (Position::new(0), Recovered::default(), Arc::clone(&self.lease));
        self.event(Event::Granted { grant, place, start, recovered, lease });
        grant
    }

    fn prove(&mut self, grant: Grant) {
        self.prove_as_of(grant, self.now);
    }

    fn prove_as_of(&mut self, grant: Grant, asked_at: Moment) {
        self.event(Event::Proved { grant, asked_at, valid_for: VALID });
    }

    /// A lane, granted and proved now.
    fn lane(&mut self, lane: u32) -> Grant {
        self.held(Place::Lane(lane))
    }

    /// A session, locked and proved now.
    fn session(&mut self, name: &str) -> Grant {
        self.held(Place::Session(id(name)))
    }

    fn held(&mut self, place: Place) -> Grant {
        let grant = self.granted(place);
        self.prove(grant);
        self.commands.clear();
        grant
    }

    fn lost(&mut self, grant: Grant, why: Loss) {
        self.event(Event::Lost { grant, why });
    }

    // Messages.

    fn deliver(&mut self, grant: Grant, session: &str, position: u64) {
        self.event(Event::Delivered { grant, message: message(session, position) });
    }

    fn deliver_all(&mut self, grant: Grant, messages: &[(&str, u64)]) {
        for (session, position) in messages {
            self.deliver(grant, session, *position);
        }
    }

    fn deliver_defective(&mut self, grant: Grant, session: &str, position: u64, defect: Defect) {
        let message = Inbound { defect: Some(defect), ..message(session, position) };
        self.event(Event::Delivered { grant, message });
    }

    // Runs.

    fn note_start(&mut self, start: &Start) -> String {
        let name = format!("{}@{}", start.message.session, start.message.position);
        self.runs.insert(name.clone(), start.run);
        self.run_names.insert(start.run.serial(), name.clone());
        match start.attempt {
            1 => name,
            attempt => format!("{name} #{attempt}"),
        }
    }

    /// Starts the next message: `session@position`, and ` #attempt` when it is not the first.
    fn start(&mut self) -> Option<String> {
        let start = self.engine.start(self.now);
        self.collect();
        start.map(|start| self.note_start(&start))
    }

    /// Starts everything that can be.
    fn starts(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.start()).collect()
    }

    fn end(&mut self, run: &str, end: End) -> bool {
        self.end_with(run, end, 0)
    }

    fn end_with(&mut self, run: &str, end: End, jitter: u64) -> bool {
        let run = self.runs[run];
        let counts = self.engine.ended(self.now, run, end, jitter);
        self.collect();
        counts
    }

    fn done(&mut self, run: &str) -> bool {
        self.end(run, End::Done)
    }

    fn fail(&mut self, run: &str) -> bool {
        self.end(run, failed(Then::Retry))
    }

    /// Starts and ends everything that can be.
    fn handle_all(&mut self) {
        while let Some(run) = self.start() {
            self.done(run.split(' ').next().unwrap());
        }
    }

    // Answers.

    /// Answers the oldest settlement that has no answer.
    fn answer(&mut self, answer: Answer) {
        let (grant, ticket) = self.tickets.pop_front().expect("a settlement is out");
        self.event(Event::Settled { grant, ticket, answer });
    }

    fn answer_all(&mut self) {
        while !self.tickets.is_empty() {
            self.answer(Answer::Ok);
        }
    }

    fn copied(&mut self, grant: Grant, position: u64, answer: Answer) {
        self.event(Event::SetAside { grant, position, answer });
    }

    // Claims.

    fn claim_any(&mut self) -> Option<(ClaimId, String)> {
        let (claim, session) = self.engine.claim_any(self.now)?;
        self.collect();
        self.claim_names.insert(claim.serial(), session.to_string());
        Some((claim, session.to_string()))
    }

    fn claim(&mut self, place: Place, name: &str) -> Result<ClaimId, super::NotClaimed> {
        let claimed = self.engine.claim_named(self.now, &place, &id(name));
        self.collect();
        let (claim, session) = claimed?;
        assert_eq!(session, id(name));
        self.claim_names.insert(claim.serial(), name.to_owned());
        Ok(claim)
    }

    /// The next message of a claimed session: `session@position`, or `wait`, `blocked`, `lost`.
    fn next(&mut self, claim: ClaimId) -> String {
        let next = self.engine.next(self.now, claim);
        self.collect();
        match next {
            Next::Start(start) => self.note_start(&start),
            Next::Wait => "wait".to_owned(),
            Next::Blocked => "blocked".to_owned(),
            Next::Lost => "lost".to_owned(),
        }
    }

    fn flush(&mut self, claim: ClaimId) -> bool {
        let held = self.engine.flush(self.now, claim);
        self.collect();
        held
    }

    fn unclaim(&mut self, claim: ClaimId) {
        self.engine.unclaim(self.now, claim);
        self.collect();
    }

    // What came out.

    /// The commands since the last look, as text. A settlement is `settle GRANT WATERMARK/END` and what is done or open above.
    fn commands(&mut self) -> Vec<String> {
        self.commands.drain(..).map(|command| command_text(&command)).collect()
    }

    fn notices(&mut self) -> Vec<String> {
        let notices = std::mem::take(&mut self.notices);
        notices.iter().map(|notice| self.notice_text(notice)).collect()
    }

    fn notice_text(&self, notice: &Notice) -> String {
        let run = |run: &RunId| &self.run_names[&run.serial()];
        let claim = |claim: &ClaimId| &self.claim_names[&claim.serial()];
        match notice {
            Notice::Cancel { run: r, why: CancelWhy::Lost(why) } => format!("cancel {} {why:?}", run(r)),
            Notice::Cancel { run: r, why } => format!("cancel {} {why:?}", run(r)),
            Notice::Drop { run: r } => format!("drop {}", run(r)),
            Notice::Wake { claim: c } => format!("wake {}", claim(c)),
            Notice::ClaimLost { claim: c, why } => format!("claim lost {} {why:?}", claim(c)),
            Notice::Flushed { claim: c } => format!("flushed {}", claim(c)),
            Notice::Denied { session, .. } => format!("denied {session}"),
            Notice::Stop { session, position, reason } => {
                format!("stop {session}@{position} {} x{}", reason.code, reason.attempts)
            }
        }
    }
}

fn command_text(command: &Command) -> String {
    match command {
        Command::Settle { grant, progress, .. } => {
            let above = match &progress.above {
                Above::Nothing => String::new(),
                Above::Done(done) => format!(" done {done:?}"),
                Above::Open(open) => {
                    let open: Vec<String> = open.iter().map(|(session, at)| format!("{session}@{at}")).collect();
                    format!(" open {}", open.join(" "))
                }
            };
            format!("settle {} {}/{}{above}", grant.epoch(), progress.watermark, progress.end)
        }
        Command::SetAside { grant, message, reason } => {
            let (session, at) = (&message.session, message.position);
            format!("aside {} {session}@{at} {} x{}", grant.epoch(), reason.code, reason.attempts)
        }
        Command::Renew { grant } => format!("renew {}", grant.epoch()),
        Command::Read { grant, on: true } => format!("read {}", grant.epoch()),
        Command::Read { grant, on: false } => format!("hold {}", grant.epoch()),
        Command::Release { grant } => format!("release {}", grant.epoch()),
        Command::Surrender { grant } => format!("surrender {}", grant.epoch()),
        Command::Leave => "leave".to_owned(),
        other => unreachable!("the engine asks for no {other:?}"),
    }
}

/// Waits of exactly 50 ms to 100 ms after the first failure, doubling; see `retry` for the spread.
fn config() -> Config {
    Config { retry: Retry::exponential(100 * MS..SEC), ..Config::default() }
}

fn failed(then: Then) -> End {
    End::Failed { then, detail: "it failed".to_owned() }
}

const NOTHING: [&str; 0] = [];
