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

struct Figures {
    min: f64,
    median: f64,
    max: f64,
    allocations: usize,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--messages").skip(1);
    let messages = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(20_000);
    println!("engine: one message from delivered to settled, {ROUNDS} rounds of {messages} messages");
    println!("{:<28}{:>8}{:>10}{:>8}{:>9}{:>14}", "ns a message", "min", "median", "max", "noise", "allocations");
    let lanes = [Steady::lanes, Steady::locked].map(|make| {
        let name = if make(1).engine.counts().grants == 1 { "locked sessions" } else { "lanes" };
        [1_000, 100_000].map(|sessions| {
            let figures = measure(make(sessions), messages);
            let Figures { min, median, max, allocations } = figures;
            let noise = (median - min) / min * 100.0;
            let name = format!("{sessions} sessions, {name}");
            println!("{name:<28}{min:>8.1}{median:>10.1}{max:>8.1}{noise:>8.0}%{allocations:>14}");
            figures
        })
    });
    let [[few, many], [locked_few, locked_many]] = lanes;
    let (ns, ratio, allocs) = (few.min, many.min / few.min, few.allocations + locked_few.allocations);
    let holds = ns <= MOST_NS && ratio <= MOST_RATIO && allocs == 0;
    println!("targets: {MOST_NS} ns at 1 000 sessions, {MOST_RATIO} times that at 100 000, no allocation");
    let noise = (few.median - few.min) / few.min * 100.0;
    println!(
        "RESULT bench=engine ns_1e3={ns:.1} ns_1e5={:.1} ratio={ratio:.2} allocs={allocs} locked_ns_1e3={:.1} locked_ns_1e5={:.1} noise={noise:.0}% holds={holds}",
        many.min, locked_few.min, locked_many.min,
    );
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(mut steady: Steady, messages: usize) -> Figures {
    steady.messages(WARM_UP);
    let mut rounds = [0.0; ROUNDS];
    let before = support::allocations();
    for round in &mut rounds {
        let began = Instant::now();
        steady.messages(messages);
        *round = began.elapsed().as_secs_f64() * 1e9 / messages as f64;
    }
    let allocations = support::allocations() - before;
    rounds.sort_by(f64::total_cmp);
    Figures { min: rounds[0], median: rounds[ROUNDS / 2], max: rounds[ROUNDS - 1], allocations }
}
