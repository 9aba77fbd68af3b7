//! Knows every publish, acknowledgement and delivery, and finds the faults among them.

use std::collections::{BTreeMap, BTreeSet};

use everywire_base::topic::{Filter, Topic};

/// A published message, by its number: the body is that number.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The topic of the message.
    pub topic: Topic,
    /// The publisher's knowledge of the message.
    pub acknowledged: Acknowledged,
}

/// The knowledge of a publisher about its message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledged {
    /// The message may be in the log or not.
    No,
    /// The message is in the log.
    Somewhere,
    /// The message is in the log, at this offset.
    At(u64),
}

impl Acknowledged {
    fn may_be(self, offset: u64) -> bool {
        !matches!(self, Acknowledged::At(other) if other != offset)
    }

    /// Whether the message must come to a reader that wants everything above `since`.
    fn is_above(self, since: u64) -> bool {
        match self {
            Acknowledged::No => false,
            Acknowledged::Somewhere => since == 0,
            Acknowledged::At(offset) => offset > since,
        }
    }
}

/// The part of the log that a world may lose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// None.
    Nothing,
    /// A part of the past: a node that joins, or was away for long, lacks records, and tells readers of a gap there.
    Past,
    /// The end, which the engine loses now and then. Readers are told of gaps, and what a node has acknowledged is
    /// there for as long as the node vouches for it.
    End,
}

/// A part of the log: all offsets above the first one, up to the second one.
pub type Part = (u64, u64);

/// Whether an offset lies in one of these parts.
pub fn is_within(parts: &[Part], offset: u64) -> bool {
    parts.iter().any(|(above, up_to)| offset > *above && offset <= *up_to)
}

/// The messages and gaps that a reader has seen.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The name in error texts: `sse 3`.
    pub name: String,
    /// The filters that it reads.
    pub filters: Vec<Filter>,
    /// The offset above which it wants everything; known once the server has said where the reading begins.
    pub since: Option<u64>,
    /// The offset and number of every message that came, in the order of arrival.
    pub seen: Vec<(u64, u64)>,
    /// The gaps that it was told of, in the server's words.
    pub gaps: Vec<String>,
    /// The number of messages that it had seen at the last gap.
    pub seen_at_gap: usize,
    /// The parts of the log that the gaps may be about.
    pub missed: Vec<Part>,
    /// Whether it keeps the place itself up to which it has read.
    pub by_cursor: bool,
}

impl Reading {
    /// Judges it by the log as it is at the end of a world that has lost a part of it: all that is there came, unless a
    /// gap was told in its place; and a gap was told after messages that aren't there any more, unless `gone` has them.
    fn is_right(&self, publishes: &BTreeMap<u64, Publish>, log: &[(u64, u64)], gone: &[Part]) -> Result<(), String> {
        let name = &self.name;
        let is_there =
            |offset: u64| log.binary_search_by_key(&offset, |entry| entry.0).is_ok() || is_within(gone, offset);
        let unsaid = self.seen[self.seen_at_gap..].iter().find(|(offset, _)| self.by_cursor && !is_there(*offset));
        if let Some((offset, number)) = unsaid {
            return Err(format!("{name} has message {number} at {offset}, which is lost, and was told of no gap"));
        }
        let since = self.since.ok_or(format!("{name} never learned where it stands"))?;
        let seen: BTreeSet<u64> = self.seen.iter().map(|(_, number)| *number).collect();
        let wants = |number: &u64| self.filters.iter().any(|filter| filter.matches(&publishes[number].topic));
        let is_missed = |(offset, number): &&(u64, u64)| {
            *offset > since && !is_within(&self.missed, *offset) && wants(number) && !seen.contains(number)
        };
        match log.iter().find(is_missed) {
            Some((offset, number)) => Err(format!(
                "{name} never got message {number}, which is at {offset}; it was told of gaps in {:?}, and began at {since}",
                self.missed
            )),
            None => Ok(()),
        }
    }
}

/// The messages that the members of a shared group have seen together.
#[derive(Clone, Debug)]
pub struct Group {
    /// The filter that it reads.
    pub filter: Filter,
    /// The number above which it wants every message. Since that message one of its members has a lasting session, and
    /// was connected in this life of the server.
    pub above: Option<u64>,
    /// The numbers that came to any member.
    pub seen: BTreeSet<u64>,
}

/// The history of a world.
#[derive(Debug)]
pub struct Checker {
    /// Every message that a publisher tried to publish.
    pub publishes: BTreeMap<u64, Publish>,
    /// Every reader.
    pub readings: Vec<Reading>,
    /// The shared group.
    pub group: Group,
    /// Wills that must come: their connections have ended in this life of the server.
    wills: Vec<u64>,
    /// The part of the log that may be lost.
    pub loss: Loss,
    /// The offset up to which something may be lost for a reader who is told of a gap now: the furthest head of the
    /// log, or what the node lacks at which it is.
    pub floor: u64,
}

impl Checker {
    /// An empty history, with a group that reads this filter.
    pub fn new(filter: Filter) -> Self {
        let group = Group { filter, above: None, seen: BTreeSet::new() };
        let (publishes, loss) = (BTreeMap::new(), Loss::Nothing);
        Self { publishes, readings: Vec::new(), group, wills: Vec::new(), loss, floor: 0 }
    }

    fn last(&self) -> u64 {
        self.publishes.keys().next_back().copied().unwrap_or_default()
    }

    /// Notes that a member of the group has a lasting session: from now on nothing may be lost.
    pub fn group_lasts(&mut self) {
        self.group.above = self.group.above.or(Some(self.last()));
    }

    /// Notes a message that came to a member of the group.
    pub fn came_to_group(&mut self, topic: &str, body: &[u8]) -> Result<(), String> {
        let number = number_of(body)?;
        self.is_for("the group", std::slice::from_ref(&self.group.filter), topic, number)?;
        self.group.seen.insert(number);
        Ok(())
    }

    /// The publish of a message that came to a reader, if it exists and the reader wants it.
    fn is_for(&self, who: &str, filters: &[Filter], topic: &str, number: u64) -> Result<&Publish, String> {
        let publish = self.publishes.get(&number).ok_or(format!("{who} got {number}, which nobody published"))?;
        if publish.topic.as_str() != topic || !filters.iter().any(|f| f.matches(&publish.topic)) {
            return Err(format!("{who} got message {number} of {topic}, which it does not read"));
        }
        Ok(publish)
    }

    /// Notes a message that is about to be published; returns its number.
    pub fn promise(&mut self, topic: Topic) -> u64 {
        let number = self.last() + 1;
        self.publishes.insert(number, Publish { topic, acknowledged: Acknowledged::No });
        number
    }

    /// Notes a will that must come.
    pub fn owe_will(&mut self, number: u64) {
        self.wills.push(number);
        self.acknowledge(number);
    }

    /// Notes that a message is in the log, at an unknown offset.
    pub fn acknowledge(&mut self, number: u64) {
        if let Some(publish) = self.publishes.get_mut(&number) {
            publish.acknowledged = Acknowledged::Somewhere;
        }
    }

    /// Notes that the server has crashed. Wills that were due may be void, as their clients come back. The group is
    /// promised nothing until a member with a lasting session is connected again.
    pub fn crashed(&mut self) {
        self.group.above = None;
        self.drains();
    }

    /// Notes that the server sends its clients away. Wills that were due may be void, as their clients come back.
    pub fn drains(&mut self) {
        for number in self.wills.drain(..) {
            if let Some(publish) = self.publishes.get_mut(&number) {
                publish.acknowledged = Acknowledged::No;
            }
        }
    }

    /// Notes that a reader who knows no place begins at the earliest message of a node that lacks all up to here.
    pub fn begins(&mut self, reader: usize, floor: u64) {
        let since = &mut self.readings[reader].since;
        *since = (*since).max(Some(floor));
    }

    /// Notes a gap that a reader was told of; complains of one behind which its node lacks nothing.
    pub fn gap(&mut self, reader: usize, gap: String) -> Result<(), String> {
        let reading = &mut self.readings[reader];
        let last = reading.seen.last().map_or(0, |seen| seen.0);
        // The place of a session may be an earlier one than its client's.
        if self.loss == Loss::Past && reading.by_cursor && last >= self.floor {
            let (name, floor) = (&reading.name, self.floor);
            return Err(format!(
                "{name} has {last} and was told of a gap, and its node lacks nothing above {floor}: {gap}"
            ));
        }
        reading.gaps.push(gap);
        reading.seen_at_gap = reading.seen.len();
        reading.missed.push((if self.loss == Loss::Past { last } else { 0 }, self.floor));
        Ok(())
    }

    /// Notes a message that came; complains at once of disorder.
    pub fn came(&mut self, reader: usize, topic: &str, offset: u64, number: u64) -> Result<(), String> {
        let reading = &self.readings[reader];
        let name = &reading.name;
        let from = if self.loss == Loss::End { reading.seen_at_gap } else { 0 };
        if let Some((last, _)) = reading.seen[from..].last().filter(|l| l.0 >= offset) {
            return Err(format!("{name} got offset {offset} (message {number}) after {last}"));
        }
        let publish = self.is_for(name, &reading.filters, topic, number)?;
        if self.loss != Loss::End && !publish.acknowledged.may_be(offset) {
            return Err(format!("{name} got message {number} at {offset}, acknowledged at {:?}", publish.acknowledged));
        }
        self.readings[reader].seen.push((offset, number));
        Ok(())
    }

    /// The number of messages that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.publishes.values().filter(|publish| publish.acknowledged != Acknowledged::No).count() as u64
    }

    /// The number of messages that readers by themselves have got.
    pub fn delivered(&self) -> u64 {
        self.readings.iter().map(|reading| reading.seen.len() as u64).sum()
    }

    /// The number of messages that all have got, members of the group too.
    pub fn seen(&self) -> u64 {
        self.delivered() + self.group.seen.len() as u64
    }

    /// Judges a world at its end, when all is quiet: no acknowledged message is missing, and all readers saw the same
    /// log.
    pub fn verdict(&self) -> Result<(), String> {
        if self.loss == Loss::End {
            return Ok(());
        }
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
        if self.loss == Loss::Nothing {
            self.readings.iter().try_for_each(|reading| self.complete(reading))?;
        }
        self.group_is_complete()
    }

    /// Judges a whole log by the offsets and numbers of its messages: each is there once, and all that was acknowledged
    /// is there, at the place that was said, unless it lies in a part that is `gone` with every node.
    pub fn log_is_right(&self, log: &[(u64, u64)], gone: &[Part]) -> Result<(), String> {
        let mut places: BTreeMap<u64, u64> = BTreeMap::new();
        for (offset, number) in log {
            if let Some(first) = places.insert(*number, *offset) {
                return Err(format!("message {number} is in the log twice, at {first} and {offset}"));
            }
        }
        if self.loss != Loss::Nothing {
            self.readings.iter().try_for_each(|reading| reading.is_right(&self.publishes, log, gone))?;
        }
        if self.loss == Loss::End {
            return Ok(());
        }
        for (number, publish) in &self.publishes {
            let place = places.get(number);
            let is_right = match publish.acknowledged {
                Acknowledged::No => true,
                Acknowledged::Somewhere => place.is_some() || !gone.is_empty(),
                Acknowledged::At(offset) => place.map_or(is_within(gone, offset), |place| *place == offset),
            };
            if !is_right {
                return Err(format!(
                    "message {number} was acknowledged: {:?}, and is at {place:?}",
                    publish.acknowledged
                ));
            }
        }
        Ok(())
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

/// The number of a message: its body is the number and some padding.
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
            seen_at_gap: 0,
            missed: Vec::new(),
            by_cursor: true,
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
