//! A blocking client for the HTTP wires: publish, batch, short poll, long poll, server-sent events, a stream of lines.
//!
//! On every wire a [`Subscription`] is an iterator of [`Event`]s that resumes by cursor after a cut. The cursor moves
//! only when a message is handed over, so that nothing is lost and nothing comes twice.
//!
//! ```no_run
//! use everywire_base::topic::{Filter, Topic};
//! use everywire_client::{Client, Event, Publish, Start, Subscription, Via};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Client::new("http://127.0.0.1:8080")?;
//! client.publish(&Publish::new(Topic::parse("room/42")?, "hi"))?;
//! let room = vec![Filter::parse("room/+")?];
//! for event in Subscription::new(client.another(), room, Via::Sse, Start::Earliest) {
//!     if let Event::Message(message) = event? {
//!         println!("{}", String::from_utf8_lossy(&message.bytes()));
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Not here: TLS (only `http://`), sessions, a runtime. One client is one connection; threads have one each.

mod address;
mod admin;
mod backoff;
mod body;
mod client;
mod connection;
mod error;
mod mqtt;
mod native;
mod publish;
mod read;
mod reader;
pub mod sse;
mod subscription;

pub use address::Server;
pub use admin::{Recipient, RoomLine, RoomMember, Stored, Trace};
pub use backoff::Backoff;
pub use client::{Client, Response};
pub use error::{ClientError, Problem};
pub use everywire_base::cursor::Start;
pub use everywire_base::envelope::Envelope;
pub use native::Over;
pub use publish::{MAX_WINDOW, Publish, Published};
pub use read::{Page, Poll};
pub use subscription::{Event, Gap, Subscription, Via};
