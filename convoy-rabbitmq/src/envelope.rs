//! How a message looks on the wire, and how what is on the wire looks as a message.
//!
//! | AMQP | what |
//! |---|---|
//! | body | the body |
//! | `message-id` | the message's id, as a UUID |
//! | `content-type` | the content type |
//! | `type` | the type name |
//! | header `convoy-session` | the session id: text, or bytes |
//! | header `convoy-stamp` | `producer/number/prev/sent`: the producer's incarnation, its number for the message, that of this session's message before it (with `-` before it when one was skipped in between), and when it was sent, in microseconds since 1970. One text, since every header costs the broker and both clients |
//! | other headers | the message's own |
//!
//! A publisher in another language needs `convoy-session`, and the session's slot as routing key; see [the crate](crate).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use convoy_core::backend::{DeadLetter, Origin, Reason};
use convoy_core::{
    Content, Defect, Error, ErrorKind, Headers, Inbound, MessageId, Position, ProducerId, Redelivered, Result,
    SessionId, Stamp,
};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use uuid::Uuid;

use crate::entry::Entry;
use crate::names;

const SESSION: &str = "convoy-session";
/// RabbitMQ's own: where a message is sent to beside its routing key.
const FURTHER_KEYS: &str = "CC";
const STAMP: &str = "convoy-stamp";
/// Names that are too long for the properties of the protocol, which hold 255 bytes.
const LONG_TYPE: &str = "convoy-type";
const LONG_CONTENT_TYPE: &str = "convoy-content-type";

/// Of a dead letter.
const DEAD_COPY: &str = "convoy-dead-copy";
const DEAD_CODE: &str = "convoy-dead-code";
const DEAD_DETAIL: &str = "convoy-dead-detail";
const DEAD_ATTEMPTS: &str = "convoy-dead-attempts";
const DEAD_SINCE: &str = "convoy-dead-since";
const DEAD_LONE: &str = "convoy-dead-lone";

/// A probe: whoever gets it has the lane.
const PROBE: &str = "convoy-probe";

/// The broker reads these itself: the first two route copies elsewhere.
const BROKERS_OWN: [&str; 2] = ["CC", "BCC"];

type Table = BTreeMap<ShortString, AMQPValue>;

/// What the properties may take: they leave in one frame.
const ROOM_BESIDE_HEADERS: usize = 4 * 1024;

/// The properties of a message that is sent.
pub(crate) fn outgoing(session: &SessionId, content: &Content, frame: u32) -> Result<BasicProperties> {
    let mut table = Table::new();
    let mut size = 0;
    for (name, value) in content.headers().iter() {
        if BROKERS_OWN.contains(&name) {
            let why =
                format!("the broker reads the header {name} itself, and sends copies elsewhere; use another name");
            return Err(Error::new(ErrorKind::InvalidMessage, "send").because(why).with("header", name));
        }
        size += name.len() + value.len() + 8;
        table.insert(names::short(name.to_owned()), text(value.as_bytes()));
    }
    let most = (frame as usize).saturating_sub(ROOM_BESIDE_HEADERS);
    if size > most {
        let why = format!(
            "the headers have {size} bytes; on this connection at most {most} fit into the frame that carries them"
        );
        return Err(Error::new(ErrorKind::TooLarge, "send").because(why));
    }
    Ok(properties(session, content, table))
}

/// The properties of a copy for the dead-letter store.
pub(crate) fn dead_letter(message: &Inbound, reason: &Reason, frame: u32) -> BasicProperties {
    let mut table = Table::new();
    let mut room = (frame as usize).saturating_sub(ROOM_BESIDE_HEADERS);
    for (name, value) in message.content.headers().iter() {
        let size = name.len() + value.len() + 8;
        // A foreign message may have had larger headers than fit beside ours.
        if !BROKERS_OWN.contains(&name) && size <= room {
            room -= size;
            table.insert(names::short(name.to_owned()), text(value.as_bytes()));
        }
    }
    put(&mut table, DEAD_COPY, text(Uuid::now_v7().to_string().as_bytes()));
    put(&mut table, DEAD_CODE, text(reason.code.as_bytes()));
    put(&mut table, DEAD_DETAIL, text(reason.detail.as_bytes()));
    put(&mut table, DEAD_ATTEMPTS, whole(u64::from(reason.attempts)));
    put(&mut table, DEAD_SINCE, whole(micros(SystemTime::now())));
    if message.session.is_lone() {
        put(&mut table, DEAD_LONE, AMQPValue::Boolean(true));
    }
    properties(&message.session, &message.content, table)
}

fn properties(session: &SessionId, content: &Content, mut table: Table) -> BasicProperties {
    put(&mut table, SESSION, text(session.as_bytes()));
    if let Some(stamp) = content.stamp() {
        put(&mut table, STAMP, text(stamped(stamp, content.sent_at()).as_bytes()));
    }
    let mut properties =
        BasicProperties::default().with_delivery_mode(2).with_message_id(names::short(content.id().to_string()));
    match content.type_name().map(|name| (name, ShortString::try_new(name))) {
        Some((_, Ok(name))) => properties = properties.with_type(name),
        Some((name, Err(_))) => put(&mut table, LONG_TYPE, text(name.as_bytes())),
        None => {}
    }
    match content.content_type().map(|name| (name, ShortString::try_new(name))) {
        Some((_, Ok(name))) => properties = properties.with_content_type(name),
        Some((name, Err(_))) => put(&mut table, LONG_CONTENT_TYPE, text(name.as_bytes())),
        None => {}
    }
    properties.with_headers(FieldTable::from(table))
}

/// The id of a message that was returned, if it is one of ours.
pub(crate) fn id_of(properties: &BasicProperties) -> Option<MessageId> {
    uuid(properties.message_id().as_ref()?.as_str().as_bytes()).map(MessageId::from_u128)
}

/// Where a message was delivered.
pub(crate) struct Stands<'a> {
    pub(crate) lane: u32,
    pub(crate) lanes: u32,
    pub(crate) entry: Entry,
    pub(crate) position: Position,
    /// Unique in this process and lane: a message without a session gets its own of this.
    pub(crate) place: u64,
    pub(crate) delivery: &'a Delivery,
}

/// A message as it came. What is wrong with its envelope is a defect of it and no failure.
pub(crate) fn incoming(at: &Stands<'_>, body: Bytes) -> Inbound {
    let properties = &at.delivery.properties;
    let empty = FieldTable::default();
    let table = properties.headers().as_ref().unwrap_or(&empty);
    let (headers, mut defect) = headers(table);
    let key = at.delivery.routing_key.as_str();
    // Who cannot hash may not be able to set a header either.
    let named = bytes(table, SESSION).or_else(|| (at.entry != Entry::Slots).then_some(key.as_bytes()));
    let copied = table.contains_key(FURTHER_KEYS);
    let session = match named.map(|id| (id.len(), SessionId::new(Bytes::copy_from_slice(id)))) {
        Some((_, Ok(session))) => {
            if !at.entry.leads(&session, key, copied, (at.lane, at.lanes)) {
                defect = defect.or(Some(Defect::Misrouted));
            }
            session
        }
        Some((1.., Err(_))) => {
            defect = Some(Defect::SessionTooLong);
            SessionId::lone(at.lane, at.place)
        }
        _ => {
            defect = Some(Defect::NoSession);
            SessionId::lone(at.lane, at.place)
        }
    };
    let redelivered = match whole_of(table, "x-delivery-count") {
        Some(before) => Redelivered::Count(u32::try_from(before.saturating_add(1)).unwrap_or(u32::MAX)),
        None if at.delivery.redelivered => Redelivered::Maybe,
        None => Redelivered::No,
    };
    let content = Arc::new(content(properties, table, headers, body));
    Inbound { position: at.position, session, redelivered, defect, content }
}

/// A dead letter as its store holds it, with the number of its copy.
pub(crate) fn stored(at: u64, delivery: &Delivery, body: Bytes) -> DeadLetter {
    let empty = FieldTable::default();
    let table = delivery.properties.headers().as_ref().unwrap_or(&empty);
    let (headers, _) = headers(table);
    let content = Arc::new(content(&delivery.properties, table, headers, body));
    let id = bytes(table, SESSION).unwrap_or_default();
    let session = match SessionId::new(Bytes::copy_from_slice(id)) {
        Ok(session) if !table.contains_key(DEAD_LONE) => session,
        _ => SessionId::lone(0, at),
    };
    let origin = match content.stamp() {
        Some(stamp) => Origin::Producer(stamp.producer, stamp.number),
        None => Origin::Message(content.id()),
    };
    let attempts = whole_of(table, DEAD_ATTEMPTS).and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let since = whole_of(table, DEAD_SINCE).map_or(UNIX_EPOCH, time);
    let said = |name| string(table, name).unwrap_or_default();
    let message = Inbound { position: Position::new(at), session, redelivered: Redelivered::No, defect: None, content };
    let mut letter = DeadLetter::new(at, origin, &message, &Reason::new("", &said(DEAD_DETAIL), attempts), since);
    letter.code = said(DEAD_CODE);
    letter
}

/// The properties of a probe.
pub(crate) fn probe() -> BasicProperties {
    let mut table = Table::new();
    put(&mut table, PROBE, AMQPValue::Boolean(true));
    BasicProperties::default().with_headers(FieldTable::from(table))
}

/// What a probe of a binding says: which pair it is of, and whether it is the second one, see [`Bindings`](crate::probes::Bindings).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asks {
    pub(crate) id: u128,
    pub(crate) behind: bool,
}

/// The properties of a probe of a binding.
pub(crate) fn probe_of_binding(asks: Asks) -> BasicProperties {
    let mut table = Table::new();
    let turn = if asks.behind { 2 } else { 1 };
    put(&mut table, PROBE, text(format!("{}/{turn}", Uuid::from_u128(asks.id)).as_bytes()));
    BasicProperties::default().with_headers(FieldTable::from(table))
}

/// What this probe asks, if it is one of a binding.
pub(crate) fn asks(properties: &BasicProperties) -> Option<Asks> {
    let said = bytes(properties.headers().as_ref()?, PROBE)?;
    let slash = said.iter().position(|byte| *byte == b'/')?;
    Some(Asks { id: uuid(&said[..slash])?, behind: &said[slash + 1..] == b"2" })
}

/// Whether this is a probe and no message.
pub(crate) fn is_probe(properties: &BasicProperties) -> bool {
    properties.headers().as_ref().is_some_and(|table| table.contains_key(PROBE) && !table.contains_key(SESSION))
}

/// What names one copy in a store.
pub(crate) fn copy_of(properties: &BasicProperties) -> Option<u128> {
    uuid(bytes(properties.headers().as_ref()?, DEAD_COPY)?)
}

fn content(properties: &BasicProperties, table: &FieldTable, headers: Headers, body: Bytes) -> Content {
    let (stamp, sent_at) = stamp(table).map_or((None, None), |(stamp, at)| (Some(stamp), at));
    let named = properties.message_id().as_ref().map(|id| id.as_str().as_bytes());
    let id = match named.map(|id| (uuid(id), id)) {
        Some((Some(id), _)) => MessageId::from_u128(id),
        Some((None, id)) => MessageId::from_u128(folded(id)),
        None => MessageId::random(),
    };
    let mut content = Content::received(id, body, headers);
    let long = |name| string(table, name);
    let type_name = properties.kind().as_ref().map(|name| name.as_str().to_owned()).or_else(|| long(LONG_TYPE));
    let content_type =
        properties.content_type().as_ref().map(|name| name.as_str().to_owned()).or_else(|| long(LONG_CONTENT_TYPE));
    content.set_meta(type_name.as_deref(), content_type.as_deref(), stamp, sent_at);
    content
}

/// The stamp as text.
fn stamped(stamp: Stamp, sent: Option<SystemTime>) -> String {
    let Stamp { producer, number, prev, skipped } = stamp;
    let (skipped, sent) = (if skipped { "-" } else { "" }, sent.map_or(0, micros));
    format!("{producer}/{number}/{skipped}{prev}/{sent}")
}

/// What the stamp says. One that cannot be read says nothing.
fn stamp(table: &FieldTable) -> Option<(Stamp, Option<SystemTime>)> {
    let mut parts = bytes(table, STAMP)?.split(|byte| *byte == b'/');
    let producer = ProducerId::from_u128(uuid(parts.next()?)?);
    let number = digits(parts.next()?)?;
    let prev = parts.next()?;
    let skipped = prev.first() == Some(&b'-');
    let prev = digits(if skipped { prev.get(1..)? } else { prev })?;
    let sent = digits(parts.next()?)?;
    let at = (sent > 0).then(|| time(sent));
    parts.next().is_none().then_some((Stamp { producer, number, prev, skipped }, at))
}

fn digits(text: &[u8]) -> Option<u64> {
    let next = |n: Option<u64>, byte: &u8| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        n?.checked_mul(10)?.checked_add(u64::from(digit))
    };
    if text.is_empty() { None } else { text.iter().fold(Some(0), next) }
}

/// The message's own headers. Text, numbers and truth values are carried as text; what is neither (tables, lists) has no place in a header of convoy's and is left
/// out. What the broker adds is left out too.
fn headers(table: &FieldTable) -> (Headers, Option<Defect>) {
    let mut headers = Headers::default();
    let mut defect = None;
    for (name, value) in table.inner() {
        let name = name.as_str();
        let brokers = ["x-delivery-count", "x-acquired-count", "x-death"].contains(&name)
            || name.starts_with("x-first-death-")
            || name.starts_with("x-last-death-");
        if name.starts_with("convoy-") || brokers {
            continue;
        }
        let kept = match value {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).map(str::to_owned).ok(),
            AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
            AMQPValue::Boolean(is) => Some(is.to_string()),
            AMQPValue::ShortShortInt(n) => Some(n.to_string()),
            AMQPValue::ShortShortUInt(n) => Some(n.to_string()),
            AMQPValue::ShortInt(n) => Some(n.to_string()),
            AMQPValue::ShortUInt(n) => Some(n.to_string()),
            AMQPValue::LongInt(n) => Some(n.to_string()),
            AMQPValue::LongUInt(n) => Some(n.to_string()),
            AMQPValue::LongLongInt(n) => Some(n.to_string()),
            AMQPValue::Timestamp(n) => Some(n.to_string()),
            AMQPValue::Float(n) => Some(n.to_string()),
            AMQPValue::Double(n) => Some(n.to_string()),
            _ => continue,
        };
        let taken = kept.is_some_and(|value| headers.insert_reserved(name, &value).is_ok());
        if !taken {
            defect = Some(Defect::Headers);
        }
    }
    (headers, defect)
}

fn put(table: &mut Table, name: &'static str, value: AMQPValue) {
    table.insert(names::short(name.to_owned()), value);
}

fn text(bytes: &[u8]) -> AMQPValue {
    AMQPValue::LongString(LongString::from(bytes.to_vec()))
}

fn whole(n: u64) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(n).unwrap_or(i64::MAX))
}

fn bytes<'a>(table: &'a FieldTable, name: &str) -> Option<&'a [u8]> {
    match table.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        AMQPValue::ShortString(text) => Some(text.as_str().as_bytes()),
        AMQPValue::ByteArray(bytes) => Some(bytes.as_slice()),
        _ => None,
    }
}

fn string(table: &FieldTable, name: &str) -> Option<String> {
    bytes(table, name).map(|text| String::from_utf8_lossy(text).into_owned())
}

/// A whole number, in whichever size it came.
fn whole_of(table: &FieldTable, name: &str) -> Option<u64> {
    match table.inner().get(name)? {
        AMQPValue::LongLongInt(n) => u64::try_from(*n).ok(),
        AMQPValue::LongInt(n) => u64::try_from(*n).ok(),
        AMQPValue::LongUInt(n) => Some(u64::from(*n)),
        AMQPValue::ShortInt(n) => u64::try_from(*n).ok(),
        AMQPValue::ShortUInt(n) => Some(u64::from(*n)),
        AMQPValue::ShortShortInt(n) => u64::try_from(*n).ok(),
        AMQPValue::ShortShortUInt(n) => Some(u64::from(*n)),
        AMQPValue::Timestamp(n) => Some(*n),
        _ => None,
    }
}

fn uuid(text: &[u8]) -> Option<u128> {
    Uuid::try_parse_ascii(text).ok().map(|id| id.as_u128())
}

/// A foreign id that is no UUID: the same text gives the same id.
fn folded(text: &[u8]) -> u128 {
    text.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash: u128, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

fn micros(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).ok().and_then(|d| u64::try_from(d.as_micros()).ok()).unwrap_or_default()
}

fn time(micros: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(properties: &BasicProperties) -> Content {
        let table = properties.headers().clone().unwrap_or_default();
        let (headers, defect) = headers(&table);
        assert_eq!(defect, None);
        content(properties, &table, headers, Bytes::from_static(b"body"))
    }

    #[test]
    fn the_type_is_the_property_that_other_publishers_use_and_a_long_one_survives() {
        for (name, property) in [("order.paid".to_owned(), true), ("a".repeat(255), true), ("a".repeat(256), false)] {
            let message = convoy_core::Message::new("order-17", "body").unwrap().with_type(name.as_str());
            let (session, content) = message.into_parts();
            let properties = outgoing(&session, &content, 131_072).unwrap();
            let kind = properties.kind().as_ref().map(|kind| kind.as_str().to_owned());
            assert_eq!(kind, property.then(|| name.clone()));
            assert_eq!(back(&properties).type_name(), Some(name.as_str()));
        }
        let (session, content) = convoy_core::Message::new("order-17", "body").unwrap().into_parts();
        assert_eq!(back(&outgoing(&session, &content, 131_072).unwrap()).type_name(), None);
        let foreign = BasicProperties::default().with_type("order.paid".into());
        assert_eq!(back(&foreign).type_name(), Some("order.paid"));
    }

    #[test]
    fn what_is_sent_comes_back() {
        let message = convoy_core::Message::new("order-17", "body").unwrap();
        let message = message.with_type("a".repeat(300)).with_content_type("text/plain").with_header("k", "v").unwrap();
        let (session, mut content) = message.into_parts();
        for skipped in [false, true] {
            let stamp = Stamp { producer: ProducerId::random(), number: 7, prev: 3, skipped };
            content.set_stamp(stamp);
            content.set_sent_at(time(1_700_000_000_000_123));
            let properties = outgoing(&session, &content, 131_072).unwrap();
            let back = back(&properties);
            assert_eq!((back.id(), back.stamp(), back.sent_at()), (content.id(), Some(stamp), content.sent_at()));
            assert_eq!((back.type_name(), back.content_type()), (content.type_name(), Some("text/plain")));
            assert_eq!(back.headers(), content.headers());
            assert_eq!(id_of(&properties), Some(content.id()));
        }
    }

    #[test]
    fn headers_that_the_broker_reads_and_those_that_do_not_fit_are_refused() {
        let message =
            |name: &str, value: &str| convoy_core::Message::new("s", "").unwrap().with_header(name, value).unwrap();
        for name in BROKERS_OWN {
            let (session, content) = message(name, "elsewhere").into_parts();
            assert_eq!(outgoing(&session, &content, 131_072).unwrap_err().kind(), ErrorKind::InvalidMessage, "{name}");
        }
        let (session, content) = message("large", &"x".repeat(8_000)).into_parts();
        assert_eq!(outgoing(&session, &content, 8_192).unwrap_err().kind(), ErrorKind::TooLarge);
        assert!(outgoing(&session, &content, 131_072).is_ok());
    }

    #[test]
    fn a_stamp_that_cannot_be_read_says_nothing() {
        let good = stamped(Stamp { producer: ProducerId::random(), number: 1, prev: 0, skipped: false }, None);
        let read = |said: &str| {
            let mut all = Table::new();
            put(&mut all, STAMP, text(said.as_bytes()));
            stamp(&FieldTable::from(all))
        };
        assert!(read(&good).is_some_and(|(stamp, at)| stamp.number == 1 && at.is_none()));
        for cut in 0..good.len() {
            assert_eq!(read(&good[..cut]), None, "{cut}");
        }
        let wrong = [
            "",
            "/",
            "////",
            "x/1/0/0",
            &format!("{good}/1"),
            &good.replace("/1/", "/99999999999999999999/"),
            &good.replace("/1/", "/-1/"),
        ];
        for wrong in wrong {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_probe_of_a_binding_asks_comes_back() {
        for behind in [false, true] {
            let asked = Asks { id: 7, behind };
            let properties = probe_of_binding(asked);
            assert_eq!((asks(&properties), is_probe(&properties)), (Some(asked), true));
        }
        assert_eq!((asks(&probe()), is_probe(&probe())), (None, true));
    }

    /// Whatever a stranger puts into the headers: a defect or a message, and no panic.
    #[test]
    fn hostile_headers_are_a_defect_at_most() {
        let mut nested = FieldTable::default();
        nested.insert("a".into(), AMQPValue::Void);
        let values = || {
            vec![
                AMQPValue::Void,
                AMQPValue::Boolean(true),
                AMQPValue::LongLongInt(i64::MIN),
                AMQPValue::Timestamp(u64::MAX),
                AMQPValue::Double(f64::NAN),
                AMQPValue::FieldTable(nested.clone()),
                text(&[0xff, 0xfe]),
                text(&[b'x'; 9_000]),
            ]
        };
        for name in ["x", SESSION, STAMP, "x-delivery-count", "x-death", DEAD_ATTEMPTS, DEAD_SINCE, "with space", ""] {
            for value in values() {
                let mut all = Table::new();
                all.insert(names::short(name.to_owned()), value);
                let mut delivery = Delivery::mock(1, "".into(), "".into(), true, Vec::new());
                delivery.properties = BasicProperties::default().with_headers(FieldTable::from(all));
                let at = Stands {
                    lane: 0,
                    lanes: 1,
                    entry: Entry::Slots,
                    position: Position::new(1),
                    place: 1,
                    delivery: &delivery,
                };
                let message = incoming(&at, Bytes::new());
                assert!(message.defect.is_some() || name == SESSION, "{name}");
                stored(1, &delivery, Bytes::new());
            }
        }
    }
}
