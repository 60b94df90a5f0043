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
    /// What runs on it: targets, and what they are called. A part of that name is made of tests.
    pub(crate) parts: &'static [(&'static str, &'static str)],
}

/// The suite, and what only RabbitMQ has to show.
pub(crate) const RABBITMQ: Broker = Broker {
    name: "rabbitmq",
    title: "RabbitMQ",
    releases: &["4.3", "4.0", "3.10"],
    url: "CONVOY_RABBITMQ_URL",
    parts: &[("rabbitmq", "conformance"), ("rabbitmq_traps", "traps"), ("rabbitmq_foreign", "foreign publishers")],
};

pub(crate) const KAFKA: Broker = Broker {
    name: "kafka",
    title: "Kafka",
    releases: &["4.4"],
    url: "CONVOY_KAFKA_URL",
    parts: &[("kafka", "conformance")],
};

/// What was run on a broker, by name.
pub(crate) type Parts = Vec<(&'static str, Result<Ran, String>)>;

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
            let (releases, rest) = RABBITMQ.asked(&rest[1..])?;
            tls(&mut summary, &releases, rest);
        }
        "rabbitmq" => RABBITMQ.conformance(&mut summary, rest)?,
        "kafka" => KAFKA.conformance(&mut summary, rest)?,
        other => return Err(format!("there is no backend `{other}`: say `memory`, `rabbitmq` or `kafka`")),
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

impl Broker {
    /// The suite on what is asked for.
    fn conformance(&self, summary: &mut Summary, args: &[String]) -> Result<(), String> {
        let (releases, rest) = self.asked(args)?;
        for release in releases {
            self.on(summary, release, |url| {
                asked_for(self.all(url, |target| suite(target, &[], rest)), !rest.is_empty())
            });
        }
        Ok(())
    }

    /// Which releases are asked for: the first, one by name, or all.
    fn asked<'a>(&self, args: &'a [String]) -> Result<(Vec<&'static str>, &'a [String]), String> {
        match args {
            [all, rest @ ..] if all == "--all" => Ok((self.releases.to_vec(), rest)),
            [option, name, rest @ ..] if option == "--release" => {
                let found = self.releases.iter().find(|release| *release == name);
                found
                    .map(|release| (vec![*release], rest))
                    .ok_or_else(|| format!("there is no release `{name}` of {}: {:?}", self.title, self.releases))
            }
            rest => Ok((self.releases[..1].to_vec(), rest)),
        }
    }

    /// Runs each of its targets on the broker of this URL.
    pub(crate) fn all(&self, url: &str, tests: impl Fn(&str) -> Program) -> Parts {
        let run = |target| {
            let tests = tests(target).env(self.url, url);
            if target == "rabbitmq_foreign" { Python::with_pika()?.for_tests(tests).run() } else { tests.run() }
        };
        self.parts.iter().map(|(target, part)| (*part, run(*target))).collect()
    }

    /// Starts it unless it is up, does something with it, and ends it if it was started here.
    pub(crate) fn on(&self, summary: &mut Summary, release: &str, with: impl FnOnce(&str) -> Parts) {
        let up = brokers(&["up", self.name, "--release", release]);
        let ran = up.as_ref().ok();
        let (version, url) = (said(ran, "version"), said(ran, "endpoint"));
        let fresh = ran.is_some_and(|ran| ran.says("fresh=true"));
        let on = format!("{} {}", self.title, version.as_deref().unwrap_or(release));
        // A broker that does not come up fails the whole: what it was for did not run.
        if summary.work(&format!("{on}: start"), up)
            && let Some(url) = url
        {
            for (name, ran) in with(&url) {
                let is_tests = self.parts.iter().any(|(_, tests)| *tests == name);
                let name = format!("{name}, {on}");
                if is_tests {
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
    let units = ["test", "--release", "--package", "convoy-rabbitmq", "--features", "tls", "--lib"];
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
    let (releases, rest) = RABBITMQ.asked(rest)?;
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
