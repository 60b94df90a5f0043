//! What a user may do, found out by trying: each attempt on an AMQP channel of its own, which a refusal closes, and none with an effect.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::{Error, ErrorKind, Finding, Result, Severity};
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation};
use tokio::time::timeout;

use crate::connection::Link;
use crate::entry::Entry;
use crate::names::Names;
use crate::{envelope, error};

const CHECK: &str = "check permissions";

/// The code of what a user may not do.
pub(crate) const CODE: &str = "permission";

/// Where nothing is bound, and no queue is called so.
const NOWHERE: &str = "convoy.nowhere";

/// So long the broker may take to say no. One that takes no messages at the moment says nothing.
const WAIT: Duration = Duration::from_secs(1);

/// What became of a message that nothing takes.
pub(crate) enum Write {
    /// It came back.
    Allowed,
    /// Something took it.
    Taken,
    /// The user may not publish there.
    Forbidden(Error),
    /// The broker did not say.
    Unknown,
}

/// Where everything is bound, to whatever key: such a message is refused for what it is, after the broker looked at the permission.
const NO_TIME: &str = "never";

/// Whether this user may publish to an exchange, which hands out what it gets by slots or by a hash.
pub(crate) async fn write(link: &Arc<Link>, exchange: &ShortString, entry: Entry) -> Result<Write> {
    if link.is_blocked() {
        return Ok(Write::Unknown);
    }
    let channel = link.channel(CHECK).await?;
    link.ask(CHECK, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let takes_all = entry != Entry::Slots;
    let probe = if takes_all { envelope::probe().with_expiration(NO_TIME.into()) } else { envelope::probe() };
    let sent = async { channel.basic_publish(exchange.clone(), NOWHERE.into(), mandatory, b"", probe).await?.await };
    let name = if exchange.as_str().is_empty() { "amq.default" } else { exchange.as_str() };
    let Ok(answer) = timeout(WAIT, link.ask(CHECK, sent)).await else { return Ok(Write::Unknown) };
    let answer = match answer {
        Ok(Confirmation::Ack(Some(_))) => Write::Allowed,
        Ok(Confirmation::Ack(None)) => Write::Taken,
        Ok(_) => Write::Unknown,
        Err(why) if why.kind() == ErrorKind::Unauthorized => {
            return Ok(Write::Forbidden(error::lacks(why, "write", "exchange", name)));
        }
        Err(why) if takes_all && why.kind() == ErrorKind::Topology => return Ok(Write::Allowed),
        // Another finding says that it is missing.
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(Write::Unknown),
        Err(why) => return Err(why),
    };
    link.ask(CHECK, channel.close(200, "checked".into())).await?;
    Ok(answer)
}

/// Whether to read may be tried: the broker refuses it on a quorum queue with a single active consumer, and hands a message out on any other queue, which comes back behind newer ones perhaps.
pub(crate) fn may_try(findings: &[Finding]) -> bool {
    !findings.iter().any(|finding| matches!(finding.code, "not-quorum" | "not-single-active-consumer"))
}

/// Makes sure that this user may consume from a lane, of which [`may_try`] says that nothing is handed out.
pub(crate) async fn read(link: &Arc<Link>, queue: &ShortString) -> Result<()> {
    let channel = link.channel(CHECK).await?;
    match link.ask(CHECK, channel.basic_get(queue.clone(), BasicGetOptions::default())).await {
        Ok(_) => link.ask(CHECK, channel.close(200, "checked".into())).await,
        Err(why) if why.kind() == ErrorKind::Unauthorized => Err(error::lacks(why, "read", "queue", queue.as_str())),
        // It refuses this after it looked at the permission.
        Err(why) if matches!(why.kind(), ErrorKind::Refused | ErrorKind::NotFound) => Ok(()),
        Err(why) => Err(why),
    }
}

/// What a producer lacks, and whether what nothing takes comes back.
pub(crate) async fn of_channel(link: &Arc<Link>, exchange: &ShortString, entry: Entry) -> Result<Vec<Finding>> {
    Ok(match write(link, exchange, entry).await? {
        Write::Allowed | Write::Unknown => Vec::new(),
        Write::Taken => vec![Finding::new(
            Severity::Warning,
            "alternate-exchange",
            format!(
                "something takes what no group of the channel `{exchange}` takes: producers are not told of messages that go nowhere"
            ),
            "take the alternate exchange of its arguments or of a policy away",
        )],
        Write::Forbidden(why) => {
            vec![lacking(Severity::Warning, &why, "a producer cannot send, and bindings are not checked")]
        }
    })
}

/// What a consumer lacks.
pub(crate) async fn of_group(link: &Arc<Link>, names: &Names, may_try: bool) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (exchange, hurts) in [
        (ShortString::default(), "nothing can be dead-lettered, and idle lanes are not seen to be held"),
        (names.members(), "the members of the group do not hear of each other, and do not share lanes"),
    ] {
        if let Write::Forbidden(why) = write(link, &exchange, Entry::Slots).await? {
            findings.push(lacking(Severity::Warning, &why, hurts));
        }
    }
    for lane in (0..names.lanes).filter(|_| may_try) {
        match read(link, &names.lane(lane)).await {
            Ok(()) => {}
            Err(why) if why.kind() == ErrorKind::Unauthorized => {
                findings.push(lacking(Severity::Breaks, &why, "the lane cannot be consumed from"));
                // One is enough.
                break;
            }
            Err(why) => return Err(why),
        }
    }
    let hurts = "a consumer does not hear of the others of its group, and lanes are not shared";
    findings.extend(listen(link, names).await?.map(|why| lacking(Severity::Warning, &why, hurts)));
    Ok(findings)
}

/// As a member does it. Gives what is refused.
async fn listen(link: &Arc<Link>, names: &Names) -> Result<Option<Error>> {
    let channel = link.channel(CHECK).await?;
    match try_to_listen(link, &channel, names).await {
        Ok(()) => link.ask(CHECK, channel.close(200, "checked".into())).await.map(|()| None),
        Err(why) if why.kind() == ErrorKind::Unauthorized => Ok(Some(why)),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

async fn try_to_listen(link: &Arc<Link>, channel: &Channel, names: &Names) -> Result<()> {
    let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let declared = link.ask(CHECK, channel.queue_declare("".into(), own, FieldTable::default())).await;
    let queue = declared.map_err(|why| error::lacks(why, "configure", "queue", "amq.gen-…"))?.name().clone();
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    let bound = channel.queue_bind(queue.clone(), names.members(), "".into(), options, none);
    link.ask(CHECK, bound).await.map_err(|why| bind_refused(why, "amq.gen-…", names.members().as_str()))?;
    let (options, none) =
        (BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() }, FieldTable::default());
    let consumed = link.ask(CHECK, channel.basic_consume(queue, "".into(), options, none)).await;
    consumed.map_err(|why| error::lacks(why, "read", "queue", "amq.gen-…")).map(drop)
}

/// A binding takes two permissions; the broker names the thing that it refuses.
pub(crate) fn bind_refused(why: Error, queue: &str, exchange: &str) -> Error {
    let of_exchange = why.context("broker").is_some_and(|said| said.contains("to exchange"));
    match of_exchange {
        true => error::lacks(why, "read", "exchange", exchange),
        false => error::lacks(why, "write", "queue", queue),
    }
}

/// The same of an exchange that gets what comes to another one.
pub(crate) fn chain_refused(why: Error, exchange: &str, from: &str) -> Error {
    let of_source = why.context("broker").is_some_and(|said| said.contains(&format!("'{from}'")));
    match of_source {
        true => error::lacks(why, "read", "exchange", from),
        false => error::lacks(why, "write", "exchange", exchange),
    }
}

/// Newer brokers do not even show a queue to whoever may do nothing with it.
pub(crate) fn hidden(why: Error, queue: &str) -> Finding {
    let why = error::lacks(why, "read", "queue", queue);
    lacking(Severity::Breaks, &why, "nothing can be said of it, and no lane is consumed from unseen")
}

fn lacking(severity: Severity, why: &Error, hurts: &str) -> Finding {
    let what = why.to_string();
    Finding::new(severity, CODE, format!("{what}: {hurts}"), "give it to the user, or use another one")
}
