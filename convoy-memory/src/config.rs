//! Options, by builder and by URL, under one set of names.

use std::time::Duration;

use convoy_core::Result;
use convoy_core::backend::{Limits, Shape};
use url::Url;

use crate::error::invalid_option;

/// What can be set, of a broker and of its channels. Every name is a method here and an option of the URL.
///
/// ```
/// use std::time::Duration;
/// use convoy_memory::{MemoryBroker, Options};
///
/// let built = MemoryBroker::with_options(Options::new().lanes(8).lock(Duration::from_secs(10)))?;
/// let named = MemoryBroker::from_url("memory://demo?lanes=8&lock=10s")?;
/// # let _ = (built, named);
/// # Ok::<(), convoy_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    pub(crate) lanes: u32,
    pub(crate) lock: Duration,
    pub(crate) prefetch: Option<u32>,
    pub(crate) capacity: u32,
    pub(crate) capacity_bytes: u64,
    pub(crate) max_message: usize,
    pub(crate) max_run: usize,
    pub(crate) dead_letters: u32,
    pub(crate) state_limit: Option<usize>,
    pub(crate) pending_accepts: Option<u32>,
    pub(crate) settle_count: Option<u32>,
    pub(crate) settle_interval: Option<Duration>,
    pub(crate) handover: Option<Duration>,
    pub(crate) answer_limit: Duration,
    pub(crate) auto_create: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lanes: 0,
            lock: Duration::from_secs(30),
            prefetch: None,
            capacity: 1_000_000,
            capacity_bytes: 1 << 30,
            max_message: 1 << 20,
            max_run: 64,
            dead_letters: 1_000_000,
            state_limit: None,
            pending_accepts: None,
            settle_count: None,
            settle_interval: None,
            handover: None,
            answer_limit: Duration::from_secs(5),
            auto_create: true,
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

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// The lanes of a channel; 0, the default, makes a broker that locks sessions.
        lanes: u32;
        /// How long a lock or lease holds without renewal; 30 s by default.
        lock: Duration;
        /// The most unsettled messages that one lock or lease has out; 0 leaves it to the consumer's own bounds. By default 256 a session,
        /// and no limit a lane.
        prefetch: u32 => Some;
        /// The most messages that a channel keeps; a full one refuses sends. A million by default.
        capacity: u32;
        /// The most bytes that a channel keeps, as [`Content::size`](convoy_core::Content::size) counts; 1 GiB by default.
        capacity_bytes: u64;
        /// The largest message, in bytes; 1 MiB by default.
        max_message: usize;
        /// The most messages that a producer hands over at once for one session; 64 by default.
        max_run: usize;
        /// The most messages of one group's dead-letter store; a full one refuses. A million by default.
        dead_letters: u32;
        /// The largest state of a session, in bytes; 64 KiB by default. Sessions only.
        state_limit: usize => Some;
        /// The most open requests for "the next free session" of one consumer; 256 by default. Sessions only.
        pending_accepts: u32 => Some;
        /// Consumers settle when so many messages are done; 256 by default. Lanes only: sessions settle each.
        settle_count: u32 => Some;
        /// Consumers settle when the oldest that is done and unsettled is so old; 250 ms by default. Lanes only.
        settle_interval: Duration => Some;
        /// How long the holder of a lane that moves may drain; 5 s by default, at most the lock. Lanes only.
        handover: Duration => Some;
        /// How long a consumer waits for an answer before it calls it unknown; 5 s by default. Answers fail to come under faults only.
        answer_limit: Duration;
        /// Whether channels and groups are made on first use; the default. Otherwise only `provision` makes them.
        auto_create: bool;
    }

    /// Sets an option by its name, as in a URL.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "lanes" => self.lanes = number(name, value)?,
            "max_run" => self.max_run = number(name, value)?,
            "auto_create" => self.auto_create = flag(name, value)?,
            _ => return self.set_of_channel(name, value),
        }
        Ok(())
    }

    /// Sets an option that each channel may have for itself.
    pub(crate) fn set_of_channel(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "lock" => self.lock = duration(name, value)?,
            "prefetch" => self.prefetch = Some(number(name, value)?),
            "capacity" => self.capacity = number(name, value)?,
            "capacity_bytes" => self.capacity_bytes = bytes(name, value)?,
            "max_message" => self.max_message = bytes(name, value)?,
            "dead_letters" => self.dead_letters = number(name, value)?,
            "state_limit" => self.state_limit = Some(bytes(name, value)?),
            "pending_accepts" => self.pending_accepts = Some(number(name, value)?),
            "settle_count" => self.settle_count = Some(number(name, value)?),
            "settle_interval" => self.settle_interval = Some(duration(name, value)?),
            "handover" => self.handover = Some(duration(name, value)?),
            "answer_limit" => self.answer_limit = duration(name, value)?,
            "lanes" | "max_run" | "auto_create" => {
                return Err(invalid_option(name, format!("`{name}` is an option of the broker, not of a channel")));
            }
            _ => return Err(invalid_option(name, format!("unknown option `{name}`"))),
        }
        Ok(())
    }

    /// Refuses values that make no sense, and options that the chosen shape does not have.
    pub(crate) fn validate(&self) -> Result<()> {
        let (of_sessions, of_lanes) = self.of_one_shape();
        let wrong_shape = if self.lanes > 0 { of_sessions } else { of_lanes };
        if let Some(name) = wrong_shape {
            let has = if self.lanes > 0 { "lanes" } else { "sessions and no lanes" };
            return Err(invalid_option(name, format!("a memory broker with {has} has no `{name}`")));
        }
        let zero = [
            ("lock", self.lock.is_zero()),
            ("capacity", self.capacity == 0),
            ("capacity_bytes", self.capacity_bytes == 0),
            ("max_message", self.max_message == 0),
            ("max_run", self.max_run == 0),
            ("pending_accepts", self.pending_accepts == Some(0)),
            ("settle_count", self.settle_count == Some(0)),
            ("answer_limit", self.answer_limit.is_zero()),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, zero)| *zero) {
            return Err(invalid_option(name, format!("`{name}` must be more than 0")));
        }
        if let (Some(count), Some(prefetch @ 1..)) = (self.settle_count, self.prefetch)
            && count > prefetch.div_ceil(2)
        {
            return Err(invalid_option("settle_count", "`settle_count` is at most half of `prefetch`"));
        }
        let most = [("lanes", self.lanes, 4096), ("capacity", self.capacity, u32::MAX / 2)];
        match most.iter().find(|(_, value, most)| value > most) {
            Some((name, _, most)) => Err(invalid_option(name, format!("`{name}` is at most {most}"))),
            None => Ok(()),
        }
    }

    /// The first option that is set and only sessions have, and the same of lanes.
    fn of_one_shape(&self) -> (Option<&'static str>, Option<&'static str>) {
        let sessions = self.state_limit.map(|_| "state_limit").or(self.pending_accepts.map(|_| "pending_accepts"));
        let lanes = self.settle_count.map(|_| "settle_count");
        let lanes = lanes.or(self.settle_interval.map(|_| "settle_interval")).or(self.handover.map(|_| "handover"));
        (sessions, lanes)
    }

    pub(crate) fn prefetch_limit(&self) -> u32 {
        match self.prefetch {
            Some(0) => u32::MAX,
            Some(limit) => limit,
            None if self.lanes > 0 => u32::MAX,
            None => 256,
        }
    }

    pub(crate) fn handover_limit(&self) -> Duration {
        self.handover.unwrap_or(Duration::from_secs(5)).min(self.lock)
    }

    pub(crate) fn state_size(&self) -> usize {
        self.state_limit.unwrap_or(64 * 1024)
    }

    /// What the engine must know of a source with these options.
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = if self.lanes > 0 { Limits::lanes() } else { Limits::sessions() };
        if self.lanes > 0 {
            let ahead = self.prefetch_limit() / 2;
            limits.settle_count = self.settle_count.unwrap_or(limits.settle_count.min(ahead).max(1));
            limits.settle_interval = self.settle_interval.unwrap_or(limits.settle_interval);
        } else {
            // A request costs nothing here, and with few of them a consumer of many sessions asks again and again.
            let pending_accepts = self.pending_accepts.unwrap_or(256);
            limits.shape = Shape::Sessions { pending_accepts };
            // A session comes with its first message.
            limits.accept_cost = Duration::ZERO;
        }
        limits.margin = limits.margin.min(self.lock / 10);
        limits.max_message = self.max_message;
        limits
    }
}

/// What a URL says: the broker's name, its options, and the names of those that were given.
pub(crate) struct FromUrl {
    pub(crate) name: String,
    pub(crate) options: Options,
    pub(crate) given: Vec<(String, String)>,
}

/// Reads `memory://name?option=value&…`.
pub(crate) fn parse(url: &str) -> Result<FromUrl> {
    let parsed = Url::parse(url).map_err(|e| invalid_option("url", "the URL cannot be read").caused_by(e))?;
    if parsed.scheme() != "memory" {
        return Err(invalid_option("url", format!("this is the backend of `memory://`, not `{}://`", parsed.scheme())));
    }
    let nothing_else = matches!(parsed.path(), "" | "/") && parsed.port().is_none() && parsed.fragment().is_none();
    if !nothing_else || !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(invalid_option("url", "a memory URL has a name and options only: memory://name?option=value"));
    }
    let mut options = Options::default();
    let mut given: Vec<(String, String)> = Vec::new();
    for (name, value) in parsed.query_pairs() {
        if given.iter().any(|(n, _)| *n == name) {
            return Err(invalid_option(&name, format!("`{name}` is given twice")));
        }
        options.set(&name, &value)?;
        given.push((name.into_owned(), value.into_owned()));
    }
    options.validate()?;
    Ok(FromUrl { name: parsed.host_str().unwrap_or_default().to_owned(), options, given })
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| wrong(name, value, "a whole number that is not too large"))
}

fn flag(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(name, value, "`true` or `false`")),
    }
}

fn bytes<T: TryFrom<u64>>(name: &str, value: &str) -> Result<T> {
    let (digits, unit) = split(value);
    let scale: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 0,
    };
    let size = digits.parse::<u64>().ok().filter(|_| scale > 0).and_then(|n| n.checked_mul(scale));
    size.and_then(|n| T::try_from(n).ok()).ok_or_else(|| wrong(name, value, "a size like `4096`, `64KiB`, `1MiB`"))
}

fn duration(name: &str, value: &str) -> Result<Duration> {
    let (digits, unit) = split(value);
    let nanos: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => 0,
    };
    let total = digits.parse::<u64>().ok().filter(|_| nanos > 0).and_then(|n| n.checked_mul(nanos));
    total.map(Duration::from_nanos).ok_or_else(|| wrong(name, value, "a duration like `250ms`, `30s`, `5m`"))
}

fn split(value: &str) -> (&str, &str) {
    value.split_at(value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len()))
}

fn wrong(name: &str, value: &str, wants: &str) -> convoy_core::Error {
    let shown: String = value.escape_debug().take(64).collect();
    invalid_option(name, format!("`{name}` wants {wants}, not `{shown}`"))
}

#[cfg(test)]
mod tests {
    use convoy_core::ErrorKind;

    use super::*;

    #[test]
    fn a_url_says_everything_that_the_builder_says() {
        let url = "memory://demo?lanes=8&lock=250ms&prefetch=10&capacity=10&capacity_bytes=2MiB&max_message=1KiB&max_run=3\
                   &dead_letters=4&settle_count=5&settle_interval=20ms&handover=1s&answer_limit=2s&auto_create=false";
        let read = parse(url).unwrap();
        let built = Options::new().lanes(8).lock(Duration::from_millis(250)).prefetch(10).capacity(10);
        let built = built.capacity_bytes(2 << 20).max_message(1024).max_run(3).dead_letters(4).settle_count(5);
        let built = built.settle_interval(Duration::from_millis(20)).handover(Duration::from_secs(1));
        assert_eq!(read.options, built.answer_limit(Duration::from_secs(2)).auto_create(false));
        assert_eq!(read.name, "demo");
        let sessions = parse("memory://demo?state_limit=1KiB&pending_accepts=3").unwrap();
        assert_eq!(sessions.options, Options::new().state_limit(1024).pending_accepts(3));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, name) in [
            ("memory://x?lane=8", "lane"),
            ("memory://x?lanes=many", "lanes"),
            ("memory://x?lanes=5000", "lanes"),
            ("memory://x?lock=30", "lock"),
            ("memory://x?lock=0s", "lock"),
            ("memory://x?lock=99999999999999h", "lock"),
            ("memory://x?lock=1s&lock=2s", "lock"),
            ("memory://x?capacity_bytes=1MB", "capacity_bytes"),
            ("memory://x?auto_create=yes", "auto_create"),
            ("memory://x?settle_count=5", "settle_count"),
            ("memory://x?lanes=2&state_limit=5", "state_limit"),
            ("memory://x/path", "url"),
            ("memory://user:secret@x", "url"),
            ("kafka://x", "url"),
            ("nonsense", "url"),
        ] {
            let error = parse(url).err().unwrap_or_else(|| panic!("{url} was taken"));
            assert_eq!((error.kind(), error.context("option")), (ErrorKind::InvalidOption, Some(name)), "{url}");
            assert!(!format!("{error:?}").contains("secret"));
        }
    }
}
