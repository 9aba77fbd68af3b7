//! The beginning of a whole request other than a publish: the asks that it becomes, and the state that waits for them.

use std::sync::Arc;

use bytes::Bytes;
use everywire_base::identity::Identity;
use everywire_wire::{Ask, Context};

use crate::batch::Batching;
use crate::call::Calling;
use crate::credentials;
use crate::machine::{Link, Phase};
use crate::problem::Problem;
use crate::reading::{Reading, Shape};
use crate::reply::Manner;
use crate::waiting::{Api, Subscribing};

/// Asks for each message of a batch.
pub(crate) fn batch(
    cx: &mut Context<'_>,
    link: &mut Link<'_>,
    manner: Manner,
    who: Option<&Arc<Identity>>,
    body: &[u8],
) -> Phase {
    let items = match crate::batch::parse(body, cx.limits) {
        Ok(items) => items,
        Err(problem) => {
            cx.out.write(|out| problem.reply(&manner, out));
            return Phase::after(cx, &manner);
        }
    };
    let mut batching = Batching::new(manner, link.peek(), items.len());
    for item in items {
        let ask = link.number();
        let message = crate::batch::message(item, who.map(|who| &**who), cx.now.wall);
        match message.and_then(|message| Ok(cx.draft(message, who)?)) {
            Ok(draft) => {
                batching.asked(draft.entry.topic().clone());
                cx.asks.push((ask, Ask::Publish(draft)));
            }
            Err(problem) => batching.failed(problem),
        }
    }
    Phase::batch(cx, Box::new(batching))
}

/// Asks for the subscription of a poll or a stream.
pub(crate) fn subscribe(
    cx: &mut Context<'_>,
    link: &mut Link<'_>,
    manner: Manner,
    reading: Reading,
    who: Option<Arc<Identity>>,
) -> Phase {
    let (mut subscribe, shape, agent) = reading.into_ask();
    if !matches!(shape, Shape::ShortPoll { .. }) || link.is_registered() {
        credentials::register(agent, who.as_ref(), cx, link);
    }
    let expires = cx.expiry(who.as_deref());
    if let Some(known) = link.known {
        known.expires = expires;
    }
    subscribe.identity = who;
    let ask = link.number();
    cx.asks.push((ask, Ask::Subscribe(subscribe)));
    Phase::Subscribing(Box::new(Subscribing::new(ask, manner, shape)))
}

/// Calls the API.
pub(crate) fn call(
    cx: &mut Context<'_>,
    link: &mut Link<'_>,
    manner: Manner,
    call: Calling,
    who: Option<Arc<Identity>>,
    body: Bytes,
) -> Phase {
    let call = call.with(who, body);
    if let Err(unfit) = cx.count_call(&call) {
        let problem = Problem::from(unfit);
        cx.out.write(|out| problem.reply(&manner, out));
        return Phase::after(cx, &manner);
    }
    let ask = link.number();
    cx.asks.push((ask, Ask::Call(call)));
    Phase::Calling(Api::new(ask, manner))
}
