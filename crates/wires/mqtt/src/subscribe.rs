//! SUBSCRIBE and UNSUBSCRIBE (MQTT-5.0 §3.8, §3.10), shared subscriptions (§4.8.2). Each filter is asked for by itself,
//! and the answer goes when all are answered.

use std::num::NonZeroU16;

use everywire_base::ask::{self, Subscribed};
use everywire_base::cursor::Start;
use everywire_base::id::AskId;
use everywire_base::terms::{Greet, Terms};
use everywire_base::topic::Filter;
use everywire_mqtt_packets::{Id, Options, Packet, Properties, Reason, Suback, Subscribe, Unsuback, Unsubscribe};
use everywire_wire::{Ask, Carrier, Flow};

use crate::machine::What;
use crate::{Mqtt, words};

/// What shared filters begin with.
const SHARED: &str = "$share/";

/// A SUBSCRIBE or UNSUBSCRIBE that isn't answered.
pub(crate) struct Filters {
    packet_id: NonZeroU16,
    subscribes: bool,
    /// What each filter comes to, and the ask that says so, until it is answered.
    reasons: Vec<(Option<AskId>, Reason)>,
    /// Why something was refused.
    why: Option<Box<str>>,
    /// Where the first subscription began, if that is told.
    cursor: Option<Box<str>>,
}

impl Filters {
    fn new(packet_id: NonZeroU16, subscribes: bool) -> Self {
        Self { packet_id, subscribes, reasons: Vec::new(), why: None, cursor: None }
    }

    fn refuse(&mut self, reason: Reason, why: &str) {
        self.reasons.push((None, reason));
        self.why.get_or_insert_with(|| why.into());
    }

    /// The place of the filter that this ask is about.
    pub(crate) fn place(&self, ask: AskId) -> Option<usize> {
        self.reasons.iter().position(|(asked, _)| *asked == Some(ask))
    }

    /// A subscription was granted or refused.
    pub(crate) fn granted(&mut self, at: usize, subscribed: &Subscribed, tells: bool) -> Option<Packet<'static>> {
        self.reasons[at].0 = None;
        if tells && self.cursor.is_none() {
            self.cursor = Some(subscribed.cursor.to_string().into());
        }
        if let Some((_, refusal)) = subscribed.refused.first() {
            self.reasons[at].1 = words::refusal(refusal);
            self.why.get_or_insert_with(|| refusal.to_string().into());
        }
        self.answer()
    }

    /// A subscription has ended, if it was there.
    pub(crate) fn ended(&mut self, at: usize, was_there: bool) -> Option<Packet<'static>> {
        self.reasons[at].0 = None;
        if !was_there {
            self.reasons[at].1 = Reason::NoSubscriptionExisted;
        }
        self.answer()
    }

    /// The answer, when nothing is missing.
    fn answer(&mut self) -> Option<Packet<'static>> {
        if self.reasons.iter().any(|(asked, _)| asked.is_some()) {
            return None;
        }
        let mut properties = Properties::default();
        if let Some(why) = &self.why {
            properties = properties.with_text(Id::ReasonString, why);
        }
        if let Some(cursor) = &self.cursor {
            properties = properties.with_pair("cursor", cursor);
        }
        let (packet_id, reasons) = (self.packet_id, self.reasons.iter().map(|(_, reason)| *reason).collect());
        if self.subscribes {
            return Some(Packet::Suback(Suback { packet_id, reasons, properties }));
        }
        Some(Packet::Unsuback(Unsuback { packet_id, reasons, properties }))
    }
}

impl Mqtt {
    pub(crate) fn subscribe(&mut self, cx: &mut Carrier<'_, '_>, subscribe: &Subscribe) -> Flow {
        let mut filters = Filters::new(subscribe.packet_id, true);
        let identifier = subscribe.properties.number(Id::SubscriptionIdentifier).unwrap_or(0);
        let start = subscribe.properties.pair("after").map_or(Ok(Start::Latest), str::parse::<Start>);
        for (text, options) in &subscribe.filters {
            match (parse(text), &start) {
                (Err(why), _) => filters.refuse(Reason::TopicFilterInvalid, &why),
                (_, Err(error)) => filters.refuse(Reason::ImplementationSpecific, &format!("`after`: {error}")),
                (Ok((filter, group)), Ok(start)) => {
                    let wanted = wanted(filter, group, *options, identifier, start.clone());
                    let ask = self.ask(cx, Ask::Subscribe(wanted));
                    filters.reasons.push((Some(ask), granted(options.qos)));
                }
            }
        }
        self.filters(cx, filters)
    }

    pub(crate) fn unsubscribe(&mut self, cx: &mut Carrier<'_, '_>, unsubscribe: &Unsubscribe) -> Flow {
        let mut filters = Filters::new(unsubscribe.packet_id, false);
        for text in &unsubscribe.filters {
            match parse(text) {
                Err(why) => filters.refuse(Reason::TopicFilterInvalid, &why),
                Ok((filter, group)) => {
                    let ask = self.ask(cx, Ask::Unsubscribe(ask::Unsubscribe::One(filter, group)));
                    filters.reasons.push((Some(ask), Reason::Success));
                }
            }
        }
        self.filters(cx, filters)
    }

    fn filters(&mut self, cx: &mut Carrier<'_, '_>, mut filters: Filters) -> Flow {
        match filters.answer() {
            Some(answer) => self.answer_in_turn(cx, answer),
            None => self.wait(What::Filters(Box::new(filters))),
        }
        self.flow(cx)
    }
}

/// A filter, and the group that shares it (§4.8.2).
fn parse(text: &str) -> Result<(Filter, Option<Box<str>>), String> {
    let (group, text) = match text.strip_prefix(SHARED) {
        None => (None, text),
        Some(rest) => {
            let (group, filter) = rest.split_once('/').ok_or("a shared filter is $share/GROUP/FILTER")?;
            if group.is_empty() || group.contains(['+', '#']) {
                return Err("a group has a name without wildcards".to_owned());
            }
            (Some(group.into()), filter)
        }
    };
    Filter::parse(text).map(|filter| (filter, group)).map_err(|error| error.to_string())
}

fn wanted(filter: Filter, group: Option<Box<str>>, options: Options, identifier: u32, start: Start) -> ask::Subscribe {
    let greets = group.is_none() && start == Start::Latest;
    let greet = match options.retain_handling {
        0 if greets => Greet::Always,
        1 if greets => Greet::IfNew,
        _ => Greet::Never,
    };
    let Options { qos, no_local, retain_as_published, .. } = options;
    let terms = Terms { qos, no_local, retain_as_published, identifier };
    ask::Subscribe { start, greet, terms, group, ..ask::Subscribe::to([filter]) }
}

fn granted(qos: u8) -> Reason {
    match qos {
        0 => Reason::Success,
        1 => Reason::GrantedQos1,
        _ => Reason::GrantedQos2,
    }
}
