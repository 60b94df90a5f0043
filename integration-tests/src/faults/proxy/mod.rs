//! A TCP proxy that stands between a client and a broker and spoils the link: slow, narrow, silent, cut, in pieces, refused.
//!
//! It knows no protocol, so it serves every broker. Clients connect to [`Proxy::address`]; each connection gets a number in the order in which they
//! were accepted, from 0, and leads to the upstream. What is wrong with a link is said by [`Links`]: of those that live, of those to come, of both,
//! or of one connection by its number.
//!
//! **Ends travel as bytes do.** What ends one side of a link (`FIN` or `RST`) is passed to the other behind the bytes before it, and only while that
//! way is open. So behind a black hole, both sides keep a socket that looks well: a half-open link.
//!
//! **Chance is seeded.** What is drawn (pieces, jitter, where a frame is cut) follows from the seed and the number of the connection. Which client gets
//! which number is up to the clients.
//!
//! **What is done is told.** Each fault is given to a function as it begins and ends, see [`Injected`]. It begins there before it strikes and ends after
//! it is gone. What the peers do by themselves is no fault, and is not told.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use convoy_conformance::faults::proxy::{Blackhole, Proxy, Way};
//! use convoy_conformance::history::{Memory, Recorder, Side, now};
//!
//! # #[tokio::main] async fn main() -> std::io::Result<()> {
//! # let upstream = "127.0.0.1:1".parse().expect("an address");
//! let history = Arc::new(Memory::new(0));
//! let told = Arc::clone(&history);
//! let proxy = Proxy::start_telling(upstream, 7, move |fault| told.record(now(), 0, fault.what(0))).await?;
//! // … connect clients to proxy.address() …
//! proxy.all().delay(Way::Both, Duration::from_millis(50), Duration::from_millis(10));
//! proxy.connection(0).blackhole(Way::ToClient, Blackhole::Hold);
//! proxy.connection(1).reset(Side::Both);
//! proxy.heal().await?;
//! proxy.stop(Duration::from_secs(1)).await?;
//! # Ok(()) }
//! ```

mod accept;
mod connection;
mod links;
mod pace;
mod pump;
mod settings;
mod table;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use accept::{Door, Order};
use table::Shared;

pub use accept::Refuse;
pub use links::Links;
pub use settings::{Blackhole, Injected, Way};
pub use table::Living;

/// How long the door may take to do as it is told. It only makes system calls that do not block.
const DOOR: Duration = Duration::from_secs(5);

/// A proxy that runs. When it is dropped, it ends at once, and all its connections with it.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    orders: mpsc::Sender<Order>,
    door: Task,
}

impl Proxy {
    /// Listens on a free port of this machine and leads to `upstream`, which need not be up yet. It runs on the runtime of the caller, which must have
    /// its I/O and time enabled and its clock not paused.
    ///
    /// # Errors
    /// When there is no port to be had.
    ///
    /// # Cancel safety
    /// Nothing runs when it is dropped before it returned.
    pub async fn start(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        Self::start_telling(upstream, seed, |_| {}).await
    }

    /// As [`start`](Self::start); each fault is told to `told` as it begins and ends, one at a time. That is called while the proxy is at work, so it must
    /// be short, and must not call the proxy.
    ///
    /// # Errors
    /// When there is no port to be had.
    ///
    /// # Cancel safety
    /// Nothing runs when it is dropped before it returned.
    pub async fn start_telling(
        upstream: SocketAddr,
        seed: u64,
        told: impl Fn(&Injected) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(upstream, seed, Box::new(told)));
        let (orders, received) = mpsc::channel(1);
        let door = Door::open(Arc::clone(&shared))?;
        let address = door.address();
        Ok(Self { shared, address, orders, door: Task(tokio::spawn(door.keep(received))) })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were accepted so far: the number of the next one.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted()
    }

    /// Waits until so many connections were accepted; whether they were, within the limit.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn until_accepted(&self, count: u64, within: Duration) -> bool {
        tokio::time::timeout(within, self.shared.until_accepted(count)).await.is_ok()
    }

    /// The connections that live, in the order of their numbers. One of which a side was reset alone lives until the other is gone as well.
    pub fn connections(&self) -> Vec<Living> {
        self.shared.living()
    }

    /// The links that live and those to come.
    pub fn all(&self) -> Links {
        Links::all(&self.shared)
    }

    /// The links that live now.
    pub fn living(&self) -> Links {
        Links::living(&self.shared)
    }

    /// The links to come.
    pub fn future(&self) -> Links {
        Links::future(&self.shared)
    }

    /// The link of the connection of this number. What is asked of one that is gone, or not there yet, reaches nothing, and says so.
    pub fn connection(&self, number: u64) -> Links {
        Links::one(&self.shared, number)
    }

    /// New connections are refused so from now on; those that are there stay. It is in force when this returns.
    ///
    /// # Errors
    /// When the port cannot be had again, or the runtime of the proxy is gone.
    ///
    /// # Cancel safety
    /// Whether it was done is unknown.
    pub async fn refuse(&self, how: Refuse) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.orders.send(Order { how, answer }).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            answered.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
        };
        tokio::time::timeout(DOOR, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Nothing is wrong any more, with any link or with the door. See [`Links::heal`] for what becomes of links that lost something.
    ///
    /// # Errors
    /// As [`refuse`](Self::refuse).
    ///
    /// # Cancel safety
    /// The links are healed; whether new ones are refused is unknown.
    pub async fn heal(&self) -> io::Result<()> {
        self.all().heal();
        self.refuse(Refuse::No).await
    }

    /// Ends it: no port, no connection and no task is left when it returns well.
    ///
    /// # Errors
    /// When that took longer than the limit; the rest is on its way.
    ///
    /// # Cancel safety
    /// The proxy ends all the same.
    pub async fn stop(self, within: Duration) -> io::Result<()> {
        let Self { orders, mut door, .. } = self;
        drop(orders);
        match tokio::time::timeout(within, &mut door.0).await {
            Ok(_) => Ok(()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("address", &self.address)
            .field("upstream", &self.shared.upstream)
            .finish_non_exhaustive()
    }
}

/// A task that ends with its handle. Those of the connections belong to the door's, and end with it.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
