//! The door: accepts connections, or refuses them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::connection;
use super::table::Shared;
use crate::history::{Fault, Phase, Side};

/// How many may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long accepting rests after an error, which is most often that there are too many files.
const REST: Duration = Duration::from_millis(20);

/// What becomes of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refuse {
    /// They are accepted.
    No,
    /// Nobody listens: connecting fails, as with a broker that is down. The port stays the proxy's own.
    Closed,
    /// They are accepted and reset at once, as by a balancer without a broker behind it.
    Reset,
}

/// New connections are to be treated so; the answer says whether they are.
pub(super) struct Order {
    pub(super) how: Refuse,
    pub(super) answer: oneshot::Sender<io::Result<()>>,
}

/// Listens, and owns the tasks of the connections: they end with it.
pub(super) struct Door {
    shared: Arc<Shared>,
    address: SocketAddr,
    refuse: Refuse,
    state: State,
    serving: JoinSet<()>,
}

enum State {
    Open(TcpListener),
    /// Bound without listening: so the port is kept, and who connects is refused by the kernel.
    Shut(Option<TcpSocket>),
}

impl Door {
    pub(super) fn open(shared: Arc<Shared>) -> io::Result<Self> {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { shared, address, refuse: Refuse::No, state: State::Open(listener), serving: JoinSet::new() })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until nobody can give orders any more, then ends every connection.
    pub(super) async fn keep(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order { how, answer }) => {
                        let done = self.obey(how);
                        // Whoever asked may be gone.
                        let _ = answer.send(done);
                    }
                    None => break,
                },
                accepted = accept(&self.state) => self.admit(accepted).await,
                Some(_) = self.serving.join_next() => {}
            }
        }
        self.tell(Refuse::No);
        drop(self.state);
        self.serving.shutdown().await;
    }

    async fn admit(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((client, _)) if self.refuse != Refuse::No => connection::abort(client),
            Ok((client, address)) => {
                let seat = self.shared.seat(address);
                self.serving.spawn(connection::serve(seat, client));
            }
            Err(_) => tokio::time::sleep(REST).await,
        }
    }

    fn obey(&mut self, how: Refuse) -> io::Result<()> {
        if how != Refuse::No {
            self.tell(how);
        }
        match (&mut self.state, how) {
            (State::Open(_), Refuse::Closed) => {
                // The listener must be gone before the port can be bound again.
                self.state = State::Shut(None);
                self.state = State::Shut(Some(bind(self.address)?));
            }
            (State::Shut(kept), Refuse::No | Refuse::Reset) => {
                let socket = kept.take().map_or_else(|| bind(self.address), Ok)?;
                self.state = State::Open(socket.listen(BACKLOG)?);
            }
            _ => {}
        }
        if how == Refuse::No {
            self.tell(how);
        }
        self.refuse = how;
        Ok(())
    }

    /// Tells that refusing begins or ends, if it does.
    fn tell(&self, how: Refuse) {
        let phase = match (self.refuse, how) {
            (Refuse::No, Refuse::No) => return,
            (Refuse::No, _) => Phase::Begin,
            (_, Refuse::No) => Phase::End,
            _ => return,
        };
        self.shared.tell(Fault::Other, Side::Client, phase, None);
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(state: &State) -> io::Result<(TcpStream, SocketAddr)> {
    match state {
        State::Open(listener) => listener.accept().await,
        State::Shut(_) => std::future::pending().await,
    }
}
