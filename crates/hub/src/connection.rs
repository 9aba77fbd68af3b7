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
    Many(Vec<Held>),
}

impl Holding {
    pub(crate) fn as_slice(&self) -> &[Held] {
        match self {
            Holding::None => &[],
            Holding::One(held) => std::slice::from_ref(held),
            Holding::Many(all) => all,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Held] {
        match self {
            Holding::None => &mut [],
            Holding::One(held) => std::slice::from_mut(held),
            Holding::Many(all) => all,
        }
    }

    /// Takes the `nth` out; there are several.
    pub(crate) fn remove(&mut self, nth: usize) -> Held {
        match std::mem::take(self) {
            Holding::Many(mut all) => {
                let held = all.remove(nth);
                *self = if let [only] = all[..] { Holding::One(only) } else { Holding::Many(all) };
                held
            }
            Holding::One(held) => held,
            Holding::None => unreachable!("there are several"),
        }
    }

    pub(crate) fn push(&mut self, held: Held) {
        match self {
            Holding::None => *self = Holding::One(held),
            Holding::One(first) => *self = Holding::Many(vec![*first, held]),
            Holding::Many(all) => all.push(held),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_connection_is_small() {
        assert!(size_of::<Connection>() <= 56, "{}", size_of::<Connection>());
    }
}
