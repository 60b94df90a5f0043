//! `cargo xtask chaos`: builds the run with faults and its workers, and starts it.

use crate::command::{Program, built, cargo, program};

const BUILD: &[&str] =
    &["build", "--release", "--package", "convoy-conformance", "--example", "chaos", "--example", "worker"];

/// The brokers that can be broken.
const BROKERS: [&str; 2] = ["rabbitmq", "kafka"];

pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    let (broker, rest) = args.split_first().ok_or("say which: `chaos rabbitmq` or `chaos kafka`")?;
    if !BROKERS.contains(&broker.as_str()) {
        return Err(format!("there is no broker `{broker}` to break: say `chaos rabbitmq` or `chaos kafka`"));
    }
    if !cargo(BUILD).run()?.ok() {
        println!("RESULT cmd=chaos broker={broker} built=false held=false");
        return Ok(false);
    }
    Ok(built_run(broker, rest)?.run()?.ok())
}

/// The run as it was built last.
pub(crate) fn built_run(broker: &str, args: &[String]) -> Result<Program, String> {
    let (here, seed) = (built()?, seed(args)?);
    let target = here.parent().ok_or("the build has no folder around it")?;
    let xtask = here.join("xtask").display().to_string();
    let name = if broker == BROKERS[0] { seed.clone() } else { format!("{broker}-{seed}") };
    let out = target.join("chaos").join(name).display().to_string();
    let own = ["--backend", broker, "--xtask", &xtask, "--out", &out, "--seed", &seed];
    let given = args.iter().map(String::as_str);
    Ok(program(here.join("examples").join("chaos"), own.into_iter().chain(given)))
}

/// The one that is asked for, or a new one: the folder of a run is named by it.
fn seed(args: &[String]) -> Result<String, String> {
    let named = args.iter().position(|arg| arg == "--seed");
    let given = named.and_then(|at| args.get(at + 1));
    if let Some(given) = given {
        return given.parse::<u64>().map(|seed| seed.to_string()).map_err(|_| format!("`{given}` is no seed"));
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(|e| e.to_string())?;
    Ok((now.as_micros() % 1_000_000).to_string())
}
