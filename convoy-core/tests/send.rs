//! What programs hold may be moved to, and shared with, other threads, and so may every future that they are given. Checked by compiling: nothing here runs.

#![cfg(feature = "runtime")]

use std::time::Duration;

use convoy_core::backend::{Backend, DeadLetter, DeadLetterStore, SessionState, Sink, Source};
use convoy_core::engine::{Engine, Note};
use convoy_core::producer::{
    HaltedMessage, HaltedSession, Pipeline, Receipt, Resume, SendAllError, SendError, SendEvent, Sending, SendingAll,
    Watch,
};
use convoy_core::{
    Broker, Consumer, ConsumerBuilder, Content, DeadLetters, Delivery, Error, Failure, Fence, Handler, Headers, Lease,
    Message, Observed, Observer, Position, Processor, ProcessorBuilder, Producer, ProducerOptions, Received, Report,
    Retry, Session, SessionId, Snapshot, Topology, TracingObserver, shutdown_signal,
};

const SOON: Duration = Duration::from_secs(1);

fn is_send<T: Send + ?Sized>() {}

fn is_shared<T: Send + Sync + ?Sized>() {}

/// A future, whatever it gives.
fn moves<F: Future + Send>(_: F) {}

#[test]
fn what_programs_hold_is_shared_between_threads() {
    is_shared::<(Broker, DeadLetters, DeadLetter, ConsumerBuilder, ProcessorBuilder, Processor, Consumer, Session)>();
    is_shared::<(Delivery<'_, String>, Received<String>, Lease, Fence, Position, Report, Snapshot, Retry, Failure)>();
    is_shared::<(Producer, ProducerOptions, Receipt, HaltedSession, HaltedMessage, SendError, SendAllError, Pipeline)>(
    );
    is_shared::<(Error, Message, Content, Headers, SessionId, Topology, TracingObserver, Engine, Note)>();
    is_shared::<(Sending, SendingAll, Observed<'_>, SendEvent<'_>)>();
    is_shared::<dyn Backend>();
    is_shared::<dyn Source>();
    is_shared::<dyn SessionState>();
    is_shared::<dyn Sink>();
    is_shared::<dyn DeadLetterStore>();
    is_shared::<dyn Observer>();
    is_shared::<dyn Watch>();
    // A body need not be shared to be handled.
    is_send::<Received<std::cell::Cell<u8>>>();
    is_send::<Delivery<'_, std::cell::Cell<u8>>>();
}

#[test]
fn every_future_moves_between_threads() {
    // Named, so that they are compiled for every type that they are generic over here, and not called.
    let _ = (of_a_broker, of_a_processor::<fn(Received<String>) -> std::future::Ready<Result<(), Failure>>>);
    let _ = (of_a_consumer, of_a_session, of_a_delivery, of_a_producer, of_dead_letters);
}

fn of_a_broker(broker: &Broker, topology: &Topology) {
    moves(broker.producer("orders"));
    moves(broker.producer_with("orders", ProducerOptions::default()));
    moves(broker.provision(topology));
    moves(broker.check(topology));
    moves(broker.dead_letters("orders", "billing"));
    moves(broker.close(SOON));
    moves(broker.consumer("orders").open());
    moves(shutdown_signal());
}

fn of_a_processor<H: Handler<String>>(builder: ProcessorBuilder, processor: Processor, handler: H, other: H) {
    moves(builder.clone().start(handler));
    moves(builder.run_until(std::future::pending::<()>(), other));
    moves(processor.failed());
    moves(processor.drain());
}

fn of_a_consumer(consumer: Consumer) {
    moves(consumer.accept_next(SOON));
    moves(consumer.accept("order-17", SOON));
    moves(consumer.close(SOON));
}

fn of_a_session(mut session: Session) {
    moves(session.lost());
    moves(session.next::<String>(SOON));
    // The body is not shared: it may be moved.
    moves(session.next::<Unshared>(SOON));
    moves(session.flush(SOON));
    moves(session.state());
    moves(session.set_state(None));
    moves(session.release(SOON));
}

fn of_a_delivery(all: [Delivery<'static, Unshared>; 3], lease: &Lease) {
    let [done, again, dead] = all;
    moves(done.complete());
    moves(again.retry_in(SOON));
    moves(dead.dead_letter("no such order"));
    moves(lease.ended());
}

fn of_a_producer(producer: &Producer, message: Message, id: &SessionId) {
    moves(producer.send(message));
    moves(producer.send_all([]));
    moves(producer.ready(SOON));
    moves(producer.resume(id, Resume::Resend));
    moves(producer.flush(SOON));
    moves(producer.close(SOON));
}

fn of_dead_letters(letters: &DeadLetters, letter: &DeadLetter) {
    moves(letters.list(0, 1));
    moves(letters.send_back(letter));
    moves(letters.remove(letter));
}

/// A payload that is sent and not shared.
struct Unshared(#[expect(dead_code)] std::cell::Cell<u8>);

impl convoy_core::Payload for Unshared {
    fn decode(_: &std::sync::Arc<Content>) -> convoy_core::Result<Self> {
        Ok(Self(0.into()))
    }
}
