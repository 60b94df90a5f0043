//! Channels whose sessions the broker hashes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use convoy_core::{Broker, ChannelSpec, ErrorKind, Failure, Message, Received, Topology};
use convoy_rabbitmq::{Entry, RabbitBroker};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::sync::Notify;

use crate::vhost::{CHANNEL, LANES, LIMIT, Vhost};

const SESSIONS: usize = 40;

fn topology() -> Topology {
    Topology::new().channel(ChannelSpec::new(CHANNEL).group("g").group("h"))
}

/// A channel that the broker hashes, provisioned. Before 4.3 no broker does: then the refusal is what is shown, and that it leaves nothing behind.
async fn hashed(vhost: &Vhost) -> Option<Broker> {
    let broker = vhost.broker(Entry::ModulusHash).await;
    if vhost.version() >= (4, 3) {
        broker.provision(&topology()).await.unwrap();
        return Some(broker);
    }
    let error = broker.provision(&topology()).await.expect_err("a type that the broker does not know");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.to_string().contains("entry=slots"), "{error}");
    broker.close(LIMIT).await.unwrap();
    let plain = vhost.broker(Entry::Slots).await;
    plain.provision(&topology()).await.expect("nothing is in the way");
    assert_eq!(plain.check(&topology()).await.unwrap(), []);
    plain.close(LIMIT).await.unwrap();
    println!("this broker does not hash: only its refusal was shown");
    None
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
    async fn depths(&self, group: &str) -> Vec<u32> {
        let mut depths = Vec::new();
        for lane in 0..LANES {
            let queue = lane_queue(group, lane);
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let asked = self.channel.queue_declare(queue.as_str().into(), passive, FieldTable::default());
            depths.push(asked.await.unwrap().message_count());
        }
        depths
    }
}

fn lane_queue(group: &str, lane: u32) -> String {
    format!("{CHANNEL}.{group}.g1.l{LANES}.p500.mh.lane.{lane}")
}

fn hash_exchange(group: &str) -> String {
    format!("convoy.{CHANNEL}.{group}.g1.l{LANES}.p500.mh.hash")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_hash_and_convoy_meet_in_one_lane_and_in_order() {
    let vhost = Vhost::new();
    let Some(broker) = hashed(&vhost).await else { return };
    assert_eq!(broker.check(&topology()).await.unwrap(), []);
    let (stranger, producer) = (Stranger::new(&vhost).await, broker.producer(CHANNEL).await.unwrap());
    let groups = ["g", "h"];
    let mut before = [stranger.depths("g").await, stranger.depths("h").await];
    let mut lanes: Vec<[usize; 2]> = Vec::new();
    // Each session six times, and once more after the group was provisioned again, which changes nothing.
    for n in (0..SESSIONS).chain(0..SESSIONS) {
        let (session, again) = (format!("session {n}"), lanes.len() >= SESSIONS);
        if again && n == 0 {
            broker.provision(&topology()).await.expect("the same again");
        }
        for round in (0..3).filter(|_| !again) {
            stranger.publish(&session, &format!("{}", 2 * round)).await;
            producer.send(Message::new(session.as_str(), format!("{}", 2 * round + 1)).unwrap()).await.unwrap();
        }
        if again {
            stranger.publish(&session, "6").await;
        }
        let sent = if again { 1 } else { 6 };
        let mut taken = [0; 2];
        for ((group, before), taken) in groups.iter().zip(&mut before).zip(&mut taken) {
            let (now, grown) = grown(&stranger, group, before, sent).await;
            *before = now;
            let lanes: Vec<usize> = (0..grown.len()).filter(|lane| grown[*lane] > 0).collect();
            assert_eq!((lanes.len(), grown.iter().sum::<u32>()), (1, sent), "{group}: {session} went to {grown:?}");
            *taken = lanes[0];
        }
        if again {
            assert_eq!(taken, lanes[n], "{session} is where it was");
        }
        lanes.push(taken);
    }
    assert!(lanes.iter().collect::<BTreeSet<_>>().len() > 1, "sessions are spread: {lanes:?}");
    for group in groups {
        consumed_in_order(&broker, group).await;
    }
    stranger.connection.close(200, "done".into()).await.unwrap();
    broker.close(LIMIT).await.unwrap();
}

/// What the lanes of a group have, and by how much that is more than before, once it is so much in all: what a queue says of itself may be a moment old.
async fn grown(stranger: &Stranger, group: &str, before: &[u32], sent: u32) -> (Vec<u32>, Vec<u32>) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let now = stranger.depths(group).await;
        let grown: Vec<u32> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        if grown.iter().sum::<u32>() >= sent || tokio::time::Instant::now() > deadline {
            return (now, grown);
        }
        tokio::task::yield_now().await;
    }
}

/// Each group gets everything, and reports nothing as misrouted: that would end the consumer.
async fn consumed_in_order(broker: &Broker, group: &str) {
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
                if seen.len() >= SESSIONS * 7 {
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
        assert_eq!(got, [0, 1, 2, 3, 4, 5, 6], "{group}: {session}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_mistaken_about_who_hashes_is_refused() {
    let vhost = Vhost::new();
    let Some(hashing) = hashed(&vhost).await else { return };
    let plain = vhost.broker(Entry::Slots).await;
    let error = plain.producer(CHANNEL).await.expect_err("there is no exchange by slots");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let error = plain.consumer(CHANNEL).group("g").open().await.expect_err("the lanes are others");
    assert_eq!(error.kind(), ErrorKind::Topology, "{error:?}");
    assert!(error.to_string().contains("entry"), "{error}");
    let findings = plain.check(&topology()).await.unwrap();
    let codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
    for code in ["entry", "channel-missing", "lane-count"] {
        assert!(codes.contains(&code), "{code}: {codes:?}");
    }
    // Not with a group that is there, nor with a new one, nor by a producer that makes what it needs.
    let of_new = Topology::new().channel(ChannelSpec::new(CHANNEL).group("new"));
    for topology in [topology(), of_new] {
        let error = plain.provision(&topology).await.expect_err("a channel has one entry");
        assert_eq!(error.kind(), ErrorKind::Topology, "{error:?}");
        assert!(error.to_string().contains("entry=modulus-hash"), "{error}");
    }
    let making = RabbitBroker::connect(vhost.options(Entry::Slots).auto_create(true)).await.unwrap();
    let making = Broker::new(making);
    let error = making.producer(CHANNEL).await.expect_err("a channel has one entry");
    assert_eq!(error.kind(), ErrorKind::Topology, "{error:?}");
    assert_eq!(hashing.check(&topology()).await.unwrap(), [], "and nothing was made");
    for broker in [hashing, plain, making] {
        broker.close(LIMIT).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_not_whole_is_found_and_a_lost_lane_is_not_made_again_in_passing() {
    let vhost = Vhost::new();
    let Some(broker) = hashed(&vhost).await else { return };
    let codes = async || {
        let findings = broker.check(&topology()).await.unwrap();
        findings.iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    // As when its provisioning was interrupted.
    vhost.delete("exchanges", &format!("convoy.{CHANNEL}.g.members"));
    assert_eq!(codes().await, ["entry-missing"]);
    let error = broker.consumer(CHANNEL).group("g").open().await.expect_err("perhaps nothing comes to it");
    assert_eq!(error.kind(), ErrorKind::Topology, "{error:?}");
    broker.provision(&topology()).await.unwrap();
    assert_eq!(codes().await, [""; 0]);

    vhost.delete("exchanges", &hash_exchange("g"));
    assert_eq!(codes().await, ["entry-missing"]);
    let making = RabbitBroker::connect(vhost.options(Entry::ModulusHash).auto_create(true)).await.unwrap();
    let making = Broker::new(making);
    making.consumer(CHANNEL).group("g").open().await.expect("it is made again").close(LIMIT).await.unwrap();
    assert_eq!(codes().await, [""; 0]);

    // The broker has moved its sessions to the other lanes by now.
    vhost.delete("queues", &lane_queue("g", 3));
    assert_eq!(codes().await, ["lane-missing"]);
    let error = broker.provision(&topology()).await.expect_err("it would move them once more");
    assert_eq!(error.kind(), ErrorKind::Topology, "{error:?}");
    assert!(error.to_string().contains(&hash_exchange("g")), "{error}");
    vhost.delete("exchanges", &hash_exchange("g"));
    broker.provision(&topology()).await.expect("what the error said was done");
    assert_eq!(codes().await, [""; 0]);
    for broker in [broker, making] {
        broker.close(LIMIT).await.unwrap();
    }
}

/// Something else than the session was hashed: the group's order would be lost silently.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_hashed_by_another_key_is_misrouted() {
    let session = ("convoy-session", AMQPValue::LongString("a".into()));
    let further = ("CC", AMQPValue::FieldArray(vec![AMQPValue::LongString("c".into())].into()));
    for (key, headers) in [("b", vec![session.clone()]), ("a", vec![session, further])] {
        let vhost = Vhost::new();
        let Some(broker) = hashed(&vhost).await else { return };
        let stranger = Stranger::new(&vhost).await;
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name.into(), value);
        }
        let properties = BasicProperties::default().with_headers(table);
        let (exchange, options) = (format!("{CHANNEL}.entry"), BasicPublishOptions::default());
        let sent = stranger.channel.basic_publish(exchange.as_str().into(), key.into(), options, b"x", properties);
        sent.await.unwrap().await.unwrap();
        let never = tokio::time::sleep(LIMIT);
        let processor = broker.consumer(CHANNEL).group("g").processor();
        let error = processor.run_until(never, |_: Received<String>| async { Ok::<(), Failure>(()) }).await;
        let error = error.expect_err("the consumer stops");
        assert_eq!(error.kind(), ErrorKind::Misrouted, "{error:?}");
        stranger.connection.close(200, "done".into()).await.unwrap();
        broker.close(LIMIT).await.unwrap();
    }
}
