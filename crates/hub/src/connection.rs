//! What the hub knows of one connection: next to nothing while it is live.

use crate::lag::Lag;
use crate::member::Member;
use crate::table::Held;
use crate::window::Window;

/// A place in the hub's table of connections.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(crate) generation: u32,
    /// Whether it stands in the queue of those that can go on catching up.
    pub(crate) queued: bool,
    pub(crate) holding: Holding,
    /// The last fan-out that reached it: however many of its filters match, it gets one copy.
    pub(crate) stamp: u64,
    /// Its read positions, while it lags.
    pub(crate) lag: Option<Box<Lag>>,
    /// Whether its session counts what it is sent.
    pub(crate) windowed: bool,
    /// Who it is, once it has logged in.
    pub(crate) member: Option<Box<Member>>,
}

impl Connection {
    /// Its filters, and where its session counts what it is sent, if it has one.
    pub(crate) fn parts(&mut self) -> (&[Held], Option<&mut Window>) {
        let session = self.member.as_mut().filter(|_| self.windowed).and_then(|member| member.session.as_mut());
        (self.holding.as_slice(), session.map(|session| &mut session.window))
    }
}

/// The filters of a connection.
#[derive(Debug, Default)]
pub(crate) enum Holding {
    #[default]
    None,
    One(Held),
    Many(Box<Several>),
}

/// More filters than one.
#[derive(Debug)]
pub(crate) struct Several {
    all: Vec<Held>,
    /// The bytes of their text.
    text: usize,
}

/// What a filter takes beside its text, in bytes, about: its places in the tables.
pub(crate) const FILTER_BYTES: usize = 128;

impl Holding {
    pub(crate) fn as_slice(&self) -> &[Held] {
        match self {
            Holding::None => &[],
            Holding::One(held) => std::slice::from_ref(held),
            Holding::Many(several) => &several.all,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Held] {
        match self {
            Holding::None => &mut [],
            Holding::One(held) => std::slice::from_mut(held),
            Holding::Many(several) => &mut several.all,
        }
    }

    /// What the filters take, in bytes, about. `text` gives the length of one's text.
    pub(crate) fn weight(&self, text: impl Fn(Held) -> usize) -> usize {
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
