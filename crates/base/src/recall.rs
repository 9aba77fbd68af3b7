//! Recalled messages: every reader skips them, as it skips expired ones (`docs/rooms.md`).

use serde::Deserialize;

use crate::id::MessageId;
use crate::record::{Record, System};
use crate::system::{FOLDS, fold_topic, read};
use crate::topic::Topic;

/// The part of a fold that readers need: whether the message was recalled.
#[derive(Deserialize)]
struct Fold {
    #[serde(default)]
    recalled: bool,
}

/// The message that a fold says was recalled.
pub fn recalled_by(fold: &System) -> Option<MessageId> {
    let id = fold.topic.as_str().strip_prefix(FOLDS)?;
    read::<Fold>(fold).is_some_and(|fold| fold.recalled).then(|| id.parse().ok())?
}

/// The topic of a record's fold; `None` if its message can't be recalled: only those of rooms and inboxes can.
pub fn fold_of(record: &Record) -> Option<Topic> {
    let name = record.message()?.topic.as_str();
    let is_of_people = name.starts_with("room/") || name.starts_with("user/");
    is_of_people.then(|| fold_topic(record.id()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(topic: &str, body: &'static str) -> System {
        System::new(Topic::parse(topic).unwrap(), body, true)
    }

    #[test]
    fn a_fold_names_the_message_that_it_recalls() {
        let topic = "$fold/01M8KZ0070000000000000000B";
        let id = "01M8KZ0070000000000000000B".parse().ok();
        assert_eq!(recalled_by(&fold(topic, r#"{"recalled":true,"reactions":{}}"#)), id);
        assert_eq!(recalled_by(&fold(topic, r#"{"text":"other"}"#)), None);
        for (topic, body) in [(topic, "nonsense"), ("$fold/x", r#"{"recalled":true}"#), ("a", r#"{"recalled":true}"#)] {
            assert_eq!(recalled_by(&fold(topic, body)), None, "{topic} {body}");
        }
    }
}
