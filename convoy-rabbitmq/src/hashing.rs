//! The exchange of a group that hashes sessions to its lanes, for a channel whose publishers cannot.

use std::sync::Arc;

use convoy_core::runtime::now;
use convoy_core::{Error, ErrorKind, Finding, Result, Severity};
use lapin::ExchangeKind;
use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::{FieldTable, ShortString};

use crate::config::Options;
use crate::connection::Link;
use crate::error;
use crate::names::{self, Names};
use crate::permissions;
use crate::topology::{CHECK, PROVISION, refusal};

/// Each lane gets as much as another one.
const WEIGHT: &str = "1";

/// Makes it, on a connection of its own: older brokers close the whole of one that asks for a type they do not know.
pub(crate) async fn provision(options: &Options, channel: &ShortString, names: &Names, kind: &str) -> Result<()> {
    let link = Link::open(options, PROVISION).await?;
    let made = make(&link, channel, names, kind).await;
    link.close(now() + options.answer_limit).await.ok();
    made
}

async fn make(link: &Arc<Link>, entry: &ShortString, names: &Names, kind: &str) -> Result<()> {
    let channel = link.channel(PROVISION).await?;
    let exchange = names.hashing();
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let custom = ExchangeKind::Custom(kind.to_owned());
    let declared = channel.exchange_declare(exchange.clone(), custom, durable, FieldTable::default());
    match link.ask_raw(PROVISION, declared).await? {
        Err(why) if error::is_unknown_type(&why) => return Err(unknown(names, kind, error::of(why, PROVISION))),
        answer => refusal(answer, "exchange", exchange.as_str())?,
    }
    for lane in 0..names.lanes {
        let (key, options) = (names::short(WEIGHT.to_owned()), QueueBindOptions::default());
        let queue = names.lane(lane);
        let bound = channel.queue_bind(queue.clone(), exchange.clone(), key, options, FieldTable::default());
        let bound = link.ask(PROVISION, bound).await;
        bound.map_err(|why| permissions::bind_refused(why, queue.as_str(), exchange.as_str()))?;
    }
    // Last: with some of its lanes it would hash otherwise than with all of them.
    let (key, options) = (ShortString::default(), ExchangeBindOptions::default());
    let bound = channel.exchange_bind(exchange, entry.clone(), key, options, FieldTable::default());
    link.ask(PROVISION, bound).await?;
    link.ask(PROVISION, channel.close(200, "provisioned".into())).await
}

fn unknown(names: &Names, kind: &str, why: Error) -> Error {
    let remedy = names.entry.remedy();
    Error::new(ErrorKind::Unsupported, PROVISION)
        .because(format!("the broker has no exchanges of the type `{kind}`: {remedy}"))
        .with("channel", &names.channel)
        .with("group", &names.group)
        .caused_by(why)
}

/// Whether it is there. That it is of the type follows from its name: nobody else makes one.
pub(crate) async fn check(link: &Arc<Link>, names: &Names) -> Result<Vec<Finding>> {
    let Some(kind) = names.entry.hashing() else { return Ok(Vec::new()) };
    let channel = link.channel(CHECK).await?;
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let (exchange, custom) = (names.hashing(), ExchangeKind::Custom(kind.to_owned()));
    let asked = channel.exchange_declare(exchange.clone(), custom, passive, FieldTable::default());
    match link.ask_raw(CHECK, asked).await? {
        Ok(()) => link.ask(CHECK, channel.close(200, "checked".into())).await.map(|()| Vec::new()),
        Err(why) if error::is_missing(&why) => {
            let what = format!("the exchange `{exchange}` does not exist: nothing that is sent comes to the group");
            Ok(vec![Finding::new(Severity::Breaks, "entry-missing", what, "provision the group again")])
        }
        Err(why) => Err(error::of(why, CHECK).with("exchange", exchange.as_str())),
    }
}
