//! Modelled handlers: each attempt is a run of some length that ends in some way, obeys a cancellation or not, and is dropped when it must.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::Moment;
use convoy_core::backend::LeaseCell;
use convoy_core::engine::{Bug, CancelWhy, End, RunId, Start, Then};

use super::env::{Env, tell};
use super::faults::Kind;
use super::names::session_key;
use super::plan::{Defect, MS, SEC};
use super::process::Process;
use super::queue::Ev;
use crate::history::{Ended, GrantId, Position, What};

/// How an attempt ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Done,
    Fail,
    RetryIn,
    Panic,
    Dead,
    Stop,
    /// Never, until it is told to.
    Hang,
    Cancelled,
    /// It did not start, or gives its delivery back.
    Returned,
}

/// A started attempt.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) busy: bool,
    pub(crate) serial: u32,
    id: RunId,
    grant: GrantId,
    session: u64,
    at: u32,
    attempt: u32,
    lease: Arc<LeaseCell>,
    polled: bool,
    act: Act,
    ends_at: u64,
    blocking: bool,
    cancelled: Option<CancelWhy>,
    /// The pull loop that took it, by slot and serial.
    pub(crate) pull: Option<(u8, u32)>,
}

impl Process {
    /// A message is to be handled. It is polled at once, or when a worker has time.
    pub(crate) fn begin(&mut self, env: &mut Env, start: Start, pull: Option<(u8, u32)>) -> u8 {
        self.serial += 1;
        let run = Run {
            busy: true,
            serial: self.serial,
            id: start.run,
            grant: GrantId { consumer: self.incarnation, n: start.grant.epoch() },
            session: session_key(&start.message.session),
            at: (start.message.position.value - 1) as u32,
            attempt: start.attempt,
            lease: start.lease,
            polled: false,
            act: Act::Done,
            ends_at: 0,
            blocking: false,
            cancelled: None,
            pull,
        };
        let slot = match self.runs.iter().position(|run| !run.busy) {
            Some(free) => {
                self.runs[free] = run;
                free as u8
            }
            None => {
                self.runs.push(run);
                (self.runs.len() - 1) as u8
            }
        };
        self.running += 1;
        self.turns.start(env, self.runs[slot as usize].session, pull.is_some());
        if env.strikes(env.plan.late_polls) {
            env.saw(Kind::LatePoll);
            let late = env.rng.range(MS, env.plan.lock + SEC);
            env.after(late, Ev::Poll(self.index, slot, self.serial));
        } else {
            self.poll(env, slot);
        }
        slot
    }

    /// The first poll: the lease is looked at once more, right before the handler's first instruction.
    pub(crate) fn poll(&mut self, env: &mut Env, slot: u8) {
        let run = &self.runs[slot as usize];
        let blind = env.plan.defect == Defect::Engine(Bug::StartAfterExpiry);
        if !run.lease.holds(env.moment()) && !blind {
            return self.finish(env, slot, Act::Returned);
        }
        let (act, time, blocking) = decide(env, run.at);
        let run = &mut self.runs[slot as usize];
        (run.polled, run.act, run.blocking) = (true, act, blocking);
        run.ends_at = env.now + time;
        let (session, serial) = (run.session, run.serial);
        let what = What::Start {
            session,
            message: env.log.entries[run.at as usize].message,
            grant: run.grant,
            attempt: run.attempt,
            checked_at: env.now,
            deadline: u64::MAX,
            position: Some(Position { generation: 0, value: u64::from(run.at) + 1 }),
            blocking,
        };
        env.judge.push(env.now, self.incarnation, what);
        let beside = |other: &Run| other.busy && other.polled && other.session == session && other.serial != serial;
        if self.runs.iter().any(beside) {
            tell!(env, "p{} runs session {session} twice at once", self.incarnation);
            env.tally.doubled += 1;
        }
        if time == 0 {
            self.finish(env, slot, act);
        } else if act != Act::Hang {
            env.after(time, Ev::RunEnd(self.index, slot, serial));
        } else if env.calm {
            env.after(SEC, Ev::RunEnd(self.index, slot, serial));
        }
    }

    /// A handler has come to its end by itself.
    pub(crate) fn run_ends(&mut self, env: &mut Env, slot: u8, serial: u32) {
        let Some(run) = self.runs.get(slot as usize).filter(|run| run.busy && run.serial == serial) else { return };
        if self.frozen {
            return env.queue.push(self.thaws_at + 1, Ev::RunEnd(self.index, slot, serial));
        }
        let act = if run.act == Act::Hang { Act::Done } else { run.act };
        self.finish(env, slot, act);
        self.step(env);
    }

    pub(crate) fn late_poll(&mut self, env: &mut Env, slot: u8, serial: u32) {
        let waits = |run: &&Run| run.busy && run.serial == serial && !run.polled;
        if self.runs.get(slot as usize).filter(waits).is_none() {
            return;
        }
        if self.frozen {
            return env.queue.push(self.thaws_at + 1, Ev::Poll(self.index, slot, serial));
        }
        self.poll(env, slot);
        self.step(env);
    }

    /// The future is gone: this is told, to the judge and to the engine.
    fn finish(&mut self, env: &mut Env, slot: u8, act: Act) {
        let run = &mut self.runs[slot as usize];
        run.busy = false;
        self.running -= 1;
        let for_its_right = matches!(run.cancelled, Some(CancelWhy::Lost(_) | CancelWhy::Leaving));
        let (id, pull) = (run.id, run.pull);
        if run.polled {
            let how = match act {
                Act::Done => Ended::Ok,
                Act::Cancelled | Act::Returned if !for_its_right && run.cancelled.is_some() => Ended::Error,
                Act::Cancelled | Act::Returned => Ended::Cancelled,
                _ if for_its_right => Ended::Cancelled,
                Act::Panic => Ended::Panic,
                _ => Ended::Error,
            };
            let message = env.log.entries[run.at as usize].message;
            let what = What::End { session: run.session, message, grant: run.grant, how };
            env.judge.push(env.now, self.incarnation, what);
            env.tally.handled += u32::from(act == Act::Done);
        }
        let failed = |then| End::Failed { then, detail: String::new() };
        let end = match act {
            Act::Done | Act::Hang => End::Done,
            Act::Fail => failed(Then::Retry),
            Act::RetryIn => failed(Then::RetryIn(Duration::from_nanos(env.rng.range(MS, 300 * MS)))),
            Act::Panic => End::Panicked { detail: String::new() },
            Act::Dead => failed(Then::DeadLetter),
            Act::Stop => failed(Then::Stop),
            Act::Cancelled => End::Cancelled,
            Act::Returned => End::Returned,
        };
        let jitter = env.rng.next();
        if let Some(engine) = &mut self.engine {
            tell!(env, "p{} run {} ends: {end:?}", self.incarnation, id.serial());
            engine.ended(Moment::from_nanos(env.now), id, end, jitter);
        }
        self.tell_notes(env);
        if let Some((slot, serial)) = pull {
            self.pulled(slot, serial);
        }
    }

    /// A handler is told to end: it does so after a while, or does not.
    pub(crate) fn cancel(&mut self, env: &mut Env, id: RunId, why: CancelWhy) {
        let Some(slot) = self.runs.iter().position(|run| run.busy && run.id == id) else { return };
        let run = &mut self.runs[slot];
        run.cancelled = Some(why);
        if !run.polled {
            return self.finish(env, slot as u8, Act::Returned);
        }
        if run.blocking || env.rng.permille(250) {
            return;
        }
        let act = env.rng.pick(&[Act::Cancelled, Act::Cancelled, Act::Fail, Act::Done]);
        let ends_at = env.now + env.rng.below(env.plan.grace);
        if run.act == Act::Hang || ends_at < run.ends_at {
            self.serial += 1;
            (run.act, run.ends_at, run.serial) = (act, ends_at, self.serial);
            env.queue.push(ends_at, Ev::RunEnd(self.index, slot as u8, self.serial));
        }
    }

    /// A handler's future is dropped, unless it blocks its thread.
    pub(crate) fn drop_run(&mut self, env: &mut Env, id: RunId) {
        let Some(slot) = self.runs.iter().position(|run| run.busy && run.id == id) else { return };
        if !self.runs[slot].blocking {
            self.finish(env, slot as u8, Act::Cancelled);
        }
    }

    /// Faults are over: what hangs ends.
    pub(crate) fn unhang(&mut self, env: &mut Env) {
        for slot in 0..self.runs.len() {
            let run = &self.runs[slot];
            if run.busy && run.act == Act::Hang {
                env.after(SEC, Ev::RunEnd(self.index, slot as u8, run.serial));
            }
        }
    }
}

/// What a handler does with a message: how it ends, after how long, and whether it blocks its thread meanwhile.
fn decide(env: &mut Env, at: u32) -> (Act, u64, bool) {
    let mix = env.plan.mix;
    let lock = env.plan.lock;
    let instant = env.rng.permille(mix.instant);
    let time = if instant { 0 } else { env.rng.range(50_000, 25 * MS) };
    let poison = env.log.entries[at as usize].poison;
    if poison {
        env.saw(Kind::Poison);
        return (Act::Fail, time, false);
    }
    if env.calm {
        return (Act::Done, time, false);
    }
    let mut draw = env.rng.below(1000);
    let mut hit = |share: u64| {
        let hit = draw < share;
        draw = draw.wrapping_sub(share).min(if hit { u64::MAX } else { 1000 });
        hit
    };
    if hit(mix.fail) {
        env.saw(Kind::Fail);
        let act = if env.rng.permille(250) { Act::RetryIn } else { Act::Fail };
        (act, time, false)
    } else if hit(mix.panic) {
        env.saw(Kind::Panic);
        (Act::Panic, time, false)
    } else if hit(mix.hang) {
        env.saw(Kind::Hang);
        (Act::Hang, 1, false)
    } else if hit(mix.long) {
        env.saw(Kind::Long);
        (Act::Done, lock + env.rng.below(lock), false)
    } else if hit(mix.block) {
        env.saw(Kind::Block);
        (Act::Done, lock / 4 + env.rng.below(2 * lock), true)
    } else if hit(mix.dead) {
        env.saw(Kind::AskDead);
        (Act::Dead, time, false)
    } else if hit(mix.stop) {
        (Act::Stop, time, false)
    } else {
        (Act::Done, time, false)
    }
}
