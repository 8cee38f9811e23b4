//! AES-CBC with PKCS#7 padding over a whole file, as Aculab describes it (UR-027, AC-012 to AC-015): what `openssl enc -d -aes-…-cbc -K -iv`
//! opens. It hides but does not authenticate: that is its user's choice, and the sidecar's hash is over these bytes.

use aes::cipher::{BlockEncryptMut, KeyIvInit, generic_array::GenericArray};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::verify::hex;
    use std::process::Command;

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
