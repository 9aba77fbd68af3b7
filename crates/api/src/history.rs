//! Messages with their changes folded in: `GET /v1/messages?fold=1`.
//!
//! Without `fold` the HTTP wire answers. Here one topic is read, and each message comes with its last text, its
//! reactions, and whether it was recalled. The changes themselves are left out.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use everywire_base::access::room_of;
use everywire_base::ask::{Page, ReadKind};
use everywire_base::cursor::{Cursor, Offset};
use everywire_base::envelope::{self, Envelope};
use everywire_base::id::MessageId;
use everywire_base::parcel::Parcel;
use everywire_base::publish::CHANGES;
use everywire_base::record::Record;
use everywire_base::system;
use everywire_base::topic::{Filter, Topic};
use everywire_rooms::decide::Asker;
use everywire_rooms::fold::Fold;
use http::Uri;
use serde::Serialize;
use serde_json::Value;

use crate::caller::Caller;
use crate::control::{Control, Unanswered, answered};
use crate::problem::Problem;
use crate::query::Query;
use crate::rooms::anybody;

/// The most pages that are read for an answer, if they hold little but changes.
const ROUNDS: usize = 8;

type Node = State<Arc<dyn Control>>;

/// A message with its changes folded in.
#[derive(Serialize)]
pub(crate) struct Folded {
    #[serde(flatten)]
    message: Envelope,
    /// The user behind an alias, for those who may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    edited: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    recalled: bool,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    reactions: HashMap<String, Vec<String>>,
}

/// A page of folded messages.
#[derive(Serialize)]
pub(crate) struct FoldedPage {
    messages: Vec<Folded>,
    /// The position to read on from; a reader that does misses nothing.
    cursor: String,
    /// The position at which the page before this one ends.
    before: String,
    /// Whether there are further ones in the direction of reading.
    more: bool,
    gap: bool,
}

/// Whether a record is a change of another message.
fn is_change(record: &Record) -> bool {
    let event = record.message().and_then(|message| message.event.as_deref());
    event.is_some_and(|event| CHANGES.contains(&event) && event != "subject" && event != "invite")
}

/// Reads the folded changes of some messages.
pub(crate) async fn folds(
    control: &Arc<dyn Control>,
    ids: impl Iterator<Item = MessageId>,
) -> Result<HashMap<MessageId, Fold>, Problem> {
    let ids: Vec<MessageId> = ids.collect();
    let retained = || ReadKind::Retained { after: None, max_records: 1 };
    let asked = ids.iter().filter_map(|id| Some((system::fold_topic(*id)?, retained()))).collect();
    let pages = answered(control.pages(asked)).await?;
    let fold = |record: &Arc<Record>| system::read::<Fold>(record.system()?);
    Ok(ids.into_iter().zip(pages).filter_map(|(id, page)| Some((id, page.records.first().and_then(fold)?))).collect())
}

/// The envelope of a message, with its changes folded in. Aliases stand for the users of a room that hides them; an
/// asker who may know is told the author beside it.
pub(crate) fn fold(
    control: &Arc<dyn Control>,
    asker: Option<&Asker<'_>>,
    record: &Arc<Record>,
    fold: Option<&Fold>,
) -> Option<Folded> {
    let topic = record.message()?.topic.as_str();
    let hidden = room_of(topic).and_then(|level| control.rooms().room(level)).filter(|room| room.head.hides());
    let author = hidden.as_deref().filter(|room| asker.is_some_and(|asker| asker.knows(room)));
    let author = author.and_then(|_| record.message()?.author().map(ToOwned::to_owned));
    let parcel = Parcel::new(Arc::clone(record), control.cursor(record.offset).epoch)?;
    let mut text = Vec::new();
    envelope::write(&parcel, &mut text);
    let mut message: Envelope = serde_json::from_slice(&text).ok()?;
    let fold = fold.cloned().unwrap_or_default();
    if fold.recalled {
        (message.body, message.body_base64, message.content_type) = (None, None, None);
    } else if let Some(text) = &fold.text {
        (message.body, message.body_base64) = (Some(Value::String(text.to_string())), None);
    }
    let name = |user: Box<str>| hidden.as_deref().map_or(user.clone(), |room| room.name(&user)).into();
    let users = |users: Vec<Box<str>>| users.into_iter().map(name).collect();
    let reactions = fold.reactions.into_iter().map(|(key, all)| (key.into(), users(all))).collect();
    Some(Folded { message, author, edited: fold.edited_ms.is_some(), recalled: fold.recalled, reactions })
}

/// The place from which a client reads.
#[derive(Clone, Copy)]
enum Place {
    /// The end from which the reading goes.
    End,
    /// An offset of the log.
    At(Offset),
    /// A place of another log, or beyond the end of this one.
    Elsewhere,
}

/// The parameters of a read: the messages of a topic that are wanted.
struct Wanted {
    topic: Topic,
    is_forward: bool,
    place: Place,
    limit: usize,
}

impl Wanted {
    fn of(control: &Arc<dyn Control>, uri: &Uri) -> Result<Self, Problem> {
        let (query, limits) = (Query::of(uri), control.limits());
        let topic = query.topic("topic", |text| Topic::parse(text).map_err(|e| e.to_string()))?;
        let missing = || Problem::malformed("say of what: `topic=` is missing; one topic at a time is folded");
        let topic = topic.ok_or_else(missing)?;
        let limit = query.clamped("limit", (1, limits.page_messages_max), limits.page_messages_default)?;
        let place = |name: &'static str, word: &str| -> Result<Option<Place>, Problem> {
            let Some(text) = query.text(name)? else { return Ok(None) };
            if text == word {
                return Ok(Some(Place::End));
            }
            let cursor: Cursor = text.parse().map_err(|_| Problem::malformed(format!("`{name}` is no cursor")))?;
            Ok(Some(control.offset(&cursor).map_or(Place::Elsewhere, Place::At)))
        };
        let (is_forward, place) = match (place("before", "latest")?, place("after", "earliest")?) {
            (Some(_), Some(_)) => return Err(Problem::malformed("`before` reads backwards: leave out `after`")),
            (None, Some(after)) => (true, after),
            (before, None) => (false, before.unwrap_or(Place::End)),
        };
        Ok(Self { topic, is_forward, place, limit })
    }

    /// Reads a page with as many messages as are wanted, if there are as many: changes of other messages are not
    /// counted.
    async fn read(&self, control: &Arc<dyn Control>, end: Offset) -> Result<Page, Problem> {
        let mut at = if let Place::At(at) = self.place { Some(at) } else { None };
        let (mut records, mut rounds) = (Vec::new(), 0);
        loop {
            let kind = self.kind(at, end, (self.limit - records.len(), control.limits().page_bytes));
            let asked = vec![(self.topic.clone(), kind)];
            let page = answered(control.pages(asked)).await?.pop().ok_or(Unanswered::Failed)?;
            rounds += 1;
            let is_over = page.upto == Offset::BEGINNING || (self.is_forward && page.upto >= end);
            at = Some(page.upto);
            let found: Vec<_> = page.records.iter().filter(|record| !is_change(record)).cloned().collect();
            let place = if self.is_forward { records.len() } else { 0 };
            records.splice(place..place, found);
            if records.len() >= self.limit || is_over || page.records.is_empty() || rounds >= ROUNDS {
                return Ok(Page { records, ..page });
            }
        }
    }

    fn kind(&self, at: Option<Offset>, end: Offset, (max_records, max_bytes): (usize, usize)) -> ReadKind {
        let with_recalled = true;
        if self.is_forward {
            ReadKind::History { after: at.unwrap_or_default(), up_to: end, max_records, max_bytes, with_recalled }
        } else {
            ReadKind::Backwards { before: at, max_records, max_bytes, with_recalled }
        }
    }
}

/// Folded messages of one topic: the last ones, those before a cursor, or those after one.
pub(crate) async fn folded(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<FoldedPage>, Problem> {
    let wanted = Wanted::of(&control, &uri)?;
    let filter = Filter::Exact(wanted.topic.clone());
    control.rules().may_subscribe(caller.0.as_deref(), &filter)?;
    let end = control.rooms().as_of();
    let page = wanted.read(&control, end).await?;
    let folds = folds(&control, page.records.iter().map(|record| record.id())).await?;
    // The right to read is checked after the read, so that a change in between counts.
    control.rules().may_subscribe(caller.0.as_deref(), &filter)?;
    let founded = room_of(wanted.topic.as_str()).and_then(|level| control.rooms().room(level));
    let from = founded.map_or(Offset::BEGINNING, |room| room.founded);
    let asker = anybody(&control, &caller);
    let shown = page.records.iter().filter(|record| record.offset > from);
    let messages = shown.filter_map(|record| fold(&control, Some(&asker), record, folds.get(&record.id()))).collect();
    let first = page.records.first().map_or(page.upto, |record| record.offset);
    let (cursor, before, more) =
        if wanted.is_forward { (page.upto, first, page.upto < end) } else { (end, page.upto, page.upto > from) };
    let gap = matches!(wanted.place, Place::Elsewhere) || (wanted.is_forward && page.lost.is_some());
    let (cursor, before) = (control.cursor(cursor).to_string(), control.cursor(before).to_string());
    Ok(Json(FoldedPage { messages, cursor, before, more, gap }))
}
