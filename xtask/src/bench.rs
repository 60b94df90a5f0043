//! `cargo xtask bench`: the figures, each beside its target.

use crate::command::cargo;

pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    let (what, rest) = args
        .split_first()
        .ok_or("say which: `bench engine`, `bench memory`, `bench sentinel`, `bench rabbitmq` or `bench kafka`")?;
    let package = match what.as_str() {
        "engine" => "convoy-core",
        "memory" | "sentinel" | "rabbitmq" | "kafka" => "convoy-conformance",
        other => return Err(format!("there is no benchmark `{other}`")),
    };
    let cargo_args = ["bench", "--package", package, "--bench", what, "--"];
    Ok(cargo(cargo_args.into_iter().chain(rest.iter().map(String::as_str))).run()?.ok())
}
