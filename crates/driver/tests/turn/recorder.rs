//! A wire that records what it is told, and does what the test wants.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everywire_base::clock::{Monotonic, Now};
use everywire_base::id::AskId;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_wire::{Answer, Context, Input, Listen, Peer, Progress, Then, Wire};

/// The record of what the wires of a listener were told, and their behaviour.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) told: Vec<String>,
    /// They take no input.
    pub(crate) paused: bool,
    /// They use this many bytes at once at most.
    pub(crate) bite: Option<usize>,
    /// They want the bytes that they did not use in the next turn.
    pub(crate) later: bool,
    /// The number of bytes with which they answer each read.
    pub(crate) answers: usize,
    /// The number of used bytes that they hold.
    pub(crate) holds: usize,
    /// They go on after the end of their peer's side, and write when they are ticked.
    pub(crate) stays: bool,
    /// The time at which they want to be ticked.
    pub(crate) deadline: Option<Monotonic>,
}

/// Makes such wires; clones share one state.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<State>>);

impl Recorder {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the record.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.state().told)
    }

    fn then(&self) -> Then {
        if self.state().paused { Then::Paused } else { Then::Open }
    }
}

impl Listen for Recorder {
    fn accept(&self, _: &Peer, _: Now) -> Box<dyn Wire> {
        Box::new(self.clone())
    }
}

impl Wire for Recorder {
    fn read(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> Progress {
        let bytes = match input {
            Input::Bytes(bytes) => bytes,
            Input::End(bytes) => {
                self.state().told.push(format!("end {}", bytes.len()));
                if self.state().stays {
                    return Progress { used: bytes.len(), then: Then::Open };
                }
                return Progress { used: bytes.len(), then: Then::Closed(Reason::PeerClosed) };
            }
        };
        let used = bytes.len().min(self.state().bite.unwrap_or(usize::MAX));
        self.state().told.push(format!("read {}", String::from_utf8_lossy(&bytes[..used])));
        cx.out.copy(&vec![b'.'; self.state().answers]);
        let is_later = self.state().later && used < bytes.len();
        Progress { used, then: if is_later { Then::Later } else { self.then() } }
    }

    fn answer(&mut self, _: &mut Context<'_>, _: AskId, _: Answer) -> Then {
        self.then()
    }

    fn push(&mut self, _: &mut Context<'_>, _: &Delivery<'_>) -> Taken {
        Taken::Yes
    }

    fn settle(&mut self, _: &mut Context<'_>) -> Then {
        self.then()
    }

    fn deadline(&self) -> Option<Monotonic> {
        self.state().deadline
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Then {
        let mut state = self.state();
        if state.stays {
            cx.out.copy(b"still there?");
        }
        state.told.push("tick".into());
        state.deadline = None;
        drop(state);
        self.then()
    }

    fn farewell(&mut self, _: &mut Context<'_>, reason: &Reason) -> Then {
        self.state().told.push(format!("farewell {}", reason.as_str()));
        Then::Closed(reason.clone())
    }

    fn holds(&self) -> usize {
        self.state().holds
    }

    fn name(&self) -> &'static str {
        "recorder"
    }
}
