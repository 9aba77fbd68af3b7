//! The HTTP/1.1 wire: publish, batch, short poll, long poll, server-sent events, stream, and the classic long-polling
//! walk-through; all other routes are calls of the API.
//!
//! [`Http`] is a pure [`Wire`](everywire_wire::Wire): it owns no socket, clock or task. The meaning of a request
//! (`request`, `reading`, `publish` …) and of a response (`reply`, `problem`, `poll`, `stream` …) is apart from
//! HTTP/1.1's framing (`head`, `body`, `receiving`; `http1`), so that another framing can carry the same.
//!
//! It is strict, because a proxy before it may understand otherwise what is repaired here (RFC 9112 §11.2). Streams end
//! with their connection; a message and its `id:` are one shared rendition, and one chunk for HTTP/1.1.
//!
//! The choices that the standards leave:
//!
//! | choice | why |
//! | --- | --- |
//! | a repeated `Content-Length` is 400 also if both are equal | RFC 9112 §6.3 allows it, and nobody sends it by mistake |
//! | a line of the head ends with CR LF, a bare LF is 400 | RFC 9112 §2.2 allows leniency, proxies differ in it |
//! | a refused request with a body ends the connection | the body is not read for nothing; the driver lingers |
//! | a body with `Content-Encoding` is 415 | other wires could not tell it |
//! | a stream that resumes names no `id:` before its first message, gap or heartbeat | a cut right there must not skip the gap |
//! | `format=body` writes what isn't UTF-8 as Base64 | an event stream is UTF-8 |
//! | a page is answered when it is full, or when there is no more | so that `more` is exact |
//! | half a connection: everything that was asked is answered; a long poll waits for a heartbeat's time at most | a waiting reader that says "no more" can't be told from one that is gone until something is written to it |

mod batch;
mod begin;
mod body;
mod call;
mod classic;
mod config;
mod credentials;
mod forwarded;
mod guard;
mod head;
mod http1;
mod look_back;
mod machine;
mod poll;
mod problem;
mod publish;
mod reading;
mod receiving;
mod reply;
mod request;
mod stream;
mod target;
mod waiting;

pub use config::{HttpConfig, HttpListener, Service};
pub use machine::Http;
