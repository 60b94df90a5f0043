//! One schedule: processes of a group, the broker between them, and what befalls them by a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use convoy_core::Moment;
use fastrand::Rng;

use super::super::{HELLO_EVERY, Member, Word};
use super::broker::{Broker, Conn};
use super::faults::{Kind, Plan};
use super::judge::Judge;
use super::view::{Defect, View};
use crate::consumer::SUBSCRIBE_LIMIT;
use crate::lane::{AGAIN_AFTER, PROBE_AGAIN};
use crate::members::LOOK_EVERY;

/// So long a registration that is not disturbed takes.
pub(super) const REGISTERS_WITHIN: Duration = ms(60);
/// So long one takes at most.
pub(super) const SLOWEST: Duration = ms(7_000);

pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// The next thing that befalls somebody.
    Fault,
    Connect(Conn),
    Register(Conn, u32),
    /// It says that it is there though it is not registered for everything.
    WaitsNoLonger(Conn),
    Listen(Conn),
    Look(Conn, u32),
    SayHello(Conn, u32),
    Hear {
        to: Conn,
        listens: u32,
        from: Member,
        word: Word,
    },
    /// A lane that is to move has nothing under way any more.
    Drained(Conn, u32),
    /// A message comes to whoever is active.
    Deliver(u32),
    /// The member sees that its connection is gone.
    Cut(Conn),
    /// The broker does.
    Drop(Conn),
    Thaw(usize),
    /// Everything is looked at.
    Judge,
}

/// A lane, as a process has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Away,
    Here { has: bool, moving: bool, probed: Option<Moment> },
}

const HERE: At = At::Here { has: false, moving: false, probed: None };

#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: Member,
    pub(super) view: View,
    pub(super) lanes: Vec<At>,
    pub(super) connection: u32,
    /// The broker takes nothing of older ones.
    pub(super) accepted: u32,
    pub(super) subscribed: u32,
    pub(super) joined: bool,
    pub(super) listens: u32,
    pub(super) listening: bool,
    pub(super) alive: bool,
    pub(super) leaving: bool,
    pub(super) frozen: Option<Vec<Event>>,
    /// Since when it is there with everything, and awake.
    pub(super) ready_since: Option<Moment>,
    pub(super) deaf: Vec<(Member, Moment)>,
}

pub(super) struct World {
    pub(super) random: Rng,
    pub(super) plan: Plan,
    defect: Option<Defect>,
    pub(super) now: Moment,
    events: BTreeMap<(Moment, u64), Event>,
    told: u64,
    pub(super) broker: Broker,
    busy: Vec<bool>,
    pub(super) processes: Vec<Process>,
    pub(super) faults_left: u32,
    /// When the last fault is over, as far as that is known.
    pub(super) calm_at: Moment,
    pub(super) judge: Judge,
    pub(super) trace: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, defect: Option<Defect>, traced: bool) -> Self {
        let mut random = Rng::with_seed(seed);
        let plan = Plan::new(&mut random);
        let busy = (0..plan.lanes).map(|_| random.u32(..10) < plan.busy).collect();
        let now = Moment::ORIGIN + ms(1_000);
        let broker = Broker::new(plan.lanes);
        let (faults_left, judge, trace) = (plan.faults, Judge::default(), traced.then(Vec::new));
        let (events, processes) = (BTreeMap::new(), Vec::new());
        let mut world = Self {
            random,
            plan,
            defect,
            now,
            events,
            told: 0,
            broker,
            busy,
            processes,
            faults_left,
            calm_at: now,
            judge,
            trace,
        };
        let apart = world.one_of([50, 400, 3_000]);
        for _ in 0..world.plan.members {
            world.join(apart);
        }
        if faults_left > 0 {
            let after = if world.plan.kind == Kind::One { ms(8_000) } else { world.up_to(ms(6_000)) };
            world.at(now + after, Event::Fault);
        }
        world.at(now, Event::Judge);
        world
    }

    /// Until everything was judged.
    pub(super) fn run(&mut self) -> Result<(), String> {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            if let Some(process) = self.concerns(event)
                && let Some(missed) = &mut self.processes[process].frozen
            {
                missed.push(event);
                continue;
            }
            if matches!(event, Event::Judge) {
                if Judge::look(self)? {
                    return Ok(());
                }
                self.at(self.now + LOOK_EVERY, Event::Judge);
            } else {
                self.happens(event);
            }
        }
        Err("nothing happens any more".to_owned())
    }

    /// Whether words may be lost, and anything may be slow.
    pub(super) fn is_spoilt(&self) -> bool {
        self.faults_left > 0 && self.plan.kind == Kind::Spoilt
    }

    /// In which process an event would be noticed.
    fn concerns(&self, event: Event) -> Option<usize> {
        match event {
            Event::Connect(conn)
            | Event::Register(conn, _)
            | Event::WaitsNoLonger(conn)
            | Event::Listen(conn)
            | Event::Look(conn, _)
            | Event::SayHello(conn, _)
            | Event::Hear { to: conn, .. }
            | Event::Drained(conn, _)
            | Event::Cut(conn) => Some(conn.member),
            Event::Deliver(lane) => self.broker.active(lane).map(|conn| conn.member),
            Event::Fault | Event::Drop(_) | Event::Thaw(_) | Event::Judge => None,
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Fault => self.fault(),
            Event::Connect(conn) => self.connect(conn),
            Event::Register(conn, lane) => self.register(conn, lane),
            Event::WaitsNoLonger(conn) => self.subscribed(conn),
            Event::Listen(conn) => self.listen(conn),
            Event::Look(conn, listens) => self.look(conn, listens),
            Event::SayHello(conn, listens) if self.listens(conn, listens) => {
                self.say(conn.member, Word::Hello);
                self.at(self.now + HELLO_EVERY, event);
            }
            Event::SayHello(..) => {}
            Event::Hear { to, listens, from, word } => self.hear(to, listens, from, word),
            Event::Drained(conn, lane) => self.give_up(conn, lane),
            Event::Deliver(lane) => self.deliver(lane),
            Event::Cut(conn) => self.cut(conn),
            Event::Drop(conn) => self.drop_all(conn),
            Event::Thaw(process) => self.thaw(process),
            Event::Judge => {}
        }
    }

    // A process.

    pub(super) fn join(&mut self, within: Duration) {
        let (lanes, id) = (self.plan.lanes, self.random.u128(..));
        self.processes.push(Process {
            id,
            view: View::new(id, lanes, self.defect),
            lanes: vec![At::Away; lanes as usize],
            connection: 0,
            accepted: 0,
            subscribed: 0,
            joined: false,
            listens: 0,
            listening: false,
            alive: true,
            leaving: false,
            frozen: None,
            ready_since: None,
            deaf: Vec::new(),
        });
        let conn = Conn { member: self.processes.len() - 1, number: 0 };
        let connects = self.within(within, Event::Connect(conn));
        self.lasts_until(connects);
        self.judge.changes += 1;
    }

    /// Registers for every lane; only then it says that it is there.
    fn connect(&mut self, conn: Conn) {
        let process = &self.processes[conn.member];
        if process.connection != conn.number || !process.alive {
            return;
        }
        let began = self.now;
        for lane in 0..self.plan.lanes {
            self.registers_soon(conn, lane, began);
        }
        self.at(began + SUBSCRIBE_LIMIT, Event::WaitsNoLonger(conn));
    }

    fn registers_soon(&mut self, conn: Conn, lane: u32, from: Moment) {
        let slow = self.is_spoilt() && self.random.u32(..200) == 0;
        let takes = self.up_to(if slow { SLOWEST } else { REGISTERS_WITHIN });
        if slow {
            self.lasts_until(from + takes);
        }
        self.at(from + takes, Event::Register(conn, lane));
    }

    fn register(&mut self, conn: Conn, lane: u32) {
        let process = &mut self.processes[conn.member];
        if process.connection != conn.number || conn.number < process.accepted || process.leaving || !process.alive {
            return;
        }
        process.lanes[lane as usize] = HERE;
        process.subscribed += 1;
        let all = process.subscribed == self.plan.lanes;
        self.note(|| format!("{conn:?} registers for {lane}"));
        if self.broker.register(conn, lane) {
            self.becomes_active(lane);
        }
        if all {
            self.subscribed(conn);
        }
    }

    fn subscribed(&mut self, conn: Conn) {
        let now = self.now;
        let process = &mut self.processes[conn.member];
        if process.connection == conn.number && process.alive && !process.joined {
            process.joined = true;
            process.ready_since = Some(now);
            let listens = self.within(ms(30), Event::Listen(conn));
            self.lasts_until(listens);
        }
    }

    fn listen(&mut self, conn: Conn) {
        let process = &mut self.processes[conn.member];
        if process.connection != conn.number || !process.alive {
            return;
        }
        process.listens += 1;
        process.listening = true;
        let listens = process.listens;
        self.say(conn.member, Word::Join);
        self.at(self.now + LOOK_EVERY, Event::Look(conn, listens));
        self.at(self.now + HELLO_EVERY, Event::SayHello(conn, listens));
        self.lasts_until(self.now);
    }

    fn look(&mut self, conn: Conn, listens: u32) {
        if !self.listens(conn, listens) {
            return;
        }
        let process = &mut self.processes[conn.member];
        let lanes = &process.lanes;
        let has = |lane: u32| matches!(lanes[lane as usize], At::Here { has: true, .. });
        let moves = process.view.tick(self.now, has);
        let probes = process.view.missing(self.now, has);
        moves.into_iter().for_each(|lane| self.moves(conn, lane));
        probes.into_iter().for_each(|lane| self.probes(conn, lane));
        self.at(self.now + LOOK_EVERY, Event::Look(conn, listens));
    }

    fn moves(&mut self, conn: Conn, lane: u32) {
        let At::Here { has, moving, .. } = &mut self.processes[conn.member].lanes[lane as usize] else { return };
        let (was_moving, has) = (std::mem::replace(moving, true), *has);
        if was_moving {
            return;
        }
        self.judge.moved(self.now);
        self.note(|| format!("{conn:?} moves {lane}, has it: {has}"));
        if has { self.drains(conn, lane) } else { self.give_up(conn, lane) }
    }

    pub(super) fn drains(&mut self, conn: Conn, lane: u32) {
        let slow = self.is_spoilt() && self.random.u32(..20) == 0;
        let drained = self.within(ms(if slow { 5_000 } else { 200 }), Event::Drained(conn, lane));
        if slow {
            self.lasts_until(drained);
        }
    }

    pub(super) fn give_up(&mut self, conn: Conn, lane: u32) {
        let process = &mut self.processes[conn.member];
        if process.connection != conn.number || !process.alive {
            return;
        }
        process.lanes[lane as usize] = At::Away;
        let leaving = process.leaving;
        self.unregister(conn, lane);
        if leaving {
            self.gone_when_empty(conn);
        } else {
            self.registers_soon(conn, lane, self.now + AGAIN_AFTER);
        }
    }

    fn probes(&mut self, conn: Conn, lane: u32) {
        let now = self.now;
        let At::Here { has: false, probed, .. } = &mut self.processes[conn.member].lanes[lane as usize] else { return };
        if probed.is_none_or(|at| now.since(at) >= PROBE_AGAIN) {
            *probed = Some(now);
            self.judge.probed(now);
            self.note(|| format!("{conn:?} probes {lane}"));
            if !self.is_lost() {
                self.within(ms(30), Event::Deliver(lane));
            }
        }
    }

    pub(super) fn listens(&self, conn: Conn, listens: u32) -> bool {
        let process = &self.processes[conn.member];
        process.connection == conn.number && process.listening && process.listens == listens && process.alive
    }

    // What members say.

    pub(super) fn say(&mut self, from: usize, word: Word) {
        let id = self.processes[from].id;
        if word != Word::Hello {
            self.note(|| format!("{from} says {word:?}"));
        }
        for to in 0..self.processes.len() {
            let process = &self.processes[to];
            let deaf = process.deaf.iter().any(|(other, until)| *other == id && self.now < *until);
            if to == from || deaf || !process.alive || !process.listening {
                continue;
            }
            let (to, listens) = (Conn { member: to, number: process.connection }, process.listens);
            if !self.is_lost() {
                let delay = if self.is_spoilt() { self.plan.delay } else { ms(30) };
                self.within(delay, Event::Hear { to, listens, from: id, word });
            }
        }
    }

    fn hear(&mut self, to: Conn, listens: u32, from: Member, word: Word) {
        if self.listens(to, listens) {
            let answer = self.processes[to.member].view.told(from, word, self.now);
            if let Some(answer) = answer {
                self.say(to.member, answer);
            }
        }
    }

    fn is_lost(&mut self) -> bool {
        self.is_spoilt() && self.random.f64() < self.plan.loss
    }

    // The broker.

    fn unregister(&mut self, conn: Conn, lane: u32) {
        if self.broker.remove(conn, lane, self.now) {
            self.becomes_active(lane);
        }
    }

    fn becomes_active(&mut self, lane: u32) {
        self.judge.activated(self.now);
        let active = self.broker.active(lane);
        self.note(|| format!("lane {lane} is active at {active:?}"));
        if self.broker.take(lane) || self.busy[lane as usize] {
            self.within(ms(100), Event::Deliver(lane));
        }
    }

    fn deliver(&mut self, lane: u32) {
        let Some(conn) = self.broker.active(lane) else { return self.broker.keep(lane) };
        let process = &mut self.processes[conn.member];
        // To a connection that nobody has any more it is delivered, too, and comes again when the broker sees that.
        if process.connection != conn.number || !process.alive {
            return self.broker.keep(lane);
        }
        if let At::Here { has, .. } = &mut process.lanes[lane as usize] {
            *has = true;
        }
    }

    pub(super) fn drop_all(&mut self, conn: Conn) {
        self.processes[conn.member].accepted = conn.number + 1;
        (0..self.plan.lanes).for_each(|lane| self.unregister(conn, lane));
    }

    // Time.

    pub(super) fn conn(&self, process: usize) -> Option<Conn> {
        Some(Conn { member: process, number: self.processes.get(process)?.connection })
    }

    pub(super) fn lasts_until(&mut self, at: Moment) {
        self.calm_at = self.calm_at.max(at);
    }

    pub(super) fn one_of(&mut self, times: [u64; 3]) -> Duration {
        ms(times[self.random.usize(..times.len())])
    }

    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.random.u64(1..=most.as_micros() as u64))
    }

    pub(super) fn within(&mut self, most: Duration, event: Event) -> Moment {
        let at = self.now + self.up_to(most);
        self.at(at, event);
        at
    }

    pub(super) fn at(&mut self, at: Moment, event: Event) {
        self.told += 1;
        self.events.insert((at, self.told), event);
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.3} {}", self.now.since(Moment::ORIGIN).as_secs_f64(), what()));
        }
    }
}
