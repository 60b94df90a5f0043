//! Options, by builder and by URL, under one set of names.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use convoy_core::Result;
use convoy_core::backend::{FenceKind, Limits, SettleStyle};
use convoy_core::option::{bytes, duration, flag, invalid, number};
use url::Url;

use crate::hashing::Hashing;
use crate::progress::MOST_SESSIONS;

/// What can be set. Every name but those of the address is a method here and an option of the URL.
///
/// ```
/// use std::time::Duration;
/// use convoy_kafka::Options;
///
/// let built = Options::new("127.0.0.1").lanes(8).session_timeout(Duration::from_secs(6));
/// let named = Options::from_url("kafka://127.0.0.1:9092?lanes=8&session_timeout=6s")?;
/// assert_eq!(format!("{built:?}"), format!("{named:?}"));
/// # Ok::<(), convoy_core::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    pub(crate) brokers: Vec<(String, u16)>,
    pub(crate) credentials: Option<(String, String)>,
    pub(crate) sasl: Sasl,
    pub(crate) tls: bool,
    pub(crate) plaintext: bool,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) client_id: String,
    pub(crate) group_prefix: String,
    pub(crate) lanes: Option<u32>,
    pub(crate) replication: Option<u16>,
    pub(crate) min_insync: Option<u16>,
    pub(crate) retention: Option<Duration>,
    pub(crate) hash: Hashing,
    pub(crate) start: Start,
    pub(crate) assignor: Assignor,
    pub(crate) session_timeout: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) max_poll_interval: Duration,
    pub(crate) handover: Duration,
    pub(crate) answer_limit: Duration,
    pub(crate) settle_count: u32,
    pub(crate) settle_interval: Duration,
    pub(crate) prefetch: u32,
    pub(crate) prefetch_bytes: u32,
    pub(crate) max_message: usize,
    pub(crate) lane_check: Duration,
    pub(crate) auto_create: bool,
    pub(crate) unguarded: Vec<(String, String)>,
}

/// Where a group starts that has committed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the earliest record that there is.
    #[default]
    Earliest,
    /// Behind the last one: what is there already is not handled.
    Latest,
}

/// Who decides which member of a group has which lane. All members of a group say the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Assignor {
    /// Only what moves is given up.
    #[default]
    CooperativeSticky,
    /// Ranges; each change takes everything from everybody for a moment.
    Range,
    /// In turn; likewise.
    RoundRobin,
}

/// How a client says who it is, when there are credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sasl {
    /// SCRAM with SHA-512. Needs the feature `ssl`.
    #[default]
    ScramSha512,
    /// SCRAM with SHA-256. Needs the feature `ssl`.
    ScramSha256,
    /// The password itself: only over TLS is it a secret.
    Plain,
}

impl Assignor {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }
}

impl Sasl {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty $(=> $wrap:expr)?;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $kind) -> Self {
            self.$name = setters!(@ $name $(, $wrap)?);
            self
        }
    )*};
    (@ $name:ident) => { $name };
    (@ $name:ident, $wrap:expr) => { $wrap($name) };
}

/// So much of a session timeout is taken off what evidence is good for.
const MARGIN: u32 = 10;
const PORT: u16 = 9092;
/// The part of `max_poll_interval` that a hand-over may take.
const OF_POLLS: u32 = 3;

/// Properties of librdkafka that guarantees rest on: no door leads to them.
const GUARDED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.ssl.certificate.verification",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "partition.assignment.strategy",
    "partitioner",
    "queuing.strategy",
    "request.required.acks",
    "retries",
    "session.timeout.ms",
    "max.poll.interval.ms",
    "transactional.id",
];

impl Options {
    /// A broker on this host and port 9092.
    #[must_use]
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            brokers: vec![(host.into(), PORT)],
            credentials: None,
            sasl: Sasl::default(),
            tls: false,
            plaintext: false,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            client_id: "convoy".to_owned(),
            group_prefix: String::new(),
            lanes: None,
            replication: None,
            min_insync: None,
            retention: None,
            hash: Hashing::Auto,
            start: Start::Earliest,
            assignor: Assignor::CooperativeSticky,
            session_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_millis(500),
            max_poll_interval: Duration::from_secs(300),
            handover: Duration::from_secs(5),
            answer_limit: Duration::from_secs(10),
            settle_count: 8_192,
            settle_interval: Duration::from_millis(250),
            prefetch: 10_000,
            prefetch_bytes: 16 << 20,
            max_message: 1_000_000,
            lane_check: Duration::from_secs(30),
            auto_create: false,
            unguarded: Vec::new(),
        }
    }

    /// The port; 9092 unless it is said.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        if let Some((_, of_first)) = self.brokers.first_mut() {
            *of_first = port;
        }
        self
    }

    /// Another broker of the same cluster: a further `host:port` behind a `,` in a URL. One that can be reached is enough to learn of the others.
    #[must_use]
    pub fn broker(mut self, host: impl Into<String>, port: u16) -> Self {
        self.brokers.push((host.into(), port));
        self
    }

    /// A user and its password.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// The certificates, as PEM, of those whose word on the brokers' identity is taken in place of the system's own.
    #[must_use]
    pub fn tls_ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls_ca = Some(file.into());
        self
    }

    /// The certificate of this client, as PEM. With [`tls_key`](Self::tls_key).
    #[must_use]
    pub fn tls_cert(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls_cert = Some(file.into());
        self
    }

    /// The private key of [`tls_cert`](Self::tls_cert), as PEM without a password.
    #[must_use]
    pub fn tls_key(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls_key = Some(file.into());
        self
    }

    /// The name under which brokers know this client, in quotas and logs; `convoy` unless it is said. Consumers and producers add to it what they are, and consumers their number.
    #[must_use]
    pub fn client_id(mut self, name: impl Into<String>) -> Self {
        self.client_id = name.into();
        self
    }

    /// What stands before the name of a consumer group at the broker; nothing unless it is said. A group id belongs to the cluster and not to a channel: consumers of two channels whose groups have one
    /// name are members of one Kafka group. Each keeps its own lanes and positions, but a change of one is a rebalance of both.
    #[must_use]
    pub fn group_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.group_prefix = prefix.into();
        self
    }

    /// Sets a property of librdkafka by its own name, unchecked: `unguarded.NAME=VALUE` in a URL. One that a guarantee rests on is refused; of the others nothing is promised.
    #[must_use]
    pub fn unguarded(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.unguarded.push((name.into(), value.into()));
        self
    }

    setters! {
        /// Whether to speak TLS. Needs the feature `ssl`.
        tls: bool;
        /// Allows to speak without TLS to a host that is not this one: passwords and messages can then be read on the way.
        plaintext: bool;
        /// How credentials are shown; by SCRAM with SHA-512 unless it is said. In a URL `scram-sha-512`, `scram-sha-256` or `plain`.
        sasl: Sasl;
        /// How many lanes a channel has: the partitions of its topic. What `provision` makes is 16 unless it is said; a channel that has another number than is said is refused, and whatever it
        /// has when it is opened may not change.
        lanes: u32 => Some;
        /// The replication factor of what `provision` makes; the broker's own default unless it is said.
        replication: u16 => Some;
        /// How many replicas must have a record before it is confirmed, `min.insync.replicas` of what `provision` makes; the broker's own default unless it is said.
        min_insync: u16 => Some;
        /// For how long a channel is to keep its records at least: `provision` sets it, and `check` finds what is shorter. The broker's own default unless it is said.
        retention: Duration => Some;
        /// By which hash the records of a channel are placed; found out from the first ones unless it is said. In a URL `auto`, `murmur2`, `crc32` or `unchecked`.
        hash: Hashing;
        /// Where a group starts that has committed nothing; at the earliest record unless it is said. In a URL `earliest` or `latest`.
        start: Start;
        /// Who decides which member has which lane; `cooperative-sticky` unless it is said, else `range` or `roundrobin`.
        assignor: Assignor;
        /// So long after its last word a member is out of its group; 10 s unless it is said. A lease lasts so long from when the request was sent that proves it. Brokers have a minimum, 6 s by default.
        session_timeout: Duration;
        /// How often a member says that it is there, and how soon it hears of a change; 500 ms unless it is said, and at most a third of `session_timeout`.
        heartbeat: Duration;
        /// How long convoy's own thread may be stuck before the member leaves; 5 min unless it is said. No lease lasts longer than this from its last turn.
        max_poll_interval: Duration;
        /// How long a lane that moves to another member waits for running handlers; 5 s unless it is said, and at most a third of `max_poll_interval`. A member that waits for another one's hand-over
        /// to end can prove nothing meanwhile: longer than `session_timeout` takes their rights from the others, too.
        handover: Duration;
        /// How long the broker may take to answer a request; 10 s unless it is said.
        answer_limit: Duration;
        /// Commit when so many messages of a lane are done; 2 000 unless it is said.
        settle_count: u32;
        /// Commit when the oldest that is done is so old; 250 ms unless it is said. When nothing is left to do it is committed at once, but not more often than five times in this time.
        settle_interval: Duration;
        /// How many messages of a lane are fetched ahead; 10 000 unless it is said.
        prefetch: u32;
        /// How many bytes of a lane are fetched ahead; 16 MiB unless it is said.
        prefetch_bytes: u32;
        /// The largest message; 1 000 000 bytes unless it is said, which is a little less than what a broker takes by default.
        max_message: usize;
        /// How often it is looked whether a channel still has the number of partitions that it had; 30 s unless it is said.
        lane_check: Duration;
        /// Whether a channel and its group are provisioned when they are first used and missing. Off unless it is said: a name that was mistyped would be made.
        auto_create: bool;
    }

    /// Reads `kafka://host:port,host:port?option=value`, with `user:password@` before the hosts where brokers want to know who it is.
    ///
    /// # Errors
    /// [`InvalidOption`](convoy_core::ErrorKind::InvalidOption), naming the option. Never the password.
    pub fn from_url(url: &str) -> Result<Self> {
        let (url, others) = split(url)?;
        let parsed = Url::parse(&url).map_err(|e| invalid("url", "the URL cannot be read").caused_by(e))?;
        if parsed.scheme() != "kafka" {
            return Err(invalid("url", format!("this is the backend of `kafka://`, not `{}://`", parsed.scheme())));
        }
        let host =
            parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("url", "the URL names no host"))?;
        if !matches!(parsed.path(), "" | "/") || parsed.fragment().is_some() {
            return Err(invalid(
                "url",
                "nothing is between the brokers and the `?`: a channel is named where it is opened",
            ));
        }
        let mut options = Self::new(host).port(parsed.port().unwrap_or(PORT));
        options.brokers.extend(others);
        if !parsed.username().is_empty() || parsed.password().is_some() {
            let text = |part: &str| decoded("url", part);
            options.credentials = Some((text(parsed.username())?, text(parsed.password().unwrap_or_default())?));
        }
        let mut given: Vec<String> = Vec::new();
        for (name, value) in parsed.query_pairs() {
            if given.iter().any(|n| *n == name) {
                return Err(invalid(&name, format!("`{name}` is given twice")));
            }
            options.set(&name, &value)?;
            given.push(name.into_owned());
        }
        options.validate()?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "tls" => self.tls = flag(name, value)?,
            "plaintext" => self.plaintext = flag(name, value)?,
            "tls_ca" => self.tls_ca = Some(PathBuf::from(value)),
            "tls_cert" => self.tls_cert = Some(PathBuf::from(value)),
            "tls_key" => self.tls_key = Some(PathBuf::from(value)),
            "sasl" => {
                self.sasl = one_of(name, value, &[Sasl::ScramSha512, Sasl::ScramSha256, Sasl::Plain], |s| s.name())?;
            }
            "client_id" => self.client_id = value.to_owned(),
            "group_prefix" => self.group_prefix = value.to_owned(),
            "start" => {
                let word = |start| if start == Start::Earliest { "earliest" } else { "latest" };
                self.start = one_of(name, value, &[Start::Earliest, Start::Latest], word)?;
            }
            "assignor" => {
                let all = [Assignor::CooperativeSticky, Assignor::Range, Assignor::RoundRobin];
                self.assignor = one_of(name, value, &all, Assignor::name)?;
            }
            "group_protocol" => protocol(name, value)?,
            "session_timeout" => self.session_timeout = duration(name, value)?,
            "heartbeat" => self.heartbeat = duration(name, value)?,
            "max_poll_interval" => self.max_poll_interval = duration(name, value)?,
            "handover" => self.handover = duration(name, value)?,
            "answer_limit" => self.answer_limit = duration(name, value)?,
            "settle_count" => self.settle_count = number(name, value)?,
            "settle_interval" => self.settle_interval = duration(name, value)?,
            "prefetch" => self.prefetch = number(name, value)?,
            "prefetch_bytes" => self.prefetch_bytes = bytes(name, value)?,
            "max_message" => self.max_message = bytes(name, value)?,
            "lane_check" => self.lane_check = duration(name, value)?,
            "auto_create" => self.auto_create = flag(name, value)?,
            _ => match name.strip_prefix("unguarded.") {
                Some(property) => self.unguarded.push((property.to_owned(), value.to_owned())),
                None => return self.set_of_channel(name, value),
            },
        }
        Ok(())
    }

    /// What the description of a channel may say.
    pub(crate) fn set_of_channel(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "lanes" => self.lanes = Some(number(name, value)?),
            "replication" => self.replication = Some(number(name, value)?),
            "min_insync" => self.min_insync = Some(number(name, value)?),
            "retention" => self.retention = Some(duration(name, value)?),
            "hash" => self.hash = Hashing::read(name, value)?,
            _ => return Err(invalid(name, format!("unknown option `{name}`"))),
        }
        Ok(())
    }

    pub(crate) fn validate(&self) -> Result<()> {
        self.validate_security()?;
        if self.heartbeat * 3 > self.session_timeout {
            return Err(invalid("heartbeat", "`heartbeat` is at most a third of `session_timeout`"));
        }
        if self.session_timeout > self.max_poll_interval {
            return Err(invalid("max_poll_interval", "`max_poll_interval` is at least `session_timeout`"));
        }
        let zero = [
            ("lanes", self.lanes == Some(0)),
            ("replication", self.replication == Some(0)),
            ("min_insync", self.min_insync == Some(0)),
            ("heartbeat", self.heartbeat < Duration::from_millis(1)),
            ("answer_limit", self.answer_limit < Duration::from_millis(1)),
            ("settle_count", self.settle_count == 0),
            ("prefetch", self.prefetch == 0),
            ("prefetch_bytes", self.prefetch_bytes < 1024),
            ("max_message", self.max_message == 0),
            ("lane_check", self.lane_check.is_zero()),
            ("client_id", self.client_id.is_empty()),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, zero)| *zero) {
            return Err(invalid(name, format!("`{name}` is too small")));
        }
        if self.lanes.is_some_and(|lanes| i32::try_from(lanes).is_err()) {
            return Err(invalid("lanes", "no topic has so many partitions"));
        }
        if let Some((name, _)) = self.unguarded.iter().find(|(name, _)| GUARDED.contains(&name.as_str())) {
            return Err(invalid(name, format!("guarantees rest on `{name}`: it cannot be set")));
        }
        Ok(())
    }

    fn validate_security(&self) -> Result<()> {
        let secure = cfg!(feature = "ssl");
        if self.tls && !secure {
            let why = "TLS is not in this build: turn on the feature `ssl` of convoy-kafka (`kafka-ssl` of convoy-mq)";
            return Err(invalid("tls", why));
        }
        if self.credentials.is_some() && self.sasl != Sasl::Plain && !secure {
            let why =
                "SCRAM is not in this build: turn on the feature `ssl` of convoy-kafka (`kafka-ssl` of convoy-mq)";
            return Err(invalid("sasl", why));
        }
        let files = [("tls_ca", &self.tls_ca), ("tls_cert", &self.tls_cert), ("tls_key", &self.tls_key)];
        if let Some((name, _)) = files.iter().find(|(_, file)| !self.tls && file.is_some()) {
            return Err(invalid(name, format!("`{name}` needs `tls=true`")));
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => return Err(invalid("tls_key", "`tls_cert` needs `tls_key`, the private key of it")),
            (None, Some(_)) => return Err(invalid("tls_cert", "`tls_key` needs `tls_cert`, the certificate of it")),
            _ => {}
        }
        if !self.tls && !self.plaintext && !self.brokers.iter().all(|(host, _)| is_this_host(host)) {
            let why = "without TLS passwords and every message can be read on the way: say `tls=true`, or `plaintext=true` if that is meant";
            return Err(invalid("plaintext", why));
        }
        Ok(())
    }

    /// Where the brokers are.
    pub(crate) fn bootstrap(&self) -> String {
        let each: Vec<String> = self.brokers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        each.join(",")
    }

    /// How long a hand-over waits for handlers.
    pub(crate) fn waits_for_handlers(&self) -> Duration {
        self.handover.min(self.max_poll_interval / OF_POLLS)
    }

    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::lanes();
        limits.settle = SettleStyle::Open { most: MOST_SESSIONS };
        limits.settle_count = self.settle_count;
        limits.settle_interval = self.settle_interval;
        limits.later_settle_covers = true;
        limits.margin = self.session_timeout / MARGIN;
        limits.fence = FenceKind::Position;
        limits.max_message = self.max_message;
        limits
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.unguarded.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Options")
            .field("brokers", &self.brokers)
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .field("tls", &self.tls)
            .field("lanes", &self.lanes)
            .field("hash", &self.hash)
            .field("start", &self.start)
            .field("assignor", &self.assignor)
            .field("session_timeout", &self.session_timeout)
            .field("unguarded", &names)
            .finish_non_exhaustive()
    }
}

/// KIP-848 is refused: there an answered commit proves nothing of the next instant, and what would, a heartbeat that was answered, the client library does not tell.
fn protocol(name: &str, value: &str) -> Result<()> {
    match value {
        "classic" => Ok(()),
        "consumer" => Err(invalid(
            name,
            "`group_protocol=consumer` (KIP-848) is not supported: its brokers expel a member whose heartbeats stop although its commits are answered, and heartbeats are not seen from here, so that no \
             lease could be proved",
        )),
        _ => Err(invalid(name, "`group_protocol` is `classic`")),
    }
}

fn one_of<T: Copy>(name: &str, value: &str, all: &[T], word: impl Fn(T) -> &'static str) -> Result<T> {
    let found = all.iter().copied().find(|it| word(*it).eq_ignore_ascii_case(value));
    found.ok_or_else(|| {
        let known: Vec<String> = all.iter().map(|it| format!("`{}`", word(*it).to_ascii_lowercase())).collect();
        invalid(name, format!("`{name}` is one of {}", known.join(", ")))
    })
}

/// A URL holds one host: the others are taken out of it.
fn split(url: &str) -> Result<(String, Vec<(String, u16)>)> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok((url.to_owned(), Vec::new())) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    let mut hosts = hosts.split(',');
    let first = hosts.next().unwrap_or_default();
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    let mut others = Vec::new();
    for host in hosts {
        let parsed = Url::parse(&format!("kafka://{host}")).ok();
        let named = parsed.as_ref().and_then(|url| Some((url.host_str()?.to_owned(), url.port().unwrap_or(PORT))));
        match named {
            Some((name, port)) if !name.is_empty() => others.push((name, port)),
            _ => return Err(invalid("url", "behind a `,` there is another `host:port`")),
        }
    }
    Ok((format!("{scheme}://{user}{first}{tail}"), others))
}

fn is_this_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Undoes the `%xx` of a part of a URL.
fn decoded(name: &str, text: &str) -> Result<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let hex = [rest.next(), rest.next()].map(|digit| digit.and_then(|d| char::from(d).to_digit(16)));
        let [Some(high), Some(low)] = hex else {
            return Err(invalid(
                name,
                "a `%` in a URL is followed by two hexadecimal digits; write `%25` for one by itself",
            ));
        };
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| invalid(name, "user and password are UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use convoy_core::ErrorKind;

    use super::*;

    #[test]
    fn a_url_says_everything_that_the_builder_says() {
        let url = "kafka://me:p%40ss%2F@127.0.0.1:9093,localhost,[::1]:9094?sasl=plain&lanes=8&replication=3&min_insync=2&retention=24h&hash=crc32&start=latest\
                   &assignor=range&session_timeout=6s&heartbeat=300ms&max_poll_interval=1m&handover=9s&answer_limit=2s&settle_count=10&settle_interval=20ms\
                   &prefetch=50&prefetch_bytes=1MiB&max_message=2KiB&lane_check=5s&auto_create=true&plaintext=true&client_id=x&group_prefix=team.&group_protocol=classic\
                   &unguarded.socket.keepalive.enable=true";
        let read = Options::from_url(url).unwrap();
        assert_eq!(read.credentials, Some(("me".to_owned(), "p@ss/".to_owned())));
        assert_eq!(read.bootstrap(), "127.0.0.1:9093,localhost:9092,[::1]:9094");
        assert_eq!(
            (read.sasl, read.hash, read.start, read.assignor),
            (Sasl::Plain, Hashing::Crc32, Start::Latest, Assignor::Range)
        );
        assert_eq!((read.lanes, read.replication, read.min_insync), (Some(8), Some(3), Some(2)));
        assert_eq!(read.retention, Some(Duration::from_secs(86_400)));
        assert_eq!((read.session_timeout, read.heartbeat), (Duration::from_secs(6), Duration::from_millis(300)));
        assert_eq!((read.max_poll_interval, read.handover), (Duration::from_secs(60), Duration::from_secs(9)));
        assert_eq!((read.answer_limit, read.lane_check), (Duration::from_secs(2), Duration::from_secs(5)));
        assert_eq!((read.settle_count, read.settle_interval), (10, Duration::from_millis(20)));
        assert_eq!((read.prefetch, read.prefetch_bytes, read.max_message), (50, 1 << 20, 2048));
        assert!(read.auto_create && read.plaintext && !read.tls);
        assert_eq!((read.client_id.as_str(), read.group_prefix.as_str()), ("x", "team."));
        assert_eq!(read.unguarded, [("socket.keepalive.enable".to_owned(), "true".to_owned())]);
        let plain = Options::from_url("kafka://localhost").unwrap();
        assert_eq!((plain.bootstrap().as_str(), &plain.credentials), ("localhost:9092", &None));
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_shown() {
        for (url, name) in [
            ("kafka://me:secret@h.example", "sasl"),
            ("kafka://me:secret@h.example?sasl=plain", "plaintext"),
            ("kafka://127.0.0.1,h.example", "plaintext"),
            ("kafka://127.0.0.1,", "url"),
            ("kafka://127.0.0.1,127.0.0.1:x", "url"),
            ("kafka://127.0.0.1?lane=8", "lane"),
            ("kafka://127.0.0.1?lanes=0", "lanes"),
            ("kafka://127.0.0.1?lanes=4000000000", "lanes"),
            ("kafka://127.0.0.1?lanes=8&lanes=8", "lanes"),
            ("kafka://127.0.0.1?hash=md5", "hash"),
            ("kafka://127.0.0.1?start=middle", "start"),
            ("kafka://127.0.0.1?assignor=sticky", "assignor"),
            ("kafka://127.0.0.1?sasl=gssapi", "sasl"),
            ("kafka://127.0.0.1?group_protocol=consumer", "group_protocol"),
            ("kafka://127.0.0.1?group_protocol=new", "group_protocol"),
            ("kafka://127.0.0.1?heartbeat=4s", "heartbeat"),
            ("kafka://127.0.0.1?heartbeat=0ms", "heartbeat"),
            ("kafka://127.0.0.1?session_timeout=6m", "max_poll_interval"),
            ("kafka://127.0.0.1?settle_count=0", "settle_count"),
            ("kafka://127.0.0.1?prefetch=0", "prefetch"),
            ("kafka://127.0.0.1?tls_ca=ca.pem", "tls_ca"),
            ("kafka://127.0.0.1?unguarded.enable.idempotence=false", "enable.idempotence"),
            ("kafka://127.0.0.1?unguarded.acks=0", "acks"),
            ("kafka://127.0.0.1/orders", "url"),
            ("kafka://me:secret%zz@127.0.0.1", "url"),
            ("kafka://127.0.0.1#x", "url"),
            ("kafka:///x", "url"),
            ("amqp://127.0.0.1", "url"),
            ("nonsense", "url"),
        ] {
            if cfg!(feature = "ssl") && name == "sasl" && !url.contains("gssapi") {
                continue;
            }
            let error = Options::from_url(url).err().unwrap_or_else(|| panic!("{url} was taken"));
            assert_eq!((error.kind(), error.context("option")), (ErrorKind::InvalidOption, Some(name)), "{url}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        let read = Options::from_url("kafka://me:secret@h.example?sasl=plain&plaintext=true").unwrap();
        assert!(!format!("{read:?}").contains("secret"));
    }

    #[cfg(not(feature = "ssl"))]
    #[test]
    fn tls_in_a_build_without_it_is_refused_and_never_spoken_in_plain_text() {
        let error = Options::from_url("kafka://h.example?tls=true").unwrap_err();
        assert!(error.to_string().contains("feature `ssl`"), "{error}");
    }

    #[test]
    fn a_hand_over_leaves_time_to_poll() {
        let options = Options::from_url("kafka://localhost?max_poll_interval=30s&handover=20s").unwrap();
        assert_eq!(options.waits_for_handlers(), Duration::from_secs(10));
    }
}
