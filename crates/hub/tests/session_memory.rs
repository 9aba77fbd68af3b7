//! The cost of an idle client with a clean session in the hub: counted by the allocator, names and tables included.

mod counting;

use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Login, SessionWish, Subscribe};
use everywire_base::clock::{Now, UnixMillis};
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::{AskId, Slot};
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Record};
use everywire_base::topic::Filter;
use everywire_hub::{Deliver, Hub};
use everywire_log::tail::TailWriter;

use crate::counting::{bytes, hub_on_a_log};

const CONNECTIONS: u32 = 10_000;

/// A peer that takes every delivery.
struct Sink;

impl Deliver for Sink {
    fn deliver(&mut self, _: Slot, _: &Delivery<'_>) -> Taken {
        Taken::Yes
    }

    fn settled(&mut self, _: Slot) {}

    fn end(&mut self, _: Slot, _: Reason) {}
}

/// Lets the log take the hub's appends, and the hub hear of them.
fn hear(hub: &mut Hub, writer: &mut TailWriter, head: &mut u64) {
    for append in std::mem::take(hub.appends()) {
        *head += 1;
        writer.push(vec![Arc::new(Record {
            partition: Partition(0),
            offset: Offset(*head),
            time: UnixMillis(0),
            durability: Durability::None,
            content: append.draft.entry.into(),
        })]);
    }
    writer.tail().set_applied(Offset(*head));
    while hub.turn(Now::default(), &mut Sink) && hub.answers().is_empty() {}
    hub.answers().clear();
}

#[test]
fn an_idle_client_with_a_clean_session_costs_at_most_330_bytes() {
    let (mut hub, mut writer) = hub_on_a_log();
    let mut head = 0;
    let before = bytes();
    for index in 0..CONNECTIONS {
        let slot = Slot { index, generation: 0 };
        let session = SessionWish::Named {
            id: format!("idle-{index}").into(),
            expiry: Duration::ZERO,
            fresh: true,
            window: u16::MAX,
        };
        hub.login(slot, AskId(1), Login { session, ..Login::default() }, Now::default());
        hear(&mut hub, &mut writer, &mut head);
        let filters = [Filter::parse(&format!("bench/topic/{index}")).unwrap()];
        hub.subscribe_for(slot, AskId(2), &Subscribe::to(filters), Now::default());
        hear(&mut hub, &mut writer, &mut head);
    }
    let each = (bytes() - before) / CONNECTIONS as usize;
    eprintln!("{each} bytes for each client with a clean session");
    assert!(each <= 330, "{each} bytes for each client");
}
