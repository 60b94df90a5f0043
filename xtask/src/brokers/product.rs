//! Which brokers there are, and what is asked of each of them.

use std::path::Path;

use super::kafka;
use super::node::Node;
use super::rabbitmq;
use super::release::Release;

/// A broker that can be started from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    RabbitMq,
    Kafka,
}

/// Who answers on a port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) product: String,
    pub(super) version: String,
}

impl Product {
    pub(super) const ALL: [Self; 2] = [Self::RabbitMq, Self::Kafka];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|product| product.name() == name)
    }

    /// On the command line, in the names of folders and in what scripts read.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Kafka => "kafka",
        }
    }

    /// To people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::RabbitMq => "RabbitMQ",
            Self::Kafka => "Kafka",
        }
    }

    /// The URL of a broker that has nodes on these ports.
    pub(super) fn endpoint(self, ports: &[u16]) -> String {
        let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let user = match self {
            Self::RabbitMq => "amqp://guest:guest@",
            Self::Kafka => "kafka://",
        };
        format!("{user}{}", hosts.join(","))
    }

    /// What else there is beside the port of a node.
    pub(super) fn beside(self, port: u16) -> String {
        match self {
            Self::RabbitMq => format!(", its HTTP API at http://127.0.0.1:{}", rabbitmq::Ports::beside(port).http),
            Self::Kafka => String::new(),
        }
    }

    /// Where TLS is spoken, if that was asked for.
    pub(super) fn tls_endpoint(self, port: u16) -> String {
        match self {
            Self::RabbitMq => format!("amqps://localhost:{}", rabbitmq::Ports::beside(port).tls),
            Self::Kafka => String::new(),
        }
    }

    /// Asks who answers on a port. Done, a client can work there.
    pub(super) fn hello(self, port: u16) -> Result<Server, String> {
        match self {
            Self::RabbitMq => rabbitmq::hello(port),
            Self::Kafka => kafka::hello(port),
        }
    }

    /// What tests need of it: a client can work on each of the nodes, and the loss of any of several would lose nothing.
    pub(super) fn ready(self, ports: &[u16], tls: bool) -> Result<Server, String> {
        match self {
            Self::RabbitMq => rabbitmq::ready(ports, tls),
            Self::Kafka => kafka::ready(ports),
        }
    }

    /// Whether a broker that answers in this way is of the release.
    pub(super) fn is(self, release: &Release, server: &Server) -> bool {
        let product = match self {
            Self::RabbitMq => rabbitmq::PRODUCT,
            Self::Kafka => kafka::PRODUCT,
        };
        server.product == product && release.has(&server.version)
    }

    /// The nodes of a broker with this folder: one of one node is in it, those of a cluster are each in one below it.
    pub(super) fn nodes(
        self,
        release: &'static Release,
        folder: &Path,
        programs: &Path,
        count: usize,
    ) -> Vec<Box<dyn Node>> {
        match self {
            Self::RabbitMq => boxed(rabbitmq::Rabbit::all(release, folder, programs, count)),
            Self::Kafka => boxed(kafka::Kafka::all(folder, programs, count)),
        }
    }

    /// What `docker-compose.yml` is told of a broker on this port.
    pub(super) fn compose(self, release: &Release, port: u16) -> Vec<(&'static str, String)> {
        let tag = release.tag().to_owned();
        match self {
            Self::RabbitMq => {
                let http = rabbitmq::Ports::beside(port).http.to_string();
                vec![("RABBITMQ_TAG", tag), ("RABBITMQ_PORT", port.to_string()), ("RABBITMQ_HTTP_PORT", http)]
            }
            Self::Kafka => vec![("KAFKA_TAG", tag), ("KAFKA_PORT", port.to_string())],
        }
    }
}

fn boxed<N: Node + 'static>(nodes: Vec<N>) -> Vec<Box<dyn Node>> {
    nodes.into_iter().map(|node| Box::new(node) as Box<dyn Node>).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_of_a_cluster_has_all_nodes_in_it() {
        let of = |product: Product| product.endpoint(&[5772, 5872, 5972]);
        assert_eq!(of(Product::RabbitMq), "amqp://guest:guest@127.0.0.1:5772,127.0.0.1:5872,127.0.0.1:5972");
        assert_eq!(of(Product::Kafka), "kafka://127.0.0.1:5772,127.0.0.1:5872,127.0.0.1:5972");
    }

    #[test]
    fn each_has_a_name_of_its_own() {
        for product in Product::ALL {
            assert_eq!(Product::named(product.name()), Some(product));
        }
        assert_eq!(Product::named("memory"), None);
    }
}
