//! One request to the management plugin: is its HTTP API there, does it take the user that tests use, and can messages be sent?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// `guest:guest`.
const LOGIN: &str = "Z3Vlc3Q6Z3Vlc3Q=";

const ALARM: &str = "it is short of memory or disk, an alarm is on, and publishing blocks: see its queues for what tests left behind, \
                     or start afresh with `cargo xtask brokers down --wipe`";

/// Fails also under an alarm: a broker takes connections then, and blocks whoever publishes.
pub(super) fn no_alarm(port: u16) -> Result<(), String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let answer = ask(address).map_err(|e| format!("{address}: {e}"))?;
    match status(&answer) {
        Some(200) => Ok(()),
        Some(401) => Err(format!("{address}: the HTTP API does not take the user `guest`")),
        Some(503) => Err(ALARM.to_owned()),
        _ => Err(format!("{address}: not the HTTP API of RabbitMQ")),
    }
}

fn ask(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /api/health/checks/alarms HTTP/1.0\r\nHost: {address}\r\nAuthorization: Basic {LOGIN}\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    // The first line is enough; the body says nothing that is needed.
    stream.take(64).read_to_end(&mut answer)?;
    Ok(answer)
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
