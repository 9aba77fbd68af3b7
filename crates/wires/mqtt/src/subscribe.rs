//! SUBSCRIBE and UNSUBSCRIBE (MQTT-5.0 §3.8, §3.10), shared subscriptions (§4.8.2). Each filter is asked for by itself,
//! a bounded number at a time; the answer is sent when all are answered.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use everywire_base::ask::{self, Subscribed};
use everywire_base::cursor::{Cursor, CursorError, Start};
use everywire_base::id::AskId;
use everywire_base::notice::{Notice, Refused};
use everywire_base::terms::{RetainHandling, Terms};
use everywire_base::topic::Filter;
use everywire_mqtt_packets::{
    Id, Options, Packet, Properties, Reason, SHARED, Suback, Subscribe, Unsuback, Unsubscribe, Version, names,
};
use everywire_wire::{Ask, Carrier, Flow};

use crate::deliver::Subscription;
use crate::machine::{Client, State};
use crate::unsettled::{Waiting, What};
use crate::{Mqtt, words};

/// A SUBSCRIBE or UNSUBSCRIBE that isn't answered.
pub(crate) struct Filters {
    packet_id: NonZeroU16,
    wish: Wish,
    /// Filters that aren't asked for yet.
    queued: std::vec::IntoIter<(Box<str>, Options)>,
    under_way: VecDeque<UnderWay>,
    /// The results of the filters before the queued ones, or those to come if nothing is refused.
    reasons: Vec<Reason>,
    /// The reason why a filter was refused.
    why: Option<Box<str>>,
    /// The cursor at which the first subscription began, if the client is told that.
    cursor: Option<Box<str>>,
}

/// The wish for all filters of a packet.
enum Wish {
    Subscribe { identifier: u32, start: Result<Start, CursorError>, asking: bool },
    Unsubscribe,
}

/// A filter that is asked for.
pub(crate) struct UnderWay {
    ask: AskId,
    nth: usize,
    /// The subscription, if its messages are to carry the log's properties.
    asking: Option<Subscription>,
}

impl Filters {
    fn new(packet_id: NonZeroU16, wish: Wish, filters: Vec<(Box<str>, Options)>) -> Self {
        let reasons = Vec::with_capacity(filters.len());
        let (queued, under_way) = (filters.into_iter(), VecDeque::new());
        Self { packet_id, wish, queued, under_way, reasons, why: None, cursor: None }
    }

    fn refuse(&mut self, nth: usize, reason: Reason, why: &str) {
        self.reasons[nth] = reason;
        self.why.get_or_insert_with(|| why.into());
    }

    /// Takes the filter that this ask is about from those under way.
    fn take(&mut self, ask: AskId) -> Option<UnderWay> {
        // It is nearly always the first: answers come in the order of the questions.
        let at = self.under_way.iter().position(|filter| filter.ask == ask)?;
        self.under_way.remove(at)
    }

    /// Whether some filters are not asked for yet.
    pub(crate) fn has_more(&self) -> bool {
        self.queued.len() > 0
    }

    /// Whether none is asked for yet.
    fn is_untouched(&self) -> bool {
        self.reasons.is_empty() && self.under_way.is_empty()
    }

    /// The answer, once nothing is missing.
    fn answer(&mut self) -> Option<Packet<'static>> {
        if self.has_more() || !self.under_way.is_empty() {
            return None;
        }
        let mut properties = Properties::default();
        if let Some(why) = &self.why {
            properties = properties.with_text(Id::ReasonString, why);
        }
        if let Some(cursor) = &self.cursor {
            properties = properties.with_pair(names::CURSOR, cursor);
        }
        let (packet_id, reasons) = (self.packet_id, std::mem::take(&mut self.reasons));
        Some(match self.wish {
            Wish::Subscribe { .. } => Packet::Suback(Suback { packet_id, reasons, properties }),
            Wish::Unsubscribe => Packet::Unsuback(Unsuback { packet_id, reasons, properties }),
        })
    }
}

impl Mqtt {
    pub(crate) fn subscribe(&mut self, cx: &mut Carrier<'_, '_>, subscribe: Subscribe) -> Flow {
        let identifier = subscribe.properties.number(Id::SubscriptionIdentifier).unwrap_or(0);
        let after = subscribe.properties.pair(names::AFTER);
        let start = after.map_or(Ok(Start::Latest), str::parse);
        let wish = Wish::Subscribe { identifier, start, asking: after.is_some() };
        self.filters(cx, Filters::new(subscribe.packet_id, wish, subscribe.filters))
    }

    pub(crate) fn unsubscribe(&mut self, cx: &mut Carrier<'_, '_>, unsubscribe: Unsubscribe) -> Flow {
        let filters = unsubscribe.filters.into_iter().map(|filter| (filter, Options::default())).collect();
        self.filters(cx, Filters::new(unsubscribe.packet_id, Wish::Unsubscribe, filters))
    }

    fn filters(&mut self, cx: &mut Carrier<'_, '_>, mut filters: Filters) -> Flow {
        if self.unsettled.waiting.iter().any(|waiting| matches!(waiting.what, What::Publish(..))) {
            // Messages that the client has published before stand in the log before: its filters don't take them for
            // new ones.
            self.wait(What::Filters(Box::new(filters)));
            return self.flow(cx);
        }
        self.ask_more(cx, &mut filters);
        match self.answer_filters(cx, &mut filters) {
            Some(answer) => self.answer_in_turn(cx, answer),
            None => self.wait(What::Filters(Box::new(filters))),
        }
        self.flow(cx)
    }

    /// The answer, once nothing is missing. 3.1.1 has no words for the reason of a refusal: operators are told.
    fn answer_filters(&self, cx: &mut Carrier<'_, '_>, filters: &mut Filters) -> Option<Packet<'static>> {
        let answer = filters.answer()?;
        if let Some(why) = filters.why.take().filter(|_| self.version != Version::V5) {
            cx.cx.notice(Notice::new(Refused::Subscribe, why));
        }
        Some(answer)
    }

    /// Asks for queued filters, as many as may wait for their answer at a time.
    fn ask_more(&mut self, cx: &mut Carrier<'_, '_>, filters: &mut Filters) {
        while filters.under_way.len() < cx.cx.limits.pipelined_asks {
            let Some((text, options)) = filters.queued.next() else { return };
            let nth = filters.reasons.len();
            filters.reasons.push(Reason::Success);
            let subscription = match parse(&text) {
                Ok(subscription) => subscription,
                Err(why) => {
                    filters.refuse(nth, Reason::TopicFilterInvalid, &why);
                    continue;
                }
            };
            let mut options = options;
            if let State::Open(client) = &mut self.state {
                client.forget(&subscription);
                options.no_local |= client.is_bridge && subscription.1.is_none();
                options.retain_as_published |= client.is_bridge;
            }
            let (ask, asking) = match &filters.wish {
                Wish::Unsubscribe => {
                    let (filter, group) = subscription;
                    (Ask::Unsubscribe(ask::Unsubscribe::One(filter, group)), None)
                }
                Wish::Subscribe { start: Err(error), .. } => {
                    let why = format!("`{}`: {error}", names::AFTER);
                    filters.refuse(nth, Reason::ImplementationSpecific, &why);
                    continue;
                }
                Wish::Subscribe { start: Ok(start), identifier, asking } => {
                    filters.reasons[nth] = granted(options.qos);
                    let asking = asking.then(|| subscription.clone());
                    (Ask::Subscribe(wanted(subscription, options, *identifier, start.clone())), asking)
                }
            };
            let ask = self.ask(cx, ask);
            filters.under_way.push_back(UnderWay { ask, nth, asking });
        }
    }

    /// Takes the answer to a subscription.
    pub(crate) fn subscribed(&mut self, cx: &mut Carrier<'_, '_>, ask: AskId, subscribed: &Subscribed) {
        let State::Open(client) = &mut self.state else { return };
        let asks = client.asks();
        self.fill_filter(cx, ask, |client, position, filters, filter| {
            let asking = filter.asking.is_some();
            if let Some((_, refusal)) = subscribed.refused.first() {
                filters.refuse(filter.nth, words::refusal(refusal), &refusal.to_string());
            } else {
                client.note_subscription(position, filter.asking);
            }
            if (asks || asking) && filters.cursor.is_none() {
                filters.cursor = Some(subscribed.cursor.to_string().into());
            }
        });
    }

    /// Takes the answer to an unsubscribe.
    pub(crate) fn unsubscribed(&mut self, cx: &mut Carrier<'_, '_>, ask: AskId, was_there: bool) {
        self.fill_filter(cx, ask, |_, _, filters, filter| {
            if !was_there {
                filters.reasons[filter.nth] = Reason::NoSubscriptionExisted;
            }
        });
    }

    /// Takes the answer to one filter, and asks for the next.
    fn fill_filter(
        &mut self,
        cx: &mut Carrier<'_, '_>,
        ask: AskId,
        fill: impl FnOnce(&mut Client, &Cursor, &mut Filters, UnderWay),
    ) {
        let filters = self.unsettled.waiting.iter_mut().enumerate().find_map(|(at, waiting)| match &mut waiting.what {
            What::Filters(filters) => filters.take(ask).map(|filter| (at, filter)),
            _ => None,
        });
        let (Some((at, filter)), State::Open(client)) = (filters, &mut self.state) else { return };
        let What::Filters(mut filters) = std::mem::replace(&mut self.unsettled.waiting[at].what, What::Nothing) else {
            return;
        };
        fill(client, &cx.cx.position.cursor, &mut filters, filter);
        self.go_on_with(cx, at, filters);
    }

    /// Asks for the filters that waited for messages published before them.
    pub(crate) fn begin_filters(&mut self, cx: &mut Carrier<'_, '_>) {
        if self.unsettled.waiting.is_empty() {
            return;
        }
        let Some(Waiting { what: what @ What::Filters(_), .. }) = self.unsettled.waiting.front_mut() else { return };
        match std::mem::replace(what, What::Nothing) {
            What::Filters(filters) if filters.is_untouched() => self.go_on_with(cx, 0, filters),
            other => *what = other,
        }
    }

    /// Asks for more of the filters that wait at this place, or answers.
    fn go_on_with(&mut self, cx: &mut Carrier<'_, '_>, at: usize, mut filters: Box<Filters>) {
        self.ask_more(cx, &mut filters);
        match self.answer_filters(cx, &mut filters) {
            None => self.unsettled.waiting[at].what = What::Filters(filters),
            answer => self.unsettled.waiting[at].answer = answer,
        }
        self.send_answers(cx);
    }
}

/// The subscription of a filter (§4.8.2), which was checked to be well formed when the packet was read.
fn parse(text: &str) -> Result<Subscription, String> {
    let shared = text.strip_prefix(SHARED).and_then(|rest| rest.split_once('/'));
    let (group, text) = shared.map_or((None, text), |(group, text)| (Some(group.into()), text));
    Filter::parse(text).map(|filter| (filter, group)).map_err(|error| error.to_string())
}

fn wanted((filter, group): Subscription, options: Options, identifier: u32, start: Start) -> ask::Subscribe {
    let greets = group.is_none() && start == Start::Latest;
    let retained = match options.retain_handling {
        0 if greets => RetainHandling::Always,
        1 if greets => RetainHandling::IfNew,
        _ => RetainHandling::Never,
    };
    let Options { qos, no_local, retain_as_published, .. } = options;
    let terms = Terms { qos, no_local, retain_as_published, identifier };
    ask::Subscribe { start, retained, terms, group, ..ask::Subscribe::to([filter]) }
}

fn granted(qos: u8) -> Reason {
    match qos {
        0 => Reason::Success,
        1 => Reason::GrantedQos1,
        _ => Reason::GrantedQos2,
    }
}
