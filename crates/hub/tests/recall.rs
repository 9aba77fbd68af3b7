//! A recalled message is delivered to nobody once the worker's mark has passed the recall.

mod world;

use std::sync::Arc;

use everywire_base::ask::Subscribe;
use everywire_base::cursor::{Offset, Start};
use everywire_base::limits::Limits;
use everywire_base::record::{Message, System};
use everywire_base::terms::RetainHandling;
use world::{Shape, World, at, filter, slot, topic};

fn seen(world: &mut World) -> Vec<String> {
    std::mem::take(&mut world.outside.seen)
}

/// Recalls the message at an offset, and lets the mark pass that.
fn recall(world: &mut World, offset: Offset) {
    let record = world.outside.records[0].iter().find(|record| record.offset == offset).expect("a record");
    let fold = System::new(topic(&format!("$fold/{}", record.id())), r#"{"recalled":true}"#, true);
    world.publish_message(0, 1, fold);
    world.turn();
    world.outside.recalled.push(offset);
}

#[test]
fn a_lagging_reader_of_the_tail_skips_it() {
    let mut world = World::new(Shape::default());
    world.subscribe(slot(1), &["room/#"], Start::Latest);
    let first = world.publish("room/a");
    world.publish("room/a");
    world.turn();
    assert_eq!(seen(&mut world), ["1:1", "1:2"], "it was there when it came");
    recall(&mut world, first);
    world.publish("room/a");
    world.subscribe(slot(2), &["room/a"], at(0));
    world.settle();
    assert_eq!(seen(&mut world), ["1:4", "2:2", "2:4"]);
}

#[test]
fn a_page_that_was_read_before_is_judged_when_it_comes() {
    let limits = Limits { tail_records: 1, ..Limits::default() };
    let mut world = World::new(Shape { limits, ..Shape::default() });
    let first = world.publish("room/a");
    for _ in 0..2 {
        // Each begins a chunk of the tail, which lets go of those before.
        world.publish_message(0, 600, Message::new(topic("room/a"), "x"));
        world.apply();
    }
    world.turn();
    world.subscribe(slot(1), &["room/a"], at(0));
    world.turn();
    let read = world.hub.reads().pop_front().expect("a read");
    let page = world.outside.read(&read);
    assert_eq!(page.records.len(), 3);
    recall(&mut world, first);
    world.page(&page);
    world.settle();
    assert_eq!(seen(&mut world), ["1:601", "1:1201"]);
}

#[test]
fn its_retained_copy_greets_nobody() {
    let mut world = World::new(Shape::default());
    let first = world.publish_message(0, 1, Message { retain: true, ..Message::new(topic("room/a"), "x") });
    let record = Arc::clone(&world.outside.records[0][0]);
    world.outside.retained.insert(topic("room/a"), record);
    world.hint.add(&topic("room/a"));
    world.apply();
    world.turn();
    world.ask(slot(1), Subscribe { retained: RetainHandling::Always, ..Subscribe::to([filter("room/a")]) });
    world.turn();
    let read = world.hub.reads().pop_front().expect("a read");
    let page = world.outside.read(&read);
    assert_eq!(page.records.len(), 1);
    recall(&mut world, first);
    world.page(&page);
    world.settle();
    assert_eq!(seen(&mut world), [""; 0]);
}
