//! The headers of Kafka's that carry what a message has beside its body (`docs/kafka.md`).

use everywire_base::record::{Message, Record};

/// The media type.
pub(crate) const TYPE: &str = "content-type";
/// The name of the event.
pub(crate) const EVENT: &str = "everywire-event";
/// The id of the message that it answers or changes.
pub(crate) const REF: &str = "everywire-ref";
/// The message's id; outward only.
const ID: &str = "everywire-id";
/// The publisher; outward only.
const FROM: &str = "everywire-from";
/// The publisher's nick, if `everywire-from` is an alias; outward only.
const NICK: &str = "everywire-nick";

/// The headers of a message that goes out: what it has, and its publisher's own properties.
pub(crate) fn headers(record: &Record, message: &Message) -> Vec<(String, String)> {
    let about = message.about().map(|id| id.to_string());
    let id = record.id().to_string();
    let said = [
        (ID, Some(&*id)),
        (TYPE, message.content_type.as_deref()),
        (EVENT, message.event.as_deref()),
        (FROM, message.from.as_deref()),
        (NICK, message.nick()),
        (REF, about.as_deref()),
    ];
    let said = said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    let own = message.extras.iter().flat_map(|extras| &extras.properties);
    let own = own.filter(|(name, _)| !name.starts_with("everywire-"));
    said.chain(own.map(|(name, value)| (name.to_string(), value.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use everywire_base::clock::UnixMillis;
    use everywire_base::cursor::{Offset, Partition};
    use everywire_base::id::MessageId;
    use everywire_base::record::{Durability, Extras};
    use everywire_base::topic::Topic;

    use super::*;

    #[test]
    fn a_message_has_a_header_for_all_that_it_says_and_none_for_what_it_hides() {
        let answered = MessageId::new(UnixMillis(1), Partition(0), Offset(3));
        let extras = Extras {
            properties: vec![("colour".into(), "red".into()), ("everywire-from".into(), "eve".into())],
            about: Some(answered),
            author: Some("bobrov".into()),
            nick: Some("Robin".into()),
            ..Extras::default()
        };
        let mut message = Message::new(Topic::parse("room/mask").unwrap(), "hi");
        (message.from, message.event, message.extras) =
            (Some("~alias".into()), Some("chat".into()), Some(Box::new(extras)));
        let (partition, offset, time, durability) = (Partition(0), Offset(7), UnixMillis(9), Durability::Fsync);
        let record = Record { partition, offset, time, durability, content: message.clone().into() };
        let (id, about) = (record.id().to_string(), answered.to_string());
        let expected = [
            ("everywire-id", &*id),
            ("everywire-event", "chat"),
            ("everywire-from", "~alias"),
            ("everywire-nick", "Robin"),
            ("everywire-ref", &about),
            ("colour", "red"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(headers(&record, &message), expected);
    }
}
