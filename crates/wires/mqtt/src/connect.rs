//! CONNECT and CONNACK (MQTT-5.0 §3.1, §3.2): the client's identity, and its session.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{AuthError, Authenticate, Credentials, Login, SessionWish, Welcome, Will};
use everywire_base::clock::Monotonic;
use everywire_base::identity::Identity;
use everywire_base::notice::{Notice, Refused};
use everywire_base::reason::Reason as End;
use everywire_base::record::{Entry, Message};
use everywire_base::rules::{Anonymous, Refusal};
use everywire_base::system;
use everywire_base::topic::Topic;
use everywire_mqtt_packets::{Auth, Connack, Connect, Id, Packet, PacketError, Properties, Reason, Version, names};
use everywire_wire::{Ask, Carrier, Flow};

use crate::auth::Exchange;
use crate::deliver::{AddedProperties, Aliases, Extensions};
use crate::machine::{Client, NEVER, State};
use crate::{Mqtt, auth, publish, words};

/// The receive maximum of a client that doesn't say one (§3.1.2.11.3), or can't in 3.1.1.
const ANY_NUMBER: u32 = u16::MAX as u32;
/// User names with which the password is a token.
const TOKEN_USERS: [&str; 2] = ["", "token"];

/// A client that isn't let in yet.
pub(crate) struct Entering {
    until: Monotonic,
    connect: Connect,
    identity: Option<Arc<Identity>>,
}

impl Entering {
    pub(crate) fn until(&self) -> Monotonic {
        self.until
    }

    pub(crate) fn wants_texts(&self) -> bool {
        self.connect.properties.number(Id::RequestProblemInformation) != Some(0)
    }

    /// The longest packet that it takes; 0 is any.
    pub(crate) fn maximum_packet(&self) -> u32 {
        self.number(Id::MaximumPacketSize, 0)
    }

    /// The time that its session lives after the connection, at most `most`.
    fn expiry(&self, most: Duration) -> Duration {
        let wanted = match self.connect.version {
            Version::V5 => Some(self.connect.properties.number(Id::SessionExpiryInterval).unwrap_or(0)),
            _ if self.connect.clean_start => Some(0),
            _ => None,
        };
        // §3.1.2.11.2: the highest number is for ever.
        let wanted = wanted.filter(|seconds| *seconds < u32::MAX);
        wanted.map_or(most, |seconds| Duration::from_secs(seconds.into()).min(most))
    }

    fn number(&self, id: Id, default: u32) -> u32 {
        self.connect.properties.number(id).unwrap_or(default)
    }
}

impl Mqtt {
    /// Refuses a CONNECT that could not be read. The client is told why, as far as its version has words for it
    /// (MQTT-3.1.4-1, -2).
    pub(crate) fn refuse_connect(&mut self, cx: &mut Carrier<'_, '_>, body: &[u8], error: PacketError) -> Flow {
        let is_unknown = error.reason == Reason::UnsupportedVersion;
        if Connect::version(body) == Some(Version::V5) || (is_unknown && Connect::level(body) > Some(5)) {
            self.version = Version::V5;
        }
        if self.version == Version::V5 || error.reason.connack_v3().is_some() {
            let properties = Properties::default().with_text(Id::ReasonString, error.what);
            self.send(cx, Packet::Connack(Connack { session_present: false, reason: error.reason, properties }));
        }
        Flow::Closed(End::Protocol(error.what))
    }

    pub(crate) fn connect(&mut self, cx: &mut Carrier<'_, '_>, connect: Connect) -> Flow {
        self.version = connect.version;
        let shown = credentials(&connect);
        let device = Some(connect.client_id.clone()).filter(|id| !id.is_empty());
        let needs_name = match connect.version {
            Version::V31 => true,
            Version::V3 => !connect.clean_start,
            Version::V5 => false,
        } && connect.client_id.is_empty();
        let is_too_long = system::session_topic(None, &connect.client_id).is_none();
        let method = connect.properties.text(Id::AuthenticationMethod).map(auth::method);
        let exchange = method.flatten().and_then(|hash| Exchange::begin(hash, &connect.properties));
        let until = cx.cx.now.monotonic + cx.cx.limits.login;
        let identity = match &mut self.state {
            State::Connecting(connecting) => connecting.identity.take(),
            State::Entering(_) | State::Open(_) => None,
        };
        self.state = State::Entering(Box::new(Entering { until, connect, identity }));
        if needs_name {
            // MQTT-3.1.3-8 of 3.1.1; 3.1 knows none without a name.
            return self.refuse(cx, Reason::ClientIdNotValid, "a session that lasts needs a client id");
        }
        if is_too_long {
            return self.refuse(cx, Reason::ClientIdNotValid, "the client id is too long");
        }
        match (method, exchange) {
            (None, _) => {}
            (Some(None), _) => {
                let why = "SCRAM-SHA-1 and SCRAM-SHA-256 are offered";
                return self.refuse(cx, Reason::BadAuthenticationMethod, why);
            }
            (Some(_), None) => return self.refuse(cx, Reason::ProtocolError, "SCRAM begins with the client's data"),
            (Some(_), Some(exchange)) => {
                self.unsettled.exchange = Some(Box::new(exchange));
                self.ask_step(cx, device);
                return self.flow(cx);
            }
        }
        match shown {
            Ok(Some(credentials)) => {
                let asked = Authenticate::new(credentials, device);
                self.ask(cx, Ask::Authenticate(asked));
                self.flow(cx)
            }
            Ok(None) => self.enter(cx),
            Err(_) if is_needless(cx) => self.enter(cx),
            Err(what) => self.refuse(cx, Reason::BadUserNameOrPassword, what),
        }
    }

    /// Lets a client in without credentials of its own: under the identity that the upgrade has proved, or anonymous.
    fn enter(&mut self, cx: &mut Carrier<'_, '_>) -> Flow {
        let State::Entering(entering) = &mut self.state else { return self.flow(cx) };
        let device = Some(&*entering.connect.client_id).filter(|id| !id.is_empty());
        if let Some(identity) = &mut entering.identity {
            match identity.at_device(device) {
                Ok(placed) => *identity = placed,
                Err(error) => return self.refuse(cx, Reason::NotAuthorized, &error.to_string()),
            }
        }
        if let Err(refusal) = cx.cx.rules.may_enter(entering.identity.as_deref()) {
            return self.refuse(cx, Reason::NotAuthorized, &refusal.to_string());
        }
        self.login(cx)
    }

    pub(crate) fn authenticated(&mut self, cx: &mut Carrier<'_, '_>, result: Result<Arc<Identity>, AuthError>) -> Flow {
        let State::Entering(entering) = &mut self.state else { return self.reauthenticated(cx, result) };
        let identity = match result {
            Ok(identity) => identity,
            Err(AuthError::Continue { challenge, last }) => return self.challenge(cx, challenge, last),
            Err(AuthError::Refused(_)) if self.unsettled.exchange.is_none() && is_needless(cx) => {
                return self.enter(cx);
            }
            Err(error) => return self.refuse(cx, words::not_known(&error), &error.to_string()),
        };
        let named = entering.connect.user_name.as_deref().filter(|name| !TOKEN_USERS.contains(name));
        if named.is_some_and(|named| identity.user.as_deref() != Some(named)) {
            return self.refuse(cx, Reason::NotAuthorized, "the token is another user's");
        }
        entering.identity = Some(identity);
        self.login(cx)
    }

    fn login(&mut self, cx: &mut Carrier<'_, '_>) -> Flow {
        let most = self.longest_session(cx);
        let State::Entering(entering) = &mut self.state else { return self.flow(cx) };
        let expiry = entering.expiry(most);
        let identity = entering.identity.clone();
        let id = entering.connect.client_id.clone();
        let fresh = entering.connect.clean_start;
        let window = entering.number(Id::ReceiveMaximum, ANY_NUMBER) as u16;
        let will = match entering.connect.will.take().map(|will| Self::will(cx, will, identity.as_ref())).transpose() {
            Ok(will) => will.map(Box::new),
            Err((reason, what)) => return self.refuse(cx, reason, &what),
        };
        let session = SessionWish::Named { id, expiry, fresh, window };
        let login = Login { inbox: identity.is_some(), identity, session, will, ..Login::default() };
        self.ask(cx, Ask::Login(login));
        self.flow(cx)
    }

    /// The longest that a session outlives its connection.
    fn longest_session(&self, cx: &Carrier<'_, '_>) -> Duration {
        let most = cx.cx.limits.session_expiry_max;
        self.config.session_expiry_max.map_or(most, |own| own.min(most))
    }

    fn will(
        cx: &mut Carrier<'_, '_>,
        will: everywire_mqtt_packets::Will,
        who: Option<&Arc<Identity>>,
    ) -> Result<Will, (Reason, String)> {
        let topic = Topic::parse(&will.topic).map_err(|error| (Reason::TopicNameInvalid, error.to_string()))?;
        let ttl = will.properties.number(Id::MessageExpiryInterval).map(|s| Duration::from_secs(s.into()));
        let delay = Duration::from_secs(will.properties.number(Id::WillDelayInterval).unwrap_or(0).into());
        let mut message = Message::new(topic, will.payload);
        (message.qos, message.retain) = (will.qos, will.retain);
        message.from = who.and_then(|who| who.user.clone());
        publish::describe(&mut message, &will.properties).map_err(|error| (error.reason, error.what.to_owned()))?;
        let draft = cx.cx.draft(message, who).map_err(|unfit| (words::unfit(&unfit), unfit.to_string()))?;
        match draft.entry {
            Entry::Message(message) => Ok(Will { message, durability: draft.durability, ttl, delay }),
            Entry::System(_) => Err((Reason::NotAuthorized, "the topic is the server's own".to_owned())),
        }
    }

    pub(crate) fn welcomed(&mut self, cx: &mut Carrier<'_, '_>, result: Result<Welcome, Refusal>) -> Flow {
        let welcome = match result {
            Ok(welcome) => welcome,
            Err(refusal) => return self.refuse(cx, words::refusal(&refusal), &refusal.to_string()),
        };
        let State::Entering(entering) = &self.state else { return self.flow(cx) };
        let now = cx.cx.now.monotonic;
        let keep_alive = self.keep_alive(entering.connect.keep_alive);
        let patience = u32::from(keep_alive) * 1500;
        let identity = entering.identity.clone();
        let user = identity.as_ref().and_then(|identity| identity.user.as_deref());
        let session = welcome.session.as_deref().unwrap_or_default();
        let properties = &entering.connect.properties;
        let asks = properties.pair(names::ASKS) == Some("1");
        let client = Client {
            expires: cx.cx.expiry(identity.as_deref()).unwrap_or(NEVER),
            origin: system::session_topic(user, session).map_or(0, |topic| topic.stable_hash()),
            patience,
            beat: if patience > 0 { now + Duration::from_millis(patience.into()) } else { NEVER },
            maximum_packet: entering.maximum_packet(),
            wants_texts: entering.wants_texts(),
            method: properties.text(Id::AuthenticationMethod).and_then(auth::method),
            is_brief: welcome.expiry.is_zero(),
            is_bridge: entering.connect.is_bridge,
            extensions: Extensions::boxed(
                Aliases::for_client(entering.number(Id::TopicAliasMaximum, 0), self.config.topic_alias_maximum),
                asks.then(|| AddedProperties::always(&cx.cx.position.cursor)),
            ),
            identity,
            ..Client::default()
        };
        let properties = match self.version {
            Version::V5 => self.announced(cx, entering, &welcome, keep_alive),
            _ => Properties::default(),
        };
        self.unsettled.take_exchange();
        self.state = State::Open(client);
        let (session_present, reason) = (welcome.resumed, Reason::Success);
        self.send(cx, Packet::Connack(Connack { session_present, reason, properties }));
        self.flow(cx)
    }

    /// The properties of CONNACK that differ from the client's wishes, and the server's bounds (§3.2.2.3).
    fn announced(&self, cx: &Carrier<'_, '_>, entering: &Entering, welcome: &Welcome, keep_alive: u16) -> Properties {
        let mut properties = self.unsettled.exchange.as_ref().map(|exchange| exchange.end()).unwrap_or_default();
        let wanted = entering.number(Id::SessionExpiryInterval, 0);
        let expiry = welcome.expiry.as_secs() as u32;
        if expiry != wanted {
            properties = properties.with(Id::SessionExpiryInterval, expiry);
        }
        properties = properties.with(Id::ReceiveMaximum, self.config.receive_maximum);
        properties = properties.with(Id::MaximumPacketSize, self.bound(cx) as u32);
        if entering.connect.client_id.is_empty() {
            let assigned = welcome.session.as_deref().unwrap_or_default();
            properties = properties.with_text(Id::AssignedClientIdentifier, assigned);
        }
        if self.config.topic_alias_maximum > 0 {
            properties = properties.with(Id::TopicAliasMaximum, self.config.topic_alias_maximum);
        }
        if keep_alive != entering.connect.keep_alive {
            properties = properties.with(Id::ServerKeepAlive, keep_alive);
        }
        properties
    }

    /// The keep-alive that holds: only clients of 5.0 can be told another than theirs (MQTT-3.1.2-21).
    fn keep_alive(&self, wanted: u16) -> u16 {
        let most = self.config.server_keep_alive.filter(|_| self.version == Version::V5);
        most.filter(|most| wanted == 0 || wanted > *most).unwrap_or(wanted)
    }

    /// Refuses a client that isn't let in.
    fn refuse(&mut self, cx: &mut Carrier<'_, '_>, reason: Reason, why: &str) -> Flow {
        if let State::Entering(entering) = &self.state {
            let connect = &entering.connect;
            let who = connect.user_name.as_deref().unwrap_or(&connect.client_id);
            cx.cx.notice(Notice::new(Refused::Login, why).of(who));
        }
        self.say_end(cx, reason, why);
        Flow::Closed(match reason {
            Reason::BadUserNameOrPassword | Reason::NotAuthorized => End::Unauthorized,
            Reason::ServerBusy | Reason::QuotaExceeded => End::Overloaded(Duration::from_secs(1)),
            _ => End::Protocol("a CONNECT that is refused"),
        })
    }

    /// Takes an AUTH before CONNACK (§4.12).
    pub(crate) fn go_on_entering(&mut self, cx: &mut Carrier<'_, '_>, auth: &Auth) -> Flow {
        let State::Entering(entering) = &self.state else { return self.flow(cx) };
        let device = Some(entering.connect.client_id.clone()).filter(|id| !id.is_empty());
        self.go_on(cx, auth, device)
    }
}

/// Whether nobody can have an identity here, so that credentials are of no use: many clients have some all the same.
fn is_needless(cx: &Carrier<'_, '_>) -> bool {
    cx.cx.rules.anonymous == Anonymous::Everything
}

/// The credentials that a client shows; a name alone shows none, nor does an empty password without a name.
fn credentials(connect: &Connect) -> Result<Option<Credentials>, &'static str> {
    let Some(password) = &connect.password else { return Ok(None) };
    let password = std::str::from_utf8(password).map_err(|_| "a password or a token is UTF-8")?;
    let user = connect.user_name.as_deref().unwrap_or_default();
    if user.is_empty() && password.is_empty() {
        return Ok(None);
    }
    let is_token = TOKEN_USERS.contains(&user) || looks_like_a_token(password);
    if is_token {
        return Ok(Some(Credentials::Token(password.into())));
    }
    Ok(Some(Credentials::Password { user: user.into(), password: password.into() }))
}

/// Whether a password has the three parts of a token (RFC 7515 §3.1).
fn looks_like_a_token(password: &str) -> bool {
    password.starts_with("eyJ") && password.split('.').count() == 3
}
