//! What the client library does by itself: the same queues, prefetch, acknowledgements and bytes on the wire, no sessions. At most a hundred lines.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt, future};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::time::sleep;

use crate::{ACK_EVERY, Any, LANES, PREFETCH, SESSIONS};

/// Publishes and consumes on queues of its own.
pub(crate) struct Raw {
    pub(crate) connection: Connection,
    queues: Vec<String>,
}

impl Raw {
    pub(crate) async fn open(url: &str, lanes: u32, run: &str) -> Result<Self, Any> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let queues: Vec<String> = (0..lanes).map(|lane| format!("raw-{run}.{lane}")).collect();
        for queue in &queues {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from("quorum")));
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
            // Nobody needs them after the run.
            arguments.insert("x-expires".into(), AMQPValue::LongInt(600_000));
            channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
        }
        Ok(Self { connection, queues })
    }

    /// Sends so many messages, with at most `SESSIONS` of them unconfirmed. Messages a second.
    pub(crate) async fn publish(&self, messages: u64, properties: &BasicProperties) -> Result<f64, Any> {
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(Default::default()).await?;
        let (begun, mut out) = (Instant::now(), FuturesUnordered::new());
        for number in 0..messages {
            if out.len() >= SESSIONS as usize {
                confirmed(out.next().await)?;
            }
            let queue = self.queues[number as usize % self.queues.len()].as_str();
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            out.push(channel.basic_publish("".into(), queue.into(), options, &[0; 8], properties.clone()).await?);
        }
        while let Some(confirm) = out.next().await {
            confirmed(Some(confirm))?;
        }
        Ok(messages as f64 / begun.elapsed().as_secs_f64())
    }

    /// Takes so many messages from all queues, and works so long on each, on `SESSIONS` at once. Messages a second.
    pub(crate) async fn consume(&self, messages: u64, work: Duration) -> Result<f64, Any> {
        let each = messages / self.queues.len() as u64;
        let first: Arc<OnceLock<Instant>> = Arc::default();
        let taken = self.queues.iter().map(|queue| {
            let first = Arc::clone(&first);
            async move {
                let channel = self.connection.create_channel().await?;
                tokio::spawn(drain(channel, queue.clone(), each, work, first)).await?
            }
        });
        future::try_join_all(taken).await?;
        let begun = first.get().ok_or("nothing was taken")?;
        Ok((each * self.queues.len() as u64) as f64 / begun.elapsed().as_secs_f64())
    }
}

type First = Arc<OnceLock<Instant>>;

async fn drain(channel: Channel, queue: String, messages: u64, work: Duration, first: First) -> Result<(), Any> {
    channel.basic_qos(PREFETCH, Default::default()).await?;
    let consumer = channel.basic_consume(queue.into(), "".into(), Default::default(), FieldTable::default()).await?;
    let mut consumer = consumer.take(messages as usize).inspect(|_| _ = first.get_or_init(Instant::now));
    for number in (1..=messages).filter(|_| work.is_zero()) {
        let delivery = consumer.next().await.ok_or("the consumer ended")??;
        if number % ACK_EVERY == 0 || number == messages {
            channel.basic_ack(delivery.delivery_tag, BasicAckOptions { multiple: true }).await?;
        }
    }
    // What takes time ends in any order, so each is acknowledged by itself.
    let handle = async |delivery: Delivery| (sleep(work).await, delivery.ack(Default::default()).await.map(drop)).1;
    consumer.try_for_each_concurrent(SESSIONS.div_ceil(LANES) as usize, handle).await?;
    Ok(channel.close(200, "done".into()).await?)
}

fn confirmed(confirm: Option<lapin::Result<Confirmation>>) -> Result<(), Any> {
    match confirm {
        Some(Ok(Confirmation::Ack(None))) => Ok(()),
        other => Err(format!("not confirmed: {other:?}").into()),
    }
}
