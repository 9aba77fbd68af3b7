//! The list of topics: the counts of each, as they are stored.

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::topic::{Filter, Topic};

use crate::applier::StoreError;
use crate::read::prefix;
use crate::shared::Shared;
use crate::state::TopicState;

/// The counts of a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicInfo {
    /// Its name.
    pub topic: Topic,
    /// Its last message, kept or not.
    pub head: Offset,
    /// The number of messages that are kept.
    pub count: u64,
    /// The number of bytes of their bodies.
    pub bytes: u64,
    /// The first message that is kept, or the beginning if there is none.
    pub earliest: Offset,
    /// Whether it has a retained message.
    pub retained: bool,
}

impl TopicInfo {
    fn of(topic: &Topic, state: &TopicState) -> Self {
        Self {
            topic: topic.clone(),
            head: Offset(state.head),
            count: state.count,
            bytes: state.bytes,
            earliest: Offset(state.oldest),
            retained: state.retained != 0,
        }
    }
}

impl Shared {
    pub(crate) fn topic(&self, topic: &Topic) -> Result<Option<TopicInfo>, StoreError> {
        Ok(self.state(topic)?.map(|state| TopicInfo::of(topic, &state)))
    }

    pub(crate) fn topics(
        &self,
        filter: &Filter,
        after: Option<&Topic>,
        limit: usize,
    ) -> Result<Vec<TopicInfo>, StoreError> {
        let mut topics = Vec::new();
        if limit > 0 {
            self.walk(prefix(filter), after, &mut |topic, state| {
                if filter.matches(topic) {
                    topics.push(TopicInfo::of(topic, state));
                }
                topics.len() < limit
            })?;
        }
        Ok(topics)
    }

    pub(crate) fn earliest(&self, filter: &Filter, now: UnixMillis) -> Result<Offset, StoreError> {
        let applied = self.applied();
        let mut first = applied.0 + 1;
        match filter {
            Filter::Exact(topic) => {
                if let Some(state) = self.state(topic)? {
                    let floor = self.floor_of(topic, &state, now)?.kept;
                    state.entries(&*self.tables, floor, &mut |entry| {
                        first = first.min(entry.offset);
                        false
                    })?;
                }
            }
            Filter::Wild(_) => self.walk(prefix(filter), None, &mut |topic, state| {
                if state.oldest != 0 && filter.matches(topic) {
                    first = first.min(state.oldest);
                }
                true
            })?,
        }
        Ok(Offset(first - 1))
    }
}
