//! Rooms, their members and roles: a model that knows no protocol (`docs/rooms.md`).
//!
//! All changes of rooms are records of the log. [`Rooms`] is made of them alone, in their order, so that all nodes have
//! the same state. One thread writes it, the one that shows the log's records to readers, before it shows them: the
//! answers here are never behind the records that anybody has read. Readers take no lock; they see each room as it was
//! after some record.
//!
//! Every decision ([`decide`]) is a function of the rooms that it sees, and gives a draft for the log, with guards for
//! these. If they change meanwhile, the log refuses the draft, and the decision is made anew.
//!
//! | module | what it does |
//! | --- | --- |
//! | `records` | a room's head and a membership, as they are stored |
//! | `room`, `directory` | their result: a room with its members, all rooms by name and by user |
//! | `alias` | the names for users in rooms that hide them |
//! | `conversation` | a user's own side: read marks, settings, unread counts |
//! | `ended` | rooms that have ended a moment ago |
//! | `fold` | the present state of a message: edited, recalled, reactions |
//! | `decide` | founding, changing, joining, leaving, inviting, roles |
//! | `names` | the names that a room, a nick, a title may have |
//! | `presence` | the presence of users, and the occupants of rooms |
//! | `typing` | typing signals |
//! | `table` | tables by names, which one thread changes |
//! | `map` | a sorted map whose copies share equal parts |
//!
//! Wires, sockets, the store and clocks are absent. Times come with the questions.

mod alias;
pub mod conversation;
pub mod decide;
mod directory;
mod ended;
pub mod fold;
mod map;
pub mod names;
pub mod presence;
mod records;
mod room;
mod table;
pub mod typing;

pub use crate::directory::{Counts, Rooms};
pub use crate::records::{By, Head, Join, Membership, Talk, Visible};
pub use crate::room::{Member, Room};
