//! The room in the engine's memory: beyond a part of it nothing is published, so that records about nodes still fit.
//!
//! A node that can't say that it lives, or that another one is dead, ends in its place; an engine that is full to the
//! last byte would stop all of them at once. The server's own records that pass go on for longer than messages do:
//! connections come and go, take their sessions over, are kicked.

use std::time::Duration;

use everywire_base::ask::Draft;
use everywire_base::clock::Monotonic;
use everywire_base::record::Durability;

use crate::metrics::LogMetrics;
use crate::remote::{Memory, Remote, Window};

/// The percentage of the engine's memory from which on nothing is published, …
const TIGHT: u64 = 80;
/// … the one below which publishing goes on, …
const AGAIN: u64 = 75;
/// … and the one from which on there is room for nothing but records about nodes.
const FULL: u64 = 90;
/// The longest time between two looks while there is something to append.
const LOOK: Duration = Duration::from_secs(1);

/// The room, as it was last seen.
pub(super) struct Room {
    left: For,
    next_look: Monotonic,
    limit: u64,
    /// The bytes that were appended since the last look.
    appended: u64,
}

/// The records for which there is room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum For {
    All,
    Own,
    Nodes,
}

impl Room {
    pub(super) fn new(now: Monotonic) -> Self {
        Self { left: For::All, next_look: now, limit: 0, appended: 0 }
    }

    /// Whether something is refused.
    pub(super) fn is_tight(&self) -> bool {
        self.left != For::All
    }

    /// Whether there is no room for this.
    pub(super) fn refuses(&self, draft: &Draft) -> bool {
        let is_own = || draft.durability == Durability::None && draft.entry.system().is_some();
        match self.left {
            For::All => false,
            For::Own => !is_own(),
            For::Nodes => true,
        }
    }

    /// Whether it is time to look at the memory again: after a while, or when this node alone may have filled one
    /// percent of it.
    pub(super) fn is_due(&self, now: Monotonic) -> bool {
        now >= self.next_look || self.limit > 0 && self.appended >= self.limit / 100
    }

    /// Has the next look made at once: the connection may lead to another machine.
    pub(super) fn is_another(&mut self, now: Monotonic) {
        self.next_look = now;
    }

    pub(super) fn appends(&mut self, bytes: usize) {
        self.appended += bytes as u64;
    }

    /// Takes the result of a look.
    pub(super) fn look(&mut self, memory: Option<Memory>, now: Monotonic, metrics: &LogMetrics) {
        let Memory { used, limit, log } = memory.unwrap_or_default();
        metrics.engine_log.set(log);
        metrics.engine_memory.set(used);
        metrics.engine_memory_limit.set(limit);
        (self.next_look, self.limit, self.appended) = (now + LOOK, limit, 0);
        let was_tight = self.is_tight();
        let reaches = |percent: u64| limit > 0 && used.saturating_mul(100) >= limit.saturating_mul(percent);
        self.left = match () {
            () if reaches(FULL) => For::Nodes,
            () if reaches(if was_tight { AGAIN } else { TIGHT }) => For::Own,
            () => For::All,
        };
        match (was_tight, self.is_tight()) {
            (false, true) => tracing::error!(
                used,
                limit,
                "the engine's memory is full but for what the nodes need: nothing is published until it has room; give it \
                 more (maxmemory), or have it keep less (window)"
            ),
            (true, false) => tracing::info!(used, limit, "the engine's memory has room again: publishing goes on"),
            _ => {}
        }
    }
}

/// Warns of a window that fills the engine's memory before anything beyond it can be let go of.
pub(super) fn warn_of(window: Window, remote: &mut dyn Remote) {
    // An engine that can't tell it now tells it later, when something is appended.
    let Ok(Some(Memory { limit, .. })) = remote.memory() else { return };
    if does_not_fit(window, limit) {
        tracing::warn!(
            window = window.bytes,
            limit,
            "the window that the engine is to keep doesn't fit into its memory: publishing stops before it is full; give it \
             more memory (maxmemory), about twice the window, or a smaller window (?window=)"
        );
    }
}

fn does_not_fit(window: Window, limit: u64) -> bool {
    let is_bounded = limit > 0 && window.is_trimmed;
    is_bounded && window.bytes.saturating_mul(100) > limit.saturating_mul(TIGHT)
}

#[cfg(test)]
mod tests {
    use everywire_base::record::{Message, System};
    use everywire_base::topic::Topic;

    use super::*;

    #[test]
    fn publishing_stops_at_four_fifths_of_the_memory_and_goes_on_below_three_quarters() {
        let (now, metrics) = (Monotonic(0), LogMetrics::default());
        let mut room = Room::new(now);
        let draft = |durability| Draft::new(Message::new(Topic::parse("t").unwrap(), "x"), durability);
        let own = |topic, durability| Draft::new(System::new(Topic::parse(topic).unwrap(), "x", true), durability);
        let (passing, kick) = (draft(Durability::None), own("$kick", Durability::None));
        let (message, session) = (draft(Durability::Fsync), own("$sessions/a/b", Durability::Memory));
        let looks = [(799, 0), (800, 3), (799, 3), (900, 4), (899, 3), (750, 3), (749, 0), (799, 0), (1000, 4), (0, 0)];
        for (used, refused) in looks {
            room.look(Some(Memory { used: used << 20, limit: 1000 << 20, log: 0 }), now, &metrics);
            let all = [&message, &passing, &session, &kick];
            let are_refused = all.map(|draft| room.refuses(draft));
            assert_eq!(are_refused, [0, 1, 2, 3].map(|nth| nth < refused), "{used}");
        }
        for unbounded in [Some(Memory { used: 1 << 40, ..Memory::default() }), None] {
            room.look(unbounded, now, &metrics);
            assert!(!room.is_tight(), "{unbounded:?}");
        }
    }

    #[test]
    fn a_window_needs_more_memory_than_its_own_size() {
        let of = |bytes, is_trimmed| Window { bytes, is_trimmed, ..Window::default() };
        let cases = [
            (of(80, true), 100, false),
            (of(81, true), 100, true),
            (of(81, false), 100, false),
            (of(81, true), 0, false),
        ];
        for (window, limit, is_short) in cases {
            assert_eq!(does_not_fit(window, limit), is_short, "{window:?} in {limit}");
        }
    }

    #[test]
    fn who_fills_it_fast_looks_often() {
        let (now, metrics) = (Monotonic(0), LogMetrics::default());
        let mut room = Room::new(now);
        assert!(room.is_due(now), "nothing was seen yet");
        room.look(Some(Memory { limit: 100 << 20, ..Memory::default() }), now, &metrics);
        assert!(!room.is_due(now));
        room.appends(1 << 20);
        assert!(room.is_due(now));
        room.look(None, now, &metrics);
        room.appends(1 << 30);
        assert!(!room.is_due(now) && room.is_due(now + LOOK));
    }
}
