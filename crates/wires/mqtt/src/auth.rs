//! Enhanced authentication (MQTT-5.0 §4.12): SCRAM, before CONNACK and again at any time.

use std::sync::Arc;

use everywire_base::ask::{AuthError, Authenticate, Credentials, Login, ScramHash, ScramStep, SessionWish};
use everywire_base::identity::Identity;
use everywire_base::reason::Reason as End;
use everywire_mqtt_packets::{Auth, Id, Packet, PacketError, Properties, Reason, Value};
use everywire_wire::{Ask, Carrier, Flow};

use crate::Mqtt;
use crate::machine::{NEVER, State};

/// The methods that are offered, by their names (RFC 5802 §4, RFC 7677 §2).
const METHODS: [(&str, ScramHash); 2] = [("SCRAM-SHA-1", ScramHash::Sha1), ("SCRAM-SHA-256", ScramHash::Sha256)];

/// The method of a name.
pub(crate) fn method(name: &str) -> Option<ScramHash> {
    METHODS.iter().find(|(known, _)| *known == name).map(|(_, hash)| *hash)
}

fn name(hash: ScramHash) -> &'static str {
    METHODS.iter().find(|(_, known)| *known == hash).map_or("", |(name, _)| name)
}

/// An exchange that isn't over.
pub(crate) struct Exchange {
    step: ScramStep,
    /// The challenge to the client, and the data that it is told in the end.
    challenge: Option<(Box<str>, Box<str>)>,
}

impl Exchange {
    /// An exchange that begins with the client's data; `None` if that is no text.
    pub(crate) fn begin(hash: ScramHash, properties: &Properties) -> Option<Self> {
        let step = ScramStep { hash, first: data(properties)?, proof: None };
        Some(Self { step, challenge: None })
    }

    /// Whether it is the client's turn.
    pub(crate) fn awaits_client(&self) -> bool {
        self.challenge.is_some() && self.step.proof.is_none()
    }

    /// The method and the data that end it.
    pub(crate) fn end(&self) -> Properties {
        properties(self.step.hash, self.challenge.as_ref().map_or("", |(_, last)| last))
    }
}

fn data(properties: &Properties) -> Option<Box<str>> {
    std::str::from_utf8(properties.binary(Id::AuthenticationData)?).ok().map(Into::into)
}

fn properties(hash: ScramHash, data: &str) -> Properties {
    let mut properties = Properties::default().with_text(Id::AuthenticationMethod, name(hash));
    properties.push(Id::AuthenticationData, Value::Binary(data.to_owned().into()));
    properties
}

fn wrong(what: &'static str) -> PacketError {
    PacketError { reason: Reason::ProtocolError, what }
}

impl Mqtt {
    /// Asks whether a step proves the client's identity.
    pub(crate) fn ask_step(&mut self, cx: &mut Carrier<'_, '_>, device: Option<Box<str>>) {
        if let Some(exchange) = &self.unsettled.exchange {
            let credentials = Credentials::Scram(exchange.step.clone());
            self.ask(cx, Ask::Authenticate(Authenticate::new(credentials, device)));
        }
    }

    /// Asks the client for its proof.
    pub(crate) fn challenge(&mut self, cx: &mut Carrier<'_, '_>, challenge: Box<str>, last: Box<str>) -> Flow {
        if let Some(exchange) = &mut self.unsettled.exchange {
            let properties = properties(exchange.step.hash, &challenge);
            exchange.challenge = Some((challenge, last));
            self.send(cx, Packet::Auth(Auth { reason: Reason::ContinueAuthentication, properties }));
        }
        self.flow(cx)
    }

    /// Takes an AUTH with the proof, before CONNACK or after it.
    pub(crate) fn go_on(&mut self, cx: &mut Carrier<'_, '_>, auth: &Auth, device: Option<Box<str>>) -> Flow {
        let is_turn = |exchange: &&mut Box<Exchange>| exchange.awaits_client();
        let Some(exchange) = self.unsettled.exchange.as_mut().filter(is_turn) else {
            return self.fail(cx, wrong("an AUTH out of turn"));
        };
        let is_same = auth.properties.text(Id::AuthenticationMethod) == Some(name(exchange.step.hash));
        let challenge = exchange.challenge.as_ref().map(|(challenge, _)| challenge.clone());
        match (auth.reason, challenge, data(&auth.properties)) {
            (Reason::ContinueAuthentication, Some(challenge), Some(said)) if is_same => {
                exchange.step.proof = Some((challenge, said));
                self.ask_step(cx, device);
                self.flow(cx)
            }
            // MQTT-4.12.0-5.
            _ => self.fail(cx, wrong("an AUTH of another method, or without a proof")),
        }
    }

    /// Takes an AUTH after CONNACK (§4.12.1).
    pub(crate) fn reauthenticate(&mut self, cx: &mut Carrier<'_, '_>, auth: &Auth) -> Flow {
        let State::Open(client) = &self.state else { return self.flow(cx) };
        let device = client.identity.as_ref().and_then(|identity| identity.device.clone());
        if auth.reason != Reason::Reauthenticate {
            return self.go_on(cx, auth, device);
        }
        // MQTT-4.12.1-1: the method of CONNECT, and no other.
        let hash = auth.properties.text(Id::AuthenticationMethod).and_then(method);
        let hash = hash.filter(|hash| client.method == Some(*hash) && self.unsettled.exchange.is_none());
        let Some(exchange) = hash.and_then(|hash| Exchange::begin(hash, &auth.properties)) else {
            return self.fail(cx, wrong("an AUTH of a method that CONNECT hasn't named"));
        };
        self.unsettled.exchange = Some(Box::new(exchange));
        self.ask_step(cx, device);
        self.flow(cx)
    }

    /// Takes the result of an exchange on an open connection.
    pub(crate) fn reauthenticated(
        &mut self,
        cx: &mut Carrier<'_, '_>,
        result: Result<Arc<Identity>, AuthError>,
    ) -> Flow {
        let State::Open(client) = &mut self.state else { return self.flow(cx) };
        let identity = match result {
            Ok(identity) if client.identity.as_ref().is_some_and(|former| former.user == identity.user) => identity,
            Err(AuthError::Continue { challenge, last }) => return self.challenge(cx, challenge, last),
            // MQTT-4.12.1-2.
            _ => return self.end(cx, Reason::NotAuthorized, End::Unauthorized),
        };
        client.expires = cx.cx.expiry(Some(&identity)).unwrap_or(NEVER);
        client.identity = Some(Arc::clone(&identity));
        if let Some(exchange) = self.unsettled.take_exchange() {
            self.send(cx, Packet::Auth(Auth { reason: Reason::Success, properties: exchange.end() }));
        }
        let (identity, session) = (Some(identity), SessionWish::None);
        self.ask(cx, Ask::Login(Login { identity, inbox: true, session, ..Login::default() }));
        self.flow(cx)
    }
}
