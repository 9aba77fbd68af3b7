//! A frame: the records of one append, one entry of the stream. Each record is its length, 32 bits little-endian, and
//! its bytes.

use bytes::{Buf as _, Bytes};

/// The records as one frame.
pub(crate) fn pack(records: &[Bytes]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(records.iter().map(|record| 4 + record.len()).sum());
    for record in records {
        frame.extend_from_slice(&(record.len() as u32).to_le_bytes());
        frame.extend_from_slice(record);
    }
    frame
}

/// The records of a frame, which share its memory; `None` if the bytes are no frame, or one with another number of
/// records.
pub(crate) fn unpack(mut frame: Bytes, count: usize) -> Option<Vec<Bytes>> {
    // Each record takes at least four bytes: a wrong count takes no memory.
    let mut records = Vec::with_capacity(count.min(frame.len() / 4));
    while !frame.is_empty() {
        let length = frame.try_get_u32_le().ok()? as usize;
        if length > frame.len() {
            return None;
        }
        records.push(frame.split_to(length));
    }
    (records.len() == count).then_some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let records = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![0; 300])];
        assert_eq!(unpack(pack(&records).into(), 3), Some(records.to_vec()));
        assert_eq!(unpack(Bytes::new(), 0), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_frame_is_none_wherever_it_is_cut() {
        let frame = Bytes::from(pack(&[Bytes::from_static(b"one"), Bytes::from_static(b"two")]));
        for end in 0..frame.len() {
            assert_eq!(unpack(frame.slice(..end), 2), None, "cut at {end}");
        }
        assert_eq!(unpack(frame.clone(), 1), None);
        assert_eq!(unpack(frame, usize::MAX), None);
    }
}
