//! Files in pieces. A kernel that is not preempted in system calls copies a file of tens of megabytes, or brings it to the disk, in one go of tens
//! of milliseconds; on the same core every media thread waits for that.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Copied in some 20 us.
const PIECE: usize = 64 << 10;
/// Begun to be written to the disk, so that little is left for the sync at the end.
const STRETCH: usize = 1 << 20;

/// All of a file. More than `most` bytes are an error.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(length.min(usize::try_from(most).unwrap_or(usize::MAX)));
    while (&mut file).take(PIECE as u64).read_to_end(&mut bytes)? > 0 {
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("larger than {most} bytes")));
        }
    }
    Ok(bytes)
}

/// Writes to a file that is at its beginning, and brings it to the disk.
pub fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    for (n, stretch) in bytes.chunks(STRETCH).enumerate() {
        for piece in stretch.chunks(PIECE) {
            file.write_all(piece)?;
        }
        begin_to_store(file, n * STRETCH, stretch.len());
    }
    file.sync_all()
}

/// What `from` has from where it is on, to `to`, which is at its beginning; brings that to the disk.
pub fn copy(from: &mut File, to: &mut File) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let (mut length, mut begun) = (0, 0);
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => return to.sync_all(),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&piece[..read])?;
        length += read;
        if length - begun >= STRETCH {
            begin_to_store(to, begun, length - begun);
            begun = length;
        }
    }
}

/// A hint: where it is refused, the sync at the end has more to do.
fn begin_to_store(file: &File, from: usize, length: usize) {
    let (Ok(from), Ok(length)) = (i64::try_from(from), i64::try_from(length)) else { return };
    // SAFETY: no memory is involved, and the descriptor is open.
    unsafe { libc::sync_file_range(file.as_raw_fd(), from, length, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_copied_and_no_more_than_is_wanted() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        for length in [0, 1, PIECE - 1, PIECE, STRETCH + PIECE + 7, 3 * STRETCH] {
            let bytes: Vec<u8> = (0..length).map(|n| (n / 7) as u8).collect();
            write(&mut File::create(&one).expect("made"), &bytes).expect("written");
            assert_eq!(read(&one, length as u64).expect("read"), bytes);
            copy(&mut File::open(&one).expect("there"), &mut File::create(&other).expect("made")).expect("copied");
            assert_eq!(read(&other, u64::MAX).expect("read"), bytes);
            if length > 0 {
                assert!(read(&one, length as u64 - 1).is_err());
            }
        }
    }
}
