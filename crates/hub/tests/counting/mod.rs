//! An allocator that counts, for tests that say what something costs. One test in each file, since it counts all.

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait; it only forwards to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use everywire_base::cursor::{Lineage, Offset};
use everywire_base::limits::Limits;
use everywire_base::rules::Rules;
use everywire_hub::{Hub, Setup};
use everywire_log::hint::RetainedHint;
use everywire_log::tail::TailWriter;

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Allocators round up to 16 bytes.
        BYTES.fetch_add(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn rounded(size: usize) -> usize {
    size.next_multiple_of(16)
}

/// The number of bytes in use.
pub(crate) fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// A hub on a log of which little is kept in memory.
pub(crate) fn hub_on_a_log() -> (Hub, TailWriter) {
    let limits = Arc::new(Limits { tail_records: 64, ..Limits::default() });
    let writer = TailWriter::new(Offset(0), &limits);
    let hub = Hub::new(Setup {
        tails: vec![Arc::clone(writer.tail())],
        lineages: vec![Arc::new(Lineage::default())],
        rooms: Arc::default(),
        retained: Arc::new(RetainedHint::default()),
        limits,
        rules: Arc::new(Rules::default()),
        worker: 0,
        life: everywire_base::id::NodeLife::default(),
        random: Arc::new(|| 4),
    });
    (hub, writer)
}
