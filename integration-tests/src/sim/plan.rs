//! What a schedule is: everything that its seed decides before it runs.

use std::time::Duration;

use convoy_core::backend::{Limits, SettleStyle, Shape};
use convoy_core::engine::{Bug, Config};
use convoy_core::producer::ProducerBug;
use convoy_core::{Bound, Defective, Exhausted, Foreign, Retry, Turn};

use super::faults::Kind;
use super::names::SESSIONS;
use super::rng::Rng;

pub(crate) const US: u64 = 1_000;
pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SEC: u64 = 1_000_000_000;

/// When a schedule begins: late enough that the origin is long ago.
pub(crate) const BEGIN: u64 = 1_000 * SEC;

/// Which broker a schedule runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Personality {
    /// Locks sessions, settles each message (Service Bus).
    Session,
    /// A group that shares partitions (Kafka).
    Group,
    /// Queues with a single active consumer (RabbitMQ).
    Queue,
    /// In the process, with sessions.
    MemorySessions,
    /// In the process, with lanes.
    MemoryLanes,
}

impl Personality {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Session, Self::Group, Self::Queue, Self::MemorySessions, Self::MemoryLanes];

    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session-lock",
            Self::Group => "group-partitions",
            Self::Queue => "single-active-queue",
            Self::MemorySessions => "memory-sessions",
            Self::MemoryLanes => "memory-lanes",
        }
    }

    pub(crate) const fn locks_sessions(self) -> bool {
        matches!(self, Self::Session | Self::MemorySessions)
    }

    pub(crate) const fn in_process(self) -> bool {
        matches!(self, Self::MemorySessions | Self::MemoryLanes)
    }
}

/// A defect to run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// None.
    None,
    /// Of the engine.
    Engine(Bug),
    /// Of the producer's pipeline.
    Producer(ProducerBug),
}

/// How traffic is spread over sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spread {
    Even,
    /// Half of it is one session's.
    Hot,
    Zipf,
}

/// How often in a thousand attempts a handler does what.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mix {
    pub(crate) instant: u64,
    pub(crate) fail: u64,
    pub(crate) panic: u64,
    pub(crate) hang: u64,
    pub(crate) long: u64,
    pub(crate) block: u64,
    pub(crate) dead: u64,
    pub(crate) stop: u64,
}

/// A schedule.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) personality: Personality,
    pub(crate) defect: Defect,
    pub(crate) limits: Limits,
    pub(crate) config: Config,
    pub(crate) sessions: u8,
    pub(crate) places: u8,
    pub(crate) consumers: u8,
    pub(crate) producers: u8,
    pub(crate) messages: u16,
    pub(crate) spread: Spread,
    pub(crate) lock: u64,
    pub(crate) margin: u64,
    pub(crate) grace: u64,
    /// How long a member may take to give a lane back.
    pub(crate) handover: u64,
    pub(crate) delay: (u64, u64),
    pub(crate) prefetch: u32,
    pub(crate) permits: u8,
    pub(crate) max_attempts: u32,
    /// The consumers that pull, as bits.
    pub(crate) pullers: u8,
    pub(crate) quiet: u64,
    pub(crate) faults: Vec<(u64, Kind)>,
    pub(crate) settle_faults: u64,
    pub(crate) store_faults: u64,
    pub(crate) send_faults: u64,
    pub(crate) renew_faults: u64,
    pub(crate) late_polls: u64,
    pub(crate) poison: u64,
    pub(crate) malformed: u8,
    /// How often an event of a right that is gone still comes to the engine.
    pub(crate) leaks: u64,
    pub(crate) mix: Mix,
    pub(crate) max_run: usize,
}

const fn dur(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

impl Plan {
    /// Draws the schedule of a seed.
    pub(crate) fn draw(seed: u64, forced: Option<Personality>, defect: Defect, mut faults: Vec<(u64, Kind)>) -> Self {
        let mut rng = Rng::new(seed);
        let r = &mut rng;
        let drawn = r.pick(&[
            Personality::Session,
            Personality::Session,
            Personality::Group,
            Personality::Group,
            Personality::Queue,
            Personality::Queue,
            Personality::MemorySessions,
            Personality::MemoryLanes,
        ]);
        let personality = forced.unwrap_or(drawn);
        let lock = r.pick(&[2 * SEC, 4 * SEC, 8 * SEC, 15 * SEC]);
        let margin = lock / r.range(5, 12);
        let grace = r.range(100 * MS, (lock / 2).min(2 * SEC));
        let sessions = r.range(3, 12) as u8;
        let places = if personality.locks_sessions() { sessions } else { r.range(1, 4) as u8 };
        let prefetch = r.pick(&[1, 2, 4, 8, 16]) * if personality.locks_sessions() { 1 } else { 8 };
        let permits = r.pick(&[1, 2, 4, 8]);
        let delay = match (personality.in_process(), r.below(3)) {
            (true, _) => (US, 40 * US),
            (_, 0) => (100 * US, 400 * US),
            (_, 1) => (500 * US, 5 * MS),
            _ => (MS, 40 * MS),
        };
        let span = 2 * lock + r.range(2 * SEC, 6 * SEC);
        let quiet = BEGIN + span;
        draw_faults(r, personality, span, &mut faults);
        let ambient = |r: &mut Rng, share: u64, low: u64, high: u64| {
            if r.permille(share) { r.range(low, high) } else { 0 }
        };
        let limits = limits(r, personality, prefetch, margin);
        let (config, max_attempts) = config(r, lock, grace, seed, defect);
        let limited = max_attempts > 0;
        let pullers = if r.permille(300) { r.range(1, 15) as u8 } else { 0 };
        let mix = Mix {
            instant: r.range(200, 700),
            fail: ambient(r, 500, 10, 80),
            panic: ambient(r, 200, 3, 20),
            hang: ambient(r, 200, 3, 15),
            long: ambient(r, 200, 3, 12),
            block: ambient(r, 150, 3, 10),
            dead: ambient(r, 200, 3, 20),
            stop: ambient(r, 40, 1, 4),
        };
        Self {
            seed,
            personality,
            defect,
            limits,
            config,
            sessions,
            places,
            consumers: r.range(2, 4) as u8,
            producers: r.range(1, 3) as u8,
            messages: r.range(112, 140) as u16,
            spread: r.pick(&[Spread::Even, Spread::Hot, Spread::Zipf]),
            lock,
            margin,
            grace,
            handover: lock + r.below(lock),
            delay,
            prefetch,
            permits,
            max_attempts,
            pullers,
            quiet,
            faults,
            settle_faults: ambient(r, 250, 5, 60),
            store_faults: ambient(r, 300, 50, 400),
            send_faults: ambient(r, 300, 5, 60),
            renew_faults: ambient(r, 150, 50, 300),
            late_polls: ambient(r, 250, 5, 60),
            poison: if limited { ambient(r, 350, 5, 30) } else { 0 },
            malformed: if r.permille(150) { r.range(1, 4) as u8 } else { 0 },
            leaks: r.pick(&[0, 500, 1000]),
            mix,
            max_run: if personality == Personality::Session || personality.in_process() { r.pick(&[1, 4]) } else { 1 },
        }
    }

    /// Whether there may be more open sessions than a commit can list.
    pub(crate) fn has_no_room(&self) -> bool {
        let sessions = u32::from(self.sessions) + u32::from(self.malformed);
        matches!(self.limits.settle, SettleStyle::Open { most } if most < sessions)
    }

    /// Whether nothing keeps a lease from being renewed.
    pub(crate) fn renews_in_time(&self) -> bool {
        self.renew_faults == 0 && self.is_reachable()
    }

    /// Whether processes, links and the broker work all the time.
    fn is_reachable(&self) -> bool {
        let slow = [
            Kind::Freeze,
            Kind::FreezeLong,
            Kind::CutClient,
            Kind::CutBroker,
            Kind::HalfUp,
            Kind::HalfDown,
            Kind::HalfBoth,
            Kind::Slow,
            Kind::BrokerFreeze,
            Kind::BrokerRestart,
            Kind::CutBoth,
        ];
        !self.faults.iter().any(|(_, kind)| slow.contains(kind))
    }
}

fn draw_faults(r: &mut Rng, personality: Personality, span: u64, faults: &mut Vec<(u64, Kind)>) {
    use Kind::{
        BrokerFreeze, BrokerRestart, Crash, CrashSilent, CutBoth, CutBroker, CutClient, Detach, Drain, Freeze,
        FreezeLong, GiveBack, HalfBoth, HalfDown, HalfUp, Join, Move, Pause, ProducerCrash, Slow,
    };
    const REMOTE: &[Kind] = &[
        Crash,
        CrashSilent,
        Freeze,
        FreezeLong,
        CutBoth,
        CutClient,
        CutBroker,
        HalfUp,
        HalfDown,
        HalfBoth,
        Slow,
        BrokerFreeze,
        BrokerRestart,
        Drain,
        Pause,
        Join,
        ProducerCrash,
        Move,
        GiveBack,
        Detach,
        Move,
        GiveBack,
        Detach,
    ];
    const LOCAL: &[Kind] =
        &[Crash, Freeze, FreezeLong, CutBoth, HalfBoth, BrokerFreeze, Drain, Pause, Join, Move, GiveBack, Detach];
    let kinds = if personality.in_process() { LOCAL } else { REMOTE };
    faults.clear();
    for _ in 0..r.range(1, 7) {
        faults.push((BEGIN + r.range(span / 50, span), r.pick(kinds)));
    }
}

fn limits(r: &mut Rng, personality: Personality, prefetch: u32, margin: u64) -> Limits {
    let mut limits = if personality.locks_sessions() { Limits::sessions() } else { Limits::lanes() };
    if personality.locks_sessions() {
        limits.shape = Shape::Sessions { pending_accepts: r.pick(&[1, 2, 8]) };
        limits.accept_cost = dur(r.below(20) * MS);
    } else {
        limits.settle_count = r.range(1, u64::from((prefetch / 2).max(1))) as u32;
        limits.settle_interval = dur(r.range(5, 250) * MS);
    }
    if personality == Personality::Group {
        limits.settle = SettleStyle::Open { most: r.pick(&[1, 2, 4, 16, 64]) };
    }
    limits.margin = dur(margin);
    limits.surrender_after = dur(r.pick(&[0, 0, margin / 2, 2 * margin]));
    limits
}

fn config(r: &mut Rng, lock: u64, grace: u64, seed: u64, defect: Defect) -> (Config, u32) {
    let mut config = Config::default();
    let first = r.range(1, 100) * MS;
    let retry = Retry::exponential(dur(first)..dur(first * r.range(1, 8)));
    let attempts = if r.permille(550) { r.range(1, 4) as u32 } else { 0 };
    let then = if r.permille(60) { Exhausted::Stop } else { Exhausted::DeadLetter };
    config.retry = if attempts > 0 { retry.at_most(attempts).then(then) } else { retry };
    config.handler_timeout = if r.permille(500) { Some(dur(r.range(lock / 4, 2 * lock))) } else { None };
    config.grace = dur(grace);
    config.idle_release = dur(r.range(5, 2000) * MS);
    config.idle_under_pressure = dur(r.pick(&[0, 0, 20 * MS]));
    config.prove_within = dur(r.range(1, 20) * SEC);
    let bound = |r: &mut Rng, small: u64| match r.below(3) {
        0 => Bound::new(r.range(1, small) as usize, usize::MAX),
        1 => Bound::new(usize::MAX, r.range(40, small * 40) as usize),
        _ => Bound::new(4096, 1 << 24),
    };
    config.bounds.session = bound(r, 8);
    config.bounds.lane = bound(r, 16);
    config.bounds.total = bound(r, 32);
    config.foreign = r.pick(&[Foreign::DeadLetter, Foreign::DeadLetter, Foreign::Allow]);
    config.defective = r.pick(&[Defective::DeadLetter, Defective::DeadLetter, Defective::Allow]);
    config.misrouted = Defective::DeadLetter;
    config.observe = true;
    config.turn = match r.below(4) {
        0 => Some(Turn::messages(r.range(1, 6) as u32)),
        1 => Some(Turn::time(dur(r.range(1, 500) * MS)).or_messages(r.range(1, 40) as u32)),
        _ => None,
    };
    config.hash_seed = seed;
    if let Defect::Engine(bug) = defect {
        config.bug = Some(bug);
    }
    let attempts = if then == Exhausted::Stop { 0 } else { attempts };
    (config, attempts)
}

/// The weights of sessions, added up.
pub(crate) fn weights(spread: Spread, sessions: u8, into: &mut Vec<u64>) {
    into.clear();
    let mut sum = 0;
    for at in 0..u64::from(sessions).min(SESSIONS as u64) {
        sum += match spread {
            Spread::Even => 1000,
            Spread::Hot if at == 0 => 1000 * (u64::from(sessions) - 1),
            Spread::Hot => 1000,
            Spread::Zipf => 4000 / (at + 1),
        };
        into.push(sum);
    }
}
