//! What is to go wrong, and when: all of it follows from the seed.

use std::fmt;
use std::time::Duration;

use crate::backend::Backend;

/// Consumers, and producers behind them, by number.
pub(crate) const CONSUMERS: usize = 4;
pub(crate) const PRODUCERS: usize = 2;

/// The most faults of a run that is to take a time.
const MOST: usize = 2000;

/// What a plan is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct On {
    pub(crate) backend: Backend,
    /// What lasts lasts in proportion to it.
    pub(crate) heartbeat: Duration,
    pub(crate) nodes: usize,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `SIGKILL`, and started again after a while.
    Kill(usize),
    /// `SIGSTOP`, and `SIGCONT` after a while: beyond the lease.
    Freeze(usize),
    /// Told to drain, and started again at once.
    Restart(usize),
    /// All consumers but one are drained, and started again after a while.
    Scale(usize),
    /// Told to drain and started again, for a minute.
    Churn(usize),
    BrokerStop,
    BrokerKill,
    /// Below every timeout, or above.
    BrokerFreeze,
    /// The broker is short of memory.
    Alarm,
    /// Of a cluster, a node is killed, ended in order, or stands still. It is back, with all replicas in line, before the next of these.
    NodeKill(usize),
    NodeStop(usize),
    NodeFreeze(usize),
    /// The links of a process are reset, at both ends.
    Reset(usize),
    /// They swallow what goes to the broker, to the client, or both.
    Blackhole(usize, Deaf, Bytes),
    Slow(usize),
    /// Cut in the middle of a frame.
    Cut(usize, Deaf),
    /// Bytes come in small pieces.
    Slice(usize),
}

/// Who hears nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deaf {
    Broker,
    Client,
    Both,
}

/// What becomes of the bytes in a black hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    Lost,
    Held,
}

/// One fault of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// So long after the one before has begun (if that goes on beside it) or ended.
    pub(crate) pause: Duration,
    /// How long it lasts; a broker that is started again takes longer.
    pub(crate) lasts: Duration,
    /// The next one does not wait for its end.
    pub(crate) beside: bool,
    /// Of a link: only the connections that there are. New ones are well, and lead to another node perhaps, while the broker still has the old ones.
    pub(crate) around: bool,
}

/// The cards from which faults are dealt: each kind comes before any comes again as often as it is here.
fn deck(rng: &mut fastrand::Rng, on: On) -> Vec<(Kind, Duration)> {
    let On { backend, heartbeat, nodes } = on;
    let any = CONSUMERS + PRODUCERS;
    let mut deck = Vec::new();
    let mut card =
        |rng: &mut fastrand::Rng, count: u32, low: f64, high: f64, kind: &dyn Fn(&mut fastrand::Rng) -> Kind| {
            for _ in 0..count {
                let lasts = heartbeat.mul_f64(low + (high - low) * rng.f64());
                deck.push((kind(rng), Duration::from_millis(u64::try_from(lasts.as_millis()).unwrap_or(0))));
            }
        };
    let consumer = |rng: &mut fastrand::Rng| rng.usize(..CONSUMERS);
    let producer = |rng: &mut fastrand::Rng| CONSUMERS + rng.usize(..PRODUCERS);
    let deaf = |rng: &mut fastrand::Rng| [Deaf::Broker, Deaf::Client, Deaf::Both][rng.usize(..3)];
    let bytes = |rng: &mut fastrand::Rng| if rng.bool() { Bytes::Lost } else { Bytes::Held };
    card(rng, 5, 0.1, 1.5, &|rng| Kind::Kill(consumer(rng)));
    card(rng, 3, 2.5, 4.0, &|rng| Kind::Freeze(consumer(rng)));
    card(rng, 1, 0.1, 0.4, &|rng| Kind::Freeze(rng.usize(..any)));
    card(rng, 3, 0.0, 0.0, &|rng| Kind::Restart(consumer(rng)));
    card(rng, 1, 1.0, 2.0, &|rng| Kind::Scale(consumer(rng)));
    card(rng, 3, 0.1, 1.0, &|rng| Kind::Kill(producer(rng)));
    // Each change of its members goes through a whole group of Kafka.
    if backend == Backend::Kafka {
        card(rng, 1, 30.0, 30.0, &|rng| Kind::Churn(consumer(rng)));
    }
    if nodes == 1 {
        card(rng, 1, 0.1, 1.0, &|_| Kind::BrokerStop);
        card(rng, 1, 0.1, 1.0, &|_| Kind::BrokerKill);
        card(rng, 1, 0.1, 0.6, &|_| Kind::BrokerFreeze);
        card(rng, 1, 2.5, 4.0, &|_| Kind::BrokerFreeze);
        if backend.has_alarm() {
            card(rng, 1, 1.5, 2.5, &|_| Kind::Alarm);
        }
    } else {
        card(rng, 4, 0.1, 3.0, &|rng| Kind::NodeKill(rng.usize(..nodes)));
        card(rng, 2, 0.1, 3.0, &|rng| Kind::NodeStop(rng.usize(..nodes)));
        card(rng, 1, 0.1, 0.6, &|rng| Kind::NodeFreeze(rng.usize(..nodes)));
        card(rng, 2, 2.5, 4.0, &|rng| Kind::NodeFreeze(rng.usize(..nodes)));
    }
    card(rng, 3, 0.0, 0.0, &|rng| Kind::Reset(rng.usize(..any)));
    card(rng, 3, 2.5, 4.0, &|rng| Kind::Blackhole(rng.usize(..any), deaf(rng), bytes(rng)));
    card(rng, 1, 0.1, 0.4, &|rng| Kind::Blackhole(rng.usize(..any), deaf(rng), Bytes::Held));
    card(rng, 2, 1.0, 2.0, &|rng| Kind::Slow(rng.usize(..any)));
    card(rng, 2, 0.0, 0.0, &|rng| Kind::Cut(rng.usize(..any), deaf(rng)));
    card(rng, 1, 1.0, 2.0, &|rng| Kind::Slice(rng.usize(..any)));
    rng.shuffle(&mut deck);
    deck
}

/// The schedule of a seed.
pub(crate) fn plan(seed: u64, faults: usize, on: On) -> Vec<Fault> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut cards = Vec::new();
    let mut plan = Vec::with_capacity(faults);
    while plan.len() < faults {
        let Some((kind, lasts)) = cards.pop() else {
            cards = deck(&mut rng, on);
            continue;
        };
        let pause = Duration::from_millis(rng.u64(300..1500));
        let (beside, around) = (rng.u32(..4) == 0, on.nodes > 1 && rng.bool());
        plan.push(Fault { kind, pause, lasts, beside, around });
    }
    plan
}

/// As many faults of a schedule as take about so long.
pub(crate) fn plan_for(seed: u64, takes: Duration, on: On) -> Vec<Fault> {
    let mut faults = 1;
    while faults < MOST && estimate(&plan(seed, faults, on)) < takes {
        faults += 1;
    }
    plan(seed, faults, on)
}

/// The faults of one kind out of as long a schedule as it takes, one after the other.
pub(crate) fn plan_only(kind: &str, seed: u64, faults: usize, on: On) -> Result<Vec<Fault>, String> {
    let all = plan(seed, MOST, on);
    if !all.iter().any(|fault| fault.kind.name() == kind) {
        let mut names: Vec<_> = all.iter().map(|fault| fault.kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        return Err(format!("there is no fault `{kind}` here; there are {}", names.join(", ")));
    }
    let these = all.into_iter().filter(|fault| fault.kind.name() == kind);
    let plan: Vec<Fault> = these.map(|fault| Fault { beside: false, ..fault }).take(faults).collect();
    if plan.len() < faults {
        return Err(format!("a schedule has at most {} of `{kind}`", plan.len()));
    }
    Ok(plan)
}

/// About how long a plan takes.
pub(crate) fn estimate(plan: &[Fault]) -> Duration {
    plan.iter()
        .map(|fault| fault.pause + if fault.beside { Duration::ZERO } else { fault.lasts + fault.kind.work() })
        .sum()
}

impl Kind {
    /// What comes on top: programs that start and end.
    fn work(self) -> Duration {
        Duration::from_millis(match self {
            Self::BrokerStop | Self::BrokerKill => 11_000,
            Self::NodeStop(_) | Self::NodeKill(_) => 13_000,
            Self::NodeFreeze(_) => 1000,
            Self::Alarm => 5000,
            Self::Restart(_) | Self::Scale(_) | Self::Churn(_) => 1000,
            _ => 0,
        })
    }

    /// A short name, for lists and pictures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill(at) if at < CONSUMERS => "consumer-kill",
            Self::Kill(_) => "producer-kill",
            Self::Freeze(_) => "freeze",
            Self::Restart(_) => "restart",
            Self::Scale(_) => "scale",
            Self::Churn(_) => "churn",
            Self::BrokerStop => "broker-restart",
            Self::BrokerKill => "broker-kill",
            Self::BrokerFreeze => "broker-freeze",
            Self::Alarm => "memory-alarm",
            Self::NodeKill(_) => "node-kill",
            Self::NodeStop(_) => "node-restart",
            Self::NodeFreeze(_) => "node-freeze",
            Self::Reset(_) => "reset",
            Self::Blackhole(..) => "blackhole",
            Self::Slow(_) => "slow",
            Self::Cut(..) => "cut-mid-frame",
            Self::Slice(_) => "slices",
        }
    }

    /// The worker that it strikes; none for the broker.
    pub(crate) fn whom(self) -> Option<usize> {
        match self {
            Self::Kill(at) | Self::Freeze(at) | Self::Restart(at) | Self::Scale(at) | Self::Churn(at) => Some(at),
            Self::Reset(at) | Self::Blackhole(at, ..) | Self::Slow(at) | Self::Cut(at, _) | Self::Slice(at) => Some(at),
            Self::BrokerStop | Self::BrokerKill | Self::BrokerFreeze | Self::Alarm => None,
            Self::NodeKill(_) | Self::NodeStop(_) | Self::NodeFreeze(_) => None,
        }
    }

    /// The node that it strikes.
    pub(crate) fn node(self) -> Option<usize> {
        match self {
            Self::NodeKill(at) | Self::NodeStop(at) | Self::NodeFreeze(at) => Some(at),
            _ => None,
        }
    }

    /// Whether it is one of links.
    fn is_of_links(self) -> bool {
        matches!(self, Self::Blackhole(..) | Self::Slow(_) | Self::Slice(_))
    }
}

/// The number that stands for a node in the history, where processes have theirs: no right ends with it.
pub(crate) fn node_number(at: usize) -> u32 {
    NODES + u32::try_from(at).unwrap_or(0)
}

/// The node of a number.
pub(crate) fn node_of(number: u32) -> Option<usize> {
    number.checked_sub(NODES).and_then(|at| usize::try_from(at).ok())
}

const NODES: u32 = 1_000_000;

/// How people are told of a process.
pub(crate) fn slot_name(at: usize) -> String {
    if at < CONSUMERS { format!("consumer {}", at + 1) } else { format!("producer {}", at - CONSUMERS + 1) }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, lasts, beside, around, .. } = self;
        write!(f, "{:<15}", kind.name())?;
        match (kind.whom(), kind.node()) {
            (Some(at), _) => write!(f, " {}", slot_name(at))?,
            (None, Some(at)) => write!(f, " node {}", at + 1)?,
            (None, None) => write!(f, " broker")?,
        }
        if *around && kind.is_of_links() {
            f.write_str(", old links only")?;
        }
        match kind {
            Kind::Blackhole(_, deaf, bytes) => write!(f, ", {deaf:?} deaf, bytes {bytes:?}")?,
            Kind::Cut(_, deaf) => write!(f, ", {deaf:?} deaf")?,
            Kind::Scale(_) => write!(f, " stays alone")?,
            _ => {}
        }
        if !lasts.is_zero() {
            write!(f, ", {:.1} s", lasts.as_secs_f64())?;
        }
        if *beside { f.write_str(", beside the next") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(2);
    const BOTH: [Backend; 2] = [Backend::RabbitMq, Backend::Kafka];

    fn on(backend: Backend, nodes: usize) -> On {
        On { backend, heartbeat: HEARTBEAT, nodes }
    }

    fn rabbit(nodes: usize) -> On {
        on(Backend::RabbitMq, nodes)
    }

    #[test]
    fn a_seed_is_one_schedule() {
        for nodes in [1, 3] {
            for on in BOTH.map(|backend| on(backend, nodes)) {
                assert_eq!(plan(7, 60, on), plan(7, 60, on));
                assert_ne!(plan(7, 60, on), plan(8, 60, on));
                assert_eq!(plan(7, 60, on)[..20], plan(7, 20, on));
            }
        }
    }

    #[test]
    fn a_time_takes_as_many_faults() {
        let five = Duration::from_secs(300);
        let fits = plan_for(7, five, rabbit(3));
        assert_eq!(fits, plan(7, fits.len(), rabbit(3)));
        assert!(estimate(&fits) >= five && estimate(&fits[..fits.len() - 1]) < five);
    }

    #[test]
    fn one_kind_by_itself() {
        let kills = plan_only("consumer-kill", 7, 100, rabbit(1)).unwrap();
        assert!(kills.len() == 100 && kills.iter().all(|f| matches!(f.kind, Kind::Kill(..CONSUMERS)) && !f.beside));
        assert_eq!(kills[..20], plan_only("consumer-kill", 7, 20, rabbit(1)).unwrap());
        assert!(plan_only("node-kill", 7, 1, rabbit(1)).unwrap_err().contains("broker-kill"));
    }

    #[test]
    fn a_cluster_loses_its_nodes_and_never_the_whole_broker() {
        for (seed, backend) in (0..20).flat_map(|seed| BOTH.map(|backend| (seed, backend))) {
            let plan = plan(seed, 60, on(backend, 3));
            for name in ["node-kill", "node-restart", "node-freeze", "consumer-kill", "freeze", "reset"] {
                assert!(plan.iter().any(|fault| fault.kind.name() == name), "{name}, seed {seed}");
            }
            assert!(plan.iter().all(|fault| fault.kind.whom().is_some() != fault.kind.node().is_some()));
            let struck = |node| plan.iter().any(|fault| fault.kind.node() == Some(node));
            assert!((0..3).all(struck), "seed {seed}");
        }
    }

    #[test]
    fn nodes_have_numbers_of_no_process() {
        assert_eq!([0, 1, 2].map(|at| node_of(node_number(at))), [Some(0), Some(1), Some(2)]);
        assert_eq!([node_of(0), node_of(1), node_of(9_999)], [None; 3]);
    }

    #[test]
    fn sixty_faults_have_every_kind() {
        for (seed, backend) in (0..20).flat_map(|seed| BOTH.map(|backend| (seed, backend))) {
            let plan = plan(seed, 60, on(backend, 1));
            let mut names: Vec<_> = plan.iter().map(|fault| fault.kind.name()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), 14, "{names:?}");
            assert!(backend.lacks().iter().all(|name| !names.contains(name)), "{names:?}");
            assert!(plan.iter().any(|f| f.kind == Kind::BrokerFreeze && f.lasts > 2 * HEARTBEAT));
        }
    }
}
