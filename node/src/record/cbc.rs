//! AES-CBC with PKCS#7 padding over a whole file, as Aculab describes it (UR-027, AC-012 to AC-015): what `openssl enc -d -aes-…-cbc -K -iv`
//! opens. It hides but does not authenticate: that is its user's choice, and the sidecar's hash is over these bytes.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockCipher, BlockDecryptMut, BlockEncryptMut, KeyInit, KeyIvInit, generic_array::GenericArray};
use aes::{Aes128, Aes192, Aes256};
use hookswitch_call::recording::CbcKey;
use std::io::{self, Read, Write};

const BLOCK: usize = 16;
/// Read and written at a time.
const PIECE: usize = 64 << 10;

enum Cipher {
    Aes128(Box<cbc::Encryptor<Aes128>>),
    Aes192(Box<cbc::Encryptor<Aes192>>),
    Aes256(Box<cbc::Encryptor<Aes256>>),
}

impl Cipher {
    fn new(key: &CbcKey) -> io::Result<Cipher> {
        let wrong = |_| io::Error::new(io::ErrorKind::InvalidInput, "an AES key has 16, 24 or 32 bytes");
        Ok(match key.key.len() {
            16 => Cipher::Aes128(Box::new(cbc::Encryptor::new_from_slices(&key.key, &key.iv).map_err(wrong)?)),
            24 => Cipher::Aes192(Box::new(cbc::Encryptor::new_from_slices(&key.key, &key.iv).map_err(wrong)?)),
            _ => Cipher::Aes256(Box::new(cbc::Encryptor::new_from_slices(&key.key, &key.iv).map_err(wrong)?)),
        })
    }

    /// Whole blocks, in place.
    fn encrypt(&mut self, bytes: &mut [u8]) {
        for block in bytes.chunks_exact_mut(BLOCK) {
            let block = GenericArray::from_mut_slice(block);
            match self {
                Cipher::Aes128(cipher) => cipher.encrypt_block_mut(block),
                Cipher::Aes192(cipher) => cipher.encrypt_block_mut(block),
                Cipher::Aes256(cipher) => cipher.encrypt_block_mut(block),
            }
        }
    }
}

/// All of `plain`, encrypted.
pub fn encrypt(plain: &mut impl Read, key: &CbcKey, out: &mut impl Write) -> io::Result<()> {
    let mut cipher = Cipher::new(key)?;
    let mut piece = Vec::with_capacity(PIECE + BLOCK);
    loop {
        piece.clear();
        let last = plain.take(PIECE as u64).read_to_end(&mut piece)? < PIECE;
        if last {
            // RFC 5652 6.3: one to sixteen bytes, each saying how many.
            let pad = BLOCK - piece.len() % BLOCK;
            piece.resize(piece.len() + pad, u8::try_from(pad).unwrap_or(0));
        }
        cipher.encrypt(&mut piece);
        out.write_all(&piece)?;
        if last {
            return Ok(());
        }
    }
}

/// What [`encrypt`] made, back again. A wrong key, vector or file is an error where the padding tells, and noise where it does not.
pub fn decrypt(mut sealed: Vec<u8>, key: &CbcKey) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it does not decrypt with this key and vector");
    let open = match key.key.len() {
        16 => open::<Aes128>,
        24 => open::<Aes192>,
        _ => open::<Aes256>,
    };
    let length = open(&mut sealed, key).ok_or_else(wrong)?;
    sealed.truncate(length);
    Ok(sealed)
}

/// Decrypts in place and says how much of it is no padding.
fn open<A>(bytes: &mut [u8], key: &CbcKey) -> Option<usize>
where
    A: BlockDecryptMut + BlockCipher + KeyInit,
{
    let opened = cbc::Decryptor::<A>::new_from_slices(&key.key, &key.iv).ok()?;
    opened.decrypt_padded_mut::<Pkcs7>(bytes).ok().map(<[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::verify::hex;
    use std::process::Command;

    #[test]
    fn ac_016_what_was_encrypted_is_opened_with_the_same_key_alone() {
        for bytes in [16u8, 24, 32] {
            let key = CbcKey { key: (0..bytes).collect(), iv: [0x5a; 16] };
            for length in [0usize, 1, 15, 16, 17, 70_000] {
                let plain: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
                let mut sealed = Vec::new();
                encrypt(&mut &plain[..], &key, &mut sealed).expect("written");
                assert_eq!(decrypt(sealed.clone(), &key).expect("opened"), plain, "{bytes} {length}");
                let other = CbcKey { key: vec![9; usize::from(bytes)], iv: key.iv };
                assert_ne!(decrypt(sealed.clone(), &other).ok(), Some(plain), "another key");
                // What is no whole number of blocks was cut.
                sealed.pop();
                assert!(decrypt(sealed, &key).is_err());
            }
            assert!(decrypt(Vec::new(), &key).is_err());
        }
    }

    #[test]
    fn ur_027_openssl_opens_it_with_key_and_vector() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.cbc");
        if Command::new("openssl").arg("version").output().is_err() {
            return eprintln!("openssl is not installed: not asked");
        }
        for bytes in [16, 24, 32] {
            for size in [0, 1, 15, 16, 17, PIECE - 1, PIECE, PIECE + 1] {
                let plain: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
                let key = CbcKey { key: (0..bytes).collect(), iv: [0xa5; 16] };
                let mut sealed = Vec::new();
                encrypt(&mut &plain[..], &key, &mut sealed).unwrap();
                assert_eq!(sealed.len(), (size / 16 + 1) * 16);
                std::fs::write(&path, &sealed).unwrap();
                let cipher = format!("-aes-{}-cbc", u32::from(bytes) * 8);
                let output = Command::new("openssl")
                    .args(["enc", "-d", &cipher, "-K", &hex(&key.key), "-iv", &hex(&key.iv), "-in"])
                    .arg(&path)
                    .output()
                    .unwrap();
                assert!(output.status.success() && output.stdout == plain, "{bytes} {size}: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }

    #[test]
    fn ur_027_keys_of_other_lengths_are_refused() {
        for bytes in [0, 15, 17, 33] {
            let key = CbcKey { key: vec![1; bytes], iv: [0; 16] };
            assert!(encrypt(&mut &b"x"[..], &key, &mut Vec::new()).is_err(), "{bytes}");
        }
    }
}
