//! As much of Kafka's protocol as it takes to ask a node who it is and what it sees: a port that is open is no broker that is ready.

use std::io::{Read, Write};

use super::super::bytes::Bytes;
use super::super::product::Server;
use super::super::tool;

/// Of an answer. That about ten thousand partitions is a tenth of it.
const MOST: usize = 16 << 20;
const CLIENT: &[u8] = b"convoy-xtask";

const API_VERSIONS: u16 = 18;
const METADATA: u16 = 3;

/// No node says its version to a client. It says up to which level it can store a cluster's metadata, and every release has raised that: the first and the last level of each.
const LEVELS: [(i16, i16, &str); 5] =
    [(25, 25, "4.0"), (26, 27, "4.1"), (28, 29, "4.2"), (30, 30, "4.3"), (31, 33, "4.4")];
const LEVEL: &[u8] = b"metadata.version";

/// Asks who answers, and whether it sees itself in a cluster: before that, no client can work there.
pub(in super::super) fn hello(port: u16) -> Result<Server, String> {
    let mut stream = tool::connect(port)?;
    let told = |why: String| format!("port {port}: {why}");
    let server = server(&mut stream).map_err(told)?;
    let seen = metadata(&mut stream, false).map_err(told)?;
    if seen.controls { Ok(server) } else { Err(format!("port {port}: it sees no controller")) }
}

/// The same of one of so many nodes, all of which it must see, with all replicas in line.
pub(super) fn whole(port: u16, nodes: usize) -> Result<Server, String> {
    let server = hello(port)?;
    let mut stream = tool::connect(port)?;
    let seen = metadata(&mut stream, nodes > 1).map_err(|why| format!("port {port}: {why}"))?;
    if seen.nodes != nodes {
        return Err(format!("port {port}: it sees {} of {nodes} nodes", seen.nodes));
    }
    match seen.behind {
        0 => Ok(server),
        behind => Err(format!("port {port}: {behind} partitions have replicas that are not in line")),
    }
}

fn server(stream: &mut (impl Read + Write)) -> Result<Server, String> {
    // The one version in which the header has tags, and the answer's has none.
    let name = compact(CLIENT);
    let request = [&header(API_VERSIONS, 3)[..], &[0], &name, &compact(b"1"), &[0]].concat();
    let answer = ask(stream, &request)?;
    let level = level(&answer).ok_or("it does not answer as Kafka does")?;
    let level = level.ok_or("it has no metadata of its own, as releases before 3.3 or another product")?;
    let version = LEVELS.iter().find(|(first, last, _)| (*first..=*last).contains(&level));
    let version = version.map_or_else(|| format!("of metadata level {level}"), |(.., name)| (*name).to_owned());
    Ok(Server { product: super::PRODUCT.to_owned(), version })
}

/// What a node sees.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    nodes: usize,
    /// Whether one of them is said to control.
    controls: bool,
    /// Partitions without a leader or with a replica that is not in line.
    behind: usize,
}

fn metadata(stream: &mut (impl Read + Write), all: bool) -> Result<Seen, String> {
    // All topics, or none of them.
    let topics: i32 = if all { -1 } else { 0 };
    let answer = ask(stream, &[&header(METADATA, 1)[..], &topics.to_be_bytes()].concat())?;
    seen(&answer).ok_or_else(|| "its answer is cut off".to_owned())
}

fn header(api: u16, version: u16) -> Vec<u8> {
    let correlation = 7_u32;
    let (api, version, length) = (api.to_be_bytes(), version.to_be_bytes(), (CLIENT.len() as u16).to_be_bytes());
    [&api[..], &version, &correlation.to_be_bytes(), &length, CLIENT].concat()
}

fn compact(text: &[u8]) -> Vec<u8> {
    [&[text.len() as u8 + 1][..], text].concat()
}

/// Sends a request and gives what follows the header of its answer.
fn ask(stream: &mut (impl Read + Write), request: &[u8]) -> Result<Vec<u8>, String> {
    let told = |e: std::io::Error| e.to_string();
    let size = (request.len() as u32).to_be_bytes();
    stream.write_all(&[&size[..], request].concat()).map_err(told)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size).map_err(told)?;
    let size = u32::from_be_bytes(size) as usize;
    if !(4..=MOST).contains(&size) {
        return Err("it does not speak Kafka's protocol".to_owned());
    }
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer).map_err(told)?;
    match answer.strip_prefix(&7_u32.to_be_bytes()) {
        Some(rest) => Ok(rest.to_vec()),
        None => Err("it answers something else than what was asked".to_owned()),
    }
}

/// Up to which level it can store metadata, from an answer about versions; inside, nothing when it names no level.
fn level(answer: &[u8]) -> Option<Option<i16>> {
    let mut bytes = Bytes(answer);
    if bytes.int16()? != 0 {
        return None;
    }
    for _ in 1..bytes.varint()? {
        bytes.take(6)?;
        bytes.tags(|_, _| Some(()))?;
    }
    bytes.take(4)?;
    let mut found = None;
    bytes.tags(|tag, mut features| {
        for _ in 1..if tag == 0 { features.varint()? } else { 1 } {
            let length = features.varint()?.checked_sub(1)?;
            let name = features.take(length)?;
            let (_least, most) = (features.int16()?, features.int16()?);
            features.tags(|_, _| Some(()))?;
            if name == LEVEL {
                found = Some(most);
            }
        }
        Some(())
    })?;
    Some(found)
}

fn seen(answer: &[u8]) -> Option<Seen> {
    let mut bytes = Bytes(answer);
    let mut nodes = Vec::new();
    for _ in 0..bytes.count()? {
        nodes.push(bytes.int32()?);
        bytes.text()?;
        bytes.take(4)?;
        bytes.text()?;
    }
    let controller = bytes.int32()?;
    let mut behind = 0;
    for _ in 0..bytes.count()? {
        bytes.take(2)?;
        bytes.text()?;
        bytes.take(1)?;
        for _ in 0..bytes.count()? {
            bytes.take(6)?;
            let leader = bytes.int32()?;
            let replicas = bytes.count()?;
            bytes.take(4 * replicas)?;
            let in_line = bytes.count()?;
            bytes.take(4 * in_line)?;
            behind += usize::from(leader < 0 || in_line < replicas);
        }
    }
    Some(Seen { nodes: nodes.len(), controls: nodes.contains(&controller), behind })
}

impl<'a> Bytes<'a> {
    fn int16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn int32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// How many follow; one that says -1 has none.
    fn count(&mut self) -> Option<usize> {
        self.int32().map(|count| usize::try_from(count).unwrap_or(0))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.int16()?;
        self.take(usize::try_from(length).unwrap_or(0))
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0_usize;
        for shift in [0, 7, 14, 21] {
            let [byte] = self.array()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Each of the tags that follow, by its number, with what is in it.
    fn tags(&mut self, mut each: impl FnMut(usize, Bytes<'a>) -> Option<()>) -> Option<()> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()?;
            each(tag, Bytes(self.take(length)?))?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer about versions as a broker of 4.4 sends it, with fewer of everything.
    fn versions() -> Vec<u8> {
        let keys = b"\x03\x00\x00\x00\x03\x00\x0d\x00\x00\x12\x00\x00\x00\x04\x00";
        let features = [b"\x03\x0egroup.version\x00\x00\x00\x01\x00"[..].to_vec(), levels()].concat();
        let epoch = b"\x01\x08\x00\x00\x00\x00\x00\x00\x00\x05";
        [&b"\x00\x00"[..], keys, b"\x00\x00\x00\x00\x02\x00", &[features.len() as u8], &features, epoch].concat()
    }

    fn levels() -> Vec<u8> {
        b"\x11metadata.version\x00\x07\x00\x21\x00".to_vec()
    }

    /// Three nodes, and one topic of two partitions, of which the second has a replica less in line.
    fn cluster() -> Vec<u8> {
        let mut answer = 3_i32.to_be_bytes().to_vec();
        for node in [1_i32, 2, 3] {
            answer.extend(node.to_be_bytes());
            answer.extend(b"\x00\x09127.0.0.1\x00\x00\x23\xe8\xff\xff");
        }
        answer.extend(b"\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x06orders\x00\x00\x00\x00\x02");
        let partition = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x02";
        answer.extend([&partition[..], b"\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x02"].concat());
        answer.extend([&partition[..], b"\x00\x00\x00\x01\x00\x00\x00\x01"].concat());
        answer
    }

    #[test]
    fn a_node_is_known_by_the_level_of_its_metadata() {
        assert_eq!(level(&versions()), Some(Some(33)));
        let mut other = versions();
        let at = other.windows(16).position(|part| part == LEVEL).unwrap();
        other[at] = b'M';
        assert_eq!(level(&other), Some(None));
        assert_eq!(level(b"\x00\x23\x00"), None, "an error");
        let ends = LEVELS.iter().zip(&LEVELS[1..]);
        assert!(ends.into_iter().all(|(one, next)| one.1 + 1 == next.0), "no level between two releases");
    }

    #[test]
    fn what_is_not_in_line_is_counted() {
        assert_eq!(seen(&cluster()), Some(Seen { nodes: 3, controls: true, behind: 1 }));
    }

    #[test]
    fn an_answer_that_is_cut_off_or_spoilt_is_no_panic() {
        for whole in [versions(), cluster()] {
            for end in 0..whole.len() {
                assert!(level(&whole[..end]).is_none());
                assert!(seen(&whole[..end]).is_none() || whole == versions());
            }
            for at in 0..whole.len() {
                for byte in [0, 1, 0x7f, 0xff] {
                    let mut spoilt = whole.clone();
                    spoilt[at] = byte;
                    let _ = (level(&spoilt), seen(&spoilt));
                }
            }
        }
    }

    /// Takes what is written and answers with what it was given.
    struct Peer(std::io::Cursor<Vec<u8>>);

    impl Read for Peer {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Write for Peer {
        fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
            Ok(from.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_speaks_something_else_is_told_so() {
        let asked = |answer: &[u8]| ask(&mut Peer(std::io::Cursor::new(answer.to_vec())), b"");
        assert_eq!(asked(b"\x00\x00\x00\x05\x00\x00\x00\x07!"), Ok(b"!".to_vec()));
        assert!(asked(b"\x00\x00\x00\x05\x00\x00\x00\x08!").is_err_and(|why| why.contains("something else")));
        for other in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"AMQP\x00\x00\x09\x01", b"\x00\x00\x00\x00"] {
            assert!(asked(other).is_err_and(|why| why.contains("does not speak")), "{other:?}");
        }
        assert!(asked(b"\x00\x00\x00\x05\x00\x00").is_err() && asked(b"").is_err());
    }
}
