//! As much of AMQP 0-9-1 as it takes to ask a broker who it is and to log in: a port that is open is no broker that is ready.

use std::io::{Read, Write};

use super::super::bytes::Bytes;
use super::super::product::Server;
use super::super::tool;

const HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
const FRAME_END: u8 = 0xCE;
/// The most that a broker may send before a size was agreed on, with room to spare.
const FRAME_MAX: usize = 131_072;

/// Opens a connection to the virtual host `/` as `guest` and closes it. Done, a client can work there.
pub(in super::super) fn hello(port: u16) -> Result<Server, String> {
    let mut stream = tool::connect(port)?;
    exchange(&mut stream).map_err(|why| format!("port {port}: {why}"))
}

fn exchange(stream: &mut (impl Read + Write)) -> Result<Server, String> {
    send(stream, HEADER)?;
    let start = receive(stream)?;
    let server = server(&start).ok_or("it does not greet as an AMQP 0-9-1 broker does")?;
    send(stream, &frame(START_OK, &start_ok()))?;
    let tune = expect(stream, TUNE)?;
    let limits = tune.get(4..10).ok_or("its limits are cut off")?;
    send(stream, &frame(TUNE_OK, &[limits, &[0, 0]].concat()))?;
    send(stream, &frame(OPEN, b"\x01/\x00\x00"))?;
    expect(stream, OPEN_OK)?;
    send(stream, &frame(CLOSE, &[&200u16.to_be_bytes()[..], b"\x03bye", &[0; 4]].concat()))?;
    expect(stream, CLOSE_OK)?;
    Ok(server)
}

/// Class and method.
type Method = [u8; 4];
const START: Method = [0, 10, 0, 10];
const START_OK: Method = [0, 10, 0, 11];
const TUNE: Method = [0, 10, 0, 30];
const TUNE_OK: Method = [0, 10, 0, 31];
const OPEN: Method = [0, 10, 0, 40];
const OPEN_OK: Method = [0, 10, 0, 41];
const CLOSE: Method = [0, 10, 0, 50];
const CLOSE_OK: Method = [0, 10, 0, 51];

fn start_ok() -> Vec<u8> {
    let login = b"\0guest\0guest";
    [&[0; 4][..], b"\x05PLAIN", &[0, 0, 0, login.len() as u8], login, b"\x05en_US"].concat()
}

fn frame(method: Method, arguments: &[u8]) -> Vec<u8> {
    let size = (method.len() + arguments.len()) as u32;
    [&[1, 0, 0][..], &size.to_be_bytes(), &method, arguments, &[FRAME_END]].concat()
}

fn send(stream: &mut impl Write, bytes: &[u8]) -> Result<(), String> {
    stream.write_all(bytes).map_err(|e| e.to_string())
}

/// The payload of the next frame.
fn receive(stream: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut head = [0; 7];
    stream.read_exact(&mut head).map_err(|e| e.to_string())?;
    if head.starts_with(b"AMQP") {
        return Err("it speaks another AMQP than 0-9-1".to_owned());
    }
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    if head[0] != 1 || size > FRAME_MAX {
        return Err("it does not speak AMQP".to_owned());
    }
    let mut payload = vec![0; size + 1];
    stream.read_exact(&mut payload).map_err(|e| e.to_string())?;
    if payload.pop() == Some(FRAME_END) { Ok(payload) } else { Err("a frame has no end".to_owned()) }
}

fn expect(stream: &mut impl Read, method: Method) -> Result<Vec<u8>, String> {
    let payload = receive(stream)?;
    if payload.starts_with(&method) {
        Ok(payload)
    } else if payload.starts_with(&CLOSE) {
        let mut rest = Bytes(payload.get(6..).unwrap_or_default());
        Err(format!("the broker refused: {}", rest.short().unwrap_or_default()))
    } else {
        Err(format!("an answer {:?} instead of {method:?}", payload.get(..4).unwrap_or_default()))
    }
}

/// Product and version from the payload of `connection.start`.
fn server(payload: &[u8]) -> Option<Server> {
    let mut bytes = Bytes(payload.strip_prefix(&START)?);
    bytes.take(2)?;
    let (mut product, mut version) = (None, None);
    let mut properties = Bytes(bytes.long()?);
    while !properties.0.is_empty() {
        let name = properties.short()?;
        let value = properties.value()?;
        match name.as_str() {
            "product" => product = value,
            "version" => version = value,
            _ => {}
        }
    }
    Some(Server { product: product?, version: version? })
}

impl<'a> Bytes<'a> {
    fn short(&mut self) -> Option<String> {
        let length = *self.take(1)?.first()?;
        Some(String::from_utf8_lossy(self.take(length.into())?).into_owned())
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(self.array()?);
        self.take(usize::try_from(length).ok()?)
    }

    /// The value of a field: its text when it is one, and nothing for what is passed over.
    fn value(&mut self) -> Option<Option<String>> {
        let width = match *self.take(1)?.first()? {
            b'S' => return Some(Some(String::from_utf8_lossy(self.long()?).into_owned())),
            b'F' | b'A' | b'x' => return self.long().map(|_| None),
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'u' | b'U' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            _ => return None,
        };
        self.take(width).map(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// `connection.start` as RabbitMQ sends it, shortened.
    fn greeting() -> Vec<u8> {
        let mut table = Vec::new();
        table.extend(b"\x0ccapabilitiesF\x00\x00\x00\x15\x12publisher_confirmst\x01");
        table.extend(b"\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x054.3.6");
        table.extend(b"\x01nI\x00\x00\x00\x07\x01vV");
        let length = (table.len() as u32).to_be_bytes();
        [&START[..], &[0, 9], &length, &table, b"\x00\x00\x00\x05PLAIN\x00\x00\x00\x05en_US"].concat()
    }

    #[test]
    fn a_greeting_tells_product_and_version() {
        let told = server(&greeting());
        assert_eq!(told, Some(Server { product: "RabbitMQ".into(), version: "4.3.6".into() }));
    }

    #[test]
    fn a_greeting_that_is_cut_off_or_spoilt_is_no_panic() {
        let whole = greeting();
        let needed = whole.len() - b"\x00\x00\x00\x05PLAIN\x00\x00\x00\x05en_US".len();
        for end in 0..whole.len() {
            assert_eq!(server(&whole[..end]).is_some(), end >= needed, "cut at {end}");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut spoilt = whole.clone();
                spoilt[at] = byte;
                let _ = server(&spoilt);
            }
        }
    }

    #[test]
    fn a_frame_that_is_none_is_an_error() {
        let whole = frame(START, &greeting()[4..]);
        assert_eq!(receive(&mut Cursor::new(&whole)), Ok(greeting()));
        for end in 0..whole.len() {
            assert!(receive(&mut Cursor::new(&whole[..end])).is_err());
        }
        assert!(receive(&mut Cursor::new(b"HTTP/1.1 400 Bad Request\r\n\r\n")).is_err());
        assert!(receive(&mut Cursor::new(b"AMQP\x00\x01\x00\x00")).is_err_and(|why| why.contains("another AMQP")));
        assert!(receive(&mut Cursor::new(b"\x01\x00\x00\xff\xff\xff\xff")).is_err());
        let mut open = whole.clone();
        *open.last_mut().unwrap() = 0;
        assert!(receive(&mut Cursor::new(open)).is_err());
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_broker() {
        let refused = frame(CLOSE, b"\x01\x93\x0eACCESS_REFUSED\x00\x00\x00\x00");
        let told = expect(&mut Cursor::new(refused), TUNE);
        assert_eq!(told, Err("the broker refused: ACCESS_REFUSED".to_owned()));
        assert!(expect(&mut Cursor::new(frame(CLOSE, b"")), TUNE).is_err());
    }
}
