//! The simulated brokers: one table of places and rights, and a file for what each personality does differently.

mod answers;
mod endings;
mod group;
mod lanes;
mod places;
mod queue;
mod sessions;

use convoy_core::backend::Grant;

pub(crate) use self::places::{Committed, Member, Spot, inbound};

use super::env::{Env, NONE, Right, tell};
use super::log::Entry;
use super::plan::Personality;
use super::queue::Ev;
use super::wire::{Down, Up};

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
}
