//! Log lines on stderr: for people, or a JSON object a line. Payloads never reach one.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use crate::config::{LogFormat, Settings};
use crate::shown::{Shown, shown};

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// A level, or directives such as `info,everywire_hub=debug`.
pub(crate) fn level(text: &str) -> Result<String, String> {
    let known = |word: &str| LEVELS.contains(&word);
    let good = |part: &str| known(part) || part.rsplit_once('=').is_some_and(|(_, level)| known(level));
    if text.split(',').all(good) && EnvFilter::try_new(text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not a log level: use one of {}, or like \"info,everywire_hub=debug\"",
            LEVELS.join(", ")
        ))
    }
}

/// The filter of log lines. The client of Kafka is silent unless the level names it (`info,krafka=debug`): the code
/// that uses it logs its errors.
fn filter(settings: &Settings) -> EnvFilter {
    EnvFilter::new(format!("krafka=off,{}", settings.log_level))
}

/// Begins to log. A process does this once.
pub(crate) fn start(settings: &Settings) {
    let (filter, handle) = reload::Layer::new(filter(settings));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // A terminal takes control characters for commands, and a line end in a topic would begin a line of its own.
    let fields = format::debug_fn(|writer, field, value| match (field.name(), format!("{value:?}")) {
        ("message", text) => write!(writer, "{}", shown(&text)),
        (name, text) => write!(writer, "{name}={}", shown(&text)),
    });
    let registry = tracing_subscriber::registry().with(filter);
    let begun = match settings.log_format {
        LogFormat::Json => {
            let lines = lines.with_writer(|| Shown(std::io::stderr()));
            registry.with(lines.json().flatten_event(true)).try_init()
        }
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let lines = lines.fmt_fields(fields.delimited(" "));
            registry.with(lines.with_ansi(colours).with_target(false)).try_init()
        }
    };
    if begun.is_ok() {
        // The filter belongs to the first subscriber of a process.
        let _ = FILTER.set(handle);
    }
}

/// Changes the level.
pub(crate) fn change(settings: &Settings) {
    if let Some(Err(error)) = FILTER.get().map(|filter| filter.reload(self::filter(settings))) {
        tracing::error!("the log level could not be changed: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::level;

    #[test]
    fn levels() {
        for text in ["info", "off", "warn,everywire_hub=debug", "everywire_node::worker=trace"] {
            assert!(level(text).is_ok(), "{text}");
        }
        for text in ["", "loud", "INFO,", "everywire_hub", "everywire_hub=loud"] {
            assert!(level(text).is_err(), "{text}");
        }
    }
}
