//! `everywire pub`: publishes one message and prints its id, cursor and durability.

use std::io::{self, Read as _, Write as _};

use everywire_client::{Client, Over, Publish};

use crate::Failure;
use crate::cli::{Pub, PubVia};
use crate::shown::Shown;

pub(crate) fn run(arguments: &Pub) -> Result<(), Failure> {
    let body = body(arguments).map_err(|error| format!("standard input can't be read: {error}"))?;
    let mut message = Publish::new(arguments.topic.clone(), body);
    message.content_type = Some(arguments.content_type.clone().unwrap_or_else(|| plain_type(&message.body).to_owned()));
    (message.event, message.key) = (arguments.event.clone(), arguments.key.clone());
    message.about.clone_from(&arguments.about);
    let client = Client::new(&arguments.remote.server).map_err(|error| error.to_string())?;
    let mut client = client.with_token(arguments.remote.token.clone());
    let published = match arguments.via {
        PubVia::Http => client.publish(&message),
        PubVia::Ws => client.publish_over(Over::WebSocket, &message),
        PubVia::Tcp => client.publish_over(Over::Tcp, &message),
        PubVia::Mqtt => client.publish_over(Over::Mqtt, &message),
    };
    let published = published.map_err(|error| error.to_string())?;
    let line = match arguments.via {
        // An acknowledgement of MQTT has no room for more.
        PubVia::Mqtt => "acknowledged\n".to_owned(),
        _ => format!("{} {} {}\n", published.id, published.cursor, published.durability),
    };
    // The message is published, whether or not somebody reads this line.
    let _ = Shown(io::stdout()).write_all(line.as_bytes());
    Ok(())
}

fn body(arguments: &Pub) -> io::Result<Vec<u8>> {
    match arguments.body.as_deref() {
        Some(body) if body != "-" => Ok(body.as_bytes().to_vec()),
        _ => {
            let mut body = Vec::new();
            io::stdin().lock().read_to_end(&mut body)?;
            Ok(body)
        }
    }
}

fn plain_type(body: &[u8]) -> &'static str {
    match std::str::from_utf8(body) {
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    }
}
