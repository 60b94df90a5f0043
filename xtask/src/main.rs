//! `cargo xtask`: the commands by which the project is tested, checked and measured.
//!
//! Each one that judges ends with a line `RESULT key=value …` on standard output and an exit status that says whether it held.

mod bench;
#[cfg(unix)]
mod brokers;
mod chaos;
mod check;
mod command;
mod conformance;
mod python;
mod sim;
mod summary;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask test [--quick | --all]      everything that can run here: unit and doc tests, conformance, simulation, examples
                                        --quick: fewer schedules, no seeded bugs, no RabbitMQ and no Kafka; --all: each release of them, TLS, and the benchmarks too
cargo xtask conformance memory|rabbitmq|kafka [--release R | --all] [...]
                                        the scenarios on one backend, its broker started where it needs one
                                        rabbitmq --tls: the tests of TLS; rabbitmq --via testcontainers: in a container that `testcontainers` starts
cargo xtask sim [OPTIONS]               the simulation; its own options: cargo xtask sim --help
cargo xtask bench engine|memory|sentinel [...]
                                        the figures, each beside its target
cargo xtask chaos rabbitmq|kafka [...]  processes killed and frozen, a broker killed and restarted, links cut, by a seed; then all is judged
                                        --messages N, --sessions N, --faults N or --minutes N, --seed N, --release R, --broken-settle early|ahead; --dry: only the schedule
                                        --nodes 3: on a cluster, whose nodes fail one at a time
cargo xtask check                       format, lints on each feature, documentation, licences, who may import whom
cargo xtask brokers up rabbitmq|kafka   a broker to test against; prints its endpoint and version. In Docker where a daemon can pull, else natively,
                                        in a folder below target/, on 127.0.0.1 only: --native, --docker, --port N
                                        rabbitmq: from Debian's packages, as root; --release 4.3|4.0|3.10 (on ports 5672, 5673, 5674), --tls FOLDER
                                        kafka: from Maven's artifacts, on Java 17 or later; 4.4 (on port 9092); --links PORT,…: listeners for who stands in between
                                        --nodes 3: a cluster, natively only (rabbitmq on ports 5772, 5872, 5972; 5773 …; 5774 …; kafka on 9192, 9292, 9392)
cargo xtask brokers status [rabbitmq|kafka] [--release R] [--nodes 1|3]
cargo xtask brokers down [rabbitmq|kafka] [--release R] [--nodes 1|3] [--wipe]
                                        ends what was started here; --wipe: and removes what it stored; --node N: one node of a cluster";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (verb, rest) = args.split_first().map_or(("help", &[][..]), |(verb, rest)| (verb.as_str(), rest));
    let done = match verb {
        "test" => test::run(rest),
        "sim" => sim::run(rest),
        "bench" => bench::run(rest),
        "conformance" => conformance::run(rest),
        "check" => check::run(rest),
        #[cfg(unix)]
        "brokers" => brokers::run(rest),
        "chaos" => chaos::run(rest),
        #[cfg(not(unix))]
        "brokers" => {
            Err("brokers are started from here on Unix only: `docker compose up` gives the same one".to_owned())
        }
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => Err(format!("there is no command `{other}`")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: {why}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
