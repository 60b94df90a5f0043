//! A group as its coordinator sees it, and how somebody is thrown out of it. In the protocol itself: what is to happen in the middle of a handler must not wait for a client to be made.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use parking_lot::Mutex;

const LIMIT: Duration = Duration::from_secs(5);

/// A member: its id, the name of its client, and which lanes it has.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    id: String,
    pub(crate) client: String,
    pub(crate) lanes: Vec<u32>,
}

/// A connection to a broker that is the coordinator of every group.
#[derive(Debug)]
pub(crate) struct Coordinator(Mutex<TcpStream>);

impl Coordinator {
    pub(crate) fn connect(broker: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", broker))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self(Mutex::new(stream)))
    }

    /// Asks, and gives the answer behind its number.
    fn ask(&self, what: u16, version: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut request = Vec::new();
        request.extend_from_slice(&what.to_be_bytes());
        request.extend_from_slice(&version.to_be_bytes());
        request.extend_from_slice(&1u32.to_be_bytes());
        text(&mut request, "suite");
        request.extend_from_slice(body);
        let mut stream = self.0.lock();
        stream.write_all(&(request.len() as u32).to_be_bytes())?;
        stream.write_all(&request)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer)?;
        Ok(answer.split_off(4.min(answer.len())))
    }

    /// The members of a group. None while it is changing.
    pub(crate) fn members(&self, group: &str) -> io::Result<Vec<Member>> {
        const DESCRIBE_GROUPS: u16 = 15;
        let mut body = Vec::new();
        body.extend_from_slice(&1u32.to_be_bytes());
        text(&mut body, group);
        let answer = self.ask(DESCRIBE_GROUPS, 1, &body)?;
        // How long to wait before the next request comes first.
        described(&mut answer.get(4..).unwrap_or_default()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Says that this member leaves. It hears of that by its next heartbeat.
    pub(crate) fn throw_out(&self, group: &str, member: &Member) -> io::Result<bool> {
        const LEAVE_GROUP: u16 = 13;
        let mut body = Vec::new();
        text(&mut body, group);
        body.extend_from_slice(&1u32.to_be_bytes());
        text(&mut body, &member.id);
        // It has no instance id.
        body.extend_from_slice(&(-1i16).to_be_bytes());
        let answer = self.ask(LEAVE_GROUP, 3, &body)?;
        // How long to wait, and the error.
        Ok(answer.get(4..6) == Some(&[0, 0]))
    }
}

/// Of the one group that was asked for: error, name, state, kind of protocol, protocol, and its members.
fn described(from: &mut &[u8]) -> Option<Vec<Member>> {
    if number(from)? == 0 {
        return Some(Vec::new());
    }
    let (_error, _name) = (short(from)?, string(from)?);
    let state = string(from)?;
    let (_kind, _protocol) = (string(from)?, string(from)?);
    let mut members = Vec::new();
    for _ in 0..number(from)? {
        let (id, client, _host) = (string(from)?, string(from)?, string(from)?);
        let (_metadata, assignment) = (bytes(from)?, bytes(from)?);
        members.push(Member { id, client, lanes: lanes(assignment).unwrap_or_default() });
    }
    Some(if state == "Stable" { members } else { Vec::new() })
}

/// The partitions of an assignment: a version, and of each topic its name and its partitions.
fn lanes(mut assignment: &[u8]) -> Option<Vec<u32>> {
    let from = &mut assignment;
    let _version = short(from)?;
    let mut found = Vec::new();
    for _ in 0..number(from)? {
        let _topic = string(from)?;
        for _ in 0..number(from)? {
            found.push(number(from)?);
        }
    }
    Some(found)
}

fn short(from: &mut &[u8]) -> Option<u16> {
    let (of, rest) = from.split_first_chunk::<2>()?;
    *from = rest;
    Some(u16::from_be_bytes(*of))
}

fn number(from: &mut &[u8]) -> Option<u32> {
    let (of, rest) = from.split_first_chunk::<4>()?;
    *from = rest;
    Some(u32::from_be_bytes(*of))
}

fn some<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (of, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(of)
}

fn string(from: &mut &[u8]) -> Option<String> {
    let length = usize::from(short(from)?);
    Some(String::from_utf8_lossy(some(from, length)?).into_owned())
}

fn bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(from)? as usize;
    some(from, length)
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend_from_slice(&(text.len() as u16).to_be_bytes());
    into.extend_from_slice(text.as_bytes());
}
