//! `cargo xtask conformance`: the suite on one backend, with the broker that it needs.

use crate::command::{Program, Ran, built, cargo, program};
use crate::python::Python;
use crate::summary::Summary;

/// The releases of RabbitMQ that the suite runs on; the first is the one of the gate.
pub(crate) const RELEASES: &[&str] = &["4.3", "4.0", "3.10"];

/// Where the suite finds its broker.
pub(crate) const URL: &str = "CONVOY_RABBITMQ_URL";

/// What runs on a broker of its own: the suite, and what only RabbitMQ has to show. A part of this name is made of tests.
pub(crate) const ON_RABBITMQ: [(&str, &str); 3] =
    [("rabbitmq", "conformance"), ("rabbitmq_traps", "traps"), ("rabbitmq_foreign", "foreign publishers")];

/// What was run on a broker, by name.
pub(crate) type Parts = Vec<(&'static str, Result<Ran, String>)>;

pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    let (backend, rest) = args.split_first().ok_or("say which: `conformance memory` or `conformance rabbitmq`")?;
    let mut summary = Summary::new("conformance");
    match backend.as_str() {
        "memory" => {
            for target in ["memory", "memory_lanes"] {
                summary.tests(target, suite(target, &[], rest).run());
            }
        }
        "rabbitmq" if rest.first().is_some_and(|arg| arg == "--via") => via(&mut summary, &rest[1..])?,
        "rabbitmq" if rest.first().is_some_and(|arg| arg == "--tls") => {
            let (releases, rest) = releases(&rest[1..])?;
            tls(&mut summary, &releases, rest);
        }
        "rabbitmq" => {
            let (releases, rest) = releases(rest)?;
            for release in releases {
                on_rabbitmq(&mut summary, release, |url| {
                    let run = |(target, part)| (part, on_url(target, suite(target, &[], rest), url));
                    asked_for(ON_RABBITMQ.map(run).into(), !rest.is_empty())
                });
            }
        }
        other => return Err(format!("there is no backend `{other}`: say `memory` or `rabbitmq`")),
    }
    Ok(summary.print())
}

/// Who names a test means the target that has it: one that ran nothing is left out then, unless none ran anything.
fn asked_for(mut parts: Parts, by_name: bool) -> Parts {
    let ran_some = |ran: &Result<Ran, String>| ran.as_ref().is_ok_and(|ran| ran.passed + ran.failed > 0);
    if by_name && parts.iter().any(|(_, ran)| ran_some(ran)) {
        parts.retain(|(_, ran)| ran_some(ran));
    }
    parts
}

/// Which releases are asked for: the first, one by name, or all.
fn releases(args: &[String]) -> Result<(Vec<&'static str>, &[String]), String> {
    match args {
        [all, rest @ ..] if all == "--all" => Ok((RELEASES.to_vec(), rest)),
        [option, name, rest @ ..] if option == "--release" => {
            let found = RELEASES.iter().find(|release| *release == name);
            found
                .map(|release| (vec![*release], rest))
                .ok_or_else(|| format!("there is no release `{name}`: {RELEASES:?}"))
        }
        rest => Ok((RELEASES[..1].to_vec(), rest)),
    }
}

fn suite(target: &str, features: &[&str], args: &[String]) -> Program {
    let mut all = vec!["test", "--release", "--package", "convoy-conformance", "--no-fail-fast", "--test", target];
    all.extend(features.iter().flat_map(|feature| ["--features", feature]));
    all.push("--");
    all.extend(args.iter().map(String::as_str));
    cargo(all)
}

/// Runs tests on the broker of this URL.
pub(crate) fn on_url(target: &str, tests: Program, url: &str) -> Result<Ran, String> {
    let tests = tests.env(URL, url);
    if target == "rabbitmq_foreign" { Python::with_pika()?.for_tests(tests).run() } else { tests.run() }
}

/// The tests of TLS: they start brokers of their own, since each needs other certificates.
pub(crate) fn tls(summary: &mut Summary, releases: &[&str], args: &[String]) {
    let units = ["test", "--release", "--package", "convoy-rabbitmq", "--features", "tls,management", "--lib"];
    summary.tests("unit tests with TLS", cargo(units).run());
    for release in releases {
        let tests = suite("rabbitmq_tls", &["tls"], args).env("CONVOY_RABBITMQ_RELEASE", release);
        summary.tests(&format!("TLS, RabbitMQ {release}"), tests.run());
    }
}

#[cfg(not(unix))]
fn via(_: &mut Summary, _: &[String]) -> Result<(), String> {
    Err("brokers are started from here on Unix only".to_owned())
}

/// The suite on a broker in a container that is started and removed by `testcontainers`.
#[cfg(unix)]
fn via(summary: &mut Summary, args: &[String]) -> Result<(), String> {
    let rest = match args {
        [way, rest @ ..] if way == "testcontainers" => rest,
        _ => return Err("say which way: `--via testcontainers`".to_owned()),
    };
    let (releases, rest) = releases(rest)?;
    let features = ["--package", "convoy-conformance", "--features", "testcontainers", "--example", "contained"];
    if !summary.work("compile", cargo(["build", "--release"].iter().chain(&features)).run()) {
        return Ok(());
    }
    for release in releases {
        let tag = crate::brokers::image_tag(release)?;
        // In a program of its own, which removes the container whatever becomes of the tests.
        let contained = program(built()?.join("examples").join("contained"), [tag, "--"]);
        let ran = contained.with(suite("rabbitmq", &[], rest)).run();
        summary.tests(&format!("conformance, RabbitMQ {release} via testcontainers"), ran);
    }
    Ok(())
}

/// Starts a RabbitMQ broker unless it is up, does something with it, and ends it if it was started here.
pub(crate) fn on_rabbitmq(summary: &mut Summary, release: &str, with: impl FnOnce(&str) -> Parts) {
    let up = brokers(&["up", "rabbitmq", "--release", release]);
    let ran = up.as_ref().ok();
    let (version, url) = (said(ran, "version"), said(ran, "endpoint"));
    let fresh = ran.is_some_and(|ran| ran.says("fresh=true"));
    let part = format!("RabbitMQ {}", version.as_deref().unwrap_or(release));
    // A broker that does not come up fails the whole: what it was for did not run.
    if summary.work(&format!("{part}: start"), up)
        && let Some(url) = url
    {
        for (name, ran) in with(&url) {
            let is_tests = ON_RABBITMQ.iter().any(|(_, tests)| *tests == name);
            let name = format!("{name}, {part}");
            if is_tests {
                summary.tests(&name, ran);
            } else {
                summary.one(&name, ran);
            }
        }
    }
    if fresh {
        summary.work(&format!("{part}: end"), brokers(&["down", "rabbitmq", "--release", release, "--nodes", "1"]));
    }
}

fn brokers(args: &[&str]) -> Result<Ran, String> {
    program(built()?.join("xtask"), ["brokers"].iter().chain(args)).run()
}

/// What the `RESULT` line says of this key.
fn said(ran: Option<&Ran>, key: &str) -> Option<String> {
    let line = ran?.result.as_ref()?;
    line.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
}
