//! Seeded randomness: tags, branches, SSRCs and map keys. The seed is an input, so a run can be repeated from it, and an outsider
//! who does not know it can neither guess a tag nor make map keys collide.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use siphasher::sip::SipHasher13;
use std::collections::HashMap;
use std::hash::BuildHasher;

/// A cryptographic generator from a seed that is given, never drawn here.
pub struct Random(ChaCha12Rng);

impl Random {
    pub fn new(seed: [u8; 32]) -> Random {
        Random(ChaCha12Rng::from_seed(seed))
    }

    pub fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A seed for a machine of its own, so that two machines never share a stream.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }

    /// `n` characters of the alphabet `a-z0-9` (5 bits each), fit for tags, branches and Call-IDs.
    pub fn token(&mut self, n: usize) -> String {
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        (0..n).map(|_| ALPHABET[(self.0.next_u32() & 31) as usize] as char).collect()
    }

    /// A version 4 UUID in its usual text form.
    pub fn uuid(&mut self) -> String {
        let mut b = [0u8; 16];
        self.0.fill_bytes(&mut b);
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        // By a table: each hook has one made while its call waits, and formatted byte by byte that was a twentieth of its thread's time.
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(36);
        for (i, byte) in b.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.extend([byte >> 4, byte & 15].map(|half| char::from(HEX[usize::from(half)])));
        }
        text
    }

    pub fn map<K, V>(&mut self) -> KeyedMap<K, V> {
        HashMap::with_hasher(KeyedHash { k0: self.u64(), k1: self.u64() })
    }
}

/// A hash map whose hash is keyed from our seed: repeatable for us, unpredictable for a sender.
pub type KeyedMap<K, V> = HashMap<K, V, KeyedHash>;

#[derive(Clone, Debug)]
pub struct KeyedHash {
    k0: u64,
    k1: u64,
}

impl BuildHasher for KeyedHash {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.k0, self.k1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_one_of_version_4_in_its_usual_form() {
        let mut random = Random::new([7; 32]);
        for _ in 0..100 {
            let text = random.uuid();
            let parts: Vec<&str> = text.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{text}");
            assert!(text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{text}");
            assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{text}");
        }
    }
}
