//! A table of connections that grows in chunks: places keep their memory address, and nothing is copied to grow.

use everywire_base::id::Slot;

const CHUNK: usize = 256;

/// Places for `T`, reused with a new generation.
pub(crate) struct Table<T> {
    chunks: Vec<Box<[Place<T>]>>,
    free: Vec<u32>,
    len: u32,
}

struct Place<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }

    /// The number of places that are taken.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The slot into which the next value will be put.
    pub(crate) fn next_slot(&mut self) -> Slot {
        if self.free.is_empty() {
            let first = (self.chunks.len() * CHUNK) as u32;
            self.chunks.push((0..CHUNK).map(|_| Place { generation: 0, value: None }).collect());
            self.free.extend((first..first + CHUNK as u32).rev());
        }
        let index = *self.free.last().expect("a chunk was just added");
        Slot { index, generation: self.place(index).map_or(0, |p| p.generation) }
    }

    /// Puts a value into the slot that [`Table::next_slot`] names.
    pub(crate) fn insert(&mut self, value: T) -> Slot {
        let slot = self.next_slot();
        self.free.pop();
        self.len += 1;
        if let Some(place) = self.place_mut(slot.index) {
            place.value = Some(value);
        }
        slot
    }

    /// The value at a slot, unless it is gone.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.place_mut(slot.index).filter(|p| p.generation == slot.generation)?.value.as_mut()
    }

    /// The slot at an index, if a value is there.
    pub(crate) fn slot_at(&self, index: u32) -> Option<Slot> {
        let place = self.place(index)?;
        place.value.is_some().then_some(Slot { index, generation: place.generation })
    }

    /// Takes a value out. Its place is not used again before [`Table::recycle`].
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let place = self.place_mut(slot.index).filter(|p| p.generation == slot.generation)?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.len -= 1;
        Some(value)
    }

    /// Frees the place of a removed value, of which nobody speaks any more. Called once for each removal.
    pub(crate) fn recycle(&mut self, removed: Slot) {
        self.free.push(removed.index);
    }

    /// All slots with a value.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        (0..(self.chunks.len() * CHUNK) as u32).filter_map(|i| self.slot_at(i)).collect()
    }

    fn place(&self, index: u32) -> Option<&Place<T>> {
        self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place<T>> {
        self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_place_is_not_the_former_one() {
        let mut table = Table::new();
        let first = table.insert('a');
        assert_eq!(table.remove(first), Some('a'));
        assert_ne!(table.insert('x').index, first.index);
        table.recycle(first);
        let second = table.insert('b');
        assert_eq!(second.index, first.index);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(second), Some(&mut 'b'));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn it_grows_beyond_a_chunk() {
        let mut table = Table::new();
        let slots: Vec<_> = (0..1000).map(|i| table.insert(i)).collect();
        assert_eq!(table.slots().len(), 1000);
        for (i, slot) in slots.into_iter().enumerate() {
            assert_eq!(table.remove(slot), Some(i));
        }
        assert_eq!(table.slots().len(), 0);
    }
}
