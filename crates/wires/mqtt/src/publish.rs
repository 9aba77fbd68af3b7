//! PUBLISH from the client (MQTT-5.0 §3.3, §4.3).

use std::time::Duration;

use bytes::Bytes;
use everywire_base::ask::{PublishError, Published};
use everywire_base::clock::UnixMillis;
use everywire_base::id::AskId;
use everywire_base::notice::{Notice, Refused};
use everywire_base::publish::Unfit;
use everywire_base::reason::Reason as End;
use everywire_base::record::{Extras, Message};
use everywire_base::topic::Topic;
use everywire_mqtt_packets::{Ack, AckKind, Id, Packet, PacketError, Properties, Publish, Reason, Version, names};
use everywire_wire::{Ask, Carrier, Flow};

use crate::machine::{State, What};
use crate::{Mqtt, words};

impl Mqtt {
    pub(crate) fn publish(&mut self, cx: &mut Carrier<'_, '_>, publish: &Publish<'_>) -> Flow {
        let State::Open(client) = &mut self.state else { return self.flow(cx) };
        if publish.qos > 0 {
            if self.version == Version::V5 && client.under_way >= self.config.receive_maximum {
                let what = "more messages under way than the receive maximum";
                return self.fail(cx, PacketError { reason: Reason::ReceiveMaximumExceeded, what });
            }
            client.under_way = client.under_way.saturating_add(1);
        }
        let topic = match self.topic(publish) {
            Ok(topic) => topic,
            Err(error) => return self.fail(cx, error),
        };
        let message = match self.message(topic.clone(), publish, cx.cx.now.wall) {
            Ok(message) => message,
            Err(error) => return self.refuse_publish(cx, publish, &topic, (error.reason, error.what)),
        };
        let State::Open(client) = &self.state else { return self.flow(cx) };
        let draft = match cx.cx.draft(message, client.identity.as_deref()) {
            Ok(draft) => draft,
            Err(unfit) => return self.unfit(cx, publish, &topic, &unfit),
        };
        let ask = match publish.packet_id {
            Some(number) if publish.qos == 2 => Ask::PublishOnce(draft, number.get()),
            _ => Ask::Publish(draft),
        };
        let id = self.ask(cx, ask);
        self.wait(What::Publish(id, publish.packet_id.map(|number| (number, publish.qos))));
        self.flow(cx)
    }

    /// The topic, which an alias may stand for (§3.3.2.3.4).
    fn topic(&mut self, publish: &Publish<'_>) -> Result<Topic, PacketError> {
        let alias = publish.properties.number(Id::TopicAlias).map(|alias| alias as u16);
        let most = self.config.topic_alias_maximum;
        if alias.is_some_and(|alias| alias > most) {
            return Err(PacketError { reason: Reason::TopicAliasInvalid, what: "a topic alias above the maximum" });
        }
        let State::Open(client) = &mut self.state else { return Err(not_known()) };
        match alias {
            Some(alias) if publish.topic.is_empty() => {
                client.aliases.as_ref().and_then(|aliases| aliases.meant(alias)).cloned().ok_or_else(not_known)
            }
            alias => {
                let invalid = |_| PacketError { reason: Reason::TopicNameInvalid, what: "a topic that is none" };
                let topic = Topic::parse(publish.topic).map_err(invalid)?;
                if let Some(alias) = alias {
                    client.aliases.get_or_insert_default().mean(alias, topic.clone());
                }
                Ok(topic)
            }
        }
    }

    fn message(&self, topic: Topic, publish: &Publish<'_>, now: UnixMillis) -> Result<Message, PacketError> {
        let State::Open(client) = &self.state else { return Err(not_known()) };
        let mut message = Message::new(topic, Bytes::copy_from_slice(publish.payload));
        message.from = client.identity.as_ref().and_then(|who| who.user.clone());
        (message.qos, message.retain, message.origin) = (publish.qos, publish.retain, client.origin);
        let ttl = publish.properties.number(Id::MessageExpiryInterval);
        message.expires = ttl.map(|seconds| now.after(Duration::from_secs(seconds.into())));
        describe(&mut message, &publish.properties)?;
        Ok(message)
    }

    fn unfit(&mut self, cx: &mut Carrier<'_, '_>, publish: &Publish<'_>, topic: &Topic, unfit: &Unfit) -> Flow {
        match unfit {
            // Later it may be published: nothing is acknowledged, and the client comes again with it.
            Unfit::TooFast(wait) if self.version != Version::V5 && publish.qos > 0 => {
                Flow::Closed(End::Overloaded(*wait))
            }
            _ => self.refuse_publish(cx, publish, topic, (words::unfit(unfit), &unfit.to_string())),
        }
    }

    /// What can't be published, now or later. 5.0 is told. 3.1.1 has no word for it, and a client whose connection ended
    /// would come with it again and again: it is acknowledged and dropped (MQTT-3.3.5-2 of 3.1.1). Nor is there an answer at
    /// QoS 0. Operators are told then.
    fn refuse_publish(
        &mut self,
        cx: &mut Carrier<'_, '_>,
        publish: &Publish<'_>,
        topic: &Topic,
        (reason, why): (Reason, &str),
    ) -> Flow {
        if publish.packet_id.is_none() || self.version != Version::V5 {
            cx.cx.notice(Notice::new(Refused::Publish, format!("a message for {topic}: {why}")));
        }
        if let Some(number) = publish.packet_id {
            let kind = if publish.qos == 1 { AckKind::Puback } else { AckKind::Pubrec };
            let mut ack = Ack::new(kind, number, reason);
            // Where the code says it all, the answer stays as short as the shortest clients expect it.
            if reason != Reason::NotAuthorized {
                ack.properties = Properties::default().with_text(Id::ReasonString, why);
            }
            self.answer_in_turn(cx, Packet::Ack(ack));
        }
        self.flow(cx)
    }

    /// What became of a message.
    pub(crate) fn published(
        &mut self,
        cx: &mut Carrier<'_, '_>,
        ask: AskId,
        result: Result<Published, PublishError>,
    ) -> Flow {
        let is_awaited = self.is_awaited(ask);
        if let (Err(error), false) = (result, is_awaited) {
            cx.cx.notice(Notice::new(Refused::Publish, format!("a message of QoS 0: {error}")));
        }
        let word = match result {
            Ok(_) => Some((Reason::Success, Properties::default())),
            Err(error) => words::not_published(error).map(|reason| (reason, explained(error))),
        };
        // Nothing is acknowledged that isn't kept: without a word for it the client comes again.
        let Some((reason, properties)) = word.filter(|(reason, _)| !reason.is_failure() || self.version == Version::V5)
        else {
            if is_awaited {
                return self.end(cx, Reason::ServerBusy, End::Overloaded(Duration::from_secs(1)));
            }
            // Of QoS 0 nothing is answered, but those behind it wait for their turn.
            self.fill(cx, ask, |_, number| Self::received(number));
            return self.flow(cx);
        };
        self.fill(cx, ask, |qos, number| {
            let kind = if qos == 1 { AckKind::Puback } else { AckKind::Pubrec };
            Packet::Ack(Ack { properties, ..Ack::new(kind, number, reason) })
        });
        self.flow(cx)
    }
}

/// Why the log didn't take a message, and what it would take of a producer that counts.
fn explained(error: PublishError) -> Properties {
    let properties = Properties::default().with_text(Id::ReasonString, &error.to_string());
    match error {
        PublishError::OutOfOrder { expected } => properties.with_pair(names::EXPECTED, &expected.to_string()),
        _ => properties,
    }
}

fn not_known() -> PacketError {
    PacketError { reason: Reason::TopicAliasInvalid, what: "a topic alias that stands for nothing" }
}

/// Takes over what the properties of a PUBLISH or a will say of a message (§3.3.2.3). User properties are kept as they
/// are, those that are read here too (MQTT-3.3.2-17, -18).
pub(crate) fn describe(message: &mut Message, properties: &Properties) -> Result<(), PacketError> {
    message.content_type = properties.text(Id::ContentType).filter(|text| !text.is_empty()).map(Into::into);
    let is_text = properties.number(Id::PayloadFormatIndicator).map(|number| number == 1);
    if is_text == Some(true) && std::str::from_utf8(&message.body).is_err() {
        let what = "the payload is not UTF-8, as its format indicator says";
        return Err(PacketError { reason: Reason::PayloadFormatInvalid, what });
    }
    message.event = properties.pair(names::EVENT).map(Into::into);
    message.key = properties.pair(names::KEY).map(Into::into);
    let extras = Extras {
        properties: properties.pairs().map(|(name, value)| (name.into(), value.into())).collect(),
        response_topic: properties.text(Id::ResponseTopic).map(Into::into),
        correlation: properties.binary(Id::CorrelationData).cloned(),
        is_text,
    };
    message.extras = (extras != Extras::default()).then(|| Box::new(extras));
    Ok(())
}
