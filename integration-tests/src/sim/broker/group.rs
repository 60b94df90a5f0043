//! What is Kafka's own: members that expire, and commits that are fenced by membership and not by ownership.

use super::Broker;
use crate::sim::env::{Env, tell};
use crate::sim::plan::{MS, Personality};
use crate::sim::queue::Ev;
use crate::sim::wire::Down;

impl Broker {
    /// Looks after a lane that was given: a member of a group by its own clock, a lease in memory by the lease's.
    pub(super) fn watch(&mut self, env: &mut Env, process: u8, token: u32) {
        if env.plan.personality == Personality::MemoryLanes {
            return env.after(env.plan.lock, Ev::Right(token));
        }
        let member = &mut self.members[process as usize];
        member.expires = member.expires.max(env.now + env.plan.lock);
        if !std::mem::replace(&mut member.watched, true) {
            env.queue.push(member.expires, Ev::Member(process));
        }
    }

    /// A member may have been silent for too long. One without a lane harms nobody.
    pub(crate) fn member_due(&mut self, env: &mut Env, process: u8) {
        let member = &mut self.members[process as usize];
        member.watched = false;
        if !member.joined {
            return;
        }
        let incarnation = member.incarnation;
        let holds = env.rights.iter().any(|r| r.active && r.process == process && r.incarnation == incarnation);
        let member = &mut self.members[process as usize];
        if env.now >= member.expires {
            if holds {
                tell!(env, "broker expels p{process}");
                self.expel(env, process);
            }
            return;
        }
        if holds {
            member.watched = true;
            env.queue.push(member.expires, Ev::Member(process));
        }
    }

    /// Puts a member out; it learns it with its next request, or heartbeat.
    pub(super) fn expel(&mut self, env: &mut Env, process: u8) {
        let member = &mut self.members[process as usize];
        member.joined = false;
        if !member.leaving {
            env.stash.push((process, member.incarnation, Down::Kicked));
            let heartbeat = env.rng.range(100 * MS, 1000 * MS);
            env.after(heartbeat, Ev::Stashed(env.stash.len() as u32 - 1));
        }
        self.free_lanes(env, process);
        self.share(env);
    }

    /// The member of an older incarnation still counts until it is silent for too long: its lanes stay where they are.
    pub(super) fn expel_later(&mut self, env: &mut Env, process: u8) {
        // One table entry a process: the old member's lanes run out with its last sign of life.
        let left = self.members[process as usize].expires;
        for token in 0..env.rights.len() as u32 {
            let r = &mut env.rights[token as usize];
            if r.active && r.process == process {
                r.taken_at = r.taken_at.min(left.max(env.now));
                env.queue.push(r.taken_at, Ev::Right(token));
            }
        }
    }

    fn free_lanes(&mut self, env: &mut Env, process: u8) {
        let incarnation = self.members[process as usize].incarnation;
        for token in 0..env.rights.len() as u32 {
            let r = &env.rights[token as usize];
            if r.active && r.process == process && r.incarnation == incarnation {
                self.end(env, token);
            }
        }
    }
}
