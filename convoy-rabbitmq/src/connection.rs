//! One connection: made with a limit, watched, and never made again by the client library itself.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use convoy_core::backend::LeaseCell;
use convoy_core::runtime::instant;
use convoy_core::{Moment, Result};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, Consumer, Event};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};
use uuid::Uuid;

use crate::config::Options;
use crate::nodes::Node;
use crate::{error, names, tls};

/// A connection that lives until it breaks or is let go. Rights that rest on it end the moment it is seen to break.
pub(crate) struct Link {
    connection: Connection,
    tell: watch::Sender<bool>,
    shared: Arc<Shared>,
    limit: Duration,
    /// The name of a queue that only this connection has: once it is gone, nothing of this connection can land any more.
    mark: Option<String>,
    /// Registrations that outlived the link, see [`keep`](Self::keep).
    kept: Mutex<Vec<(Channel, Consumer)>>,
}

/// So long a connection that is given up may take to close. It need not be answered: it is enough that nothing is said to the broker before.
const GIVEN_UP: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Shared {
    leases: Mutex<Vec<Weak<LeaseCell>>>,
}

impl Shared {
    fn end_all(&self) {
        for lease in self.leases.lock().drain(..).filter_map(|lease| lease.upgrade()) {
            lease.end();
        }
    }
}

impl Link {
    /// Connects to the node whose turn it is. One that cannot be reached is passed over: all have their turn, each within the limit of the options, before this fails.
    pub(crate) async fn open(options: &Options, purpose: &str) -> Result<Arc<Self>> {
        let mut failed = error::disconnected("connect");
        for node in options.nodes.turn() {
            match Self::open_at(options, node, purpose).await {
                Err(why) if !error::is_final(&why) => failed = why,
                opened => return opened,
            }
        }
        Err(failed)
    }

    async fn open_at(options: &Options, (host, port): &Node, purpose: &str) -> Result<Arc<Self>> {
        let uri = uri(options, host, port.unwrap_or(options.usual_port()));
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("convoy {purpose}").into())
            .with_client_property("product".into(), "convoy".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let builder = builder(options, uri, properties)?;
        let made = timeout(options.connect_limit, builder.connect()).await;
        let connection = made
            .map_err(|_| error::no_answer("connect").with("host", host).with_outcome(convoy_core::Outcome::NotApplied))?
            .map_err(|e| error::of(e, "connect").with("host", host))?;
        let tell = watch::Sender::new(false);
        let told = tell.clone();
        let shared = Arc::new(Shared::default());
        let mut events = connection.events_listener();
        let watched = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    // The broker closed one AMQP channel: that is told here too, and ends nothing else.
                    Event::Error(error) if error.is_amqp_soft_error() => {}
                    Event::Error(error) => {
                        tracing::warn!(%error, "connection broke");
                        break;
                    }
                    Event::ConnectionBlocked(reason) => tracing::warn!(reason, "the broker blocks publishers"),
                    Event::ConnectionUnblocked => tracing::info!("the broker takes messages again"),
                    _ => {}
                }
            }
            if let Some(shared) = watched.upgrade() {
                shared.end_all();
            }
            told.send_replace(true);
        });
        Ok(Arc::new(Self { connection, tell, shared, limit: options.answer_limit, mark: None, kept: Mutex::default() }))
    }

    /// As [`open`](Self::open), with a [`mark`](Self::mark) of its own.
    pub(crate) async fn open_marked(options: &Options, purpose: &str) -> Result<Arc<Self>> {
        let mut link = Self::open(options, purpose).await?;
        let mark = format!("convoy.link.{}", Uuid::now_v7());
        let channel = link.channel("connect").await?;
        let exclusive = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(names::short(mark.clone()), exclusive, FieldTable::default());
        let declared = link.ask("connect", declared).await;
        declared.map_err(|why| error::lacks(why, "configure", "queue", &mark))?;
        // Nobody else has it yet.
        if let Some(link) = Arc::get_mut(&mut link) {
            link.mark = Some(mark);
        }
        Ok(link)
    }

    pub(crate) fn mark(&self) -> Option<&str> {
        self.mark.as_deref()
    }

    pub(crate) fn is_broken(&self) -> bool {
        *self.tell.borrow() || !self.connection.status().connected()
    }

    /// Whether the broker takes no messages from this connection.
    pub(crate) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// The largest frame.
    pub(crate) fn frame(&self) -> u32 {
        self.connection.configuration().frame_max()
    }

    /// Waits until it broke.
    pub(crate) async fn broken(&self) {
        let mut broken = self.tell.subscribe();
        // An error means that this is gone itself.
        let _ = broken.wait_for(|broken| *broken).await;
    }

    /// It is of no use any more, whatever the client library thinks.
    pub(crate) fn give_up(&self) {
        self.shared.end_all();
        self.tell.send_replace(true);
    }

    /// Keeps a registration until the connection is closed. When a consumer is dropped, the client library cancels it, and the broker then gives its lane to the next one
    /// *before* it takes back what is not acknowledged: that comes late, behind newer messages. A link that is given up may well carry that cancel still: it may be
    /// deaf on our side alone.
    pub(crate) fn keep(&self, channel: Channel, consumer: Consumer) {
        self.kept.lock().push((channel, consumer));
    }

    /// Closes a connection that is of no use any more; what hangs on it goes back to the broker as a whole, in order. Only then what was kept is let go.
    pub(crate) async fn bury(&self) {
        self.give_up();
        timeout(GIVEN_UP, self.connection.close(200, "given up".into())).await.ok();
        self.kept.lock().clear();
    }

    /// From now on this right ends when the connection does.
    pub(crate) fn guard(&self, lease: &Arc<LeaseCell>) {
        let mut leases = self.shared.leases.lock();
        leases.retain(|lease| lease.strong_count() > 0);
        leases.push(Arc::downgrade(lease));
        drop(leases);
        if self.is_broken() {
            lease.end();
        }
    }

    /// Waits for an answer of the broker: at most for the limit, and not when the connection broke.
    pub(crate) async fn ask<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T> {
        self.ask_raw(operation, request).await?.map_err(|e| error::of(e, operation))
    }

    /// As [`ask`](Self::ask), with the broker's own no.
    pub(crate) async fn ask_raw<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<lapin::Result<T>> {
        tokio::select! {
            biased;
            answer = timeout(self.limit, request) => answer.map_err(|_| error::no_answer(operation)),
            () = self.broken() => Err(error::disconnected(operation)),
        }
    }

    /// A new AMQP channel.
    pub(crate) async fn channel(&self, operation: &'static str) -> Result<Channel> {
        self.ask(operation, self.connection.create_channel()).await
    }

    /// Ends it politely, at most until then; what hangs on it is given back by the broker.
    pub(crate) async fn close(&self, until: Moment) -> Result<()> {
        self.shared.end_all();
        if self.is_broken() {
            return Ok(());
        }
        match timeout_at(instant(until), self.connection.close(200, "closed".into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) if self.is_broken() => Ok(()),
            Ok(Err(e)) => Err(error::of(e, "close")),
            Err(_) => Err(error::no_answer("close")),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.end_all();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("broken", &self.is_broken()).finish_non_exhaustive()
    }
}

/// A consumer on an AMQP channel. However it is let go, the consumer outlives the channel: the client library cancels a consumer that is dropped, and after a cancel the broker
/// gives the queue to the next one before it takes back what is not acknowledged.
pub(crate) struct Registration {
    link: Arc<Link>,
    channel: Channel,
    consumer: Option<Consumer>,
}

impl Registration {
    pub(crate) fn new(link: &Arc<Link>, channel: &Channel, consumer: Consumer) -> Self {
        Self { link: Arc::clone(link), channel: channel.clone(), consumer: Some(consumer) }
    }

    /// The next delivery, or the end.
    pub(crate) async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        self.consumer.as_mut()?.next().await
    }

    /// Its channel is closed.
    pub(crate) fn let_go(&mut self) {
        self.consumer = None;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            self.link.keep(self.channel.clone(), consumer);
        }
    }
}

/// Waits longer after each failure to connect: from 0.1 s to 5 s, with chance in it.
#[derive(Debug)]
pub(crate) struct Pause(Duration);

impl Pause {
    const LEAST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(5);

    pub(crate) fn new() -> Self {
        Self(Self::LEAST)
    }

    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.0;
        self.0 = (whole * 2).min(Self::MOST);
        whole / 2 + whole.mul_f64(fastrand::f64() / 2.0)
    }
}

type Builder = lapin::DefaultConnectionBuilder;

fn builder(options: &Options, uri: AMQPUri, properties: ConnectionProperties) -> Result<Builder> {
    let builder = Builder::new().map_err(|e| error::of(e, "connect"))?;
    Ok(builder.with_uri(uri).with_properties(properties).with_tls_config(tls::config(options)?))
}

fn uri(options: &Options, host: &str, port: u16) -> AMQPUri {
    AMQPUri {
        scheme: if options.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: options.user.clone(), password: options.password.clone() },
            host: host.to_owned(),
            port,
        },
        vhost: options.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX)),
            connection_timeout: Some(u64::try_from(options.connect_limit.as_millis()).unwrap_or(u64::MAX)),
            ..AMQPQueryString::default()
        },
    }
}

/// A connection for publishing, made when it is needed and made again when it broke. Publishing has one of its own, since the broker stops reading from connections
/// that publish while it has an alarm: acknowledgements must not wait behind that.
#[derive(Debug)]
pub(crate) struct Publishing {
    options: Options,
    current: tokio::sync::Mutex<Option<Arc<Link>>>,
}

impl Publishing {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, current: tokio::sync::Mutex::new(None) }
    }

    /// The connection that there is, or a new one.
    pub(crate) async fn link(&self) -> Result<Arc<Link>> {
        let mut current = self.current.lock().await;
        match &*current {
            Some(link) if !link.is_broken() => Ok(Arc::clone(link)),
            _ => {
                *current = None;
                let link = Link::open_marked(&self.options, "publisher").await?;
                Ok(Arc::clone(current.insert(link)))
            }
        }
    }

    pub(crate) async fn close(&self, until: Moment) -> Result<()> {
        let Ok(mut current) = timeout_at(instant(until), self.current.lock()).await else {
            return Err(error::no_answer("close"));
        };
        match current.take() {
            Some(link) => link.close(until).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Whichever has the first turn: both are tried, and the failure names one of them.
    #[tokio::test]
    async fn a_node_that_cannot_be_reached_is_passed_over() {
        let nodes = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let ports = nodes.each_ref().map(|node| node.local_addr().unwrap().port());
        let options = Options::new("127.0.0.1").port(ports[0]).node("localhost", ports[1]);
        let options = options.connect_limit(Duration::from_secs(20));
        let [first, second] = nodes.each_ref().map(|node| async { drop(node.accept().await.unwrap()) });
        let both = async { tokio::join!(first, second) };
        let (opened, _) = timeout(Duration::from_secs(60), async { tokio::join!(Link::open(&options, "test"), both) })
            .await
            .expect("each node is connected to");
        assert_eq!(opened.unwrap_err().kind(), convoy_core::ErrorKind::Disconnected);
    }
}
