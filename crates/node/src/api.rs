//! The API's thread: a small tokio runtime that calls the router in process, a bounded number of calls at a time, in all and
//! of one address, and tells of the node on `$SYS`. A call ends when the connection is gone that has asked.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use everywire_api::Control;
use everywire_base::ask::{Call, Reply};
use everywire_base::id::{Slot, Ticket};
use everywire_base::limits::Limits;
use everywire_base::network::neighbourhood;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::sys::{self, Sys};
use crate::threads;

/// Threads for what reads the store: calls wait for each other rather than for a processor.
const READERS: usize = 4;

/// Calls on their way to the API. Clones share the thread.
#[derive(Clone)]
pub(crate) struct Calls {
    queue: Sender<Call>,
    asked: Arc<Asked>,
}

/// The calls that somebody waits for. A connection has one at a time.
struct Asked {
    /// How many one address may have.
    of_one: usize,
    calls: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    calls: HashMap<(u16, Slot), Under>,
    of: HashMap<IpAddr, usize>,
}

/// A call that is under way.
struct Under {
    from: IpAddr,
    /// What ends it, once it has begun.
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
        table.calls.insert(place(call.ticket), Under { from, running: None, is_gone: false });
        true
    }

    /// The call has begun; says whether somebody still waits for it.
    fn begin(&self, ticket: Ticket, running: AbortHandle) -> bool {
        let mut table = self.table();
        let Some(under) = table.calls.get_mut(&place(ticket)) else { return false };
        under.running = Some(running);
        !under.is_gone
    }

    /// The call is over.
    fn leave(&self, ticket: Ticket) {
        let mut table = self.table();
        let Some(Under { from, .. }) = table.calls.remove(&place(ticket)) else { return };
        if let Some(count) = table.of.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                table.of.remove(&from);
            }
        }
    }

    fn forget(&self, place: (u16, Slot)) {
        if let Some(under) = self.table().calls.get_mut(&place) {
            under.is_gone = true;
            under.running.iter().for_each(AbortHandle::abort);
        }
    }
}

fn place(ticket: Ticket) -> (u16, Slot) {
    (ticket.worker, ticket.slot)
}

/// Counts a call out when it ends, however it does.
struct Leave(Arc<Asked>, Ticket);

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
        sys: Sys,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let bound = limits.api_calls;
        let (queue, calls) = mpsc::channel(bound);
        let asked = Arc::new(Asked { of_one: limits.api_calls_per_address, calls: Mutex::default() });
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().max_blocking_threads(READERS).build()?;
        let under_way = Arc::clone(&asked);
        // A worker that has ended has nobody to answer.
        let answer = move |reply: Reply| drop(posts[usize::from(reply.ticket.worker)].send(Mail::Called(reply)));
        let serve = move || {
            runtime.block_on(async {
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
            self.asked.leave(call.ticket);
            call
        })
    }

    /// A connection is gone: what it has asked ends.
    pub(crate) fn forget(&self, worker: u16, slot: Slot) {
        self.asked.forget((worker, slot));
    }
}

/// Tells of the node until the thread ends.
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
        let (router, answer, ticket) = (router.clone(), Arc::clone(&answer), call.ticket);
        let leave = Leave(Arc::clone(&asked), ticket);
        let running = under_way.spawn(async move {
            let reply = everywire_api::call(router, call).await;
            // Before the answer: after it the connection may ask again, under the same place.
            drop(leave);
            answer(reply);
        });
        if !asked.begin(ticket, running.clone()) {
            running.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use everywire_base::id::AskId;

    use super::*;

    fn call(n: u32, from: u8) -> Call {
        let ticket = Ticket { worker: 0, slot: Slot { index: n, generation: 0 }, ask: AskId(1) };
        Call {
            ticket,
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
        asked.leave(call(1, 1).ticket);
        assert!(asked.enter(&call(5, 1)));
        for n in [2, 4, 5] {
            asked.leave(call(n, 0).ticket);
        }
        let table = asked.table();
        assert!(table.calls.is_empty() && table.of.is_empty());
    }

    #[tokio::test]
    async fn a_call_ends_with_its_asker() {
        let asked = Arc::new(Asked { of_one: 2, calls: Mutex::default() });
        let mut tasks = JoinSet::new();
        // One that has begun, and one that still waits.
        for n in [1, 2] {
            assert!(asked.enter(&call(n, 1)));
        }
        let leave = Leave(Arc::clone(&asked), call(1, 1).ticket);
        let running = tasks.spawn(async move {
            let _leave = leave;
            std::future::pending::<()>().await;
        });
        assert!(asked.begin(call(1, 1).ticket, running.clone()));
        for index in [1, 2] {
            asked.forget((0, Slot { index, generation: 0 }));
        }
        assert!(tasks.join_next().await.is_some_and(|ended| ended.is_err_and(|error| error.is_cancelled())));
        assert!(!asked.begin(call(2, 1).ticket, running));
        asked.leave(call(2, 1).ticket);
        assert!(asked.table().calls.is_empty() && asked.table().of.is_empty());
    }
}
