//! The bloom filter of a block's trace ids, in shards of one file each. Format: Tempo's (`docs/format.md`).

use crate::{
    error::{Error, Result},
    trace::TraceId,
};

/// A block has at most this many bloom files.
const SHARDS_MAX: u64 = 1000;

/// Bytes before the bits: number of bits, number of hashes, number of bits once more.
const HEADER_BYTES: usize = 24;

/// One shard: a bit set and the number of bits that are set for each id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BloomShard {
    bits: u64,
    hashes: u64,
    words: Vec<u64>,
}

impl BloomShard {
    /// Parses a bloom file. The error says what is wrong; the caller adds which file.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let truncated = || Error::data("bloom filter is truncated");
        let (header, rest) = file.split_first_chunk::<HEADER_BYTES>().ok_or_else(truncated)?;
        let (words, tail) = rest.as_chunks::<8>();
        let [bits, hashes, length] = [0, 8, 16].map(|at| be_u64(&header[at..]));
        if bits == 0 || bits != length || hashes == 0 || hashes > 1000 {
            return Err(Error::data(format!("bloom filter has an impossible header: {bits} bits, {hashes} hashes, length {length}")));
        }
        if !tail.is_empty() || bits.div_ceil(64) != words.len() as u64 {
            return Err(truncated());
        }
        Ok(Self { bits, hashes, words: words.iter().map(|w| u64::from_be_bytes(*w)).collect() })
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut file = Vec::with_capacity(HEADER_BYTES + 8 * self.words.len());
        for word in [self.bits, self.hashes, self.bits].iter().chain(&self.words) {
            file.extend_from_slice(&word.to_be_bytes());
        }
        file
    }

    /// Whether the id may have been added; `false` is certain.
    pub fn contains(&self, id: TraceId) -> bool {
        self.locations(id).all(|bit| self.words[(bit >> 6) as usize] & (1 << (bit & 63)) != 0)
    }

    fn add(&mut self, id: TraceId) {
        for bit in self.locations(id) {
            self.words[(bit >> 6) as usize] |= 1 << (bit & 63);
        }
    }

    fn locations(&self, id: TraceId) -> impl Iterator<Item = u64> + use<> {
        let (h, bits) = (hashes(id), self.bits);
        (0..self.hashes).map(move |i| h[(i % 2) as usize].wrapping_add(i.wrapping_mul(h[(2 + ((i + (i % 2)) % 4) / 2) as usize])) % bits)
    }
}

/// All shards of a block.
#[derive(Clone, Debug)]
pub struct Bloom {
    shards: Vec<BloomShard>,
}

impl Bloom {
    /// The filter of these ids, each shard of `shard_bytes`, sized for `false_positive` hits among ids that are not in it.
    pub fn build(ids: &[TraceId], false_positive: f64, shard_bytes: u32) -> Self {
        let count = ids.len().max(1) as f64;
        let ln2 = std::f64::consts::LN_2;
        let bits = (-count * false_positive.clamp(1e-9, 0.5).ln() / (ln2 * ln2)).ceil();
        let hashes = (ln2 * bits / count).ceil() as u64;
        let shard_bits = u64::from(shard_bytes.max(8)) * 8;
        let shards = ((bits as u64).div_ceil(shard_bits)).clamp(1, SHARDS_MAX) as u32;
        let empty = BloomShard { bits: shard_bits, hashes, words: vec![0; shard_bits.div_ceil(64) as usize] };
        let mut bloom = Self { shards: vec![empty; shards as usize] };
        for &id in ids {
            bloom.shards[shard_of(id, shards) as usize].add(id);
        }
        bloom
    }

    /// The shards in order: shard `i` is the file `bloom-i`.
    pub fn shards(&self) -> &[BloomShard] {
        &self.shards
    }
}

/// The shard that knows an id, of `shards` (at least 1): FNV-1, 32 bits, of the id.
pub fn shard_of(id: TraceId, shards: u32) -> u32 {
    id.0.iter().fold(0x811c_9dc5_u32, |hash, &byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte)) % shards.max(1)
}

/// Murmur3 (x64, 128 bits, seed 0) of the id, and of the id followed by a 1.
fn hashes(id: TraceId) -> [u64; 4] {
    let mut longer = [1; 17];
    longer[..16].copy_from_slice(&id.0);
    let [h1, h2] = murmur3(&id.0);
    let [h3, h4] = murmur3(&longer);
    [h1, h2, h3, h4]
}

fn murmur3(data: &[u8]) -> [u64; 2] {
    // The crate joins its two halves in the machine's byte order.
    let joined = fastmurmur3::murmur3_x64_128(data, 0).to_ne_bytes();
    let (halves, _) = joined.as_chunks::<8>();
    [u64::from_ne_bytes(halves[0]), u64::from_ne_bytes(halves[1])]
}

fn be_u64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |b| u64::from_be_bytes(*b))
}
