//! The stand-in for a wire that has ended: nothing but its name. So the wire's memory is free while the last words are
//! written.

use everywire_base::clock::Monotonic;
use everywire_base::id::AskId;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_wire::{Answer, Context, Input, Progress, Then, Wire};

pub(crate) struct Closed(pub(crate) &'static str);

impl Wire for Closed {
    fn read(&mut self, _: &mut Context<'_>, _: Input<'_>) -> Progress {
        Progress { used: 0, then: Then::Paused }
    }

    fn answer(&mut self, _: &mut Context<'_>, _: AskId, _: Answer) -> Then {
        Then::Paused
    }

    fn push(&mut self, _: &mut Context<'_>, _: &Delivery<'_>) -> Taken {
        Taken::Yes
    }

    fn settle(&mut self, _: &mut Context<'_>) -> Then {
        Then::Paused
    }

    fn deadline(&self) -> Option<Monotonic> {
        None
    }

    fn tick(&mut self, _: &mut Context<'_>) -> Then {
        Then::Paused
    }

    fn farewell(&mut self, _: &mut Context<'_>, reason: &Reason) -> Then {
        Then::Closed(reason.clone())
    }

    fn holds(&self) -> usize {
        0
    }

    fn name(&self) -> &'static str {
        self.0
    }
}
