//! A group as its coordinator sees it, and how somebody is thrown out of it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

const LIMIT: Duration = Duration::from_secs(5);

/// A member: its id, the name of its client, and which lanes it has.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    id: String,
    pub(crate) client: String,
    pub(crate) lanes: Vec<u32>,
}

/// The members of a group. None while it is changing.
pub(crate) fn members(broker: u16, group: &str) -> Vec<Member> {
    let asks: Result<BaseConsumer, _> =
        ClientConfig::new().set("bootstrap.servers", format!("127.0.0.1:{broker}")).create();
    let Ok(asks) = asks else { return Vec::new() };
    let Ok(found) = asks.fetch_group_list(Some(group), LIMIT) else { return Vec::new() };
    let stable = found.groups().iter().filter(|of| of.name() == group && of.state() == "Stable");
    let of_one = |member: &rdkafka::groups::GroupMemberInfo| Member {
        id: member.id().to_owned(),
        client: member.client_id().to_owned(),
        lanes: member.assignment().and_then(lanes).unwrap_or_default(),
    };
    stable.flat_map(|of| of.members().iter().map(of_one)).collect()
}

/// The partitions of an assignment: a version, and of each topic its name and its partitions.
fn lanes(assignment: &[u8]) -> Option<Vec<u32>> {
    let mut rest = assignment.get(2..)?;
    let mut found = Vec::new();
    for _ in 0..whole(&mut rest)? {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        rest = behind.get(usize::from(u16::from_be_bytes(*length))..)?;
        for _ in 0..whole(&mut rest)? {
            found.push(whole(&mut rest)?);
        }
    }
    Some(found)
}

fn whole(from: &mut &[u8]) -> Option<u32> {
    let (number, rest) = from.split_first_chunk::<4>()?;
    *from = rest;
    Some(u32::from_be_bytes(*number))
}

/// Says to the coordinator that this member leaves. It hears of that by its next heartbeat.
pub(crate) fn throw_out(broker: u16, group: &str, member: &Member) -> io::Result<bool> {
    const LEAVE_GROUP: u16 = 13;
    const VERSION: u16 = 3;
    let mut request = Vec::new();
    request.extend_from_slice(&LEAVE_GROUP.to_be_bytes());
    request.extend_from_slice(&VERSION.to_be_bytes());
    request.extend_from_slice(&1u32.to_be_bytes());
    text(&mut request, "suite");
    text(&mut request, group);
    request.extend_from_slice(&1u32.to_be_bytes());
    text(&mut request, &member.id);
    // It has no instance id.
    request.extend_from_slice(&(-1i16).to_be_bytes());
    let mut stream = TcpStream::connect(("127.0.0.1", broker))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(&(request.len() as u32).to_be_bytes())?;
    stream.write_all(&request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    // The number of the request, how long to wait before the next one, and the error.
    Ok(answer.get(8..10) == Some(&[0, 0]))
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend_from_slice(&(text.len() as u16).to_be_bytes());
    into.extend_from_slice(text.as_bytes());
}
