//! PUBLISH to the client (MQTT-5.0 §3.3): renditions that clients share, and heads that they don't.
//!
//! A packet that is the same for all its receivers is written once: QoS 0, with neither alias, subscription identifiers
//! nor an expiry, which is another number each time. All other packets have a head of the client's own; the rest is
//! shared.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use everywire_base::ask::Ack as Acknowledge;
use everywire_base::cursor::Cursor;
use everywire_base::notice::{Notice, Refused};
use everywire_base::parcel::{Format, Parcel, Rendition};
use everywire_base::record::Message;
use everywire_base::terms::DeliveryOptions;
use everywire_base::topic::{Filter, Topic};
use everywire_mqtt_packets::{Id, Properties, PublishHead, Value, Version, names, publish_properties};
use everywire_wire::{Ask, Carrier, Kind};

use crate::Mqtt;
use crate::machine::{Client, State};

/// The parts of MQTT 5.0 that few clients use.
#[derive(Default)]
pub(crate) struct Extensions {
    pub(crate) aliases: Aliases,
    pub(crate) added: Option<AddedProperties>,
}

impl Extensions {
    /// The same in a box; none if the client uses neither.
    pub(crate) fn boxed(aliases: Aliases, added: Option<AddedProperties>) -> Option<Box<Self>> {
        let is_empty = aliases.is_empty() && added.is_none();
        (!is_empty).then(|| Box::new(Self { aliases, added }))
    }
}

/// Topic aliases both ways (§3.3.2.3.4).
#[derive(Default)]
pub(crate) struct Aliases {
    /// The topics that the client's aliases stand for.
    theirs: BTreeMap<u16, Topic>,
    /// The topics that the client was told our aliases stand for.
    ours: BTreeMap<Topic, NonZeroU16>,
    /// The highest alias that it takes.
    most: u16,
}

impl Aliases {
    /// The aliases of a client that takes this many.
    pub(crate) fn for_client(wanted: u32, most: u16) -> Self {
        Self { most: u16::try_from(wanted).unwrap_or(u16::MAX).min(most), ..Self::default() }
    }

    /// Whether there is none, and never will be one of ours.
    fn is_empty(&self) -> bool {
        self.most == 0 && self.theirs.is_empty()
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

/// The properties that a client asked for: what the log knows of each message.
pub(crate) struct AddedProperties {
    /// Whether CONNECT asked for them, for all messages.
    always: bool,
    /// Subscriptions whose SUBSCRIBE named a start: their messages carry the properties too.
    subscriptions: Vec<Subscription>,
    /// The position of the connection when it last subscribed. Retained messages carry it in place of the cursor under
    /// which they were published: a client that comes back with it misses nothing, and gets nothing old.
    position: Cursor,
}

impl AddedProperties {
    /// The value for a client whose CONNECT asked.
    pub(crate) fn always(position: &Cursor) -> Self {
        Self { always: true, subscriptions: Vec::new(), position: position.clone() }
    }

    fn wants(&self, topic: &Topic) -> bool {
        self.always || self.subscriptions.iter().any(|(filter, _)| filter.matches(topic))
    }
}

impl Client {
    fn added(&self) -> Option<&AddedProperties> {
        self.extensions.as_ref()?.added.as_ref()
    }

    fn added_mut(&mut self) -> Option<&mut AddedProperties> {
        self.extensions.as_mut()?.added.as_mut()
    }

    /// Whether CONNECT asked for these properties.
    pub(crate) fn asks(&self) -> bool {
        self.added().is_some_and(|added| added.always)
    }

    /// Notes that the client has subscribed, and its position in the log. Messages of the subscription `asking` carry
    /// the properties, if one is given.
    pub(crate) fn note_subscription(&mut self, position: &Cursor, asking: Option<Subscription>) {
        if let Some(added) = self.added_mut() {
            added.position = position.clone();
        }
        if let Some(subscription) = asking {
            let none = || AddedProperties { always: false, ..AddedProperties::always(position) };
            let added = &mut self.extensions.get_or_insert_default().added;
            added.get_or_insert_with(none).subscriptions.push(subscription);
        }
    }

    /// Forgets a subscription that has ended, or is asked for anew.
    pub(crate) fn forget(&mut self, subscription: &Subscription) {
        let Some(added) = self.added_mut() else { return };
        added.subscriptions.retain(|other| other != subscription);
        if !added.always && added.subscriptions.is_empty() {
            self.extensions = self.extensions.take().and_then(|all| Extensions::boxed(all.aliases, None));
        }
    }
}

/// The properties that a packet carries besides the published ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extra {
    None,
    /// Cursor, id, publisher, event.
    All,
    /// The same of a retained message, whose cursor is the client's own.
    Retained,
}

/// One message on its way to one client.
struct Outgoing<'a> {
    version: Version,
    parcel: &'a Parcel,
    head: PublishHead<'a>,
    /// Properties of this client's packet alone.
    own: Properties,
    extra: Extra,
    /// The longest packet that the client takes.
    most: usize,
}

impl Mqtt {
    /// Sends a message; one that no packet of the client's maximum can carry counts as delivered (MQTT-3.1.2-25).
    pub(crate) fn deliver(
        &mut self,
        cx: &mut Carrier<'_, '_>,
        parcel: &Parcel,
        options: &DeliveryOptions<'_>,
        greets: bool,
    ) {
        let State::Open(client) = &mut self.state else { return };
        let (version, message) = (self.version, parcel.message());
        let (alias, is_known) =
            client.extensions.as_ref().map_or((None, false), |all| all.aliases.ours(&message.topic));
        let added = client.added().filter(|added| added.wants(&message.topic));
        let head = PublishHead {
            dup: options.dup && options.tag.is_some(),
            qos: if options.tag.is_some() { options.qos } else { 0 },
            retain: options.retain,
            topic: if is_known { "" } else { message.topic.as_str() },
            packet_id: options.tag,
        };
        let own = match version {
            Version::V5 => own_properties(alias, options.identifiers, parcel.record().time_left(cx.cx.now.wall)),
            _ => Properties::default(),
        };
        let most = if client.maximum_packet == 0 { usize::MAX } else { client.maximum_packet as usize };
        let plain = Outgoing { version, parcel, head, own, extra: Extra::None, most };
        // Published properties come before added ones: a packet that is too long with the latter goes without them.
        let is_sent = added.is_some_and(|added| plain.with_extra(added, greets).send(cx)) || plain.send(cx);
        if let (true, Some(alias), false, Some(all)) = (is_sent, alias, is_known, &mut client.extensions) {
            all.aliases.ours.insert(message.topic.clone(), alias);
        }
        if is_sent {
            return;
        }
        let why = format!("a message of {} is longer than the {most} bytes that the client takes", message.topic);
        cx.cx.notice(Notice::new(Refused::Delivery, why));
        if let Some(tag) = options.tag {
            self.ask(cx, Ask::Acknowledge(Acknowledge::Done(tag.get())));
        }
    }
}

impl Outgoing<'_> {
    /// The same with the properties for a client that asked.
    fn with_extra(&self, added: &AddedProperties, greets: bool) -> Self {
        let (own, extra) = if greets {
            (self.own.clone().with_pair(names::CURSOR, &added.position.to_string()), Extra::Retained)
        } else {
            (self.own.clone(), Extra::All)
        };
        Self { own, extra, ..*self }
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

    /// Sends a packet that is the same for all its receivers.
    fn send_common(&self, cx: &mut Carrier<'_, '_>) {
        let name = match (self.version, self.extra, self.head.retain) {
            (Version::V5, Extra::None, false) => "mqtt5",
            (Version::V5, Extra::None, true) => "mqtt5.r",
            (Version::V5, _, false) => "mqtt5.added",
            (Version::V5, _, true) => "mqtt5.added.r",
            (_, _, false) => "mqtt3",
            (_, _, true) => "mqtt3.r",
        };
        cx.share(self.parcel, name, Kind::Binary, |parcel, out| {
            let body = &parcel.message().body;
            let mut tail = Vec::with_capacity(body.len() + 128);
            if self.version == Version::V5 {
                let mut shared = Vec::new();
                shared_properties(parcel, self.extra).write_bare(&mut shared);
                publish_properties(&Properties::default(), &shared, &mut tail);
            }
            tail.extend_from_slice(body);
            self.head.write(tail.len(), out);
            out.extend_from_slice(&tail);
        });
    }

    fn shared(&self) -> Rendition {
        let name = match self.extra {
            Extra::None => "mqtt5.properties",
            Extra::All => "mqtt5.properties.added",
            Extra::Retained => "mqtt5.properties.retained",
        };
        let write = |parcel: &Parcel, out: &mut Vec<u8>| shared_properties(parcel, self.extra).write_bare(out);
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
        // MQTT-3.3.2-6: the interval is less the time that the message has waited.
        let left = left.as_millis().div_ceil(1000);
        properties = properties.with(Id::MessageExpiryInterval, u32::try_from(left).unwrap_or(u32::MAX));
    }
    properties
}

/// The properties for all receivers of a message: the published ones, unaltered and in their order, and those for
/// clients that asked.
fn shared_properties(parcel: &Parcel, extra: Extra) -> Properties {
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
        // Only the server uses these names towards a client that asked.
        let is_ours = |name: &str| extra != Extra::None && names::ADDED.contains(&name);
        for (name, value) in extras.properties.iter().filter(|(name, _)| !is_ours(name)) {
            properties = properties.with_pair(name, value);
        }
    }
    if extra == Extra::All {
        properties = properties.with_pair(names::CURSOR, &parcel.cursor().to_string());
    }
    if extra != Extra::None {
        properties = properties.with_pair(names::MESSAGE_ID, &parcel.record().id().to_string());
        let about = message.about().map(|id| id.to_string());
        let added = [
            (names::FROM, message.from.as_deref()),
            (names::NICK, message.nick()),
            (names::TO, message.sent_to()),
            (names::EVENT, message.event.as_deref()),
            (names::REF, about.as_deref()),
        ];
        for (name, value) in added {
            if let Some(value) = value {
                properties = properties.with_pair(name, value);
            }
        }
    }
    properties
}
