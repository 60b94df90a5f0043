//! The connections that live, and what is wrong with each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::settings::{Injected, Settings};
use crate::history::{Fault, Phase, Side};

type Told = Box<dyn Fn(&Injected) + Send + Sync>;

/// A connection that lives.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Living {
    /// Its number.
    pub number: u64,
    /// The client's address, by which a test knows its own.
    pub client: SocketAddr,
    /// Bytes handed to the broker's socket so far.
    pub to_broker: u64,
    /// Bytes handed to the client's socket so far.
    pub to_client: u64,
}

/// What has passed one way.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) to_broker: AtomicU64,
    pub(super) to_client: AtomicU64,
}

/// What the proxy, its door and its connections share.
pub(super) struct Shared {
    pub(super) upstream: SocketAddr,
    seed: u64,
    told: Told,
    table: Mutex<Table>,
    accepted: watch::Sender<u64>,
}

/// Each change is made, and told, under one lock: so one thing is told at a time, and a begin before its end.
#[derive(Default)]
pub(super) struct Table {
    future: Settings,
    living: BTreeMap<u64, Entry>,
}

struct Entry {
    settings: watch::Sender<Settings>,
    client: SocketAddr,
    passed: Arc<Passed>,
}

/// Whose links are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    Living,
    Future,
    One(u64),
}

impl Shared {
    pub(super) fn new(upstream: SocketAddr, seed: u64, told: Told) -> Self {
        let accepted = watch::Sender::new(0);
        Self { upstream, seed, told, table: Mutex::default(), accepted }
    }

    /// Under the lock as well, so that what follows from a change is told after it.
    pub(super) fn tell(&self, fault: Fault, side: Side, phase: Phase, connection: Option<u64>) {
        let _table = self.table.lock();
        (self.told)(&Injected { fault, side, phase, connection });
    }

    /// Changes what is wrong with these links; how many of those that live are among them.
    pub(super) fn change(&self, scope: Scope, change: impl Fn(&mut Settings)) -> usize {
        let mut table = self.table.lock();
        if matches!(scope, Scope::All | Scope::Future) {
            let mut to = table.future;
            change(&mut to);
            // Nothing that does not exist can be reset.
            to.reset = None;
            let from = table.future;
            self.tell_changes(&from, &to, None, || table.future = to);
        }
        let meant = |number: u64| match scope {
            Scope::All | Scope::Living => true,
            Scope::Future => false,
            Scope::One(one) => one == number,
        };
        let mut reached = 0;
        for (number, entry) in table.living.iter().filter(|(number, _)| meant(**number)) {
            let from = *entry.settings.borrow();
            let mut to = from;
            change(&mut to);
            self.tell_changes(&from, &to, Some(*number), || {
                entry.settings.send_replace(to);
            });
            reached += 1;
        }
        reached
    }

    fn tell_changes(&self, from: &Settings, to: &Settings, connection: Option<u64>, apply: impl FnOnce()) {
        let told = |only: Phase| {
            for (fault, side, phase) in from.changes(to).filter(|(.., phase)| *phase == only) {
                (self.told)(&Injected { fault, side, phase, connection });
            }
        };
        told(Phase::Begin);
        apply();
        told(Phase::End);
    }

    /// A place for a connection that was just accepted.
    pub(super) fn seat(self: &Arc<Self>, client: SocketAddr) -> Seat {
        let mut table = self.table.lock();
        let number = *self.accepted.borrow();
        let future = table.future;
        let (settings, passed) = (watch::Sender::new(future), Arc::new(Passed::default()));
        let seat =
            Seat { shared: Arc::clone(self), number, settings: settings.subscribe(), passed: Arc::clone(&passed) };
        self.tell_changes(&Settings::default(), &future, Some(number), || {
            table.living.insert(number, Entry { settings, client, passed });
        });
        drop(table);
        self.accepted.send_replace(number + 1);
        seat
    }

    pub(super) fn accepted(&self) -> u64 {
        *self.accepted.borrow()
    }

    pub(super) async fn until_accepted(&self, count: u64) {
        // It cannot fail: the sender is here.
        let _ = self.accepted.subscribe().wait_for(|accepted| *accepted >= count).await;
    }

    pub(super) fn living(&self) -> Vec<Living> {
        let table = self.table.lock();
        let living = table.living.iter().map(|(number, entry)| Living {
            number: *number,
            client: entry.client,
            to_broker: entry.passed.to_broker.load(Ordering::Relaxed),
            to_client: entry.passed.to_client.load(Ordering::Relaxed),
        });
        living.collect()
    }
}

/// The place of a connection in the table. However its task ends, the place is given up and the end of what was wrong is told.
pub(super) struct Seat {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
    pub(super) settings: watch::Receiver<Settings>,
    pub(super) passed: Arc<Passed>,
}

impl Seat {
    pub(super) fn tell(&self, fault: Fault, side: Side, phase: Phase) {
        self.shared.tell(fault, side, phase, Some(self.number));
    }

    /// The source of what this connection draws.
    pub(super) fn chance(&self) -> fastrand::Rng {
        // Numbers follow each other closely; the product spreads them over all seeds.
        fastrand::Rng::with_seed(self.shared.seed ^ (self.number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        if let Some(entry) = table.living.remove(&self.number) {
            let from = *entry.settings.borrow();
            self.shared.tell_changes(&from, &Settings::default(), Some(self.number), || {});
        }
    }
}
