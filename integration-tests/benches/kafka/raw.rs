//! What the client library does by itself: the same topic, records read in batches from one queue, their keys looked at, a commit a second; no sessions. At most a hundred lines.
#![allow(unsafe_code, reason = "the client library's reading in batches is there in C alone")]

use std::collections::hash_map::RandomState;
use std::ffi::CString;
use std::hash::BuildHasher;
use std::ptr;
use std::slice;
use std::time::{Duration, Instant};

use rdkafka::bindings as c;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::run::{Any, body, cpu_time};

const BATCH: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes records, in turn one of each session, as fast as the client library can.
pub(crate) fn load(servers: &str, topic: &str, sessions: u32, records: u32, size: usize) -> Result<(), Any> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("partitioner", "murmur2_random").set("enable.idempotence", "true");
    config.set("linger.ms", "20").set("queue.buffering.max.kbytes", "262144");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
    for record in 1..=records {
        for session in 0..sessions {
            let mut payload = body(session, record);
            payload.resize(size, 0);
            let key = format!("session-{session}");
            let mut record = BaseRecord::to(topic).key(&key).payload(&payload);
            while let Err((why, again)) = producer.send(record) {
                if why != KafkaError::MessageProduction(Code::QueueFull) {
                    return Err(why.into());
                }
                std::thread::sleep(Duration::from_millis(5));
                record = again;
            }
        }
    }
    Ok(producer.flush(PATIENCE)?)
}

/// Reads so many records of all partitions from their beginning. Records a second, and CPU a record in microseconds.
pub(crate) fn read(servers: &str, topic: &str, partitions: i32, records: u64) -> Result<(f64, f64), Any> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", format!("raw-{topic}-{records}"));
    config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    let consumer: BaseConsumer = config.create()?;
    let client = consumer.client().native_ptr();
    let name = CString::new(topic)?;
    // SAFETY: the client outlives what is made of it here, all of which is destroyed below on the way on which nothing fails; elsewhere the process ends.
    let (queue, of) =
        unsafe { (c::rd_kafka_queue_new(client), c::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut())) };
    for partition in 0..partitions {
        // SAFETY: both were made above, and live.
        let started = unsafe { c::rd_kafka_consume_start_queue(of, partition, 0, queue) };
        if started != 0 {
            return Err("a partition could not be read".into());
        }
    }
    let (mut seen, mut keys, mut at) = (0, 0_u64, vec![0_i64; partitions as usize]);
    let (hasher, mut batch, mut first) = (RandomState::new(), vec![ptr::null_mut(); BATCH], None);
    let mut commits_at = Instant::now();
    while seen < records {
        // SAFETY: there is room for as many as are asked for.
        let got = unsafe { c::rd_kafka_consume_batch_queue(queue, 100, batch.as_mut_ptr(), BATCH) };
        let got = usize::try_from(got).map_err(|_| "reading failed")?;
        first = first.or((got > 0).then(|| (Instant::now(), cpu_time())));
        for message in &batch[..got] {
            // SAFETY: as many as were got are there, until each is destroyed, which is done once.
            let record: &c::rd_kafka_message_t = unsafe { &**message };
            if record.err == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                // SAFETY: a record that is no error has a key here, as long as it says.
                let key = unsafe { slice::from_raw_parts(record.key.cast::<u8>(), record.key_len) };
                keys ^= hasher.hash_one(key);
                (at[record.partition as usize], seen) = (record.offset + 1, seen + 1);
            }
            // SAFETY: nothing of it is used any more.
            unsafe { c::rd_kafka_message_destroy(*message) };
        }
        if commits_at.elapsed() >= Duration::from_secs(1) || seen == records {
            let mut list = TopicPartitionList::new();
            for (partition, at) in at.iter().enumerate() {
                list.add_partition_offset(topic, partition as i32, Offset::Offset(*at))?;
            }
            consumer.commit(&list, CommitMode::Async)?;
            commits_at = Instant::now();
        }
    }
    let (begun, cpu) = first.ok_or("nothing was read")?;
    let (took, cpu) = (begun.elapsed(), cpu_time() - cpu);
    std::hint::black_box(keys);
    for partition in 0..partitions {
        // SAFETY: it was started above.
        unsafe { c::rd_kafka_consume_stop(of, partition) };
    }
    // SAFETY: neither is used any more.
    unsafe { (c::rd_kafka_topic_destroy(of), c::rd_kafka_queue_destroy(queue)) };
    Ok((records as f64 / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / records as f64))
}
