//! What the client library does by itself: the same queues, prefetch, acknowledgements and bytes on the wire, no sessions. At most a hundred lines.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, future};
use lapin::options::{BasicAckOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use crate::{ACK_EVERY, Any, PREFETCH};

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

    /// Sends so many messages, with at most `window` of them unconfirmed. Messages a second.
    pub(crate) async fn publish(&self, messages: u64, window: usize, body: &[u8]) -> Result<f64, Any> {
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(Default::default()).await?;
        let text = |text: &str| AMQPValue::LongString(LongString::from(text));
        let mut headers = FieldTable::default();
        headers.insert("convoy-session".into(), text("session-123"));
        headers
            .insert("convoy-stamp".into(), text("01a20f66-0089-70c3-ac05-84a07a51a804/12345/12344/1764020000000000"));
        let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
        let properties = properties.with_message_id("01a20f66-0089-70c3-ac05-84a07a51a805".into());
        let (begun, mut out) = (Instant::now(), FuturesUnordered::new());
        for number in 0..messages {
            if out.len() >= window {
                confirmed(out.next().await)?;
            }
            let queue = self.queues[number as usize % self.queues.len()].as_str();
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            out.push(channel.basic_publish("".into(), queue.into(), options, body, properties.clone()).await?);
        }
        while let Some(confirm) = out.next().await {
            confirmed(Some(confirm))?;
        }
        Ok(messages as f64 / begun.elapsed().as_secs_f64())
    }

    /// Takes so many messages from all queues. Messages a second.
    pub(crate) async fn consume(&self, messages: u64) -> Result<f64, Any> {
        let each = messages / self.queues.len() as u64;
        let first: Arc<OnceLock<Instant>> = Arc::default();
        let taken = self.queues.iter().map(|queue| {
            let first = Arc::clone(&first);
            async move {
                let channel = self.connection.create_channel().await?;
                tokio::spawn(drain(channel, queue.clone(), each, first)).await?
            }
        });
        future::try_join_all(taken).await?;
        let begun = first.get().ok_or("nothing was taken")?;
        Ok((each * self.queues.len() as u64) as f64 / begun.elapsed().as_secs_f64())
    }
}

async fn drain(channel: Channel, queue: String, messages: u64, first: Arc<OnceLock<Instant>>) -> Result<(), Any> {
    channel.basic_qos(PREFETCH, Default::default()).await?;
    let mut consumer =
        channel.basic_consume(queue.into(), "".into(), Default::default(), FieldTable::default()).await?;
    for number in 1..=messages {
        let delivery = consumer.next().await.ok_or("the consumer ended")??;
        first.get_or_init(Instant::now);
        if number % ACK_EVERY == 0 || number == messages {
            channel.basic_ack(delivery.delivery_tag, BasicAckOptions { multiple: true }).await?;
        }
    }
    channel.close(200, "done".into()).await?;
    Ok(())
}

fn confirmed(confirm: Option<lapin::Result<Confirmation>>) -> Result<(), Any> {
    match confirm {
        Some(Ok(Confirmation::Ack(None))) => Ok(()),
        other => Err(format!("not confirmed: {other:?}").into()),
    }
}
