//! The RabbitMQ backend of convoy: lanes on quorum queues with a single active consumer.
//!
//! Programs reach it by `convoy::connect("amqp://user:password@host:5672/vhost")` with the feature `rabbitmq` of convoy-mq, and find this crate as `convoy::rabbitmq`.
//! It is built on `lapin`, of which nothing shows here. The conformance suite has passed on RabbitMQ 4.3.6, 4.0.5 and 3.10.8; see [what depends on the version](#what-each-guarantee-rests-on).
//!
//! ```no_run
//! use convoy_core::{Broker, ChannelSpec, Topology};
//! use convoy_rabbitmq::RabbitBroker;
//!
//! # async fn example() -> convoy_core::Result<()> {
//! let broker = Broker::new(RabbitBroker::from_url("amqp://guest:guest@127.0.0.1:5672?lanes=8").await?);
//! broker.provision(&Topology::new().channel(ChannelSpec::new("orders").group("billing"))).await?;
//! # Ok(()) }
//! ```
//!
//! # What is created on your broker
//!
//! Only by [`provision`](convoy_core::backend::Backend::provision) (or with the option `auto_create`), for a channel `orders` and its group `billing` with 64 lanes and a
//! prefetch of 500:
//!
//! | name | what | for |
//! |---|---|---|
//! | `orders` | durable direct exchange | the channel. Messages are published to it with their session's slot as routing key |
//! | `orders.billing.g1.l64.p500.lane.0` … `.63` | durable quorum queues with `x-single-active-consumer`, `x-delivery-limit` 1 000 000 and `x-consumer-disconnected-timeout` 20 000 | the lanes of the group |
//! | 1 024 bindings | slot → lane, in ranges | so that each group chooses its own number of lanes |
//! | `orders.billing.pin` | an empty queue whose bounds are the number of lanes and the prefetch | so that a group is never opened, or made again, with other ones |
//! | `orders.billing.dead` | durable quorum queue with `x-single-active-consumer` | the dead-letter store |
//! | `convoy.orders.billing.members` | durable fanout exchange | the members of the group hear of each other by it |
//!
//! While programs run: for each consumer a connection, an AMQP channel a lane and a queue of its own for the members' words; for each broker handle a connection for publishing with an
//! exclusive queue `convoy.link.…`. Lanes get a message without meaning now and then (header `convoy-probe`), acknowledged at once: an idle queue shows nobody that it is the active
//! consumer, and a delivery does.
//!
//! | permission | on | for |
//! |---|---|---|
//! | `configure` | `convoy.link.…`, and `amq.gen-…` for consumers | the queues of the connections themselves; every broker handle needs the first |
//! | `configure` | what is to be made | `provision`, `auto_create`; without it `check` cannot compare what is there, and says so |
//! | `write` | the channel's exchange | producers, and the check of bindings |
//! | `write` | `amq.default`, `convoy.orders.billing.members`, `amq.gen-…` | consumers: probes and dead letters; the members of the group |
//! | `read` | the lanes, `convoy.orders.billing.members`, `amq.gen-…`, `orders.billing.pin` | consumers; the last since 4.0 shows a queue only to who has some permission on it |
//! | `read` | `orders.billing.dead` | dead letters |
//!
//! `check` finds out by trying, and names what is missing and on what; a producer does not start without `write`, a consumer not without `read`. Of a `provision` the bindings take `write` on the
//! lanes and `read` on the exchange.
//!
//! # Publishing from another language
//!
//! Take a slot: murmur2 of the session id's bytes with the seed `0x9747b28c`, the sign bit off (as the Kafka clients of the JVM have it), modulo 1 024; `slots.tsv` in this crate has test
//! vectors. Publish to the channel's exchange with the slot in decimal as routing key and the id in the header `convoy-session`, persistent, `mandatory`, one unconfirmed message a session:
//! ```text
//! channel.basic_publish("orders", str(slot(session)), body, mandatory=True,
//!                       properties=pika.BasicProperties(headers={"convoy-session": session}, delivery_mode=2))
//! ```
//! The property `type`, if any, is the type of the message, by which a [`Router`](convoy_core::Router) calls its handlers.
//! `examples/publish.py` in this crate is a whole publisher, hash included; the tests of this project run it on real brokers.
//! A message in a lane where the hash would not put its session is reported as misrouted, and stops the consumer unless that is allowed.
//!
//! # Publishers that cannot hash
//!
//! A channel with the option `entry=modulus-hash` is hashed by the broker, by exchanges of its type `x-modulus-hash`, which is built into RabbitMQ 4.3: an older broker is refused. Whoever
//! knows the session and the name of an exchange publishes to `orders.entry` with the session id as routing key, persistent, `mandatory` and confirmed, one unconfirmed message a session; the header
//! may be left out. The hash is another one than that of slots (`erlang:phash2` of the routing key, modulo the number of lanes, which are sorted by name), and both at work on one channel would put
//! a session into two lanes: so convoy's own producers publish there too, and there is no exchange `orders`. The option is of the whole channel, and pinned: a group is not made
//! where the channel has the other entry, `check` says so, and a member or a producer that says something else finds no queue, or no exchange.
//!
//! | name | what | for |
//! |---|---|---|
//! | `orders.entry` | durable fanout exchange | the channel, in place of `orders` |
//! | `convoy.orders.billing.g1.l64.p500.mh.hash` | durable exchange of the type | hashes for the group; bound to its lanes and to `orders.entry` |
//! | `orders.billing.g1.l64.p500.mh.lane.0` … | as above | the lanes of the group |
//!
//! `provision` takes `configure` on these, `read` on both exchanges, and `write` on the second and on the lanes; producers take `write` on `orders.entry`.
//!
//! It costs something.
//!
//! - A lane that is deleted or unbound moves sessions between the *other* lanes, and those that had messages waiting lose their order; by slots, only what belongs to that lane is touched. Made again it moves them
//!   back: so `provision` refuses to make a lost lane again, and says what to do first.
//! - Bindings are not looked at, neither while programs run (`binding_check` is of slots) nor by `check`, which sees a group that was not made to its end, and an exchange that is missing. Nor is an
//!   alternate exchange of `orders.entry` seen.
//! - Session ids must be UTF-8 text, since that is what a routing key is. A routing key that is not (other clients can send one, and the broker takes it) cannot be read by the client library,
//!   which ends the connection over it, again and again: such a message must be taken out of its lane by other means.
//! - Nobody but the broker knows the lane of a session: `accept` by a session's name is unsupported. A message is called misrouted when its routing key is another one than its session, or when it has a header `CC`, whose
//!   keys the broker hashes too (it strips `BCC`, which does the same unseen).
//!
//! So hash where you can.
//!
//! # TLS
//!
//! `amqps://` needs the feature `tls`. The broker's certificate must be of an issuer that the system knows or that `tls_ca` names, in time, and for the host of the URL: nothing switches that off.
//! A broker that asks for a certificate of its clients is given `tls_cert` with `tls_key`. All three are files of PEM, read again for each connection. What is wrong with a certificate,
//! on either side, is in the error, which is not worth a repetition; no key and no password is in any.
//!
//! # Policies, and the broker's version
//!
//! The protocol shows neither. With the feature `management` (`rabbitmq-management` of convoy-mq) and the option of that name, `?management=http://host:15672`, `check` and every consumer that is opened ask the HTTP
//! API of the management plugin: which policies and operator policies are in force on the lanes, the pin and the dead-letter store, whether one gives an `entry` an alternate exchange, and whether the broker is
//! older than 3.10, before which nothing here was tried. What would lose messages has the code that it has as an argument (`max-length`, `message-ttl`, `expires`, `overflow`, `delivery-limit`,
//! `dead-letter-exchange`, `node-timeout`) and names the policy; a broker that is too old is `server-version`. A consumer does not start on them unless they are allowed by name. The user needs the tag
//! `monitoring`; another one can be named in the URL of the option. Where the API cannot be asked that is a warning (`management`), and consumers start.
//!
//! 4.3 tells what is in force at once. Older releases tell with their statistics: a consumer that is opened within ten seconds of its `provision` waits for them, and a policy that changed is seen ten
//! seconds later. What is changed while a consumer runs is not seen by it.
//!
//! # What each guarantee rests on
//!
//! - **One holder.** The broker's single active consumer. A lane is given up by closing its AMQP channel, never by `basic.cancel`, which would start the next holder over unacknowledged
//!   messages; nothing is ever requeued one by one. What comes back comes back in order.
//! - **No start after expiry.** Every lease is proved by a request (a passive declaration of the lane) that was answered on the lane's own channel, and ends one `heartbeat` after that was
//!   sent. A broker waits for two missed heartbeats before it moves a lane away from a silent connection. A connection that the broker *sees* die (reset, closed) moves its lanes at once: there the
//!   old handler is told in the same moment, and only its grace time bounds the overlap. Use [`Fence`](convoy_core::Fence)s where that matters: here one row a session and producer,
//!   since the broker gives no position.
//! - **A lost node of a cluster** is not seen by any request. 4.3 waits before it moves a lane away from a lost node's consumer, for longer than the lease
//!   (`x-consumer-disconnected-timeout` of the lanes, the option `node_timeout`; without it a minute); 4.0 and before move it at once.
//!   Name all nodes of a cluster in the URL (`amqp://user:password@a:5672,b:5672,c:5672`): a connection that ends is made again to the next of them that can be reached.
//! - **Settled** means: the acknowledgement was written, and a request behind it on the same channel was answered while the consumer still stood. That alone is no proof on a quorum queue: the
//!   broker's own client of it (`rabbit_fifo_client`) keeps acknowledgements to itself while 32 commands are not in the queue's log yet, answers declarations all the same, and forgets what it kept when
//!   the channel closes (seen under chaos on 4.3.6: settled messages came again after clean hand-overs). So at most 28 commands go out, and then a request that goes through the log: a second
//!   registration and its end. The same goes out before a lane is given back, since a channel also has to say again what it said while the lead of the queue moved to another node (seen on a cluster whose
//!   nodes were stopped in order: settled messages came again). After the loss of a broker node what was acknowledged may come again.
//! - **No loss on the way into a lane.** A producer is told of a message that *no* queue took (`mandatory`): with several groups a binding that is gone is silent. So whoever holds a
//!   lane sends, every `binding_check`, a probe to one of its slots, and another one straight into the queue, behind it: when that comes alone, the slot does not lead there. Nothing else
//!   tells: the protocol lists no bindings, a returned message says nothing of a single group, and binding all 1 024 slots again costs the broker seconds and would hide what was lost. A whole lane
//!   is found within `binding_check`, a single slot within as many of them as the lane has slots (16 of 64 lanes: 8 minutes by default). The consumer then ends with an error that
//!   names queue and slot; with `auto_create` the slots of the lane are bound again instead, and the loss is logged as an error. The other groups of the channel get the probe as well, which is dropped or
//!   acknowledged after at most a minute at the head of a queue. A lane whose backlog takes longer than half a minute is not judged.
//! - **Bounded duplicates.** Acknowledged are whole prefixes of a lane, and single messages above a session that stands still; at a count, after `settle_interval`, when nothing is left to do (not more often than five times in it), and
//!   before a channel closes.
//! - **Producer order.** One unconfirmed message a session. A nack, or a connection that ends first, leaves the outcome unknown; `resume` then waits until the broker has let
//!   the old connection go, after which nothing of it can land.
//! - **Attempts** are counted in the process. The broker's own count (`x-delivery-count`) is shown beside them: it counts every hand-over of the whole prefetch, also of messages that nobody touched.
//!
//! # What to watch, and what breaks it
//!
//! - A lane with messages ready, a consumer and no delivery is stuck at the broker; alarms of memory or disk block producers (consumers go on: they publish on another connection).
//! - A policy that sets `max-length`, `message-ttl`, `overflow` or `expires` on `*.lane.*` loses messages, and the protocol does not show it: by itself `check` sees the arguments of queues
//!   only, each of them by name; see [policies](#policies-and-the-brokers-version). So do a purge and a deleted lane; the latter ends the consumer with an error that names it, as a binding that is gone does.
//! - `consumer_timeout` (30 minutes by default) ends the right to a lane in which one message stays unacknowledged for so long: a session that stands still longer loses its lane's
//!   right again and again. Raise it where handlers or retries take that long.
//! - A policy that sets `consumer-disconnected-timeout` on `*.lane.*` to less than two heartbeats lets a lane move before its old holder has ended; found as above.
//! - Another number of lanes or another prefetch needs a new group: the two are part of the queues' names, and the pin refuses others. So does another `node_timeout`, and with it a `heartbeat` of more
//!   than half of 20 s where none is set: it is an argument of the lanes, and a lane that has another one is a finding (`node-timeout`).
//! - A session that stands still keeps at most `prefetch` messages of its lane in memory; the other sessions of that lane stop when all of them are its own.
//! - A dead-letter store shows its first 10 000 letters at once, and the others when some of those are taken out. A letter that somebody else put there without a `message-id` is not listed.
//! - The default exchange and the names above belong to the group: do not consume from a lane by other means.
//!
//! # What was learned about the client library
//!
//! `lapin` hides what the broker says of itself when a connection is made, its version among it: hence the HTTP API. `rabbitmq_http_client`, made for that API, needs Rust 1.94 and some hundred and fifty crates for
//! the three questions that are asked here: `ureq` asks them.
//!
//! `lapin`'s `events_listener` tells of channels that the broker closes, too, and each event goes to one listener only. Its confirms carry returned messages, not always their own. Dropping its
//! `Consumer` cancels it. It writes nothing at all, not even acknowledgements, while the broker blocks a connection: hence the second one.

#![warn(clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod backend;
mod config;
mod connection;
mod consumer;
mod dead;
mod departures;
mod entry;
mod envelope;
mod error;
mod guarantees;
mod hashing;
mod lane;
mod management;
mod members;
mod names;
mod nodes;
mod outbox;
mod permissions;
mod probes;
mod producer;
mod settle;
mod spread;
mod tls;
mod topology;

pub use backend::RabbitBroker;
pub use config::Options;
pub use entry::Entry;
pub use guarantees::guarantees;
