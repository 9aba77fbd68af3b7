//! The state of the link to an engine elsewhere: its changes are logged.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::record::Durability;
use everywire_log::engine::{Engine, Link};

use crate::config::Over;

/// The time between two looks at the link.
const PERIOD: Duration = Duration::from_millis(500);

/// The reason why a node's life ends with this state, if it does.
fn why_over(link: Link) -> Option<&'static str> {
    match link {
        Link::Up | Link::Cut => None,
        Link::Fenced => Some(
            "this life of the node is over: another node of its name has started (give each a --node of its own), or it was \
             silent for so long that the others have declared it dead; start it again",
        ),
        Link::Forked => Some(
            "this life of the node is over: the engine has lost the end of the log, of which this node had more; start it \
             again, and it goes on from what the engine has",
        ),
    }
}

/// Logs when the engine goes away and comes back, and its promise where that is less than rules may ask for. Ends
/// when this life of the node is over, and tells so.
pub(crate) async fn watch(engine: Arc<dyn Engine>, over: Over) {
    let (mut is_up, mut promised) = (true, None);
    loop {
        tokio::time::sleep(PERIOD).await;
        let link = engine.link();
        if let Some(why) = why_over(link) {
            return over.tell(why);
        }
        let was_up = std::mem::replace(&mut is_up, link == Link::Up);
        match (was_up, is_up) {
            (true, false) => tracing::warn!(
                engine = engine.name(),
                "the engine doesn't answer: nothing is taken until it does, and it is tried again and again"
            ),
            (false, true) => tracing::info!(engine = engine.name(), "the engine answers again"),
            _ => {}
        }
        let promise = engine.promise(Durability::Fsync);
        if is_up && promised.replace(promise) != Some(promise) && promise == Durability::Memory {
            tracing::warn!(
                engine = engine.name(),
                "the engine keeps in memory what it acknowledges, and answers say so: docs/scale.md says what to set (of Redis \
                 appendonly yes with appendfsync always, or ?wait=1 with a replica)"
            );
        }
    }
}
