//! `cargo xtask conformance`: the suite on one backend, with the broker that it needs.

use crate::command::{Program, Ran, built, cargo, program};
use crate::python::Python;
use crate::summary::Summary;

/// A broker that the suite runs on.
#[derive(Debug)]
pub(crate) struct Broker {
    /// As `brokers` calls it.
    pub(crate) name: &'static str,
    /// To people.
    pub(crate) title: &'static str,
    /// The first is the one of the gate.
    pub(crate) releases: &'static [&'static str],
    /// What tells the tests where it is.
    url: &'static str,
    /// What tells them of which version it is, where they print it.
    version: Option<&'static str>,
    /// What of its clients is tried in several ways: how the tests are told, and all of them. The first is the one of the gate.
    ways: Option<(&'static str, &'static [&'static str])>,
    /// What runs on it: targets, and what they are called. A part of that name is made of tests.
    pub(crate) parts: &'static [(&'static str, &'static str)],
}

/// The suite, what only RabbitMQ can do wrong, and publishers that are not convoy's.
pub(crate) const RABBITMQ: Broker = Broker {
    name: "rabbitmq",
    title: "RabbitMQ",
    releases: &["4.3", "4.0", "3.10"],
    url: "CONVOY_RABBITMQ_URL",
    version: None,
    ways: None,
    parts: &[("rabbitmq", "conformance"), ("rabbitmq_traps", "traps"), ("rabbitmq_foreign", "foreign publishers")],
};

/// The suite, and what only Kafka can do wrong.
pub(crate) const KAFKA: Broker = Broker {
    name: "kafka",
    title: "Kafka",
    releases: &["4.4"],
    url: "CONVOY_KAFKA_URL",
    version: Some("CONVOY_KAFKA_RELEASE"),
    ways: Some(("CONVOY_KAFKA_ASSIGNOR", &["cooperative-sticky", "range"])),
    parts: &[("kafka", "conformance"), ("kafka_traps", "traps")],
};

/// A broker that is up.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) url: String,
    version: String,
}

/// What was run on one.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// Made of tests, or one that holds or not.
    pub(crate) tests: bool,
    pub(crate) ran: Result<Ran, String>,
}

pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    let (backend, rest) = args.split_first().ok_or("say which: `conformance memory`, `… rabbitmq` or `… kafka`")?;
    let mut summary = Summary::new("conformance");
    match backend.as_str() {
        "memory" => {
            for target in ["memory", "memory_lanes"] {
                summary.tests(target, suite(target, &[], rest).run());
            }
        }
        "rabbitmq" if rest.first().is_some_and(|arg| arg == "--via") => via(&mut summary, &rest[1..])?,
        "rabbitmq" if rest.first().is_some_and(|arg| arg == "--tls") => {
            let Asked { releases, rest, .. } = RABBITMQ.asked(&rest[1..])?;
            tls(&mut summary, &releases, rest);
        }
        "rabbitmq" => RABBITMQ.conformance(&mut summary, rest)?,
        "kafka" => KAFKA.conformance(&mut summary, rest)?,
        other => return Err(format!("there is no backend `{other}`: say `memory`, `rabbitmq` or `kafka`")),
    }
    Ok(summary.print())
}

/// Who names a test means the target that has it: one that ran nothing is left out then, unless none ran anything.
fn asked_for(mut parts: Vec<Part>, by_name: bool) -> Vec<Part> {
    let ran_some = |part: &Part| part.ran.as_ref().is_ok_and(|ran| ran.passed + ran.failed > 0);
    if by_name && parts.iter().any(ran_some) {
        parts.retain(ran_some);
    }
    parts
}

/// What of a broker is asked for.
struct Asked<'a> {
    releases: Vec<&'static str>,
    /// How many of its ways.
    ways: usize,
    /// What goes to the tests.
    rest: &'a [String],
}

impl Broker {
    /// The suite on what is asked for.
    fn conformance(&self, summary: &mut Summary, args: &[String]) -> Result<(), String> {
        let Asked { releases, ways, rest } = self.asked(args)?;
        for release in releases {
            self.on(summary, release, |running| {
                asked_for(self.all(running, ways, |target| suite(target, &[], rest)), !rest.is_empty())
            });
        }
        Ok(())
    }

    /// What is asked for: the first release, one by name, or all, in all ways.
    fn asked<'a>(&self, args: &'a [String]) -> Result<Asked<'a>, String> {
        Ok(match args {
            [all, rest @ ..] if all == "--all" => Asked { releases: self.releases.to_vec(), ways: usize::MAX, rest },
            [option, name, rest @ ..] if option == "--release" => {
                let found = self.releases.iter().find(|release| *release == name);
                let why = || format!("there is no release `{name}` of {}: {:?}", self.title, self.releases);
                Asked { releases: vec![found.ok_or_else(why)?], ways: 1, rest }
            }
            rest => Asked { releases: self.releases[..1].to_vec(), ways: 1, rest },
        })
    }

    /// Runs each of its targets on a broker, in so many ways at most.
    pub(crate) fn all(&self, on: &Running, ways: usize, tests: impl Fn(&str) -> Program) -> Vec<Part> {
        let run = |target: &str, way: Option<&str>| {
            let mut tests = tests(target).env(self.url, &on.url);
            if let Some(name) = self.version {
                tests = tests.env(name, &on.version);
            }
            if let (Some((name, _)), Some(way)) = (self.ways, way) {
                tests = tests.env(name, way);
            }
            if target == "rabbitmq_foreign" { Python::with_pika()?.for_tests(tests).run() } else { tests.run() }
        };
        let ways: Vec<Option<&str>> = match self.ways {
            Some((_, all)) => all.iter().take(ways).map(|way| Some(*way)).collect(),
            None => vec![None],
        };
        let each = ways.iter().flat_map(|way| self.parts.iter().map(move |part| (*way, part)));
        let part = |(way, (target, name)): (Option<&str>, &(&str, &str))| {
            let name = way.map_or_else(|| (*name).to_owned(), |way| format!("{name} ({way})"));
            Part { name, tests: true, ran: run(target, way) }
        };
        each.map(part).collect()
    }

    /// Starts it unless it is up, does something with it, and ends it if it was started here.
    pub(crate) fn on(&self, summary: &mut Summary, release: &str, with: impl FnOnce(&Running) -> Vec<Part>) {
        let up = brokers(&["up", self.name, "--release", release]);
        let ran = up.as_ref().ok();
        let (version, url) = (said(ran, "version"), said(ran, "endpoint"));
        let fresh = ran.is_some_and(|ran| ran.says("fresh=true"));
        let version = version.unwrap_or_else(|| release.to_owned());
        let on = format!("{} {version}", self.title);
        // A broker that does not come up fails the whole: what it was for did not run.
        if summary.work(&format!("{on}: start"), up)
            && let Some(url) = url
        {
            for Part { name, tests, ran } in with(&Running { url, version }) {
                let name = format!("{name}, {on}");
                if tests {
                    summary.tests(&name, ran);
                } else {
                    summary.one(&name, ran);
                }
            }
        }
        if fresh {
            summary.work(&format!("{on}: end"), brokers(&["down", self.name, "--release", release, "--nodes", "1"]));
        }
    }
}

fn suite(target: &str, features: &[&str], args: &[String]) -> Program {
    let mut all = vec!["test", "--release", "--package", "convoy-conformance", "--no-fail-fast", "--test", target];
    all.extend(features.iter().flat_map(|feature| ["--features", feature]));
    all.push("--");
    all.extend(args.iter().map(String::as_str));
    cargo(all)
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
    let Asked { releases, rest, .. } = RABBITMQ.asked(rest)?;
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

fn brokers(args: &[&str]) -> Result<Ran, String> {
    program(built()?.join("xtask"), ["brokers"].iter().chain(args)).run()
}

/// What the `RESULT` line says of this key.
fn said(ran: Option<&Ran>, key: &str) -> Option<String> {
    let line = ran?.result.as_ref()?;
    line.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
}
