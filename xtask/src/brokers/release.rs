//! The releases that can be started, where each comes from, and the ports that they are on.

use super::product::Product;

/// A release of a broker by the first two numbers of its version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) product: Product,
    pub(super) name: &'static str,
    /// The official image, with its tag.
    pub(super) image: &'static str,
    /// Where a native one comes from.
    pub(super) origin: Origin,
    /// Where clients find it. The first one is on the port that everything looks for.
    pub(super) port: u16,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The Debian suite that has it. What the suite gives on the day is taken and printed.
    Debian(&'static str),
    /// Maven's central repository: the artifacts of one version, by their checksums.
    Maven,
}

/// The first of each broker is what is started when none is named.
pub(super) const ALL: &[Release] = &[
    rabbit("4.3", "rabbitmq:4.3.6-management", "sid", 5672),
    rabbit("4.0", "rabbitmq:4.0.9-management", "trixie", 5673),
    rabbit("3.10", "rabbitmq:3.10.25-management", "bookworm", 5674),
    Release { product: Product::Kafka, name: "4.4", image: "apache/kafka:4.4.0", origin: Origin::Maven, port: 9092 },
];

const fn rabbit(name: &'static str, image: &'static str, suite: &'static str, port: u16) -> Release {
    Release { product: Product::RabbitMq, name, image, origin: Origin::Debian(suite), port }
}

impl Release {
    /// The one of this name, of this broker if one was said.
    pub(super) fn named(name: &str, product: Option<Product>) -> Result<&'static Self, String> {
        let found = of(product).find(|release| release.name == name);
        found.ok_or_else(|| {
            let known = of(product).map(|one| format!("{} {}", one.product.title(), one.name)).collect::<Vec<_>>();
            format!("there is no release `{name}` here: take one of {}", known.join(", "))
        })
    }

    /// The port of the first node of a cluster that nobody said otherwise of: it runs beside a broker of one node.
    pub(super) fn cluster_port(&self) -> u16 {
        self.port + APART
    }

    /// The tag of the official image.
    pub(super) fn tag(&self) -> &'static str {
        self.image.split_once(':').map_or("latest", |(_, tag)| tag)
    }

    /// Whether a version is one of this release.
    pub(super) fn has(&self, version: &str) -> bool {
        version.strip_prefix(self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// What is to be said when what came is of another release.
    pub(super) fn note(&self, version: &str) -> Option<String> {
        match self.origin {
            Origin::Debian(suite) if !self.has(version) => {
                Some(format!("note: that is what Debian {suite} has today, and no {}", self.name))
            }
            _ => None,
        }
    }
}

/// The releases of one broker, or of all.
pub(super) fn of(product: Option<Product>) -> impl Iterator<Item = &'static Release> {
    ALL.iter().filter(move |release| product.is_none_or(|product| product == release.product))
}

/// So far apart are the ports of the nodes of a cluster.
const APART: u16 = 100;

/// A port that a broker may be on. Its other ports are counted up from it, and all stay below 32768, from where on Linux hands out ports to outgoing
/// connections.
pub(super) fn port(port: u16) -> Result<u16, String> {
    if (1024..=12_000).contains(&port) {
        return Ok(port);
    }
    Err(format!("port {port}: take one from 1024 to 12000, the others are counted up from it"))
}

/// The ports of so many nodes of a cluster, of which the first is on this one.
pub(super) fn ports(first: u16, nodes: usize) -> Result<Vec<u16>, String> {
    let each = (0..nodes).map(|at| u16::try_from(at).map_or(u16::MAX, |at| first.saturating_add(at * APART)));
    each.map(port).collect()
}

/// The first port in a URL that was written for a broker of one node, or for the first of several.
pub(super) fn port_of(endpoint: &str) -> Option<u16> {
    endpoint.trim().rsplit_once(':').and_then(|(_, number)| port(number.parse().ok()?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_of_one_release() -> Result<(), String> {
        let named = |name| Release::named(name, None);
        assert!(named("4.3")?.has("4.3.6"));
        assert!(!named("4.3")?.has("4.30.1"));
        assert!(!named("4.0")?.has("4.3.6"));
        assert!(named("5.0").is_err() && Release::named("4.0", Some(Product::Kafka)).is_err());
        assert_eq!(Release::named("4.4", Some(Product::Kafka))?.tag(), "4.4.0");
        for product in Product::ALL {
            assert!(of(Some(product)).next().is_some_and(|first| first.product == product));
        }
        Ok(())
    }

    #[test]
    fn no_two_brokers_share_a_port() -> Result<(), String> {
        let mut all = Vec::new();
        for release in ALL {
            let own = [release.port].into_iter().chain(ports(release.cluster_port(), 3)?);
            match release.product {
                Product::RabbitMq => {
                    let each = own.map(|port| super::super::rabbitmq::Ports::beside(port).each().map(|(port, _)| port));
                    all.extend(each.flatten());
                }
                Product::Kafka => all.extend(own.flat_map(|port| [port, super::super::kafka::controller(port)])),
            }
        }
        let given = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), given);
        assert!(all.iter().all(|port| *port < 32_768));
        Ok(())
    }

    #[test]
    fn an_endpoint_is_read_back() {
        for product in Product::ALL {
            assert_eq!(port_of(&format!("{}\n", product.endpoint(&[5672]))), Some(5672));
        }
        assert_eq!(port_of("amqp://127.0.0.1"), None);
        assert!(port(80).is_err() && port(60_000).is_err());
    }
}
