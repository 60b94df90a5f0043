//! The ports of one broker.

/// All follow from the one of AMQP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Ports {
    pub(in super::super) amqp: u16,
    /// AMQP over TLS, where that is asked for.
    pub(in super::super) tls: u16,
    /// The HTTP API of the management plugin.
    pub(in super::super) http: u16,
    /// The port mapper of Erlang, one for each broker, so that it can be stopped with it.
    pub(super) epmd: u16,
    /// Where the node talks to other nodes and to its own command line tools.
    pub(super) dist: u16,
}

impl Ports {
    pub(in super::super) fn beside(amqp: u16) -> Self {
        let [tls, http, epmd, dist] = [5_000, 10_000, 15_000, 20_000].map(|more| amqp.saturating_add(more));
        Self { amqp, tls, http, epmd, dist }
    }

    /// Those of one of these nodes of a cluster, which share the port mapper of the first.
    pub(super) fn of_node(ports: &[u16], at: usize) -> Option<Self> {
        Some(Self { epmd: Self::beside(*ports.first()?).epmd, ..Self::beside(*ports.get(at)?) })
    }

    /// Each with what it is for.
    pub(in super::super) fn each(self) -> [(u16, &'static str); 5] {
        let Self { amqp, tls, http, epmd, dist } = self;
        [(amqp, "AMQP"), (tls, "AMQP over TLS"), (http, "HTTP API"), (epmd, "epmd"), (dist, "Erlang distribution")]
    }
}
