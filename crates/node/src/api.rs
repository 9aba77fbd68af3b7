//! The API's thread: a small tokio runtime that calls the router in process, and publishes the node's numbers on
//! `$SYS`. The number of calls at a time is bounded, in all and for one address. A call ends when the connection that
//! asked is gone.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use everywire_api::Control;
use everywire_base::ask::{Call, Reply};
use everywire_base::id::{AskId, ReplyTo, Slot};
use everywire_base::limits::Limits;
use everywire_base::network::neighbourhood;
use everywire_base::registry::NodesAsked;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::config::Over;
use crate::doorbell::answer;
use crate::link;
use crate::peers::Peers;
use crate::sys::{self, Sys};
use crate::threads;

/// Threads that read the store: calls wait for each other rather than for a processor.
const READERS: usize = 4;

/// Calls on their way to the API. Clones share the thread.
#[derive(Clone)]
pub(crate) struct Calls {
    queue: Sender<Call>,
    asked: Arc<Asked>,
}

/// The tasks beside the calls on the thread: telling of the node, watching its engine, answering other nodes.
pub(crate) struct Beside {
    pub(crate) sys: Sys,
    pub(crate) over: Over,
    pub(crate) peers: Peers,
    pub(crate) questions: Receiver<NodesAsked>,
}

/// The calls that somebody waits for.
struct Asked {
    /// The most calls that one address may have.
    of_one: usize,
    calls: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    calls: BTreeMap<ReplyTo, Under>,
    of: HashMap<IpAddr, usize>,
}

/// A call that is under way.
struct Under {
    from: IpAddr,
    /// The handle that ends the call, once it has begun.
    running: Option<AbortHandle>,
    is_gone: bool,
}

impl Asked {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; says whether its address may have one more.
    fn enter(&self, call: &Call) -> bool {
        let from = neighbourhood(call.from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let mut table = self.table();
        let count = table.of.entry(from).or_default();
        if *count >= self.of_one {
            return false;
        }
        *count += 1;
        table.calls.insert(call.reply_to, Under { from, running: None, is_gone: false });
        true
    }

    /// Marks a call as begun; says whether somebody still waits for it.
    fn begin(&self, reply_to: ReplyTo, running: AbortHandle) -> bool {
        let mut table = self.table();
        let Some(under) = table.calls.get_mut(&reply_to) else { return false };
        under.running = Some(running);
        !under.is_gone
    }

    /// Counts a call out.
    fn leave(&self, reply_to: ReplyTo) {
        let mut table = self.table();
        let Some(Under { from, .. }) = table.calls.remove(&reply_to) else { return };
        if let Some(count) = table.of.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                table.of.remove(&from);
            }
        }
    }

    fn forget(&self, worker: u16, slot: Slot) {
        let of = |ask| ReplyTo::Connection { worker, slot, ask };
        let all = of(AskId(0))..=of(AskId(u32::MAX));
        for (_, under) in self.table().calls.range_mut(all) {
            under.is_gone = true;
            under.running.iter().for_each(AbortHandle::abort);
        }
    }
}

/// Counts a call out when it ends, in whatever way.
struct Leave(Arc<Asked>, ReplyTo);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

impl Calls {
    /// Starts the thread. It ends when the last clone is gone.
    pub(crate) fn start(
        control: Arc<dyn Control>,
        posts: Arc<[Post<Socket>]>,
        limits: &Limits,
        beside: Beside,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let bound = limits.api_calls;
        let (queue, calls) = mpsc::channel(bound);
        let asked = Arc::new(Asked { of_one: limits.api_calls_per_address, calls: Mutex::default() });
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().max_blocking_threads(READERS).build()?;
        let under_way = Arc::clone(&asked);
        let answer = move |reply: Reply| answer(&posts, reply.reply_to, Mail::Called(reply));
        let serve = move || {
            runtime.block_on(async {
                let Beside { sys, over, peers, questions } = beside;
                tokio::spawn(link::watch(Arc::clone(&sys.engine), over));
                tokio::spawn(peers.answer(questions));
                tokio::spawn(tell(sys));
                serve(control, Arc::new(answer), calls, bound, under_way).await;
            });
        };
        let thread = threads::spawn("api", serve)?;
        Ok((Self { queue, asked }, thread))
    }

    /// Takes a call, or gives it back when too many wait, in all or of its address.
    #[expect(clippy::result_large_err, reason = "it is given back only where the API is overloaded")]
    pub(crate) fn call(&self, call: Call) -> Result<(), Call> {
        if !self.asked.enter(&call) {
            return Err(call);
        }
        self.queue.try_send(call).map_err(|error| {
            let call = error.into_inner();
            self.asked.leave(call.reply_to);
            call
        })
    }

    /// Ends the call of a connection that is gone.
    pub(crate) fn forget(&self, worker: u16, slot: Slot) {
        self.asked.forget(worker, slot);
    }
}

/// Publishes the node's numbers until the thread ends.
async fn tell(sys: Sys) {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval_at(begun + sys::PERIOD, sys::PERIOD);
    loop {
        ticks.tick().await;
        sys.tell(begun.elapsed());
    }
}

async fn serve(
    control: Arc<dyn Control>,
    answer: Arc<dyn Fn(Reply) + Send + Sync>,
    mut calls: Receiver<Call>,
    bound: usize,
    asked: Arc<Asked>,
) {
    let router = everywire_api::router(control);
    let mut under_way = JoinSet::new();
    while let Some(call) = calls.recv().await {
        while under_way.len() >= bound {
            under_way.join_next().await;
        }
        while under_way.try_join_next().is_some() {}
        let (router, answer, reply_to) = (router.clone(), Arc::clone(&answer), call.reply_to);
        let leave = Leave(Arc::clone(&asked), reply_to);
        let running = under_way.spawn(async move {
            let reply = everywire_api::call(router, call).await;
            // The call is counted out before the answer: after it the connection may ask again, under the same place.
            drop(leave);
            answer(reply);
        });
        if !asked.begin(reply_to, running.clone()) {
            running.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(n: u32, from: u8) -> Call {
        let reply_to = ReplyTo::Connection { worker: 0, slot: Slot { index: n, generation: 0 }, ask: AskId(1) };
        Call {
            reply_to,
            from: Some([192, 0, 2, from].into()),
            method: "GET".into(),
            target: "/".into(),
            headers: Vec::new(),
            identity: None,
            body: Vec::new().into(),
        }
    }

    #[test]
    fn one_address_has_its_share_of_the_calls() {
        let asked = Asked { of_one: 2, calls: Mutex::default() };
        assert_eq!([1, 2, 3].map(|n| asked.enter(&call(n, 1))), [true, true, false]);
        assert!(asked.enter(&call(4, 2)));
        asked.leave(call(1, 1).reply_to);
        assert!(asked.enter(&call(5, 1)));
        for n in [2, 4, 5] {
            asked.leave(call(n, 0).reply_to);
        }
        let table = asked.table();
        assert!(table.calls.is_empty() && table.of.is_empty());
    }

    #[tokio::test]
    async fn a_call_ends_with_its_asker() {
        let asked = Arc::new(Asked { of_one: 2, calls: Mutex::default() });
        let mut tasks = JoinSet::new();
        // The first call has begun, the second still waits.
        for n in [1, 2] {
            assert!(asked.enter(&call(n, 1)));
        }
        let leave = Leave(Arc::clone(&asked), call(1, 1).reply_to);
        let running = tasks.spawn(async move {
            let _leave = leave;
            std::future::pending::<()>().await;
        });
        assert!(asked.begin(call(1, 1).reply_to, running.clone()));
        for index in [1, 2] {
            asked.forget(0, Slot { index, generation: 0 });
        }
        assert!(tasks.join_next().await.is_some_and(|ended| ended.is_err_and(|error| error.is_cancelled())));
        assert!(!asked.begin(call(2, 1).reply_to, running));
        asked.leave(call(2, 1).reply_to);
        assert!(asked.table().calls.is_empty() && asked.table().of.is_empty());
    }
}
