//! The handler: a settable amount of work, and failures where they are asked for.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use convoy::{Failure, Json, MessageId, Received};
use serde_json::Value;

use crate::Args;

/// What the handler is given beside each message.
pub(crate) struct Job {
    work: Duration,
    seed: u64,
    fail_rate: f64,
    attempts: Option<u32>,
    pub(crate) poison: HashSet<MessageId>,
    /// What this run sends. A broker that outlives programs may hold what a run before this one left.
    pub(crate) sent: HashSet<MessageId>,
    left_over: AtomicU64,
    busy: AtomicU64,
    running: AtomicUsize,
    peak: AtomicUsize,
}

/// Counts a handler while it runs, however it ends.
struct Running<'a>(&'a Job);

impl<'a> Running<'a> {
    fn new(job: &'a Job) -> Self {
        job.peak.fetch_max(job.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Self(job)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Job {
    pub(crate) fn new(args: &Args, poison: HashSet<MessageId>, sent: HashSet<MessageId>) -> Self {
        let Args { work, seed, fail_rate, attempts, .. } = *args;
        let (left_over, busy, running, peak) = Default::default();
        Self { work, seed, fail_rate, attempts, poison, sent, left_over, busy, running, peak }
    }

    /// How many messages of earlier runs were handled.
    pub(crate) fn left_over(&self) -> u64 {
        self.left_over.load(Ordering::SeqCst)
    }

    /// The time of all attempts together: what one at a time would have taken.
    pub(crate) fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy.load(Ordering::Relaxed))
    }

    /// The most handlers that ran at once, as they counted themselves.
    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }

    fn fails(&self, message: &Received<Json<Value>>) -> bool {
        // Only what is poison may run out of attempts.
        if self.attempts.is_some_and(|most| message.attempt() >= most) {
            return false;
        }
        // Drawn from what is the same in every run: the message's number and the attempt.
        let number = message.content().stamp().map_or(0, |stamp| stamp.number);
        let draw = self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(message.attempt()) << 48);
        fastrand::Rng::with_seed(draw).f64() < self.fail_rate
    }
}

/// Handles one message.
pub(crate) async fn handle(job: Arc<Job>, message: Received<Json<Value>>) -> Result<(), Failure> {
    if !job.sent.contains(&message.id()) {
        job.left_over.fetch_add(1, Ordering::SeqCst);
        return Ok(());
    }
    let begun = Instant::now();
    let _running = Running::new(&job);
    if !job.work.is_zero() {
        tokio::time::sleep(job.work).await;
    }
    let spent = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    job.busy.fetch_add(spent, Ordering::Relaxed);
    if job.poison.contains(&message.id()) {
        return Err(Failure::retry("poison: this message fails at every attempt"));
    }
    if job.fails(&message) {
        return Err(Failure::retry("this attempt was made to fail"));
    }
    Ok(())
}

/// Reads `500us`, `2ms`, `1s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let micros: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        _ => return Err("a number with us, ms or s, as in 2ms".to_owned()),
    };
    let count: u64 = digits.parse().map_err(|_| "a whole number with us, ms or s, as in 2ms".to_owned())?;
    count.checked_mul(micros).map(Duration::from_micros).ok_or_else(|| "too long".to_owned())
}

/// Reads a share from 0 to below 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "a number, as in 0.05".to_owned())?;
    if (0.0..1.0).contains(&share) { Ok(share) } else { Err("at least 0 and less than 1".to_owned()) }
}
