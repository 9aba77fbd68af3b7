//! PUBLISH to the client (MQTT-5.0 §3.3): the renditions that clients share, and the heads that they don't.
//!
//! A packet that is the same for all who get it is written once: QoS 0, with neither alias, subscription identifiers nor
//! an expiry, which is another number each time.
//! Of all others the head is the client's own, and what comes after it is shared.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use everywire_base::ask::Ack as Acknowledge;
use everywire_base::cursor::Cursor;
use everywire_base::notice::{Notice, Refused};
use everywire_base::parcel::{Format, Parcel, Rendition};
use everywire_base::record::Message;
use everywire_base::terms::Manner;
use everywire_base::topic::{Filter, Topic};
use everywire_mqtt_packets::{Id, Properties, PublishHead, Value, Version, names, publish_properties};
use everywire_wire::{Ask, Carrier, Kind};

use crate::Mqtt;
use crate::machine::{Client, State};

/// Topic aliases both ways (§3.3.2.3.4).
#[derive(Default)]
pub(crate) struct Aliases {
    /// What the client's stand for.
    theirs: BTreeMap<u16, Topic>,
    /// What it was told ours stand for.
    ours: BTreeMap<Topic, NonZeroU16>,
    /// The highest that it takes.
    most: u16,
}

impl Aliases {
    /// Those of a client that takes so many, if it takes any.
    pub(crate) fn for_client(wanted: u32, most: u16) -> Option<Box<Self>> {
        let most = u16::try_from(wanted).unwrap_or(u16::MAX).min(most);
        (most > 0).then(|| Box::new(Self { most, ..Self::default() }))
    }

    pub(crate) fn meant(&self, alias: u16) -> Option<&Topic> {
        self.theirs.get(&alias)
    }

    pub(crate) fn mean(&mut self, alias: u16, topic: Topic) {
        self.theirs.insert(alias, topic);
    }

    /// The alias of a topic, and whether the client knows it; the first topics get one.
    fn ours(&self, topic: &Topic) -> (Option<NonZeroU16>, bool) {
        match self.ours.get(topic) {
            Some(alias) => (Some(*alias), true),
            None if self.ours.len() < usize::from(self.most) => (NonZeroU16::new(self.ours.len() as u16 + 1), false),
            None => (None, false),
        }
    }
}

/// A filter, and the group that shares it.
pub(crate) type Subscription = (Filter, Option<Box<str>>);

/// A client that asked is told of each message what the log knows of it.
pub(crate) struct Told {
    /// CONNECT asked, for all messages.
    always: bool,
    /// Those whose SUBSCRIBE said where to begin: their messages carry it too.
    subscriptions: Vec<Subscription>,
    /// Where the connection stood when it last subscribed. Retained messages carry this in place of the cursor under
    /// which they were published: a client that comes back with it misses nothing, and gets nothing old.
    position: Cursor,
}

impl Told {
    /// For a client whose CONNECT asked.
    pub(crate) fn always(position: &Cursor) -> Self {
        Self { always: true, subscriptions: Vec::new(), position: position.clone() }
    }

    fn wants(&self, topic: &Topic) -> bool {
        self.always || self.subscriptions.iter().any(|(filter, _)| filter.matches(topic))
    }
}

impl Client {
    /// Whether CONNECT asked to be told.
    pub(crate) fn asks(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.always)
    }

    /// The client has subscribed, and stands there in the log. That subscription's messages are told of, if it is given.
    pub(crate) fn stands(&mut self, position: &Cursor, tells: Option<Subscription>) {
        if let Some(told) = &mut self.told {
            told.position = position.clone();
        }
        if let Some(subscription) = tells {
            let none = || Box::new(Told { always: false, ..Told::always(position) });
            self.told.get_or_insert_with(none).subscriptions.push(subscription);
        }
    }

    /// The subscription has ended, or is asked for anew.
    pub(crate) fn forget(&mut self, subscription: &Subscription) {
        let Some(told) = &mut self.told else { return };
        told.subscriptions.retain(|other| other != subscription);
        if !told.always && told.subscriptions.is_empty() {
            self.told = None;
        }
    }
}

/// What a packet says of its message beside what was published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    Nothing,
    /// Cursor, id, publisher, event.
    All,
    /// The same of a retained message, whose cursor is the client's own.
    Retained,
}

/// How one message goes to one client.
struct Outgoing<'a> {
    version: Version,
    parcel: &'a Parcel,
    head: PublishHead<'a>,
    /// Properties of this client's packet alone.
    own: Properties,
    telling: Telling,
    /// The longest packet that the client takes.
    most: usize,
}

impl Mqtt {
    /// Sends a message; one that no packet of the client's maximum can carry counts as delivered (MQTT-3.1.2-25).
    pub(crate) fn deliver(&mut self, cx: &mut Carrier<'_, '_>, parcel: &Parcel, manner: &Manner<'_>, greets: bool) {
        let State::Open(client) = &mut self.state else { return };
        let (version, message) = (self.version, parcel.message());
        let (alias, is_known) = client.aliases.as_ref().map_or((None, false), |a| a.ours(&message.topic));
        let told = client.told.as_ref().filter(|told| told.wants(&message.topic));
        let head = PublishHead {
            dup: manner.again && manner.tag.is_some(),
            qos: if manner.tag.is_some() { manner.qos } else { 0 },
            retain: manner.retain,
            topic: if is_known { "" } else { message.topic.as_str() },
            packet_id: manner.tag,
        };
        let own = match version {
            Version::V5 => own_properties(alias, manner.identifiers, parcel.record().time_left(cx.cx.now.wall)),
            _ => Properties::default(),
        };
        let most = if client.maximum_packet == 0 { usize::MAX } else { client.maximum_packet as usize };
        let plain = Outgoing { version, parcel, head, own, telling: Telling::Nothing, most };
        // What was published comes before what is told of it: a packet that is too long with that goes without it.
        let is_sent = told.is_some_and(|told| plain.telling(told, greets).send(cx)) || plain.send(cx);
        if let (true, Some(alias), false, Some(aliases)) = (is_sent, alias, is_known, &mut client.aliases) {
            aliases.ours.insert(message.topic.clone(), alias);
        }
        if is_sent {
            return;
        }
        let why = format!("a message of {} is longer than the {most} bytes that the client takes", message.topic);
        cx.cx.notice(Notice::new(Refused::Delivery, why));
        if let Some(tag) = manner.tag {
            self.ask(cx, Ask::Acknowledge(Acknowledge::Done(tag.get())));
        }
    }
}

impl Outgoing<'_> {
    /// The same with what a client that asked is told.
    fn telling(&self, told: &Told, greets: bool) -> Self {
        let (own, telling) = if greets {
            (self.own.clone().with_pair(names::CURSOR, &told.position.to_string()), Telling::Retained)
        } else {
            (self.own.clone(), Telling::All)
        };
        Self { own, telling, ..*self }
    }

    /// Sends the packet, unless it is too long.
    fn send(&self, cx: &mut Carrier<'_, '_>) -> bool {
        if self.head.packet_id.is_none() && self.own.is_empty() && self.most == usize::MAX {
            self.send_common(cx);
            return true;
        }
        let payload = &self.parcel.message().body;
        let mut own = Vec::new();
        if self.version == Version::V5 {
            publish_properties(&self.own, &self.shared(), &mut own);
        }
        let rest = own.len() + payload.len();
        let len = self.head.packet_len(rest);
        if len > self.most {
            return false;
        }
        let mut bytes = Vec::with_capacity(len - payload.len());
        self.head.write(rest, &mut bytes);
        bytes.extend_from_slice(&own);
        cx.send(Kind::Binary, &bytes);
        cx.share(self.parcel, "mqtt.payload", Kind::Binary, |parcel, out| {
            out.extend_from_slice(&parcel.message().body);
        });
        true
    }

    /// Sends a packet that is the same for all who get it.
    fn send_common(&self, cx: &mut Carrier<'_, '_>) {
        let name = match (self.version, self.telling, self.head.retain) {
            (Version::V5, Telling::Nothing, false) => "mqtt5",
            (Version::V5, Telling::Nothing, true) => "mqtt5.r",
            (Version::V5, _, false) => "mqtt5.told",
            (Version::V5, _, true) => "mqtt5.told.r",
            (_, _, false) => "mqtt3",
            (_, _, true) => "mqtt3.r",
        };
        cx.share(self.parcel, name, Kind::Binary, |parcel, out| {
            let body = &parcel.message().body;
            let mut tail = Vec::with_capacity(body.len() + 128);
            if self.version == Version::V5 {
                let mut shared = Vec::new();
                shared_properties(parcel, self.telling).write_bare(&mut shared);
                publish_properties(&Properties::default(), &shared, &mut tail);
            }
            tail.extend_from_slice(body);
            self.head.write(tail.len(), out);
            out.extend_from_slice(&tail);
        });
    }

    fn shared(&self) -> Rendition {
        let name = match self.telling {
            Telling::Nothing => "mqtt5.properties",
            Telling::All => "mqtt5.properties.told",
            Telling::Retained => "mqtt5.properties.retained",
        };
        let write = |parcel: &Parcel, out: &mut Vec<u8>| shared_properties(parcel, self.telling).write_bare(out);
        self.parcel.rendition(Format::bare(name), write)
    }
}

/// The properties that only this client's packet has, or only at this moment.
fn own_properties(alias: Option<NonZeroU16>, identifiers: &[u32], time_left: Option<Duration>) -> Properties {
    let mut properties = Properties::default();
    if let Some(alias) = alias {
        properties = properties.with(Id::TopicAlias, alias.get());
    }
    for identifier in identifiers {
        properties = properties.with(Id::SubscriptionIdentifier, *identifier);
    }
    if let Some(left) = time_left {
        // MQTT-3.3.2-6: less the time that it has waited.
        let left = left.as_millis().div_ceil(1000);
        properties = properties.with(Id::MessageExpiryInterval, u32::try_from(left).unwrap_or(u32::MAX));
    }
    properties
}

/// The properties that all who get the message get: those that were published, unaltered and in their order, and what is
/// told to those who asked.
fn shared_properties(parcel: &Parcel, telling: Telling) -> Properties {
    let message: &Message = parcel.message();
    let mut properties = Properties::default();
    let extras = message.extras.as_deref();
    if let Some(is_text) = extras.and_then(|extras| extras.is_text) {
        properties = properties.with(Id::PayloadFormatIndicator, is_text);
    }
    if let Some(content_type) = &message.content_type {
        properties = properties.with_text(Id::ContentType, content_type);
    }
    if let Some(extras) = extras {
        if let Some(topic) = &extras.response_topic {
            properties = properties.with_text(Id::ResponseTopic, topic);
        }
        if let Some(data) = &extras.correlation {
            properties.push(Id::CorrelationData, Value::Binary(data.clone()));
        }
        // Where the server speaks under these names, nobody else does.
        let is_ours = |name: &str| telling != Telling::Nothing && names::TOLD.contains(&name);
        for (name, value) in extras.properties.iter().filter(|(name, _)| !is_ours(name)) {
            properties = properties.with_pair(name, value);
        }
    }
    if telling == Telling::All {
        properties = properties.with_pair(names::CURSOR, &parcel.cursor().to_string());
    }
    if telling != Telling::Nothing {
        properties = properties.with_pair(names::MESSAGE_ID, &parcel.record().id().to_string());
        for (name, value) in [(names::FROM, &message.from), (names::EVENT, &message.event)] {
            if let Some(value) = value {
                properties = properties.with_pair(name, value);
            }
        }
    }
    properties
}
