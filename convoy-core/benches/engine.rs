//! What a message costs in the engine, from delivered to settled, with a thousand and with a hundred thousand active sessions.
//!
//! `cargo bench -p convoy-core --bench engine [-- --messages 20000]`. Exit status 1 when a figure misses its target. The figure is that of the best round:
//! what else runs on the machine only adds to it, and the distance of the median says how much.

#[path = "support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Instant;

use support::{Counting, Steady};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Short ones, so that some of them have the processor to themselves.
const ROUNDS: usize = 201;
/// Before the first round, so that every table has its size.
const WARM_UP: usize = 500_000;

/// At a thousand sessions, in nanoseconds a message.
const MOST_NS: f64 = 150.0;
/// At a hundred thousand, as a multiple of that.
const MOST_RATIO: f64 = 2.5;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--messages").skip(1);
    let messages = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(20_000).max(1);
    println!("engine: one message from delivered to settled, {ROUNDS} rounds of {messages} messages, side by side");
    println!("{:<34}{:>8}{:>10}{:>8}{:>9}{:>14}", "ns a message", "min", "median", "max", "noise", "allocations");
    let mut measured = [
        Measured::new("1 000 sessions on lanes", Steady::lanes(1_000)),
        Measured::new("100 000 sessions on lanes", Steady::lanes(100_000)),
        Measured::new("1 000 locked sessions", Steady::locked(1_000)),
        Measured::new("100 000 locked sessions", Steady::locked(100_000)),
    ];
    for of in &mut measured {
        of.warm_up(messages);
    }
    for _ in 0..ROUNDS {
        for of in &mut measured {
            of.round(messages);
        }
    }
    for of in &mut measured {
        of.show();
    }
    let [few, many, locked_few, locked_many] = &measured;
    let (ns, ratio) = (few.min(), many.min() / few.min());
    let allocs: usize = measured.iter().map(|of| of.allocations).sum();
    let holds = ns <= MOST_NS && ratio <= MOST_RATIO && allocs == 0;
    println!(
        "targets, on lanes: {MOST_NS} ns with 1 000 sessions, {MOST_RATIO} times that with 100 000; no allocation"
    );
    println!(
        "RESULT bench=engine ns_1e3={ns:.1} ns_1e5={:.1} ratio={ratio:.2} allocs={allocs} locked_ns_1e3={:.1} locked_ns_1e5={:.1} noise={:.0}% holds={holds}",
        many.min(),
        locked_few.min(),
        locked_many.min(),
        few.noise(),
    );
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Measured {
    name: &'static str,
    steady: Steady,
    /// Nanoseconds a message, a round.
    rounds: Vec<f64>,
    allocations: usize,
}

impl Measured {
    fn new(name: &'static str, steady: Steady) -> Self {
        Self { name, steady, rounds: Vec::with_capacity(ROUNDS), allocations: 0 }
    }

    fn warm_up(&mut self, messages: usize) {
        for _ in 0..WARM_UP.div_ceil(messages) {
            self.steady.messages(messages);
        }
    }

    fn round(&mut self, messages: usize) {
        self.steady.make_messages(messages);
        let (began, before) = (Instant::now(), support::allocations());
        self.steady.handle_messages();
        self.rounds.push(began.elapsed().as_secs_f64() * 1e9 / messages as f64);
        self.allocations += support::allocations() - before;
    }

    fn show(&mut self) {
        self.rounds.sort_by(f64::total_cmp);
        let (min, median, max) = (self.min(), self.rounds[ROUNDS / 2], self.rounds[ROUNDS - 1]);
        let (noise, name, allocations) = (self.noise(), self.name, self.allocations);
        println!("{name:<34}{min:>8.1}{median:>10.1}{max:>8.1}{noise:>8.0}%{allocations:>14}");
    }

    fn min(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// How far the median of the rounds, which are sorted, is from the best one, in percent.
    fn noise(&self) -> f64 {
        (self.rounds[ROUNDS / 2] / self.min() - 1.0) * 100.0
    }
}
