//! The members of a group, as they hear of each other at the broker.

use std::sync::Arc;

use convoy_core::Result;
use convoy_core::runtime::now;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Consumer};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use uuid::Uuid;

use crate::connection::{Link, Publishing};
use crate::lane::Ask;
use crate::spread::{HELLO_EVERY, Member, Spread, Word};

/// A membership on one connection.
#[derive(Debug)]
pub(crate) struct Members {
    me: Member,
    exchange: ShortString,
    publishing: Arc<Publishing>,
    consumer: Consumer,
    _channel: Channel,
}

/// How often it is looked whether lanes are to move.
pub(crate) const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// A word as it is written on a message.
fn written(word: Word) -> &'static str {
    match word {
        Word::Hello => "hello",
        Word::Join => "join",
        Word::Bye => "bye",
    }
}

/// Whatever is not known says that somebody is there.
fn read(kind: &str) -> Word {
    [Word::Join, Word::Bye].into_iter().find(|word| written(*word) == kind).unwrap_or(Word::Hello)
}

impl Members {
    /// Listens for the others.
    pub(crate) async fn listen(
        me: Member,
        link: &Link,
        exchange: ShortString,
        publishing: Arc<Publishing>,
    ) -> Result<Self> {
        let channel = link.channel("join the group").await?;
        let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = link.ask("join the group", channel.queue_declare("".into(), own, FieldTable::default())).await?;
        let name = queue.name().clone();
        let bound = channel.queue_bind(
            name.clone(),
            exchange.clone(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        link.ask("join the group", bound).await?;
        let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(name, "".into(), no_ack, FieldTable::default());
        let consumer = link.ask("join the group", consumer).await?;
        Ok(Self { me, exchange, publishing, consumer, _channel: channel })
    }

    /// Says that it is there, hears who else is, and tells which lanes to move or to ask for. Ends when its queue, its channel or the connection does.
    pub(crate) async fn run(
        mut self,
        spread: &mut Spread,
        has: &impl Fn(u32) -> bool,
        seen: &impl Fn(&Spread),
        ask: &impl Fn(Vec<u32>, fn() -> Ask),
    ) {
        let mut hello = interval_at(Instant::now() + HELLO_EVERY, HELLO_EVERY);
        hello.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut out = Out::default();
        self.tell(&mut out, Word::Join);
        loop {
            tokio::select! {
                heard = self.consumer.next() => {
                    let Some(Ok(heard)) = heard else { return };
                    let kind = heard.properties.kind().as_ref().map_or("", |kind| kind.as_str());
                    let from = heard.properties.message_id().as_ref().and_then(|id| Uuid::try_parse(id.as_str()).ok());
                    let Some(from) = from.map(|id| id.as_u128()).filter(|from| *from != self.me) else { continue };
                    if let Some(answer) = spread.told(from, read(kind), now()) {
                        self.tell(&mut out, answer);
                    }
                }
                _ = hello.tick() => self.tell(&mut out, Word::Hello),
                _ = look.tick() => {
                    let now = now();
                    ask(spread.tick(now, has), || Ask::Move);
                    ask(spread.missing(now, has), || Ask::Probe);
                    seen(spread);
                }
                () = out.done() => {}
            }
        }
    }

    /// Sends a word beside everything else. One that cannot leave, since publishers are blocked, is given up: membership is for balance only.
    fn tell(&self, out: &mut Out, word: Word) {
        if out.0.is_none() {
            out.0 = Some(tell(Arc::clone(&self.publishing), self.exchange.clone(), self.me, word));
        }
    }
}

/// A word on its way.
#[derive(Default)]
struct Out(Option<futures_util::future::BoxFuture<'static, ()>>);

impl Out {
    async fn done(&mut self) {
        match &mut self.0 {
            Some(out) => out.await,
            None => std::future::pending().await,
        }
        self.0 = None;
    }
}

/// Says goodbye, so that the others need not wait for a silence.
pub(crate) async fn say_goodbye(publishing: Arc<Publishing>, exchange: ShortString, me: Member) {
    tell(publishing, exchange, me, Word::Bye).await;
}

fn tell(
    publishing: Arc<Publishing>,
    exchange: ShortString,
    me: Member,
    word: Word,
) -> futures_util::future::BoxFuture<'static, ()> {
    Box::pin(async move {
        let said = async {
            let link = publishing.link().await.ok()?;
            if link.is_blocked() {
                return None;
            }
            let channel = link.channel("join the group").await.ok()?;
            let id = crate::names::short(Uuid::from_u128(me).to_string());
            let properties = BasicProperties::default().with_type(written(word).into()).with_message_id(id);
            let publish = channel.basic_publish(exchange, "".into(), BasicPublishOptions::default(), b"", properties);
            link.ask("join the group", publish).await.ok()?;
            link.ask("join the group", channel.close(200, "said".into())).await.ok()
        };
        timeout(HELLO_EVERY * 2, said).await.ok();
    })
}
