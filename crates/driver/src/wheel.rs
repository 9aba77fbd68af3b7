//! One timer wheel per worker: a deadline for each connection, set and moved in constant time, 12 bytes each.
//!
//! Deadlines are rounded up to ticks. Each bucket is a list through the entries; an entry further away than one round
//! stays in its bucket until its tick has come.

use std::time::Duration;

use everywire_base::clock::Monotonic;

const BUCKETS: usize = 1024;
const NONE: u32 = u32::MAX;
const CHUNK: usize = 1024;

/// The length of a tick.
pub(crate) const TICK: Duration = Duration::from_millis(50);

pub(crate) struct Wheel {
    heads: Box<[u32]>,
    chunks: Vec<Box<[Entry]>>,
    /// The first tick that was not looked at yet.
    next_tick: u32,
    len: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    /// The tick at which it is due; [`NONE`] if it isn't in the wheel.
    tick: u32,
    next: u32,
    previous: u32,
}

const EMPTY: Entry = Entry { tick: NONE, next: NONE, previous: NONE };

fn tick_at_or_after(at: Monotonic) -> u32 {
    let tick = at.0.div_ceil(TICK.as_millis() as u64);
    u32::try_from(tick).unwrap_or(NONE - 1)
}

impl Wheel {
    pub(crate) fn new(now: Monotonic) -> Self {
        let next_tick = tick_at_or_after(now);
        Self { heads: vec![NONE; BUCKETS].into(), chunks: Vec::new(), next_tick, len: 0 }
    }

    /// Sets, moves or (with `None`) removes the deadline of a connection.
    pub(crate) fn set(&mut self, index: u32, deadline: Option<Monotonic>) {
        while self.chunks.len() * CHUNK <= index as usize {
            self.chunks.push(vec![EMPTY; CHUNK].into());
        }
        let tick = deadline.map_or(NONE, |d| tick_at_or_after(d).max(self.next_tick));
        if self.entry(index).tick == tick {
            return;
        }
        self.unlink(index);
        if tick != NONE {
            self.link(index, tick);
        }
    }

    /// Takes all connections whose deadline has come.
    pub(crate) fn expire(&mut self, now: Monotonic, expired: &mut Vec<u32>) {
        let present = (now.0 / TICK.as_millis() as u64) as u32;
        if self.next_tick > present {
            return;
        }
        let ticks = (present - self.next_tick + 1).min(BUCKETS as u32);
        for tick in self.next_tick..self.next_tick + ticks {
            let mut at = self.heads[tick as usize % BUCKETS];
            while at != NONE {
                let entry = self.entry(at);
                if entry.tick <= present {
                    self.unlink(at);
                    expired.push(at);
                }
                at = entry.next;
            }
        }
        self.next_tick = present + 1;
    }

    /// The time that the worker may sleep: until the first tick with an entry in its bucket.
    pub(crate) fn sleep(&self, now: Monotonic) -> Option<Duration> {
        if self.len == 0 {
            return None;
        }
        let ahead = (0..BUCKETS as u32).find(|i| self.heads[(self.next_tick + i) as usize % BUCKETS] != NONE)?;
        let due = u64::from(self.next_tick + ahead) * TICK.as_millis() as u64;
        Some(Duration::from_millis(due.saturating_sub(now.0)))
    }

    fn link(&mut self, index: u32, tick: u32) {
        let head = self.heads[tick as usize % BUCKETS];
        *self.entry_mut(index) = Entry { tick, next: head, previous: NONE };
        if head != NONE {
            self.entry_mut(head).previous = index;
        }
        self.heads[tick as usize % BUCKETS] = index;
        self.len += 1;
    }

    fn unlink(&mut self, index: u32) {
        let entry = self.entry(index);
        if entry.tick == NONE {
            return;
        }
        match entry.previous {
            NONE => self.heads[entry.tick as usize % BUCKETS] = entry.next,
            previous => self.entry_mut(previous).next = entry.next,
        }
        if entry.next != NONE {
            self.entry_mut(entry.next).previous = entry.previous;
        }
        *self.entry_mut(index) = EMPTY;
        self.len -= 1;
    }

    fn entry(&self, index: u32) -> Entry {
        self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    fn entry_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn expired(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut all = Vec::new();
        wheel.expire(Monotonic(now), &mut all);
        all.sort_unstable();
        all
    }

    #[test]
    fn deadlines_come_when_due_and_not_before() {
        let mut wheel = Wheel::new(Monotonic(0));
        wheel.set(1, Some(Monotonic(100)));
        wheel.set(2, Some(Monotonic(100)));
        wheel.set(3, Some(Monotonic(120)));
        wheel.set(2, None);
        assert_eq!(wheel.sleep(Monotonic(0)), Some(Duration::from_millis(100)));
        assert_eq!(expired(&mut wheel, 99), Vec::<u32>::new());
        assert_eq!(expired(&mut wheel, 100), [1]);
        assert_eq!(expired(&mut wheel, 149), Vec::<u32>::new());
        assert_eq!(expired(&mut wheel, 150), [3]);
        assert_eq!(wheel.sleep(Monotonic(150)), None);
    }

    #[test]
    fn random_deadlines_agree_with_a_sorted_map() {
        let mut wheel = Wheel::new(Monotonic(0));
        let (mut model, mut now, mut seed) = (BTreeMap::new(), 0u64, 7u64);
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let index = (seed >> 33) as u32 % 50;
            match (seed >> 50) % 4 {
                0 => now += (seed >> 20) % 3000,
                1 => {
                    wheel.set(index, None);
                    model.remove(&index);
                }
                _ => {
                    let at = now + (seed >> 10) % 200_000;
                    wheel.set(index, Some(Monotonic(at)));
                    model.insert(index, at.div_ceil(50).max((now / 50) + 1) * 50);
                }
            }
            let due: Vec<u32> = model.iter().filter(|e| *e.1 <= now).map(|e| *e.0).collect();
            model.retain(|_, at| *at > now);
            assert_eq!(expired(&mut wheel, now), due);
        }
    }
}
