//! The exchange of a group that hashes sessions to its lanes, for a channel whose publishers cannot.

use std::sync::Arc;

use convoy_core::runtime::now;
use convoy_core::{Error, ErrorKind, Finding, Result, Severity};
use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::config::Options;
use crate::connection::Link;
use crate::error;
use crate::names::{self, Names};
use crate::permissions;
use crate::topology::{CHECK, PROVISION, exists, is_there, refusal, unseen};

/// It goes by the set of queues that are bound to it, whatever their order was.
const TYPE: &str = "x-modulus-hash";

/// Each lane gets as much as another one.
const WEIGHT: &str = "1";

const ENTRY_MISSING: &str = "entry-missing";

/// Makes the exchange, with nothing bound to it, on a connection of its own: older brokers close the whole of one that asks for a type they do not know. That is found out before
/// anything else of the group is there.
pub(crate) async fn declare(options: &Options, names: &Names) -> Result<()> {
    let link = Link::open(options, PROVISION).await?;
    let made = make(&link, names).await;
    link.close(now() + options.answer_limit).await.ok();
    made
}

async fn make(link: &Arc<Link>, names: &Names) -> Result<()> {
    let channel = link.channel(PROVISION).await?;
    let declared = channel.exchange_declare(names.hashing(), kind(), durable(), FieldTable::default());
    match link.ask_raw(PROVISION, declared).await? {
        Err(why) if error::is_unknown_type(&why) => Err(unknown(names, error::of(why, PROVISION))),
        answer => refusal(answer, "exchange", names.hashing().as_str()),
    }
}

/// Binds it to the lanes, which are there, and to the channel.
pub(crate) async fn bind(link: &Link, channel: &Channel, entry: &ShortString, names: &Names) -> Result<()> {
    let exchange = names.hashing();
    for lane in 0..names.lanes {
        let (key, options) = (names::short(WEIGHT.to_owned()), QueueBindOptions::default());
        let queue = names.lane(lane);
        let bound = channel.queue_bind(queue.clone(), exchange.clone(), key, options, FieldTable::default());
        let bound = link.ask(PROVISION, bound).await;
        bound.map_err(|why| permissions::bind_refused(why, queue.as_str(), exchange.as_str()))?;
    }
    // Last: with some of its lanes it would hash otherwise than with all of them.
    let (key, options) = (ShortString::default(), ExchangeBindOptions::default());
    let bound = channel.exchange_bind(exchange.clone(), entry.clone(), key, options, FieldTable::default());
    let bound = link.ask(PROVISION, bound).await;
    bound.map_err(|why| permissions::chain_refused(why, exchange.as_str(), entry.as_str()))
}

/// Refuses to make lanes again that are gone from a group which was whole: each of them would move sessions between all the others, whatever waits there.
pub(crate) async fn no_lane_is_lost(link: &Arc<Link>, names: &Names) -> Result<()> {
    // Who may see too little of it finds out with the next declaration.
    let is_whole =
        is_there(link, &names.members()).await? == Some(true) && is_there(link, &names.hashing()).await? == Some(true);
    for lane in (0..names.lanes).filter(|_| is_whole) {
        let queue = names.lane(lane);
        if !exists(link, &queue).await? {
            let (hash, what) = (
                names.hashing(),
                "a lane of a group that the broker hashes is gone, and its sessions are in other lanes since: made again, it would move sessions whose messages wait there",
            );
            return Err(Error::new(ErrorKind::Topology, PROVISION)
                .because(format!("{what}; stop the channel's publishers, let the lanes run empty, delete the exchange `{hash}`, and provision again"))
                .with("queue", queue.as_str()));
        }
    }
    Ok(())
}

fn kind() -> ExchangeKind {
    ExchangeKind::Custom(TYPE.to_owned())
}

fn durable() -> ExchangeDeclareOptions {
    ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() }
}

fn unknown(names: &Names, why: Error) -> Error {
    Error::new(ErrorKind::Unsupported, PROVISION)
        .because(format!("the broker has no exchanges of the type `{TYPE}`, which is built into RabbitMQ 4.3: take a newer broker, or publishers that hash (`entry=slots`)"))
        .with("channel", &names.channel)
        .with("group", &names.group)
        .caused_by(why)
}

/// Whether it is there and of the type, and the group was once made to its end. What is bound to it is not seen.
pub(crate) async fn check(link: &Arc<Link>, names: &Names) -> Result<Vec<Finding>> {
    let exchange = names.hashing();
    let missing = |what: String| vec![Finding::new(Severity::Breaks, ENTRY_MISSING, what, "provision the group again")];
    if is_there(link, &exchange).await? == Some(false) {
        return Ok(missing(format!(
            "the exchange `{exchange}` does not exist: nothing that is sent comes to the group"
        )));
    }
    if is_there(link, &names.members()).await? == Some(false) {
        let what = format!(
            "the group was not made to its end, since the exchange `{}` is missing: perhaps nothing that is sent comes to it",
            names.members()
        );
        return Ok(missing(what));
    }
    let channel = link.channel(CHECK).await?;
    let asked = channel.exchange_declare(exchange.clone(), kind(), durable(), FieldTable::default());
    match link.ask_raw(CHECK, asked).await? {
        Ok(()) => link.ask(CHECK, channel.close(200, "checked".into())).await.map(|()| Vec::new()),
        Err(why) => match (error::mismatch(&why), error::forbidden(&why)) {
            (Some(said), _) => {
                let what = format!("the exchange `{exchange}` is not a durable one of the type `{TYPE}`: {said}");
                let remedy = "delete it, and provision the group again";
                Ok(vec![Finding::new(Severity::Breaks, "exchange", what, remedy)])
            }
            (None, Some(said)) => Ok(vec![unseen(exchange.as_str(), &said)]),
            (None, None) => Err(error::of(why, CHECK).with("exchange", exchange.as_str())),
        },
    }
}
