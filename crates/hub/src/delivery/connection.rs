//! The state that delivery keeps for one connection: next to nothing while it is live.

use super::lag::Lag;
use super::table::Held;
use super::window::Window;

/// A place in the table of connections.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(crate) generation: u32,
    /// Whether it stands in the queue of those that can go on catching up.
    pub(super) queued: bool,
    pub(super) holding: Holding,
    /// The last fan-out that reached it: however many of its filters match, it gets one copy.
    pub(super) fanned_out: u64,
    /// Its read positions, while it lags.
    pub(crate) lag: Option<Box<Lag>>,
    /// The deliveries that it hasn't acknowledged, if it has a session.
    pub(crate) window: Option<Box<Window>>,
    /// Whether the window counts deliveries: the session is open.
    pub(super) windowed: bool,
}

impl Connection {
    /// Its filters, and the window that counts its deliveries, if there is one.
    pub(super) fn parts(&mut self) -> (&[Held], Option<&mut Window>) {
        (self.holding.as_slice(), self.window.as_deref_mut().filter(|_| self.windowed))
    }
}

/// The filters of a connection.
#[derive(Debug, Default)]
pub(super) enum Holding {
    #[default]
    None,
    One(Held),
    Many(Box<Several>),
}

/// More filters than one.
#[derive(Debug)]
pub(super) struct Several {
    all: Vec<Held>,
    /// The bytes of their text.
    text: usize,
}

/// The bytes of a filter besides its text, about: its places in the tables.
pub(super) const FILTER_BYTES: usize = 128;

impl Holding {
    pub(super) fn as_slice(&self) -> &[Held] {
        match self {
            Holding::None => &[],
            Holding::One(held) => std::slice::from_ref(held),
            Holding::Many(several) => &several.all,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Held] {
        match self {
            Holding::None => &mut [],
            Holding::One(held) => std::slice::from_mut(held),
            Holding::Many(several) => &mut several.all,
        }
    }

    /// The bytes of the filters, about. `text` gives the length of a filter's text.
    pub(super) fn weight(&self, text: impl Fn(Held) -> usize) -> usize {
        let texts = match self {
            Holding::None => 0,
            Holding::One(held) => text(*held),
            Holding::Many(several) => several.text,
        };
        texts + FILTER_BYTES * self.as_slice().len()
    }

    /// Takes the `nth` out; there are several.
    pub(crate) fn remove(&mut self, nth: usize, text: impl Fn(Held) -> usize) -> Held {
        match std::mem::take(self) {
            Holding::Many(mut several) => {
                let held = several.all.remove(nth);
                several.text -= text(held);
                *self = if let [only] = several.all[..] { Holding::One(only) } else { Holding::Many(several) };
                held
            }
            Holding::One(held) => held,
            Holding::None => unreachable!("there are several"),
        }
    }

    pub(crate) fn push(&mut self, held: Held, text: impl Fn(Held) -> usize) {
        match self {
            Holding::None => *self = Holding::One(held),
            Holding::One(first) => {
                let (all, text) = (vec![*first, held], text(*first) + text(held));
                *self = Holding::Many(Box::new(Several { all, text }));
            }
            Holding::Many(several) => {
                several.text += text(held);
                several.all.push(held);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_connection_is_small() {
        assert!(size_of::<Connection>() <= 48, "{}", size_of::<Connection>());
    }
}
