//! The simulated brokers: one table of places and rights, and a file for what each personality does differently.

mod answers;
mod group;
mod lanes;
mod queue;
mod sessions;

use std::sync::Arc;

use convoy_core::backend::{Above, Grant, Loss, Progress};

use super::env::{Env, NONE, Right, tell};
use super::log::Entry;
use super::names::session_key;
use super::plan::Personality;
use super::queue::Ev;
use super::wire::{Down, Up};
use crate::history::{Fault, Phase, Side};

/// What a group committed of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) watermark: u64,
    pub(crate) end: u64,
    pub(crate) open: Vec<(u64, u64)>,
}

impl Committed {
    /// Whether this message is done.
    pub(crate) fn covers(&self, key: u64, position: u64) -> bool {
        let open = || self.open.iter().any(|(of, from)| *of == key && *from <= position);
        position < self.watermark || (position < self.end && !open())
    }

    /// What is done in all: what this holder did, and what it read that others had done behind it. A commit replaces the one before, so a
    /// client that sent its own progress alone would take back what it has not come to yet.
    pub(crate) fn merged(&self, progress: &Progress) -> Self {
        let mut open: Vec<(u64, u64)> = match &progress.above {
            Above::Open(open) => open.iter().map(|(id, from)| (session_key(id), *from)).collect(),
            _ => Vec::new(),
        };
        if progress.end < self.end {
            for (key, from) in &self.open {
                if !open.iter().any(|(of, _)| of == key) {
                    open.push((*key, (*from).max(progress.end)));
                }
            }
        }
        Self { watermark: progress.watermark, end: progress.end.max(self.end), open }
    }
}

/// A session or a lane.
#[derive(Debug, Default)]
pub(crate) struct Spot {
    pub(crate) entries: Vec<u32>,
    /// The first entry that is not settled.
    pub(crate) head: u32,
    pub(crate) holder: u32,
    pub(crate) committed: Committed,
    /// Who is registered, the first one first.
    pub(crate) subscribers: Vec<u16>,
    /// Who is to get it next.
    pub(crate) target: Option<u8>,
}

/// A member of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Member {
    pub(crate) incarnation: u32,
    pub(crate) conn: u16,
    pub(crate) joined: bool,
    pub(crate) leaving: bool,
    pub(crate) expires: u64,
    pub(crate) watched: bool,
}

/// A broker.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    pub(crate) spots: Vec<Spot>,
    pub(crate) members: Vec<Member>,
    /// Stands still, or is stopped.
    pub(crate) frozen: bool,
    pub(crate) down: bool,
    named: Vec<(u8, u16, u64)>,
    turn: usize,
}

impl Broker {
    pub(crate) fn reset(&mut self, places: usize, processes: usize) {
        for spot in &mut self.spots {
            spot.entries.clear();
            spot.subscribers.clear();
            spot.committed = Committed::default();
            (spot.head, spot.holder, spot.target) = (0, NONE, None);
        }
        self.spots.truncate(places);
        self.spots.resize_with(places, || Spot { holder: NONE, ..Spot::default() });
        self.members.clear();
        self.members.resize(processes, Member::default());
        self.named.clear();
        (self.frozen, self.down, self.turn) = (false, false, 0);
    }

    /// Something reached the broker.
    pub(crate) fn up(&mut self, env: &mut Env, conn: u16, what: Up) {
        if !env.conns[conn as usize].broker_open {
            return;
        }
        tell!(env, "c{conn} > broker {what:?}");
        env.conns[conn as usize].heard = env.now;
        if env.plan.personality == Personality::Group && !matches!(what, Up::Join | Up::Closed) {
            let process = env.conns[conn as usize].process;
            let member = &self.members[process as usize];
            if !member.joined || member.incarnation != env.conns[conn as usize].incarnation {
                return env.send_down(conn, Down::Kicked);
            }
            if conn < member.conn {
                // Late, on a connection that its client gave up. A commit among it would take back what its successor says: a client has to
                // see to it that none can.
                return;
            }
        }
        match what {
            Up::Join | Up::Back => self.join(env, conn),
            Up::Leave => self.leave(env, conn),
            Up::Accept(more) => {
                env.conns[conn as usize].asks += more;
                self.serve(env);
            }
            Up::AcceptNamed(session, until) => {
                self.named.push((session, conn, until));
                env.queue.push(until, Ev::Up(conn));
                self.serve(env);
            }
            Up::Subscribe(lane) => self.subscribe(env, conn, lane),
            Up::Fetch(token, from) => {
                env.rights[token as usize].cursor = from;
                env.rights[token as usize].conn = conn;
                self.pump(env, token);
            }
            Up::Settle(token, ticket, progress) => self.settle(env, conn, token, ticket, progress),
            Up::SetAside(token, position, reason) => self.set_aside(env, conn, token, position, reason),
            Up::Renew(token, asked_at) => self.renew(env, conn, token, asked_at),
            Up::Read(token, on) => {
                env.rights[token as usize].reads = on;
                self.pump(env, token);
            }
            Up::Release(token) => self.given_back(env, conn, token, false),
            Up::Surrender(token) => self.given_back(env, conn, token, true),
            Up::Closed => self.closed(env, conn),
        }
    }

    /// A message is there.
    pub(crate) fn append(&mut self, env: &mut Env, entry: Entry) -> u64 {
        let at = env.log.entries.len() as u32;
        let spot = &mut self.spots[entry.place as usize];
        let holder = spot.holder;
        spot.entries.push(at);
        env.log.entries.push(entry);
        env.log.unsettled += 1;
        if holder == NONE {
            self.offer(env);
        } else {
            self.pump(env, holder);
        }
        u64::from(at) + 1
    }

    /// Gives free places away, as far as somebody wants them.
    pub(crate) fn offer(&mut self, env: &mut Env) {
        match env.plan.personality {
            Personality::Session | Personality::MemorySessions => self.serve(env),
            Personality::Group | Personality::MemoryLanes => self.share(env),
            Personality::Queue => self.activate_all(env),
        }
    }

    fn grant(&mut self, env: &mut Env, place: usize, conn: u16, told: bool) -> u32 {
        let token = env.rights.len() as u32;
        let of = if env.plan.personality.locks_sessions() { &env.names.sessions } else { &env.names.lanes };
        let grant = Grant::new(u64::from(token) + 1, &of[place]);
        let c = &env.conns[conn as usize];
        let (process, incarnation) = (c.process, c.incarnation);
        let spot = &mut self.spots[place];
        let first = spot.entries.get(spot.head as usize).map_or(env.log.entries.len() as u64, |at| u64::from(*at)) + 1;
        let group = env.plan.personality == Personality::Group;
        let start = if group { spot.committed.watermark } else { first };
        env.rights.push(Right {
            grant,
            place: place as u8,
            conn,
            process,
            incarnation,
            active: true,
            told,
            start,
            expires: env.now + env.plan.lock,
            reads: true,
            cursor: spot.head,
            out: 0,
            taken_at: u64::MAX,
            live: false,
            cell: None,
            granted_at: 0,
            asked_at: 0,
            next: spot.head,
            until: u64::MAX,
            recovered: if group { spot.committed.clone() } else { Committed::default() },
            proved: false,
            wanted: true,
        });
        (spot.holder, spot.target) = (token, None);
        tell!(env, "broker grants place {place} as {token} to p{incarnation}");
        if told {
            env.send_down(conn, Down::Granted(token));
        }
        token
    }

    /// Hands out what may be handed out.
    pub(crate) fn pump(&mut self, env: &mut Env, token: u32) {
        let r = &mut env.rights[token as usize];
        if !r.active || !r.reads {
            return;
        }
        let (place, conn) = (r.place as usize, r.conn);
        let personality = env.plan.personality;
        let limit = match personality {
            Personality::Group | Personality::MemoryLanes => u32::MAX,
            _ => env.plan.prefetch,
        };
        let mut passed = 0;
        while let Some(at) = self.spots[place].entries.get(env.rights[token as usize].cursor as usize).copied() {
            let r = &mut env.rights[token as usize];
            if r.out >= limit {
                break;
            }
            r.cursor += 1;
            let (next, position) = (r.cursor, u64::from(at) + 1);
            let entry = &mut env.log.entries[at as usize];
            let done = match personality {
                Personality::Group => r.recovered.covers(entry.key(position), position),
                _ => entry.settled,
            };
            if done {
                passed = position + 1;
                continue;
            }
            passed = 0;
            if !r.told {
                // Its holder learns of it now: so it is numbered now, in the order in which rights are told.
                (r.active, r.cursor) = (false, r.cursor - 1);
                let token = self.grant(env, place, conn, true);
                return self.pump(env, token);
            }
            r.out += 1;
            entry.delivered += 1;
            env.send_down(conn, Down::Deliver(token, at, next));
        }
        let tells_holes = matches!(personality, Personality::Group | Personality::MemoryLanes);
        if tells_holes && passed == 0 && env.rng.permille(30) {
            // Other records than messages.
            let r = &env.rights[token as usize];
            if r.cursor as usize == self.spots[place].entries.len() {
                passed = env.log.entries.len() as u64 + 1;
            }
        }
        if tells_holes && passed > 0 {
            env.send_down(conn, Down::Passed(token, passed));
        }
    }

    /// Ends a right at the broker.
    pub(crate) fn end(&mut self, env: &mut Env, token: u32) -> bool {
        let r = &mut env.rights[token as usize];
        let was = std::mem::replace(&mut r.active, false);
        if was {
            let spot = &mut self.spots[r.place as usize];
            if spot.holder == token {
                spot.holder = NONE;
            }
            tell!(env, "broker ends {token}");
        }
        was
    }

    /// Ends a right by force, and says so.
    pub(crate) fn detach(&mut self, env: &mut Env, token: u32) {
        let conn = env.rights[token as usize].conn;
        let what = match env.plan.personality {
            Personality::Group => Down::Kicked,
            _ => Down::Lost(token, Loss::Revoked),
        };
        env.send_down(conn, what);
        self.take_away(env, token);
    }

    /// Ends a right by force.
    fn take_away(&mut self, env: &mut Env, token: u32) {
        let (conn, process) = (env.rights[token as usize].conn, env.process_of(token));
        if env.plan.personality == Personality::Group {
            env.fault(Fault::MemberLeft, Side::Broker, Phase::Begin, process);
            let index = env.rights[token as usize].process;
            if self.members[index as usize].incarnation == process {
                return self.expel(env, index);
            }
            // Of one that died: its successor keeps what it has.
            self.end(env, token);
            return self.share(env);
        }
        let fault = if env.plan.personality == Personality::Queue { Fault::Cancel } else { Fault::Detach };
        env.fault(fault, Side::Broker, Phase::Begin, process);
        self.end(env, token);
        let place = env.rights[token as usize].place as usize;
        self.spots[place].subscribers.retain(|c| *c != conn);
        self.offer(env);
    }

    /// A connection is gone, and the broker knows.
    pub(crate) fn closed(&mut self, env: &mut Env, conn: u16) {
        let c = &mut env.conns[conn as usize];
        if !std::mem::replace(&mut c.broker_open, false) {
            return;
        }
        c.asks = 0;
        let (incarnation, process, left) = (c.incarnation, c.process, c.left);
        self.named.retain(|(_, of, _)| *of != conn);
        if env.plan.personality == Personality::Group {
            // A member outlives its connection, unless it said that it leaves.
            let member = &self.members[process as usize];
            if left && member.joined && member.incarnation == incarnation {
                env.fault(Fault::MemberLeft, Side::Broker, Phase::Begin, incarnation);
                self.expel(env, process);
            }
            return;
        }
        let mut freed = false;
        for token in 0..env.rights.len() as u32 {
            let r = &env.rights[token as usize];
            if r.active && r.conn == conn {
                if !std::mem::replace(&mut freed, true) {
                    env.fault(Fault::Reset, Side::Broker, Phase::Begin, incarnation);
                }
                self.end(env, token);
            }
        }
        for spot in &mut self.spots {
            spot.subscribers.retain(|c| *c != conn);
        }
        let member = &mut self.members[process as usize];
        if member.joined && member.conn == conn {
            member.joined = false;
        }
        self.offer(env);
    }

    /// The broker's clock for a right.
    pub(crate) fn right_due(&mut self, env: &mut Env, token: u32) {
        let r = &env.rights[token as usize];
        if !r.active {
            return;
        }
        let due = r.expires.min(r.taken_at);
        let group = env.plan.personality == Personality::Group;
        let due = if group { r.taken_at } else { due };
        if env.now < due {
            return env.queue.push(due, Ev::Right(token));
        }
        let conn = r.conn;
        if group {
            let member = self.members[r.process as usize];
            if member.joined && member.incarnation == r.incarnation {
                return self.expel(env, env.rights[token as usize].process);
            }
            self.end(env, token);
            return self.share(env);
        }
        self.end(env, token);
        env.send_down(conn, Down::Lost(token, Loss::Expired));
        self.offer(env);
    }

    /// A connection may have been silent for too long.
    pub(crate) fn silent(&mut self, env: &mut Env, conn: u16, alive: bool) {
        let c = &env.conns[conn as usize];
        if !c.broker_open || alive {
            return;
        }
        let patience = env.plan.lock * if env.plan.personality == Personality::Queue { 1 } else { 2 };
        let due = c.heard + patience;
        if env.now < due {
            return env.queue.push(due, Ev::Silent(conn));
        }
        env.send_down(conn, Down::Closed);
        // What it held ran out long ago by its own clock: that is no fault of the connection.
        self.closed_silently(env, conn);
    }

    fn closed_silently(&mut self, env: &mut Env, conn: u16) {
        for token in 0..env.rights.len() as u32 {
            let r = &env.rights[token as usize];
            if r.active && r.conn == conn && env.plan.personality != Personality::Group {
                self.end(env, token);
            }
        }
        self.closed(env, conn);
    }

    /// Everything that rests on a connection ends; what is settled stays.
    pub(crate) fn restart(&mut self, env: &mut Env) {
        let group = env.plan.personality == Personality::Group;
        if !group {
            env.fault(Fault::BrokerStop, Side::Both, Phase::Begin, 0);
        }
        for conn in 0..env.conns_used {
            if !env.conns[conn].broker_open {
                continue;
            }
            env.conns[conn].up.queue.clear();
            env.send_down(conn as u16, Down::Closed);
            env.conns[conn].broker_open = false;
            env.conns[conn].asks = 0;
        }
        self.named.clear();
        if group {
            for member in &mut self.members {
                member.expires = env.now + 2 * env.plan.lock;
            }
            return;
        }
        for token in 0..env.rights.len() as u32 {
            self.end(env, token);
        }
        for spot in &mut self.spots {
            spot.subscribers.clear();
        }
        for member in &mut self.members {
            member.joined = false;
        }
    }
}

/// What a handler gets of an entry.
pub(crate) fn inbound(env: &Env, at: u32) -> convoy_core::Inbound {
    use convoy_core::Redelivered;
    let entry = &env.log.entries[at as usize];
    let redelivered = match (entry.delivered, env.plan.personality) {
        (_, Personality::Group) => Redelivered::No,
        (0 | 1, Personality::Queue) => Redelivered::No,
        (_, Personality::Queue) => Redelivered::Maybe,
        (count, _) => Redelivered::Count(u32::from(count)),
    };
    convoy_core::Inbound {
        position: convoy_core::Position::new(u64::from(at) + 1),
        session: env.names.ids[entry.session as usize].clone(),
        redelivered,
        defect: entry.defect,
        content: Arc::clone(&entry.content),
    }
}
