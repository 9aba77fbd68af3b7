//! Reading backwards: `GET /v1/messages?topic=T&before=C|latest&limit=N` answers at once with the last messages before
//! a position, in order, and with the cursor at which the page before that one ends.

use std::sync::Arc;

use everywire_base::ask::{Asker, LookBack, NoPast, Past};
use everywire_base::cursor::Start;
use everywire_base::envelope;
use everywire_base::id::AskId;
use everywire_base::identity::Identity;
use everywire_base::limits::Limits;
use everywire_base::parcel::Parcel;
use everywire_base::topic::{Filter, Topic};
use everywire_wire::{Ask, Context};

use crate::head::Head;
use crate::machine::{Link, Phase};
use crate::problem::Problem;
use crate::reading::Parameters;
use crate::reply::{self, Fields, Length, Manner};
use crate::target::decode;

/// A request to read backwards.
pub(crate) struct Backwards {
    topic: Topic,
    before: Option<everywire_base::cursor::Cursor>,
    limit: usize,
}

impl Backwards {
    /// Whether a request reads backwards.
    pub(crate) fn is_asked(head: &Head<'_, '_>) -> bool {
        head.target.pairs().any(|pair| pair.0 == "before")
    }

    pub(crate) fn understand(head: &Head<'_, '_>, limits: &Limits) -> Result<Self, Problem> {
        let these = Parameters::of(head, limits)?;
        if these.after.is_some() || these.wait.is_some() {
            return Err(Problem::bad("`before` reads backwards and at once: leave out `after` and `wait`"));
        }
        let text = decode(these.before.unwrap_or_default(), "before")?;
        let before = match text.parse() {
            Ok(Start::Latest) => None,
            Ok(Start::After(cursor)) => Some(cursor),
            _ => return Err(Problem::bad("`before` is a cursor, as the server gave it, or `latest`")),
        };
        let limit = these.limit(limits)?;
        match &these.filters[..] {
            [Filter::Exact(topic)] => Ok(Self { topic: topic.clone(), before, limit }),
            _ => Err(Problem::bad("`before` reads one topic backwards: name one `topic=`, without wildcards")),
        }
    }

    /// Asks for the page.
    pub(crate) fn begin(
        self,
        cx: &mut Context<'_>,
        link: &mut Link<'_>,
        manner: Manner,
        who: Option<Arc<Identity>>,
    ) -> Phase {
        let Self { topic, before, limit } = self;
        let ask = link.number();
        cx.asks.push((ask, Ask::LookBack(LookBack { topic, before, limit, asker: Asker::Is(who) })));
        Phase::Looking(Looking { ask, manner: Box::new(manner) })
    }
}

/// A page that is under way.
pub(crate) struct Looking {
    ask: AskId,
    manner: Box<Manner>,
}

impl Looking {
    pub(crate) fn ask(&self) -> AskId {
        self.ask
    }

    pub(crate) fn answer(self, cx: &mut Context<'_>, link: &Link<'_>, past: Result<Past, NoPast>) -> Phase {
        let manner = if link.ends() { self.manner.closing() } else { *self.manner };
        cx.out.write(|out| match past {
            Ok(past) if past.records.is_empty() && !past.gap => {
                reply::head(out, &manner, 204, Length::None, |fields| position(fields, &past));
            }
            Ok(past) => page(out, &manner, &past),
            Err(NoPast::Refused(refusal)) => Problem::from(refusal).reply(&manner, out),
            Err(busy @ NoPast::Busy) => Problem::unavailable(1, busy.to_string()).reply(&manner, out),
        });
        Phase::after(cx, &manner)
    }
}

fn position(fields: &mut Fields<'_>, past: &Past) {
    fields.add("Everywire-Cursor", past.cursor.to_string().as_bytes());
    fields.add("Cache-Control", b"no-store");
}

fn page(out: &mut Vec<u8>, manner: &Manner, past: &Past) {
    let mut json = b"{\"messages\":[".to_vec();
    for parcel in past.records.iter().filter_map(|record| Parcel::new(Arc::clone(record), past.before.epoch)) {
        if json.last() == Some(&b'}') {
            json.push(b',');
        }
        envelope::write(&parcel, &mut json);
    }
    let Past { before, cursor, gap, more, .. } = past;
    json.extend_from_slice(
        format!("],\"before\":\"{before}\",\"cursor\":\"{cursor}\",\"gap\":{gap},\"more\":{more}}}").as_bytes(),
    );
    reply::head(out, manner, 200, Length::Bytes(json.len()), |fields| {
        fields.add("Content-Type", b"application/json");
        position(fields, past);
    });
    reply::body(out, manner, &json);
}
