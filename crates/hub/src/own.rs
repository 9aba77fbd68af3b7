//! The server's own records, as they come out of the log: kicks, arrivals, sessions.

use everywire_base::clock::Now;
use everywire_base::cursor::Offset;
use everywire_base::id::Slot;
use everywire_base::reason::Reason;
use everywire_base::record::{Message, Record};
use everywire_base::system::{self, Kick, Whom};

use crate::Hub;

impl Hub {
    /// Applies a record that is the server's own.
    pub(crate) fn own_record(&mut self, record: &Record, message: &Message, now: Now) {
        let topic = message.topic.as_str();
        if !topic.starts_with('$') {
            return;
        }
        if topic.starts_with(system::SESSIONS) {
            self.session_record(record, message, now);
        } else if topic.starts_with(system::WILLS) {
            self.will_record(record, message, now);
        } else if topic.starts_with(system::GROUPS) {
            self.group_record(record, message, now);
        } else if topic == system::KICK {
            self.kick(message);
        } else if topic.starts_with(system::JOINED) {
            self.arrival(message, record.offset);
        }
    }

    fn arrival(&mut self, message: &Message, at: Offset) {
        if let Some(joined) = system::read(message) {
            self.joined(&joined, at);
        }
    }

    fn kick(&mut self, message: &Message) {
        let Some(Kick { whom, reason }) = system::read(message) else { return };
        let reason = Reason::Kicked(reason);
        match whom {
            Whom::Connection(name) => {
                let here = self.setup.plate.find(&name).filter(|(worker, _)| *worker == self.setup.worker);
                self.ending.extend(here.map(|(_, slot)| (slot, reason)));
            }
            Whom::User(user) => {
                self.of_user(&user).into_iter().for_each(|index| self.end(index, reason.clone()));
            }
            Whom::Device { user, device } => {
                let is_on = |index: &u32| self.member(*index).and_then(|m| m.device()) == Some(&device);
                let meant: Vec<u32> = self.of_user(&user).into_iter().filter(is_on).collect();
                for index in meant {
                    self.end(index, reason.clone());
                }
            }
        }
    }

    /// Ends a connection, within this turn or the next.
    pub(crate) fn end(&mut self, index: u32, reason: Reason) {
        let generation = self.connections.get(index).map_or(0, |c| c.generation);
        self.ending.push((Slot { index, generation }, reason));
    }
}
