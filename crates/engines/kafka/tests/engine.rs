//! The engines' suite on a follower of a real Kafka: three brokers of `dev/kafka`, which must run.

use std::sync::Arc;

use everywire_base::limits::Limits;
use everywire_kafka::{Address, Kafka};
use everywire_log::engine::{Bell, Engine};
use everywire_log::suite::following::Following;
use everywire_log::suite::{Subject, run};

mod common;

struct OnKafka(Following);

impl Subject for OnKafka {
    fn open(&self, limits: &Limits, bell: Arc<dyn Bell>) -> Arc<dyn Engine> {
        self.0.open(limits, bell)
    }

    fn is_durable(&self) -> bool {
        self.0.is_durable()
    }

    fn follows_bell(&self) -> bool {
        self.0.follows_bell()
    }
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn a_follower_of_kafka_keeps_the_promises_of_an_engine() {
    run(&|| {
        let address = Address::parse(&common::address(&common::prefix())).expect("an address");
        Box::new(OnKafka(Following::of(Arc::new(Kafka::new(address)))))
    });
}
