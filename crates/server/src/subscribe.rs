//! `everywire sub`: prints messages as they come, one on a line, and comes back after a cut.
//!
//! Message bodies go to a pipe as they are; on a terminal their control characters are escaped.
//!
//! SIGINT, SIGTERM and a closed output end it with 0, between two messages.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use everywire_base::envelope::Envelope;
use everywire_client::{Client, Event, Over, Subscription, Via};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Failure;
use crate::cli::{Sub, SubVia};
use crate::shown::{shown, shown_lines};

/// The pause after a short poll that found nothing.
const POLL_PAUSE: Duration = Duration::from_secs(1);
/// The time for which a long poll hangs: the default of the server.
const LONG_POLL_WAIT: Duration = Duration::from_secs(20);

pub(crate) fn run(arguments: &Sub) -> Result<(), Failure> {
    let client = Client::new(&arguments.remote.server).map_err(|error| error.to_string())?;
    let client = client.with_token(arguments.remote.token.clone());
    let via = match arguments.via {
        SubVia::Poll => Via::Poll(POLL_PAUSE),
        SubVia::Longpoll => Via::LongPoll(LONG_POLL_WAIT),
        SubVia::Sse => Via::Sse,
        SubVia::Ws => Via::Native(Over::WebSocket),
        SubVia::Tcp => Via::Native(Over::Tcp),
        SubVia::Mqtt => Via::Native(Over::Mqtt),
    };
    end_by_signal()?;
    print_all(arguments, Subscription::new(client, arguments.topics.clone(), via, arguments.after.clone()))
}

/// Ends the process at a signal. The lock on the output waits until a message is printed whole.
fn end_by_signal() -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("signals can't be caught: {error}"))?;
    let wait = move || {
        signals.forever().next();
        let _whole = io::stdout().lock();
        std::process::exit(0);
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(wait);
    thread.map(drop).map_err(|error| format!("no thread for signals: {error}").into())
}

fn print_all(arguments: &Sub, subscription: Subscription) -> Result<(), Failure> {
    let mut left = arguments.count.map(std::num::NonZeroU64::get);
    for event in subscription {
        let printed = match event.map_err(|error| error.to_string())? {
            Event::Message(envelope) | Event::Retained(envelope) => print(&envelope, arguments.json),
            Event::Gap(gap) => {
                let topic = gap.topic.map(|topic| format!(" of {topic}")).unwrap_or_default();
                note(&format!("gap: some messages{topic} are not kept any more"));
                continue;
            }
            Event::Interrupted { why, delay } => {
                note(&format!("{why}; coming back in {:.1} s", delay.as_secs_f64()));
                continue;
            }
            Event::Heartbeat => continue,
        };
        match printed {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(format!("standard output can't be written: {error}").into()),
            Ok(()) => {}
        }
        left = left.map(|left| left - 1);
        if left == Some(0) {
            return Ok(());
        }
    }
    Ok(())
}

fn print(envelope: &Envelope, json: bool) -> io::Result<()> {
    let mut line = if json { serde_json::to_vec(envelope)? } else { envelope.bytes() };
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        line = shown_lines(&String::from_utf8_lossy(&line)).into_owned().into();
    }
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// Writes a note to stderr without ending; nobody reads a closed stderr.
fn note(what: &str) {
    let _ = writeln!(io::stderr(), "everywire: {}", shown(what));
}
