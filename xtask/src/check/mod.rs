//! `cargo xtask check`: what a machine can see of the project's rules without running it.

mod deny;
mod rules;
mod source;

use std::time::Instant;

use crate::command::cargo;
use crate::summary::Summary;

/// Each set of features that a user can ask for. Lints are errors on all of them.
const LINTED: &[&[&str]] = &[
    &["--workspace", "--all-targets"],
    &["--workspace", "--all-targets", "--features", "convoy-conformance/sim"],
    &["--package", "convoy-conformance", "--all-targets", "--features", "tls,testcontainers"],
    &["--package", "convoy-rabbitmq", "--all-targets", "--features", "tls,management"],
    &["--package", "convoy-mq", "--no-default-features"],
    &["--package", "convoy-mq", "--no-default-features", "--features", "json"],
    &["--package", "convoy-mq", "--no-default-features", "--features", "memory"],
    &["--package", "convoy-mq", "--no-default-features", "--features", "rabbitmq"],
    &["--package", "convoy-mq", "--all-targets", "--features", "rabbitmq-tls,rabbitmq-management"],
    &["--package", "convoy-mq", "--all-targets", "--features", "kafka"],
    &["--package", "convoy-kafka", "--all-targets", "--features", "safe-queue"],
    &["--package", "convoy-core", "--no-default-features"],
    &["--package", "convoy-core", "--no-default-features", "--features", "json"],
    &["--package", "convoy-core", "--no-default-features", "--features", "runtime"],
    &["--package", "convoy-core", "--features", "seeded-bugs"],
];

pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    if let Some(arg) = args.first() {
        return Err(format!("`check` does not take `{arg}`"));
    }
    let mut summary = Summary::new("check");
    summary.one("format", cargo(["fmt", "--all", "--check"]).run());
    for features in LINTED {
        let args = ["clippy", "--release", "--quiet"].iter().chain(*features).chain(&["--", "-D", "warnings"]);
        summary.one(&format!("clippy {}", features.join(" ")), cargo(args).run());
    }
    let docs =
        cargo(["doc", "--release", "--quiet", "--workspace", "--no-deps", "--features", "convoy-conformance/sim"]);
    summary.one("documentation", docs.env("RUSTDOCFLAGS", "-D warnings").run());
    for (name, rule) in rules::ALL {
        let begun = Instant::now();
        let held = rule();
        if let Err(why) = &held {
            eprintln!("\n{name}: {why}");
        }
        summary.judged(name, begun, held.map(|()| String::new()));
    }
    deny::check(&mut summary);
    let held = summary.print();
    println!("check: {} passed, {} failed", summary.passed(), summary.failed());
    Ok(held)
}
