//! The client for whom a trusted proxy sends a request: `Forwarded` (RFC 7239), or `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};

use everywire_wire::Context;

use crate::head::Head;

/// Tells the node the addresses through which a request came.
pub(crate) fn came_from(head: &Head<'_, '_>, cx: &mut Context<'_>) {
    let values = |name: &'static str| {
        let fields = head.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.filter_map(|field| std::str::from_utf8(field.value).ok()).flat_map(|value| value.split(','))
    };
    let mut through: Vec<IpAddr> = values("forwarded").filter_map(of_element).collect();
    if through.is_empty() {
        through = values("x-forwarded-for").filter_map(address).collect();
    }
    if !through.is_empty() {
        cx.came_through(&through);
    }
}

/// The address in an element of `Forwarded`.
fn of_element(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?.1;
    address(value.trim().trim_matches('"'))
}

/// An address, perhaps in brackets, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_all_their_forms() {
        for (text, expected) in [
            ("192.0.2.7", Some("192.0.2.7")),
            (" 192.0.2.7:4711 ", Some("192.0.2.7")),
            ("fd00::1", Some("fd00::1")),
            ("[fd00::1]", Some("fd00::1")),
            ("[fd00::1]:80", Some("fd00::1")),
            ("unknown", None),
            ("_hidden", None),
        ] {
            assert_eq!(address(text), expected.map(|text| text.parse().unwrap()), "{text}");
        }
        assert_eq!(of_element("proto=https;For=\"[fd00::1]:80\""), Some("fd00::1".parse().unwrap()));
        assert_eq!(of_element(" for=192.0.2.7"), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(of_element("by=192.0.2.7"), None);
    }
}
