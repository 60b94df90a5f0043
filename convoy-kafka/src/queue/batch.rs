//! Reading in batches. All unsafe code of the project is here.
//!
//! What it relies on, of librdkafka's `rdkafka.h` and its sources: a queue handle is a counted reference, used by one thread at a time here, and given up before the client is; a queue that was
//! forwarded nowhere by the application stays so through the start of fetching, so that no record takes another way; whatever a seek or a new assignment made old is left out by the batch itself; a
//! record is ours until it is destroyed, and what its fields point to lives as long; the callback of a queue is called with the queue's lock held, which is why none runs any more once it is taken out.
#![allow(unsafe_code, reason = "the client library offers reading in batches in C alone")]

use std::ffi::{CString, c_void};
use std::ptr;
use std::slice;
use std::sync::Arc;

use rdkafka::bindings as c;
use rdkafka::error::{IsError, KafkaError};
use rdkafka::message::BorrowedHeaders;

use super::{BATCH, Bell};
use crate::envelope::Record;
use crate::rebalance::Client;

/// The queue of one lane.
pub(crate) struct Queue {
    queue: ptr::NonNull<c::rd_kafka_queue_t>,
    batch: Box<[*mut c::rd_kafka_message_t]>,
    /// What the callback is given; it lives until that is taken out.
    bell: Arc<Bell>,
    /// Given up last.
    _client: Arc<Client>,
}

// SAFETY: the client library's functions may be called from any thread, and this is called from one at a time, since reading needs it alone. The batch holds nothing between two calls.
unsafe impl Send for Queue {}

impl Queue {
    /// Splits a lane's queue off. Before the lane is assigned: what was fetched until then would go another way.
    pub(crate) fn split(client: &Arc<Client>, channel: &str, lane: u32, bell: &Arc<Bell>) -> Option<Self> {
        let name = CString::new(channel).ok()?;
        let partition = i32::try_from(lane).ok()?;
        // SAFETY: the client lives, the name ends with a zero byte and is copied. The reference that is returned is ours.
        let queue = unsafe {
            c::rd_kafka_queue_get_partition(
                rdkafka::consumer::Consumer::client(&**client).native_ptr(),
                name.as_ptr(),
                partition,
            )
        };
        let queue = ptr::NonNull::new(queue)?;
        let bell = Arc::clone(bell);
        // SAFETY: the queue is ours. What the callback is given is kept in `bell`, and taken out of the queue before that goes.
        unsafe {
            c::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut());
            c::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(ring), Arc::as_ptr(&bell).cast_mut().cast());
        }
        Some(Self { queue, batch: vec![ptr::null_mut(); BATCH].into(), bell, _client: Arc::clone(client) })
    }

    /// Reads what is there, one batch at most, without waiting. Gives how many came.
    pub(crate) fn read(&mut self, mut each: impl FnMut(Result<&dyn Record, KafkaError>)) -> usize {
        // SAFETY: the queue is ours, and there is room for as many as are asked for.
        let got = unsafe {
            c::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, self.batch.as_mut_ptr(), self.batch.len())
        };
        let got = usize::try_from(got).unwrap_or_default().min(self.batch.len());
        for message in &mut self.batch[..got] {
            let Some(message) = ptr::NonNull::new(std::mem::replace(message, ptr::null_mut())) else { continue };
            let message = Owned(message);
            match message.fields().err {
                why if why.is_error() => each(Err(KafkaError::MessageConsumption(why.into()))),
                _ => each(Ok(&message)),
            }
        }
        got
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        debug_assert!(Arc::strong_count(&self.bell) > 0);
        // SAFETY: the queue is ours, and not used any more after this.
        unsafe {
            c::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            c::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// Called by the client library's threads when a queue that was empty is not any more.
unsafe extern "C" fn ring(_: *mut c::rd_kafka_t, bell: *mut c_void) {
    // SAFETY: it is the bell that was given with the callback, which lives until the callback is taken out.
    unsafe { &*bell.cast::<Bell>() }.ring();
}

/// A record, until it is dropped.
struct Owned(ptr::NonNull<c::rd_kafka_message_t>);

impl Owned {
    fn fields(&self) -> &c::rd_kafka_message_t {
        // SAFETY: it is ours until it is destroyed, and nobody changes it.
        unsafe { self.0.as_ref() }
    }

    /// What a field points to, with its length beside it.
    fn bytes(&self, at: *mut c_void, length: usize) -> Option<&[u8]> {
        // SAFETY: of a field that is not null so many bytes are there, as long as the record is.
        (!at.is_null()).then(|| unsafe { slice::from_raw_parts(at.cast::<u8>().cast_const(), length) })
    }
}

impl Record for Owned {
    fn lane(&self) -> i32 {
        self.fields().partition
    }

    fn offset(&self) -> i64 {
        self.fields().offset
    }

    fn key(&self) -> Option<&[u8]> {
        self.bytes(self.fields().key, self.fields().key_len)
    }

    fn payload(&self) -> Option<&[u8]> {
        self.bytes(self.fields().payload, self.fields().len)
    }

    fn written_ms(&self) -> Option<i64> {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the record is ours.
        let at = unsafe { c::rd_kafka_message_timestamp(self.0.as_ptr(), &raw mut kind) };
        (kind != c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(at)
    }

    fn headers(&self) -> Option<&BorrowedHeaders> {
        let mut headers = ptr::null_mut();
        // SAFETY: the record is ours; the headers are a part of it.
        let why = unsafe { c::rd_kafka_message_headers(self.0.as_ptr(), &raw mut headers) };
        // SAFETY: `BorrowedHeaders` has no size; a reference to one is a pointer to the client library's headers, which is how it makes its own. They live as long as the record.
        (!why.is_error() && !headers.is_null()).then(|| unsafe { &*headers.cast::<BorrowedHeaders>().cast_const() })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nothing of it is used any more.
        unsafe { c::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}
