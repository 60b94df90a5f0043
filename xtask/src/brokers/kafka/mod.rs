//! Apache Kafka, from Maven's artifacts, on the Java that is here: each node is broker and controller in one (KRaft).

mod jars;
mod java;
mod node;
mod settings;
mod wire;

use super::product::Server;

pub(super) use node::Kafka;
#[cfg(test)]
pub(super) use settings::controller;
pub(super) use wire::hello;

/// What it is called.
pub(super) const PRODUCT: &str = "Apache Kafka";

/// What tests need: each node answers requests and sees as many as there are; and in a cluster every replica of every partition is in line.
pub(super) fn ready(ports: &[u16]) -> Result<Server, String> {
    let mut server = None;
    for port in ports {
        server = Some(wire::whole(*port, ports.len())?);
    }
    server.ok_or_else(|| "a broker without nodes".to_owned())
}
