//! How rights and connections end: by force, with their connection, by the clock, with the broker.

use convoy_core::backend::Loss;

use super::Broker;
use crate::history::{Fault, Phase, Side};
use crate::sim::env::{Env, NONE, tell};
use crate::sim::plan::Personality;
use crate::sim::queue::Ev;
use crate::sim::wire::Down;

impl Broker {
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
    pub(super) fn take_away(&mut self, env: &mut Env, token: u32) {
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
