//! Conversations: a user's rooms and exchanges with others, newest first, with the number of unread messages
//! (`docs/rooms.md`).
//!
//! Unread messages are counted above the read mark, up to a thousand; nothing is written per recipient. The users with
//! whom a user has exchanged messages are found by walking its inbox backwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use everywire_base::ask::ReadKind;
use everywire_base::cursor::{Cursor, Offset};
use everywire_base::identity::encode;
use everywire_base::record::{Message, Record};
use everywire_base::topic::Topic;
use everywire_rooms::conversation::{Conversation, Notify, Own, Unread, is_chat, names_of};
use everywire_rooms::decide::{self, Asker, OwnWish, Refused};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::control::{Control, Unanswered, answered};
use crate::history::{Folded, fold, folds};
use crate::problem::Problem;
use crate::query::Query;
use crate::rooms::{Done, asker, read as read_body, run};
use crate::signals::PresenceEntry;

type Node = State<Arc<dyn Control>>;

/// The most unread messages that are counted.
const MOST_UNREAD: usize = 1000;
/// The most bytes of messages that are read to count them.
const UNREAD_BYTES: usize = 4 << 20;
/// The most authors who are told of one read mark.
const MOST_AUTHORS: usize = 32;
/// The number of last messages of a room among which a chat is looked for.
const LOOK_BACK: usize = 20;
/// The number of messages of an inbox that are walked to find a user's exchanges, and the size of a step.
const INBOX: usize = 5000;
const INBOX_STEP: usize = 500;

/// A user's own side of a conversation.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that a user sees")]
pub(crate) struct ConversationEntry {
    /// `room/R` or `user/P`.
    conversation: String,
    title: String,
    /// The number of unread chats of others.
    unread: usize,
    /// Whether `unread` counts all of them.
    exact: bool,
    mentions: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    last: Option<Folded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nick: Option<String>,
    /// The alias by which others know the caller, where the room hides its users.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[schema(value_type = String)]
    notify: Notify,
    muted: bool,
    pinned: bool,
    archived: bool,
    /// Of an exchange: the position in the caller's inbox up to which the other has read.
    #[serde(skip_serializing_if = "Option::is_none")]
    theirs: Option<String>,
    /// Of an exchange: the presence of the other, if the caller may know it.
    #[serde(flatten)]
    presence: Option<PresenceEntry>,
}

/// Some conversations.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationList {
    /// Newest first.
    conversations: Vec<ConversationEntry>,
    /// The cursor for the next page: conversations with older messages.
    cursor: String,
    more: bool,
}

/// The position up to which a conversation is read.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ReadWish {
    #[schema(example = "k3f9:20")]
    pub(crate) cursor: String,
}

/// The read position of a conversation, and the number of unread messages.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReadEntry {
    conversation: String,
    read: String,
    unread: usize,
    exact: bool,
    mentions: usize,
}

/// The users from whom the caller takes no messages.
#[derive(Serialize, ToSchema)]
pub(crate) struct BlockedList {
    blocked: Vec<String>,
}

/// A conversation on its way into a list.
struct Line {
    which: Conversation,
    topic: Topic,
    own: Own,
    /// The offset at which the conversation begins.
    from: Offset,
    /// The end of its topic, or its last chat.
    head: Offset,
    title: String,
    role: Option<&'static str>,
    nick: Option<String>,
    alias: Option<String>,
    /// The number of unread messages and whether it is exact, if that is known without another look.
    counted: Option<(Unread, bool)>,
    last: Option<Arc<Record>>,
    /// Whether the last chat was edited, recalled or reacted to since.
    is_changed: bool,
}

impl Line {
    fn since(&self) -> Offset {
        self.own.read.max(self.from)
    }
}

/// The rooms of a user, without their messages.
fn rooms_of(control: &Arc<dyn Control>, asker: &Asker<'_>, user: &str) -> Vec<Line> {
    let rooms = control.rooms();
    let all = rooms.of_user(user, None).into_iter().filter(|(_, room)| room.role(user).is_member());
    let line = |(level, room): (Arc<str>, Arc<everywire_rooms::Room>)| {
        let which = Conversation::Room((*level).into());
        let member = room.member(user)?;
        let name = decide::name_of(&level);
        let title = if room.head.title.is_empty() { name } else { room.head.title.to_string() };
        Some(Line {
            topic: Topic::parse(&format!("room/{level}")).ok()?,
            own: rooms.own(user, &which),
            which,
            from: room.founded,
            head: Offset::BEGINNING,
            title,
            role: Some(asker.role(&room).as_str()),
            nick: Some(member.nick.into()),
            alias: room.alias(user).map(Into::into),
            counted: None,
            last: None,
            is_changed: false,
        })
    };
    all.filter_map(line).collect()
}

/// The other side of a message in a user's inbox.
fn partner<'a>(record: &'a Record, user: &str) -> Option<&'a str> {
    let message = record.message().filter(|message| is_chat(message))?;
    message.sent_to().or(message.from.as_deref()).filter(|other| *other != user)
}

/// The exchanges of a user with others, found in its inbox from the newest message on.
async fn exchanges(control: &Arc<dyn Control>, user: &str) -> Result<Vec<Line>, Problem> {
    let Ok(inbox) = Topic::parse(&format!("user/{}", encode(user))) else { return Ok(Vec::new()) };
    let (mut found, mut before, mut walked) = (BTreeMap::<String, Line>::new(), None, 0);
    let names = names_of(user, None);
    loop {
        let kind =
            ReadKind::Backwards { before, max_records: INBOX_STEP, max_bytes: UNREAD_BYTES, with_recalled: false };
        let page = answered(control.pages(vec![(inbox.clone(), kind)])).await?.pop().ok_or(Unanswered::Failed)?;
        walked += page.records.len();
        for record in page.records.iter().rev() {
            let Some(other) = partner(record, user) else { continue };
            let line = found.entry(other.to_owned()).or_insert_with(|| {
                let which = Conversation::With(other.into());
                let (own, topic, last) = (control.rooms().own(user, &which), inbox.clone(), Some(Arc::clone(record)));
                let (title, counted) = (other.to_owned(), Some((Unread::default(), true)));
                let (from, head) = (Offset::BEGINNING, record.offset);
                let (role, nick, alias) = (None, None, None);
                Line { which, topic, own, from, head, title, role, nick, alias, counted, last, is_changed: true }
            });
            if let Some((unread, exact)) = line.counted.as_mut().filter(|_| record.offset > line.own.read) {
                if unread.messages < MOST_UNREAD {
                    unread.count(record, user, &names);
                } else {
                    *exact = false;
                }
            }
        }
        let is_end = page.upto == Offset::BEGINNING || page.records.is_empty();
        if is_end || walked >= INBOX {
            let lowest = page.upto;
            let mut lines: Vec<Line> = found.into_values().collect();
            for line in lines.iter_mut().filter(|line| !is_end && line.own.read < lowest) {
                line.counted = line.counted.map(|(unread, _)| (unread, false));
            }
            return Ok(lines);
        }
        before = Some(page.upto);
    }
}

/// Looks for the last chats of some rooms, and counts their unread messages. The last messages of a room tell both, if
/// they reach down to its read mark; else those above it are read too.
async fn look(control: &Arc<dyn Control>, user: &str, lines: &mut [Line]) -> Result<(), Problem> {
    let back =
        ReadKind::Backwards { before: None, max_records: LOOK_BACK, max_bytes: UNREAD_BYTES, with_recalled: false };
    let uncounted =
        |lines: &[Line]| -> Vec<usize> { (0..lines.len()).filter(|n| lines[*n].counted.is_none()).collect() };
    let all = uncounted(lines);
    let wanted = all.iter().map(|n| (lines[*n].topic.clone(), back.clone())).collect();
    let pages = answered(control.pages(wanted)).await?;
    for (n, page) in all.into_iter().zip(pages) {
        let line = &mut lines[n];
        let is_its = |record: &&Arc<Record>| record.offset > line.from && record.message().is_some_and(is_chat);
        line.last = page.records.iter().rev().find(is_its).cloned();
        let last = line.last.as_ref().map(|record| record.id());
        line.is_changed =
            page.records.iter().any(|record| last.is_some() && record.message().and_then(Message::about) == last);
        let since = line.since();
        let reaches = page.upto == Offset::BEGINNING || page.records.first().is_some_and(|first| first.offset <= since);
        if reaches || line.head <= since {
            let above = page.records.iter().filter(|record| record.offset > since);
            line.counted = Some((unread_of(above, user, line.nick.as_deref()), true));
        }
    }
    let rest = uncounted(lines);
    let above = |line: &Line| ReadKind::History {
        after: line.since(),
        up_to: line.head,
        max_records: MOST_UNREAD + 1,
        max_bytes: UNREAD_BYTES,
        with_recalled: false,
    };
    let wanted: Vec<_> = rest.iter().map(|n| (lines[*n].topic.clone(), above(&lines[*n]))).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let pages = answered(control.pages(wanted)).await?;
    for (n, page) in rest.into_iter().zip(pages) {
        let line = &mut lines[n];
        let unread = unread_of(page.records.iter().take(MOST_UNREAD), user, line.nick.as_deref());
        line.counted = Some((unread, page.upto >= line.head && page.records.len() <= MOST_UNREAD));
    }
    Ok(())
}

/// The unread messages of a user among some records.
fn unread_of<'a>(records: impl Iterator<Item = &'a Arc<Record>>, user: &str, nick: Option<&str>) -> Unread {
    let (mut unread, names) = (Unread::default(), names_of(user, nick));
    records.for_each(|record| unread.count(record, user, &names));
    unread
}

async fn entries(control: &Arc<dyn Control>, user: &str, lines: Vec<Line>) -> Result<Vec<ConversationEntry>, Problem> {
    let ids =
        lines.iter().filter(|line| line.is_changed).filter_map(|line| line.last.as_ref()).map(|record| record.id());
    let folds = folds(control, ids).await?;
    let entry = |line: Line| {
        let (unread, exact) = line.counted.unwrap_or_default();
        let last = line.last.and_then(|record| fold(control, None, &record, folds.get(&record.id())));
        let settings = line.own.settings;
        let (presence, theirs) = match &line.which {
            Conversation::With(other) => {
                (PresenceEntry::of(control, Some(user), other), control.rooms().mark_of(other, user))
            }
            Conversation::Room(_) => (None, None),
        };
        ConversationEntry {
            presence,
            theirs: theirs.map(|at| control.cursor(at).to_string()),
            conversation: line.which.text(),
            title: line.title,
            unread: unread.messages,
            exact,
            mentions: unread.mentions,
            read: (line.own.read > Offset::BEGINNING).then(|| control.cursor(line.own.read).to_string()),
            last,
            role: line.role,
            nick: line.nick,
            alias: line.alias,
            notify: settings.notify,
            muted: settings.muted,
            pinned: settings.pinned,
            archived: settings.archived,
        }
    };
    Ok(lines.into_iter().map(entry).collect())
}

/// All conversations of a user, in the order of their last messages, newest first.
async fn all(control: &Arc<dyn Control>, asker: &Asker<'_>, user: &str) -> Result<Vec<Line>, Problem> {
    let mut lines = rooms_of(control, asker, user);
    let heads = answered(control.heads(lines.iter().map(|line| line.topic.clone()).collect())).await?;
    for (line, head) in lines.iter_mut().zip(heads) {
        line.head = head.max(line.from);
    }
    lines.extend(exchanges(control, user).await?);
    lines.sort_by_key(|line| std::cmp::Reverse(line.head));
    Ok(lines)
}

/// The caller's conversations, newest first.
#[utoipa::path(get, path = "/v1/conversations", tag = "rooms", params(
    ("unread" = Option<String>, Query, description = "`1`: only those in which something is unread"),
    ("after" = Option<String>, Query, description = "Only those that are older than this cursor of a page before"),
    ("limit" = Option<usize>, Query, description = "At most so many: 100 unless given, clamped to 1 … 1,000"),
), responses(
    (status = 200, description = "A page of conversations", body = ConversationList),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<ConversationList>, Problem> {
    let (asker, query, limits) = (asker(&control, &caller)?, Query::of(&uri), control.limits());
    let user = asker.needs_user()?;
    let limit = query.clamped("limit", (1, limits.page_messages_max), limits.page_messages_default)?;
    let only_unread = query.text("unread")?.is_some_and(|text| text == "1");
    let after = query.parsed("after", |text| {
        let cursor: Cursor = text.parse().map_err(|_| "this is no cursor".to_owned())?;
        control.offset(&cursor).ok_or_else(|| "this cursor is of another log".to_owned())
    })?;
    let mut lines = all(&control, &asker, user).await?;
    lines.retain(|line| after.is_none_or(|after| line.head < after));
    let (mut found, mut rest) = (Vec::new(), lines.into_iter().peekable());
    while found.len() < limit && rest.peek().is_some() {
        let mut some: Vec<Line> = rest.by_ref().take(limit - found.len()).collect();
        look(&control, user, &mut some).await?;
        found.extend(some.into_iter().filter(|line| !only_unread || line.counted.is_some_and(|it| it.0.messages > 0)));
    }
    let more = rest.peek().is_some();
    let cursor = found.last().map_or(Offset::BEGINNING, |line| line.head);
    let cursor = control.cursor(cursor).to_string();
    found.sort_by_key(|line| std::cmp::Reverse(line.last.as_ref().map_or(line.from, |record| record.offset)));
    Ok(Json(ConversationList { conversations: entries(&control, user, found).await?, cursor, more }))
}

/// One conversation of the caller, who must be a member if it is a room.
async fn one(control: &Arc<dyn Control>, asker: &Asker<'_>, text: &str) -> Result<Line, Problem> {
    let user = asker.needs_user()?;
    let which = parse(text)?;
    let lines = match which {
        Conversation::Room(_) => {
            let mut lines = rooms_of(control, asker, user);
            lines.retain(|line| line.which == which);
            let heads = answered(control.heads(lines.iter().map(|line| line.topic.clone()).collect())).await?;
            lines.iter_mut().zip(heads).for_each(|(line, head)| line.head = head.max(line.from));
            lines
        }
        Conversation::With(_) => exchanges(control, user).await?,
    };
    let mut line = lines.into_iter().find(|line| line.which == which).ok_or(Refused::NoRoom)?;
    look(control, user, std::slice::from_mut(&mut line)).await?;
    Ok(line)
}

pub(crate) fn parse(text: &str) -> Result<Conversation, Problem> {
    let what = "a conversation is room/R or user/P, percent-encoded into one level of the path";
    Conversation::parse(text).ok_or_else(|| Problem::malformed(what))
}

/// One of the caller's conversations.
#[utoipa::path(get, path = "/v1/conversations/{conversation}", tag = "rooms", params(
    ("conversation" = String, Path, description = "`room/R` or `user/P`, percent-encoded into one level"),
), responses(
    (status = 200, description = "As it is now", body = ConversationEntry),
    (status = 404, description = "No conversation of yours", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(conversation): Path<String>,
) -> Result<Json<ConversationEntry>, Problem> {
    let asker = asker(&control, &caller)?;
    let line = one(&control, &asker, &conversation).await?;
    entries(&control, asker.needs_user()?, vec![line]).await?.pop().map(Json).ok_or_else(|| Refused::NoRoom.into())
}

/// The authors of the messages that a mark newly covers when it rises to `at`: the latest of them, if they are many.
async fn authors(control: &Arc<dyn Control>, user: &str, line: &Line, at: Offset) -> Result<Vec<Box<str>>, Problem> {
    let after = line.since();
    let level = match &line.which {
        _ if at <= after => return Ok(Vec::new()),
        Conversation::With(other) => return Ok(vec![other.clone()]),
        Conversation::Room(level) => level,
    };
    if control.rooms().is_crowded(level) {
        return Ok(Vec::new());
    }
    let (max_records, max_bytes) = (MOST_UNREAD, UNREAD_BYTES);
    let kind = ReadKind::History { after, up_to: at, max_records, max_bytes, with_recalled: false };
    let page = answered(control.pages(vec![(line.topic.clone(), kind)])).await?.pop().ok_or(Unanswered::Failed)?;
    let mut authors: Vec<Box<str>> = Vec::new();
    for message in page.records.iter().rev().filter_map(|record| record.message()).filter(|message| is_chat(message)) {
        let Some(author) = message.author().filter(|author| *author != user) else { continue };
        if authors.len() < MOST_AUTHORS && !authors.iter().any(|known| &**known == author) {
            authors.push(author.into());
        }
    }
    Ok(authors)
}

/// Sets the position up to which the caller has read. A mark only rises.
#[utoipa::path(put, path = "/v1/conversations/{conversation}/read", tag = "rooms", request_body = ReadWish, params(
    ("conversation" = String, Path, description = "`room/R` or `user/P`, percent-encoded into one level"),
), responses(
    (status = 200, description = "The mark that holds, and what is unread", body = ReadEntry),
    (status = 400, description = "No cursor of this log, or one ahead of it", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No conversation of yours", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn read(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(conversation): Path<String>,
    body: Bytes,
) -> Result<Json<ReadEntry>, Problem> {
    let (asker, ReadWish { cursor }) = (asker(&control, &caller)?, read_body(&body)?);
    let cursor: Cursor = cursor.parse().map_err(|_| Problem::malformed("`cursor` is no cursor"))?;
    let at = control.offset(&cursor);
    let at = at.ok_or_else(|| Problem::malformed("this cursor is of another log, or ahead of this one"))?;
    let line = one(&control, &asker, &conversation).await?;
    let which = parse(&conversation)?;
    let authors = authors(&control, asker.needs_user()?, &line, at).await?;
    run(&control, || decide::mark(control.rooms(), asker, &which, at, &authors, control.limits())).await?;
    let line = one(&control, &asker, &conversation).await?;
    let (unread, exact) = line.counted.unwrap_or_default();
    let read = control.cursor(line.own.read).to_string();
    Ok(Json(ReadEntry { conversation, read, unread: unread.messages, exact, mentions: unread.mentions }))
}

/// Changes the caller's settings of a conversation: `muted`, `pinned`, `archived`, `notify`.
#[utoipa::path(patch, path = "/v1/conversations/{conversation}", tag = "rooms", request_body = OwnWishBody, params(
    ("conversation" = String, Path, description = "`room/R` or `user/P`, percent-encoded into one level"),
), responses(
    (status = 200, description = "As it is now", body = ConversationEntry),
    (status = 404, description = "No conversation of yours", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn set(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(conversation): Path<String>,
    body: Bytes,
) -> Result<Json<ConversationEntry>, Problem> {
    let (asker, wish) = (asker(&control, &caller)?, read_body::<OwnWish>(&body)?);
    one(&control, &asker, &conversation).await?;
    let which = parse(&conversation)?;
    run(&control, || decide::set(control.rooms(), asker, &which, &wish, control.limits())).await?;
    let line = one(&control, &asker, &conversation).await?;
    entries(&control, asker.needs_user()?, vec![line]).await?.pop().map(Json).ok_or_else(|| Refused::NoRoom.into())
}

/// The settings of a user for a conversation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `decide::OwnWish` reads")]
pub(crate) struct OwnWishBody {
    /// `all`, `mentions`, `none`.
    notify: Option<String>,
    muted: Option<bool>,
    pinned: Option<bool>,
    archived: Option<bool>,
}

/// The users from whom the caller takes no messages.
#[utoipa::path(get, path = "/v1/blocked", tag = "rooms", responses(
    (status = 200, description = "Users, ascending", body = BlockedList),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn blocked(
    State(control): Node,
    Extension(caller): Extension<Caller>,
) -> Result<Json<BlockedList>, Problem> {
    let asker = asker(&control, &caller)?;
    let all = control.rooms().blocked(asker.needs_user()?);
    Ok(Json(BlockedList { blocked: all.iter().map(ToString::to_string).collect() }))
}

/// Takes no more messages from a user.
#[utoipa::path(put, path = "/v1/blocked/{user}", tag = "rooms", params(
    ("user" = String, Path, description = "The user"),
), responses(
    (status = 200, description = "Messages of this user are refused", body = Done),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn block(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
) -> Result<Json<Done>, Problem> {
    let asker = asker(&control, &caller)?;
    run(&control, || decide::block(control.rooms(), asker, &user, true, control.limits())).await?;
    Ok(Json(Done {}))
}

/// Takes messages from a user again.
#[utoipa::path(delete, path = "/v1/blocked/{user}", tag = "rooms", params(
    ("user" = String, Path, description = "The user"),
), responses(
    (status = 200, description = "Messages of this user are taken", body = Done),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn unblock(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
) -> Result<Json<Done>, Problem> {
    let asker = asker(&control, &caller)?;
    run(&control, || decide::block(control.rooms(), asker, &user, false, control.limits())).await?;
    Ok(Json(Done {}))
}
