//! Changing messages: edit, recall, react (`docs/rooms.md`).
//!
//! A change is a message of its own on the topic, which names the message that it changes. The sum of all changes of a
//! message is a record of its own. That record is guarded, so that of two changes at the same moment none is lost.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use everywire_base::access::{Role, room_of};
use everywire_base::ask::{Draft, Guard, PublishError, Published, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::id::MessageId;
use everywire_base::identity::{Identity, decode, encode};
use everywire_base::publish::to_self;
use everywire_base::record::{Durability, Extras, Message, Record, System};
use everywire_base::system;
use everywire_base::topic::{Filter, Topic};
use everywire_rooms::Rooms;
use everywire_rooms::fold::{Change, Changer, Fold, Unchanged};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::control::{Control, Unanswered, answered};
use crate::problem::Problem;
use crate::rooms::{ATTEMPTS, asker, read};

type Node = State<Arc<dyn Control>>;

/// The new text of a message.
#[derive(Deserialize, ToSchema)]
pub(crate) struct EditWish {
    /// The whole text.
    body: String,
}

/// The message that tells of the change, or the changed message itself if it was so already.
#[derive(Serialize, ToSchema)]
pub(crate) struct Changed {
    id: String,
    topic: String,
    cursor: String,
    durability: &'static str,
}

impl From<Unchanged> for Problem {
    fn from(why: Unchanged) -> Self {
        let status = match why {
            Unchanged::Gone => StatusCode::NOT_FOUND,
            Unchanged::NotYours | Unchanged::TooLate => StatusCode::FORBIDDEN,
            Unchanged::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Unchanged::Key => StatusCode::BAD_REQUEST,
        };
        Self::new(status, why.to_string())
    }
}

/// A message that a user wants to change, and the topic on which its changes are told.
struct Subject<'a> {
    record: &'a Record,
    message: &'a Message,
    user: &'a str,
    /// The topic on which changes are told: the room's, or the other user's inbox.
    topic: Topic,
    /// The other user, if it is an exchange of two.
    other: Option<String>,
    role: Role,
    /// The guards of the decision that the user may publish here.
    guards: Box<[Guard]>,
}

impl<'a> Subject<'a> {
    /// A user may change messages where it may publish. A message that the user may not see counts as gone.
    fn of(control: &Arc<dyn Control>, record: &'a Record, who: &'a Identity, user: &'a str) -> Result<Self, Problem> {
        let message = record.message().ok_or(Unchanged::Gone)?;
        let (name, rules) = (message.topic.as_str(), control.rules());
        let (topic, other, role) = if let Some(inbox) = name.strip_prefix("user/").filter(|inbox| !inbox.contains('/'))
        {
            let owner = decode(inbox);
            let author = message.author().unwrap_or_default().to_owned();
            let other = if owner == user { author } else { owner };
            if other.is_empty() || (message.author() != Some(user) && encode(user) != inbox) {
                return Err(Unchanged::Gone.into());
            }
            let topic = Topic::parse(&format!("user/{}", encode(&other)));
            (topic.map_err(|error| Problem::malformed(error.to_string()))?, Some(other), Role::None)
        } else if let Some(level) = room_of(name) {
            rules.may_subscribe(Some(who), &Filter::Exact(message.topic.clone())).map_err(|_| Unchanged::Gone)?;
            let room = control.rooms().room(level).filter(|room| record.offset > room.founded);
            let role = if who.admin { Role::Owner } else { room.map_or(Role::None, |room| room.role(user)) };
            (message.topic.clone(), None, role)
        } else {
            return Err(Problem::new(StatusCode::FORBIDDEN, "messages of rooms and inboxes can be changed, no others"));
        };
        let guards = rules.judge_publish(Some(who), &topic)?;
        Ok(Self { record, message, user, topic, other, role, guards })
    }

    fn by(&self, control: &Arc<dyn Control>, now: UnixMillis) -> Changer<'_> {
        let window_ms = control.limits().rooms.edit_window.as_millis() as u64;
        let age_ms = now.0.saturating_sub(self.record.time.0);
        Changer { user: self.user, author: self.message.author(), role: self.role, age_ms, window_ms }
    }

    /// The message that tells of a change.
    fn told(&self, rooms: &Rooms, change: Change<'_>) -> Message {
        let (event, content_type, body) = match change {
            Change::Edit(text) => ("edit", Some("text/plain"), text.to_owned()),
            Change::Recall => ("recall", None, String::new()),
            Change::React { key, off: false } => ("react", Some("text/plain"), key.to_owned()),
            Change::React { key, off: true } => {
                ("react", Some("application/json"), serde_json::json!({"key": key, "off": true}).to_string())
            }
        };
        let extras = Some(Box::new(Extras { about: Some(self.record.id()), ..Extras::default() }));
        let (event, content_type) = (Some(event.into()), content_type.map(Into::into));
        let message = Message { event, content_type, extras, ..Message::new(self.topic.clone(), body.into_bytes()) };
        rooms.signed(message, room_of(self.topic.as_str()).unwrap_or_default(), Some(self.user))
    }

    /// The drafts for the log: the change, and the sum of the changes, if that isn't there already. In an exchange of
    /// two the sum goes first, since the change itself is two messages.
    fn drafts(
        &self,
        control: &Arc<dyn Control>,
        change: Change<'_>,
        (fold, as_of): (Option<&Fold>, Offset),
    ) -> Option<Vec<Draft>> {
        let topic = system::fold_topic(self.record.id())?;
        let guard = Guard::of(&topic, as_of);
        let rules = control.rules();
        let rule = rules.of(&self.topic);
        let expires = Some(self.record.time.after(rule.history.max_age));
        let summary = fold.map(|fold| System { expires, ..system::record(topic, fold, true) });
        let told = self.told(control.rooms(), change);
        let durability = rule.durability;
        let Some(other) = &self.other else {
            let guards = [&*self.guards, &[guard]].concat().into();
            return Some(vec![Draft {
                pair: summary.map(|fold| Box::new(fold.into())),
                guards,
                ..Draft::new(told, durability)
            }]);
        };
        let first = summary.map(|fold| Draft { guards: Box::new([guard]), ..Draft::new(fold, Durability::Fsync) });
        let pair = to_self(&told, self.user, other).filter(|_| other != self.user).map(|copy| Box::new(copy.into()));
        let second = Draft { pair, guards: self.guards.clone(), ..Draft::new(told, durability) };
        Some(first.into_iter().chain([second]).collect())
    }
}

/// Changes a message, and decides anew if somebody else changed it at the same moment.
async fn change(
    control: &Arc<dyn Control>,
    caller: &Caller,
    id: &str,
    change: Change<'_>,
) -> Result<Json<Changed>, Problem> {
    let asker = asker(control, caller)?;
    let user = asker.needs_user()?;
    let Some(who) = &caller.0 else { return Err(Unchanged::Gone.into()) };
    let id: MessageId = id.parse().map_err(|_| Problem::malformed("this is no message id"))?;
    let record = answered(control.message(id)).await?.ok_or(Unchanged::Gone)?;
    if let Change::Edit(text) = change {
        let most = record.message().map_or(0, |message| control.rules().of(&message.topic).max_message);
        if text.len() > most {
            let what = format!("the body is too large: a message of this topic has at most {most} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, what));
        }
    }
    for _ in 0..ATTEMPTS {
        let subject = Subject::of(control, &record, who, user)?;
        let topic = system::fold_topic(id).ok_or(Unchanged::Gone)?;
        let question = vec![(topic, ReadKind::Retained { after: None, max_records: 1 })];
        let page = answered(control.pages(question)).await?.pop().ok_or(Unanswered::Failed)?;
        let known = page.records.first().and_then(|record| system::read::<Fold>(record.system()?));
        let now = asker.now;
        let after = known.unwrap_or_default().changed(change, subject.by(control, now), now)?;
        // In an exchange of two an earlier attempt may have ended between the sum and the change: it is told again.
        if after.is_none() && subject.other.is_none() {
            return Ok(Json(entry(control, id, &subject.topic, record.offset, record.durability)));
        }
        let drafts = subject.drafts(control, change, (after.as_ref(), page.upto)).ok_or(Unchanged::Gone)?;
        if let Some(done) = append(control, drafts).await? {
            return Ok(Json(entry(control, done.id(), &subject.topic, done.offset, done.durability)));
        }
    }
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, PublishError::Stale.to_string()))
}

/// Appends drafts, one after the other, and returns the answer to the last one. `None` if one is stale.
async fn append(control: &Arc<dyn Control>, drafts: Vec<Draft>) -> Result<Option<Published>, Problem> {
    let mut last = None;
    for draft in drafts {
        match answered(control.append(draft)).await? {
            Ok(published) => last = Some(published),
            Err(PublishError::Stale) => return Ok(None),
            Err(error) => return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
        }
    }
    Ok(last)
}

fn entry(control: &Arc<dyn Control>, id: MessageId, topic: &Topic, at: Offset, durability: Durability) -> Changed {
    let (id, topic, cursor) = (id.to_string(), topic.to_string(), control.cursor(at).to_string());
    Changed { id, topic, cursor, durability: durability.as_str() }
}

/// Gives a message another text; its author may, for a while.
#[utoipa::path(patch, path = "/v1/messages/{id}", tag = "rooms", request_body = EditWish, params(
    ("id" = String, Path, description = "The message's id"),
), responses(
    (status = 200, description = "The event `edit` is published", body = Changed),
    (status = 403, description = "Not yours, or too late", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such message, or it was recalled", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "Longer than the topic's rule allows", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn edit(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Changed>, Problem> {
    let EditWish { body } = read(&body)?;
    change(&control, &caller, &id, Change::Edit(&body)).await
}

/// Recalls a message; its author may, for a while, and admins and owners of its room always.
#[utoipa::path(delete, path = "/v1/messages/{id}", tag = "rooms", params(
    ("id" = String, Path, description = "The message's id"),
), responses(
    (status = 200, description = "The event `recall` is published", body = Changed),
    (status = 403, description = "Not yours, or too late", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such message", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn recall(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Changed>, Problem> {
    change(&control, &caller, &id, Change::Recall).await
}

/// Reacts to a message.
#[utoipa::path(put, path = "/v1/messages/{id}/reactions/{key}", tag = "rooms", params(
    ("id" = String, Path, description = "The message's id"),
    ("key" = String, Path, description = "How: 1 to 64 bytes, an emoji usually"),
), responses(
    (status = 200, description = "The event `react` is published", body = Changed),
    (status = 404, description = "There is no such message, or it was recalled", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many reactions to it", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn react(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Changed>, Problem> {
    change(&control, &caller, &id, Change::React { key: &key, off: false }).await
}

/// Takes a reaction back.
#[utoipa::path(delete, path = "/v1/messages/{id}/reactions/{key}", tag = "rooms", params(
    ("id" = String, Path, description = "The message's id"),
    ("key" = String, Path, description = "Which"),
), responses(
    (status = 200, description = "The event `react` is published", body = Changed),
    (status = 404, description = "There is no such message, or it was recalled", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn unreact(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Changed>, Problem> {
    change(&control, &caller, &id, Change::React { key: &key, off: true }).await
}
