//! Records on their way into the database, packed: they lie on a board's card until their turn comes. Knows bytes only.

use std::cell::RefCell;
use std::io;

use zstd::bulk::{Compressor, Decompressor};

use super::segment::LINE_LIMIT;

/// Quick, and half the size.
const LEVEL: i32 = 1;

/// Packs and unpacks lines, with what zstd keeps from one to the next.
#[derive(Default)]
pub struct Lines {
    pack: RefCell<Option<Compressor<'static>>>,
    unpack: RefCell<Option<Decompressor<'static>>>,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Lines")
    }
}

impl Lines {
    /// The length (four bytes, little endian) and a zstd frame.
    ///
    /// # Errors
    /// zstd's; a line that is longer than any segment has.
    pub fn pack(&self, line: &[u8]) -> io::Result<Vec<u8>> {
        let length = u32::try_from(line.len()).ok().filter(|_| line.len() <= LINE_LIMIT);
        let length = length.ok_or_else(|| io::Error::other("a record is too long"))?;
        let mut slot = self.pack.borrow_mut();
        let packer = match slot.take() {
            Some(packer) => packer,
            None => Compressor::new(LEVEL)?,
        };
        let frame = slot.insert(packer).compress(line)?;
        Ok([&length.to_le_bytes()[..], &frame].concat())
    }

    /// The line that was packed.
    ///
    /// # Errors
    /// These bytes are none.
    pub fn unpack(&self, packed: &[u8]) -> io::Result<Vec<u8>> {
        let strange = || io::Error::other("a record was damaged on its way");
        let (length, frame) = packed.split_first_chunk().ok_or_else(strange)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| strange())?;
        let mut slot = self.unpack.borrow_mut();
        let unpacker = match slot.take() {
            Some(unpacker) => unpacker,
            None => Decompressor::new()?,
        };
        let line = slot.insert(unpacker).decompress(frame, length.min(LINE_LIMIT))?;
        if line.len() == length { Ok(line) } else { Err(strange()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn a_line_comes_back_as_it_was() {
        let (lines, long) = (Lines::default(), vec![7; 100_000]);
        for line in [&b""[..], b"{}", &long, "ein kurzer Text".as_bytes()] {
            let packed = lines.pack(line).unwrap();
            assert_eq!(lines.unpack(&packed).unwrap(), line);
        }
        assert!(lines.pack(&long).unwrap().len() < 1000);
        for strange in [&b""[..], b"\x02\0\0\0", b"\xff\xff\xff\xffno frame"] {
            assert!(lines.unpack(strange).is_err());
        }
        let mut longer = lines.pack(b"{}").unwrap();
        longer[0] = 3;
        assert!(lines.unpack(&longer).is_err());
    }
}
