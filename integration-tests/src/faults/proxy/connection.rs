//! One connection, from its accept to its end.

use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::pump::{End, Over, Pump};
use super::settings::{Blackhole, Settings, Way};
use super::table::Seat;
use crate::history::{Fault, Phase, Side};

/// How long the upstream may take to accept.
const CONNECT: Duration = Duration::from_secs(5);

/// Serves it until it is over.
pub(super) async fn serve(mut seat: Seat, client: TcpStream) {
    let broker = match lead_on(&mut seat).await {
        Ok(broker) => broker,
        Err(why) => {
            // Never an end in order, which the client would take for the broker's. The broker has seen nothing.
            if why == Unled::Fault {
                seat.tell(Fault::Reset, Side::Client, Phase::Begin);
            }
            abort(client);
            if why == Unled::Fault {
                seat.tell(Fault::Reset, Side::Client, Phase::End);
            }
            return;
        }
    };
    // What is small is not kept to be sent with more: the proxy is to add no time of its own.
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let client = End { socket: client, gone: AtomicBool::new(false) };
    let broker = End { socket: broker, gone: AtomicBool::new(false) };
    let ends = pumps(&mut seat, &client, &broker).await;
    let (client, broker) = (client.socket, broker.socket);
    match ends {
        Finish::Close => {}
        Finish::Abort => {
            abort(client);
            abort(broker);
        }
        Finish::Reset(Side::Client) => half(&mut seat, Side::Client, client, broker).await,
        Finish::Reset(Side::Broker) => half(&mut seat, Side::Broker, broker, client).await,
        Finish::Reset(_) => {
            seat.tell(Fault::Reset, Side::Both, Phase::Begin);
            abort(client);
            abort(broker);
            seat.tell(Fault::Reset, Side::Both, Phase::End);
        }
    }
}

/// How a connection finishes.
enum Finish {
    /// Both sides ended well.
    Close,
    /// A side is gone, and the other is told.
    Abort,
    /// A fault.
    Reset(Side),
}

/// Why a connection does not come to the upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unled {
    /// It was reset, or its handshake was dropped.
    Fault,
    /// The upstream does not take it.
    Upstream,
}

/// Connects to the upstream once both ways are open.
async fn lead_on(seat: &mut Seat) -> Result<TcpStream, Unled> {
    let mut dropped = false;
    loop {
        let settings = *seat.settings.borrow_and_update();
        dropped |= settings.is_black(Blackhole::Drop);
        let open = !settings.is_black(Blackhole::Drop) && !settings.is_black(Blackhole::Hold);
        if settings.reset.is_some() || (open && dropped) {
            return Err(Unled::Fault);
        }
        if open {
            break;
        }
        seat.settings.changed().await.map_err(|_| Unled::Upstream)?;
    }
    // A reset waits for that: the broker may have accepted already, and would see an end in order if its socket were just dropped.
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(seat.shared.upstream)).await;
    connected.ok().and_then(Result::ok).ok_or(Unled::Upstream)
}

/// Passes bytes both ways until the connection is over.
async fn pumps(seat: &mut Seat, client: &End, broker: &End) -> Finish {
    let mut chance = seat.chance();
    let (settings, passed) = (&seat.settings, &seat.passed);
    let to_broker = Pump::new(Way::ToBroker, (client, broker), settings.clone(), &passed.to_broker, chance.fork());
    let to_client = Pump::new(Way::ToClient, (broker, client), settings.clone(), &passed.to_client, chance.fork());
    let (mut to_broker, mut to_client) = (pin!(to_broker.run()), pin!(to_client.run()));
    let mut over = (None, None);
    let mut control = settings.clone();
    loop {
        tokio::select! {
            biased;
            () = until_reset(&mut control) => {
                let ends = control.borrow().reset;
                return Finish::Reset(ends.unwrap_or(Side::Both));
            }
            how = &mut to_broker, if over.0.is_none() => over.0 = Some(how),
            how = &mut to_client, if over.1.is_none() => over.1 = Some(how),
        }
        if let Some(finish) = finish(over) {
            return finish;
        }
    }
}

/// What becomes of the connection when its ways ended so.
fn finish(over: (Option<Over>, Option<Over>)) -> Option<Finish> {
    let any = |how: Over| over.0 == Some(how) || over.1 == Some(how);
    if any(Over::Cut) || any(Over::Gap) {
        Some(Finish::Reset(Side::Both))
    } else if any(Over::SourceGone) || any(Over::Left) {
        Some(Finish::Abort)
    } else {
        match over {
            (Some(Over::Ended), Some(Over::Ended)) => Some(Finish::Close),
            // A destination that is gone: its last words come the other way first.
            (Some(_), Some(_)) => Some(Finish::Abort),
            _ => None,
        }
    }
}

/// One side is reset; the other knows nothing of it and is listened to, until it is gone, reset or healed as well.
async fn half(seat: &mut Seat, side: Side, reset: TcpStream, other: TcpStream) {
    let healed = seat.settings.borrow().healed;
    seat.tell(Fault::Reset, side, Phase::Begin);
    abort(reset);
    let over = |settings: &Settings| settings.reset == Some(Side::Both) || settings.healed != healed;
    let struck = tokio::select! {
        struck = seat.settings.wait_for(over) => struck.is_ok(),
        () = swallow(&other) => false,
    };
    if struck {
        let rest = if side == Side::Client { Side::Broker } else { Side::Client };
        seat.tell(Fault::Reset, rest, Phase::Begin);
        abort(other);
        seat.tell(Fault::Reset, rest, Phase::End);
    }
    seat.tell(Fault::Reset, side, Phase::End);
}

/// Reads until there is nothing more to come.
async fn swallow(from: &TcpStream) {
    let mut buffer = BytesMut::with_capacity(16 << 10);
    while from.readable().await.is_ok() {
        buffer.clear();
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

async fn until_reset(settings: &mut watch::Receiver<Settings>) {
    if settings.wait_for(|settings| settings.reset.is_some()).await.is_err() {
        // The pumps see that as well, and say so.
        std::future::pending::<()>().await;
    }
}

/// Closes by a reset: what the kernel still has for the peer is thrown away, and the peer is told with `RST`.
pub(super) fn abort(socket: TcpStream) {
    // When it fails, the socket is closed all the same.
    let _ = rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
}
