//! What should exist at the broker, and what is wrong with what does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use convoy_core::runtime::now;
use convoy_core::{ChannelSpec, Error, ErrorKind, Finding, Result, Severity, Topology};
use futures_util::future::try_join_all;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::config::Options;
use crate::connection::Link;
use crate::entry::Entry;
use crate::error;
use crate::hashing;
use crate::management;
use crate::names::{self, Names, SLOTS};
use crate::permissions;

/// So many hand-overs a message may see. Never unlimited: a 3.10 broker then drops it at the first.
pub(crate) const DELIVERY_LIMIT: i64 = 1_000_000;

/// So many bindings are asked for before an answer is waited for. Few enough for one limit: on a machine with ten times its work a broker was seen to take 0.15 s for each.
const AT_ONCE: usize = 32;

pub(crate) const PROVISION: &str = "provision";
pub(crate) const CHECK: &str = "check";

/// Makes what is missing, on one connection.
pub(crate) async fn provision(options: &Options, topology: &Topology) -> Result<()> {
    let link = Link::open(options, PROVISION).await?;
    let made = async {
        for spec in topology.channels() {
            provision_channel(&link, &of_channel(options, spec)?, spec).await?;
        }
        Ok(())
    };
    let made = made.await;
    link.close(now() + options.answer_limit).await.ok();
    made
}

/// The options of a channel: the broker's, and what its description says.
fn of_channel(options: &Options, spec: &ChannelSpec) -> Result<Options> {
    let mut options = options.clone();
    for (name, value) in spec.options() {
        options.set_of_channel(name, value)?;
    }
    if let Some(lanes) = spec.lane_count() {
        options.lanes = lanes;
    }
    options.validate()?;
    Ok(options)
}

async fn provision_channel(link: &Arc<Link>, options: &Options, spec: &ChannelSpec) -> Result<()> {
    let groups: Vec<Names> = spec
        .groups()
        .iter()
        .map(|group| Ok(Names::new(spec.name(), group, options.lanes, options.prefetch)?.entry(options.entry)))
        .collect::<Result<_>>()?;
    let exchange = names::exchange(spec.name(), options.entry)?;
    let channel = link.channel(PROVISION).await?;
    if has_other_entry(link, spec.name(), options.entry).await? {
        return Err(Error::new(ErrorKind::Topology, PROVISION)
            .because(other_entry(options.entry))
            .with("channel", spec.name()));
    }
    // First, so that whoever is mistaken about a group leaves nothing behind, not even an exchange that producers would find.
    for names in &groups {
        if options.entry == Entry::ModulusHash && !exists(link, &names.pin()).await? {
            hashing::declare(options, names).await?;
        }
        declare_pin(link, &channel, names).await?;
    }
    declare_channel(link, &channel, &exchange, options.entry).await?;
    for names in &groups {
        if options.entry == Entry::ModulusHash {
            hashing::no_lane_is_lost(link, names).await?;
        }
        provision_group(link, &channel, names, options.waits_for_node()).await?;
        match options.entry {
            Entry::Slots => bind_slots(link, &channel, &exchange, names).await?,
            Entry::ModulusHash => {
                // It may have been deleted since.
                hashing::declare(options, names).await?;
                hashing::bind(link, &channel, &exchange, names).await?;
            }
        }
        // Last: a group that has this is whole.
        declare_members(link, &channel, names).await?;
    }
    link.ask(PROVISION, channel.close(200, "provisioned".into())).await
}

/// Whether the channel is there with the other entry. Its groups would each get what only some producers send.
async fn has_other_entry(link: &Arc<Link>, channel: &str, entry: Entry) -> Result<bool> {
    Ok(is_there(link, &names::exchange(channel, entry.other())?).await?.unwrap_or(false))
}

fn other_entry(entry: Entry) -> String {
    let (it, said) = (entry.other().word(), entry.word());
    format!("the channel is there with the entry `{it}`, not `{said}`: say `entry={it}`, or use another channel")
}

/// Whether an exchange is there, if this user may see it.
pub(crate) async fn is_there(link: &Arc<Link>, exchange: &ShortString) -> Result<Option<bool>> {
    let channel = link.channel(CHECK).await?;
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    // Of what type does not matter when it is only looked for.
    let asked = channel.exchange_declare(exchange.clone(), ExchangeKind::Direct, passive, FieldTable::default());
    match link.ask_raw(CHECK, asked).await? {
        Ok(()) => link.ask(CHECK, channel.close(200, "checked".into())).await.map(|()| Some(true)),
        Err(why) if error::is_missing(&why) => Ok(Some(false)),
        Err(why) if error::forbidden(&why).is_some() => Ok(None),
        Err(why) => Err(error::of(why, CHECK).with("exchange", exchange.as_str())),
    }
}

/// What a group was made with: one of another number of lanes, or of another entry, is refused.
async fn declare_pin(link: &Link, channel: &Channel, names: &Names) -> Result<()> {
    declare(link, channel, names.pin(), pin(names)).await.map_err(|why| match why.kind() {
        ErrorKind::Topology => Error::new(ErrorKind::Topology, PROVISION)
            .because(format!(
                "the group is there with another number of lanes, another prefetch or another entry than {}, {} and `{}`; say `lanes`, `prefetch` and `entry` as it was made with",
                names.lanes,
                names.prefetch,
                names.entry.word()
            ))
            .with("channel", &names.channel)
            .with("group", &names.group)
            .caused_by(why),
        _ => why,
    })
}

async fn provision_group(link: &Link, channel: &Channel, names: &Names, node_timeout: Duration) -> Result<()> {
    declare(link, channel, names.dead(), consumed(node_timeout)).await?;
    for lane in 0..names.lanes {
        declare(link, channel, names.lane(lane), consumed(node_timeout)).await?;
    }
    Ok(())
}

async fn declare_members(link: &Link, channel: &Channel, names: &Names) -> Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let members = names.members();
    let fanout = channel.exchange_declare(members.clone(), ExchangeKind::Fanout, durable, FieldTable::default());
    refusal(link.ask_raw(PROVISION, fanout).await?, "exchange", members.as_str())
}

/// The channel's own exchange: to each group by slots, or to all groups, each of which has one that hashes.
fn of_exchange(entry: Entry) -> ExchangeKind {
    if entry == Entry::Slots { ExchangeKind::Direct } else { ExchangeKind::Fanout }
}

async fn bind_slots(link: &Link, channel: &Channel, exchange: &ShortString, names: &Names) -> Result<()> {
    let slots: Vec<u32> = (0..SLOTS).collect();
    bind(link, channel, exchange, names, &slots).await
}

/// Binds slots to their lanes. A binding that is there stays.
async fn bind(link: &Link, channel: &Channel, exchange: &ShortString, names: &Names, slots: &[u32]) -> Result<()> {
    for some in slots.chunks(AT_ONCE) {
        let bound = try_join_all(some.iter().map(|slot| {
            let (lane, key) = (names.lane(names::lane_of_slot(*slot, names.lanes)), names::short(slot.to_string()));
            channel.queue_bind(lane, exchange.clone(), key, QueueBindOptions::default(), FieldTable::default())
        }));
        let bound = link.ask(PROVISION, bound).await;
        bound.map_err(|why| permissions::bind_refused(why, names.lane(0).as_str(), exchange.as_str()))?;
    }
    Ok(())
}

/// Binds these slots of a group again, with the channel that they hang on.
pub(crate) async fn bind_again(link: &Link, names: &Names, slots: &[u32]) -> Result<()> {
    let exchange = names::exchange(&names.channel, Entry::Slots)?;
    let channel = link.channel(PROVISION).await?;
    declare_channel(link, &channel, &exchange, Entry::Slots).await?;
    bind(link, &channel, &exchange, names, slots).await?;
    link.ask(PROVISION, channel.close(200, "bound".into())).await
}

async fn declare_channel(link: &Link, channel: &Channel, exchange: &ShortString, entry: Entry) -> Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(exchange.clone(), of_exchange(entry), durable, FieldTable::default());
    refusal(link.ask_raw(PROVISION, declared).await?, "exchange", exchange.as_str())
}

async fn declare(link: &Link, channel: &Channel, queue: ShortString, arguments: FieldTable) -> Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.clone(), durable, arguments);
    refusal(link.ask_raw(PROVISION, declared).await?, "queue", queue.as_str()).map(|_| ())
}

/// A refusal, with the name of what it is about.
pub(crate) fn refusal<T>(answer: lapin::Result<T>, what: &'static str, name: &str) -> Result<T> {
    answer.map_err(|why| {
        let said = error::mismatch(&why);
        let it = error::lacks(error::of(why, PROVISION).with(what, name), "configure", what, name);
        match said {
            Some(said) => Error::new(ErrorKind::Topology, PROVISION)
                .because(format!("it is there and differs: {said}"))
                .with(what, name)
                .caused_by(it),
            None => it,
        }
    })
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    put(&mut arguments, "x-queue-type", AMQPValue::LongString(LongString::from("quorum")));
    put(&mut arguments, "x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT));
    arguments
}

/// The arguments of a lane and of the store: the same from the first release on, since one that is added later is refused. A 4.3 broker that lost the node of a consumer waits a minute before
/// another one gets the queue, unless the queue says otherwise; it takes no word of the consumer's on that.
fn consumed(node_timeout: Duration) -> FieldTable {
    let mut arguments = quorum();
    put(&mut arguments, "x-single-active-consumer", AMQPValue::Boolean(true));
    let wait = i64::try_from(node_timeout.as_millis()).unwrap_or(i64::MAX);
    put(&mut arguments, "x-consumer-disconnected-timeout", AMQPValue::LongLongInt(wait));
    arguments
}

/// The pin never holds a message: its bounds are the number of lanes, and the prefetch with who hashes, which the broker compares for us.
fn pin(names: &Names) -> FieldTable {
    let mut arguments = quorum();
    put(&mut arguments, "x-max-length", AMQPValue::LongLongInt(i64::from(names.lanes)));
    put(
        &mut arguments,
        "x-max-length-bytes",
        AMQPValue::LongLongInt(i64::from(names.prefetch) + (names.entry.number() << 16)),
    );
    arguments
}

fn put(arguments: &mut FieldTable, name: &'static str, value: AMQPValue) {
    arguments.insert(names::short(name.to_owned()), value);
}

/// Compares the broker with what is wanted.
pub(crate) async fn check(options: &Options, topology: &Topology) -> Result<Vec<Finding>> {
    let link = Link::open(options, CHECK).await?;
    let found = async {
        let (mut findings, mut groups) = (Vec::new(), Vec::new());
        for spec in topology.channels() {
            let options = of_channel(options, spec)?;
            let (exchange, kind) = (names::exchange(spec.name(), options.entry)?, of_exchange(options.entry));
            if has_other_entry(&link, spec.name(), options.entry).await? {
                let (what, remedy) = (
                    other_entry(options.entry),
                    "have one entry on a channel: what is sent by the other one does not come here",
                );
                findings.push(Finding::new(
                    Severity::Breaks,
                    "entry",
                    format!("channel `{}`: {what}", spec.name()),
                    remedy,
                ));
            }
            check_exchange(&link, &exchange, kind, spec.name(), &mut findings).await?;
            findings.extend(permissions::of_channel(&link, &exchange, options.entry).await?);
            for group in spec.groups() {
                let names = Names::new(spec.name(), group, options.lanes, options.prefetch)?.entry(options.entry);
                let of_group = check_group(&link, &names, options.waits_for_node()).await?;
                let may_try = permissions::may_try(&of_group);
                findings.extend(of_group);
                findings.extend(permissions::of_group(&link, &names, may_try).await?);
                groups.push(names);
            }
        }
        findings.extend(management::look(options, &groups).await?);
        Ok(findings)
    };
    let found = found.await;
    link.close(now() + options.answer_limit).await.ok();
    found
}

async fn check_exchange(
    link: &Arc<Link>,
    exchange: &ShortString,
    kind: ExchangeKind,
    name: &str,
    into: &mut Vec<Finding>,
) -> Result<()> {
    let channel = link.channel(CHECK).await?;
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let asked = channel.exchange_declare(exchange.clone(), kind.clone(), passive, FieldTable::default());
    match link.ask_raw(CHECK, asked).await? {
        Ok(()) => {}
        Err(why) if error::is_missing(&why) => {
            let what = format!("the channel `{name}` does not exist: there is no exchange `{exchange}`");
            into.push(Finding::new(Severity::Breaks, "channel-missing", what, "provision it"));
            return Ok(());
        }
        // What is missing is said by who tries to write.
        Err(why) if error::forbidden(&why).is_some() => return Ok(()),
        Err(why) => return Err(error::of(why, CHECK).with("exchange", name)),
    }
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let asked = channel.exchange_declare(exchange.clone(), kind.clone(), durable, FieldTable::default());
    match link.ask_raw(CHECK, asked).await? {
        Ok(()) => {}
        Err(why) => match (error::mismatch(&why), error::forbidden(&why)) {
            (Some(said), _) => {
                let what = format!("the exchange `{exchange}` is not a durable one of the type {kind:?}: {said}");
                into.push(Finding::new(
                    Severity::Breaks,
                    "exchange",
                    what,
                    "delete it and provision the channel, or use another name",
                ));
                return Ok(());
            }
            (None, Some(said)) => into.push(unseen(name, &said)),
            (None, None) => return Err(error::of(why, CHECK).with("exchange", name)),
        },
    }
    Ok(())
}

/// What is wrong with a group. Each thing that is missing or differs is named.
pub(crate) async fn check_group(link: &Arc<Link>, names: &Names, node_timeout: Duration) -> Result<Vec<Finding>> {
    if is_as_wanted(link, names, node_timeout).await? {
        return if names.entry == Entry::Slots { Ok(Vec::new()) } else { hashing::check(link, names).await };
    }
    let mut findings = Vec::new();
    let (channel, group) = (&names.channel, &names.group);
    let pin_there = match exists(link, &names.pin()).await {
        Err(why) if why.kind() == ErrorKind::Unauthorized => {
            findings.push(permissions::hidden(why, names.pin().as_str()));
            return Ok(findings);
        }
        there => there?,
    };
    if !pin_there {
        let what = format!("the group `{group}` of channel `{channel}` does not exist: nothing is kept for it");
        findings.push(Finding::new(Severity::Breaks, "group-missing", what, "provision it before the first send"));
        return Ok(findings);
    }
    match compare(link, &names.pin(), pin(names)).await? {
        Same::Yes => {}
        Same::No(said) => {
            let (lanes, prefetch, entry) = (names.lanes, names.prefetch, names.entry.word());
            let what = format!(
                "the group `{group}` of channel `{channel}` was not made with {lanes} lanes, a prefetch of {prefetch} and the entry `{entry}`: {said}"
            );
            let remedy = "say `lanes`, `prefetch` and `entry` as it was made with (`x-max-length` and `x-max-length-bytes` of its pin): other ones put sessions into other lanes";
            findings.push(Finding::new(Severity::Breaks, "lane-count", what, remedy));
            return Ok(findings);
        }
        Same::Unseen(said) => findings.push(unseen(names.pin().as_str(), &said)),
    }
    if names.entry != Entry::Slots {
        findings.extend(hashing::check(link, names).await?);
    }
    for lane in 0..names.lanes {
        let queue = names.lane(lane);
        let there = match exists(link, &queue).await {
            Err(why) if why.kind() == ErrorKind::Unauthorized => {
                findings.push(permissions::hidden(why, queue.as_str()));
                break;
            }
            there => there?,
        };
        if !there {
            let what = format!("the lane queue `{queue}` does not exist: what is sent to it is refused or lost");
            findings.push(Finding::new(Severity::Breaks, "lane-missing", what, "provision the group again"));
            continue;
        }
        if let Some(said) = differences(link, &queue, consumed(node_timeout), &mut findings).await? {
            // One is enough to say that they cannot be looked at.
            findings.push(unseen(queue.as_str(), &said));
            break;
        }
    }
    let dead_there = match exists(link, &names.dead()).await {
        // Who dead-letters need not see the store.
        Err(why) if why.kind() == ErrorKind::Unauthorized => true,
        there => there?,
    };
    if !dead_there {
        let what = format!(
            "the dead-letter store `{}` does not exist: a message for it is not settled, and its session waits",
            names.dead()
        );
        findings.push(Finding::new(Severity::Warning, "dead-letters-missing", what, "provision the group again"));
    }
    Ok(findings)
}

/// Looks at everything at once, and only at whether something is wrong: the first thing that is closes the AMQP channel.
async fn is_as_wanted(link: &Arc<Link>, names: &Names, node_timeout: Duration) -> Result<bool> {
    let wanted: Vec<(ShortString, FieldTable)> = [(names.pin(), pin(names)), (names.dead(), consumed(node_timeout))]
        .into_iter()
        .chain((0..names.lanes).map(|lane| (names.lane(lane), consumed(node_timeout))))
        .collect();
    let channel = link.channel(CHECK).await?;
    // First whether they are there: the second question would make them.
    for passive in [true, false] {
        let options = QueueDeclareOptions { passive, durable: !passive, ..QueueDeclareOptions::default() };
        let all = wanted.iter().map(|(queue, arguments)| {
            let arguments = if passive { FieldTable::default() } else { arguments.clone() };
            channel.queue_declare(queue.clone(), options, arguments)
        });
        if link.ask_raw(CHECK, try_join_all(all)).await?.is_err() {
            return Ok(false);
        }
    }
    link.ask(CHECK, channel.close(200, "checked".into())).await?;
    Ok(true)
}

fn wrong_lane(queue: &str, said: &str) -> Finding {
    // The broker names the argument that differs.
    const KNOWN: [(&str, &str, &str); 11] = [
        ("x-queue-type", "not-quorum", "is no quorum queue: a lost node loses or reorders what is in it"),
        ("'type'", "not-quorum", "is no quorum queue: a lost node loses or reorders what is in it"),
        (
            "x-single-active-consumer",
            "not-single-active-consumer",
            "has no single active consumer: two members handle one session",
        ),
        (
            "x-delivery-limit",
            "delivery-limit",
            "has another delivery limit: after so many hand-overs the broker drops messages",
        ),
        (
            "x-consumer-disconnected-timeout",
            "node-timeout",
            "waits for a lost node for another time than `node_timeout` says: a lane may move before its old holder has ended",
        ),
        ("x-max-length", "max-length", "has a bound: the broker drops or refuses what does not fit"),
        ("x-overflow", "overflow", "has a rule for being full: the broker drops or refuses messages"),
        ("x-message-ttl", "message-ttl", "has a time to live: the broker drops what is not handled in time"),
        ("x-expires", "expires", "expires: the broker deletes it when nobody has used it for a while"),
        (
            "x-dead-letter",
            "dead-letter-exchange",
            "has a dead-letter exchange: what the broker drops goes elsewhere, past the group's store",
        ),
        ("durable", "not-durable", "is not durable: a restart of the broker loses it"),
    ];
    let known = KNOWN.iter().find(|(argument, _, _)| said.contains(argument));
    let (code, why) =
        known.map_or(("lane-differs", "differs from what convoy declares"), |(_, code, why)| (*code, *why));
    let what = format!("the lane queue `{queue}` {why} ({said})");
    Finding::new(Severity::Breaks, code, what, "delete it when it is empty, and provision the group again")
}

pub(crate) fn unseen(name: &str, said: &str) -> Finding {
    let what = format!("without the permission `configure` on `{name}` its settings cannot be compared: {said}");
    Finding::new(
        Severity::Note,
        "permission",
        what,
        "give the user the permission `configure` for it, or check with one that has it",
    )
}

pub(crate) async fn exists(link: &Arc<Link>, queue: &ShortString) -> Result<bool> {
    let channel = link.channel(CHECK).await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match link.ask_raw(CHECK, channel.queue_declare(queue.clone(), passive, FieldTable::default())).await? {
        Ok(_) => Ok(true),
        Err(why) if error::is_missing(&why) => Ok(false),
        Err(why) => Err(error::of(why, CHECK).with("queue", queue.as_str())),
    }
}

enum Same {
    Yes,
    No(String),
    Unseen(String),
}

/// Everything that is wrong with a lane. The broker names one thing at a time; what it has not got at all is left out of the next question, so that a classic queue is not only called one without a
/// single active consumer. Gives what the broker says when it does not let this user ask.
async fn differences(
    link: &Arc<Link>,
    queue: &ShortString,
    mut wanted: FieldTable,
    findings: &mut Vec<Finding>,
) -> Result<Option<String>> {
    loop {
        let said = match compare(link, queue, wanted.clone()).await? {
            Same::Yes => return Ok(None),
            Same::Unseen(said) => return Ok(Some(said)),
            Same::No(said) => said,
        };
        findings.push(wrong_lane(queue.as_str(), &said));
        let named =
            wanted.inner().keys().find(|name| said.contains(&format!("'{name}'")) && said.contains("current is none"));
        let Some(named) = named.cloned() else { return Ok(None) };
        let rest = wanted.inner().iter().filter(|(name, _)| **name != named);
        wanted = FieldTable::from(rest.map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>());
    }
}

/// Declares what is there with what is wanted: the broker says what differs, and changes nothing.
async fn compare(link: &Arc<Link>, queue: &ShortString, arguments: FieldTable) -> Result<Same> {
    let channel = link.channel(CHECK).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    match link.ask_raw(CHECK, channel.queue_declare(queue.clone(), durable, arguments)).await? {
        Ok(_) => Ok(Same::Yes),
        Err(why) => match (error::mismatch(&why), error::forbidden(&why)) {
            (Some(said), _) => Ok(Same::No(said)),
            (None, Some(said)) => Ok(Same::Unseen(said)),
            (None, None) => Err(error::of(why, CHECK).with("queue", queue.as_str())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_differs_is_named_by_what_differs() {
        for (said, code) in [
            (
                "inequivalent arg 'x-single-active-consumer' for queue 'q' in vhost '/': received 'true' but current is 'none'",
                "not-single-active-consumer",
            ),
            (
                "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is 'classic'",
                "not-quorum",
            ),
            ("inequivalent arg 'x-delivery-limit' for queue 'q'", "delivery-limit"),
            ("inequivalent arg 'x-consumer-disconnected-timeout' for queue 'q'", "node-timeout"),
            ("inequivalent arg 'x-max-length' for queue 'q'", "max-length"),
            ("inequivalent arg 'x-message-ttl' for queue 'q'", "message-ttl"),
            ("something else", "lane-differs"),
        ] {
            let finding = wrong_lane("q", said);
            assert_eq!((finding.code, finding.severity), (code, Severity::Breaks), "{said}");
        }
    }
}
