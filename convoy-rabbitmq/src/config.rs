//! Options, by builder and by URL, under one set of names.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use convoy_core::Result;
use convoy_core::backend::{FenceKind, Limits};
use convoy_core::option::{bytes, duration, flag, invalid, number};
use url::Url;

use crate::entry::Entry;
use crate::management::Address;
use crate::nodes::{self, Nodes};

/// What can be set. Every name but those of the address is a method here and an option of the URL.
///
/// ```
/// use std::time::Duration;
/// use convoy_rabbitmq::Options;
///
/// let built = Options::new("127.0.0.1").credentials("guest", "guest").lanes(8).heartbeat(Duration::from_secs(5));
/// let named = Options::from_url("amqp://guest:guest@127.0.0.1:5672?lanes=8&heartbeat=5s")?;
/// assert_eq!(format!("{built:?}"), format!("{named:?}"));
/// assert!(!format!("{built:?}").contains("password: \"guest\""), "no secret is ever shown");
/// # Ok::<(), convoy_core::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    pub(crate) nodes: Nodes,
    pub(crate) vhost: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) tls: bool,
    pub(crate) plaintext: bool,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) management: Option<String>,
    pub(crate) lanes: u32,
    pub(crate) prefetch: u16,
    pub(crate) entry: Entry,
    pub(crate) heartbeat: Duration,
    pub(crate) node_timeout: Option<Duration>,
    pub(crate) connect_limit: Duration,
    pub(crate) answer_limit: Duration,
    pub(crate) settle_count: Option<u32>,
    pub(crate) settle_interval: Duration,
    pub(crate) handover: Duration,
    pub(crate) max_message: usize,
    pub(crate) binding_check: Duration,
    pub(crate) auto_create: bool,
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

/// So much of a heartbeat is taken off what evidence is good for.
const MARGIN: u32 = 10;
/// Twice the heartbeat that is usual.
const NODE_TIMEOUT: Duration = Duration::from_secs(20);

impl Options {
    /// A broker on this host, as the guest user of the virtual host `/`.
    #[must_use]
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            nodes: Nodes::one(host.into()),
            vhost: "/".to_owned(),
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            tls: false,
            plaintext: false,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            management: None,
            lanes: 64,
            prefetch: 500,
            entry: Entry::Slots,
            heartbeat: Duration::from_secs(10),
            node_timeout: None,
            connect_limit: Duration::from_secs(10),
            answer_limit: Duration::from_secs(10),
            settle_count: None,
            settle_interval: Duration::from_millis(250),
            handover: Duration::from_secs(5),
            max_message: 16 << 20,
            binding_check: Duration::from_secs(30),
            auto_create: false,
        }
    }

    /// The user and its password.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = user.into();
        self.password = password.into();
        self
    }

    /// The port; 5672, or 5671 with TLS, unless it is said.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.nodes.set_port(Some(port));
        self
    }

    /// Another node of the same cluster, with its port unless that is the usual one: a further `host:port` behind a `,` in a URL. Each connection goes to the next of the nodes, the
    /// first to one that is drawn; one that cannot be reached is passed over.
    #[must_use]
    pub fn node(mut self, host: impl Into<String>, port: impl Into<Option<u16>>) -> Self {
        self.nodes.add((host.into(), port.into()));
        self
    }

    /// The virtual host; `/` unless it is said.
    #[must_use]
    pub fn vhost(mut self, vhost: impl Into<String>) -> Self {
        self.vhost = vhost.into();
        self
    }

    /// The certificates, as PEM, of those whose word on the broker's identity is taken beside the system's own.
    #[must_use]
    pub fn tls_ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls_ca = Some(file.into());
        self
    }

    /// The certificate of this client, as PEM and with what leads to an issuer that the broker knows, for a broker that asks for one. The broker still wants the user and its
    /// password. With [`tls_key`](Self::tls_key); both are read again for each connection.
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

    /// Where the HTTP API of the broker's management plugin is: `http://host:15672`, or `https://` with TLS and the issuers of [`tls_ca`](Self::tls_ca). With it
    /// [`check`](convoy_core::backend::Backend::check) and every consumer that is opened see what the protocol does not show: policies on the group's queues, and a broker that is too old. The user of
    /// the broker is asked as, and needs the tag `monitoring` there, unless another one is named: `http://user:password@host:15672`. When it cannot be asked that is a warning, and
    /// consumers start. Needs the feature `management`.
    #[must_use]
    pub fn management(mut self, url: impl Into<String>) -> Self {
        self.management = Some(url.into());
        self
    }

    setters! {
        /// Whether to speak TLS: `amqps://` in a URL.
        tls: bool;
        /// Allows to speak without TLS to a host that is not this one: passwords and messages can then be read on the way.
        plaintext: bool;
        /// How many lanes a consumer group has, 1 to 1 024; 64 unless it is said. Pinned when the group is provisioned: all its members say the same.
        lanes: u32;
        /// How many messages of a lane are handed out ahead; 500 unless it is said. Pinned with the lanes, since a smaller one somewhere would reorder.
        prefetch: u16;
        /// Who hashes sessions to lanes; the publishers unless it is said. The broker, for a channel that publishers write to who cannot hash: `entry=modulus-hash` in a URL. Pinned with
        /// the lanes, and the same for the channel's producers.
        entry: Entry;
        /// The heartbeat of connections, in whole seconds from 1 s on; 10 s unless it is said. A right that is not proved again for so long ends here, well before the
        /// broker, which waits for two missed heartbeats, can give it away.
        heartbeat: Duration;
        /// How long a lane waits for its consumer when that one's node of a cluster is lost, before another member gets it; 20 s unless it is said, or twice the heartbeat where that is
        /// longer. At least twice the heartbeat, so that the old holder has ended by itself. Pinned with the lanes; 4.0 and before do not wait.
        node_timeout: Duration => Some;
        /// How long connecting to a node may take; 10 s unless it is said.
        connect_limit: Duration;
        /// How long the broker may take to answer a request; 10 s unless it is said.
        answer_limit: Duration;
        /// Acknowledge when so many messages are done; a quarter of the prefetch unless it is said, and at most half of it.
        settle_count: u32 => Some;
        /// Acknowledge when the oldest that is done is so old; 250 ms unless it is said. When nothing is left to do it is acknowledged at once, but not more often than five times in this time.
        settle_interval: Duration;
        /// How long a lane that moves to another member waits for running handlers; 5 s unless it is said.
        handover: Duration;
        /// How often a lane that is held looks whether one of its slots is still bound to it, one slot after the other; 30 s unless it is said, and never with 0
        /// or with an `entry` that has no slots.
        binding_check: Duration;
        /// The largest message; 16 MiB unless it is said, which is what a 4.x broker takes.
        max_message: usize;
        /// Whether a channel and its group are provisioned when they are first used and missing. Off unless it is said: what is sent before a group is there is refused, and
        /// a name that was mistyped would be made.
        auto_create: bool;
    }

    /// Reads `amqp://user:password@host:port/vhost?option=value`, or `amqps://` for TLS. A cluster has all its nodes in it: `amqp://user:password@a:5672,b:5672,c:5672`.
    ///
    /// # Errors
    /// [`InvalidOption`](convoy_core::ErrorKind::InvalidOption), naming the option. Never the password.
    pub fn from_url(url: &str) -> Result<Self> {
        let (url, others) = nodes::split(url)?;
        let parsed = Url::parse(&url).map_err(|e| invalid("url", "the URL cannot be read").caused_by(e))?;
        let tls = match parsed.scheme() {
            "amqp" => false,
            "amqps" => true,
            other => {
                return Err(invalid(
                    "url",
                    format!("this is the backend of `amqp://` and `amqps://`, not `{other}://`"),
                ));
            }
        };
        let host =
            parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("url", "the URL names no host"))?;
        if parsed.fragment().is_some() {
            return Err(invalid("url", "an AMQP URL has no part behind `#`; write a `#` of the password as `%23`"));
        }
        let mut options = Self::new(host).tls(tls);
        options.nodes.set_port(parsed.port());
        others.into_iter().for_each(|node| options.nodes.add(node));
        if !parsed.username().is_empty() || parsed.password().is_some() {
            options.user = decoded("url", parsed.username())?;
            options.password = decoded("url", parsed.password().unwrap_or_default())?;
        }
        match parsed.path().strip_prefix('/').unwrap_or_default() {
            "" => {}
            vhost if vhost.contains('/') => {
                return Err(invalid("url", "a virtual host with a `/` in it is written with `%2F`"));
            }
            vhost => options.vhost = decoded("url", vhost)?,
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
            "plaintext" => self.plaintext = flag(name, value)?,
            "tls_ca" => self.tls_ca = Some(PathBuf::from(value)),
            "tls_cert" => self.tls_cert = Some(PathBuf::from(value)),
            "tls_key" => self.tls_key = Some(PathBuf::from(value)),
            "management" => self.management = Some(value.to_owned()),
            "connect_limit" => self.connect_limit = duration(name, value)?,
            "answer_limit" => self.answer_limit = duration(name, value)?,
            "heartbeat" => self.heartbeat = duration(name, value)?,
            "handover" => self.handover = duration(name, value)?,
            "settle_count" => self.settle_count = Some(number(name, value)?),
            "settle_interval" => self.settle_interval = duration(name, value)?,
            "max_message" => self.max_message = bytes(name, value)?,
            "binding_check" => self.binding_check = duration(name, value)?,
            "auto_create" => self.auto_create = flag(name, value)?,
            _ => return self.set_of_channel(name, value),
        }
        Ok(())
    }

    /// What the description of a channel may say.
    pub(crate) fn set_of_channel(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "lanes" => self.lanes = number(name, value)?,
            "prefetch" => self.prefetch = number(name, value)?,
            "entry" => self.entry = Entry::read(name, value)?,
            "node_timeout" => self.node_timeout = Some(duration(name, value)?),
            _ => return Err(invalid(name, format!("unknown option `{name}`"))),
        }
        Ok(())
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.tls && cfg!(not(feature = "tls")) {
            return Err(invalid(
                "url",
                "`amqps://` needs TLS, and this build has none: turn on the feature `tls` of convoy-rabbitmq (`rabbitmq-tls` of convoy-mq)",
            ));
        }
        let files = [("tls_ca", &self.tls_ca), ("tls_cert", &self.tls_cert), ("tls_key", &self.tls_key)];
        if let Some((name, _)) = files.iter().find(|(_, file)| !self.tls && file.is_some()) {
            return Err(invalid(name, format!("`{name}` is for `amqps://`")));
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => return Err(invalid("tls_key", "`tls_cert` needs `tls_key`, the private key of it")),
            (None, Some(_)) => return Err(invalid("tls_cert", "`tls_key` needs `tls_cert`, the certificate of it")),
            _ => {}
        }
        let management = self.management.as_deref().map(Address::read).transpose()?;
        let plain_host = management.as_ref().and_then(Address::plain_host);
        if !self.plaintext && plain_host.is_some_and(|host| !is_this_host(host)) {
            let why = "the password can be read on the way to the HTTP API: use `https://`, or say `plaintext=true` if that is meant";
            return Err(invalid("management", why));
        }
        if !self.tls && !self.plaintext && !self.nodes.all().all(|(host, _)| is_this_host(host)) {
            let why = "without TLS the password and every message can be read on the way: use `amqps://`, or say `plaintext=true` if that is meant";
            return Err(invalid("plaintext", why));
        }
        let most = u64::from(u16::MAX);
        if self.heartbeat.subsec_nanos() != 0 || !(1..=most).contains(&self.heartbeat.as_secs()) {
            return Err(invalid("heartbeat", "`heartbeat` is a whole number of seconds, from 1s on"));
        }
        if self.node_timeout.is_some_and(|timeout| timeout < self.heartbeat * 2) {
            let why =
                "`node_timeout` is at least twice `heartbeat`: a lane must not move before its old holder has ended";
            return Err(invalid("node_timeout", why));
        }
        if !(1..=crate::names::SLOTS).contains(&self.lanes) {
            return Err(invalid("lanes", format!("`lanes` is 1 to {}", crate::names::SLOTS)));
        }
        if self.prefetch < 2 {
            return Err(invalid("prefetch", "`prefetch` is at least 2: with none the client would hold everything"));
        }
        let zero = [
            ("connect_limit", self.connect_limit.is_zero()),
            ("answer_limit", self.answer_limit.is_zero()),
            ("settle_count", self.settle_count == Some(0)),
            ("max_message", self.max_message == 0),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, zero)| *zero) {
            return Err(invalid(name, format!("`{name}` must be more than 0")));
        }
        if self.settle_count.is_some_and(|count| count > u32::from(self.prefetch) / 2) {
            return Err(invalid("settle_count", "`settle_count` is at most half of `prefetch`"));
        }
        Ok(())
    }

    /// How long a lane waits for a consumer whose node is lost.
    pub(crate) fn waits_for_node(&self) -> Duration {
        self.node_timeout.unwrap_or_else(|| NODE_TIMEOUT.max(self.heartbeat * 2))
    }

    /// The port of a node of which none is said.
    pub(crate) fn usual_port(&self) -> u16 {
        if self.tls { 5671 } else { 5672 }
    }

    /// Where all nodes are, in the order in which they were named.
    pub(crate) fn addresses(&self) -> Vec<(&str, u16)> {
        self.nodes.all().map(|(host, port)| (host.as_str(), port.unwrap_or(self.usual_port()))).collect()
    }

    pub(crate) fn limits(&self) -> Limits {
        let ahead = u32::from(self.prefetch);
        let mut limits = Limits::lanes();
        limits.settle_count = self.settle_count.unwrap_or((ahead / 4).max(1)).min((ahead / 2).max(1));
        limits.settle_interval = self.settle_interval;
        // A settlement without an answer ends with its AMQP channel.
        limits.later_settle_covers = false;
        limits.margin = self.heartbeat / MARGIN;
        limits.fence = FenceKind::Producer;
        limits.max_message = self.max_message;
        limits
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("addresses", &self.addresses())
            .field("vhost", &self.vhost)
            .field("user", &self.user)
            .field("tls", &self.tls)
            .field("management", &self.management.as_deref().and_then(|url| Address::read(url).ok()))
            .field("lanes", &self.lanes)
            .field("prefetch", &self.prefetch)
            .field("entry", &self.entry)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}

fn is_this_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Undoes the `%xx` of a part of a URL.
pub(crate) fn decoded(name: &str, text: &str) -> Result<String> {
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
    String::from_utf8(out).map_err(|_| invalid(name, "user, password and virtual host are UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use convoy_core::ErrorKind;

    use super::*;

    #[test]
    fn a_url_says_everything_that_the_builder_says() {
        let url = "amqp://me:p%40ss%2F@127.0.0.1:5673/a%2Fb?lanes=8&prefetch=20&heartbeat=5s&connect_limit=1s&answer_limit=2s\
                   &settle_count=10&settle_interval=20ms&handover=1s&binding_check=9s&max_message=1KiB&entry=modulus-hash&auto_create=true&plaintext=true";
        let read = Options::from_url(url).unwrap();
        assert_eq!((read.user.as_str(), read.password.as_str(), read.vhost.as_str()), ("me", "p@ss/", "a/b"));
        assert_eq!((read.addresses(), read.lanes, read.prefetch), (vec![("127.0.0.1", 5673)], 8, 20));
        assert_eq!(read.heartbeat, Duration::from_secs(5));
        assert_eq!((read.connect_limit, read.answer_limit), (Duration::from_secs(1), Duration::from_secs(2)));
        assert_eq!((read.settle_count, read.settle_interval), (Some(10), Duration::from_millis(20)));
        assert_eq!((read.handover, read.max_message), (Duration::from_secs(1), 1024));
        assert_eq!(read.entry, Entry::ModulusHash);
        assert_eq!(read.binding_check, Duration::from_secs(9));
        assert!(read.auto_create && read.plaintext && !read.tls);
        let plain = Options::from_url("amqp://localhost").unwrap();
        assert_eq!((plain.user.as_str(), plain.vhost.as_str(), plain.addresses()[0].1), ("guest", "/", 5672));
        assert_eq!(Options::from_url("amqp://localhost/").unwrap().vhost, "/");
    }

    #[test]
    fn a_lane_waits_for_a_lost_node_for_longer_than_a_lease() {
        for (query, seconds) in [
            ("heartbeat=1s", 20),
            ("heartbeat=10s", 20),
            ("heartbeat=30s", 60),
            ("heartbeat=2s&node_timeout=4s", 4),
            ("node_timeout=60s", 60),
        ] {
            let options = Options::from_url(&format!("amqp://localhost?{query}")).unwrap();
            assert_eq!(options.waits_for_node(), Duration::from_secs(seconds), "{query}");
        }
    }

    #[test]
    fn the_nodes_of_a_cluster_are_all_named() {
        let built = Options::new("127.0.0.1").port(5673).node("localhost", 5674).node("[::1]", None).lanes(8);
        let read = Options::from_url("amqp://127.0.0.1:5673,localhost:5674,[::1]?lanes=8").unwrap();
        assert_eq!(read.addresses(), [("127.0.0.1", 5673), ("localhost", 5674), ("[::1]", 5672)]);
        assert_eq!(format!("{built:?}"), format!("{read:?}"));
        assert!(built.validate().is_ok());
        assert!(Options::new("localhost").node("h.example", None).validate().is_err());
        assert!(Options::new("localhost").node("h.example", 5672).plaintext(true).validate().is_ok());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_shown() {
        for (url, name) in [
            ("amqp://me:secret@h.example", "plaintext"),
            ("amqp://me:secret@127.0.0.1,h.example", "plaintext"),
            ("amqp://me:secret@h.example,127.0.0.1", "plaintext"),
            ("amqp://me:secret@127.0.0.1,", "url"),
            ("amqp://me:secret@127.0.0.1,127.0.0.1:x", "url"),
            ("amqp://me:secret@127.0.0.1?lane=8", "lane"),
            ("amqp://me:secret@127.0.0.1?lanes=0", "lanes"),
            ("amqp://me:secret@127.0.0.1?lanes=1025", "lanes"),
            ("amqp://me:secret@127.0.0.1?lanes=8&lanes=8", "lanes"),
            ("amqp://me:secret@127.0.0.1?prefetch=0", "prefetch"),
            ("amqp://me:secret@127.0.0.1?entry=fanout", "entry"),
            ("amqp://me:secret@127.0.0.1?prefetch=70000", "prefetch"),
            ("amqp://me:secret@127.0.0.1?heartbeat=1500ms", "heartbeat"),
            ("amqp://me:secret@127.0.0.1?heartbeat=0s", "heartbeat"),
            ("amqp://me:secret@127.0.0.1?node_timeout=19s", "node_timeout"),
            ("amqp://me:secret@127.0.0.1?heartbeat=4s&node_timeout=7s", "node_timeout"),
            ("amqp://me:secret@127.0.0.1?settle_count=251", "settle_count"),
            ("amqp://me:secret@127.0.0.1?tls_ca=ca.pem", "tls_ca"),
            ("amqp://me:secret@127.0.0.1?tls_cert=me.pem&tls_key=me.key", "tls_cert"),
            ("amqp://me:secret@127.0.0.1?tls_key=me.key", "tls_key"),
            ("amqp://me:secret@127.0.0.1/a/b", "url"),
            ("amqp://me:secret%zz@127.0.0.1", "url"),
            ("amqp://me:secret@127.0.0.1#x", "url"),
            ("amqp://me:secret@127.0.0.1?management=15672", "management"),
            ("amqp://me:secret@127.0.0.1?management=http://h.example:15672", "management"),
            ("amqp:///x", "url"),
            ("kafka://127.0.0.1", "url"),
            ("nonsense", "url"),
        ] {
            let error = Options::from_url(url).err().unwrap_or_else(|| panic!("{url} was taken"));
            assert_eq!((error.kind(), error.context("option")), (ErrorKind::InvalidOption, Some(name)), "{url}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        assert!(Options::from_url("amqp://me:secret@h.example?plaintext=true").is_ok());
        let of_management = Options::from_url("amqp://localhost?management=http://me:secret@localhost:15672");
        assert_eq!(of_management.is_ok(), cfg!(feature = "management"));
        assert!(!format!("{of_management:?}").contains("secret"), "{of_management:?}");
        assert!(!format!("{:?}", Options::from_url("amqp://me:secret@127.0.0.1").unwrap()).contains("secret"));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_certificate_and_its_key_come_together() {
        let read = Options::from_url("amqps://h.example?tls_ca=a.pem&tls_cert=b.pem&tls_key=c.key").unwrap();
        let files = [&read.tls_ca, &read.tls_cert, &read.tls_key].map(|file| file.as_deref().unwrap());
        assert_eq!(files, ["a.pem", "b.pem", "c.key"].map(std::path::Path::new));
        assert_eq!(read.addresses()[0].1, 5671);
        for (url, name) in
            [("amqps://h.example?tls_cert=b.pem", "tls_key"), ("amqps://h.example?tls_key=c.key", "tls_cert")]
        {
            assert_eq!(Options::from_url(url).unwrap_err().context("option"), Some(name), "{url}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_in_a_build_without_it_is_refused_and_never_spoken_in_plain_text() {
        let error = Options::from_url("amqps://h.example").unwrap_err();
        assert!(error.to_string().contains("feature `tls`"), "{error}");
    }
}
