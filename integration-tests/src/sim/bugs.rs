//! The seeded bugs, one after the other: each must be caught.

use convoy_core::engine::Bug;
use convoy_core::producer::ProducerBug;

use super::plan::Defect;
use super::runner::{Options, run};

/// A seeded bug and how the simulation met it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hunt {
    /// Its name.
    pub name: String,
    /// How it was caught, if it was.
    pub caught: Option<Caught>,
    /// How many schedules were run.
    pub schedules: u64,
}

/// How a bug was caught.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Caught {
    /// After how many schedules.
    pub after: u64,
    /// The seed.
    pub seed: u64,
    /// As what.
    pub cause: &'static str,
    /// On which broker.
    pub personality: &'static str,
}

/// Every seeded bug with its name.
#[must_use]
pub fn known_bugs() -> Vec<(String, Defect)> {
    let engine = Bug::ALL.iter().map(|bug| (bug.name().to_owned(), Defect::Engine(*bug)));
    let producer = ProducerBug::ALL.iter().map(|bug| (kebab(&format!("{bug:?}")), Defect::Producer(*bug)));
    engine.chain(producer).collect()
}

fn kebab(name: &str) -> String {
    let mut out = String::from("producer");
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Runs schedules with each bug, or the one of this name, until it is caught; at most so many.
#[must_use]
pub fn hunt(only: Option<&str>, options: &Options) -> Vec<Hunt> {
    let wanted = known_bugs().into_iter().filter(|(name, _)| only.is_none_or(|only| only == name));
    // A defect may well panic: that is expected, and not what is looked for.
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let hunts = wanted
        .map(|(name, defect)| {
            let options = Options { defect, stop_at_first: true, threads: 1, only_judged: true, ..options.clone() };
            let summary = run(&options);
            let caught = summary.failures.first().map(|failure| Caught {
                after: failure.seed - options.seed + 1,
                seed: failure.seed,
                cause: failure.cause,
                personality: failure.personality.name(),
            });
            Hunt { name, caught, schedules: summary.schedules }
        })
        .collect();
    std::panic::set_hook(loud);
    hunts
}
