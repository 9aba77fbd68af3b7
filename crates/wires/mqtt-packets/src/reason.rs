//! Reason codes (MQTT-5.0 §2.4), and the return codes that 3.1.1 has in their place.

macro_rules! reasons {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        /// A reason code (MQTT-5.0 §2.4).
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Reason {
            $(#[doc = $text] $name = $code,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            /// The standard's name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    Success = 0x00, "Success";
    GrantedQos1 = 0x01, "Granted QoS 1";
    GrantedQos2 = 0x02, "Granted QoS 2";
    DisconnectWithWill = 0x04, "Disconnect with Will Message";
    NoMatchingSubscribers = 0x10, "No matching subscribers";
    NoSubscriptionExisted = 0x11, "No subscription existed";
    ContinueAuthentication = 0x18, "Continue authentication";
    Reauthenticate = 0x19, "Re-authenticate";
    UnspecifiedError = 0x80, "Unspecified error";
    MalformedPacket = 0x81, "Malformed Packet";
    ProtocolError = 0x82, "Protocol Error";
    ImplementationSpecific = 0x83, "Implementation specific error";
    UnsupportedVersion = 0x84, "Unsupported Protocol Version";
    ClientIdNotValid = 0x85, "Client Identifier not valid";
    BadUserNameOrPassword = 0x86, "Bad User Name or Password";
    NotAuthorized = 0x87, "Not authorized";
    ServerUnavailable = 0x88, "Server unavailable";
    ServerBusy = 0x89, "Server busy";
    Banned = 0x8a, "Banned";
    ServerShuttingDown = 0x8b, "Server shutting down";
    BadAuthenticationMethod = 0x8c, "Bad authentication method";
    KeepAliveTimeout = 0x8d, "Keep Alive timeout";
    SessionTakenOver = 0x8e, "Session taken over";
    TopicFilterInvalid = 0x8f, "Topic Filter invalid";
    TopicNameInvalid = 0x90, "Topic Name invalid";
    PacketIdInUse = 0x91, "Packet Identifier in use";
    PacketIdNotFound = 0x92, "Packet Identifier not found";
    ReceiveMaximumExceeded = 0x93, "Receive Maximum exceeded";
    TopicAliasInvalid = 0x94, "Topic Alias invalid";
    PacketTooLarge = 0x95, "Packet too large";
    MessageRateTooHigh = 0x96, "Message rate too high";
    QuotaExceeded = 0x97, "Quota exceeded";
    AdministrativeAction = 0x98, "Administrative action";
    PayloadFormatInvalid = 0x99, "Payload format invalid";
    RetainNotSupported = 0x9a, "Retain not supported";
    QosNotSupported = 0x9b, "QoS not supported";
    UseAnotherServer = 0x9c, "Use another server";
    ServerMoved = 0x9d, "Server moved";
    SharedSubscriptionsNotSupported = 0x9e, "Shared Subscriptions not supported";
    ConnectionRateExceeded = 0x9f, "Connection rate exceeded";
    MaximumConnectTime = 0xa0, "Maximum connect time";
    SubscriptionIdsNotSupported = 0xa1, "Subscription Identifiers not supported";
    WildcardSubscriptionsNotSupported = 0xa2, "Wildcard Subscriptions not supported";
}

impl Reason {
    /// The reason of a code, if it is one.
    pub fn of(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// The code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether it says that something failed.
    pub fn is_failure(self) -> bool {
        self.code() >= 0x80
    }

    /// The return code of a CONNACK of 3.1.1 (MQTT-3.1.1 §3.2.2.3); `None` where 3.1.1 just closes.
    pub fn connack_v3(self) -> Option<u8> {
        match self {
            Reason::Success => Some(0),
            Reason::UnsupportedVersion => Some(1),
            Reason::ClientIdNotValid => Some(2),
            Reason::ServerUnavailable
            | Reason::ServerBusy
            | Reason::ServerShuttingDown
            | Reason::ConnectionRateExceeded
            | Reason::QuotaExceeded => Some(3),
            Reason::BadUserNameOrPassword => Some(4),
            Reason::NotAuthorized | Reason::Banned => Some(5),
            _ => None,
        }
    }

    /// The reason for a return code of 3.1.1.
    pub(crate) fn of_connack_v3(code: u8) -> Option<Self> {
        let known = [
            Reason::Success,
            Reason::UnsupportedVersion,
            Reason::ClientIdNotValid,
            Reason::ServerUnavailable,
            Reason::BadUserNameOrPassword,
            Reason::NotAuthorized,
        ];
        known.get(usize::from(code)).copied()
    }
}
