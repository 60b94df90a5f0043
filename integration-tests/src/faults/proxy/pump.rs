//! One way of a link: what is read on one socket is written to the other, when and as it is due.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::pace::{Delay, Rate, Slices};
use super::settings::{Blackhole, OneWay, Settings, Way};

/// What is read at once.
const CHUNK: usize = 64 << 10;
/// What is held at most, so that a sender still feels a reader that is slow.
const HELD: usize = 128 << 10;
/// What is held at most on a slow link, which has its bytes under way: 16 MiB a second at 500 ms.
const UNDER_WAY: usize = 8 << 20;

/// Why a pump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The source ended well, and the destination was told.
    Ended,
    /// The source is gone without a word, and everything before that was passed on.
    SourceGone,
    /// The destination takes nothing any more.
    DestinationGone,
    /// A buffer was cut, as asked.
    Cut,
    /// Something was dropped, and the way is open again.
    Gap,
    /// Nobody controls it any more.
    Left,
}

/// A socket, and whether a write to it has failed: the error is told once, and reads then see a mere end.
pub(super) struct End {
    pub(super) socket: TcpStream,
    pub(super) gone: AtomicBool,
}

enum Item {
    Bytes(Bytes),
    Ended,
    Gone,
}

pub(super) struct Pump<'a> {
    way: Way,
    from: &'a End,
    to: &'a End,
    settings: watch::Receiver<Settings>,
    passed: &'a AtomicU64,
    /// What was read, and when it is due.
    queue: VecDeque<(Instant, Item)>,
    held: usize,
    buffer: BytesMut,
    /// The source has nothing more.
    ended: bool,
    /// Something was dropped.
    gap: bool,
    delay: Delay,
    rate: Rate,
    slices: Slices,
    chance: fastrand::Rng,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        way: Way,
        (from, to): (&'a End, &'a End),
        settings: watch::Receiver<Settings>,
        passed: &'a AtomicU64,
        mut chance: fastrand::Rng,
    ) -> Self {
        let now = Instant::now();
        Self {
            way,
            from,
            to,
            settings,
            passed,
            queue: VecDeque::new(),
            held: 0,
            buffer: BytesMut::new(),
            ended: false,
            gap: false,
            delay: Delay::new(chance.fork(), now),
            rate: Rate::new(now),
            slices: Slices::new(chance.fork()),
            chance,
        }
    }

    /// Runs until there is a reason to end. Dropped at any point, it loses only what a reset loses as well.
    pub(super) async fn run(mut self) -> Over {
        loop {
            let way = *self.settings.borrow_and_update().way(self.way);
            match way.blackhole {
                Some(Blackhole::Drop) if !self.queue.is_empty() => self.drop_all(),
                None if self.gap => return Over::Gap,
                _ => {}
            }
            let due = if way.blackhole.is_some() { None } else { self.due(&way) };
            let is_due = due.is_some_and(|due| due <= Instant::now());
            if is_due && let Some((_, item @ (Item::Ended | Item::Gone))) = self.queue.front() {
                if matches!(item, Item::Gone) {
                    return Over::SourceGone;
                }
                // It fails only when the destination is gone, and that is seen by whoever reads it.
                let _ = rustix::net::shutdown(&self.to.socket, rustix::net::Shutdown::Write);
                return Over::Ended;
            }
            let slow = !way.delay.is_zero() || !way.jitter.is_zero();
            let may_read = !self.ended
                && way.blackhole != Some(Blackhole::Hold)
                && self.held < if slow { UNDER_WAY } else { HELD };
            tokio::select! {
                biased;
                changed = self.settings.changed() => if changed.is_err() { return Over::Left },
                _ = self.to.socket.writable(), if is_due => {
                    if let Some(over) = self.write(&way).await {
                        return over;
                    }
                }
                _ = self.from.socket.readable(), if may_read => self.read(&way),
                () = until(due), if !is_due => {}
            }
        }
    }

    /// When the next is due; `None` when there is nothing.
    fn due(&self, way: &OneWay) -> Option<Instant> {
        let (due, item) = self.queue.front()?;
        let paced = matches!(item, Item::Bytes(_)).then(|| self.rate.next(way.rate)).flatten();
        Some(paced.map_or(*due, |paced| paced.max(*due)))
    }

    fn drop_all(&mut self) {
        self.gap = true;
        self.held = 0;
        self.queue.clear();
    }

    fn read(&mut self, way: &OneWay) {
        self.buffer.reserve(CHUNK);
        let item = match self.from.socket.try_read_buf(&mut self.buffer) {
            Ok(0) if self.from.gone.load(Ordering::Relaxed) => Item::Gone,
            Ok(0) => Item::Ended,
            Ok(read) => {
                self.held += read;
                Item::Bytes(self.buffer.split().freeze())
            }
            Err(error) if is_passing(&error) => return,
            Err(_) => Item::Gone,
        };
        self.ended = !matches!(item, Item::Bytes(_));
        self.queue.push_back((self.delay.due(Instant::now(), way), item));
    }

    /// Writes what may go at once of the front.
    async fn write(&mut self, way: &OneWay) -> Option<Over> {
        let Some((_, Item::Bytes(front))) = self.queue.front_mut() else { return None };
        let mut most = front.len().min(Rate::most(way.rate)).min(self.slices.most(way.slice));
        // A single byte has no middle: it passes, and the next buffer is cut.
        let cut = way.cut && front.len() > 1;
        if cut {
            most = self.chance.usize(1..front.len());
        }
        let wrote = match self.to.socket.try_write(&front[..most]) {
            Ok(wrote) => wrote,
            Err(error) if is_passing(&error) => return None,
            Err(_) => return Some(self.destination_gone().await),
        };
        front.advance(wrote);
        let is_done = front.is_empty();
        if is_done {
            self.queue.pop_front();
        }
        self.held -= wrote;
        self.passed.fetch_add(wrote as u64, Ordering::Relaxed);
        self.rate.spend(wrote, way.rate, Instant::now());
        self.slices.spend(wrote);
        if cut {
            return Some(Over::Cut);
        }
        if way.slice > 0 {
            // The reader gets a chance to see the piece by itself.
            tokio::task::yield_now().await;
        }
        None
    }

    /// The word that the destination is gone comes the other way, so it waits while that is a black hole.
    async fn destination_gone(&mut self) -> Over {
        self.to.gone.store(true, Ordering::Relaxed);
        let back = if self.way == Way::ToBroker { Way::ToClient } else { Way::ToBroker };
        match self.settings.wait_for(|settings| settings.way(back).blackhole.is_none()).await {
            Ok(_) => Over::DestinationGone,
            Err(_) => Over::Left,
        }
    }
}

/// Whether it can be tried again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep(due.saturating_duration_since(Instant::now()).min(DAY)).await,
        None => std::future::pending().await,
    }
}

/// A timer need not be longer: it is set again.
const DAY: Duration = Duration::from_secs(86_400);
