//! Snapshots in Redis: a hash of pages for each, and one hash of the names and lengths of the whole ones.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Cmd;

use crate::address::Address;

/// The bytes of a page.
const PAGE: usize = 1 << 20;
/// The time after which an unfinished snapshot goes by itself.
const UNFINISHED: Duration = Duration::from_hours(1);

/// The commands for a service's snapshots.
pub(crate) struct Shelf(Arc<Address>);

impl Shelf {
    pub(crate) fn new(address: &Arc<Address>) -> Self {
        Self(Arc::clone(address))
    }

    fn key(&self, name: &str) -> String {
        self.0.key(&format!("snap:{name}"))
    }

    fn index(&self) -> String {
        self.0.key("snaps")
    }

    /// The commands that keep a value, in groups: one group after the other.
    pub(crate) fn put(&self, name: &str, value: &Bytes) -> impl Iterator<Item = Vec<Cmd>> + use<> {
        let (key, index, name, length) = (self.key(name), self.index(), name.to_owned(), value.len());
        let pages: Vec<Bytes> = (0..length).step_by(PAGE).map(|at| value.slice(at..length.min(at + PAGE))).collect();
        let write = {
            let key = key.clone();
            move |(number, page): (usize, Bytes)| vec![page_of(&key, number, &page), expire(&key)]
        };
        let finish = move || {
            let (mut keep, mut enter) = (redis::cmd("PERSIST"), redis::cmd("HSET"));
            keep.arg(&key);
            enter.arg(&index).arg(&name).arg(length);
            vec![redis::cmd("MULTI"), keep, enter, redis::cmd("EXEC")]
        };
        pages.into_iter().enumerate().map(write).chain(std::iter::once_with(finish))
    }

    /// The command for the length of a whole value.
    pub(crate) fn length(&self, name: &str) -> Cmd {
        let mut command = redis::cmd("HGET");
        command.arg(self.index()).arg(name);
        command
    }

    /// The command for a page of a value.
    pub(crate) fn page(&self, name: &str, number: usize) -> Cmd {
        let mut command = redis::cmd("HGET");
        command.arg(self.key(name)).arg(number);
        command
    }

    /// The command for all names.
    pub(crate) fn names(&self) -> Cmd {
        let mut command = redis::cmd("HKEYS");
        command.arg(self.index());
        command
    }

    /// The commands that remove a value.
    pub(crate) fn remove(&self, name: &str) -> [Cmd; 2] {
        let (mut leave, mut remove) = (redis::cmd("HDEL"), redis::cmd("UNLINK"));
        leave.arg(self.index()).arg(name);
        remove.arg(self.key(name));
        [leave, remove]
    }
}

fn page_of(key: &str, number: usize, page: &Bytes) -> Cmd {
    let mut command = redis::cmd("HSET");
    command.arg(key).arg(number).arg(&page[..]);
    command
}

fn expire(key: &str) -> Cmd {
    let mut command = redis::cmd("EXPIRE");
    command.arg(key).arg(UNFINISHED.as_secs());
    command
}
