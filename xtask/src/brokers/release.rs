//! The releases that can be started, where each comes from, and the ports it is given.

/// A release of RabbitMQ by the first two numbers of its version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) name: &'static str,
    /// The Debian suite that has it. What the suite gives on the day is taken and printed.
    pub(super) suite: &'static str,
    /// The tag of the official image.
    pub(super) tag: &'static str,
    /// Where clients find it. The first one is on the port that everything looks for.
    pub(super) port: u16,
}

/// The first is what is started when none is named.
pub(super) const ALL: &[Release] = &[
    Release { name: "4.3", suite: "sid", tag: "4.3.6-management", port: 5672 },
    Release { name: "4.0", suite: "trixie", tag: "4.0.9-management", port: 5673 },
    Release { name: "3.10", suite: "bookworm", tag: "3.10.25-management", port: 5674 },
];

impl Release {
    pub(super) fn named(name: &str) -> Result<&'static Self, String> {
        let known = || ALL.iter().map(|release| release.name).collect::<Vec<_>>().join(", ");
        let found = ALL.iter().find(|release| release.name == name);
        found.ok_or_else(|| format!("there is no release `{name}` of RabbitMQ here: take one of {}", known()))
    }

    /// The ports of the first node of a cluster that nobody said otherwise of: it runs beside a broker of one node.
    pub(super) fn cluster_ports(&self) -> Result<Ports, String> {
        Ports::from(self.port + APART)
    }

    /// Whether a version is one of this release.
    pub(super) fn has(&self, version: &str) -> bool {
        version.strip_prefix(self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// So far apart are the ports of the nodes of a cluster.
const APART: u16 = 100;

/// The ports of one broker: all follow from the one of AMQP, and all stay below 32768, from where on Linux hands out ports to outgoing connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) amqp: u16,
    /// AMQP over TLS, where that is asked for.
    pub(super) tls: u16,
    /// The HTTP API of the management plugin.
    pub(super) http: u16,
    /// The port mapper of Erlang, one for each broker, so that it can be stopped with it.
    pub(super) epmd: u16,
    /// Where the node talks to other nodes and to its own command line tools.
    pub(super) dist: u16,
}

impl Ports {
    pub(super) fn from(amqp: u16) -> Result<Self, String> {
        if !(1024..=12_000).contains(&amqp) {
            return Err(format!("port {amqp}: take one from 1024 to 12000, the others are counted up from it"));
        }
        Ok(Self { amqp, tls: amqp + 5_000, http: amqp + 10_000, epmd: amqp + 15_000, dist: amqp + 20_000 })
    }

    /// Those of so many nodes of a cluster, of which these are the first: they share its port mapper.
    pub(super) fn cluster(self, nodes: usize) -> Result<Vec<Self>, String> {
        let amqp = (0..nodes).map(|at| u16::try_from(at).map_or(u16::MAX, |at| self.amqp.saturating_add(at * APART)));
        amqp.map(|amqp| Ok(Self { epmd: self.epmd, ..Self::from(amqp)? })).collect()
    }

    /// Each with what it is for.
    pub(super) fn each(self) -> [(u16, &'static str); 5] {
        let Self { amqp, tls, http, epmd, dist } = self;
        [(amqp, "AMQP"), (tls, "AMQP over TLS"), (http, "HTTP API"), (epmd, "epmd"), (dist, "Erlang distribution")]
    }

    pub(super) fn endpoint(self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.amqp)
    }

    /// Reads back what `endpoint` wrote.
    pub(super) fn of_endpoint(endpoint: &str) -> Option<Self> {
        endpoint.trim().rsplit_once(':').and_then(|(_, port)| Self::from(port.parse().ok()?).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_of_one_release() -> Result<(), String> {
        assert!(Release::named("4.3")?.has("4.3.6"));
        assert!(!Release::named("4.3")?.has("4.30.1"));
        assert!(!Release::named("4.0")?.has("4.3.6"));
        assert!(Release::named("4.4").is_err());
        Ok(())
    }

    #[test]
    fn no_two_brokers_share_a_port() -> Result<(), String> {
        let mut all = Vec::new();
        for release in ALL {
            all.extend(Ports::from(release.port)?.each().map(|(port, _)| port));
            let cluster = release.cluster_ports()?.cluster(3)?;
            all.extend(cluster.iter().flat_map(|ports| [ports.amqp, ports.http, ports.dist]));
            all.push(cluster[0].epmd);
            assert!(cluster.iter().all(|ports| ports.epmd == cluster[0].epmd));
        }
        let given = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), given);
        assert!(all.iter().all(|port| *port < 32_768));
        Ok(())
    }

    #[test]
    fn an_endpoint_is_read_back() -> Result<(), String> {
        let ports = Ports::from(5672)?;
        assert_eq!(Ports::of_endpoint(&format!("{}\n", ports.endpoint())), Some(ports));
        assert_eq!(Ports::of_endpoint("amqp://127.0.0.1"), None);
        assert!(Ports::from(80).is_err() && Ports::from(60_000).is_err());
        Ok(())
    }
}
