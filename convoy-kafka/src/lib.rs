//! The Kafka backend of convoy: lanes on partitions, record keys as sessions.
//!
//! Programs reach it by `convoy::connect("kafka://host:9092,host:9092")` with the feature `kafka` of convoy-mq, and find this crate as `convoy::kafka`. It is built on `rdkafka`, of which nothing
//! shows here, and so on librdkafka, which is C: building it takes gcc or clang, make and the headers of zlib.
//!
//! ```no_run
//! use convoy_core::{Broker, ChannelSpec, Topology};
//! use convoy_kafka::KafkaBroker;
//!
//! # async fn example() -> convoy_core::Result<()> {
//! let broker = Broker::new(KafkaBroker::from_url("kafka://127.0.0.1:9092?lanes=8").await?);
//! broker.provision(&Topology::new().channel(ChannelSpec::new("orders").group("billing"))).await?;
//! # Ok(()) }
//! ```
//!
//! | convoy | Kafka |
//! |---|---|
//! | channel | topic |
//! | lane | partition |
//! | session | record key, byte by byte; 1 to 128 bytes |
//! | consumer group | group id, behind `group_prefix` |
//! | position, fence | offset |
//! | settled | the answered commit that holds it |
//!
//! A group id belongs to the cluster. Two channels with a group of one name share one Kafka group: positions are kept apart, but whoever joins or leaves on one channel makes all of them rebalance. Give
//! the groups of each channel names of their own, or a `group_prefix`.
//!
//! # What is created on your broker
//!
//! Only by [`provision`](convoy_core::backend::Backend::provision) (or with the option `auto_create`), for a channel `orders` and its group `billing`:
//!
//! | name | what | for |
//! |---|---|---|
//! | `orders` | topic with as many partitions as `lanes` says, 16 unless it is said, `cleanup.policy=delete` | the channel |
//! | `orders.billing.dead` | topic of one partition with `retention.ms=-1` | the dead-letter store |
//!
//! The group itself comes into being with its first commit. While programs run there is for each consumer a client with three threads of convoy's: one polls for what the group says, one reads lanes, one commits; a client for
//! each producer, and one for dead letters.
//!
//! | operation | on | for |
//! |---|---|---|
//! | `Describe`, `Read` | the channel's topic, the group | consumers |
//! | `Write`, `Describe` | `orders.billing.dead` | consumers: dead letters. `Read` and `Delete` for who takes them out |
//! | `Write`, `Describe` | the channel's topic | producers |
//! | `DescribeConfigs` | the topics, the cluster | `check`, and the start of consumers; without it the settings are not compared, and `check` says so |
//! | `Create` | the topics or the cluster | `provision`, `auto_create` |
//!
//! # Publishing from another language
//!
//! Set the key to the session id, and the partitioner to murmur2, as the clients of the JVM have it by default. Clients built on librdkafka (C, Python, Go, .NET) use CRC-32 unless told
//! otherwise: `partitioner=murmur2_random`. Idempotence on, acks from all. Nothing else is needed: headers are optional.
//!
//! A consumer looks at each record, whether its key belongs into its partition, by the hash that the first keyed records of the lane tell (`hash=auto`). One that contradicts it is reported as misrouted and
//! stops the consumer unless that is allowed: two hashes put one session into two lanes, where its order is lost. convoy's own producers use murmur2 only.
//!
//! A record without a key belongs to no session, and follows the policy for foreign messages.
//!
//! # What each guarantee rests on
//!
//! - **One holder.** The group: a partition has one member. Before a lane moves, its handlers end and what they did is committed (`handover`); with `cooperative-sticky` only what moves is given up. A
//!   lane that comes back to the same process still waits for the old handler of a session.
//! - **No start after expiry.** The classic protocol of groups, in which an answered commit proves the membership. A lease lasts one `session_timeout` from when the commit was *sent*, less a tenth, and
//!   idle lanes commit for that alone; and never longer than `max_poll_interval` from the last turn of the polling thread, which is measured here. The first handler of a lane starts after the commit of
//!   its starting position was answered. `group_protocol=consumer` (KIP-848) is refused: there a commit proves nothing of the next instant (a member whose heartbeats stop is expelled although its commits are
//!   answered), and the client library does not show heartbeats.
//! - **Settled** means: in an answered commit. Its offset is the watermark of the lane; what is done above it is in its metadata, so that one slow session does not make a restart repeat the
//!   work of the others. That holds for up to 580 sessions of a lane that have something open; what is done behind more of them waits to be told, and counts as unsettled.
//! - **A late commit cannot rewind a new owner.** Brokers take a commit from any member of a group for any lane. So one is under way at a time, only of lanes that are held, by the lock that a revoke takes; a
//!   revoke and a close wait for its answer, and when there is none the client is given up, and with it its membership, before anybody else can have the lane.
//! - **Producer order.** One unanswered record of a session, idempotent, `acks=all`. A record is tried until its outcome is known, however long that takes: a send whose time is over is
//!   reported as unknown, and its session can be resumed once it is known what became of it. What was not handed to the client library by then never leaves.
//! - **No loss** holds as long as the topic keeps what is not handled: `check` looks at `cleanup.policy`, `retention.ms` and `retention.bytes`. A position that is not in the log any more ends the consumer with an
//!   error that names the lost range, unless the finding `lost-range` is allowed.
//! - **The number of partitions** is what a session's lane rests on. It is written into each commit, and looked at every `lane_check`: a channel that has another one than its group wrote down, or than it had when it was
//!   opened, ends consumers and producers with an error, unless the finding `lane-count` is allowed. Let all groups handle what is there, then use a new topic.
//!
//! # What a rebalance does to handlers
//!
//! A lane that goes to another member starts nothing more; its running handlers may end within `handover` (told to end a little before that, and dropped then); what they did is committed; then it goes. A lane
//! that was *lost* (the member was expelled, or could not reach its group for a `session_timeout`) tells its handlers to end at once, and commits nothing. Lanes that stay go on.
//!
//! While one member hands over, others that join wait for it, and can prove nothing meanwhile: keep `handover` below `session_timeout`.
//!
//! # How lanes are read, and tuned
//!
//! Each lane has a queue of its own in the client library, which is read in batches of up to 256 as long as its buffer here has room. A lane that is full, of a session that stands still say, is left alone: the client
//! library fetches no more of it than `prefetch` and `prefetch_bytes` say, a lane, and the others go on. Nothing is paused, since pausing throws away what was fetched (measured: a quarter of a second
//! for each time). Reading in batches needs the project's only unsafe code (`src/queue/batch.rs`); the feature `safe-queue` reads one by one instead.
//!
//! Sessions run in parallel beyond lanes: a few lanes are enough for thousands of sessions at once. More lanes spread the work over more members, and bound how many sessions wait for one that stands still
//! with its lane's buffer full of it. What was done and is in no commit yet comes again after a crash: at most twice `settle_count` messages of a lane, or what twice `settle_interval` gives.
//!
//! # What to watch, and what breaks it
//!
//! - The lag of the group. A session that stands still keeps its lane's watermark, and the lag is counted from there: the other sessions go on until the buffer of the lane is full of it.
//! - Retention shorter than the longest standstill loses records. So does compaction on a channel.
//! - A group that is idle for longer than `offsets.retention.minutes` forgets its positions, and starts where `start` says.
//! - `kafka-consumer-groups --reset-offsets`, or a commit by anything else in the same group, moves positions under convoy: metadata that is not its own is ignored, and that is logged.
//! - Partitions added to a topic move sessions to other lanes.
//! - A member that is removed by hand (or expelled by a broker that stood still) loses its lanes at once and hears of it by its next heartbeat: for so long two may run one session, where only
//!   [`Fence`](convoy_core::Fence)s tell.
//! - A dead-letter store is read from its beginning each time it is listed. What is taken out of it is marked, and deleted once nothing is left.
//!
//! # The client library, where it surprises
//!
//! Found here with librdkafka 2.12.1; what else was measured is said where it matters in the code.
//!
//! - A commit that could not even be sent, because nobody can be reached, is tried without end, and a client with one does not end. A consumer that is dropped, or closed in vain, while its broker cannot be reached
//!   leaves its client behind with its threads and connections, sometimes for as long as the process lives; it holds no lane. The error of a close says what it waited for. A question for the group's positions, to a
//!   client that is closing, has no answer before its limit.
//! - What is asked of the group's part of a client after that has ended can be lost without an answer: nothing is unassigned by hand while a revoke is still to come.
//! - `message.timeout.ms` drops a record from the queue while it may be on its way; so it is off, and what a send waits for has a limit here.
//!
//! # Not there
//!
//! KIP-848, static membership, transactions, OAUTHBEARER, Kerberos.

#![warn(clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod backend;
mod client;
mod config;
mod consumer;
mod dead;
mod envelope;
mod error;
mod fetch;
mod guarantees;
mod hashing;
mod lanes;
mod names;
mod outbox;
mod positions;
mod producer;
mod progress;
mod publisher;
mod queue;
mod reader;
mod rebalance;
mod settle;
mod topology;

pub use backend::KafkaBroker;
pub use config::{Assignor, Options, Sasl, Start};
pub use guarantees::guarantees;
pub use hashing::Hashing;
