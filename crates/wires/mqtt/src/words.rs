//! Refusals, and the ends of connections, in MQTT's words (MQTT-5.0 §2.4).

use everywire_base::ask::{AuthError, PublishError};
use everywire_base::publish::Unfit;
use everywire_base::reason::Reason as End;
use everywire_base::rules::Refusal;
use everywire_mqtt_packets::Reason;

/// The code for an ask that is refused.
pub(crate) fn refusal(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::Unauthorized(_) | Refusal::Forbidden(_) => Reason::NotAuthorized,
        Refusal::TooMany(_) | Refusal::Behind => Reason::QuotaExceeded,
    }
}

/// The code for a message that can't be published.
pub(crate) fn unfit(unfit: &Unfit) -> Reason {
    match unfit {
        Unfit::Refused(why) => refusal(why),
        Unfit::NotJson(_) => Reason::PayloadFormatInvalid,
        Unfit::TooLarge(_) | Unfit::TooFast(_) | Unfit::RetainedUsedUp => Reason::QuotaExceeded,
        Unfit::Name(_) | Unfit::ReservedEvent(_) => Reason::ImplementationSpecific,
    }
}

/// The code for a message that the log didn't take. There is none if the log may have taken it all the same: the
/// message must come again under its number, which tells whether it is there.
pub(crate) fn not_published(error: PublishError) -> Option<Reason> {
    match error {
        PublishError::Busy
        | PublishError::NoEngine
        | PublishError::Stale
        | PublishError::DiskFull
        | PublishError::EngineFull
        | PublishError::KeysFull
        | PublishError::KeysUsedUp => Some(Reason::QuotaExceeded),
        PublishError::KeyConflict | PublishError::OutOfOrder { .. } => Some(Reason::ImplementationSpecific),
        PublishError::OutcomeUnknown | PublishError::Closing | PublishError::Fenced => None,
    }
}

/// The code for a client that isn't let in.
pub(crate) fn not_known(error: &AuthError) -> Reason {
    match error {
        AuthError::Refused(_) | AuthError::Continue { .. } => Reason::BadUserNameOrPassword,
        AuthError::Mismatch(_) => Reason::NotAuthorized,
        AuthError::Unavailable(_) => Reason::ServerBusy,
    }
}

/// The code for the end of a connection.
pub(crate) fn end(reason: &End) -> Reason {
    match reason {
        End::PeerClosed | End::Done => Reason::Success,
        End::Timeout => Reason::KeepAliveTimeout,
        End::Protocol(_) => Reason::ProtocolError,
        End::TooLarge(_) => Reason::PacketTooLarge,
        End::SlowConsumer => Reason::QuotaExceeded,
        End::Unauthorized | End::Forbidden | End::Expired => Reason::NotAuthorized,
        End::Kicked(_) => Reason::AdministrativeAction,
        End::TakenOver => Reason::SessionTakenOver,
        End::Drain(_) => Reason::ServerShuttingDown,
        End::Overloaded(_) => Reason::ServerBusy,
        End::Internal => Reason::UnspecifiedError,
    }
}

/// The same code in a CONNACK.
pub(crate) fn not_let_in(reason: &End) -> Reason {
    match reason {
        End::Drain(_) => Reason::ServerUnavailable,
        End::Kicked(_) => Reason::Banned,
        End::Unauthorized | End::Forbidden | End::Expired => Reason::NotAuthorized,
        _ => Reason::ServerBusy,
    }
}
