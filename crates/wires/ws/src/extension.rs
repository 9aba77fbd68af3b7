//! Negotiation of `permessage-deflate` (RFC 6455 §9.1, RFC 7692 §5 and §7.1).

use crate::deflate::MIN_WINDOW_BITS;

/// The parameters that were agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Agreed {
    /// The window that we compress with.
    pub(crate) bits: u8,
    /// Whether the client asked for it.
    says_bits: bool,
}

impl Agreed {
    /// The value of `Sec-WebSocket-Extensions` in the response.
    pub(crate) fn response(self) -> String {
        let bits = if self.says_bits { format!("; server_max_window_bits={}", self.bits) } else { String::new() };
        format!("permessage-deflate; server_no_context_takeover; client_no_context_takeover{bits}")
    }
}

/// The first offer that can be accepted, among the values of `Sec-WebSocket-Extensions`.
pub(crate) fn negotiate<'a>(values: impl Iterator<Item = &'a str>) -> Option<Agreed> {
    values.flat_map(|value| value.split(',')).find_map(accept)
}

/// Accepts one offer, if it is well-formed and can be kept.
fn accept(offer: &str) -> Option<Agreed> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return None;
    }
    let mut agreed = Agreed { bits: 15, says_bits: false };
    let mut seen = [false; 4];
    for part in parts {
        let (name, value) = part.split_once('=').map_or((part, None), |(n, v)| (n.trim(), Some(unquote(v.trim()))));
        let nth = match (name, value) {
            ("server_no_context_takeover", None) => 0,
            ("client_no_context_takeover", None) => 1,
            ("server_max_window_bits", Some(bits)) => {
                agreed = Agreed { bits: window(bits).filter(|bits| *bits >= MIN_WINDOW_BITS)?, says_bits: true };
                2
            }
            // The client may use a window as large as we can read: 15 bits.
            ("client_max_window_bits", bits) => {
                if let Some(bits) = bits {
                    window(bits)?;
                }
                3
            }
            _ => return None,
        };
        if std::mem::replace(&mut seen[nth], true) {
            return None;
        }
    }
    Some(agreed)
}

/// Reads a window's bits (§7.1.2): 8 to 15, without leading zeros.
fn window(bits: &str) -> Option<u8> {
    bits.parse().ok().filter(|n: &u8| (8..=15).contains(n) && !bits.starts_with(['0', '+']))
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(value: &str) -> Option<u8> {
        negotiate([value].into_iter()).map(|agreed| agreed.bits)
    }

    #[test]
    fn offers() {
        assert_eq!(bits("permessage-deflate"), Some(15));
        assert_eq!(bits("permessage-deflate; client_max_window_bits"), Some(15));
        assert_eq!(bits("permessage-deflate; client_max_window_bits=9; server_max_window_bits=\"10\""), Some(10));
        assert_eq!(bits("x-other, permessage-deflate;server_no_context_takeover"), Some(15));
        assert_eq!(bits("permessage-deflate; server_max_window_bits=8, permessage-deflate"), Some(15));
        for declined in [
            "",
            "deflate-frame",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; something",
        ] {
            assert_eq!(bits(declined), None, "{declined}");
        }
    }

    #[test]
    fn the_response_says_what_holds() {
        let agreed = negotiate(["permessage-deflate; server_max_window_bits=12"].into_iter()).unwrap();
        assert!(agreed.response().ends_with("; server_max_window_bits=12"));
        let agreed = negotiate(["permessage-deflate"].into_iter()).unwrap();
        assert_eq!(agreed.response(), "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    }
}
