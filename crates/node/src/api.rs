//! The API's thread: a small tokio runtime that calls the router in process, a bounded number of calls at a time, and
//! tells of the node on `$SYS`.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use everywire_api::Control;
use everywire_base::ask::Call;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::sys::{self, Sys};
use crate::threads;

/// Calls on their way to the API. Clones share the thread.
#[derive(Clone)]
pub(crate) struct Calls {
    queue: Sender<Call>,
}

impl Calls {
    /// Starts the thread. It ends when the last clone is gone.
    pub(crate) fn start(
        control: Arc<dyn Control>,
        posts: Arc<[Post<Socket>]>,
        bound: usize,
        sys: Sys,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, calls) = mpsc::channel(bound);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let serve = move || {
            runtime.block_on(async {
                tokio::spawn(tell(sys));
                serve(control, posts, calls, bound).await;
            });
        };
        let thread = threads::spawn("api", serve)?;
        Ok((Self { queue }, thread))
    }

    /// Takes a call, or gives it back when too many wait.
    #[expect(clippy::result_large_err, reason = "it is given back only where the API is overloaded")]
    pub(crate) fn call(&self, call: Call) -> Result<(), Call> {
        self.queue.try_send(call).map_err(mpsc::error::TrySendError::into_inner)
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

async fn serve(control: Arc<dyn Control>, posts: Arc<[Post<Socket>]>, mut calls: Receiver<Call>, bound: usize) {
    let router = everywire_api::router(control);
    let mut under_way = JoinSet::new();
    while let Some(call) = calls.recv().await {
        while under_way.len() >= bound {
            under_way.join_next().await;
        }
        while under_way.try_join_next().is_some() {}
        let (router, posts) = (router.clone(), Arc::clone(&posts));
        under_way.spawn(async move {
            let worker = call.ticket.worker;
            let reply = everywire_api::call(router, call).await;
            // A worker that has ended has nobody to answer.
            let _ = posts[usize::from(worker)].send(Mail::Called(reply));
        });
    }
}
