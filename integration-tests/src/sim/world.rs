//! A schedule: the brokers, the processes and the producers, moved from one thing that happens to the next until all is settled.

use super::broker::Broker;
use super::ending::Ending;
use super::env::{Env, Tally, tell};
use super::judge::Judge;
use super::log::Log;
use super::names::Names;
use super::plan::{BEGIN, Defect, MS, Personality, Plan, SEC};
use super::process::Process;
use super::queue::{Ev, Queue};
use super::rng::Rng;
use super::sender::{Flight, Sender};

/// The most time that may pass, after faults have stopped, until everything is settled.
pub(super) const PATIENCE: u64 = 400 * SEC;

/// A schedule handles at least so many messages.
const HANDLED: u32 = 100;

/// Everything of a schedule. Its memory serves the next one.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) broker: Broker,
    pub(crate) processes: Vec<Process>,
    pub(crate) senders: Vec<Sender>,
    pub(super) flights: Vec<Flight>,
    pub(super) weights: Vec<u64>,
    /// How many messages no proper producer has sent.
    pub(super) foreign: u64,
    /// Everybody leaves.
    pub(super) finishing: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        let env = Env {
            now: BEGIN,
            rng: Rng::new(0),
            queue: Queue::default(),
            plan: Plan::draw(0, None, Defect::None, Vec::new()),
            names: Names::new(),
            log: Log::default(),
            rights: Vec::new(),
            conns: Vec::new(),
            conns_used: 0,
            judge: Judge::new(),
            tally: Tally::default(),
            incarnations: 0,
            calm: false,
            stash: Vec::new(),
        };
        Self {
            env,
            broker: Broker::default(),
            processes: Vec::new(),
            senders: Vec::new(),
            flights: Vec::new(),
            weights: Vec::new(),
            foreign: 0,
            finishing: false,
        }
    }

    /// Prints everything that happens from now on.
    pub(crate) fn tells(&mut self, on: bool) {
        self.env.judge.tells = on;
    }

    pub(crate) fn personality(&self) -> Personality {
        self.env.plan.personality
    }

    /// Runs the schedule of a seed.
    pub(crate) fn run(&mut self, seed: u64, forced: Option<Personality>, defect: Defect) -> Ending {
        let faults = std::mem::take(&mut self.env.plan.faults);
        self.env.plan = Plan::draw(seed, forced, defect, faults);
        self.begin();
        let finished = self.go();
        self.end(finished)
    }

    /// From one thing to the next. Says whether everything came to its end.
    fn go(&mut self) -> bool {
        let limit = self.env.plan.quiet + PATIENCE;
        while let Some((time, ev)) = self.env.queue.pop() {
            if time > limit {
                return false;
            }
            debug_assert!(time >= self.env.now);
            self.env.now = time;
            self.env.tally.events += 1;
            self.happen(ev);
            if self.env.calm && self.env.log.unsettled == 0 && !self.finishing {
                self.finish();
            }
            if self.finishing && self.processes.iter().all(|process| !process.is_up()) {
                return self.senders.iter().all(Sender::is_done) && self.env.log.unsettled == 0;
            }
        }
        false
    }

    /// All is settled at the broker, and nothing more comes: everybody leaves.
    fn finish(&mut self) {
        let sent = self.senders.iter().all(Sender::is_done);
        let flying = self.flights.iter().any(Flight::may_land);
        if !sent || flying {
            return;
        }
        let missing = HANDLED.saturating_sub(self.env.tally.handled);
        if missing > 0 {
            return self.more(missing);
        }
        tell!(self.env, "-- everybody leaves");
        self.finishing = true;
        for process in &mut self.processes {
            process.done = true;
            process.drain(&mut self.env, 30 * SEC);
        }
    }

    /// Dead letters and what producers gave up are not handled: more is sent in their place.
    fn more(&mut self, missing: u32) {
        let env = &mut self.env;
        env.plan.poison = 0;
        let sender = env.rng.index(self.senders.len());
        for _ in 0..missing {
            let session = env.rng.index(env.plan.sessions as usize);
            self.senders[sender].to_send[session] += 1;
            self.senders[sender].left += 1;
        }
        tell!(env, "-- {missing} more messages");
        env.after(0, Ev::Send(sender as u8));
    }

    fn happen(&mut self, ev: Ev) {
        let env = &mut self.env;
        match ev {
            Ev::Up(conn) => self.up(conn),
            Ev::Down(conn) => {
                let process = env.conns[conn as usize].process;
                self.processes[process as usize].arrivals(env, conn);
            }
            Ev::Tick(process) => self.processes[process as usize].tick(env),
            Ev::RunEnd(process, slot, serial) => self.processes[process as usize].run_ends(env, slot, serial),
            Ev::Poll(process, slot, serial) => self.processes[process as usize].late_poll(env, slot, serial),
            Ev::Thaw(process) => self.processes[process as usize].thaw(env),
            Ev::Boot(process) => {
                if !self.processes[process as usize].is_up() && !self.finishing {
                    self.processes[process as usize].boot(env);
                }
            }
            Ev::Connect(process, incarnation) => self.connect(process, incarnation),
            Ev::Notice(conn) => self.notice(conn, ev),
            Ev::Right(token) => {
                if !self.later(ev) {
                    self.broker.right_due(&mut self.env, token);
                }
            }
            Ev::Silent(conn) => {
                if !self.later(ev) {
                    let process = &self.processes[self.env.conns[conn as usize].process as usize];
                    let c = &self.env.conns[conn as usize];
                    let alive = process.conn == Some(conn) && !process.frozen && !c.up.dead;
                    self.broker.silent(&mut self.env, conn, alive);
                }
            }
            Ev::Member(process) => {
                if !self.later(ev) {
                    self.broker.member_due(&mut self.env, process);
                }
            }
            Ev::Stashed(at) => self.stashed(at, ev),
            Ev::Lost(token) => self.lost(token, ev),
            Ev::Subscribe(process, incarnation, lane) => {
                let process = &self.processes[process as usize];
                if process.incarnation == incarnation
                    && let Some(conn) = process.conn
                    && !process.left
                {
                    env.send_up(conn, super::wire::Up::Subscribe(lane));
                }
            }
            Ev::Fault(at) => self.strike(at),
            Ev::Quick(conn) => env.conns[conn as usize].slow = 0,
            Ev::Unpause(process, incarnation) => {
                let process = &mut self.processes[process as usize];
                if process.incarnation == incarnation && process.paused {
                    process.pause(env, false);
                }
            }
            Ev::BrokerUp => self.broker_up(),
            Ev::Send(sender) => self.senders[sender as usize].wake(env, &mut self.flights),
            Ev::SendTick(sender) => self.senders[sender as usize].tick(env, &mut self.flights),
            Ev::Land(at) => {
                if self.broker.frozen || self.broker.down {
                    env.after(50 * MS, ev);
                } else {
                    self.broker.land(env, &mut self.flights, at);
                }
            }
            Ev::Sent(at) => {
                let waits = self.flights[at as usize].waits();
                if waits {
                    return env.after(51 * MS, ev);
                }
                let sender = self.flights[at as usize].sender();
                self.senders[sender as usize].sent(env, &mut self.flights, at);
            }
            Ev::Resume(sender, incarnation, session) => {
                let sender = &mut self.senders[sender as usize];
                if sender.incarnation == incarnation {
                    sender.resume(env, &mut self.flights, session);
                }
            }
            Ev::Producer(sender) => self.senders[sender as usize].boot(env),
            Ev::Patience(process, slot, serial) => self.processes[process as usize].patience(env, slot, serial),
            Ev::Foreign => {
                self.foreign += 1;
                self.foreign(self.foreign);
            }
            Ev::Kill(process, incarnation) => {
                let process = &mut self.processes[process as usize];
                if process.incarnation == incarnation && process.is_up() && process.draining {
                    process.crash(env, false);
                    if !process.done {
                        env.after(SEC, Ev::Boot(process.index));
                    }
                }
            }
            Ev::Quiet => self.quiet(),
        }
    }

    /// A broker that stands still does it later.
    fn later(&mut self, ev: Ev) -> bool {
        if self.broker.frozen {
            self.env.after(100 * MS, ev);
        }
        self.broker.frozen
    }

    fn up(&mut self, conn: u16) {
        if self.broker.frozen {
            return;
        }
        while let Some(what) = self.env.conns[conn as usize].up.arrived(self.env.now) {
            self.broker.up(&mut self.env, conn, what);
        }
        self.broker.deny(&mut self.env);
    }

    fn broker_up(&mut self) {
        (self.broker.frozen, self.broker.down) = (false, false);
        for conn in 0..self.env.conns_used as u16 {
            if !self.env.conns[conn as usize].up.queue.is_empty() {
                let late = self.env.rng.below(MS);
                self.env.after(late, Ev::Up(conn));
            }
        }
    }

    fn connect(&mut self, process: u8, incarnation: u32) {
        if self.processes[process as usize].incarnation != incarnation {
            return;
        }
        if self.env.plan.personality.in_process() {
            // A broker in the process knows at once that the old connection is over.
            for conn in 0..self.env.conns_used as u16 {
                let c = &self.env.conns[conn as usize];
                if c.process == process && c.broker_open && !c.client_open && !self.broker.frozen {
                    self.broker.closed(&mut self.env, conn);
                }
            }
        }
        let down = self.broker.down || (self.broker.frozen && self.env.plan.personality.in_process());
        self.processes[process as usize].connect(&mut self.env, down);
    }

    /// A client has heard nothing for too long.
    fn notice(&mut self, conn: u16, ev: Ev) {
        let c = &self.env.conns[conn as usize];
        let process = &mut self.processes[c.process as usize];
        if process.conn != Some(conn) || !(c.up.dead || c.down.dead) {
            return;
        }
        if process.frozen {
            return self.env.queue.push(process.thaws_at + 1, ev);
        }
        self.env.send_up(conn, super::wire::Up::Closed);
        process.disconnected(&mut self.env);
        process.step(&mut self.env);
    }

    fn stashed(&mut self, at: u32, ev: Ev) {
        let Some((process, incarnation, what)) = self.env.stash.get(at as usize).copied() else { return };
        let process = &mut self.processes[process as usize];
        if process.incarnation != incarnation || !process.is_up() {
            return;
        }
        if matches!(what, super::wire::Down::Kicked) {
            // The answer to a heartbeat of one who was put out.
            let member = self.broker.members[process.index as usize];
            let again = member.joined && member.incarnation == incarnation;
            if let (Some(conn), false) = (process.conn, again) {
                self.env.send_down(conn, what);
            }
            return;
        }
        if process.frozen {
            return self.env.queue.push(process.thaws_at + 1, ev);
        }
        process.stashed(&mut self.env, what);
    }

    fn lost(&mut self, token: u32, ev: Ev) {
        let right = &self.env.rights[token as usize];
        let (grant, incarnation) = (right.grant, right.incarnation);
        let process = &mut self.processes[right.process as usize];
        if process.incarnation != incarnation || !process.is_up() {
            return;
        }
        if process.frozen {
            return self.env.queue.push(process.thaws_at + 1, ev);
        }
        let why = convoy_core::backend::Loss::Disconnected;
        process.feed_event(&mut self.env, convoy_core::backend::Event::Lost { grant, why });
        process.step(&mut self.env);
    }

    /// Faults stop: what they did is undone, or runs out.
    fn quiet(&mut self) {
        tell!(self.env, "-- faults are over");
        self.env.calm = true;
        if self.broker.frozen || self.broker.down {
            self.env.after(MS, Ev::BrokerUp);
        }
        for conn in 0..self.env.conns_used {
            self.env.conns[conn].slow = 0;
        }
        for at in 0..self.processes.len() {
            let env = &mut self.env;
            let process = &mut self.processes[at];
            if process.paused {
                process.pause(env, false);
            }
            if process.frozen {
                process.thaws_at = env.now;
                process.thaw(env);
            }
            process.unhang(env);
            if !process.is_up() && process.incarnation > 0 {
                env.after(MS, Ev::Boot(at as u8));
            }
        }
        if self.env.plan.max_attempts == 0 {
            self.env.log.entries.iter_mut().for_each(|entry| entry.poison = false);
            self.env.plan.poison = 0;
        }
    }
}
