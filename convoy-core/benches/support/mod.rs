//! An engine in its steady state, driven the way a driver does, and an allocator that counts. Shared by the benchmark and the test of allocations.

#![allow(dead_code, reason = "the benchmark and the test use different parts")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "no library code")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoy_core::backend::{Answer, Command, Event, Grant, LeaseCell, Limits, Place, Recovered, Shape};
use convoy_core::engine::{Config, End, Engine, Input, RunId};
use convoy_core::{Bound, Bounds, Content, Headers, Inbound, MessageId, Moment, Position, Redelivered, SessionId};

/// How many handlers run at a time.
pub(crate) const RUNNING: usize = 64;

/// How many lanes the sessions of a lane broker share.
pub(crate) const LANES: u32 = 16;

const VALID: Duration = Duration::from_secs(30);

/// Counts what is allocated, by each thread for itself: what others do at the same time, such as a test's runner, is none of it.
#[derive(Debug)]
pub(crate) struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(allocations: usize, more: usize, less: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    // What one thread allocates and another one frees brings this below 0 there, and round.
    BYTES.set(BYTES.get().wrapping_add(more).wrapping_sub(less));
}

// SAFETY: every call is handed to the system's allocator as it is.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, 0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Allocations of this thread so far.
pub(crate) fn allocations() -> usize {
    ALLOCATIONS.get()
}

/// Bytes that this thread has allocated and not freed.
pub(crate) fn bytes() -> usize {
    BYTES.get()
}

/// An engine with a broker that answers at once, and handlers that do nothing, [`RUNNING`] at a time.
#[derive(Debug)]
pub(crate) struct Steady {
    pub(crate) engine: Engine,
    pub(crate) now: Moment,
    content: Arc<Content>,
    sessions: Vec<Session>,
    /// The next position of each grant, by epoch; those below are of grants long gone.
    positions: VecDeque<u64>,
    first_epoch: u64,
    shape: Shape,
    running: VecDeque<RunId>,
    commands: Vec<Command>,
    turn: usize,
    /// Messages as a backend has made them.
    made: Vec<(Grant, Inbound)>,
    pub(crate) settlements: u64,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    grant: Grant,
}

impl Steady {
    /// So many sessions, each with one message that waits, on a broker of lanes.
    pub(crate) fn lanes(sessions: usize) -> Self {
        let mut steady = Self::new(Limits::lanes());
        let lanes: Vec<Grant> = (0..LANES).map(|lane| steady.grant(Place::Lane(lane))).collect();
        for id in shuffled(sessions) {
            let grant = lanes[(id.stable_hash() % u64::from(LANES)) as usize];
            steady.sessions.push(Session { id, grant });
        }
        steady.fill();
        steady
    }

    /// So many sessions, each with one message that waits, on a broker that locks sessions.
    pub(crate) fn locked(sessions: usize) -> Self {
        let mut steady = Self::new(Limits::sessions());
        for id in shuffled(sessions) {
            let grant = steady.grant(Place::Session(id.clone()));
            steady.sessions.push(Session { id, grant });
        }
        steady.fill();
        steady
    }

    pub(crate) fn new(limits: Limits) -> Self {
        let shape = limits.shape;
        let mut config = Config::default();
        let much = Bound::new(1 << 20, usize::MAX);
        let mut bounds = Bounds::default();
        (bounds.session, bounds.lane, bounds.total) = (much, much, much);
        config.bounds = bounds;
        let content = Content::received(MessageId::from_u128(1), Bytes::from_static(&[7; 100]), Headers::default());
        Self {
            engine: Engine::new(config, limits),
            now: Moment::ORIGIN + Duration::from_secs(1),
            content: Arc::new(content),
            sessions: Vec::new(),
            positions: VecDeque::new(),
            first_epoch: 1,
            shape,
            running: VecDeque::with_capacity(RUNNING + 1),
            commands: Vec::new(),
            turn: 0,
            made: Vec::new(),
            settlements: 0,
        }
    }

    /// Wins a right, and proves it.
    pub(crate) fn grant(&mut self, place: Place) -> Grant {
        let grant = Grant::new(self.first_epoch + self.positions.len() as u64, &place);
        self.positions.push_back(0);
        let (start, recovered, lease) = (Position::new(0), Recovered::default(), Arc::<LeaseCell>::default());
        self.engine.handle(self.now, Input::Event(Event::Granted { grant, place, start, recovered, lease }));
        self.answer();
        grant
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Forgets the grants so far: they are gone.
    pub(crate) fn forget_positions(&mut self) {
        self.first_epoch += self.positions.len() as u64;
        self.positions.clear();
    }

    pub(crate) fn deliver(&mut self, grant: Grant, session: SessionId) {
        let message = self.make(grant, session);
        self.engine.handle(self.now, Input::Event(Event::Delivered { grant, message }));
    }

    fn make(&mut self, grant: Grant, session: SessionId) -> Inbound {
        let position = &mut self.positions[(grant.epoch() - self.first_epoch) as usize];
        *position += 1;
        Inbound {
            position: Position::new(*position - 1),
            session,
            redelivered: Redelivered::No,
            defect: None,
            content: Arc::clone(&self.content),
        }
    }

    fn fill(&mut self) {
        for at in 0..self.sessions.len() {
            let Session { id, grant } = &self.sessions[at];
            let (id, grant) = (id.clone(), *grant);
            self.deliver(grant, id);
        }
        for _ in 0..RUNNING {
            self.start();
        }
    }

    /// Makes so many messages, as a backend does, each of a session that has one waiting already.
    pub(crate) fn make_messages(&mut self, count: usize) {
        for _ in 0..count {
            let Session { id, grant } = &self.sessions[self.turn];
            let (id, grant) = (id.clone(), *grant);
            self.turn = (self.turn + 1) % self.sessions.len();
            let message = self.make(grant, id);
            self.made.push((grant, message));
        }
    }

    /// Takes what was made from delivered to settled.
    pub(crate) fn handle_messages(&mut self) {
        let mut made = std::mem::take(&mut self.made);
        for (grant, message) in made.drain(..) {
            self.engine.handle(self.now, Input::Event(Event::Delivered { grant, message }));
            self.end();
            self.start();
        }
        self.made = made;
    }

    pub(crate) fn messages(&mut self, count: usize) {
        self.make_messages(count);
        self.handle_messages();
    }

    pub(crate) fn start(&mut self) {
        if let Some(start) = self.engine.start(self.now) {
            self.running.push_back(start.run);
        }
    }

    /// Ends the handler that runs for longest, and lets a microsecond pass.
    pub(crate) fn end(&mut self) {
        if let Some(run) = self.running.pop_front() {
            self.engine.ended(self.now, run, End::Done, 0);
        }
        self.now = self.now + Duration::from_micros(1);
        if self.engine.next_deadline().is_some_and(|at| at <= self.now) {
            self.engine.handle(self.now, Input::Tick);
        }
        self.answer();
    }

    /// Answers what the broker was asked.
    pub(crate) fn answer(&mut self) {
        while !self.engine.commands().is_empty() {
            std::mem::swap(self.engine.commands(), &mut self.commands);
            for command in self.commands.drain(..) {
                let event = match command {
                    Command::Settle { grant, ticket, .. } => {
                        self.settlements += 1;
                        Event::Settled { grant, ticket, answer: Answer::Ok }
                    }
                    Command::Renew { grant } => Event::Proved { grant, asked_at: self.now, valid_for: VALID },
                    _ => continue,
                };
                self.engine.handle(self.now, Input::Event(event));
            }
        }
    }
}

/// Ids in an order that no cache can foresee.
fn shuffled(sessions: usize) -> Vec<SessionId> {
    let mut numbers: Vec<usize> = (0..sessions).collect();
    let mut state = 42_u64;
    for at in (1..sessions).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        numbers.swap(at, (state >> 33) as usize % (at + 1));
    }
    numbers.iter().map(|number| SessionId::new(format!("session-{number}")).unwrap()).collect()
}
