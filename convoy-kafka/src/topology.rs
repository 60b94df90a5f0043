//! What should exist at the broker, and what is wrong with what does.

use std::collections::BTreeMap;
use std::time::Duration;

use convoy_core::{ChannelSpec, Error, ErrorKind, Finding, Result, Severity, Topology};
use rdkafka::TopicPartitionList;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::Options;
use crate::names::{self, Names};
use crate::progress::METADATA_UNITS;
use crate::{client, error};

/// A topic that nobody has: whoever asks for it learns of the brokers, and of nothing else.
const NOBODYS: &str = "convoy.nobody";
const PROVISION: &str = "provision";
const CHECK: &str = "check";
/// How many partitions a channel gets of which nothing is said.
const LANES: u32 = 16;
/// What a copy may be larger than its message: reason, origin, times.
const BESIDE: usize = 16 << 10;
/// What the broker counts beside key, value and headers of a record.
const OF_BATCH: usize = 1 << 10;

/// What the broker says of a topic.
#[derive(Debug)]
pub(crate) struct Found {
    /// How many partitions it has.
    pub(crate) partitions: u32,
    /// How many replicas the worst of them has.
    replicas: usize,
}

struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        client::log(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::told(&error, reason);
    }
}

/// A client that asks and changes. Its requests have the limit of every answer.
struct Admin {
    client: AdminClient<Quiet>,
    limit: Duration,
}

impl Admin {
    fn new(options: &Options, operation: &'static str) -> Result<Self> {
        let client = AdminClient::from_config_and_context(&client::plain(options, "admin"), Quiet);
        Ok(Self { client: client.map_err(|e| error::of(e, operation))?, limit: options.answer_limit })
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.limit)).operation_timeout(Some(self.limit))
    }

    /// Asks for a topic; nothing is found where there is none. Gives the number of some broker beside it.
    async fn find(self: &std::sync::Arc<Self>, topic: &str, operation: &'static str) -> Result<(Option<Found>, i32)> {
        let (admin, topic) = (std::sync::Arc::clone(self), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = admin.client.inner().fetch_metadata(Some(&topic), admin.limit);
            let metadata = metadata.map_err(|e| error::of(e, operation))?;
            // The one that answered has no number yet where it was only just reached.
            let broker = metadata.brokers().first().map_or(-1, |broker| broker.id());
            let of = metadata.topics().iter().find(|of| of.name() == topic);
            let refused = of.and_then(|of| of.error()).map(RDKafkaErrorCode::from);
            match refused {
                Some(code) if error::is_missing(code) => return Ok((None, broker)),
                Some(code) => return Err(error::of_code(code, operation).with("topic", &topic)),
                None => {}
            }
            let found = of.filter(|of| !of.partitions().is_empty()).map(|of| Found {
                partitions: u32::try_from(of.partitions().len()).unwrap_or(u32::MAX),
                replicas: of.partitions().iter().map(|of| of.replicas().len()).min().unwrap_or_default(),
            });
            Ok((found, broker))
        });
        asked.await.unwrap_or_else(|_| Err(error::closed(operation)))
    }

    /// The settings of topics and of a broker, as far as they may be seen.
    async fn settings(&self, topics: &[&str], broker: i32) -> Settings {
        // A broker's go to that broker, and with no others.
        let of_topics: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let of_broker = [ResourceSpecifier::Broker(broker)];
        let mut described = Vec::new();
        for wanted in [&of_topics[..], &of_broker[..]] {
            match self.client.describe_configs(wanted, &self.options()).await {
                Ok(of) => described.extend(of),
                Err(why) => tracing::debug!(error = %why, "settings could not be asked for"),
            }
        }
        let mut settings = Settings::default();
        for of in described.into_iter().flatten() {
            settings.take(of);
        }
        settings
    }
}

/// Settings by the name of a topic, and those of the broker. What may not be seen is missing.
#[derive(Debug, Default)]
struct Settings {
    topics: BTreeMap<String, BTreeMap<String, String>>,
    broker: BTreeMap<String, String>,
}

impl Settings {
    fn take(&mut self, of: ConfigResource) {
        let all = of.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
        match of.specifier {
            OwnedResourceSpecifier::Topic(name) => _ = self.topics.insert(name, all.collect()),
            OwnedResourceSpecifier::Broker(_) => self.broker = all.collect(),
            OwnedResourceSpecifier::Group(_) => {}
        }
    }

    fn of_topic(&self, topic: &str, name: &str) -> Option<&str> {
        self.topics.get(topic)?.get(name).map(String::as_str)
    }

    fn number(&self, topic: &str, name: &str) -> Option<i64> {
        self.of_topic(topic, name)?.parse().ok()
    }

    fn of_broker(&self, name: &str) -> Option<i64> {
        self.broker.get(name)?.parse().ok()
    }
}

/// The options of a channel: the broker's, and what its description says.
fn of_channel(options: &Options, spec: &ChannelSpec) -> Result<Options> {
    let mut options = options.clone();
    for (name, value) in spec.options() {
        options.set_of_channel(name, value)?;
    }
    if let Some(lanes) = spec.lane_count() {
        options.lanes = Some(lanes);
    }
    options.validate()?;
    Ok(options)
}

/// Makes what is missing. Changes nothing that is there; a channel that is there with another number of partitions than is wanted is refused.
pub(crate) async fn provision(options: &Options, topology: &Topology) -> Result<()> {
    let admin = std::sync::Arc::new(Admin::new(options, PROVISION)?);
    for spec in topology.channels() {
        let options = of_channel(options, spec)?;
        let groups =
            spec.groups().iter().map(|group| Names::new(spec.name(), group)).collect::<Result<Vec<Names>>>()?;
        names::channel(spec.name())?;
        make_channel(&admin, &options, spec.name()).await?;
        for names in groups {
            make_store(&admin, &options, &names.dead()).await?;
        }
    }
    Ok(())
}

async fn make_channel(admin: &std::sync::Arc<Admin>, options: &Options, channel: &str) -> Result<()> {
    if let (Some(found), _) = admin.find(channel, PROVISION).await? {
        return match options.lanes {
            Some(lanes) if lanes != found.partitions => Err(Error::new(ErrorKind::Topology, PROVISION)
                .because(format!(
                    "the channel is there with {} partitions, not {lanes}: say `lanes={}`, or use another channel",
                    found.partitions, found.partitions
                ))
                .with("channel", channel)),
            _ => Ok(()),
        };
    }
    let mut settings = vec![("cleanup.policy", "delete".to_owned())];
    settings.extend(options.retention.map(|retention| ("retention.ms", retention.as_millis().to_string())));
    settings.extend(options.min_insync.map(|replicas| ("min.insync.replicas", replicas.to_string())));
    if options.max_message > 1_000_000 {
        settings.push(("max.message.bytes", (options.max_message + OF_BATCH).to_string()));
    }
    make(admin, options, channel, options.lanes.unwrap_or(LANES), &settings).await
}

async fn make_store(admin: &std::sync::Arc<Admin>, options: &Options, store: &str) -> Result<()> {
    if admin.find(store, PROVISION).await?.0.is_some() {
        return Ok(());
    }
    let mut settings = vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", "-1".to_owned())];
    settings.extend(options.min_insync.map(|replicas| ("min.insync.replicas", replicas.to_string())));
    settings.push(("max.message.bytes", (options.max_message.max(1_000_000) + OF_BATCH + BESIDE).to_string()));
    make(admin, options, store, 1, &settings).await
}

async fn make(
    admin: &std::sync::Arc<Admin>,
    options: &Options,
    topic: &str,
    partitions: u32,
    settings: &[(&str, String)],
) -> Result<()> {
    let replication = options.replication.map_or(-1, i32::from);
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let made = admin.client.create_topics([&new], &admin.options()).await;
    for made in made.map_err(|e| error::of(e, PROVISION).with("topic", topic))? {
        match made {
            Ok(_) => {}
            // Somebody else made it meanwhile.
            Err((_, code)) if error::is_there(code) => {}
            Err((_, code)) => {
                let why = error::of_code(code, PROVISION).with("topic", topic);
                return Err(match why.kind() {
                    ErrorKind::Unauthorized => why.because(format!(
                        "this user may not create the topic `{topic}`: it takes `Create` on it, or on the cluster"
                    )),
                    _ => why,
                });
            }
        }
    }
    // What was made is there once brokers tell of it.
    let give_up = convoy_core::runtime::now() + admin.limit;
    while admin.find(topic, PROVISION).await?.0.is_none() {
        if convoy_core::runtime::now() >= give_up {
            return Err(error::no_answer(PROVISION).with("topic", topic));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Compares the broker with what is wanted.
pub(crate) async fn check(options: &Options, topology: &Topology) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for spec in topology.channels() {
        let options = of_channel(options, spec)?;
        let groups =
            spec.groups().iter().map(|group| Names::new(spec.name(), group)).collect::<Result<Vec<Names>>>()?;
        if let Err(why) = names::channel(spec.name()) {
            let what = format!("the channel `{}` does not exist: {why}", spec.name().escape_debug());
            findings.push(Finding::new(
                Severity::Breaks,
                "channel-missing",
                what,
                "give it a name that a topic can have",
            ));
            continue;
        }
        findings.extend(look(&options, spec.name(), &groups).await?.1);
    }
    Ok(findings)
}

/// What is wrong with a channel and its groups, and how many partitions it has. Each thing that is missing or differs is named.
pub(crate) async fn look(options: &Options, channel: &str, groups: &[Names]) -> Result<(Option<u32>, Vec<Finding>)> {
    let admin = std::sync::Arc::new(Admin::new(options, CHECK)?);
    let mut found = Findings::default();
    let (topic, broker) = match admin.find(channel, CHECK).await {
        Err(why) if why.kind() == ErrorKind::Unauthorized => {
            found.breaks(
                "forbidden",
                format!("this user may not see the channel `{channel}`"),
                "allow it `Describe` on the topic, and `Read` or `Write`",
            );
            return Ok((None, found.0));
        }
        asked => asked?,
    };
    let Some(topic) = topic else {
        found.breaks(
            "channel-missing",
            format!("the channel `{channel}` does not exist: there is no such topic"),
            "provision it",
        );
        return Ok((None, found.0));
    };
    let stores: Vec<String> = groups.iter().map(Names::dead).collect();
    let mut there = vec![channel];
    for store in &stores {
        match admin.find(store, CHECK).await {
            Ok((Some(of), _)) => {
                there.push(store);
                found.of_store(store, &of);
            }
            Ok((None, _)) => found.breaks(
                "group-missing",
                format!("a group has no dead-letter store: there is no topic `{store}`"),
                "provision the group",
            ),
            Err(why) if why.kind() == ErrorKind::Unauthorized => {
                found.breaks(
                    "forbidden",
                    format!("this user may not see the topic `{store}`"),
                    "allow it `Describe` and `Write` on the topic",
                );
            }
            Err(why) => return Err(why),
        }
    }
    let settings = admin.settings(&there, broker).await;
    found.of_channel(options, channel, &topic, &settings);
    for store in stores.iter().filter(|store| there.contains(&store.as_str())) {
        found.of_settings_of_store(options, store, &settings);
    }
    found.of_broker(options, &settings);
    Ok((Some(topic.partitions), found.0))
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, code: &'static str, what: String, remedy: &str) {
        self.0.push(Finding::new(severity, code, what, remedy));
    }

    fn breaks(&mut self, code: &'static str, what: String, remedy: &str) {
        self.add(Severity::Breaks, code, what, remedy);
    }

    fn of_channel(&mut self, options: &Options, channel: &str, topic: &Found, settings: &Settings) {
        if let Some(lanes) = options.lanes.filter(|lanes| *lanes != topic.partitions) {
            let what = format!("the channel `{channel}` has {} partitions, not {lanes}", topic.partitions);
            self.breaks("lane-count", what, "say `lanes` as it was made with; another number needs a new channel");
        }
        self.of_replication(channel, topic, settings);
        match settings.of_topic(channel, "cleanup.policy") {
            None => self.add(
                Severity::Note,
                "settings-unseen",
                format!("the settings of the channel `{channel}` cannot be seen by this user"),
                "allow it `DescribeConfigs` on the topic, so that they can be checked",
            ),
            Some(policy) if policy.contains("compact") => self.breaks(
                "compacted",
                format!("the channel `{channel}` is compacted: of each session all but the last record is removed, handled or not"),
                "set cleanup.policy to `delete`",
            ),
            Some(_) => self.of_retention(options, channel, settings),
        }
        if settings.of_topic(channel, "unclean.leader.election.enable") == Some("true") {
            let what = format!(
                "a replica of the channel `{channel}` that lags behind may become its leader: what was confirmed is lost then"
            );
            self.breaks("unclean-leader", what, "set unclean.leader.election.enable to `false`");
        }
        if let Some(most) = settings.number(channel, "max.message.bytes")
            && most < i64::try_from(options.max_message + OF_BATCH).unwrap_or(i64::MAX)
        {
            let what = format!(
                "the channel `{channel}` takes messages up to {most} bytes, and `max_message` is {}",
                options.max_message
            );
            self.add(Severity::Warning, "message-size", what, "raise max.message.bytes, or lower `max_message`");
        }
    }

    fn of_replication(&mut self, channel: &str, topic: &Found, settings: &Settings) {
        if topic.replicas < 2 {
            let what = format!("the channel `{channel}` has one replica: what is confirmed is lost with its broker");
            self.add(Severity::Warning, "replication", what, "have at least two, better three");
        }
        match settings.number(channel, "min.insync.replicas") {
            Some(least) if least > i64::try_from(topic.replicas).unwrap_or(i64::MAX) => {
                let what = format!(
                    "the channel `{channel}` wants {least} replicas in sync and has {}: nothing that is sent is confirmed",
                    topic.replicas
                );
                self.breaks("min-insync", what, "lower min.insync.replicas, or add replicas");
            }
            Some(1) if topic.replicas > 1 => {
                let what = format!("the channel `{channel}` confirms what one of its {} replicas has", topic.replicas);
                self.add(Severity::Warning, "min-insync", what, "set min.insync.replicas to 2");
            }
            _ => {}
        }
    }

    fn of_retention(&mut self, options: &Options, channel: &str, settings: &Settings) {
        let kept = settings.number(channel, "retention.ms").filter(|kept| *kept >= 0);
        let stated = options.retention.map(|stated| i64::try_from(stated.as_millis()).unwrap_or(i64::MAX));
        if let Some(kept) = kept {
            let kept_for = Duration::from_millis(kept.unsigned_abs());
            let what =
                format!("the channel `{channel}` keeps records for {kept_for:?}: what is not handled by then is lost");
            match stated {
                Some(stated) if stated > kept => {
                    self.breaks("retention", what, "raise retention.ms to what `retention` says");
                }
                _ => self.add(Severity::Note, "retention", what, "watch the lag of the groups, or raise retention.ms"),
            }
        }
        if let Some(kept) = settings.number(channel, "retention.bytes").filter(|kept| *kept >= 0) {
            let what = format!(
                "a partition of the channel `{channel}` keeps {kept} bytes: what is not handled when there is more is lost"
            );
            self.add(Severity::Warning, "retention-bytes", what, "set retention.bytes to -1");
        }
    }

    fn of_store(&mut self, store: &str, topic: &Found) {
        if topic.partitions != 1 {
            let what =
                format!("the dead-letter store `{store}` has {} partitions: only the first is used", topic.partitions);
            self.add(Severity::Warning, "store-lanes", what, "have one partition");
        }
    }

    fn of_settings_of_store(&mut self, options: &Options, store: &str, settings: &Settings) {
        if settings.of_topic(store, "cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
            let what =
                format!("the dead-letter store `{store}` is compacted: of each session only the last letter is kept");
            self.breaks("store-compacted", what, "set cleanup.policy to `delete`");
        }
        if let Some(kept) = settings.number(store, "retention.ms").filter(|kept| *kept >= 0) {
            let kept = Duration::from_millis(kept.unsigned_abs());
            let what = format!("the dead-letter store `{store}` keeps letters for {kept:?}");
            self.add(Severity::Warning, "store-retention", what, "set retention.ms to -1");
        }
        if let Some(most) = settings.number(store, "max.message.bytes")
            && most < i64::try_from(options.max_message + OF_BATCH + BESIDE).unwrap_or(i64::MAX)
        {
            let what = format!(
                "the dead-letter store `{store}` takes letters up to {most} bytes, which a message of `max_message` does not fit into with its reason"
            );
            self.add(Severity::Warning, "store-message-size", what, "raise max.message.bytes");
        }
    }

    fn of_broker(&mut self, options: &Options, settings: &Settings) {
        let session = i64::try_from(options.session_timeout.as_millis()).unwrap_or(i64::MAX);
        let (least, most) = (
            settings.of_broker("group.min.session.timeout.ms").unwrap_or(i64::MIN),
            settings.of_broker("group.max.session.timeout.ms").unwrap_or(i64::MAX),
        );
        if !(least..=most).contains(&session) {
            let what = format!(
                "the broker takes session timeouts from {least} to {most} ms, and `session_timeout` is {session} ms: no member could join"
            );
            self.breaks(
                "session-timeout",
                what,
                "say another `session_timeout`, or change group.min.session.timeout.ms",
            );
        }
        let units = i64::try_from(METADATA_UNITS).unwrap_or(i64::MAX);
        if let Some(most) = settings.of_broker("offset.metadata.max.bytes").filter(|most| *most < units) {
            let what = format!(
                "the broker takes {most} characters of metadata with a commit, and {units} are needed: lanes with many sessions that stand still could not commit"
            );
            self.breaks("metadata-size", what, "set offset.metadata.max.bytes to 4096 or more");
        }
        if settings.broker.get("auto.create.topics.enable").is_some_and(|on| on == "true") {
            let what =
                "the broker makes topics that somebody asks for, with whatever number of partitions it has by default"
                    .to_owned();
            self.add(
                Severity::Note,
                "auto-create",
                what,
                "set auto.create.topics.enable to `false`, so that a mistyped name is found",
            );
        }
        if let Some(minutes) = settings.of_broker("offsets.retention.minutes").filter(|minutes| *minutes < 24 * 60) {
            let what =
                format!("the broker forgets what a group has done when it has had no member for {minutes} minutes");
            self.add(Severity::Warning, "offsets-retention", what, "raise offsets.retention.minutes");
        }
    }
}

/// Whether a broker can be reached, and lets this user in.
pub(crate) async fn reach(options: &Options) -> Result<()> {
    const OPERATION: &str = "connect";
    let admin = Admin::new(options, OPERATION)?;
    let addresses = options.bootstrap();
    let asked = tokio::task::spawn_blocking(move || {
        let metadata = admin.client.inner().fetch_metadata(Some(NOBODYS), admin.limit);
        // What the client saw of the way there says more than that no answer came.
        metadata.map(|_| ()).map_err(|e| error::of(e, OPERATION))
    });
    let reached = asked.await.unwrap_or_else(|_| Err(error::closed(OPERATION)));
    reached.map_err(|why| why.with("brokers", addresses))
}

/// Whether there is such a topic.
pub(crate) async fn is_there(options: &Options, topic: &str, operation: &'static str) -> Result<bool> {
    let admin = std::sync::Arc::new(Admin::new(options, operation)?);
    Ok(admin.find(topic, operation).await?.0.is_some())
}

/// Deletes what stands below an offset of a topic with one partition.
pub(crate) async fn delete_below(options: &Options, topic: &str, offset: u64) -> Result<()> {
    const OPERATION: &str = "delete records";
    let admin = Admin::new(options, OPERATION)?;
    let offset = rdkafka::Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
    let asked = {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, offset).map_err(|e| error::of(e, OPERATION))?;
        admin.client.delete_records(&list, &admin.options())
    };
    asked.await.map(|_| ()).map_err(|e| error::of(e, OPERATION).with("topic", topic))
}
