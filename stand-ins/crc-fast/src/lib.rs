//! CRC-32, CRC-32C and CRC-64/NVME, one byte at a time, in the part of crc-fast's interface that aws-smithy-checksums
//! uses. membridge asks for checksums only where a store requires them, so size counts and speed does not.

/// Which checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrcAlgorithm {
    /// CRC-32 of zip and Ethernet.
    Crc32IsoHdlc,
    /// CRC-32C.
    Crc32Iscsi,
    /// CRC-64/NVME.
    Crc64Nvme,
}

impl CrcAlgorithm {
    /// The polynomial with its bits reflected, and the mask of the register: start value and final complement.
    const fn parameters(self) -> (u64, u64) {
        match self {
            Self::Crc32IsoHdlc => (0xedb8_8320, 0xffff_ffff),
            Self::Crc32Iscsi => (0x82f6_3b78, 0xffff_ffff),
            Self::Crc64Nvme => (0x9a6c_9329_ac4b_c9b5, u64::MAX),
        }
    }
}

/// A running checksum.
#[derive(Debug, Clone)]
pub struct Digest {
    polynomial: u64,
    mask: u64,
    register: u64,
}

impl Digest {
    /// The checksum of nothing yet.
    pub fn new(algorithm: CrcAlgorithm) -> Self {
        let (polynomial, mask) = algorithm.parameters();
        Self { polynomial, mask, register: mask }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.register ^= u64::from(*byte);
            for _ in 0..8 {
                let carry = self.register & 1;
                // All ones where a bit falls out, so that the loop has no branch.
                self.register = (self.register >> 1) ^ (self.polynomial & carry.wrapping_neg());
            }
        }
    }

    /// The checksum of all bytes so far; the 32-bit ones in the low half.
    pub fn finalize(&self) -> u64 {
        self.register ^ self.mask
    }
}

/// The checksum of some bytes.
pub fn checksum(algorithm: CrcAlgorithm, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new(algorithm);
    digest.update(bytes);
    digest.finalize()
}
