//! Closing (RFC 6455 §5.5.1) and its codes (§7.4; those from 3000 on as registered by IANA, from 4000 on our own).

use everywire_base::reason::Reason;

use crate::frame::{self, MAX_CONTROL, Opcode};

/// The fault of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// 1002.
    Protocol(&'static str),
    /// 1007.
    NotUtf8,
    /// 1009.
    TooLarge,
}

impl Failure {
    pub(crate) fn code(self) -> u16 {
        match self {
            Failure::Protocol(_) => 1002,
            Failure::NotUtf8 => 1007,
            Failure::TooLarge => 1009,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Failure::Protocol(what) => what,
            Failure::NotUtf8 => "text is UTF-8",
            Failure::TooLarge => "the message is too long (limits.message_bytes)",
        }
    }

    pub(crate) fn reason(self) -> Reason {
        match self {
            Failure::TooLarge => Reason::TooLarge("limits.message_bytes"),
            other => Reason::Protocol(other.text()),
        }
    }
}

/// The code that tells a client the reason for the close.
pub fn code_of(reason: &Reason) -> u16 {
    match reason {
        Reason::PeerClosed | Reason::Done => 1000,
        Reason::Protocol(_) => 1002,
        Reason::TooLarge(_) => 1009,
        Reason::Internal => 1011,
        Reason::Drain(_) => 1012,
        Reason::Overloaded(_) => 1013,
        Reason::SlowConsumer => 1008,
        Reason::Unauthorized => 3000,
        Reason::Forbidden => 3003,
        Reason::Timeout => 3008,
        Reason::Kicked(_) => 4001,
        Reason::TakenOver => 4002,
        Reason::Expired => 4003,
    }
}

/// Writes a close frame.
pub(crate) fn write(code: u16, text: &str, out: &mut Vec<u8>) {
    let mut end = text.len().min(MAX_CONTROL - 2);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let payload = [&code.to_be_bytes()[..], &text.as_bytes()[..end]].concat();
    frame::write(Opcode::Close, false, &payload, out);
}

/// The code that answers a peer's close frame: its own, if it has one.
pub(crate) fn answer(payload: &[u8]) -> Result<Option<u16>, Failure> {
    let (code, text) = match payload {
        [] => return Ok(None),
        [_] => return Err(Failure::Protocol("a close code has two bytes")),
        [a, b, text @ ..] => (u16::from_be_bytes([*a, *b]), text),
    };
    if !may_be_sent(code) {
        return Err(Failure::Protocol("this close code is never sent"));
    }
    simdutf8::basic::from_utf8(text).map_err(|_| Failure::NotUtf8)?;
    Ok(Some(code))
}

/// Whether a peer may send a code (§7.4.1, §7.4.2).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_be_sent() {
        for code in [1000, 1003, 1007, 1014, 3000, 4999] {
            assert_eq!(answer(&u16::to_be_bytes(code)), Ok(Some(code)));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
            assert!(matches!(answer(&u16::to_be_bytes(code)), Err(Failure::Protocol(_))), "{code}");
        }
        assert_eq!(answer(b""), Ok(None));
        assert!(answer(b"\x03").is_err());
        assert_eq!(answer(b"\x03\xe8\xff"), Err(Failure::NotUtf8));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write(4001, &"ü".repeat(100), &mut out);
        assert_eq!((out[0], out[1]), (0x88, 124));
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }
}
