//! 16-bit floats, and tensors as floats.

use crate::books::{Books, Tensor};

pub const F32: i32 = 0;
pub const F16: i32 = 1;
pub const I32: i32 = 3;
pub const BOOL: i32 = 12;
pub const BF16: i32 = 27;

/// Bytes of one element; 0 for types that are not known here.
pub fn size(dtype: i32) -> usize {
    match dtype {
        F32 | I32 => 4,
        F16 | BF16 => 2,
        BOOL => 1,
        _ => 0,
    }
}

fn f16_to_f32(bits: u16) -> f32 {
    let (sign, rest) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7FFF) << 13);
    // Exponents are 112 apart; of infinities and what is no number they are all ones.
    let size = match bits & 0x7C00 {
        0x7C00 => f32::from_bits(rest | 0x7F80_0000),
        _ => f32::from_bits(rest) * f32::from_bits((127 + 112) << 23),
    };
    f32::from_bits(size.to_bits() | sign)
}

/// To the nearest, and to the even one of two.
fn f32_to_f16(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16 & 0x8000) as u16;
    let size = value.abs();
    if size.is_nan() {
        return sign | 0x7E00;
    }
    if size >= 65520.0 {
        return sign | 0x7C00;
    }
    if size < 2f32.powi(-14) {
        // Steps of 2^-24; the greatest rounds up to the smallest normal number.
        return sign | (size * 2f32.powi(24)).round_ties_even() as u16;
    }
    let bits = size.to_bits();
    let rounded = bits + 0xFFF + (bits >> 13 & 1);
    sign | ((rounded >> 13) - (112 << 10)) as u16
}

fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

fn decode(dtype: i32, bytes: &[u8]) -> Vec<f32> {
    let four = || bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
    let two = || bytes.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    match dtype {
        F32 => four().map(f32::from_ne_bytes).collect(),
        I32 => four().map(|bytes| i32::from_ne_bytes(bytes) as f32).collect(),
        F16 => two().map(f16_to_f32).collect(),
        BF16 => two().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect(),
        _ => bytes.iter().map(|&byte| f32::from(byte)).collect(),
    }
}

fn encode(dtype: i32, value: f32, bytes: &mut Vec<u8>) {
    match dtype {
        F32 => bytes.extend(value.to_ne_bytes()),
        I32 => bytes.extend((value as i32).to_ne_bytes()),
        F16 => bytes.extend(f32_to_f16(value).to_ne_bytes()),
        BF16 => bytes.extend(f32_to_bf16(value).to_ne_bytes()),
        _ => bytes.push(value as u8),
    }
}

impl Tensor {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn last(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    pub fn contiguous(&self) -> bool {
        let mut stride = 1;
        for (size, at) in self.shape.iter().zip(&self.strides).rev() {
            if *size != 1 && *at != stride {
                return false;
            }
            stride *= size;
        }
        true
    }

    /// Bytes from its first to its last element.
    pub fn span(&self) -> usize {
        let ends = self.shape.iter().zip(&self.strides);
        let last: usize = ends.map(|(size, stride)| size.saturating_sub(1) * stride).sum();
        (last + 1) * size(self.dtype)
    }

    /// The range that it lies in.
    pub fn range(&self) -> (u64, usize) {
        (self.address, self.span())
    }
}

impl Books {
    /// A tensor's elements as they lie in memory.
    pub fn stored(&mut self, tensor: &Tensor) -> Vec<f32> {
        let bytes = self.bytes(tensor.address, tensor.span()).unwrap_or_default();
        decode(tensor.dtype, &bytes)
    }

    /// Integers of a tensor.
    pub fn integers(&mut self, tensor: &Tensor) -> Vec<i32> {
        let bytes = self.bytes(tensor.address, tensor.span()).unwrap_or_default();
        let numbers = bytes.chunks_exact(4);
        numbers.map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// Writes a contiguous tensor.
    pub fn store(&mut self, tensor: &Tensor, values: &[f32]) {
        let mut bytes = Vec::with_capacity(values.len() * size(tensor.dtype));
        values.iter().for_each(|value| encode(tensor.dtype, *value, &mut bytes));
        self.write(tensor.address, &bytes);
    }
}
