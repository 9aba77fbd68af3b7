//! The parcels that lagging connections share: connections that fell behind together replay the same records, and each
//! record is rendered once. The table is bounded; a parcel that falls out is rendered again. So is a message that
//! expires: its rendition says the time that it still lives (MQTT-5.0 §3.3.2.3.3), as of the moment in which it is
//! made.

use std::rc::Rc;
use std::sync::Arc;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Epoch;
use everywire_base::parcel::Parcel;
use everywire_base::record::Record;

const PLACES: usize = 256;
const MAX_BYTES: usize = 1 << 20;

/// Recent parcels by offset.
#[derive(Default)]
pub(super) struct Parcels {
    places: Vec<Option<(UnixMillis, Rc<Parcel>)>>,
    bytes: usize,
}

impl Parcels {
    /// The parcel of a record; `None` if the record is no message.
    pub(crate) fn of(&mut self, record: &Arc<Record>, epoch: Epoch, now: UnixMillis) -> Option<Rc<Parcel>> {
        if self.bytes > MAX_BYTES {
            self.clear();
        }
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        let place = &mut self.places[record.offset.0 as usize % PLACES];
        let is_true = |made: UnixMillis| made == now || record.message().is_some_and(|m| m.expires.is_none());
        if let Some((_, parcel)) = place.as_ref().filter(|(made, p)| same(p.record(), record) && is_true(*made)) {
            return Some(Rc::clone(parcel));
        }
        let parcel = Rc::new(Parcel::new(Arc::clone(record), epoch)?);
        // Renditions come later, and there may be several.
        self.bytes += 2 * record.weight();
        *place = Some((now, Rc::clone(&parcel)));
        Some(parcel)
    }

    /// Forgets all, and frees the memory.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn same(one: &Arc<Record>, other: &Arc<Record>) -> bool {
    one.offset == other.offset && one.partition == other.partition
}
