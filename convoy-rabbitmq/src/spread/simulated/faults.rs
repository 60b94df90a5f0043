//! What befalls members.

use std::time::Duration;

use fastrand::Rng;

use super::super::Word;
use super::broker::Conn;
use super::world::{At, Event, REGISTERS_WITHIN, SLOWEST, World, ms};
use crate::lane::AGAIN_AFTER;

/// A process that is frozen for longer has lost its connection.
const CUT_AFTER: Duration = ms(8_000);

/// So many members are there at once, at most.
const MOST_MEMBERS: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Three members come to 24 lanes, and nothing befalls them.
    Calm,
    /// Once all is at rest, one thing befalls one of them, and nothing is lost or slow.
    One,
    /// Anything.
    Spoilt,
}

/// What may befall a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Join,
    Leave,
    Kill,
    Freeze,
    /// It loses its connection and comes again.
    CutOff,
    LoseMembership,
    /// It does not hear one of the others for a while.
    Deafen,
}

const FAULTS: [Fault; 9] = [
    Fault::Join,
    Fault::Leave,
    Fault::Kill,
    Fault::Freeze,
    Fault::Freeze,
    Fault::CutOff,
    Fault::CutOff,
    Fault::LoseMembership,
    Fault::Deafen,
];

/// What befalls a schedule.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) lanes: u32,
    pub(super) members: usize,
    pub(super) faults: u32,
    /// Of the words that members say so many do not arrive.
    pub(super) loss: f64,
    pub(super) delay: Duration,
    /// How many lanes of ten have messages all the time; the others have none.
    pub(super) busy: u32,
}

impl Plan {
    pub(super) fn new(random: &mut Rng) -> Self {
        let busy = [0, 0, 5, 10][random.usize(..4)];
        let kind = [Kind::Calm, Kind::One, Kind::Spoilt, Kind::Spoilt][random.usize(..4)];
        if kind != Kind::Spoilt {
            let faults = u32::from(kind == Kind::One);
            return Self { kind, lanes: 24, members: 3, faults, loss: 0.0, delay: ms(30), busy };
        }
        let lanes = if random.bool() { 24 } else { random.u32(1..=32) };
        let loss = if random.bool() { 0.0 } else { random.f64() * 0.4 };
        let delay = if random.bool() { ms(30) } else { ms(250) };
        Self { kind, lanes, members: random.usize(1..=5), faults: random.u32(1..=8), loss, delay, busy }
    }

    pub(super) fn bare_limit(&self) -> Duration {
        // A gap begins when the last one steps back, and may end when that one is there again.
        AGAIN_AFTER + if self.kind == Kind::Spoilt { SLOWEST } else { REGISTERS_WITHIN }
    }
}

impl World {
    pub(super) fn fault(&mut self) {
        let able: Vec<usize> = (0..self.processes.len()).filter(|process| self.is_able(*process)).collect();
        let strikes = (!able.is_empty()).then(|| able[self.random.usize(..able.len().max(1))]);
        let mut fault = FAULTS[self.random.usize(..FAULTS.len())];
        // Somebody stays.
        if able.len() < 2 && matches!(fault, Fault::Leave | Fault::Kill) || able.is_empty() {
            fault = Fault::Join;
        }
        self.judge.strikes(fault);
        match (fault, strikes) {
            (Fault::Leave, Some(process)) => self.leave(process),
            (Fault::Kill, Some(process)) => self.kill(process),
            (Fault::Freeze, Some(process)) => self.freeze(process),
            (Fault::CutOff, Some(process)) => self.cut_off(process),
            (Fault::LoseMembership, Some(process)) => self.lose_membership(process),
            (Fault::Deafen, Some(process)) => self.deafen(process),
            _ if able.len() < MOST_MEMBERS => self.join(ms(50)),
            _ => {}
        }
        self.faults_left -= 1;
        if self.faults_left > 0 {
            let apart = self.one_of([300, 2_000, 8_000]);
            self.within(apart, Event::Fault);
        }
        self.lasts_until(self.now);
    }

    fn is_able(&self, process: usize) -> bool {
        let process = &self.processes[process];
        process.alive && !process.leaving && process.frozen.is_none()
    }

    /// It gives its lanes up one by one, and says goodbye at the end.
    fn leave(&mut self, process: usize) {
        let Some(conn) = self.conn(process) else { return };
        self.note(|| format!("{process} leaves"));
        self.judge.changes += 1;
        self.processes[process].leaving = true;
        for lane in 0..self.plan.lanes {
            match &mut self.processes[process].lanes[lane as usize] {
                At::Here { has: true, moving: true, .. } | At::Away => {}
                At::Here { has: true, moving, .. } => {
                    *moving = true;
                    self.drains(conn, lane);
                }
                At::Here { .. } => self.give_up(conn, lane),
            }
        }
        self.gone_when_empty(conn);
    }

    pub(super) fn gone_when_empty(&mut self, conn: Conn) {
        let process = &self.processes[conn.member];
        if process.alive && process.lanes.iter().all(|lane| matches!(lane, At::Away)) {
            self.say(conn.member, Word::Bye);
            self.processes[conn.member].alive = false;
            self.lasts_until(self.now);
            self.drop_all(conn);
        }
    }

    fn kill(&mut self, process: usize) {
        let Some(conn) = self.conn(process) else { return };
        self.note(|| format!("{process} is killed"));
        self.judge.changes += 1;
        self.processes[process].alive = false;
        self.dropped_soon(conn);
    }

    /// The broker sees a reset at once, and a half-open connection by its heartbeats.
    fn dropped_soon(&mut self, conn: Conn) {
        let within = if self.random.bool() { ms(20) } else { CUT_AFTER };
        let dropped = self.within(within, Event::Drop(conn));
        self.lasts_until(dropped);
    }

    fn freeze(&mut self, process: usize) {
        let Some(conn) = self.conn(process) else { return };
        let most = self.one_of([1_000, 4_000, 12_000]);
        let time = self.up_to(most);
        self.note(|| format!("{process} is frozen for {time:?}"));
        self.judge.changes += 2;
        self.processes[process].frozen = Some(Vec::new());
        self.processes[process].ready_since = None;
        let thaws = self.now + time;
        self.at(thaws, Event::Thaw(process));
        self.lasts_until(thaws);
        if time > CUT_AFTER {
            self.at(self.now + CUT_AFTER, Event::Drop(conn));
            let sees = thaws + self.up_to(ms(50));
            self.at(sees, Event::Cut(conn));
        }
    }

    /// What it missed comes all at once; whether it looks first is chance.
    pub(super) fn thaw(&mut self, process: usize) {
        self.note(|| format!("{process} thaws"));
        let mut missed = self.processes[process].frozen.take().unwrap_or_default();
        self.processes[process].ready_since = Some(self.now).filter(|_| self.processes[process].joined);
        if self.random.bool() {
            missed.sort_by_key(|event| !matches!(event, Event::Look(..)));
        }
        missed.into_iter().for_each(|event| self.at(self.now, event));
    }

    fn cut_off(&mut self, process: usize) {
        if let Some(conn) = self.conn(process) {
            self.judge.changes += 2;
            self.dropped_soon(conn);
            self.cut(conn);
        }
    }

    pub(super) fn cut(&mut self, conn: Conn) {
        let lanes = self.plan.lanes as usize;
        let next = Conn { number: conn.number + 1, ..conn };
        let process = &mut self.processes[conn.member];
        if process.connection != conn.number || !process.alive {
            return;
        }
        process.view.forget();
        process.connection += 1;
        process.lanes = vec![At::Away; lanes];
        (process.subscribed, process.joined, process.listening, process.ready_since) = (0, false, false, None);
        self.note(|| format!("{conn:?} is cut off"));
        if self.processes[conn.member].leaving {
            return self.gone_when_empty(next);
        }
        let pause = if self.random.bool() { ms(100) } else { ms(5_000) };
        let connects = self.within(pause, Event::Connect(next));
        self.lasts_until(connects);
    }

    fn lose_membership(&mut self, process: usize) {
        let Some(conn) = self.conn(process).filter(|_| self.processes[process].listening) else { return };
        self.note(|| format!("{process} loses its membership"));
        self.judge.changes += 2;
        self.processes[process].listening = false;
        let pause = if self.random.bool() { ms(100) } else { ms(5_000) };
        let listens = self.within(pause, Event::Listen(conn));
        self.lasts_until(listens);
    }

    fn deafen(&mut self, process: usize) {
        let other = self.random.usize(..self.processes.len());
        let (id, until) = (self.processes[other].id, self.now + self.up_to(ms(8_000)));
        self.note(|| format!("{process} does not hear {other} until {until:?}"));
        self.judge.changes += 2;
        self.processes[process].deaf.push((id, until));
        self.lasts_until(until);
    }
}
