//! RabbitMQ, from Debian's packages.

mod amqp;
mod apt;
mod debian;
mod http;
mod node;
mod ports;
mod tls;

use super::product::Server;
use super::tool;

pub(super) use amqp::hello;
pub(super) use node::Rabbit;
pub(super) use ports::Ports;

/// What a broker calls itself.
pub(super) const PRODUCT: &str = "RabbitMQ";

/// What tests need: on each node a client can log in, the HTTP API answers, and nothing keeps messages from being sent; and a cluster is whole.
pub(super) fn ready(ports: &[u16], tls: bool) -> Result<Server, String> {
    let mut server = None;
    for port in ports {
        let each = Ports::beside(*port);
        server = Some(hello(*port)?);
        http::no_alarm(each.http)?;
        if ports.len() > 1 {
            http::in_cluster(each.http, ports.len())?;
        }
        if tls {
            tool::connect(each.tls)?;
        }
    }
    server.ok_or_else(|| "a broker without nodes".to_owned())
}
