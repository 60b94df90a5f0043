//! What the brokers of a run differ in.

use std::net::SocketAddr;

use convoy_conformance::checker::Options;

use crate::args::Args;

/// The broker that is run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    RabbitMq,
    Kafka,
}

/// The grace time of consumers, and what a busy machine takes on top.
const GRACE: u64 = 2_500_000_000;
/// RabbitMQ: a quarter of the prefetch of 500, twice: so much may be finished and unsettled.
const RABBIT_SETTLED: u32 = 250;
/// Kafka: so much is finished when the broker is told, at the latest.
const KAFKA_SETTLES: u32 = 250;

impl Backend {
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let found = [Self::RabbitMq, Self::Kafka].into_iter().find(|backend| backend.name() == name);
        found.ok_or_else(|| format!("there is no broker `{name}` to break: say `rabbitmq` or `kafka`"))
    }

    /// As `xtask` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Kafka => "kafka",
        }
    }

    /// To people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::RabbitMq => "RabbitMQ",
            Self::Kafka => "Kafka",
        }
    }

    /// The release that is run on unless another one is said.
    pub(crate) fn release(self) -> &'static str {
        match self {
            Self::RabbitMq => "4.3",
            Self::Kafka => "4.4",
        }
    }

    /// The port of the broker, or of its first node.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::RabbitMq => 5690,
            Self::Kafka => 9490,
        }
    }

    /// Whether clients go where the broker tells them to, and not where they came from: then it is told of every link, and has a listener for each.
    pub(crate) fn tells_where(self) -> bool {
        self == Self::Kafka
    }

    /// Whether a right is bound to a connection, and over when the broker sees that end. On Kafka it is bound to a membership that outlives connections, and the broker itself.
    pub(crate) fn ends_with_connection(self) -> bool {
        self == Self::RabbitMq
    }

    /// Whether a node that is killed may have forgotten what it acknowledged: RabbitMQ's acknowledgements are not written to disk before they are answered. Kafka's commits are, as
    /// far as the kill of a process goes, or are on the other nodes.
    pub(crate) fn forgets_when_killed(self) -> bool {
        self == Self::RabbitMq
    }

    /// Whether it can be made short of memory.
    pub(crate) fn has_alarm(self) -> bool {
        self == Self::RabbitMq
    }

    /// What of the faults of another broker has no counterpart here.
    pub(crate) fn lacks(self) -> &'static [&'static str] {
        match self {
            Self::RabbitMq => &["churn"],
            Self::Kafka => &["memory-alarm"],
        }
    }

    /// Where workers connect. A lease is over two heartbeats after the last sign of life, on either.
    pub(crate) fn url(self, nodes: &[SocketAddr], args: &Args) -> String {
        let Args { lanes, heartbeat, .. } = args;
        let hosts = nodes.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        let (beat, lease) = (heartbeat.as_secs(), heartbeat.as_secs() * 2);
        let url = match self {
            Self::RabbitMq => format!(
                "amqp://guest:guest@{hosts}?lanes={lanes}&heartbeat={beat}s&node_timeout={lease}s&connect_limit=5s&answer_limit=5s&handover=2s"
            ),
            // A member says more often that it is there than its lease asks for, since it hears of changes then.
            Self::Kafka => format!(
                "kafka://{hosts}?lanes={lanes}&heartbeat={}ms&session_timeout={lease}s&answer_limit=5s&handover=2s&settle_count={KAFKA_SETTLES}",
                heartbeat.as_millis() / 8
            ),
        };
        args.with.iter().fold(url, |url, option| url + "&" + option)
    }

    /// What its histories are judged by.
    pub(crate) fn judged_by(self) -> Options {
        let (mut options, settled) = match self {
            Self::RabbitMq => (Options::partial(), RABBIT_SETTLED),
            Self::Kafka => (Options::total(), 2 * KAFKA_SETTLES),
        };
        (options.grace, options.settle_count) = (GRACE, settled);
        options
    }
}
