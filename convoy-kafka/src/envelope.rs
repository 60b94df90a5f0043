//! How a message looks on the wire, and how what is on the wire looks as a message.
//!
//! | Kafka | what |
//! |---|---|
//! | key | the session id, byte by byte |
//! | value | the body |
//! | timestamp | when it was sent, where the stamp does not say |
//! | header `convoy-id` | the message's id, as a UUID |
//! | header `convoy-stamp` | `producer/number/prev/sent`: the producer's incarnation, its number for the message, that of this session's message before it (with `-` before it when one was skipped in between), and when it was sent, in microseconds since 1970 |
//! | headers `convoy-type`, `convoy-content-type` | the type name and the content type |
//! | other headers | the message's own |
//!
//! A producer in another language needs nothing but the key, and murmur2 as its partitioner; see [the crate](crate).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use convoy_core::backend::{DeadLetter, Origin, Reason};
use convoy_core::{Content, Defect, Headers, Inbound, MessageId, Position, ProducerId, Redelivered, SessionId, Stamp};
use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Headers as _, OwnedHeaders};
use uuid::Uuid;

const ID: &str = "convoy-id";
const STAMP: &str = "convoy-stamp";
const TYPE: &str = "convoy-type";
const CONTENT_TYPE: &str = "convoy-content-type";

/// Of a dead letter.
const DEAD_ORIGIN: &str = "convoy-dead-origin";
const DEAD_CODE: &str = "convoy-dead-code";
const DEAD_DETAIL: &str = "convoy-dead-detail";
const DEAD_ATTEMPTS: &str = "convoy-dead-attempts";
const DEAD_SINCE: &str = "convoy-dead-since";
const DEAD_LONE: &str = "convoy-dead-lone";
/// Of a record that takes a letter out of the store: its offset.
const DEAD_REMOVED: &str = "convoy-dead-removed";

/// A record as the client library shows it, whichever way it was read.
pub(crate) trait Record {
    fn lane(&self) -> i32;
    fn offset(&self) -> i64;
    fn key(&self) -> Option<&[u8]>;
    fn payload(&self) -> Option<&[u8]>;
    /// When it was written, in milliseconds since 1970.
    fn written_ms(&self) -> Option<i64>;
    fn headers(&self) -> Option<&BorrowedHeaders>;
}

impl Record for BorrowedMessage<'_> {
    fn lane(&self) -> i32 {
        self.partition()
    }

    fn offset(&self) -> i64 {
        Message::offset(self)
    }

    fn key(&self) -> Option<&[u8]> {
        Message::key(self)
    }

    fn payload(&self) -> Option<&[u8]> {
        Message::payload(self)
    }

    fn written_ms(&self) -> Option<i64> {
        self.timestamp().to_millis()
    }

    fn headers(&self) -> Option<&BorrowedHeaders> {
        Message::headers(self)
    }
}

/// The headers of a message that is sent.
pub(crate) fn outgoing(content: &Content) -> OwnedHeaders {
    let own = content.headers();
    let mut headers = OwnedHeaders::new_with_capacity(own.len() + 4);
    headers = put(headers, ID, content.id().to_string().as_bytes());
    if let Some(stamp) = content.stamp() {
        headers = put(headers, STAMP, stamped(stamp, content.sent_at()).as_bytes());
    }
    if let Some(name) = content.type_name() {
        headers = put(headers, TYPE, name.as_bytes());
    }
    if let Some(name) = content.content_type() {
        headers = put(headers, CONTENT_TYPE, name.as_bytes());
    }
    own.iter().fold(headers, |headers, (name, value)| put(headers, name, value.as_bytes()))
}

/// The headers of a copy for the dead-letter store.
pub(crate) fn dead_letter(lane: u32, message: &Inbound, reason: &Reason) -> OwnedHeaders {
    let mut headers = outgoing(&message.content);
    headers = put(headers, DEAD_ORIGIN, format!("{lane}/{}", message.position.value).as_bytes());
    headers = put(headers, DEAD_CODE, reason.code.as_bytes());
    headers = put(headers, DEAD_DETAIL, reason.detail.as_bytes());
    headers = put(headers, DEAD_ATTEMPTS, reason.attempts.to_string().as_bytes());
    headers = put(headers, DEAD_SINCE, micros(SystemTime::now()).to_string().as_bytes());
    if message.session.is_lone() { put(headers, DEAD_LONE, b"true") } else { headers }
}

/// The headers of a record that takes a letter out of the store.
pub(crate) fn removal(at: u64) -> OwnedHeaders {
    put(OwnedHeaders::new_with_capacity(1), DEAD_REMOVED, at.to_string().as_bytes())
}

fn put(headers: OwnedHeaders, key: &str, value: &[u8]) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}

/// The session of a record, and what is wrong with its key.
pub(crate) fn session(key: Option<&[u8]>, lane: u32, offset: u64) -> (SessionId, Option<Defect>) {
    match key.filter(|key| !key.is_empty()) {
        None => (SessionId::lone(lane, offset), Some(Defect::NoSession)),
        Some(key) => match SessionId::copied(key) {
            Ok(session) => (session, None),
            Err(_) => (SessionId::lone(lane, offset), Some(Defect::SessionTooLong)),
        },
    }
}

/// Where bodies are copied to: small ones side by side, so that memory is asked for once for many. A message keeps at most so much of it that is not its own.
#[derive(Debug, Default)]
pub(crate) struct Copying(BytesMut);

impl Copying {
    const SMALL: usize = 1 << 10;
    const ROOM: usize = 16 << 10;

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > Self::SMALL {
            return Bytes::copy_from_slice(bytes);
        }
        if self.0.capacity() < bytes.len() {
            self.0 = BytesMut::with_capacity(Self::ROOM);
        }
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
}

/// A message as it came. What is wrong with its envelope is a defect of it and no failure.
pub(crate) fn incoming(record: &dyn Record, lane: u32, offset: u64, copies: &mut Copying) -> Inbound {
    let (session, of_key) = session(record.key(), lane, offset);
    let read = read(record);
    let defect = of_key.or(read.defect);
    let id = read.id.unwrap_or_else(|| MessageId::from_u128(made_up(lane, offset)));
    let body = record.payload().map(|body| copies.copy(body)).unwrap_or_default();
    let content = Arc::new(read.content(id, body, record.written_ms()));
    Inbound { position: Position::new(offset), session, redelivered: Redelivered::No, defect, content }
}

/// A record of a dead-letter topic.
pub(crate) enum Stored {
    /// A letter.
    Letter(Box<DeadLetter>),
    /// It takes out the letter of this offset, and the other copies of its origin.
    Removal(u64),
}

/// What a record of a dead-letter topic is.
pub(crate) fn stored(record: &dyn Record, at: u64) -> Stored {
    let read = read(record);
    if let Some(removed) = read.of_store(DEAD_REMOVED).and_then(|text| text.parse().ok()) {
        return Stored::Removal(removed);
    }
    let number = |name| read.of_store(name).and_then(|text| text.parse::<u64>().ok());
    let origin = read.of_store(DEAD_ORIGIN).and_then(|text| {
        let (lane, position) = text.split_once('/')?;
        Some((lane.parse::<u32>().ok()?, position.parse::<u64>().ok()?))
    });
    let id = read.id.unwrap_or_else(|| MessageId::from_u128(made_up(u32::MAX, at)));
    let is_lone = read.of_store(DEAD_LONE).is_some();
    let session = match record.key().map(SessionId::copied) {
        Some(Ok(session)) if !is_lone => session,
        _ => origin.map_or(SessionId::lone(0, at), |(lane, position)| SessionId::lone(lane, position)),
    };
    let attempts = number(DEAD_ATTEMPTS).and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let since = number(DEAD_SINCE).map_or(UNIX_EPOCH, time);
    let said = |name| read.of_store(name).unwrap_or_default().to_owned();
    let (code, detail) = (said(DEAD_CODE), said(DEAD_DETAIL));
    let body = record.payload().map(Bytes::copy_from_slice).unwrap_or_default();
    let content = Arc::new(read.content(id, body, record.written_ms()));
    // Offsets of two lanes are not comparable, and a copy that somebody else put there has none: then its id has to do.
    let origin = match (content.stamp(), origin) {
        (Some(stamp), _) => Origin::Producer(stamp.producer, stamp.number),
        (None, Some((lane, position))) => Origin::Message(MessageId::from_u128(made_up(lane, position))),
        (None, None) => Origin::Message(id),
    };
    let message = Inbound { position: Position::new(at), session, redelivered: Redelivered::No, defect: None, content };
    let mut letter = DeadLetter::new(at, origin, &message, &Reason::new("", &detail, attempts), since);
    letter.code = code;
    Stored::Letter(Box::new(letter))
}

/// The key of a copy: what the message came with, where that was a session.
pub(crate) fn key(session: &SessionId) -> Option<&[u8]> {
    (!session.is_lone()).then(|| session.as_bytes())
}

#[derive(Default)]
struct Read<'a> {
    id: Option<MessageId>,
    stamp: Option<(Stamp, Option<SystemTime>)>,
    type_name: Option<&'a str>,
    content_type: Option<&'a str>,
    headers: Headers,
    dead: Vec<(&'a str, &'a str)>,
    defect: Option<Defect>,
}

fn read(record: &dyn Record) -> Read<'_> {
    let mut it = Read::default();
    let Some(headers) = record.headers() else { return it };
    for at in 0..headers.count() {
        // The client library panics over a name that is no UTF-8 text, which brokers let pass.
        let Ok(header) = catch_unwind(AssertUnwindSafe(|| headers.try_get(at))) else {
            it.defect = Some(Defect::Headers);
            continue;
        };
        let Some(header) = header else { continue };
        let (name, value) = (header.key, header.value.unwrap_or_default());
        match name {
            ID => it.id = it.id.or(Some(MessageId::from_u128(uuid(value).unwrap_or_else(|| folded(value))))),
            STAMP => it.stamp = stamp(value),
            TYPE => it.type_name = std::str::from_utf8(value).ok(),
            CONTENT_TYPE => it.content_type = std::str::from_utf8(value).ok(),
            _ if name.starts_with("convoy-") => {
                if let Ok(value) = std::str::from_utf8(value) {
                    it.dead.push((name, value));
                }
            }
            // A name that is there twice keeps its last value, as Kafka's own clients have it.
            _ => {
                let taken = std::str::from_utf8(value).is_ok_and(|v| it.headers.insert_reserved(name, v).is_ok());
                if !taken {
                    it.defect = Some(Defect::Headers);
                }
            }
        }
    }
    it
}

impl Read<'_> {
    fn of_store(&self, name: &str) -> Option<&str> {
        self.dead.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    fn content(self, id: MessageId, body: Bytes, written_ms: Option<i64>) -> Content {
        let mut content = Content::received(id, body, self.headers);
        let written = written_ms.and_then(|ms| u64::try_from(ms).ok()).map(|ms| time(ms.saturating_mul(1_000)));
        let (stamp, sent_at) = self.stamp.map_or((None, None), |(stamp, at)| (Some(stamp), at));
        content.set_meta(self.type_name, self.content_type, stamp, sent_at.or(written));
        content
    }
}

/// The stamp as text.
fn stamped(stamp: Stamp, sent: Option<SystemTime>) -> String {
    let Stamp { producer, number, prev, skipped } = stamp;
    let (skipped, sent) = (if skipped { "-" } else { "" }, sent.map_or(0, micros));
    format!("{producer}/{number}/{skipped}{prev}/{sent}")
}

/// What a stamp says. One that cannot be read says nothing.
fn stamp(text: &[u8]) -> Option<(Stamp, Option<SystemTime>)> {
    let mut parts = text.split(|byte| *byte == b'/');
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

fn uuid(text: &[u8]) -> Option<u128> {
    Uuid::try_parse_ascii(text).ok().map(|id| id.as_u128())
}

/// A foreign id that is no UUID: the same text gives the same id.
fn folded(text: &[u8]) -> u128 {
    text.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash: u128, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

/// The id of a record that came without one: the same at each hand-over.
fn made_up(lane: u32, offset: u64) -> u128 {
    let mut bytes = [0; 12];
    let (of_lane, of_offset) = bytes.split_at_mut(4);
    of_lane.copy_from_slice(&lane.to_be_bytes());
    of_offset.copy_from_slice(&offset.to_be_bytes());
    folded(&bytes)
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

    #[test]
    fn a_stamp_comes_back_and_one_that_cannot_be_read_says_nothing() {
        for skipped in [false, true] {
            let said = Stamp { producer: ProducerId::random(), number: 7, prev: 3, skipped };
            let at = time(1_700_000_000_000_123);
            let good = stamped(said, Some(at));
            assert_eq!(stamp(good.as_bytes()), Some((said, Some(at))));
            for cut in 0..good.len() - 16 {
                assert_eq!(stamp(&good.as_bytes()[..cut]), None, "{cut}");
            }
            for wrong in
                ["", "/", "////", "x/1/0/0", &format!("{good}/1"), &good.replace("/7/", "/99999999999999999999/")]
            {
                assert_eq!(stamp(wrong.as_bytes()), None, "{wrong}");
            }
        }
    }

    #[test]
    fn bodies_are_copied_whole_whatever_their_size() {
        let mut copies = Copying::default();
        let bodies: Vec<Vec<u8>> = (0..3_000_usize).map(|n| vec![n as u8; n * 7 % 2_000]).collect();
        let copied: Vec<Bytes> = bodies.iter().map(|body| copies.copy(body)).collect();
        assert!(copied.iter().zip(&bodies).all(|(copied, body)| copied == body));
    }

    #[test]
    fn a_key_is_a_session_or_a_defect() {
        let long = [b'x'; SessionId::MAX_LEN + 1];
        assert_eq!(session(Some(b"a"), 1, 2), (SessionId::new("a").unwrap(), None));
        assert_eq!(session(Some(&[0, 0, 0, 0, 0, 0, 0, 42]), 1, 2).1, None, "a Long of a JVM producer");
        for (key, defect) in
            [(None, Defect::NoSession), (Some(&b""[..]), Defect::NoSession), (Some(&long[..]), Defect::SessionTooLong)]
        {
            assert_eq!(session(key, 1, 2), (SessionId::lone(1, 2), Some(defect)));
        }
    }
}
