//! A table that grows by chunks: its entries never move, and growing copies nothing.

const CHUNK: usize = 512;

/// Entries by index. Those that were never written are defaults.
#[derive(Debug)]
pub(crate) struct Chunked<T> {
    chunks: Vec<Box<[T]>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T: Default> Chunked<T> {
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.chunks.get(index / CHUNK).map(|chunk| &chunk[index % CHUNK])
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK).map(|chunk| &mut chunk[index % CHUNK])
    }

    /// The entry, after growing up to it.
    pub(crate) fn reach(&mut self, index: u32) -> &mut T {
        let index = index as usize;
        while self.chunks.len() <= index / CHUNK {
            self.chunks.push((0..CHUNK).map(|_| T::default()).collect());
        }
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }

    /// The number of entries that there is room for.
    pub(crate) fn len(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }
}
