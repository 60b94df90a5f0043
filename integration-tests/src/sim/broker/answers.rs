//! Settlements, copies and renewals, and how their answers go wrong.

use convoy_core::backend::{Above, Answer, Loss, Progress, SettleStyle, Ticket};

use super::{Broker, Committed};
use crate::history::Reason;
use crate::sim::env::{Env, tell};
use crate::sim::faults::Kind;
use crate::sim::plan::{MS, Personality};
use crate::sim::queue::Ev;
use crate::sim::wire::Down;

impl Broker {
    pub(super) fn settle(&mut self, env: &mut Env, conn: u16, token: u32, ticket: Ticket, progress: Progress) {
        let personality = env.plan.personality;
        if !env.rights[token as usize].active && personality != Personality::Group {
            let answer = Down::Settled(token, ticket, Answer::Refused);
            return env.send_down(conn, answer);
        }
        if personality == Personality::Group {
            self.members[env.rights[token as usize].process as usize].expires = env.now + env.plan.lock;
        }
        match self.mishap(env) {
            Some(Kind::AnswerLost) => {
                self.apply(env, token, &progress);
                self.no_answer(env, token, Down::Settled(token, ticket, Answer::Unknown));
            }
            Some(Kind::SettleLost) => self.no_answer(env, token, Down::Settled(token, ticket, Answer::Unknown)),
            Some(Kind::SettleRefused) => {
                // The refusal is all that is said.
                env.send_down(conn, Down::Settled(token, ticket, Answer::Refused));
                self.take_away(env, token);
            }
            Some(Kind::SettleNotApplied) => env.send_down(conn, Down::Settled(token, ticket, Answer::NotApplied)),
            _ => {
                self.apply(env, token, &progress);
                env.send_down(conn, Down::Settled(token, ticket, Answer::Ok));
            }
        }
        self.pump(env, token);
    }

    fn mishap(&self, env: &mut Env) -> Option<Kind> {
        if !env.strikes(env.plan.settle_faults) {
            return None;
        }
        let kinds = [Kind::AnswerLost, Kind::SettleLost, Kind::SettleRefused, Kind::SettleNotApplied];
        let kind = env.rng.pick(&kinds);
        // An ack that is written arrives as long as its channel lives.
        let queue = env.plan.personality == Personality::Queue;
        let kind = if queue && kind == Kind::SettleLost { Kind::AnswerLost } else { kind };
        env.disturbed(kind);
        Some(kind)
    }

    /// No answer comes: the client gives up waiting after a while.
    fn no_answer(&self, env: &mut Env, token: u32, verdict: Down) {
        let r = &env.rights[token as usize];
        env.stash.push((r.process, r.incarnation, verdict));
        let wait = env.rng.range(100 * MS, 2000 * MS);
        env.after(wait, Ev::Stashed(env.stash.len() as u32 - 1));
    }

    fn apply(&mut self, env: &mut Env, token: u32, progress: &Progress) {
        let r = &env.rights[token as usize];
        let (place, cursor) = (r.place as usize, r.cursor);
        match env.plan.limits.settle {
            SettleStyle::Each => {
                let at = (progress.watermark.saturating_sub(2)) as u32;
                self.mark(env, token, at);
            }
            SettleStyle::Open { .. } => {
                let done = env.rights[token as usize].recovered.merged(progress);
                return self.commit(env, place, done);
            }
            _ => {
                for index in self.spots[place].head..cursor {
                    let at = self.spots[place].entries[index as usize];
                    if u64::from(at) + 1 >= progress.watermark {
                        break;
                    }
                    self.mark(env, token, at);
                }
                if let Above::Done(done) = &progress.above {
                    for position in done {
                        self.mark(env, token, (*position - 1) as u32);
                    }
                }
            }
        }
        self.advance(env, place);
    }

    fn mark(&mut self, env: &mut Env, token: u32, at: u32) {
        let place = env.rights[token as usize].place;
        let mine = env.log.entries.get(at as usize).is_some_and(|entry| entry.place == place);
        if mine && env.log.settle(at) {
            let r = &mut env.rights[token as usize];
            r.out = r.out.saturating_sub(1);
            tell!(env, "broker settles {}", at + 1);
        }
    }

    fn advance(&mut self, env: &Env, place: usize) {
        let spot = &mut self.spots[place];
        while spot.entries.get(spot.head as usize).is_some_and(|at| env.log.entries[*at as usize].settled) {
            spot.head += 1;
        }
    }

    /// A commit replaces the one before.
    fn commit(&mut self, env: &mut Env, place: usize, done: Committed) {
        tell!(env, "broker commits lane {place}: {done:?}");
        let spot = &mut self.spots[place];
        // Below both watermarks nothing changes.
        let low = done.watermark.min(spot.committed.watermark);
        let from = spot.entries.partition_point(|at| u64::from(*at) + 1 < low);
        let high = done.end.max(spot.committed.end).max(done.watermark);
        for at in &spot.entries[from..] {
            let position = u64::from(*at) + 1;
            if position >= high {
                break;
            }
            let key = env.log.entries[*at as usize].key(position);
            if done.covers(key, position) {
                env.log.settle(*at);
            } else {
                env.log.unsettle(*at);
            }
        }
        spot.head = spot.entries.partition_point(|at| u64::from(*at) + 1 < done.watermark) as u32;
        spot.committed = done;
    }

    pub(super) fn set_aside(&mut self, env: &mut Env, conn: u16, token: u32, position: u64, _: Reason) {
        let settles = env.plan.limits.set_aside_settles;
        if (settles || env.plan.personality == Personality::MemoryLanes) && !env.rights[token as usize].active {
            return env.send_down(conn, Down::SetAside(token, position, Answer::Refused));
        }
        let at = (position - 1) as u32;
        let applied = |broker: &mut Self, env: &mut Env| {
            env.log.dead.push(at);
            if settles {
                broker.mark(env, token, at);
                broker.advance(env, env.rights[token as usize].place as usize);
            }
        };
        if !env.strikes(env.plan.store_faults) {
            applied(self, env);
            env.send_down(conn, Down::SetAside(token, position, Answer::Ok));
        } else if env.rng.permille(500) {
            env.disturbed(Kind::StoreRefused);
            let answer = env.rng.pick(&[Answer::Refused, Answer::NotApplied]);
            env.send_down(conn, Down::SetAside(token, position, answer));
        } else {
            env.disturbed(Kind::StoreUnknown);
            if env.rng.permille(500) {
                applied(self, env);
            }
            self.no_answer(env, token, Down::SetAside(token, position, Answer::Unknown));
        }
        self.pump(env, token);
    }

    pub(super) fn renew(&mut self, env: &mut Env, conn: u16, token: u32, asked_at: u64) {
        if !env.rights[token as usize].active {
            return env.send_down(conn, Down::Lost(token, Loss::Refused));
        }
        if env.strikes(env.plan.renew_faults) {
            return env.disturbed(Kind::RenewLost);
        }
        let lock = env.plan.lock;
        let r = &env.rights[token as usize];
        let mut taken_at = r.taken_at;
        if env.plan.personality == Personality::Group {
            // Whoever does not give one lane back in time is put out with all of them.
            let process = r.process;
            self.members[process as usize].expires = env.now + lock;
            for other in env.rights.iter().filter(|r| r.active && r.process == process) {
                taken_at = taken_at.min(other.taken_at);
            }
        }
        let r = &mut env.rights[token as usize];
        r.expires = (env.now + lock).min(taken_at);
        let valid_for = lock.min(taken_at.saturating_sub(asked_at));
        env.send_down(conn, Down::Proved(token, asked_at, valid_for));
    }

    /// A right is given back, in good order or because it ran out at the client.
    pub(super) fn given_back(&mut self, env: &mut Env, conn: u16, token: u32, surrendered: bool) {
        let r = &env.rights[token as usize];
        let (place, process) = (r.place as usize, r.process);
        if !r.active {
            return;
        }
        let revoked = r.taken_at != u64::MAX;
        self.end(env, token);
        match env.plan.personality {
            Personality::Queue => self.spots[place].subscribers.retain(|of| *of != conn),
            // It still is the owner, and goes back to what was committed.
            Personality::Group if surrendered && !revoked => self.spots[place].target = Some(process),
            _ => {}
        }
        self.offer(env);
    }
}
