//! The scenarios, on a RabbitMQ broker: the one of `CONVOY_RABBITMQ_URL`, or the one that `cargo xtask brokers up rabbitmq` starts.

use std::process::ExitCode;

use convoy_conformance::suite;

#[path = "support/http.rs"]
mod http;
#[path = "support/rabbitmq.rs"]
mod rabbitmq;

fn main() -> ExitCode {
    suite::main(rabbitmq::Rabbit::from_env())
}
