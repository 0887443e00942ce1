//! The block formats of GGUF files: how weights are stored, and what they mean.
//!
//! Layouts as ggml defines them (`ggml-common.h`, `block_*`). Each quantised block
//! decodes to unsigned quants, four to a word, with the scales beside them; what a
//! quant means is in the documentation of each variant, where `d`, `m`, ... are the
//! block's scales. Here is also the plain dequantisation, for embedding rows, small
//! vectors and tests.

use half::f16;

/// How a tensor's weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockFormat {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Blocks of 32: `d * (q - 8)`, q of 4 bits.
    Q4_0,
    /// Blocks of 32: `d * q + m`, q of 4 bits.
    Q4_1,
    /// Blocks of 32: `d * (q - 16)`, q of 5 bits.
    Q5_0,
    /// Blocks of 32: `d * q`, q a signed byte.
    Q8_0,
    /// Blocks of 256 in eights of 32: `d * scale * q - dmin * min`, q of 4 bits.
    Q4K,
    /// As Q4_K with q of 5 bits.
    Q5K,
    /// Blocks of 256 in sixteens of 16: `d * scale * (q - 32)`, q of 6 bits.
    Q6K,
}

impl BlockFormat {
    /// All formats.
    pub const ALL: [Self; 9] = [
        Self::F32,
        Self::F16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Weights in a block.
    pub fn weights(self) -> usize {
        match self {
            Self::F32 | Self::F16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `columns` weights.
    pub fn row_bytes(self, columns: usize) -> usize {
        columns / self.weights() * self.bytes()
    }
}

/// Reads a half-precision number.
pub(crate) fn half_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const LOW: u32 = 0x0f0f_0f0f;

/// Quants of a block of 32, four to a word, lowest column in the lowest byte.
pub(crate) type Words32 = [u32; 8];
/// Quants of a block of 256.
pub(crate) type Words256 = [u32; 64];

/// Sixteen bytes of nibbles: the low ones are the first half of the block.
fn nibbles(bytes: &[u8], at: usize) -> Words32 {
    let mut words = [0; 8];
    for i in 0..4 {
        let word = word_at(bytes, at + 4 * i);
        words[i] = word & LOW;
        words[i + 4] = (word >> 4) & LOW;
    }
    words
}

/// Puts bit i of `bits` into bit 4 of byte i of the words.
fn add_fifth_bits(words: &mut Words32, bits: u32) {
    for (i, word) in words.iter_mut().enumerate() {
        let four = (bits >> (4 * i)) & 15;
        // Bits 0 to 3 to bit 0 of bytes 0 to 3.
        let spread = (four | four << 7 | four << 14 | four << 21) & 0x0101_0101;
        *word |= spread << 4;
    }
}

/// Quants of a Q4_0 block; also of a Q4_1 block from its byte 2 on.
pub(crate) fn words_q4(bytes: &[u8], at: usize) -> Words32 {
    nibbles(bytes, at)
}

/// Quants of a Q5_0 block.
pub(crate) fn words_q5_0(bytes: &[u8]) -> Words32 {
    let mut words = nibbles(bytes, 6);
    add_fifth_bits(&mut words, word_at(bytes, 2));
    words
}

/// Quants of a Q8_0 block, plus 128.
pub(crate) fn words_q8_0(bytes: &[u8]) -> Words32 {
    std::array::from_fn(|i| word_at(bytes, 2 + 4 * i) ^ 0x8080_8080)
}

/// Quants of a Q4_K block.
pub(crate) fn words_q4k(bytes: &[u8]) -> Words256 {
    let mut words = [0; 64];
    for chunk in 0..4 {
        for i in 0..8 {
            let word = word_at(bytes, 16 + 32 * chunk + 4 * i);
            words[16 * chunk + i] = word & LOW;
            words[16 * chunk + 8 + i] = (word >> 4) & LOW;
        }
    }
    words
}

/// Quants of a Q5_K block.
pub(crate) fn words_q5k(bytes: &[u8]) -> Words256 {
    let mut words = [0; 64];
    for chunk in 0..4 {
        for i in 0..8 {
            let word = word_at(bytes, 48 + 32 * chunk + 4 * i);
            let high = word_at(bytes, 16 + 4 * i) >> (2 * chunk);
            words[16 * chunk + i] = word & LOW | (high & 0x0101_0101) << 4;
            words[16 * chunk + 8 + i] = (word >> 4) & LOW | ((high >> 1) & 0x0101_0101) << 4;
        }
    }
    words
}

/// Quants of a Q6_K block, unsigned (plus 32).
pub(crate) fn words_q6k(bytes: &[u8]) -> Words256 {
    let mut words = [0; 64];
    for half in 0..2 {
        for i in 0..8 {
            let first = word_at(bytes, 64 * half + 4 * i);
            let second = word_at(bytes, 64 * half + 32 + 4 * i);
            let high = word_at(bytes, 128 + 32 * half + 4 * i);
            let bits = |shift: u32| ((high >> shift) & 0x0303_0303) << 4;
            let at = 32 * half + i;
            words[at] = first & LOW | bits(0);
            words[at + 8] = second & LOW | bits(2);
            words[at + 16] = (first >> 4) & LOW | bits(4);
            words[at + 24] = (second >> 4) & LOW | bits(6);
        }
    }
    words
}

/// The eight scales and the eight mins, of 6 bits each, of a Q4_K or Q5_K block.
pub(crate) fn scales_and_mins(bytes: &[u8]) -> ([u8; 8], [u8; 8]) {
    let s = &bytes[4..16];
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        scales[j] = s[j] & 63;
        mins[j] = s[j + 4] & 63;
        scales[j + 4] = s[j + 8] & 15 | (s[j] >> 6) << 4;
        mins[j + 4] = s[j + 8] >> 4 | (s[j + 4] >> 6) << 4;
    }
    (scales, mins)
}

fn half_float(bytes: &[u8], at: usize) -> f32 {
    f16::from_bits(half_at(bytes, at)).to_f32()
}

/// Unpacks whole blocks to floats.
///
/// # Panics
/// When `bytes` and `out` are not the same number of whole blocks.
pub fn dequantise(format: BlockFormat, bytes: &[u8], out: &mut [f32]) {
    assert!(
        bytes.len().is_multiple_of(format.bytes())
            && bytes.len() / format.bytes() * format.weights() == out.len(),
        "blocks and output differ in length"
    );
    let blocks = bytes.chunks_exact(format.bytes());
    for (block, out) in blocks.zip(out.chunks_exact_mut(format.weights())) {
        dequantise_block(format, block, out);
    }
}

fn dequantise_block(format: BlockFormat, block: &[u8], out: &mut [f32]) {
    match format {
        BlockFormat::F32 => out[0] = f32::from_bits(word_at(block, 0)),
        BlockFormat::F16 => out[0] = half_float(block, 0),
        BlockFormat::Q4_0 => {
            let d = half_float(block, 0);
            each(&words_q4(block, 2), out, |_, q| d * (f32::from(q) - 8.0));
        }
        BlockFormat::Q4_1 => {
            let (d, m) = (half_float(block, 0), half_float(block, 2));
            each(&words_q4(block, 4), out, |_, q| d * f32::from(q) + m);
        }
        BlockFormat::Q5_0 => {
            let d = half_float(block, 0);
            each(&words_q5_0(block), out, |_, q| d * (f32::from(q) - 16.0));
        }
        BlockFormat::Q8_0 => {
            let d = half_float(block, 0);
            each(&words_q8_0(block), out, |_, q| d * (f32::from(q) - 128.0));
        }
        BlockFormat::Q4K | BlockFormat::Q5K => {
            let (d, dmin) = (half_float(block, 0), half_float(block, 2));
            let (scales, mins) = scales_and_mins(block);
            let words =
                if format == BlockFormat::Q4K { words_q4k(block) } else { words_q5k(block) };
            each(&words, out, |i, q| {
                let (scale, min) = (f32::from(scales[i / 32]), f32::from(mins[i / 32]));
                d * scale * f32::from(q) - dmin * min
            });
        }
        BlockFormat::Q6K => {
            let d = half_float(block, 208);
            each(&words_q6k(block), out, |i, q| {
                d * f32::from(block[192 + i / 16] as i8) * (f32::from(q) - 32.0)
            });
        }
    }
}

/// Calls `f` with the place and value of each quant.
fn each(words: &[u32], out: &mut [f32], f: impl Fn(usize, u8) -> f32) {
    let quants = words.iter().flat_map(|word| word.to_le_bytes());
    for (i, (quant, out)) in quants.zip(out).enumerate() {
        *out = f(i, quant);
    }
}
