//! Lanes that are assigned to the members of a group: who gets which, and how one moves.

use super::{Broker, Member};
use crate::sim::env::{Env, NONE, tell};
use crate::sim::plan::Personality;
use crate::sim::queue::Ev;
use crate::sim::wire::Down;

impl Broker {
    /// A process takes part, or is back on another connection.
    pub(super) fn join(&mut self, env: &mut Env, conn: u16) {
        let c = &env.conns[conn as usize];
        let (process, incarnation) = (c.process, c.incarnation);
        let member = &mut self.members[process as usize];
        if member.joined && member.incarnation == incarnation {
            // What is late on an older connection changes nothing.
            if conn > member.conn {
                member.conn = conn;
                self.back(env, process, conn);
            }
            return;
        }
        if member.joined {
            // A new incarnation of a process whose old one the broker still counts: two members for a while.
            self.expel_later(env, process);
        }
        let watched = self.members[process as usize].watched;
        self.members[process as usize] =
            Member { incarnation, conn, joined: true, leaving: false, expires: env.now + env.plan.lock, watched };
        if env.plan.personality.locks_sessions() || env.plan.personality == Personality::Queue {
            return;
        }
        self.share(env);
        self.make_room(env, process);
    }

    /// What it was never told of comes again; the rest it asks for by itself.
    fn back(&mut self, env: &mut Env, process: u8, conn: u16) {
        for token in 0..env.rights.len() as u32 {
            let r = &mut env.rights[token as usize];
            if !r.active || r.process != process || r.incarnation != self.members[process as usize].incarnation {
                continue;
            }
            let moved = std::mem::replace(&mut r.conn, conn) != conn;
            if moved && r.granted_at == 0 {
                r.cursor = r.next;
                env.send_down(conn, Down::Granted(token));
                self.pump(env, token);
            }
        }
        self.share(env);
    }

    /// Free lanes go to whom they are meant for, else to the member with the fewest.
    pub(super) fn share(&mut self, env: &mut Env) {
        for place in 0..self.spots.len() {
            if self.spots[place].holder != NONE {
                continue;
            }
            let may = |m: &Member| m.joined && !m.leaving;
            let meant = self.spots[place].target.filter(|p| may(&self.members[*p as usize]));
            let fewest = || {
                let all = (0..self.members.len()).filter(|p| may(&self.members[*p]));
                all.min_by_key(|p| (self.held(env, *p as u8), *p)).map(|p| p as u8)
            };
            let Some(process) = meant.or_else(fewest) else { return };
            let conn = self.members[process as usize].conn;
            let token = self.grant(env, place, conn, true);
            self.watch(env, process, token);
            self.pump(env, token);
        }
    }

    fn held(&self, env: &Env, process: u8) -> usize {
        let holders = self.spots.iter().filter(|spot| spot.holder != NONE);
        holders.filter(|spot| env.rights[spot.holder as usize].process == process).count()
    }

    /// A member without a lane gets one of those who have several.
    fn make_room(&mut self, env: &mut Env, process: u8) {
        if self.held(env, process) > 0 {
            return;
        }
        let rich = self.spots.iter().map(|spot| spot.holder).filter(|token| *token != NONE);
        let rich = rich.filter(|token| env.rights[*token as usize].taken_at == u64::MAX);
        let rich = rich.max_by_key(|token| self.held(env, env.rights[*token as usize].process));
        if let Some(token) = rich
            && self.held(env, env.rights[token as usize].process) > 1
        {
            self.revoke(env, token, process);
        }
    }

    /// A lane is wanted back, for somebody else or for the same one.
    pub(crate) fn revoke(&mut self, env: &mut Env, token: u32, target: u8) {
        let at = env.now + env.plan.handover;
        let r = &mut env.rights[token as usize];
        if !r.active || r.taken_at != u64::MAX {
            return;
        }
        r.taken_at = at;
        let (conn, place) = (r.conn, r.place as usize);
        self.spots[place].target = Some(target);
        tell!(env, "broker wants {token} back");
        env.send_down(conn, Down::Revoke(token, at - env.plan.margin));
        env.queue.push(at, Ev::Right(token));
    }

    pub(super) fn leave(&mut self, env: &mut Env, conn: u16) {
        let c = &mut env.conns[conn as usize];
        (c.left, c.asks) = (true, 0);
        let member = &mut self.members[c.process as usize];
        if member.conn == conn {
            member.leaving = true;
        }
        self.named.retain(|(_, of, _)| *of != conn);
        for place in 0..self.spots.len() {
            let before = self.spots[place].subscribers.len();
            let holder = self.spots[place].holder;
            let holds = holder != NONE && env.rights[holder as usize].conn == conn;
            let told = holds && env.rights[holder as usize].told;
            if !told {
                self.spots[place].subscribers.retain(|of| *of != conn);
                if holds {
                    self.end(env, holder);
                }
            }
            if before != self.spots[place].subscribers.len() {
                self.activate(env, place);
            }
        }
    }
}
