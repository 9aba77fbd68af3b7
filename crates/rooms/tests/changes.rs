//! Random users say something, edit, recall, react and read at two nodes, of which one is behind, against a plain model;
//! and a new reading of the log gives the same. The room shows its users or hides them.
//!
//! Mutations that it finds: a change without the guard of its fold (of two at once one is lost), a mark that a node which
//! is behind sets back, a message of one's own that counts as unread since it comes under an alias.

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

mod log;

use std::collections::{BTreeMap, BTreeSet};

use everywire_base::access::Role;
use everywire_base::ask::{Draft, Guard};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Message, Record};
use everywire_base::system;
use everywire_base::topic::Topic;
use everywire_rooms::conversation::{Conversation, Unread};
use everywire_rooms::decide::{self, Asker, Wish};
use everywire_rooms::fold::{Change, Changer, Fold, Unchanged};
use everywire_rooms::{Rooms, Visible};
use proptest::prelude::*;

use self::log::Log;

/// The owner of the room comes first. The others belong to nothing, but may talk.
const USERS: [&str; 3] = ["ann", "bob", "cid"];
const KEYS: [&str; 2] = ["yes", "no"];

/// A deed of a user. It is about one of the messages that there are.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Say,
    Edit { which: usize, text: usize },
    Recall { which: usize },
    React { which: usize, key: usize, off: bool },
    Read { which: usize },
}

fn deed() -> impl Strategy<Value = Deed> {
    let which = 0usize..100;
    prop_oneof![
        3 => Just(Deed::Say),
        3 => (which.clone(), 0..5usize).prop_map(|(which, text)| Deed::Edit { which, text }),
        1 => which.clone().prop_map(|which| Deed::Recall { which }),
        4 => (which.clone(), 0..KEYS.len(), any::<bool>())
            .prop_map(|(which, key, off)| Deed::React { which, key, off }),
        3 => which.prop_map(|which| Deed::Read { which }),
    ]
}

/// A message in a plain form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plain {
    at: Offset,
    author: String,
    text: Option<String>,
    is_recalled: bool,
    reactions: BTreeMap<String, BTreeSet<String>>,
}

impl Plain {
    /// Changes the message; says whether that is allowed.
    fn changes(&mut self, user: &str, change: Change<'_>) -> bool {
        let is_own = self.author == user;
        if self.is_recalled {
            return change == Change::Recall;
        }
        match change {
            Change::Edit(text) if is_own => self.text = Some(text.into()),
            Change::Recall if is_own || user == USERS[0] => {
                (self.is_recalled, self.text) = (true, None);
                self.reactions.clear();
            }
            Change::Edit(_) | Change::Recall => return false,
            Change::React { key, off } => {
                let users = self.reactions.entry(key.into()).or_default();
                if off {
                    users.remove(user);
                } else {
                    users.insert(user.into());
                }
                self.reactions.retain(|_, users| !users.is_empty());
            }
        }
        true
    }
}

fn topic() -> Topic {
    Topic::parse("room/lobby").unwrap()
}

fn lobby() -> Conversation {
    Conversation::Room("lobby".into())
}

fn asker(user: &str) -> Asker<'_> {
    Asker { user: Some(user), is_operator: false, now: UnixMillis(7) }
}

/// The last fold of a message among the records of a log.
fn fold_of(records: &[std::sync::Arc<Record>], message: &Record) -> Fold {
    let topic = system::fold_topic(message.id()).unwrap();
    let mut systems = records.iter().rev().filter_map(|record| record.system());
    systems.find(|system| system.topic == topic).and_then(system::read).unwrap_or_default()
}

/// Changes a message as a node that may be behind; what is judged by an old state is judged again.
fn change(log: &mut Log, node: &Rooms, user: &str, at: Offset, change: Change<'_>) -> Result<(), Unchanged> {
    loop {
        let as_of = node.as_of();
        let is_behind = (as_of.0 as usize) < log.records.len();
        let record = std::sync::Arc::clone(&log.records[at.0 as usize - 1]);
        let author = record.message().unwrap().author();
        let role = node.room("lobby").map_or(Role::None, |room| room.role(user));
        let by = Changer { user, author, role, age_ms: 0, window_ms: 1 };
        let judged = fold_of(&log.records[..as_of.0 as usize], &record).changed(change, by, UnixMillis(7));
        match judged {
            Ok(Some(after)) => {
                let topic = system::fold_topic(record.id()).unwrap();
                let guards = Box::new([Guard::of(&topic, as_of)]);
                let told = Message { event: Some("edit".into()), ..Message::new(self::topic(), "") };
                let told = node.signed(told, "lobby", Some(user));
                let pair = Some(Box::new(system::record(topic, &after, true).into()));
                if log.append(&Draft { guards, pair, ..Draft::new(told, Durability::Fsync) }) {
                    log.feed(node);
                    return Ok(());
                }
            }
            judged if !is_behind => return judged.map(drop),
            _ => {}
        }
        log.feed(node);
    }
}

/// The number of unread messages of a user, as a page of the log tells it.
fn unread(log: &Log, rooms: &Rooms, user: &str) -> usize {
    let mut unread = Unread::default();
    let mark = rooms.own(user, &lobby()).read;
    let above = log.records.iter().filter(|record| record.offset > mark);
    let messages = above.filter(|record| record.message().is_some_and(|message| message.topic == topic()));
    // Recalled messages are skipped by every reader.
    let there = messages.filter(|record| !fold_of(&log.records, record).recalled);
    there.for_each(|record| unread.count(record, user, &[]));
    unread.messages
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changes_and_marks_are_what_a_plain_model_says(
        deeds in proptest::collection::vec((0..USERS.len(), deed(), 0usize..2, any::<bool>()), 1..60),
        hides in any::<bool>(),
    ) {
        let mut log = Log::default();
        let nodes = [Rooms::default(), Rooms::default()];
        let see = Some(if hides { Visible::Admins } else { Visible::All });
        let wish = Wish { see, secret: Some("secret".into()), ..Wish::default() };
        let limits = Limits::default();
        prop_assert!(log.append(&decide::found(&nodes[0], asker(USERS[0]), "lobby", &wish, false, &limits).unwrap()));
        for node in &nodes {
            log.feed(node);
        }
        let (mut messages, mut marks) = (Vec::<Plain>::new(), BTreeMap::<&str, Offset>::new());
        for (user, deed, node, feeds) in deeds {
            let (user, node, other) = (USERS[user], &nodes[node], &nodes[1 - node]);
            let count = messages.len();
            let nth = |which: usize| which % count.max(1);
            match deed {
                Deed::Say => {
                    let message = Message { event: Some("chat".into()), ..Message::new(topic(), "hi") };
                    let message = node.signed(message, "lobby", Some(user));
                    prop_assert_eq!(message.from.as_deref() == Some(user), !hides);
                    prop_assert!(log.append(&Draft::new(message, Durability::Fsync)));
                    let at = Offset(log.records.len() as u64);
                    messages.push(Plain { at, author: user.into(), ..Plain::default() });
                }
                _ if count == 0 => {}
                Deed::Read { which } => {
                    let at = messages[nth(which)].at;
                    // A node that is behind may write a lower mark than the log has.
                    if let Some(draft) = decide::mark(node, asker(user), &lobby(), at, &[], &limits).unwrap() {
                        prop_assert!(log.append(&draft));
                    }
                    let mark = marks.entry(user).or_default();
                    *mark = at.max(*mark);
                }
                Deed::Edit { which, .. } | Deed::Recall { which } | Deed::React { which, .. } => {
                    let text = if let Deed::Edit { text, .. } = deed { format!("text {text}") } else { String::new() };
                    let wanted = match deed {
                        Deed::Edit { .. } => Change::Edit(&text),
                        Deed::React { key, off, .. } => Change::React { key: KEYS[key], off },
                        _ => Change::Recall,
                    };
                    let plain = &mut messages[nth(which)];
                    let done = change(&mut log, node, user, plain.at, wanted);
                    prop_assert_eq!(done.is_ok(), plain.changes(user, wanted), "{:?} of {}: {:?}", deed, user, done);
                }
            }
            if feeds {
                log.feed(other);
            }
        }
        let restored = Rooms::default();
        restored.restore(log.retained(), Offset(log.records.len() as u64));
        for rooms in nodes.iter().chain([&restored]) {
            log.feed(rooms);
            for user in USERS {
                let mark = marks.get(user).copied().unwrap_or_default();
                prop_assert_eq!(rooms.own(user, &lobby()).read, mark, "the mark of {}", user);
                let theirs = |plain: &&Plain| plain.author != user && !plain.is_recalled && plain.at > mark;
                prop_assert_eq!(unread(&log, rooms, user), messages.iter().filter(theirs).count(), "of {}", user);
            }
        }
        for plain in &messages {
            let fold = fold_of(&log.records, &log.records[plain.at.0 as usize - 1]);
            let reactions = fold.reactions.iter().map(|(key, users)| {
                (key.to_string(), users.iter().map(ToString::to_string).collect())
            });
            let known = (fold.text.map(String::from), fold.recalled, reactions.collect::<BTreeMap<_, BTreeSet<_>>>());
            prop_assert_eq!(known, (plain.text.clone(), plain.is_recalled, plain.reactions.clone()));
        }
    }
}
