//! Aliases: the names that stand for users in a room that hides them (`see` is `admins`).
//!
//! An alias is made of the user's name and of a secret that only the nodes know, drawn when the room is founded: the same
//! at all nodes and as long as the room lives, another in each room. Nobody can try users to find whose it is.

use sha2::{Digest, Sha256};

/// The beginning of each alias.
const SIGN: char = '~';
/// The number of letters behind it: 5 bits each.
const LETTERS: usize = 13;
/// Letters that are told apart on paper too, and none that has an upper case of another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The alias of a user.
pub(crate) fn alias(secret: &str, user: &str) -> Box<str> {
    let mut hash = Sha256::new();
    hash.update((secret.len() as u64).to_le_bytes());
    hash.update(secret);
    hash.update(user);
    let bytes = hash.finalize();
    let number = bytes.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let letter = |nth: usize| char::from(ALPHABET[(number >> (5 * nth)) as usize % ALPHABET.len()]);
    std::iter::once(SIGN).chain((0..LETTERS).map(letter)).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_depends_on_the_user_and_the_secret() {
        let all = [alias("s", "ann"), alias("s", "bob"), alias("t", "ann"), alias("sa", "nn"), alias("", "sann")];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "{all:?}");
        assert_eq!(alias("s", "ann"), all[0], "it stays");
        assert_eq!(all[0].len(), 14, "{}", all[0]);
        assert!(crate::names::check_nick(&all[0]).is_ok() && crate::names::folded(&all[0]) == *all[0]);
    }
}
