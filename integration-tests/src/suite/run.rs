//! Running scenarios as named trials.

use convoy_core::{Guarantee, Support};
use futures_util::future::BoxFuture;
use libtest_mimic::{Arguments, Conclusion, Trial};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use super::act::{Act, Held};
use super::harness::{Harness, Hook, Shape, Wishes};
use super::scenarios;

/// One thing that a backend must show.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it shows. A backend that does not claim one of these is not asked.
    pub shows: &'static [Guarantee],
    /// What the harness must be able to make happen.
    pub needs: &'static [Hook],
    /// Whether it is for one shape only.
    pub only: Option<Shape>,
    /// What it wants of its broker.
    pub wishes: fn() -> Wishes,
    /// What it does.
    pub play: fn(Arc<Act>) -> BoxFuture<'static, Held>,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// How a scenario ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It held.
    Passed,
    /// It did not.
    Failed(String),
    /// It was not asked, for this reason.
    Unsupported(String),
}

impl Outcome {
    /// Whether it held.
    pub fn is_passed(&self) -> bool {
        *self == Self::Passed
    }
}

/// All scenarios, by name.
pub fn all() -> Vec<Scenario> {
    scenarios::all()
}

/// Runs one scenario by its name.
pub fn run_one(harness: &impl Harness, name: &str) -> Outcome {
    match all().iter().find(|s| s.name == name) {
        Some(scenario) => run(harness, scenario, seed()),
        None => Outcome::Failed(format!("there is no scenario {name}")),
    }
}

/// Runs all scenarios that the command line asks for, each as a trial, and ends with a list, a `RESULT` line and a truthful exit status.
pub fn main(harness: impl Harness) -> ExitCode {
    let arguments = Arguments::from_args();
    let harness = Arc::new(harness);
    let outcomes: Arc<Mutex<BTreeMap<&'static str, Outcome>>> = Arc::default();
    let seed = seed();
    let trial = |scenario: Scenario| {
        let (harness, outcomes) = (Arc::clone(&harness), Arc::clone(&outcomes));
        Trial::test(scenario.name, move || {
            let outcome = run(&*harness, &scenario, seed);
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(scenario.name, outcome.clone());
            match outcome {
                Outcome::Failed(why) => Err(why.into()),
                _ => Ok(()),
            }
        })
    };
    let conclusion = libtest_mimic::run(&arguments, all().into_iter().map(trial).collect());
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    let outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    tell(&harness.name(), seed, &outcomes, &conclusion)
}

fn tell(name: &str, seed: u64, outcomes: &BTreeMap<&'static str, Outcome>, conclusion: &Conclusion) -> ExitCode {
    println!("{name}, seed {seed}:");
    let count = |is: fn(&Outcome) -> bool| outcomes.values().filter(|o| is(o)).count();
    for (scenario, outcome) in outcomes {
        match outcome {
            Outcome::Passed => println!("  passed       {scenario}"),
            Outcome::Failed(_) => println!("  FAILED       {scenario}"),
            Outcome::Unsupported(why) => println!("  unsupported  {scenario}: {why}"),
        }
    }
    let passed = count(Outcome::is_passed);
    let failed = count(|o| matches!(o, Outcome::Failed(_)));
    let unsupported = count(|o| matches!(o, Outcome::Unsupported(_)));
    // Something ran, all of it held, and nothing broke outside a scenario.
    let held = passed > 0 && failed == 0 && !conclusion.has_failed();
    println!(
        "RESULT suite={} scenarios={} passed={passed} failed={failed} unsupported={unsupported} seed={seed} held={held}",
        name.replace([' ', ','], "-").replace("--", "-"),
        outcomes.len()
    );
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn seed() -> u64 {
    std::env::var("CONVOY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(1..1_000_000))
}

fn run(harness: &impl Harness, scenario: &Scenario, seed: u64) -> Outcome {
    if let Some(hook) = scenario.needs.iter().find(|hook| !harness.hooks().contains(hook)) {
        return Outcome::Unsupported(format!("the harness cannot make it happen: {hook:?}"));
    }
    if scenario.only.is_some_and(|shape| shape != harness.shape()) {
        return Outcome::Unsupported(format!("it is about a broker of {:?}", scenario.only.unwrap_or(Shape::Lanes)));
    }
    let runtime = match harness.runtime() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::Failed(format!("no runtime: {error}")),
    };
    let limit = harness.patience() * 3;
    let played = runtime.block_on(async {
        let stage = harness.stage((scenario.wishes)()).await.map_err(|e| format!("no broker was reached: {e:?}"))?;
        let claims = stage.broker.guarantees();
        let unclaimed = scenario.shows.iter().map(|g| claims.of(*g)).find(|c| c.support == Support::Unsupported);
        if let Some(claim) = unclaimed {
            return Ok(Outcome::Unsupported(format!("{} is not claimed: {}", claim.guarantee, claim.why)));
        }
        let act = Arc::new(Act::new(stage, harness.shape(), harness.judged_by(), harness.patience(), seed));
        match tokio::time::timeout(limit, (scenario.play)(Arc::clone(&act))).await {
            Ok(Ok(())) => Ok(Outcome::Passed),
            Ok(Err(failed)) => Err(failed.0),
            Err(_) => Err(format!("it did not end within {limit:?}")),
        }
    });
    played.unwrap_or_else(Outcome::Failed)
}
