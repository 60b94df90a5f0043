//! How a schedule begins: everything as new, messages dealt, faults laid out.

use convoy_core::backend::SettleStyle;

use super::env::{Tally, tell};
use super::plan::{BEGIN, MS, weights};
use super::process::Process;
use super::queue::Ev;
use super::rng::Rng;
use super::sender::Sender;
use super::world::{PATIENCE, World};
use crate::history::What;

impl World {
    /// Makes everything ready for the schedule of the plan.
    pub(super) fn begin(&mut self) {
        let env = &mut self.env;
        env.now = BEGIN;
        env.rng = Rng::new(env.plan.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 1);
        env.queue.clear();
        env.log.clear();
        env.rights.clear();
        env.conns_used = 0;
        env.tally = Tally::default();
        env.incarnations = 0;
        env.calm = false;
        env.stash.clear();
        env.judge.reset(env.plan.seed);
        let plan = &env.plan;
        let options = env.judge.checker.options_mut();
        // A process that goes on after a freeze needs a moment to see what is due.
        options.grace = plan.grace + 2 * MS;
        options.max_attempts = plan.max_attempts;
        // However late an answer is: the engine starts nothing more after twice the interval, and twice the count.
        let nanos = u64::try_from(plan.limits.settle_interval.as_nanos()).unwrap_or(u64::MAX);
        let by_age = plan.limits.settle != SettleStyle::Each;
        (options.settle_interval, options.settle_slack) = if by_age { (nanos, nanos) } else { (PATIENCE, PATIENCE) };
        options.settle_count = 2 * plan.limits.settle_count;
        tell!(env, "seed {} {:?}", plan.seed, plan);
        env.judge.push(BEGIN, 0, What::GroupStart);

        (self.foreign, self.finishing) = (0, false);
        self.flights.clear();
        // One more than are started: for a consumer that joins.
        let count = env.plan.consumers as usize + 1;
        self.processes.truncate(count);
        while self.processes.len() < count {
            self.processes.push(Process::new(self.processes.len() as u8));
        }
        self.broker.reset(env.plan.places as usize, count);
        for at in 0..count {
            self.processes[at].reset();
            if at + 1 < count {
                let late = if at == 0 { 0 } else { env.rng.below(500 * MS) };
                env.queue.push(BEGIN + late, Ev::Boot(at as u8));
            }
        }
        self.deal();
        let env = &mut self.env;
        for at in 0..env.plan.faults.len() {
            env.queue.push(env.plan.faults[at].0, Ev::Fault(at as u16));
        }
        for _ in 0..env.plan.malformed {
            let at = BEGIN + env.rng.below(env.plan.quiet - BEGIN);
            env.queue.push(at, Ev::Foreign);
        }
        env.queue.push(env.plan.quiet, Ev::Quiet);
    }

    /// Deals the messages to producers and sessions.
    fn deal(&mut self) {
        let env = &mut self.env;
        let producers = env.plan.producers as usize;
        self.senders.truncate(producers);
        while self.senders.len() < producers {
            self.senders.push(Sender::new(self.senders.len() as u8));
        }
        for sender in &mut self.senders {
            sender.reset(env.plan.sessions);
        }
        weights(env.plan.spread, env.plan.sessions, &mut self.weights);
        let sum = self.weights.last().copied().unwrap_or(1);
        for _ in 0..env.plan.messages {
            let draw = env.rng.below(sum);
            let session = self.weights.iter().position(|up_to| draw < *up_to).unwrap_or(0);
            let sender = &mut self.senders[env.rng.index(producers)];
            sender.to_send[session] += 1;
            sender.left += 1;
        }
        for at in 0..producers {
            env.queue.push(BEGIN, Ev::Producer(at as u8));
        }
    }
}
