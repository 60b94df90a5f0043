//! Channels whose sessions the broker hashes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use convoy_core::{Broker, ChannelSpec, ErrorKind, Failure, Message, Received, Topology};
use convoy_rabbitmq::Entry;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::sync::Notify;

use crate::vhost::{CHANNEL, LANES, LIMIT, Vhost};

const SESSIONS: usize = 40;

fn topology() -> Topology {
    Topology::new().channel(ChannelSpec::new(CHANNEL).group("g").group("h"))
}

/// The entries that this broker has. Those that it lacks are refused by name, and that is shown here too.
async fn entries(vhost: &Vhost) -> Vec<Entry> {
    // The one is a plugin that the brokers of this project have turned on, the other built in since 4.3.
    let built_in = vhost.version() >= (4, 3);
    if !built_in {
        let broker = vhost.broker(Entry::ModulusHash).await;
        let error = broker.provision(&topology()).await.expect_err("a type that the broker does not know");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(error.to_string().contains("entry=consistent-hash"), "{error}");
        broker.close(LIMIT).await.unwrap();
    }
    [Some(Entry::ConsistentHash), built_in.then_some(Entry::ModulusHash)].into_iter().flatten().collect()
}

/// A publisher that knows a session and an exchange, and nothing else of convoy.
struct Stranger {
    connection: Connection,
    channel: Channel,
}

impl Stranger {
    async fn new(vhost: &Vhost) -> Self {
        let connection = Connection::connect(&vhost.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { connection, channel }
    }

    async fn publish(&self, session: &str, body: &str) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let exchange = format!("{CHANNEL}.entry");
        let sent =
            self.channel.basic_publish(exchange.as_str().into(), session.into(), options, body.as_bytes(), persistent);
        let confirmed = sent.await.unwrap().await.unwrap();
        assert!(matches!(confirmed, Confirmation::Ack(None)), "{confirmed:?}");
    }

    /// How many messages each lane of a group has.
    async fn depths(&self, group: &str, mark: &str) -> Vec<u32> {
        let mut depths = Vec::new();
        for lane in 0..LANES {
            let queue = format!("{CHANNEL}.{group}.g1.l{LANES}.p500.{mark}.lane.{lane}");
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let asked = self.channel.queue_declare(queue.as_str().into(), passive, FieldTable::default());
            depths.push(asked.await.unwrap().message_count());
        }
        depths
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_hash_and_convoy_meet_in_one_lane_and_in_order() {
    let versions = Vhost::new();
    for entry in entries(&versions).await {
        meet(entry).await;
    }
}

async fn meet(entry: Entry) {
    let vhost = Vhost::new();
    let broker = vhost.broker(entry).await;
    broker.provision(&topology()).await.unwrap();
    broker.provision(&topology()).await.expect("the same again changes nothing");
    assert_eq!(broker.check(&topology()).await.unwrap(), [], "{entry:?}");
    let mark = if entry == Entry::ConsistentHash { "ch" } else { "mh" };
    let (stranger, producer) = (Stranger::new(&vhost).await, broker.producer(CHANNEL).await.unwrap());
    let mut before = stranger.depths("g", mark).await;
    let mut taken = BTreeSet::new();
    for n in 0..SESSIONS {
        let session = format!("session {n}");
        for round in 0..3 {
            stranger.publish(&session, &format!("{}", 2 * round)).await;
            producer.send(Message::new(session.as_str(), format!("{}", 2 * round + 1)).unwrap()).await.unwrap();
        }
        // What a queue says of itself may be a moment old.
        let deadline = tokio::time::Instant::now() + LIMIT;
        let grown = loop {
            let after = stranger.depths("g", mark).await;
            let grown: Vec<u32> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
            if grown.iter().sum::<u32>() == 6 || tokio::time::Instant::now() > deadline {
                before = after;
                break grown;
            }
            tokio::task::yield_now().await;
        };
        let lanes: Vec<usize> = (0..grown.len()).filter(|lane| grown[*lane] > 0).collect();
        assert_eq!((lanes.len(), grown.iter().sum::<u32>()), (1, 6), "{entry:?}: {session} went to {grown:?}");
        taken.extend(lanes);
    }
    assert!(taken.len() > 1, "{entry:?}: sessions are spread: {taken:?}");
    for group in ["g", "h"] {
        consumed_in_order(&broker, group, entry).await;
    }
    stranger.connection.close(200, "done".into()).await.unwrap();
    broker.close(LIMIT).await.unwrap();
}

/// Each group gets everything, and reports nothing as misrouted: that would end the consumer.
async fn consumed_in_order(broker: &Broker, group: &str, entry: Entry) {
    let seen: Arc<Mutex<Vec<(String, u32)>>> = Arc::default();
    let all = Arc::new(Notify::new());
    let handler = {
        let (seen, all) = (Arc::clone(&seen), Arc::clone(&all));
        move |message: Received<String>| {
            let (seen, all) = (Arc::clone(&seen), Arc::clone(&all));
            async move {
                let number = message.body.parse()?;
                let mut seen = seen.lock().unwrap();
                seen.push((message.session().to_string(), number));
                if seen.len() >= SESSIONS * 6 {
                    all.notify_one();
                }
                Ok::<(), Failure>(())
            }
        }
    };
    let done = async move { tokio::time::timeout(LIMIT, all.notified()).await.unwrap_or(()) };
    let processor = broker.consumer(CHANNEL).group(group).processor().max_concurrent_sessions(16);
    processor.run_until(done, handler).await.unwrap();
    let seen = seen.lock().unwrap();
    for n in 0..SESSIONS {
        let session = format!("session {n}");
        let got: Vec<u32> = seen.iter().filter(|(of, _)| *of == session).map(|(_, number)| *number).collect();
        assert_eq!(got, [0, 1, 2, 3, 4, 5], "{entry:?}, {group}: {session}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_mistaken_about_who_hashes_is_refused() {
    let vhost = Vhost::new();
    let hashing = vhost.broker(Entry::ConsistentHash).await;
    hashing.provision(&topology()).await.unwrap();
    let plain = vhost.broker(Entry::Slots).await;
    let error = plain.producer(CHANNEL).await.expect_err("there is no exchange by slots");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let error = plain.consumer(CHANNEL).group("g").open().await.expect_err("the lanes are others");
    assert_eq!(error.kind(), ErrorKind::Topology, "{error:?}");
    assert!(error.to_string().contains("entry"), "{error}");
    let error = plain.provision(&topology()).await.expect_err("the group is pinned");
    assert_eq!(error.kind(), ErrorKind::Topology, "{error:?}");
    let findings = plain.check(&topology()).await.unwrap();
    let codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
    assert!(codes.contains(&"channel-missing") && codes.contains(&"lane-count"), "{codes:?}");
    for broker in [hashing, plain] {
        broker.close(LIMIT).await.unwrap();
    }
}

/// Somebody hashed something else than the session: the group's order would be lost silently.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_the_session_is_misrouted() {
    let vhost = Vhost::new();
    let broker = vhost.broker(Entry::ConsistentHash).await;
    broker.provision(&topology()).await.unwrap();
    let stranger = Stranger::new(&vhost).await;
    let mut headers = FieldTable::default();
    headers.insert("convoy-session".into(), lapin::types::AMQPValue::LongString("a".into()));
    let properties = BasicProperties::default().with_headers(headers);
    let exchange = format!("{CHANNEL}.entry");
    let sent = stranger.channel.basic_publish(
        exchange.as_str().into(),
        "b".into(),
        BasicPublishOptions::default(),
        b"x",
        properties,
    );
    sent.await.unwrap().await.unwrap();
    let never = tokio::time::sleep(LIMIT);
    let processor = broker.consumer(CHANNEL).group("g").processor();
    let error = processor.run_until(never, |_: Received<String>| async { Ok::<(), Failure>(()) }).await;
    let error = error.expect_err("the consumer stops");
    assert_eq!(error.kind(), ErrorKind::Misrouted, "{error:?}");
    stranger.connection.close(200, "done".into()).await.unwrap();
    broker.close(LIMIT).await.unwrap();
}
