//! A consumer process: the real engine, the client of its broker, and the handlers it runs.

use convoy_core::backend::Event;
use convoy_core::engine::{Engine, Input, Note, Notice};

use super::env::{Env, tell};
use super::faults::Kind;
use super::handlers::Run;
use super::names::SESSIONS;
use super::plan::{MS, SEC};
use super::pull::Pull;
use super::queue::Ev;
use super::turns::Turns;
use super::wire::Up;
use crate::history::{Fault, Phase, Side, What};

/// A consumer process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) index: u8,
    /// What the checker calls it: another one after each start.
    pub(crate) incarnation: u32,
    pub(crate) engine: Option<Engine>,
    pub(crate) conn: Option<u16>,
    pub(crate) frozen: bool,
    pub(crate) thaws_at: u64,
    pub(crate) paused: bool,
    pub(crate) draining: bool,
    /// It is not started again.
    pub(crate) done: bool,
    /// Rights that its client has told the engine of.
    pub(crate) live: Vec<u32>,
    pub(crate) asked: Vec<super::client::Asked>,
    pub(crate) asks: u32,
    pub(crate) left: bool,
    /// It takes itself for a member of its group.
    pub(crate) member: bool,
    pub(crate) runs: Vec<Run>,
    pub(crate) running: u32,
    pub(crate) serial: u32,
    pub(crate) pulls: Vec<Pull>,
    pub(crate) wants: Vec<u8>,
    pub(crate) puller: bool,
    pub(crate) turns: Turns,
    pressed: bool,
    armed: u64,
    notices: Vec<Notice>,
    notes: Vec<Note>,
    pub(crate) commands: Vec<convoy_core::backend::Command>,
}

impl Process {
    pub(crate) fn new(index: u8) -> Self {
        Self {
            index,
            incarnation: 0,
            engine: None,
            conn: None,
            frozen: false,
            thaws_at: 0,
            paused: false,
            draining: false,
            done: false,
            live: Vec::new(),
            asked: Vec::new(),
            asks: 0,
            left: false,
            member: false,
            runs: Vec::new(),
            running: 0,
            serial: 0,
            pulls: Vec::new(),
            wants: Vec::new(),
            puller: false,
            turns: Turns::default(),
            pressed: false,
            armed: u64::MAX,
            notices: Vec::new(),
            notes: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Ready for another schedule.
    pub(crate) fn reset(&mut self) {
        self.forget();
        (self.incarnation, self.done) = (0, false);
    }

    fn forget(&mut self) {
        self.engine = None;
        self.conn = None;
        (self.frozen, self.paused, self.draining) = (false, false, false);
        (self.left, self.member, self.pressed) = (false, false, false);
        self.live.clear();
        self.asked.clear();
        self.asks = 0;
        self.runs.clear();
        self.running = 0;
        self.pulls.clear();
        self.wants.clear();
        self.turns = Turns::default();
        self.armed = u64::MAX;
        self.notices.clear();
        self.notes.clear();
        self.commands.clear();
    }

    pub(crate) fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    /// Starts a new incarnation, which connects at once.
    pub(crate) fn boot(&mut self, env: &mut Env) {
        self.forget();
        env.incarnations += 1;
        self.incarnation = env.incarnations;
        self.puller = env.plan.pullers & (1 << (self.index % 4)) != 0;
        self.engine = Some(Engine::new(env.plan.config.clone(), env.plan.limits.clone()));
        tell!(env, "process {} starts as p{}", self.index, self.incarnation);
        env.after(0, Ev::Connect(self.index, self.incarnation));
    }

    /// The process is gone, with everything in it. Whether the broker is told is the kernel's affair.
    pub(crate) fn crash(&mut self, env: &mut Env, silent: bool) {
        if !self.is_up() {
            return;
        }
        let target = self.incarnation;
        env.judge.push_outside(env.now, 0, What::KillSent { target });
        env.judge.push_outside(env.now, 0, What::Reaped { target });
        if let Some(conn) = self.conn {
            env.hang_up(conn, silent);
        }
        self.forget();
    }

    /// Nothing happens in it for a while.
    pub(crate) fn freeze(&mut self, env: &mut Env, time: u64) {
        if !self.is_up() || self.frozen {
            return;
        }
        self.frozen = true;
        self.thaws_at = env.now + time;
        env.fault(Fault::Freeze, Side::Both, Phase::Begin, self.incarnation);
        env.after(time, Ev::Thaw(self.index));
    }

    pub(crate) fn thaw(&mut self, env: &mut Env) {
        if !self.frozen || env.now < self.thaws_at {
            return;
        }
        self.frozen = false;
        env.fault(Fault::Freeze, Side::Both, Phase::End, self.incarnation);
        // Workers go on at once; what is buffered and what is due follows.
        self.armed = u64::MAX;
        if env.rng.permille(500) {
            self.step(env);
        }
        if let Some(conn) = self.conn {
            env.queue.push(env.now + env.rng.below(MS), Ev::Down(conn));
        }
        self.armed = env.now + env.rng.below(MS);
        env.queue.push(self.armed, Ev::Tick(self.index));
    }

    /// Leaves in good order.
    pub(crate) fn drain(&mut self, env: &mut Env, within: u64) {
        let until = env.now + within;
        let Some(engine) = &mut self.engine else { return };
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        for token in &self.live {
            let right = &mut env.rights[*token as usize];
            right.until = right.until.min(until);
        }
        engine.handle(env.moment(), Input::Drain { until: convoy_core::Moment::from_nanos(until) });
        env.queue.push(until + env.plan.grace + SEC, Ev::Kill(self.index, self.incarnation));
        self.step(env);
    }

    pub(crate) fn pause(&mut self, env: &mut Env, on: bool) {
        self.paused = on;
        if let Some(engine) = &mut self.engine {
            engine.handle(env.moment(), if on { Input::Pause } else { Input::Resume });
            self.step(env);
        }
    }

    pub(crate) fn tick(&mut self, env: &mut Env) {
        if self.frozen || env.now != self.armed {
            return;
        }
        self.armed = u64::MAX;
        self.feed(env, Input::Tick);
        self.step(env);
    }

    /// Tells the engine something, and the judge what the engine makes of it.
    pub(crate) fn feed(&mut self, env: &mut Env, input: Input) {
        let Some(engine) = &mut self.engine else { return };
        engine.handle(env.moment(), input);
        self.tell_notes(env);
    }

    pub(crate) fn feed_event(&mut self, env: &mut Env, event: Event) {
        tell!(env, "p{} < {event:?}", self.incarnation);
        self.feed(env, Input::Event(event));
    }

    pub(crate) fn tell_notes(&mut self, env: &mut Env) {
        let Some(engine) = &mut self.engine else { return };
        let notes = engine.notes();
        if notes.is_empty() {
            return;
        }
        std::mem::swap(notes, &mut self.notes);
        for note in self.notes.drain(..) {
            self.turns.note(env, &note);
            env.note(self.incarnation, note);
        }
    }

    /// Does what the engine wants done, until it wants nothing more for now.
    pub(crate) fn step(&mut self, env: &mut Env) {
        if self.frozen {
            return;
        }
        loop {
            self.tell_notes(env);
            let Some(engine) = &mut self.engine else { return };
            let quiet = engine.notices().is_empty() && engine.commands().is_empty();
            if !quiet {
                std::mem::swap(engine.notices(), &mut self.notices);
                std::mem::swap(engine.commands(), &mut self.commands);
                let mut commands = std::mem::take(&mut self.commands);
                commands.drain(..).for_each(|command| self.command(env, command));
                self.commands = commands;
                let mut notices = std::mem::take(&mut self.notices);
                notices.drain(..).for_each(|notice| self.notice(env, notice));
                self.notices = notices;
                continue;
            }
            let more = if self.puller { self.pull(env) } else { self.start_one(env) };
            if !more {
                break;
            }
        }
        self.ask_for_sessions(env);
        self.arm(env);
        self.leave_if_drained(env);
    }

    fn start_one(&mut self, env: &mut Env) -> bool {
        if self.running >= u32::from(env.plan.permits) {
            return false;
        }
        let Some(engine) = &mut self.engine else { return false };
        let start = engine.start(env.moment());
        self.tell_notes(env);
        let Some(start) = start else { return false };
        self.begin(env, start, None);
        true
    }

    fn arm(&mut self, env: &mut Env) {
        let Some(engine) = &self.engine else { return };
        let Some(next) = engine.next_deadline() else { return };
        let next = next.as_nanos().max(env.now);
        if next < self.armed && next != u64::MAX {
            self.armed = next;
            env.queue.push(next, Ev::Tick(self.index));
        }
    }

    fn notice(&mut self, env: &mut Env, notice: Notice) {
        tell!(env, "p{} engine says {notice:?}", self.incarnation);
        match notice {
            Notice::Cancel { run, why } => self.cancel(env, run, why),
            Notice::Drop { run } => self.drop_run(env, run),
            Notice::Wake { claim } => self.wake(claim),
            Notice::ClaimLost { claim, .. } => self.claim_lost(claim),
            Notice::Flushed { claim } => self.flushed(env, claim),
            Notice::Denied { session, .. } => {
                let session = super::names::session_key(&session) as u8;
                self.wants.retain(|wanted| *wanted != session);
            }
            Notice::Stop { .. } => {
                env.saw(Kind::AskStop);
                let within = env.rng.range(500 * MS, 3 * SEC);
                self.drain(env, within);
            }
            _ => {}
        }
    }

    /// On a broker that locks sessions, keeps requests open for as many as can be handled.
    fn ask_for_sessions(&mut self, env: &mut Env) {
        let convoy_core::backend::Shape::Sessions { pending_accepts } = env.plan.limits.shape else { return };
        let Some(engine) = &mut self.engine else { return };
        let held = engine.counts().grants as u32;
        let permits = u32::from(env.plan.permits);
        let pressed = held >= permits;
        if pressed != self.pressed {
            self.pressed = pressed;
            self.feed(env, Input::Pressure(pressed));
            return self.step(env);
        }
        let (Some(conn), false) = (self.conn, self.draining) else { return };
        let wanted = permits.saturating_sub(held).min(pending_accepts);
        if wanted > self.asks {
            env.send_up(conn, Up::Accept(wanted - self.asks));
            self.asks = wanted;
        }
    }

    fn leave_if_drained(&mut self, env: &mut Env) {
        let drained = self.engine.as_ref().is_some_and(Engine::is_drained);
        if !drained || self.running > 0 {
            return;
        }
        if let Some(conn) = self.conn {
            env.hang_up(conn, false);
        }
        tell!(env, "p{} is drained", self.incarnation);
        if let Some(engine) = &self.engine {
            let counts = engine.counts();
            if counts.sessions + counts.messages + counts.bytes + counts.grants + counts.running > 0 {
                env.tally.leaks += 1;
                tell!(env, "p{} left {counts:?}", self.incarnation);
            }
        }
        self.forget();
        if !self.done {
            let pause = env.rng.range(50 * MS, 2 * SEC);
            env.after(pause, Ev::Boot(self.index));
        }
    }

    /// A session's number as an index.
    pub(crate) fn slot_of(session: u64) -> Option<usize> {
        (session < SESSIONS as u64).then_some(session as usize)
    }
}
