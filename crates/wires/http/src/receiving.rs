//! The state in which a connection takes requests: heads and bodies come in; publishes go out and are answered in
//! order.
//!
//! Publishes are pipelined, up to `limits.pipelined_publishes`; every other request waits, unread, until all before it
//! are answered. Between requests the state owns nothing.

use std::sync::Arc;

use bytes::Bytes;
use everywire_base::ask::{NotPublished, Published};
use everywire_base::clock::Monotonic;
use everywire_base::id::AskId;
use everywire_base::identity::Identity;
use everywire_base::notice::{Notice, Refused};
use everywire_base::reason::Reason;
use everywire_wire::{Ask, Context, Upgrade, UpgradeRequest};

use crate::begin;
use crate::body::{Collector, Fed};
use crate::credentials::{self, Sender};
use crate::forwarded;
use crate::guard;
use crate::head::{self, Framing, Head, MAX_FIELDS};
use crate::http1;
use crate::machine::{Link, Phase};
use crate::problem::{Problem, Sound};
use crate::publish::{self, Publishes};
use crate::reply::{After, Manner};
use crate::request::{self, Request, Surroundings};

/// Takes requests.
pub(crate) struct Receiving {
    incoming: Incoming,
    publishes: Publishes,
    /// The time at which the client has been idle, or slow, for too long.
    until: Monotonic,
}

enum Incoming {
    /// Between two requests.
    Nothing,
    /// Some of a head, of which the `scanned` bytes hold no end.
    Head { scanned: usize },
    /// Some of a body.
    Body(Box<Upload>),
    /// A request that is not a publish waits until all publishes are answered.
    Held,
    /// The credentials of the next request are being checked.
    Identifying,
    /// No more requests: the connection ends when all is answered.
    Shut(Reason),
}

/// A request whose head is accepted: its sender, its meaning, and the manner of its answer.
struct Order {
    who: Option<Arc<Identity>>,
    request: Request,
    manner: Manner,
}

/// A request whose body is on its way.
struct Upload {
    order: Order,
    collector: Collector,
}

/// The result of a look at some bytes.
pub(crate) struct Step {
    pub(crate) used: usize,
    pub(crate) phase: Phase,
    /// Whether the phase wants to see the bytes that are left, at once.
    pub(crate) again: bool,
}

impl Receiving {
    /// The state between two requests.
    pub(crate) fn new(cx: &Context<'_>) -> Self {
        Self::since(cx.now.monotonic + cx.limits.idle_keep_alive)
    }

    /// The state of a new connection, which is closed at this time if it stays idle.
    pub(crate) fn since(until: Monotonic) -> Self {
        Self { incoming: Incoming::Nothing, publishes: Publishes::default(), until }
    }

    /// The moment at which patience ends.
    pub(crate) fn until(&self) -> Option<Monotonic> {
        match self.incoming {
            Incoming::Nothing if self.publishes.is_empty() => Some(self.until),
            Incoming::Head { .. } | Incoming::Body(_) => Some(self.until),
            Incoming::Nothing | Incoming::Held | Incoming::Identifying | Incoming::Shut(_) => None,
        }
    }

    /// The bytes of a body that has not come whole.
    pub(crate) fn holds(&self) -> usize {
        if let Incoming::Body(upload) = &self.incoming { upload.collector.holds() } else { 0 }
    }

    /// Whether bytes are wanted.
    pub(crate) fn takes_input(&self, cx: &Context<'_>) -> bool {
        let waits = match self.incoming {
            Incoming::Held | Incoming::Identifying | Incoming::Shut(_) => true,
            Incoming::Nothing | Incoming::Head { .. } | Incoming::Body(_) => false,
        };
        !waits && cx.has_room() && self.publishes.len() < cx.limits.pipelined_publishes
    }

    /// Whether publishes are not answered yet.
    pub(crate) fn owes_answers(&self) -> bool {
        !self.publishes.is_empty()
    }

    /// The reason to end, if all was said.
    pub(crate) fn is_over(&self) -> Option<Reason> {
        match &self.incoming {
            Incoming::Shut(reason) if self.publishes.is_empty() => Some(reason.clone()),
            _ => None,
        }
    }

    /// Takes no more requests, and ends when all publishes are answered.
    pub(crate) fn shut(&mut self, reason: Reason) {
        if !matches!(self.incoming, Incoming::Shut(_)) {
            self.incoming = Incoming::Shut(reason);
        }
    }

    pub(crate) fn read(mut self, cx: &mut Context<'_>, link: &mut Link<'_>, bytes: &[u8]) -> Step {
        if bytes.is_empty() || !self.takes_input(cx) {
            return self.rest(0);
        }
        match self.incoming {
            Incoming::Body(upload) => {
                self.incoming = Incoming::Nothing;
                self.feed(cx, link, upload, bytes)
            }
            Incoming::Head { scanned } => self.head(cx, link, bytes, scanned),
            // An empty line before a request is left over from another one (RFC 9112 §2.2).
            _ if bytes.starts_with(b"\r\n") => self.go_on(2),
            _ if bytes == b"\r" => self.rest(0),
            _ => self.head(cx, link, bytes, 0),
        }
    }

    fn rest(self, used: usize) -> Step {
        Step { used, phase: Phase::Receiving(self), again: false }
    }

    fn go_on(self, used: usize) -> Step {
        Step { used, phase: Phase::Receiving(self), again: true }
    }

    fn head(mut self, cx: &mut Context<'_>, link: &mut Link<'_>, bytes: &[u8], scanned: usize) -> Step {
        match head::end(bytes, scanned, cx.limits.http_head_bytes) {
            Ok(None) => {
                if matches!(self.incoming, Incoming::Nothing) {
                    self.until = cx.now.monotonic + cx.limits.slow_request;
                }
                self.incoming = Incoming::Head { scanned: bytes.len() };
                self.rest(0)
            }
            Ok(Some(end)) => {
                self.incoming = Incoming::Nothing;
                let mut space = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
                match head::parse(&bytes[..end], &mut space) {
                    Ok(head) => self.request(cx, link, &head, &bytes[end..], end),
                    Err(problem) => self.malformed(cx, &problem, bytes.len()),
                }
            }
            Err(problem) => self.malformed(cx, &problem, bytes.len()),
        }
    }

    /// Refuses a malformed head: nothing after it can be understood.
    fn malformed(mut self, cx: &mut Context<'_>, problem: &Problem, used: usize) -> Step {
        if !self.publishes.is_empty() {
            self.incoming = Incoming::Held;
            return self.rest(0);
        }
        cx.out.write(|out| problem.reply(&Manner::unknown(), out));
        Step { used, phase: Phase::Closed(blame(problem)), again: false }
    }

    fn request(
        mut self,
        cx: &mut Context<'_>,
        link: &mut Link<'_>,
        head: &Head<'_, '_>,
        rest: &[u8],
        length: usize,
    ) -> Step {
        let mut manner = head.manner();
        let who = match sender(head, cx, link, &mut manner) {
            Ok(Sender::Asked) => {
                self.incoming = Incoming::Identifying;
                return self.rest(0);
            }
            Ok(Sender::Is(who)) => Ok(who),
            Err(problem) => Err(problem),
        };
        let understood = who.and_then(|who| {
            let (service, limits, rules, peer) = (link.service, cx.limits, cx.rules, cx.peer);
            let request =
                Request::understand(head, &Surroundings { service, who: who.as_deref(), limits, rules, peer })?;
            check_size(&request, head, cx)?;
            Ok((who, request, head.expects_continue()? && head.has_body()))
        });
        let pipelined = matches!(understood, Ok((_, Request::Publish(_), false)));
        if !self.publishes.is_empty() && !pipelined {
            self.incoming = Incoming::Held;
            return self.rest(0);
        }
        match understood {
            Err(problem) => Self::refuse(cx, manner, &problem, head, length),
            Ok((identity, Request::Upgrade(upgrade), _)) => upgrade_to(cx, &*upgrade, head, &manner, identity, length),
            Ok((who, request, expects)) => {
                if expects {
                    cx.out.copy(http1::CONTINUE);
                }
                self.body(cx, link, Order { who, request, manner }, head.framing, rest, length)
            }
        }
    }

    /// Refuses a request by its head. The connection ends if a body follows, since that is not waited for.
    fn refuse(cx: &mut Context<'_>, manner: Manner, problem: &Problem, head: &Head<'_, '_>, length: usize) -> Step {
        let manner = if head.has_body() { manner.closing() } else { manner };
        cx.out.write(|out| problem.reply(&manner, out));
        let phase = if head.has_body() { Phase::Closed(blame(problem)) } else { Phase::after(cx, &manner) };
        Step { used: length, phase, again: true }
    }

    fn body(
        mut self,
        cx: &mut Context<'_>,
        link: &mut Link<'_>,
        order: Order,
        framing: Framing,
        rest: &[u8],
        length: usize,
    ) -> Step {
        if let Framing::Length(n) = framing
            && n <= rest.len() as u64
        {
            let body = Bytes::copy_from_slice(&rest[..n as usize]);
            return self.complete(cx, link, order, body, length + n as usize);
        }
        let (max, what) = order.request.max_body(cx.limits, cx.rules);
        let upload = Upload { order, collector: Collector::new(framing, max, what) };
        self.until = cx.now.monotonic + cx.limits.slow_request;
        self.incoming = Incoming::Body(Box::new(upload));
        self.go_on(length)
    }

    fn feed(mut self, cx: &mut Context<'_>, link: &mut Link<'_>, mut upload: Box<Upload>, bytes: &[u8]) -> Step {
        match upload.collector.feed(bytes) {
            Ok(Fed::More) => {
                self.incoming = Incoming::Body(upload);
                self.rest(bytes.len())
            }
            Ok(Fed::Complete(used)) => {
                let Upload { order, collector } = *upload;
                let body = Bytes::from(collector.into_content().into_boxed_slice());
                self.complete(cx, link, order, body, used)
            }
            Err(problem) => {
                self.refuse_late(cx, link, upload.order.manner.closing(), problem);
                self.rest(bytes.len())
            }
        }
    }

    /// Refuses a request whose head was accepted, behind the publishes that wait.
    fn refuse_late(&mut self, cx: &mut Context<'_>, link: &mut Link<'_>, manner: Manner, problem: Problem) {
        let manner = if problem.framing == Sound::Lost { manner.closing() } else { manner };
        if manner.closes() {
            self.incoming = Incoming::Shut(blame(&problem));
        }
        if self.publishes.is_empty() {
            cx.out.write(|out| problem.reply(&manner, out));
        } else {
            self.publishes.refused(link.number(), manner, problem);
        }
        self.until = cx.now.monotonic + cx.limits.idle_keep_alive;
    }

    /// Begins a whole request.
    fn complete(mut self, cx: &mut Context<'_>, link: &mut Link<'_>, order: Order, body: Bytes, used: usize) -> Step {
        let Order { who, request, manner } = order;
        let phase = match request {
            Request::Publish(publication) => {
                match cx.draft(publication.message(body, cx.now.wall), who.as_ref()) {
                    Ok(draft) => self.publish(cx, link, manner, draft),
                    Err(unfit) => self.refuse_late(cx, link, manner, unfit.into()),
                }
                Phase::Receiving(self)
            }
            Request::Batch => begin::batch(cx, link, manner, who.as_ref(), &body),
            Request::LookBack(backwards) => backwards.begin(cx, link, manner, who),
            Request::Read(reading) => begin::subscribe(cx, link, manner, reading, who),
            Request::Call(call) => begin::call(cx, link, manner, call, who, body),
            Request::Upgrade(_) => Phase::Closed(Reason::Internal), // taken over at its head
            Request::Options(options) => {
                cx.out.write(|out| options.reply(&manner, out));
                Phase::after(cx, &manner)
            }
        };
        Step { used, phase, again: true }
    }

    fn publish(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<'_>,
        manner: Manner,
        draft: everywire_base::ask::Draft,
    ) {
        if manner.closes() {
            self.incoming = Incoming::Shut(Reason::Done);
        }
        let ask = link.number();
        self.publishes.asked(ask, draft.entry.topic().clone(), manner);
        cx.asks.push((ask, Ask::Publish(draft)));
    }

    /// Goes on after the sender of the next request is known.
    pub(crate) fn identified(mut self, cx: &Context<'_>) -> Phase {
        if matches!(self.incoming, Incoming::Identifying) {
            self.incoming = Incoming::Nothing;
            self.until = cx.now.monotonic + cx.limits.slow_request;
        }
        Phase::Receiving(self)
    }

    /// Takes the outcome of a publish, and answers all whose turn it is.
    pub(crate) fn outcome(
        mut self,
        cx: &mut Context<'_>,
        ask: AskId,
        outcome: Result<Published, NotPublished>,
    ) -> Phase {
        self.publishes.outcome(ask, outcome.map_err(Problem::from));
        self.finish_answers(cx);
        Phase::Receiving(self)
    }

    fn finish_answers(&mut self, cx: &mut Context<'_>) {
        while let Some((mut manner, outcome)) = self.publishes.next_reply() {
            if self.publishes.is_empty() && matches!(self.incoming, Incoming::Shut(_)) {
                manner.after = After::Close;
            }
            cx.out.write(|out| publish::reply(out, &manner, &outcome));
        }
        if !self.publishes.is_empty() {
            return;
        }
        match self.incoming {
            Incoming::Held => self.incoming = Incoming::Nothing,
            Incoming::Nothing => {}
            Incoming::Head { .. } | Incoming::Body(_) | Incoming::Identifying | Incoming::Shut(_) => return,
        }
        self.until = cx.now.monotonic + cx.limits.idle_keep_alive;
    }

    /// Acts after the patience has ended.
    pub(crate) fn tick(mut self, cx: &mut Context<'_>, link: &mut Link<'_>) -> Phase {
        let manner = match std::mem::replace(&mut self.incoming, Incoming::Shut(Reason::Timeout)) {
            Incoming::Nothing if !cx.has_room() => return Phase::Closed(Reason::SlowConsumer),
            Incoming::Nothing => return Phase::Closed(Reason::Timeout),
            Incoming::Head { .. } => Manner::unknown(),
            Incoming::Body(upload) => upload.order.manner.closing(),
            other @ (Incoming::Held | Incoming::Identifying | Incoming::Shut(_)) => {
                self.incoming = other;
                return Phase::Receiving(self);
            }
        };
        let seconds = cx.limits.slow_request.as_secs();
        let problem = Problem::fatal(408, format!("the request was not complete within {seconds} seconds"));
        self.refuse_late(cx, link, manner, problem);
        Phase::Receiving(self)
    }
}

/// Checks the origin of a request, and finds its sender.
fn sender(
    head: &Head<'_, '_>,
    cx: &mut Context<'_>,
    link: &mut Link<'_>,
    manner: &mut Manner,
) -> Result<Sender, Problem> {
    if request::is_for_everybody(head) {
        return Ok(Sender::Is(None));
    }
    if cx.peer.is_proxy {
        forwarded::came_from(head, cx);
    }
    label(head, cx);
    let is_question = head.method == "OPTIONS";
    let is_anonymous = is_question || !credentials::are_shown(head, &link.service.config);
    manner.origin = guard::admit(head, cx.peer, &link.service.config, is_anonymous)
        .inspect_err(|problem| cx.notice(Notice::new(Refused::Host, &*problem.detail)))?;
    if is_anonymous { Ok(Sender::Is(None)) } else { credentials::sender(head, cx, link) }
}

/// Tells the node of a request's label. A question for a label's cost adds nothing to it.
fn label(head: &Head<'_, '_>, cx: &mut Context<'_>) {
    let label = head.target.pairs().find(|(name, _)| *name == "label").map(|(_, label)| label);
    if let Some(label) = label {
        let counted = (head.target.path != "/v1/lab").then(|| label.into());
        cx.asks.push((AskId(u32::MAX), Ask::Label(counted)));
    }
}

/// Hands the connection to another protocol.
fn upgrade_to(
    cx: &mut Context<'_>,
    upgrade: &dyn Upgrade,
    head: &Head<'_, '_>,
    manner: &Manner,
    identity: Option<Arc<Identity>>,
    length: usize,
) -> Step {
    let fields: Vec<_> = head.headers.iter().map(|header| (header.name, header.value)).collect();
    let request = UpgradeRequest { path: head.target.path, method: head.method, fields: &fields, identity };
    let phase = match upgrade.upgrade(cx, &request) {
        Ok(wire) => return Step { used: length, phase: Phase::Became(wire), again: false },
        Err(denied) => {
            cx.notice(Notice::new(Refused::Handshake, &*denied.detail));
            let problem = Problem::new(denied.status, denied.detail.into_string());
            cx.out.write(|out| problem.reply_with(manner, &denied.fields, out));
            Phase::after(cx, manner)
        }
    };
    Step { used: length, phase, again: true }
}

/// The reason with which a connection ends after a refusal.
fn blame(problem: &Problem) -> Reason {
    match problem.status {
        408 => Reason::Timeout,
        413 | 431 => Reason::TooLarge("request"),
        _ if problem.framing == Sound::Lost => Reason::Protocol("malformed request"),
        _ => Reason::Done,
    }
}

/// Refuses a body by its announced length, before it is read.
fn check_size(request: &Request, head: &Head<'_, '_>, cx: &Context<'_>) -> Result<(), Problem> {
    let (max, what) = request.max_body(cx.limits, cx.rules);
    match head.framing {
        Framing::Length(n) if n > max as u64 && max == 0 => Err(Problem::bad("no body belongs to this request")),
        Framing::Chunked if max == 0 => Err(Problem::bad("no body belongs to this request")),
        Framing::Length(n) if n > max as u64 => Err(Problem::too_large(max, what)),
        _ => Ok(()),
    }
}
