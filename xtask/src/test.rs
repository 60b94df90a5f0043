//! `cargo xtask test`: everything that can run here, with one summary.

use std::fs;

use crate::chaos;
use crate::command::{Program, Ran, built, cargo, program, root};
use crate::conformance::{Broker, KAFKA, Part, RABBITMQ, tls};
use crate::summary::Summary;

/// One build serves every part: the same packages, features and profile each time.
const BUILD: &[&str] =
    &["test", "--release", "--workspace", "--features", "convoy-conformance/sim,convoy-mq/rabbitmq,convoy-mq/kafka"];

/// The examples that `cargo test` leaves out, since it has one of them as a test: with the same features, so that nothing is compiled twice.
const BUILD_CHAOS: &[&str] = &[
    "build",
    "--release",
    "--workspace",
    "--features",
    "convoy-conformance/sim,convoy-mq/rabbitmq,convoy-mq/kafka",
    "--example",
    "chaos",
    "--example",
    "worker",
];

/// A minute or so of faults on each broker, always the same ones. What their seeds deal has consumers killed, frozen beyond their lease and restarted, a producer killed, the broker killed and
/// frozen, a link reset and one that swallows bytes.
const CHAOS: [&[&str]; 2] = [
    &["--seed", "474", "--faults", "9", "--messages", "20000", "--sessions", "300"],
    &["--seed", "178", "--faults", "9", "--messages", "20000", "--sessions", "300"],
];

/// In the order in which they are run on.
const BROKERS: [&Broker; 2] = [&RABBITMQ, &KAFKA];

/// How much is run.
struct Extent {
    schedules: &'static str,
    bugs: bool,
    /// TLS, whose building is a minute, and the benchmarks.
    all: bool,
    /// On how many releases of each broker the suite runs, at most.
    releases: usize,
}

pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    let extent = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Extent { schedules: "200000", bugs: true, all: false, releases: 1 },
        ["--quick"] => Extent { schedules: "20000", bugs: false, all: false, releases: 0 },
        ["--all"] => Extent { schedules: "200000", bugs: true, all: true, releases: usize::MAX },
        _ => return Err(format!("`test` does not take `{}`", args.join(" "))),
    };
    let mut summary = Summary::new("test");
    if summary.work("compile", with_cargo(&["--no-run"]).run()) {
        tests(&mut summary)?;
        simulation(&mut summary, &extent)?;
        examples(&mut summary)?;
        for broker in BROKERS {
            on_broker(&mut summary, broker, &extent)?;
        }
        if extent.all {
            tls(&mut summary, RABBITMQ.releases, &[]);
        }
        if extent.releases > 0 {
            with_faults(&mut summary)?;
        }
        for bench in ["engine", "memory", "sentinel"].iter().filter(|_| extent.all) {
            summary.one(&format!("bench {bench}"), program(built()?.join("xtask"), ["bench", bench]).run());
        }
    }
    let held = summary.print();
    println!("{} passed, {} failed", summary.passed(), summary.failed());
    Ok(held)
}

fn with_cargo(args: &[&str]) -> Program {
    cargo(BUILD.iter().chain(args))
}

fn tests(summary: &mut Summary) -> Result<(), String> {
    let (backends, others): (Vec<_>, Vec<_>) = test_targets()?.into_iter().partition(|target| target.is_conformance());
    let mut plain = vec!["--no-fail-fast", "--lib", "--bins"];
    // The schedules of faults have tests of their own.
    plain.extend(["--example", "chaos"]);
    plain.extend(others.iter().flat_map(|target| ["--test", target.name.as_str()]));
    summary.tests("unit tests", with_cargo(&plain).run());
    summary.tests("doc tests", with_cargo(&["--no-fail-fast", "--doc"]).run());
    for Target { name, .. } in backends.iter().filter(|target| !target.needs_broker()) {
        summary.tests(&format!("conformance, {name}"), with_cargo(&["--no-fail-fast", "--test", name]).run());
    }
    Ok(())
}

fn simulation(summary: &mut Summary, extent: &Extent) -> Result<(), String> {
    let sim = built()?.join("sim");
    summary.one("simulation", program(&sim, ["--schedules", extent.schedules]).run());
    if extent.bugs {
        summary.one("seeded bugs", program(&sim, ["--bugs"]).run());
    }
    Ok(())
}

/// The examples hold what they say of themselves, and of what they are given.
fn examples(summary: &mut Summary) -> Result<(), String> {
    let folder = built()?.join("examples");
    let example = |name: &str, args: &[&str]| program(folder.join(name), args).run();
    summary.one("example quickstart", example("quickstart", &[]));
    summary.one("example orders", example("orders", &[]));
    let new_type = ["lost=0", "out_of_order=0", "repeated=0", "waited=40"];
    summary.expect("example new_type", 0, &new_type, example("new_type", &[]));
    summary.expect("example new_type, lanes", 0, &new_type, example("new_type", &["--url", "memory://?lanes=8"]));
    // Consumers that are told to skip what they do not know lose it, and the program says so.
    summary.expect("example new_type, skipping", 1, &["held=false"], example("new_type", &["--unknown", "skip"]));
    patterns(summary, &example);
    let failing = ["--fail-rate", "0.05", "--poison", "10", "--attempts", "3"];
    let ran = example("orders", &failing);
    summary.expect("example orders, failing", 0, &["violations=0", "dead_letters=10"], ran);
    let lanes = [&failing[..], &["--url", "memory://?lanes=8"]].concat();
    summary.expect("example orders, lanes", 0, &["violations=0", "dead_letters=10"], example("orders", &lanes));
    let input = "examples/orders/malformed.jsonl";
    let says = ["sessions=2", "messages=3", "malformed=5", "violations=0"];
    summary.expect("example orders, malformed", 0, &says, example("orders", &["--input", input]));
    summary.expect("example orders, no file", 2, &[], example("orders", &["--input", "no-such-file.jsonl"]));
    Ok(())
}

/// The examples of the pattern, with what each ends with when it holds, and how it is made to show that it need not.
const PATTERNS: [(&str, &[&str], &str); 3] = [
    ("example bank", &["wrong=0", "held=true"], "--no-fence"),
    ("example conversation", &["wrong=0", "out_of_order=0", "held=true"], "--forget"),
    ("example sensors", &["lost=0", "trends_wrong=0", "held=true"], "--one-session"),
];

/// Each holds on both contracts, and says so when what it shows is taken away.
fn patterns(summary: &mut Summary, example: &impl Fn(&str, &[&str]) -> Result<Ran, String>) {
    for (part, says, without) in PATTERNS {
        let run = |args: &[&str]| example(part.trim_start_matches("example "), args);
        summary.expect(part, 0, says, run(&[]));
        summary.expect(&format!("{part}, lanes"), 0, says, run(&["--url", "memory://?lanes=8"]));
        summary.expect(&format!("{part} {without}"), 1, &["held=false"], run(&[without]));
    }
}

/// A real broker is started, or one that is up is used, and what it is for is run on it.
fn on_broker(summary: &mut Summary, broker: &Broker, extent: &Extent) -> Result<(), String> {
    let folder = built()?.join("examples");
    let orders = folder.join("orders");
    for release in broker.releases.iter().take(extent.releases) {
        let ways = if extent.all { usize::MAX } else { 1 };
        broker.on(summary, release, |on| {
            let mut parts = broker.all(on, ways, |target| with_cargo(&["--no-fail-fast", "--test", target]));
            let failing = ["--fail-rate", "0.05", "--poison", "10", "--attempts", "3", "--url", &on.url];
            let example = |name: &str, ran| Part { name: format!("example {name}"), tests: false, ran };
            parts.push(example("orders", program(&orders, failing).run()));
            // `sensors` measures, which is done on memory, where no broker shares the machine.
            let plain = ["new_type", "bank", "conversation"];
            parts.extend(plain.map(|name| example(name, program(folder.join(name), ["--url", &on.url]).run())));
            parts
        });
    }
    Ok(())
}

/// Processes, broker and links fail for a minute, on a broker of its own.
fn with_faults(summary: &mut Summary) -> Result<(), String> {
    if !summary.work("compile chaos", cargo(BUILD_CHAOS).run()) {
        return Ok(());
    }
    for (broker, args) in BROKERS.into_iter().zip(CHAOS) {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let ran = chaos::built_run(broker.name, &args)?.run();
        summary.one(&format!("chaos, {} {}", broker.title, broker.releases[0]), ran);
    }
    Ok(())
}

/// A test target: a file, or a folder with a `main.rs`, in the folder `tests` of a package.
struct Target {
    package: String,
    name: String,
}

impl Target {
    /// Whether the suite runs on a broker there.
    fn is_conformance(&self) -> bool {
        self.package == "integration-tests" && (self.name.starts_with("memory") || self.needs_broker())
    }

    /// Whether that broker is a program of its own.
    fn needs_broker(&self) -> bool {
        BROKERS.iter().any(|broker| self.name.starts_with(broker.name))
    }
}

fn test_targets() -> Result<Vec<Target>, String> {
    let mut targets = Vec::new();
    for package in entries(".")? {
        for name in entries(&format!("{package}/tests")).unwrap_or_default() {
            let is_folder = root().join(&package).join("tests").join(&name).join("main.rs").exists();
            if let Some(name) = name.strip_suffix(".rs").or(is_folder.then_some(name.as_str())) {
                targets.push(Target { package: package.clone(), name: name.to_owned() });
            }
        }
    }
    Ok(targets)
}

fn entries(folder: &str) -> Result<Vec<String>, String> {
    let listed = fs::read_dir(root().join(folder)).map_err(|e| format!("{folder}: {e}"))?;
    let mut names: Vec<String> = listed.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}
