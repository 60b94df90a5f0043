//! Requests to the management plugin: is its HTTP API there, does it take the user that tests use, can messages be sent, and is a cluster whole?

use std::io::{Read, Write};

use super::super::tool;

/// Of an answer.
const MOST: u64 = 1 << 20;
/// `guest:guest`.
const LOGIN: &str = "Z3Vlc3Q6Z3Vlc3Q=";

const ALARM: &str = "it is short of memory or disk, an alarm is on, and publishing blocks: see its queues for what tests left behind, \
                     or start afresh with `cargo xtask brokers down --wipe`";

/// Fails also under an alarm: a broker takes connections then, and blocks whoever publishes.
pub(super) fn no_alarm(port: u16) -> Result<(), String> {
    match get(port, "health/checks/alarms")? {
        (200, _) => Ok(()),
        (503, _) => Err(ALARM.to_owned()),
        (other, _) => Err(format!("port {port}: not the HTTP API of RabbitMQ: status {other}")),
    }
}

/// Whether this node sees so many running nodes in its cluster, and could end itself without a queue losing its majority: so the replicas on the others are in line.
pub(super) fn in_cluster(port: u16, nodes: usize) -> Result<(), String> {
    let (status, body) = get(port, "nodes?columns=name,running")?;
    let running = body.matches("\"running\":true").count();
    if status != 200 || running != nodes {
        return Err(format!("port {port}: it sees {running} of {nodes} nodes running"));
    }
    match get(port, "health/checks/node-is-quorum-critical")? {
        (200, _) => Ok(()),
        (status, body) => {
            let body: String = body.chars().take(300).collect();
            Err(format!("port {port}: replicas are missing elsewhere: status {status}, {body}"))
        }
    }
}

/// Status and body of an answer.
fn get(port: u16, path: &str) -> Result<(u16, String), String> {
    let answer = ask(port, path)?;
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    match status(&answer) {
        Some(401) => Err(format!("port {port}: the HTTP API does not take the user `guest`")),
        Some(status) => Ok((status, String::from_utf8_lossy(answer.get(body..).unwrap_or_default()).into_owned())),
        None => Err(format!("port {port}: not the HTTP API of RabbitMQ")),
    }
}

fn ask(port: u16, path: &str) -> Result<Vec<u8>, String> {
    let mut stream = tool::connect(port)?;
    let mut exchange = || {
        write!(stream, "GET /api/{path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Basic {LOGIN}\r\n\r\n")?;
        let mut answer = Vec::new();
        (&stream).take(MOST).read_to_end(&mut answer)?;
        Ok(answer)
    };
    exchange().map_err(|e: std::io::Error| format!("port {port}: {e}"))
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_line_has_a_status() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 401 Unauthorized\r\n"), Some(401));
        for garbage in [&b""[..], b"\r\n", b"AMQP\x00\x00\x09\x01", b"HTTP/1.1", b"HTTP/1.1 \r\n", b"HTTP/1.1 \xff\r\n"]
        {
            assert_eq!(status(garbage), None);
        }
    }
}
