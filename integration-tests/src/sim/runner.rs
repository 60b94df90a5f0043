//! Many schedules on a few threads, and what they come to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::ending::Ending;
use super::faults::Kind;
use super::plan::{Defect, Personality};
use super::world::World;

/// How much of a schedule's faults is counted one by one.
const FAULTS: usize = 64;

/// What to run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How many schedules.
    pub schedules: u64,
    /// The seed of the first one; the others follow.
    pub seed: u64,
    /// How many threads.
    pub threads: usize,
    /// One personality instead of all.
    pub personality: Option<Personality>,
    /// A defect to run with.
    pub defect: Defect,
    /// Stop at the first schedule that goes wrong.
    pub stop_at_first: bool,
    /// Stop after so many failures in any case.
    pub most_failures: usize,
    /// Pass over what only the simulation itself sees, a panic or something kept: for proving that the checker finds a defect.
    pub only_judged: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            schedules: 10_000,
            seed: 1,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            personality: None,
            defect: Defect::None,
            stop_at_first: false,
            most_failures: 10,
            only_judged: false,
        }
    }
}

/// A schedule that went wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Its broker.
    pub personality: Personality,
    /// The first cause, by name.
    pub cause: &'static str,
    /// The facts, one a line.
    pub facts: String,
}

/// What the schedules came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// Schedules that ran.
    pub schedules: u64,
    /// Of each personality, in the order of [`Personality::ALL`].
    pub by_personality: [u64; 5],
    /// Events that the simulation went through.
    pub events: u64,
    /// Events that the checker judged.
    pub judged: u64,
    /// Rights that were won.
    pub grants: u64,
    /// Rights that were lost.
    pub losses: u64,
    /// Messages handled.
    pub handled: u64,
    /// The fewest messages handled in a schedule.
    pub fewest: u32,
    /// How many schedules had each kind of disturbance, in the order of [`Kind::ALL`].
    pub kinds: Vec<u64>,
    /// How many schedules had so many faults.
    faults: [u64; FAULTS],
    /// What went wrong, the lowest seeds first.
    pub failures: Vec<Failure>,
    /// All hashes folded together, whatever the order of the schedules.
    pub hash: u64,
    /// How long it took.
    pub took: Duration,
}

impl Summary {
    fn new() -> Self {
        Self {
            schedules: 0,
            by_personality: [0; 5],
            events: 0,
            judged: 0,
            grants: 0,
            losses: 0,
            handled: 0,
            fewest: u32::MAX,
            kinds: vec![0; Kind::ALL.len()],
            faults: [0; FAULTS],
            failures: Vec::new(),
            hash: 0,
            took: Duration::ZERO,
        }
    }

    fn add(&mut self, seed: u64, ending: &Ending, counts: bool) {
        self.schedules += 1;
        self.by_personality[ending.personality as usize] += 1;
        self.events += ending.tally.events;
        self.judged += ending.verdict.events();
        self.grants += u64::from(ending.tally.grants);
        self.losses += u64::from(ending.tally.losses);
        self.handled += u64::from(ending.tally.handled);
        self.fewest = self.fewest.min(ending.tally.handled);
        for (at, kind) in Kind::ALL.iter().enumerate() {
            self.kinds[at] += u64::from(ending.tally.kinds & kind.bit() != 0);
        }
        self.faults[(ending.tally.faults as usize).min(FAULTS - 1)] += 1;
        self.hash = self.hash.wrapping_add(ending.hash);
        if counts && ending.is_bad() {
            self.failures.push(failure(seed, ending));
        }
    }

    fn join(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.events += other.events;
        self.judged += other.judged;
        self.grants += other.grants;
        self.losses += other.losses;
        self.handled += other.handled;
        self.fewest = self.fewest.min(other.fewest);
        self.by_personality.iter_mut().zip(other.by_personality).for_each(|(a, b)| *a += b);
        self.kinds.iter_mut().zip(other.kinds).for_each(|(a, b)| *a += b);
        self.faults.iter_mut().zip(other.faults).for_each(|(a, b)| *a += b);
        self.hash = self.hash.wrapping_add(other.hash);
        self.failures.extend(other.failures);
    }

    /// Half of the schedules had at least so many faults.
    #[must_use]
    pub fn median_faults(&self) -> usize {
        let mut seen = 0;
        self.faults
            .iter()
            .position(|count| {
                seen += count;
                2 * seen >= self.schedules
            })
            .unwrap_or(0)
    }

    /// The kind that the fewest schedules had, with its share in percent.
    #[must_use]
    pub fn rarest(&self) -> (Kind, f64) {
        let at = (0..self.kinds.len()).min_by_key(|at| self.kinds[*at]).unwrap_or(0);
        (Kind::ALL[at], self.percent(self.kinds[at]))
    }

    /// A share of the schedules in percent.
    #[must_use]
    pub fn percent(&self, count: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let percent = 100.0 * count as f64 / self.schedules.max(1) as f64;
        percent
    }

    /// Schedules a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = self.schedules as f64 / self.took.as_secs_f64().max(1e-9);
        rate
    }

    /// Whether nothing went wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty()
    }
}

fn failure(seed: u64, ending: &Ending) -> Failure {
    let mut facts = ending.verdict.to_string();
    if !ending.finished {
        facts.push_str("\nnot everything came to its end");
    }
    if ending.tally.starved > 0 {
        facts.push_str("\na session waited while others had several turns");
    }
    if ending.tally.doubled > 0 {
        facts.push_str("\ntwo handlers of one session ran in one process at once");
    }
    if ending.tally.lapsed > 0 {
        facts.push_str("\na right ran out although nothing kept it from being renewed");
    }
    if ending.tally.leaks > 0 {
        facts.push_str("\na drained engine still held something");
    }
    Failure { seed, personality: ending.personality, cause: ending.cause(), facts }
}

fn panicked(seed: u64, personality: Personality, panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let facts = format!("a panic: {}", text.unwrap_or("without a text"));
    Failure { seed, personality, cause: "panic", facts }
}

/// Runs schedules. The same options give the same result, whatever the number of threads, unless it stops early.
#[must_use]
pub fn run(options: &Options) -> Summary {
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let work = || {
        let mut world = World::new();
        let mut summary = Summary::new();
        while !stop.load(Ordering::Relaxed) {
            let from = next.fetch_add(64, Ordering::Relaxed);
            if from >= options.schedules {
                break;
            }
            for at in from..(from + 64).min(options.schedules) {
                let seed = options.seed.wrapping_add(at);
                let run = std::panic::AssertUnwindSafe(|| world.run(seed, options.personality, options.defect));
                let bad = match std::panic::catch_unwind(run) {
                    Ok(ending) => {
                        let counts = !options.only_judged || ending.cause() != "leak";
                        summary.add(seed, &ending, counts);
                        ending.is_bad() && counts
                    }
                    Err(panic) => {
                        summary.schedules += 1;
                        if !options.only_judged {
                            summary.failures.push(panicked(seed, world.personality(), panic.as_ref()));
                        }
                        world = World::new();
                        !options.only_judged
                    }
                };
                if bad && (options.stop_at_first || summary.failures.len() >= options.most_failures) {
                    stop.store(true, Ordering::Relaxed);
                    break;
                }
            }
        }
        summary
    };
    let mut summary = Summary::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..options.threads.max(1)).map(|_| scope.spawn(work)).collect();
        summary.join(work());
        for thread in threads {
            match thread.join() {
                Ok(part) => summary.join(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    summary.failures.sort_by_key(|failure| failure.seed);
    summary.took = begin.elapsed();
    summary
}

/// Runs one schedule, printing everything that happens if `tells`. Gives the hash of its trace, and what went wrong.
#[must_use]
pub fn replay(seed: u64, personality: Option<Personality>, defect: Defect, tells: bool) -> (u64, Option<Failure>) {
    let mut world = World::new();
    world.tells(tells);
    let ending = world.run(seed, personality, defect);
    (ending.hash, ending.is_bad().then(|| failure(seed, &ending)))
}
