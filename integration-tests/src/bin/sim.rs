//! Runs the simulation: many schedules, one again, or the seeded bugs.

use std::process::ExitCode;

use clap::Parser;
use convoy_conformance::sim::{self, Defect, Kind, Personality};

/// Seeded schedules of the real engine on simulated brokers.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many schedules to run; with --bugs, how many at most for each bug.
    #[arg(long)]
    schedules: Option<u64>,
    /// The seed of the first one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many threads; all cores by default.
    #[arg(long)]
    threads: Option<usize>,
    /// Runs the schedule of this seed and prints what happens in it.
    #[arg(long)]
    replay: Option<u64>,
    /// With --replay, prints only the end.
    #[arg(long)]
    quiet: bool,
    /// Runs the seeded bugs, or the one of this name, until each is caught.
    #[arg(long, num_args = 0..=1, default_missing_value = "all")]
    bugs: Option<String>,
    /// Runs with this seeded bug.
    #[arg(long)]
    bug: Option<String>,
    /// Runs one personality only.
    #[arg(long)]
    personality: Option<String>,
    /// Runs every schedule twice and compares the hashes.
    #[arg(long)]
    twice: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match act(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn act(arguments: &Arguments) -> Result<bool, String> {
    let personality = match &arguments.personality {
        Some(name) => Some(personality(name)?),
        None => None,
    };
    let defect = match &arguments.bug {
        Some(name) => bug(name)?,
        None => Defect::None,
    };
    let mut options = sim::Options::default();
    options.seed = arguments.seed;
    options.personality = personality;
    options.defect = defect;
    options.threads = arguments.threads.unwrap_or(options.threads);
    if let Some(seed) = arguments.replay {
        return Ok(replay(seed, personality, defect, !arguments.quiet));
    }
    if let Some(only) = &arguments.bugs {
        options.schedules = arguments.schedules.unwrap_or(100_000);
        return hunt(only, &options);
    }
    options.schedules = arguments.schedules.unwrap_or(options.schedules);
    if arguments.twice {
        return Ok(twice(&options));
    }
    Ok(run(&options))
}

fn personality(name: &str) -> Result<Personality, String> {
    let known = || Personality::ALL.iter().map(|p| p.name()).collect::<Vec<_>>().join(", ");
    let found = Personality::ALL.iter().find(|p| p.name() == name).copied();
    found.ok_or_else(|| format!("no personality is called {name}; there are {}", known()))
}

fn bug(name: &str) -> Result<Defect, String> {
    let found = sim::known_bugs().into_iter().find(|(known, _)| known == name);
    found.map(|(_, defect)| defect).ok_or_else(|| format!("no seeded bug is called {name}"))
}

fn replay(seed: u64, personality: Option<Personality>, defect: Defect, tells: bool) -> bool {
    let (hash, failure) = sim::replay(seed, personality, defect, tells);
    let ok = failure.is_none();
    if let Some(failure) = failure {
        report(&failure);
    }
    println!("RESULT seed={seed} hash={hash:016x} ok={ok}");
    ok
}

fn report(failure: &sim::Failure) {
    let (seed, personality, cause) = (failure.seed, failure.personality.name(), failure.cause);
    println!("FAILED {cause}: seed {seed}, {personality}, commit {}", commit());
    for line in failure.facts.lines() {
        println!("    {line}");
    }
    println!("    replay with: cargo xtask sim --replay {seed}");
}

/// The commit, for whoever looks into a failure later.
fn commit() -> String {
    let asked = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let told = asked.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    told.map(|told| told.trim().to_owned()).filter(|told| !told.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

fn run(options: &sim::Options) -> bool {
    let summary = sim::run(options);
    let n = summary.schedules;
    println!("{n} schedules in {:.1} s, {:.0} a second", summary.took.as_secs_f64(), summary.rate());
    println!("{} events, {} judged by the checker", summary.events, summary.judged);
    println!("{} grants, {} of them lost", summary.grants, summary.losses);
    println!("{} messages handled, at least {} in a schedule", summary.handled, summary.fewest);
    for (personality, count) in Personality::ALL.iter().zip(summary.by_personality) {
        println!("  {:<28}{:>6.2} %", personality.name(), summary.percent(count));
    }
    println!("schedules with a disturbance of this kind:");
    for (kind, count) in Kind::ALL.iter().zip(&summary.kinds) {
        println!("  {:<28}{:>6.2} %", kind.name(), summary.percent(*count));
    }
    summary.failures.iter().for_each(report);
    let (rarest, share) = summary.rarest();
    println!(
        "RESULT schedules={n} fatal={} events={} grants={} losses={} handled={} fewest={} median_faults={} rarest={} rarest_percent={share:.2} per_second={:.0} hash={:016x}",
        summary.failures.len(),
        summary.events,
        summary.grants,
        summary.losses,
        summary.handled,
        summary.fewest,
        summary.median_faults(),
        rarest.name(),
        summary.rate(),
        summary.hash,
    );
    summary.is_ok()
}

/// Every schedule gives the same trace when it is run again.
fn twice(options: &sim::Options) -> bool {
    let (mut differ, mut hash) = (0, 0_u64);
    for seed in options.seed..options.seed + options.schedules {
        let (first, _) = sim::replay(seed, options.personality, options.defect, false);
        let (second, _) = sim::replay(seed, options.personality, options.defect, false);
        hash = hash.wrapping_add(first);
        if first != second {
            differ += 1;
            println!("seed {seed}: {first:016x} and {second:016x}");
        }
    }
    // Many schedules in one memory, on any number of threads, come to the same.
    let together = sim::run(options).hash;
    println!("RESULT replayed={} differ={differ} hash={hash:016x} together={together:016x}", options.schedules);
    differ == 0 && hash == together
}

fn hunt(only: &str, options: &sim::Options) -> Result<bool, String> {
    let hunts = sim::hunt((only != "all").then_some(only), options);
    if hunts.is_empty() {
        return Err(format!("no seeded bug is called {only}"));
    }
    for hunt in &hunts {
        match &hunt.caught {
            Some(caught) => println!(
                "{:<40} caught after {:>6} as {:<24} (seed {}, {})",
                hunt.name, caught.after, caught.cause, caught.seed, caught.personality
            ),
            None => println!("{:<40} NOT caught in {} schedules", hunt.name, hunt.schedules),
        }
    }
    let caught = hunts.iter().filter(|hunt| hunt.caught.is_some()).count();
    let slowest = hunts.iter().filter_map(|hunt| hunt.caught.as_ref()).map(|caught| caught.after).max().unwrap_or(0);
    println!("RESULT bugs={} caught={caught} slowest_after={slowest}", hunts.len());
    Ok(caught == hunts.len())
}
