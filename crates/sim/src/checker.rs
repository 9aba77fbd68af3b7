//! Knows every publish, acknowledgement and delivery, and says what must not be.

use std::collections::{BTreeMap, BTreeSet};

use everywire_base::topic::{Filter, Topic};

/// A published message, by its number: the body is that number.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where.
    pub topic: Topic,
    /// What its publisher knows.
    pub acknowledged: Acknowledged,
}

/// What the publisher of a message knows of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledged {
    /// Nothing: it may be there or not.
    No,
    /// It is there.
    Somewhere,
    /// It is there, at this offset.
    At(u64),
}

impl Acknowledged {
    fn may_be(self, offset: u64) -> bool {
        !matches!(self, Acknowledged::At(other) if other != offset)
    }

    /// Whether it must come to who wants everything above `since`.
    fn is_above(self, since: u64) -> bool {
        match self {
            Acknowledged::No => false,
            Acknowledged::Somewhere => since == 0,
            Acknowledged::At(offset) => offset > since,
        }
    }
}

/// What a reader has seen.
#[derive(Clone, Debug)]
pub struct Reading {
    /// For messages about it: `sse 3`.
    pub name: String,
    /// What it reads.
    pub filters: Vec<Filter>,
    /// It wants everything above this offset; known once the server said from where it reads.
    pub since: Option<u64>,
    /// The offset and number of every message that came, in the order of their coming.
    pub seen: Vec<(u64, u64)>,
    /// The gaps that it was told, in the server's words.
    pub gaps: Vec<String>,
}

/// What a shared group has seen, all its members together.
#[derive(Clone, Debug)]
pub struct Group {
    /// What it reads.
    pub filter: Filter,
    /// It wants every message of a higher number: since then one of its members has a session that lasts, and was there
    /// in this life of the server.
    pub above: Option<u64>,
    /// The numbers that came to any of them.
    pub seen: BTreeSet<u64>,
}

/// Everything that happened.
#[derive(Debug)]
pub struct Checker {
    /// Every message that somebody tried to publish.
    pub publishes: BTreeMap<u64, Publish>,
    /// Every reader.
    pub readings: Vec<Reading>,
    /// The shared group.
    pub group: Group,
    /// Wills that must come: their connections have ended in this life of the server.
    wills: Vec<u64>,
}

impl Checker {
    /// Nothing has happened yet, and there is a group that reads this.
    pub fn new(filter: Filter) -> Self {
        let group = Group { filter, above: None, seen: BTreeSet::new() };
        Self { publishes: BTreeMap::new(), readings: Vec::new(), group, wills: Vec::new() }
    }

    fn last(&self) -> u64 {
        self.publishes.keys().next_back().copied().unwrap_or_default()
    }

    /// A member of the group has a session that lasts: from now on nothing is lost.
    pub fn group_lasts(&mut self) {
        self.group.above = self.group.above.or(Some(self.last()));
    }

    /// A message came to a member of the group.
    pub fn came_to_group(&mut self, topic: &str, body: &[u8]) -> Result<(), String> {
        let number = number_of(body)?;
        self.is_for("the group", std::slice::from_ref(&self.group.filter), topic, number)?;
        self.group.seen.insert(number);
        Ok(())
    }

    /// A message that came to somebody, if it was published and its reader wants it.
    fn is_for(&self, who: &str, filters: &[Filter], topic: &str, number: u64) -> Result<&Publish, String> {
        let publish = self.publishes.get(&number).ok_or(format!("{who} got {number}, which nobody published"))?;
        if publish.topic.as_str() != topic || !filters.iter().any(|f| f.matches(&publish.topic)) {
            return Err(format!("{who} got message {number} of {topic}, which it does not read"));
        }
        Ok(publish)
    }

    /// A publisher is about to publish: the number of its message.
    pub fn promise(&mut self, topic: Topic) -> u64 {
        let number = self.last() + 1;
        self.publishes.insert(number, Publish { topic, acknowledged: Acknowledged::No });
        number
    }

    /// A will must come.
    pub fn owe_will(&mut self, number: u64) {
        self.wills.push(number);
        self.acknowledge(number);
    }

    /// A message is there, nobody knows where.
    pub fn acknowledge(&mut self, number: u64) {
        if let Some(publish) = self.publishes.get_mut(&number) {
            publish.acknowledged = Acknowledged::Somewhere;
        }
    }

    /// The server has crashed: wills that were to come may be void, as their clients come back; and to the group nothing
    /// is promised until a member with a session that lasts is there again.
    pub fn crashed(&mut self) {
        self.group.above = None;
        for number in self.wills.drain(..) {
            if let Some(publish) = self.publishes.get_mut(&number) {
                publish.acknowledged = Acknowledged::No;
            }
        }
    }

    /// A message came; complains at once of disorder.
    pub fn came(&mut self, reader: usize, topic: &str, offset: u64, number: u64) -> Result<(), String> {
        let reading = &self.readings[reader];
        let name = &reading.name;
        if let Some((last, _)) = reading.seen.last().filter(|l| l.0 >= offset) {
            return Err(format!("{name} got offset {offset} (message {number}) after {last}"));
        }
        let publish = self.is_for(name, &reading.filters, topic, number)?;
        if !publish.acknowledged.may_be(offset) {
            return Err(format!("{name} got message {number} at {offset}, acknowledged at {:?}", publish.acknowledged));
        }
        self.readings[reader].seen.push((offset, number));
        Ok(())
    }

    /// At the end, when all is quiet: nothing acknowledged is missing, and all readers saw the same log.
    pub fn verdict(&self) -> Result<(), String> {
        let mut log: BTreeMap<u64, u64> = BTreeMap::new();
        for reading in &self.readings {
            for (offset, number) in &reading.seen {
                let other = *log.entry(*offset).or_insert(*number);
                if other != *number {
                    return Err(format!(
                        "offset {offset} is message {number} for {} and {other} for others",
                        reading.name
                    ));
                }
            }
        }
        let mut places: BTreeMap<u64, u64> = BTreeMap::new();
        for (offset, number) in &log {
            if let Some(first) = places.insert(*number, *offset) {
                return Err(format!("message {number} is in the log twice, at {first} and {offset}"));
            }
        }
        self.readings.iter().try_for_each(|reading| self.complete(reading))?;
        self.group_is_complete()
    }

    fn group_is_complete(&self) -> Result<(), String> {
        let Some(above) = self.group.above else { return Ok(()) };
        for (number, publish) in self.publishes.range(above + 1..) {
            let is_there = publish.acknowledged != Acknowledged::No && self.group.filter.matches(&publish.topic);
            if is_there && !self.group.seen.contains(number) {
                return Err(format!("the group never got message {number} of {}", publish.topic));
            }
        }
        Ok(())
    }

    fn complete(&self, reading: &Reading) -> Result<(), String> {
        if let Some(gap) = reading.gaps.first() {
            return Err(format!("{} was told of a gap, and nothing was lost: {gap}", reading.name));
        }
        let since = reading.since.ok_or(format!("{} never learned where it stands", reading.name))?;
        for (number, publish) in &self.publishes {
            let wanted = reading.filters.iter().any(|f| f.matches(&publish.topic));
            if wanted && publish.acknowledged.is_above(since) && !reading.seen.iter().any(|s| s.1 == *number) {
                let Publish { topic, acknowledged } = publish;
                return Err(format!("{} never got message {number} of {topic}: {acknowledged:?}", reading.name));
            }
        }
        Ok(())
    }
}

/// The number of a message: its body is that, and some padding.
pub fn number_of(body: &[u8]) -> Result<u64, String> {
    let number = std::str::from_utf8(body).ok().and_then(|body| body.trim_end_matches('x').parse().ok());
    number.ok_or_else(|| "a body that is no number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checker() -> Checker {
        let mut checker = Checker::new(Filter::parse("a").unwrap());
        for number in 1..=3 {
            let topic = Topic::parse("a").unwrap();
            checker.publishes.insert(number, Publish { topic, acknowledged: Acknowledged::At(number) });
        }
        let filters = vec![Filter::parse("a").unwrap()];
        checker.readings.push(Reading {
            name: "r".into(),
            filters,
            since: Some(0),
            seen: Vec::new(),
            gaps: Vec::new(),
        });
        checker
    }

    #[test]
    fn a_complete_reading_in_order_is_right() {
        let mut checker = checker();
        (1..=3).for_each(|n| checker.came(0, "a", n, n).unwrap());
        assert_eq!(checker.verdict(), Ok(()));
    }

    #[test]
    fn loss_disorder_duplicates_and_gaps_are_found() {
        let mut lossy = checker();
        lossy.came(0, "a", 1, 1).unwrap();
        lossy.came(0, "a", 3, 3).unwrap();
        assert_eq!(lossy.verdict(), Err("r never got message 2 of a: At(2)".into()));
        assert!(lossy.came(0, "a", 2, 2).is_err());
        assert!(lossy.came(0, "a", 3, 3).is_err());
        lossy.publishes.get_mut(&2).unwrap().acknowledged = Acknowledged::Somewhere;
        assert!(lossy.verdict().is_err());
        lossy.publishes.get_mut(&2).unwrap().acknowledged = Acknowledged::No;
        assert_eq!(lossy.verdict(), Ok(()));
        let mut gappy = checker();
        (1..=3).for_each(|n| gappy.came(0, "a", n, n).unwrap());
        gappy.readings[0].gaps.push("gap".into());
        assert!(gappy.verdict().is_err());
    }
}
