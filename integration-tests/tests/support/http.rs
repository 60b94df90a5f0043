//! Where the broker under test is, and its HTTP API.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use convoy_core::{Error, ErrorKind, Result};
use serde_json::Value;

/// Where `cargo xtask brokers up rabbitmq` puts it.
const URL: &str = "amqp://guest:guest@127.0.0.1:5672";
/// The HTTP API is so far above it.
const ABOVE: u16 = 10_000;
/// `guest:guest`.
const LOGIN: &str = "Z3Vlc3Q6Z3Vlc3Q=";
const PATIENCE: Duration = Duration::from_secs(30);

/// The port of the broker of `CONVOY_RABBITMQ_URL`, on this machine and with the guest user, as `cargo xtask brokers` starts it.
pub(crate) fn amqp_port() -> u16 {
    let url = std::env::var("CONVOY_RABBITMQ_URL").unwrap_or_else(|_| URL.to_owned());
    let port = url.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok());
    port.unwrap_or(5672)
}

/// The HTTP API of the management plugin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http(u16);

impl Http {
    /// That of the broker on this port: the one of `CONVOY_RABBITMQ_HTTP`, or so far above it.
    pub(crate) fn beside(amqp: u16) -> Self {
        let named = std::env::var("CONVOY_RABBITMQ_HTTP").ok().and_then(|port| port.parse().ok());
        Self(named.unwrap_or_else(|| amqp.saturating_add(ABOVE)))
    }

    #[allow(dead_code, reason = "not every test that has this file asks")]
    pub(crate) fn url(self) -> String {
        format!("http://127.0.0.1:{}", self.0)
    }

    /// The broker's version.
    pub(crate) fn version(self) -> Option<String> {
        let overview = self.get("overview").ok()?;
        Some(overview.get("rabbitmq_version")?.as_str()?.to_owned())
    }

    pub(crate) fn get(self, path: &str) -> Result<Value> {
        let answer = self.ask("GET", path, "")?;
        serde_json::from_slice(&answer).map_err(|e| unreached("the HTTP API's answer", e))
    }

    pub(crate) fn ask(self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.0));
        let asked = || {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let head = format!("{method} /api/{path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Basic {LOGIN}\r\n");
            let length = body.len();
            write!(stream, "{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        let answer = asked().map_err(|e| unreached("the HTTP API", e))?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        let (head, body) = answer.split_at(end);
        let taken = head.get(9..10) == Some(b"2");
        if taken { Ok(body.to_vec()) } else { Err(unreached(&String::from_utf8_lossy(head), "refused")) }
    }
}

/// The broker under test was not reached.
pub(crate) fn unreached(what: &str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Disconnected, "stage").because(format!("{what} of the broker under test")).caused_by(why)
}
