//! A relay that reads the frames of AMQP on their way, and can put in some of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// An AMQP channel: the number of its connection, by the order in which they came, and its own.
pub(crate) type Number = (usize, u16);

/// What matters here of what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A consumer was registered at this queue under this tag.
    Consume { queue: String, tag: String },
    /// A consumer was cancelled.
    Cancel { tag: String },
    /// The broker delivered to a consumer.
    Deliver { tag: String, delivery: u64 },
    /// Deliveries were acknowledged.
    Ack { delivery: u64, multiple: bool },
    /// Something was given back by itself: reject, nack or recover.
    GivenBack,
    /// The client closed the channel.
    CloseChannel,
    /// The broker closed the channel.
    Closed,
    /// The client closed the connection.
    CloseConnection,
}

/// The relay.
pub(crate) struct Tap {
    port: u16,
    log: Arc<Log>,
    door: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    said: Mutex<Vec<(Number, Said)>>,
    /// By connection: frames to put in towards the broker.
    inputs: Mutex<Vec<UnboundedSender<Vec<u8>>>>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.door.abort();
    }
}

impl Tap {
    /// Leads to the broker on this port.
    pub(crate) async fn before(amqp: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let log = Arc::new(Log::default());
        let kept = Arc::clone(&log);
        let door = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let upstream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], amqp))).await;
                let Ok(upstream) = upstream else { continue };
                let (put, input) = unbounded_channel();
                let number = {
                    let mut inputs = kept.inputs.lock();
                    inputs.push(put);
                    inputs.len() - 1
                };
                let ((from_client, to_client), (from_broker, to_broker)) = (client.into_split(), upstream.into_split());
                let (_, nothing) = unbounded_channel();
                tokio::spawn(pump(from_client, to_broker, input, Frames::of(number, true), Arc::clone(&kept)));
                tokio::spawn(pump(from_broker, to_client, nothing, Frames::of(number, false), Arc::clone(&kept)));
            }
        });
        Self { port, log, door }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Acknowledges on this channel what was never delivered on it: the broker closes the channel for that, with a 406.
    pub(crate) fn spoil(&self, (connection, channel): Number) {
        let mut payload = vec![0, 60, 0, 80];
        payload.extend(u64::MAX.to_be_bytes());
        payload.push(0);
        let mut frame = vec![1];
        frame.extend(channel.to_be_bytes());
        frame.extend((payload.len() as u32).to_be_bytes());
        frame.extend(payload);
        frame.push(0xce);
        self.log.inputs.lock()[connection].send(frame).expect("the connection lives");
    }

    /// All that was said, in order, by channel.
    pub(crate) fn channels(&self) -> BTreeMap<Number, Vec<Said>> {
        let mut channels: BTreeMap<Number, Vec<Said>> = BTreeMap::new();
        for (number, said) in self.log.said.lock().iter() {
            channels.entry(*number).or_default().push(said.clone());
        }
        channels
    }

    /// The registrations at lanes: each is the first one on its channel.
    pub(crate) fn registrations(&self) -> Vec<Registration> {
        let channels = self.channels();
        let closed: BTreeSet<usize> = channels
            .iter()
            .filter(|(_, said)| said.contains(&Said::CloseConnection))
            .map(|((connection, _), _)| *connection)
            .collect();
        let of = |(number, said): (&Number, &Vec<Said>)| {
            let mut it = Registration::at_a_lane(*number, said)?;
            it.closed |= closed.contains(&number.0);
            Some(it)
        };
        channels.iter().filter_map(of).collect()
    }
}

/// What became of a registration at a lane.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) number: Number,
    /// It was cancelled: never to happen.
    pub(crate) cancelled: bool,
    /// Second registrations on its channel that were cancelled, which is how settling makes sure.
    pub(crate) seconds: usize,
    /// Something was given back by itself: never to happen.
    pub(crate) gave_back: bool,
    /// The client closed the channel, or the connection.
    pub(crate) closed: bool,
    /// What was delivered and not acknowledged.
    pub(crate) unsettled: usize,
}

impl Registration {
    fn at_a_lane(number: Number, said: &[Said]) -> Option<Self> {
        let first = said.iter().find_map(|said| match said {
            Said::Consume { queue, tag } if queue.contains(".lane.") => Some(tag.clone()),
            _ => None,
        })?;
        let mut it = Self { number, cancelled: false, seconds: 0, gave_back: false, closed: false, unsettled: 0 };
        let mut unsettled = BTreeSet::new();
        for said in said {
            match said {
                Said::Cancel { tag } if *tag == first => it.cancelled = true,
                Said::Cancel { .. } => it.seconds += 1,
                Said::Deliver { tag, delivery } => {
                    assert_eq!(*tag, first, "a second registration is never active");
                    unsettled.insert(*delivery);
                }
                Said::Ack { delivery, multiple: true } => unsettled.retain(|tag| tag > delivery),
                Said::Ack { delivery, multiple: false } => _ = unsettled.remove(delivery),
                Said::GivenBack => it.gave_back = true,
                Said::CloseChannel | Said::CloseConnection => it.closed = true,
                Said::Consume { .. } | Said::Closed => {}
            }
        }
        it.unsettled = unsettled.len();
        Some(it)
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut input: UnboundedReceiver<Vec<u8>>,
    mut frames: Frames,
    log: Arc<Log>,
) {
    let mut open = true;
    loop {
        tokio::select! {
            read = from.read_buf(&mut frames.buffer) => match read {
                Ok(1..) => {}
                _ => break,
            },
            put = input.recv(), if open => match put {
                Some(frame) => if to.write_all(&frame).await.is_err() { break },
                None => open = false,
            },
        }
        // Told before it is passed on: whoever sees an effect finds its cause.
        let whole = frames.take(|number, said| log.said.lock().push((number, said)));
        if to.write_all(&whole).await.is_err() {
            break;
        }
    }
    to.shutdown().await.ok();
}

/// What came one way, until it is a whole frame.
struct Frames {
    connection: usize,
    from_client: bool,
    begun: bool,
    buffer: Vec<u8>,
}

impl Frames {
    fn of(connection: usize, from_client: bool) -> Self {
        Self { connection, from_client, begun: !from_client, buffer: Vec::new() }
    }

    /// Takes what is whole: frames of one byte of type, two of channel, four of length, and one at the end. A client begins with eight bytes that are none.
    fn take(&mut self, mut tell: impl FnMut(Number, Said)) -> Vec<u8> {
        let mut at = 0;
        if !self.begun && self.buffer.len() >= 8 {
            (self.begun, at) = (true, 8);
        }
        while self.begun
            && let Some(head) = self.buffer.get(at..at + 7)
        {
            let (channel, length) = (short(&head[1..]), u32::from_be_bytes([head[3], head[4], head[5], head[6]]));
            let end = at + 7 + length as usize;
            if self.buffer.len() <= end {
                break;
            }
            if head[0] == 1
                && let Some(said) = said(&self.buffer[at + 7..end], self.from_client)
            {
                tell((self.connection, channel), said);
            }
            at = end + 1;
        }
        self.buffer.drain(..at).collect()
    }
}

fn short(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// The method of a frame, if it is one of those that matter. What a client or a broker writes is well formed.
fn said(payload: &[u8], from_client: bool) -> Option<Said> {
    let text = |at: usize| {
        let end = at + 1 + usize::from(payload[at]);
        (String::from_utf8_lossy(&payload[at + 1..end]).into_owned(), end)
    };
    let long = |at: usize| payload[at..at + 8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    Some(match (short(payload), short(&payload[2..]), from_client) {
        (60, 20, true) => {
            let (queue, end) = text(6);
            Said::Consume { queue, tag: text(end).0 }
        }
        (60, 30, true) => Said::Cancel { tag: text(4).0 },
        (60, 60, false) => {
            let (tag, end) = text(4);
            Said::Deliver { tag, delivery: long(end) }
        }
        (60, 80, true) => Said::Ack { delivery: long(4), multiple: payload[12] & 1 == 1 },
        (60, 90 | 100 | 110 | 120, true) => Said::GivenBack,
        (20, 40, true) => Said::CloseChannel,
        (20, 40, false) => Said::Closed,
        (10, 50, true) => Said::CloseConnection,
        _ => return None,
    })
}
