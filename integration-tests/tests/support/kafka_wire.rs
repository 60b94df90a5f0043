//! The link between clients and a broker, which can be spoiled for one client alone.
//!
//! A client of Kafka goes where the broker tells it to: so what the broker says of its own address is replaced by this one's. Whose a connection is says its first request.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What passes on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Everything.
    Open,
    /// Nothing for now.
    Hold,
    /// Nothing any more, unseen.
    Drop,
    /// It is cut.
    Cut,
}

/// A port that leads to the broker.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) port: u16,
    links: Arc<Mutex<Links>>,
}

#[derive(Debug, Default)]
struct Links {
    all: Vec<Link>,
    /// Clients that find no way in.
    refused: HashSet<String>,
    frozen: bool,
}

#[derive(Debug)]
struct Link {
    client: String,
    gate: watch::Sender<Gate>,
}

/// The longest answer in which the broker's address is looked for.
const LOOKED_INTO: usize = 1 << 20;

impl Wire {
    /// Starts one, on the runtime that it is called from.
    pub(crate) async fn start(broker: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let links: Arc<Mutex<Links>> = Arc::default();
        let shared = Arc::clone(&links);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let links = Arc::clone(&shared);
                tokio::spawn(async move {
                    // A connection that ends is the business of its two ends.
                    carry(stream, broker, port, links).await.ok();
                });
            }
        });
        Ok(Self { port, links })
    }

    /// Changes what passes on every connection of a client; gives how many there are.
    pub(crate) fn set(&self, client: &str, gate: Gate) -> usize {
        let links = self.links.lock();
        let of_it = links.all.iter().filter(|link| link.client == client);
        of_it.inspect(|link| _ = link.gate.send_replace(gate)).count()
    }

    /// Lets nobody of this name in any more, or again.
    pub(crate) fn refuse(&self, client: &str, on: bool) {
        let mut links = self.links.lock();
        if on {
            links.refused.insert(client.to_owned())
        } else {
            links.refused.remove(client)
        };
    }

    /// Holds everything, or lets it go on; gives how many connections there are.
    pub(crate) fn freeze(&self, on: bool) -> usize {
        let mut links = self.links.lock();
        links.frozen = on;
        let gate = if on { Gate::Hold } else { Gate::Open };
        links.all.iter().inspect(|link| _ = link.gate.send_replace(gate)).count()
    }
}

async fn carry(stream: TcpStream, broker: u16, port: u16, links: Arc<Mutex<Links>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut from_client, to_client) = stream.into_split();
    let first = frame(&mut from_client).await?;
    let client = client_of(&first);
    let (gate, mut seen) = {
        let mut links = links.lock();
        if links.refused.contains(&client) {
            return Ok(());
        }
        let (gate, seen) = watch::channel(if links.frozen { Gate::Hold } else { Gate::Open });
        links.all.retain(|link| link.gate.receiver_count() > 0);
        links.all.push(Link { client, gate: gate.clone() });
        (gate, seen)
    };
    let upstream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], broker))).await?;
    upstream.set_nodelay(true)?;
    let (from_broker, mut to_broker) = upstream.into_split();
    let answers = tokio::spawn(pump(from_broker, to_client, gate.subscribe(), move |frame| told(frame, broker, port)));
    drop(gate);
    if pass(&mut seen).await? {
        to_broker.write_all(&first).await?;
    }
    let asked = pump(from_client, to_broker, seen, |_| {}).await;
    answers.abort();
    asked
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut gate: watch::Receiver<Gate>,
    mut change: impl FnMut(&mut Vec<u8>),
) -> io::Result<()> {
    loop {
        let mut frame = tokio::select! {
            frame = frame(&mut from) => frame?,
            cut = gate.wait_for(|gate| *gate == Gate::Cut) => return cut.map(|_| ()).map_err(|_| gone()),
        };
        change(&mut frame);
        if pass(&mut gate).await? {
            to.write_all(&frame).await?;
        }
    }
}

/// Waits until it is clear what becomes of something: whether it passes.
async fn pass(gate: &mut watch::Receiver<Gate>) -> io::Result<bool> {
    let now = *gate.wait_for(|gate| *gate != Gate::Hold).await.map_err(|_| gone())?;
    match now {
        Gate::Open => Ok(true),
        Gate::Cut => Err(gone()),
        _ => Ok(false),
    }
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// A request or an answer, with its length before it.
async fn frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let of_it = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if of_it > 256 << 20 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; 4 + of_it];
    frame[..4].copy_from_slice(&length);
    from.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

/// The name in the header of a request: behind its length, what is asked in which version, and a number.
fn client_of(request: &[u8]) -> String {
    let name = request.get(12..14).and_then(|length| {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        request.get(14..14 + length)
    });
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}

/// Replaces the broker's port behind its host by this one's.
fn told(frame: &mut [u8], broker: u16, port: u16) {
    const HOST: &[u8] = b"127.0.0.1";
    if frame.len() > LOOKED_INTO {
        return;
    }
    let mut wanted = HOST.to_vec();
    wanted.extend_from_slice(&u32::from(broker).to_be_bytes());
    let places: Vec<usize> =
        frame.windows(wanted.len()).enumerate().filter(|(_, it)| *it == wanted).map(|(at, _)| at).collect();
    for at in places {
        let of_port = at + HOST.len();
        frame[of_port..of_port + 4].copy_from_slice(&u32::from(port).to_be_bytes());
    }
}
