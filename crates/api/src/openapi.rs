//! The API's description (`OpenAPI` 3.1), made from the code: the routes of this crate from their handlers, the HTTP
//! wire's from [`wire`].

mod wire;

use utoipa::OpenApi;

use crate::problem::Problem;
use crate::{changes, conversations, guests, members, registry, rooms, routes, secrets, signals, trace};

/// The list of all that is described.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Everywire",
        description = "One message in, every wire out: publish once, receive by short poll, long poll, Server-Sent Events or a stream of JSON lines. Errors are `application/problem+json` (RFC 9457). A cursor is opaque text that means \"I have everything up to here\"; it is the same on every wire.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        wire::publish,
        wire::batch,
        wire::poll,
        wire::events,
        wire::stream,
        wire::watch,
        wire::polling_publish,
        wire::polling_publish_by_get,
        routes::topics,
        registry::connections,
        registry::kick_connection,
        registry::presence,
        crate::lab::lab,
        secrets::users,
        registry::query,
        registry::user,
        registry::kick_user,
        registry::kick_device,
        secrets::put_secret,
        secrets::delete_secret,
        trace::trace,
        guests::make,
        rooms::rooms,
        rooms::found,
        rooms::room,
        rooms::change,
        rooms::end,
        rooms::join,
        rooms::leave,
        members::invite,
        members::members,
        members::give_role,
        members::remove,
        conversations::list,
        conversations::get,
        conversations::read,
        conversations::set,
        conversations::blocked,
        conversations::block,
        conversations::unblock,
        signals::typing,
        signals::received,
        signals::occupants,
        changes::edit,
        changes::recall,
        changes::react,
        changes::unreact,
        routes::health,
        routes::readiness,
        routes::metrics,
        routes::description,
    ),
    components(schemas(Problem, wire::Envelope, wire::Gap)),
    tags(
        (name = "publish", description = "Messages in"),
        (name = "receive", description = "Messages out"),
        (name = "classic", description = "The classic long-polling walk-through, for a browser's address line"),
        (name = "rooms", description = "Rooms, members, roles"),
        (name = "guests", description = "People without an account"),
        (name = "registry", description = "Who is connected"),
        (name = "server", description = "The server itself"),
    ),
)]
struct Api;

/// The description as JSON.
pub fn description(version: &str) -> String {
    let mut api = Api::openapi();
    version.clone_into(&mut api.info.version);
    // The description is strings, lists and maps with string keys: that is always JSON.
    api.to_json().unwrap_or_default()
}
