//! PUBLISH to the client (MQTT-5.0 §3.3): the renditions that clients share, and the heads that they don't.
//!
//! A packet that is the same for all who get it is written once: QoS 0, with neither alias nor subscription identifiers.
//! Of all others the head is the client's own, and what comes after it is shared.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use everywire_base::ask::Ack as Acknowledge;
use everywire_base::clock::UnixMillis;
use everywire_base::parcel::{Format, Parcel};
use everywire_base::record::Message;
use everywire_base::terms::Manner;
use everywire_base::topic::Topic;
use everywire_mqtt_packets::{Id, Properties, PublishHead, Value, Version, publish_properties};
use everywire_wire::{Ask, Carrier, Kind};

use crate::Mqtt;
use crate::machine::State;

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

impl Mqtt {
    pub(crate) fn deliver(&mut self, cx: &mut Carrier<'_, '_>, parcel: &Parcel, manner: &Manner<'_>) {
        let now = cx.cx.now.wall;
        let State::Open(client) = &mut self.state else { return };
        let message = parcel.message();
        let (with_fields, is_v5) = (self.config.user_properties, self.version == Version::V5);
        let (alias, is_known) = client.aliases.as_ref().map_or((None, false), |a| a.ours(&message.topic));
        let is_common = manner.tag.is_none() && alias.is_none() && manner.identifiers.is_empty();
        let most = if client.maximum_packet == 0 { usize::MAX } else { client.maximum_packet as usize };
        let head = PublishHead {
            dup: manner.again && manner.tag.is_some(),
            qos: if manner.tag.is_some() { manner.qos } else { 0 },
            retain: manner.retain,
            topic: if is_known { "" } else { message.topic.as_str() },
            packet_id: manner.tag,
        };
        if is_common && most == usize::MAX {
            let name = match (is_v5, manner.retain) {
                (false, false) => "mqtt3",
                (false, true) => "mqtt3.r",
                (true, false) => "mqtt5",
                (true, true) => "mqtt5.r",
            };
            cx.share(parcel, name, Kind::Binary, |parcel, out| {
                let mut tail = Vec::with_capacity(parcel.message().body.len() + 128);
                if is_v5 {
                    let mut shared = Vec::new();
                    properties(parcel, now, with_fields).write_bare(&mut shared);
                    publish_properties(None, &[], &shared, &mut tail);
                }
                tail.extend_from_slice(&parcel.message().body);
                head.write(tail.len(), out);
                out.extend_from_slice(&tail);
            });
            return;
        }
        let mut own = Vec::new();
        if is_v5 {
            let shared = parcel.rendition(Format::bare("mqtt5.properties"), |parcel, out| {
                properties(parcel, now, with_fields).write_bare(out);
            });
            publish_properties(alias, manner.identifiers, &shared, &mut own);
        }
        let rest = own.len() + message.body.len();
        if head.packet_len(rest) > most {
            // MQTT-3.1.2-25: as if it had been delivered.
            if let Some(tag) = manner.tag {
                self.ask(cx, Ask::Acknowledge(Acknowledge::Done(tag.get())));
            }
            return;
        }
        let mut bytes = Vec::with_capacity(head.packet_len(rest) - message.body.len());
        head.write(rest, &mut bytes);
        bytes.extend_from_slice(&own);
        cx.send(Kind::Binary, &bytes);
        cx.share(parcel, "mqtt.payload", Kind::Binary, |parcel, out| out.extend_from_slice(&parcel.message().body));
        if let (Some(alias), false, Some(aliases)) = (alias, is_known, &mut client.aliases) {
            aliases.ours.insert(message.topic.clone(), alias);
        }
    }
}

/// The properties that all who get the message get.
fn properties(parcel: &Parcel, now: UnixMillis, with_fields: bool) -> Properties {
    let message: &Message = parcel.message();
    let mut properties = Properties::default();
    let extras = message.extras.as_deref();
    if extras.is_some_and(|extras| extras.is_text) {
        properties = properties.with(Id::PayloadFormatIndicator, 1u32);
    }
    if let Some(expires) = message.expires {
        // MQTT-3.3.2-6: less the time that it has waited.
        let left = expires.0.saturating_sub(now.0).div_ceil(1000);
        properties = properties.with(Id::MessageExpiryInterval, u32::try_from(left).unwrap_or(u32::MAX));
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
        for (name, value) in &extras.properties {
            properties = properties.with_pair(name, value);
        }
    }
    if with_fields {
        properties = properties.with_pair("cursor", &parcel.cursor().to_string());
        properties = properties.with_pair("id", &parcel.record().id().to_string());
        for (name, value) in [("from", &message.from), ("event", &message.event)] {
            if let Some(value) = value {
                properties = properties.with_pair(name, value);
            }
        }
    }
    properties
}
