//! SipHash-1-3: a keyed hash that is the same on every machine and in every version, as the standard library's isn't
//! promised to be. Each piece of bytes is hashed with its length before it, so that no two lists of pieces give the
//! same input.

/// The two halves of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SipHash(pub [u64; 2]);

impl SipHash {
    /// A key from the system's randomness, by way of the standard library's hasher.
    pub(crate) fn random() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self([RandomState::new().hash_one(0), RandomState::new().hash_one(1)])
    }

    /// The hash of these pieces.
    pub(crate) fn of(&self, pieces: &[Option<&[u8]>]) -> u64 {
        let mut sip = State::new(self.0);
        for piece in pieces {
            let Some(piece) = piece else {
                sip.word(u64::MAX);
                continue;
            };
            sip.word(piece.len() as u64);
            let mut words = piece.chunks_exact(8);
            for word in &mut words {
                sip.word(word.try_into().map_or(0, u64::from_le_bytes));
            }
            let mut last = [0; 8];
            last[..words.remainder().len()].copy_from_slice(words.remainder());
            if !words.remainder().is_empty() {
                sip.word(u64::from_le_bytes(last));
            }
        }
        sip.finish()
    }
}

struct State {
    v: [u64; 4],
    words: u64,
}

impl State {
    fn new([k0, k1]: [u64; 2]) -> Self {
        let v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { v, words: 0 }
    }

    fn round(&mut self) {
        let [a, b, c, d] = &mut self.v;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }

    fn word(&mut self, word: u64) {
        self.words += 1;
        self.v[3] ^= word;
        self.round();
        self.v[0] ^= word;
    }

    fn finish(mut self) -> u64 {
        // The length in bytes, modulo 256, in the highest byte: all words are whole.
        self.word((self.words * 8) << 56);
        self.v[2] ^= 0xff;
        (0..3).for_each(|_| self.round());
        self.v.into_iter().fold(0, |hash, part| hash ^ part)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    #[test]
    fn it_is_the_hash_of_the_standard_library_over_the_same_bytes() {
        for text in ["", "a", "12345678", "123456789", "a longer text of some words"] {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(text.len() as u64);
            let mut padded = text.as_bytes().to_vec();
            padded.resize(text.len().div_ceil(8) * 8, 0);
            hasher.write(&padded);
            assert_eq!(SipHash([0, 0]).of(&[Some(text.as_bytes())]), hasher.finish(), "{text}");
        }
    }

    #[test]
    fn it_never_changes_and_lists_of_pieces_do_not_meet() {
        let hash = |pieces: &[Option<&[u8]>]| SipHash([1, 2]).of(pieces);
        assert_eq!(hash(&[Some(b"everywire"), None]), 7_487_270_577_326_953_403);
        let lists: [&[Option<&[u8]>]; 6] = [
            &[Some(b"ab")],
            &[Some(b"a"), Some(b"b")],
            &[Some(b"ab"), None],
            &[None, Some(b"ab")],
            &[Some(b"")],
            &[None],
        ];
        let hashes: std::collections::BTreeSet<u64> = lists.iter().map(|list| hash(list)).collect();
        assert_eq!(hashes.len(), lists.len());
    }
}
