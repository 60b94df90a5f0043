//! Policies in force on the queues of a group, of which the protocol shows nothing: a bound or a time to live loses messages as an argument would.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use convoy_core::{ErrorKind, Finding, Result, Severity};
use serde_json::Value;

use super::http::Api;
use crate::config::Options;
use crate::entry::Entry;
use crate::names::{self, Names};
use crate::topology::DELIVERY_LIMIT;

/// So many queues are asked for at once.
const PAGE: usize = 500;
/// Releases before 4.3 tell what is in force on a queue with their statistics: the queue gives them every five seconds, and they are looked at every five seconds.
pub(super) const TOLD_WITHIN: Duration = Duration::from_secs(12);
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// What the settings of a group rest on.
pub(super) struct Wanted {
    /// A lane may not move away from a lost node before its old holder has ended.
    waits_at_least: Duration,
}

impl Wanted {
    pub(super) fn of(options: &Options) -> Self {
        Self { waits_at_least: options.heartbeat * 2 }
    }
}

/// A policy and what it sets on a queue, as the broker says.
#[derive(Clone, Debug, PartialEq)]
struct InForce {
    queue: String,
    policy: String,
    /// Nothing, while the broker has not told.
    settings: Option<serde_json::Map<String, Value>>,
}

/// What policies do to a group's queues, and to the exchange of its channel where no probe tells.
pub(super) fn look(api: &Api, names: &Names, wanted: &Wanted) -> Result<Vec<Finding>> {
    let in_force = loop {
        let in_force = in_force(api, names)?;
        if Instant::now() >= api.told_by || in_force.iter().all(|queue| queue.settings.is_some()) {
            break in_force;
        }
        sleep(LOOK_AGAIN);
    };
    let mut findings = judge(&in_force, wanted);
    if names.entry != Entry::Slots {
        findings.extend(of_entry(api, names)?);
    }
    Ok(findings)
}

fn in_force(api: &Api, names: &Names) -> Result<Vec<InForce>> {
    // 4.3 tells at once when it is asked for no statistics, and older ones tell only with them.
    let at_once = list(api, names, &[("disable_stats", "true"), ("enable_queue_totals", "true")])?;
    if at_once.iter().all(|queue| queue.settings.is_some()) { Ok(at_once) } else { list(api, names, &[]) }
}

/// The queues of a group that are there, a page after the other.
fn list(api: &Api, names: &Names, how: &[(&str, &str)]) -> Result<Vec<InForce>> {
    let (size, all) = (PAGE.to_string(), names.queues());
    let mut found = Vec::new();
    // A group has 1024 lanes at most; other queues may have its name within theirs.
    for page in 1..=u32::MAX {
        let number = page.to_string();
        let prefix = names.prefix();
        let mut query =
            vec![("page", number.as_str()), ("page_size", &size), ("name", &prefix), ("use_regex", "false")];
        query.extend(how);
        let answer = api.of_vhost("queues", &[], &query)?;
        let items = answer.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let queues = items.iter().filter_map(read);
        found.extend(queues.filter(|queue| all.contains(queue.queue.as_str())));
        let pages = answer.get("page_count").and_then(Value::as_u64).unwrap_or_default();
        if u64::from(page) >= pages {
            break;
        }
    }
    Ok(found)
}

fn read(item: &Value) -> Option<InForce> {
    let text = |key: &str| item.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let policies = [("policy", "policy"), ("operator_policy", "operator policy")];
    let policies: Vec<String> =
        policies.iter().filter_map(|(key, word)| Some(format!("the {word} `{}`", text(key)?))).collect();
    let settings = item.get("effective_policy_definition").map(|settings| match settings {
        Value::Object(settings) => settings.clone(),
        // Older releases say `[]` for nothing, and what is neither says nothing.
        _ => serde_json::Map::new(),
    });
    Some(InForce { queue: text("name")?.to_owned(), policy: policies.join(" with "), settings })
}

fn judge(in_force: &[InForce], wanted: &Wanted) -> Vec<Finding> {
    // The same policy is on many lanes: it is said once.
    let mut wrong: BTreeMap<(&str, &str), (Vec<&str>, &Value)> = BTreeMap::new();
    let mut untold = Vec::new();
    for InForce { queue, policy, settings } in in_force {
        let Some(settings) = settings else {
            untold.push(queue.as_str());
            continue;
        };
        for (setting, value) in settings.iter().filter(|(setting, value)| harm(setting, value, wanted).is_some()) {
            wrong.entry((policy, setting)).or_insert((Vec::new(), value)).0.push(queue);
        }
    }
    let mut findings: Vec<Finding> = wrong
        .into_iter()
        .filter_map(|((policy, setting), (queues, value))| {
            let (code, why) = harm(setting, value, wanted)?;
            let policy = if policy.is_empty() { "a policy" } else { policy };
            let what = format!("{policy} sets `{setting}` to {value} on {}: {why}", several(&queues));
            Some(Finding::new(Severity::Breaks, code, what, "take it off these queues, or narrow its pattern"))
        })
        .collect();
    if !untold.is_empty() {
        let what = format!("the HTTP API did not tell which policies are in force on {}", several(&untold));
        findings.push(Finding::new(Severity::Warning, "management", what, "have the broker collect statistics"));
    }
    findings
}

fn several(queues: &[&str]) -> String {
    match queues {
        [one] => format!("the queue `{one}`"),
        [first, ..] => format!("{} queues of the group, `{first}` among them", queues.len()),
        [] => "no queue".to_owned(),
    }
}

/// What a setting does to a lane or the store: the code by which it is known as an argument, too.
fn harm(setting: &str, value: &Value, wanted: &Wanted) -> Option<(&'static str, &'static str)> {
    let number = value.as_i64();
    Some(match setting {
        "max-length" | "max-length-bytes" => ("max-length", "the broker drops or refuses what does not fit"),
        "overflow" => ("overflow", "the broker drops or refuses messages when the queue is full"),
        "message-ttl" => ("message-ttl", "the broker drops what is not handled in time"),
        "expires" => ("expires", "the broker deletes the queue when nobody has used it for a while"),
        "dead-letter-exchange" | "dead-letter-routing-key" | "dead-letter-strategy" => {
            ("dead-letter-exchange", "what the broker drops goes elsewhere, past the group's store")
        }
        // Of two limits the smaller one counts; one below zero is none.
        "delivery-limit" if number.is_some_and(|limit| (0..DELIVERY_LIMIT).contains(&limit)) => {
            ("delivery-limit", "after so many hand-overs the broker drops messages")
        }
        "consumer-disconnected-timeout"
            if number
                .and_then(|ms| u64::try_from(ms).ok())
                .is_some_and(|ms| Duration::from_millis(ms) < wanted.waits_at_least) =>
        {
            ("node-timeout", "a lane may move away from a lost node before its old holder has ended")
        }
        _ => return None,
    })
}

/// An alternate exchange that a policy gives an entry, of which a probe shows nothing: all that comes there is bound.
fn of_entry(api: &Api, names: &Names) -> Result<Option<Finding>> {
    let exchange = names::exchange(&names.channel, names.entry)?;
    let there = match api.of_vhost("exchanges", &[exchange.as_str()], &[]) {
        // Another finding says that it is missing.
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        there => there?,
    };
    let Some(policy) = there.get("policy").and_then(Value::as_str) else { return Ok(None) };
    let policy = api.of_vhost("policies", &[policy], &[])?;
    Ok(policy.get("definition").and_then(|set| set.get("alternate-exchange")).map(|other| {
        let name = policy.get("name").and_then(Value::as_str).unwrap_or_default();
        let what = format!("the policy `{name}` gives the channel's exchange `{exchange}` the alternate exchange {other}: producers are not told of messages that go nowhere");
        Finding::new(Severity::Warning, "alternate-exchange", what, "take it off this exchange")
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted() -> Wanted {
        Wanted { waits_at_least: Duration::from_secs(20) }
    }

    #[test]
    fn what_the_broker_says_of_a_queue_is_read() {
        // As 4.3.6, 4.0.5 and 3.10.8 say it.
        let both = json!({"name": "q", "policy": "short", "operator_policy": "house", "effective_policy_definition": {"max-length": 7}});
        let read_both = read(&both).unwrap();
        assert_eq!(read_both.policy, "the policy `short` with the operator policy `house`");
        assert_eq!(read_both.settings.as_ref().and_then(|settings| settings.get("max-length")), Some(&json!(7)));
        for none in [
            json!({"name": "q", "policy": null, "operator_policy": null, "effective_policy_definition": {}}),
            json!({"name": "q", "operator_policy": "", "policy": "", "effective_policy_definition": []}),
        ] {
            let nothing = InForce { queue: "q".to_owned(), policy: String::new(), settings: Some(Default::default()) };
            assert_eq!(read(&none), Some(nothing), "{none}");
        }
        let untold = read(&json!({"name": "q", "policy": "short"})).unwrap();
        assert_eq!((untold.settings.as_ref(), untold.policy.as_str()), (None, "the policy `short`"));
        assert_eq!(judge(&[untold], &wanted())[0].code, "management");
        assert_eq!(read(&json!({"messages": 3})), None);
    }

    #[test]
    fn only_what_would_lose_or_reorder_is_called_harmful() {
        for (setting, value, code) in [
            ("max-length", json!(1), Some("max-length")),
            ("max-length-bytes", json!(1), Some("max-length")),
            ("message-ttl", json!(1), Some("message-ttl")),
            ("expires", json!(1), Some("expires")),
            ("overflow", json!("reject-publish"), Some("overflow")),
            ("dead-letter-strategy", json!("at-least-once"), Some("dead-letter-exchange")),
            ("delivery-limit", json!(0), Some("delivery-limit")),
            ("delivery-limit", json!(DELIVERY_LIMIT - 1), Some("delivery-limit")),
            ("delivery-limit", json!(DELIVERY_LIMIT), None),
            ("delivery-limit", json!(-1), None),
            ("consumer-disconnected-timeout", json!(19_999), Some("node-timeout")),
            ("consumer-disconnected-timeout", json!(20_000), None),
            ("queue-leader-locator", json!("balanced"), None),
            ("consumer-timeout", json!(60_000), None),
        ] {
            assert_eq!(harm(setting, &value, &wanted()).map(|(code, _)| code), code, "{setting} {value}");
        }
    }

    #[test]
    fn one_policy_on_many_lanes_is_one_finding_a_setting() {
        let settings = json!({"max-length": 5, "expires": 9}).as_object().cloned();
        let lane = |n: u32| InForce {
            queue: format!("lane.{n}"),
            policy: "the policy `x`".to_owned(),
            settings: settings.clone(),
        };
        let found = judge(&(0..64).map(lane).collect::<Vec<_>>(), &wanted());
        let codes: Vec<&str> = found.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["expires", "max-length"]);
        assert!(found[0].what.contains("64 queues") && found[0].what.contains("`lane.0`"), "{}", found[0]);
    }
}
