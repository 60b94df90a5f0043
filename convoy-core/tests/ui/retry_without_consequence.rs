//! Who limits the attempts says what follows them.
//~ E0308
//~ Retry
//~ Limited

use convoy_core::{Broker, Exhausted, ProcessorBuilder, Retry};

fn build(broker: &Broker) -> ProcessorBuilder {
    let builder = broker.consumer("orders").processor();
    #[cfg(not(fixed))]
    let builder = builder.retry(Retry::default().at_most(5));
    #[cfg(fixed)]
    let builder = builder.retry(Retry::default().at_most(5).then(Exhausted::DeadLetter));
    builder
}

fn main() {
    let _ = build;
}
