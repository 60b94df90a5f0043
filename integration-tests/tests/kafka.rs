//! The scenarios, on a Kafka broker: the one of `CONVOY_KAFKA_URL`, or the one that `cargo xtask brokers up kafka` starts.

use std::process::ExitCode;

use convoy_conformance::suite;

#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/kafka_group.rs"]
mod kafka_group;
#[path = "support/kafka_wire.rs"]
mod kafka_wire;

fn main() -> ExitCode {
    suite::main(kafka::Kafka::from_env())
}
