//! `everywire explain`: the result of a message for each recipient.

use crate::cli::Explain;
use crate::shown::shown;
use crate::{Failure, token};

pub(crate) fn run(arguments: &Explain) -> Result<(), Failure> {
    let mut client = token::as_operator(&arguments.operator)?;
    let trace = client.trace(&arguments.message).map_err(|error| error.to_string())?;
    let expires = trace.stored.expires.map(|at| format!(", expires {at}")).unwrap_or_default();
    line(&format!("{} at {}, {}, {}{expires}", trace.topic, trace.cursor, trace.stored.time, trace.stored.durability));
    for recipient in &trace.recipients {
        let who = match (&recipient.user, &recipient.device) {
            (Some(user), Some(device)) => format!("{user} on {device}"),
            (Some(user), None) => user.clone(),
            (None, _) => "anonymous".to_owned(),
        };
        let when = recipient.acknowledged.as_ref().or(recipient.written.as_ref()).map(|at| format!(" {at}"));
        let when = when.unwrap_or_default();
        line(&format!("  {:<17}{when}  {} over {} ({})", recipient.fate, who, recipient.wire, recipient.connection));
    }
    if trace.recipients.is_empty() {
        line("  nobody is subscribed now");
    }
    if !trace.complete {
        line(&format!("  and others: the server tells of {} at most", trace.recipients.len()));
    }
    line(&format!("({})", trace.note));
    Ok(())
}

/// Prints a line. Its names and topics come from others, so that control characters are escaped.
fn line(text: &str) {
    println!("{}", shown(text));
}
