//! Messages that no convoy producer would send, from a client that knows nothing of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use convoy_core::{Defective, ErrorKind, Exhausted, Failure, Received, Retry, with_state};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use parking_lot::Mutex;

use crate::seen::Seen;
use crate::stage::{CHANNEL, GROUP, PATIENCE, Raw, SLOTS, Stage, consumer, send, slot, text, until};

crate::traps![hostile_messages_are_reported_and_stop_nothing, a_misrouted_message_stops_a_consumer_by_name];

const LANES: u32 = 2;
const LARGE: usize = 8 << 20;

/// A message of the hostile client: its headers, further properties, its body, and what becomes of it: the code of a dead letter, or it is handled.
struct Hostile {
    name: &'static str,
    headers: Vec<(&'static str, AMQPValue)>,
    more: fn(BasicProperties) -> BasicProperties,
    body: Vec<u8>,
    /// How far from the slot of its session it is published.
    aside: u32,
    code: Option<&'static str>,
}

fn of(name: &'static str, headers: Vec<(&'static str, AMQPValue)>, code: Option<&'static str>) -> Hostile {
    Hostile { name, headers, more: |properties| properties, body: name.as_bytes().to_vec(), aside: 0, code }
}

fn named(mut headers: Vec<(&'static str, AMQPValue)>) -> Vec<(&'static str, AMQPValue)> {
    headers.push(("convoy-session", text(b"hostile")));
    headers
}

fn all() -> Vec<Hostile> {
    let mut table = FieldTable::default();
    table.insert("a".into(), text(b"b"));
    let array = FieldArray::from(vec![text(b"hostile")]);
    let session = |value: AMQPValue| vec![("convoy-session", value)];
    let large = || text(&vec![b'x'; 100_000]);
    let many = || -> Vec<(&'static str, AMQPValue)> {
        let names = (0..200).map(|n| &*Box::leak(format!("h{n}").into_boxed_str()));
        names.map(|name| (name, text(b"v"))).collect()
    };
    vec![
        of("no headers", vec![], Some("no-session")),
        of("an id that is a number", session(AMQPValue::LongLongInt(7)), Some("no-session")),
        of("an id that is a table", session(AMQPValue::FieldTable(table.clone())), Some("no-session")),
        of("an id that is a list", session(AMQPValue::FieldArray(array)), Some("no-session")),
        of("an id that is nothing", session(AMQPValue::Void), Some("no-session")),
        of("an id without a byte", session(text(b"")), Some("no-session")),
        of("an id of 129 bytes", session(text(&[b'x'; 129])), Some("session-too-long")),
        of("an id that fills a frame", session(large()), Some("session-too-long")),
        // Ids are bytes; these are one, and stand where they should.
        of("an id that is no text", session(text(&[0xff, 0xfe, 0x00])), None),
        Hostile { aside: SLOTS / LANES, ..of("in another lane", named(vec![]), Some("misrouted")) },
        of("a header that is no text", named(vec![("bad", text(&[0xff]))]), Some("invalid-headers")),
        of("a header of 100 kB", named(vec![("large", large())]), Some("invalid-headers")),
        of("200 headers", named(many()), Some("invalid-headers")),
        of("a table as a header", named(vec![("table", AMQPValue::FieldTable(table))]), None),
        of("a stamp that is none", named(vec![("convoy-stamp", text(b"x/1/-/0"))]), None),
        of("a stamp that is a number", named(vec![("convoy-stamp", AMQPValue::LongLongInt(-1))]), None),
        of("a name of convoy's own", named(vec![("convoy-dead-code", text(b"forged"))]), None),
        of("a count that is forged", named(vec![("x-delivery-count", AMQPValue::LongLongInt(i64::MIN))]), None),
        Hostile {
            more: |it| it.with_message_id("no uuid at all".into()),
            ..of("a foreign message id", named(vec![]), None)
        },
        Hostile {
            more: |it| it.with_content_type("image/x-none".into()),
            ..of("another content type", named(vec![]), None)
        },
        Hostile { more: |it| it.with_expiration("3600000".into()), ..of("a time to live", named(vec![]), None) },
        Hostile { body: vec![b'x'; LARGE], ..of("a body of 8 MiB", named(vec![]), None) },
        Hostile { body: vec![0xff, 0xfe], ..of("a body that is no text", named(vec![]), Some("handler")) },
        Hostile { body: Vec::new(), ..of("no body", named(vec![]), None) },
    ]
}

async fn publish(raw: &Raw, hostile: &Hostile) -> bool {
    let mut headers = FieldTable::default();
    let mut key = slot("hostile");
    for (name, value) in &hostile.headers {
        if let (&"convoy-session", AMQPValue::LongString(id)) = (name, value)
            && (1..=128).contains(&id.as_bytes().len())
        {
            key = convoy_core::SessionId::new(id.as_bytes().to_vec()).expect("an id").lane_hash() % SLOTS;
        }
        headers.insert((*name).into(), value.clone());
    }
    let key = (key + hostile.aside) % SLOTS;
    let properties =
        BasicProperties::default().with_headers(headers).with_delivery_mode(2).with_type(hostile.name.into());
    raw.publish(CHANNEL, &key.to_string(), (hostile.more)(properties), &hostile.body).await
}

type Handled = Arc<Mutex<Vec<(String, usize)>>>;

async fn note(handled: Handled, message: Received<String>) -> Result<(), Failure> {
    let name = message.type_name().map_or_else(|| message.body.clone(), str::to_owned);
    handled.lock().push((name, message.body.len()));
    Ok(())
}

async fn hostile_messages_are_reported_and_stop_nothing(stage: Arc<Stage>) {
    let broker = stage.provisioned(stage.options(LANES)).await;
    let (raw, hostile) = (stage.raw().await, all());
    let mut good = Vec::new();
    for (n, it) in hostile.iter().enumerate() {
        let around: Vec<String> = (0..4).map(|s| format!("s{s}/{n}")).collect();
        send(&broker, &around).await;
        good.extend(around);
        assert!(publish(&raw, it).await, "{}: the broker takes it", it.name);
    }
    let (handled, seen) = (Handled::default(), Seen::default());
    let retry = Retry::fixed(Duration::from_millis(10)).at_most(2).then(Exhausted::DeadLetter);
    let processor = consumer(&broker).observer(seen.clone()).misrouted(Defective::DeadLetter).processor().retry(retry);
    let processor = processor.start(with_state(Arc::clone(&handled), note)).await.expect("a processor");
    let all = good.len() + hostile.len();
    until("all is settled", || seen.settled() >= all).await;
    assert_eq!((seen.settled(), processor.snapshot().lost), (all, 0), "each once, and no right was lost");
    assert!(processor.drain().await.expect("drained").drained);

    // Good messages: each once, in order, beside everything else.
    for session in 0..4 {
        let is_of = |body: &&String| body.starts_with(&format!("s{session}/"));
        let got: Vec<String> = handled.lock().iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(got.iter().filter(is_of).collect::<Vec<_>>(), good.iter().filter(is_of).collect::<Vec<_>>());
    }
    // The others: handled as they are, or set aside under the name of what is wrong with them.
    let store = broker.dead_letters(CHANNEL, GROUP).await.expect("the store");
    let dead = store.list(0, 100).await.expect("listed");
    let dead: BTreeMap<String, (String, usize)> = dead
        .iter()
        .map(|it| (it.content.type_name().unwrap_or_default().to_owned(), (it.code.clone(), it.content.body().len())))
        .collect();
    for it in &hostile {
        let (got, set_aside) = (handled.lock().iter().find(|(name, _)| name == it.name).cloned(), dead.get(it.name));
        match it.code {
            None => assert_eq!(got.map(|(_, length)| length), Some(it.body.len()), "{}: {set_aside:?}", it.name),
            Some(code) => {
                assert_eq!(set_aside, Some(&(code.to_owned(), it.body.len())), "{}", it.name);
                assert_eq!(got, None, "{}", it.name);
            }
        }
    }
    assert_eq!(dead.len(), hostile.iter().filter(|it| it.code.is_some()).count(), "{dead:?}");
}

async fn a_misrouted_message_stops_a_consumer_by_name(stage: Arc<Stage>) {
    let broker = stage.provisioned(stage.options(LANES)).await;
    let misrouted = Hostile { aside: SLOTS / LANES, ..of("in another lane", named(vec![]), None) };
    assert!(publish(&stage.raw().await, &misrouted).await, "the broker takes it");
    let handled = Handled::default();
    let processor = consumer(&broker).processor().start(with_state(Arc::clone(&handled), note)).await.expect("started");
    let failed = tokio::time::timeout(PATIENCE, processor.failed()).await.expect("it is noticed").expect("an error");
    assert_eq!(failed.kind(), ErrorKind::Misrouted, "{failed:?}");
    assert_eq!(*handled.lock(), [], "it is not handled");
    // It is where it was, for whoever puts it right.
    processor.drain().await.expect("drained");
    let seen = Seen::default();
    let again = crate::members::idle(&broker, &seen).await;
    until("it is there", || seen.delivered() == ["in another lane"]).await;
    again.close(PATIENCE).await.expect("close");
}
