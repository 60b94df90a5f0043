//! What can be done to links.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::settings::{Blackhole, OneWay, Settings, Way};
use super::table::{Scope, Shared};
use crate::history::Side;

/// Some links of a proxy, and what is wrong with them.
///
/// Each function is in force for every byte that is sent after it returned, and can be called from any thread. It returns how many
/// connections that live it reached: 0 for one that is gone.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared>,
    scope: Scope,
}

impl Links {
    pub(super) fn all(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), scope: Scope::All }
    }

    pub(super) fn living(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), scope: Scope::Living }
    }

    pub(super) fn future(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), scope: Scope::Future }
    }

    pub(super) fn one(shared: &Arc<Shared>, number: u64) -> Self {
        Self { shared: Arc::clone(shared), scope: Scope::One(number) }
    }

    /// Bytes arrive later by `base`, give or take a time drawn up to `jitter`; never one before another. A round trip pays it once for each way
    /// that is meant. Zero and zero end it; what is under way still takes its time.
    pub fn delay(&self, way: Way, base: Duration, jitter: Duration) -> usize {
        self.change(way, |way| (way.delay, way.jitter) = (base, jitter))
    }

    /// At most so many bytes a second pass; 0 for no limit.
    pub fn rate(&self, way: Way, bytes_per_second: u64) -> usize {
        self.change(way, |way| way.rate = bytes_per_second)
    }

    /// Bytes are passed on in pieces of 1 to `max_bytes`, drawn; 0 for as they come. Pieces that follow each other closely may reach a
    /// reader together; with a [`rate`](Self::rate) as well, they do not.
    pub fn slice(&self, way: Way, max_bytes: usize) -> usize {
        self.change(way, |way| way.slice = max_bytes)
    }

    /// Nothing passes this way any more, neither bytes nor the end of a side, and neither side is told. The other way goes on unless it is meant too.
    /// A connection that is accepted meanwhile leads nowhere until it is healed, since a handshake needs both ways; then it is led on, or is
    /// reset if a way dropped.
    pub fn blackhole(&self, way: Way, kind: Blackhole) -> usize {
        self.change(way, |way| way.blackhole = Some(kind))
    }

    /// Ends a black hole, with what [`heal`](Self::heal) says of it.
    pub fn open(&self, way: Way) -> usize {
        self.change(way, |way| way.blackhole = None)
    }

    /// The sockets of these ends are closed by a reset (`RST`). If only one end is named, the other side knows nothing of it: its socket
    /// stays open, and what it sends vanishes, until it is reset or healed as well or closes by itself.
    /// It waits while the upstream is being connected to, 5 s at most. Links to come are not meant.
    pub fn reset(&self, ends: Side) -> usize {
        self.shared.change(self.scope, |settings| settings.reset(ends))
    }

    /// Of the next bytes that go this way, a part drawn is passed on; then both ends are reset. With [`Way::Both`], the first to come decides. Links to
    /// come, if meant, are each cut so until they are healed.
    pub fn cut_mid_frame(&self, way: Way) -> usize {
        self.change(way, |way| way.cut = true)
    }

    /// Nothing is wrong any more. A link on which something was dropped is reset at both ends, and so is what is left of one of which an end was
    /// reset; what was held goes on where it stood.
    pub fn heal(&self) -> usize {
        self.shared.change(self.scope, Settings::heal)
    }

    fn change(&self, way: Way, change: impl Fn(&mut OneWay)) -> usize {
        self.shared.change(self.scope, |settings| settings.each(way, &change))
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Links").field(&self.scope).finish()
    }
}
