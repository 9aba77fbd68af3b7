//! The sections `[[topics]]`: the rules, first match wins.

use everywire_base::record::Durability;
use everywire_base::rules::{History, SlowConsumer, TopicRule, Who};
use everywire_base::topic::Filter;

use super::reader::{self, Fault, Fields, Reader, Value};

/// Reads all rules.
pub(super) fn read<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Vec<TopicRule> {
    let Some(entries) = value.get_ref().as_array() else {
        reader.complain(value.span(), "topics is not a list of tables: write each rule as [[topics]]".into());
        return Vec::new();
    };
    let rules = entries.iter().enumerate();
    rules.filter_map(|(i, entry)| rule(reader, &format!("topics[{i}]"), entry)).collect()
}

fn rule<'t>(reader: &mut Reader<'t>, path: &str, value: &Value<'t>) -> Option<TopicRule> {
    let mut fields = reader.table(path, value)?;
    let default = TopicRule::fallback();
    if fields.raw("match").is_none() {
        reader.complain(value.span(), format!("{path}: `match` is missing: it says for which topics the rule is"));
    }
    let filter = fields.take(reader, "match", reader::text(|t| Filter::parse(t).map_err(|e| e.to_string())));
    let history_path = fields.path_of("history");
    let rule = TopicRule {
        history: match fields.raw("history") {
            Some(value) => history(reader, &history_path, value),
            None => default.history,
        },
        durability: fields.take(reader, "durability", word(DURABILITIES)).unwrap_or(default.durability),
        presence: fields.take(reader, "presence", reader::flag).unwrap_or(default.presence),
        publish: fields.take(reader, "publish", reader::list(word(PEOPLE))).unwrap_or(default.publish),
        subscribe: fields.take(reader, "subscribe", reader::list(word(PEOPLE))).unwrap_or(default.subscribe),
        max_message: fields.take(reader, "max_message", message_size).unwrap_or(default.max_message),
        slow_consumer: fields.take(reader, "slow_consumer", word(SLOW_CONSUMERS)).unwrap_or(default.slow_consumer),
        filter: default.filter,
    };
    fields.end(reader);
    Some(TopicRule { filter: filter?, ..rule })
}

fn history<'t>(reader: &mut Reader<'t>, path: &str, value: &Value<'t>) -> History {
    let default = History::default();
    let Some(mut fields): Option<Fields<'_, 't>> = reader.table(path, value) else { return default };
    let history = History {
        max_age: fields.take(reader, "max_age", reader::duration).unwrap_or(default.max_age),
        max_messages: fields.take(reader, "max_messages", reader::count).unwrap_or(default.max_messages),
        max_bytes: fields.take(reader, "max_bytes", reader::bytes).unwrap_or(default.max_bytes),
    };
    fields.end(reader);
    history
}

/// The longest message that a rule may allow: it must fit into memory some times over.
const MAX_MESSAGE_BYTES: u64 = 64 << 20;

fn message_size(value: &Value<'_>) -> Result<usize, Fault> {
    match reader::bytes(value)? {
        bytes if bytes <= MAX_MESSAGE_BYTES => Ok(bytes as usize),
        bytes => Err(format!("{bytes} bytes is more than a message can have: at most \"64MiB\"").into()),
    }
}

pub(super) type Words<T> = &'static [(&'static str, T)];

const DURABILITIES: Words<Durability> =
    &[("fsync", Durability::Fsync), ("memory", Durability::Memory), ("none", Durability::None)];
const PEOPLE: Words<Who> =
    &[("anyone", Who::Anyone), ("user", Who::User), ("member", Who::Member), ("owner", Who::Owner)];
const SLOW_CONSUMERS: Words<SlowConsumer> = &[("skip", SlowConsumer::Skip), ("close", SlowConsumer::Close)];

/// One of a few words.
pub(super) fn word<'t, T: Copy + 'static>(words: Words<T>) -> impl Fn(&Value<'t>) -> Result<T, Fault> {
    reader::text(move |text| {
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        let known = || words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| format!("{text:?} is not one of {}", known()))
    })
}
