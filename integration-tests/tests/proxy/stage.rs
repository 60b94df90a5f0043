//! A broker that echoes or does as it is told, a proxy before it, and clients.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use convoy_conformance::faults::proxy::{Injected, Proxy};
use convoy_conformance::history::{Fault, Phase, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// No wait takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// How long something is looked for that must not come.
pub(crate) const QUIET: Duration = Duration::from_millis(120);

pub(crate) async fn limited<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.expect("done within the limit")
}

pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    pub(crate) told: Arc<Mutex<Vec<Injected>>>,
    listener: TcpListener,
}

impl Stage {
    pub(crate) async fn new(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let upstream = listener.local_addr().expect("an address");
        let proxy = Proxy::start_telling(upstream, seed, move |fault| log.lock().expect("a log").push(*fault));
        Self { proxy: proxy.await.expect("a proxy"), told, listener }
    }

    /// A client's socket and the broker's, joined by the proxy.
    pub(crate) async fn pair(&self) -> (TcpStream, TcpStream) {
        let (client, broker) = limited(async { tokio::join!(self.client(), self.broker()) }).await;
        (client.expect("a connection"), broker)
    }

    pub(crate) async fn client(&self) -> io::Result<TcpStream> {
        connect(self.proxy.address()).await
    }

    pub(crate) async fn broker(&self) -> TcpStream {
        let (broker, _) = limited(self.listener.accept()).await.expect("a connection");
        broker.set_nodelay(true).expect("a socket option");
        broker
    }

    /// Whether a connection reaches the broker.
    pub(crate) async fn reaches_broker(&self) -> bool {
        tokio::time::timeout(QUIET, self.listener.accept()).await.is_ok()
    }

    /// Echoes whatever connects, until the set is dropped.
    pub(crate) fn echo(self) -> (Proxy, JoinSet<()>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut echoes = JoinSet::new();
            while let Ok((mut socket, _)) = self.listener.accept().await {
                let _ = socket.set_nodelay(true);
                echoes.spawn(async move {
                    let (mut read, mut write) = socket.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.shutdown().await;
                });
            }
        });
        (self.proxy, tasks)
    }

    /// What was told so far of this connection.
    pub(crate) fn told(&self, connection: u64) -> Vec<(Fault, Side, Phase)> {
        let told = self.told.lock().expect("a log");
        told.iter().filter(|told| told.connection == Some(connection)).map(|t| (t.fault, t.side, t.phase)).collect()
    }

    /// Waits until so many connections live.
    pub(crate) async fn until_living(&self, count: usize) {
        limited(async {
            while self.proxy.connections().len() != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = limited(TcpStream::connect(address)).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

pub(crate) async fn send(to: &mut TcpStream, bytes: &[u8]) {
    limited(to.write_all(bytes)).await.expect("written");
}

/// Reads exactly these bytes.
pub(crate) async fn expect(from: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    limited(from.read_exact(&mut read)).await.expect("bytes");
    assert!(read == bytes, "other bytes came");
}

/// Nothing comes for a while, neither bytes nor an end.
pub(crate) async fn quiet(from: &mut TcpStream) {
    let read = tokio::time::timeout(QUIET, from.read(&mut [0; 64])).await;
    assert!(read.is_err(), "{read:?} came");
}

/// The end, after whatever else came, and how many bytes that was.
pub(crate) async fn end(from: &mut TcpStream) -> (usize, io::Result<()>) {
    let (mut all, mut buffer) = (0, vec![0; 4096]);
    loop {
        match limited(from.read(&mut buffer)).await {
            Ok(0) => return (all, Ok(())),
            Ok(read) => all += read,
            Err(error) => return (all, Err(error)),
        }
    }
}

pub(crate) async fn expect_reset(from: &mut TcpStream) {
    let (_, end) = end(from).await;
    assert_eq!(end.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
}

pub(crate) async fn expect_closed(from: &mut TcpStream) {
    end(from).await.1.expect("an end in order");
}

/// Random bytes of a seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}
