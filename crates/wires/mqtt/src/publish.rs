//! PUBLISH from the client (MQTT-5.0 §3.3, §4.3).

use std::time::Duration;

use bytes::Bytes;
use everywire_base::ask::{NotPublished, PublishError, Published};
use everywire_base::clock::UnixMillis;
use everywire_base::id::AskId;
use everywire_base::notice::{Notice, Refused};
use everywire_base::publish::Unfit;
use everywire_base::reason::Reason as End;
use everywire_base::record::{Extras, Message};
use everywire_base::rules::Refusal;
use everywire_base::topic::Topic;
use everywire_mqtt_packets::{Ack, AckKind, Id, Packet, PacketError, Properties, Publish, Reason, Version, names};
use everywire_wire::{Ask, Carrier, Flow};

use crate::machine::State;
use crate::unsettled::What;
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
        let draft = match cx.cx.draft(message, client.identity.as_ref()) {
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

    /// The topic, for which an alias may stand (§3.3.2.3.4).
    fn topic(&mut self, publish: &Publish<'_>) -> Result<Topic, PacketError> {
        let alias = publish.properties.number(Id::TopicAlias).map(|alias| alias as u16);
        let most = self.config.topic_alias_maximum;
        if alias.is_some_and(|alias| alias > most) {
            return Err(PacketError { reason: Reason::TopicAliasInvalid, what: "a topic alias above the maximum" });
        }
        let State::Open(client) = &mut self.state else { return Err(not_known()) };
        match alias {
            Some(alias) if publish.topic.is_empty() => {
                client.extensions.as_ref().and_then(|all| all.aliases.meant(alias)).cloned().ok_or_else(not_known)
            }
            alias => {
                let invalid = |_| PacketError { reason: Reason::TopicNameInvalid, what: "a topic that is none" };
                let topic = Topic::parse(publish.topic).map_err(invalid)?;
                if let Some(alias) = alias {
                    client.extensions.get_or_insert_default().aliases.mean(alias, topic.clone());
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
            // It may be published later: nothing is acknowledged, and the client sends it again.
            Unfit::TooFast(wait) if self.version != Version::V5 && publish.qos > 0 => {
                Flow::Closed(End::Overloaded(*wait))
            }
            // Operators have been told.
            Unfit::RetainedUsedUp => self.answer_refused(cx, publish, (words::unfit(unfit), &unfit.to_string())),
            _ => self.refuse_publish(cx, publish, topic, (words::unfit(unfit), &unfit.to_string())),
        }
    }

    /// Refuses a message that can't be published, now or later. A client of 5.0 is told. 3.1.1 has no word for it, and
    /// a client whose connection ended would send it again and again: it is acknowledged and dropped (MQTT-3.3.5-2 of
    /// 3.1.1). QoS 0 has no answer either. In both cases operators are told.
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
        self.answer_refused(cx, publish, (reason, why))
    }

    fn answer_refused(
        &mut self,
        cx: &mut Carrier<'_, '_>,
        publish: &Publish<'_>,
        (reason, why): (Reason, &str),
    ) -> Flow {
        if let Some(number) = publish.packet_id {
            let kind = if publish.qos == 1 { AckKind::Puback } else { AckKind::Pubrec };
            let mut ack = Ack::new(kind, number, reason);
            // If the code says it all, the answer stays as short as the simplest clients expect it.
            if reason != Reason::NotAuthorized {
                ack.properties = Properties::default().with_text(Id::ReasonString, why);
            }
            self.answer_in_turn(cx, Packet::Ack(ack));
        }
        self.flow(cx)
    }

    /// Takes the result of a publish.
    pub(crate) fn published(
        &mut self,
        cx: &mut Carrier<'_, '_>,
        ask: AskId,
        result: Result<Published, NotPublished>,
    ) -> Flow {
        let is_awaited = self.is_awaited(ask);
        if let (Err(error), false) = (&result, is_awaited) {
            cx.cx.notice(Notice::new(Refused::Publish, format!("a message of QoS 0: {error}")));
        }
        let result = match result {
            Ok(done) => Ok(done),
            Err(NotPublished::Log(error)) => Err(error),
            Err(NotPublished::Refused(refusal)) => return self.refused(cx, ask, &refusal),
        };
        let word = match result {
            Ok(_) => Some((Reason::Success, Properties::default())),
            Err(error) => words::not_published(error).map(|reason| (reason, explained(error))),
        };
        // A message that isn't kept is not acknowledged: without a word for the refusal the client sends it again.
        let Some((reason, properties)) = word.filter(|(reason, _)| !reason.is_failure() || self.version == Version::V5)
        else {
            if is_awaited {
                return self.end(cx, Reason::ServerBusy, End::Overloaded(Duration::from_secs(1)));
            }
            // QoS 0 has no answer, but the messages behind it wait for their turn.
            self.fill(cx, ask, |_, number| Self::received(number));
            return self.flow(cx);
        };
        self.fill(cx, ask, |qos, number| {
            let kind = if qos == 1 { AckKind::Puback } else { AckKind::Pubrec };
            Packet::Ack(Ack { properties, ..Ack::new(kind, number, reason) })
        });
        self.flow(cx)
    }

    /// Refuses a message that was judged again: its publisher may not publish it any more. See
    /// [`Self::refuse_publish`].
    fn refused(&mut self, cx: &mut Carrier<'_, '_>, ask: AskId, refusal: &Refusal) -> Flow {
        if self.version != Version::V5 && self.is_awaited(ask) {
            cx.cx.notice(Notice::new(Refused::Publish, format!("a message: {refusal}")));
        }
        self.fill(cx, ask, |qos, number| {
            let kind = if qos == 1 { AckKind::Puback } else { AckKind::Pubrec };
            Packet::Ack(Ack::new(kind, number, words::refusal(refusal)))
        });
        self.flow(cx)
    }
}

/// The properties that explain why the log didn't take a message, with the number that it expects of an ordered key.
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

/// Takes the properties of a PUBLISH or a will over into a message (§3.3.2.3). User properties are kept as they are,
/// also those that are read here (MQTT-3.3.2-17, -18).
pub(crate) fn describe(message: &mut Message, properties: &Properties) -> Result<(), PacketError> {
    message.content_type = properties.text(Id::ContentType).filter(|text| !text.is_empty()).map(Into::into);
    let is_text = properties.number(Id::PayloadFormatIndicator).map(|number| number == 1);
    if is_text == Some(true) && std::str::from_utf8(&message.body).is_err() {
        let what = "the payload is not UTF-8, as its format indicator says";
        return Err(PacketError { reason: Reason::PayloadFormatInvalid, what });
    }
    message.event = properties.pair(names::EVENT).map(Into::into);
    message.key = properties.pair(names::KEY).map(Into::into);
    let no_id =
        |_| PacketError { reason: Reason::ImplementationSpecific, what: "`everywire-ref` is the id of a message" };
    let about = properties.pair(names::REF).map(str::parse).transpose().map_err(no_id)?;
    let extras = Extras {
        properties: properties.pairs().map(|(name, value)| (name.into(), value.into())).collect(),
        response_topic: properties.text(Id::ResponseTopic).map(Into::into),
        correlation: properties.binary(Id::CorrelationData).cloned(),
        is_text,
        about,
        ..Extras::default()
    };
    message.extras = (extras != Extras::default()).then(|| Box::new(extras));
    Ok(())
}
