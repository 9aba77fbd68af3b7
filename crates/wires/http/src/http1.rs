//! HTTP/1.1's framing of responses: status line, header fields, lengths, chunks (RFC 9112 §4, §6, §7.1). Every response
//! goes through here, and no other module writes such bytes, so that another framing is another module beside this one.

use everywire_base::parcel::Format as Name;

use crate::head::Version;
use crate::reply::{self, After, Length, Manner};

/// Tells a client that waits with its body to send it (RFC 9110 §15.2.1).
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The header fields of a response under way.
pub(crate) struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    /// Adds a field.
    pub(crate) fn add(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }

    /// Adds a field with a number.
    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.add(name, itoa::Buffer::new().format(value).as_bytes());
    }
}

/// Appends the whole head of a response, with the fields that `fields` adds in its midst.
pub(crate) fn head(
    out: &mut Vec<u8>,
    manner: &Manner,
    (status, length): (u16, Length),
    fields: impl FnOnce(&mut Fields<'_>),
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    reply::number(u64::from(status), out);
    out.push(b' ');
    out.extend_from_slice(reply::phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut head = Fields(out);
    fields(&mut head);
    match length {
        Length::Bytes(n) => head.number("Content-Length", n as u64),
        Length::Open if Coding::of(manner) == Coding::Chunked => head.add("Transfer-Encoding", b"chunked"),
        Length::None | Length::Open => {}
    }
    reply::shared_fields(&mut head, manner);
    match (manner.after, manner.version) {
        (After::Close | After::Leave { .. }, _) => head.add("Connection", b"close"),
        (After::KeepAlive, Version::Http10) => head.add("Connection", b"keep-alive"),
        (After::KeepAlive, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// The coding that tells the parts of an open body apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Coding {
    /// None: HTTP/1.0, whose body ends with the connection.
    Bare,
    /// Each is a chunk.
    Chunked,
}

impl Coding {
    pub(crate) fn of(manner: &Manner) -> Self {
        match manner.version {
            Version::Http10 => Coding::Bare,
            Version::Http11 => Coding::Chunked,
        }
    }

    /// Appends the bytes that `write` appends, framed.
    pub(crate) fn frame(self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        write(out);
        if self == Coding::Chunked && out.len() > start {
            let size = format!("{:x}\r\n", out.len() - start);
            out.splice(start..start, size.into_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The bytes after the last part.
    pub(crate) fn end(self) -> &'static [u8] {
        match self {
            Coding::Bare => b"",
            Coding::Chunked => b"0\r\n\r\n",
        }
    }

    /// The name of a rendition that is framed so.
    pub(crate) fn name(self, name: &'static str) -> Name {
        match self {
            Coding::Bare => Name::bare(name),
            Coding::Chunked => Name { name, framing: "chunked" },
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_other_module_writes_the_framing_of_a_response() {
        let others = [
            ("batch", include_str!("batch.rs")),
            ("call", include_str!("call.rs")),
            ("classic", include_str!("classic.rs")),
            ("look_back", include_str!("look_back.rs")),
            ("machine", include_str!("machine.rs")),
            ("poll", include_str!("poll.rs")),
            ("problem", include_str!("problem.rs")),
            ("publish", include_str!("publish.rs")),
            ("receiving", include_str!("receiving.rs")),
            ("reply", include_str!("reply.rs")),
            ("request", include_str!("request.rs")),
            ("stream", include_str!("stream.rs")),
            ("waiting", include_str!("waiting.rs")),
        ];
        for (module, source) in others {
            for words in
                ["b\"HTTP/1", "\"Content-Length\"", "\"Transfer-Encoding\"", "\"Connection\"", "b\"0\\r\\n", "\": \""]
            {
                assert!(!source.contains(words), "{module} writes {words}: that is for http1 alone");
            }
        }
    }
}
