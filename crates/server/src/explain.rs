//! `everywire explain`: what became of a message, recipient by recipient.

use everywire_client::Client;

use crate::cli::Explain;
use crate::{Failure, token};

pub(crate) fn run(arguments: &Explain) -> Result<(), Failure> {
    let remote = &arguments.remote;
    let operator = token::operator(remote.token.as_deref(), &arguments.data)?;
    let mut client = Client::new(&remote.server).map_err(|error| error.to_string())?.with_token(Some(operator));
    let trace = client.trace(&arguments.message).map_err(|error| error.to_string())?;
    let expires = trace.stored.expires.map(|at| format!(", expires {at}")).unwrap_or_default();
    println!("{} at {}, {}, {}{expires}", trace.topic, trace.cursor, trace.stored.time, trace.stored.durability);
    for recipient in &trace.recipients {
        let who = match (&recipient.user, &recipient.device) {
            (Some(user), Some(device)) => format!("{user} on {device}"),
            (Some(user), None) => user.clone(),
            (None, _) => "anonymous".to_owned(),
        };
        let when = recipient.acknowledged.as_ref().or(recipient.written.as_ref()).map(|at| format!(" {at}"));
        let when = when.unwrap_or_default();
        println!("  {:<17}{when}  {} over {} ({})", recipient.fate, who, recipient.wire, recipient.connection);
    }
    if trace.recipients.is_empty() {
        println!("  nobody is subscribed now");
    }
    if !trace.complete {
        println!("  and others: the server tells of {} at most", trace.recipients.len());
    }
    println!("({})", trace.note);
    Ok(())
}
