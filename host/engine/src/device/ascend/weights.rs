//! Weights in a chip's memory: unpacked from the file's block formats, a piece at a time,
//! to the types that [`super::lower`] names.

use std::collections::HashMap;
use std::sync::Arc;

use aio_ascendcl::{Buffer, DataType, Error, Mask, Rotation, Session};
use candle_core::Device;
use candle_core::quantized::{QStorage, QTensor};
use half::{bf16, f16};

use super::lower::{self, Angles};
use super::{NAME, failed};
use crate::device::DeviceError;
use crate::gguf::GgufFile;
use crate::graph::{Graph, Op, Weight};

/// Weights that are unpacked at once: 32 MiB of f32.
const PIECE: usize = 8 << 20;

/// A weight on the chip.
pub(super) struct Resident {
    pub buffer: Arc<Buffer>,
    pub dtype: DataType,
}

/// Cosines and sines, `positions x width` each.
pub(super) struct Table {
    pub angles: Angles,
    pub cos: Arc<Buffer>,
    pub sin: Arc<Buffer>,
}

pub(super) struct Weights {
    residents: HashMap<String, Resident>,
    pub tables: Vec<Table>,
    /// What attention takes for "to the right of" (see [`Mask`]).
    pub mask: Arc<Buffer>,
    bytes: u64,
}

impl Weights {
    /// Copies a graph's weights to the chip, and tables of angles for `context` positions.
    pub(super) fn load(
        session: &Arc<Session>,
        gguf: &GgufFile,
        graph: &Graph,
        block: DataType,
        context: usize,
    ) -> Result<Self, DeviceError> {
        let copied = failed("copied weights to the chip");
        let types = lower::weight_types(graph, block);
        let mask = Buffer::new(session, Mask::SIZE * Mask::SIZE).map_err(&copied)?;
        mask.write(0, &right_of(Mask::SIZE)).map_err(&copied)?;
        let mut weights = Self {
            residents: HashMap::new(),
            tables: Vec::new(),
            bytes: mask.bytes() as u64,
            mask,
        };
        for weight in graph.weights() {
            let resident = load_weight(session, gguf, weight, types[&weight.name])?;
            weights.bytes += resident.buffer.bytes() as u64;
            weights.residents.insert(weight.name.clone(), resident);
            // Its pages have served; they are read again if somebody looks.
            gguf.release(&weight.name)?;
        }
        for angles in lower::angles(graph) {
            let table = Table::load(session, angles, block, context).map_err(&copied)?;
            weights.bytes += (table.cos.bytes() + table.sin.bytes()) as u64;
            weights.tables.push(table);
        }
        Ok(weights)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of a weight on the chip.
    pub(super) fn bytes_of(&self, name: &str) -> u64 {
        self.residents.get(name).map_or(0, |resident| resident.buffer.bytes() as u64)
    }

    pub(super) fn get(&self, name: &str) -> Result<&Resident, Error> {
        self.residents
            .get(name)
            .ok_or_else(|| Error::Misuse(format!("the weight {name} is not on the chip")))
    }

    /// Whether all that a graph reads is there.
    pub(super) fn check(&self, graph: &Graph) -> Result<(), DeviceError> {
        for weight in graph.weights() {
            self.get(&weight.name).map_err(failed("compiled a graph"))?;
        }
        Ok(())
    }

    /// All buffers: captured graphs hold their addresses.
    pub(super) fn buffers(&self) -> impl Iterator<Item = Arc<Buffer>> {
        let tables = self.tables.iter().flat_map(|table| [&table.cos, &table.sin]);
        self.residents.values().map(|resident| &resident.buffer).chain(tables).cloned()
    }
}

impl Table {
    fn load(
        session: &Arc<Session>,
        angles: Angles,
        dtype: DataType,
        positions: usize,
    ) -> Result<Self, Error> {
        let bytes = positions * angles.width * dtype.bytes();
        let (cos, sin) = (Buffer::new(session, bytes)?, Buffer::new(session, bytes)?);
        let (mut cosines, mut sines) = (Vec::new(), Vec::new());
        let rows = (PIECE / angles.width.max(1)).max(1);
        let speeds: Vec<f64> = (0..angles.width).map(|i| speed(angles, i)).collect();
        for first in (0..positions).step_by(rows) {
            cosines.clear();
            sines.clear();
            for position in first..positions.min(first + rows) {
                for speed in &speeds {
                    let angle = position as f64 * speed;
                    put(dtype, angle.cos() as f32, &mut cosines);
                    put(dtype, angle.sin() as f32, &mut sines);
                }
            }
            let at = first * angles.width * dtype.bytes();
            cos.write(at, &cosines)?;
            sin.write(at, &sines)?;
        }
        Ok(Self { angles, cos, sin })
    }
}

/// By how much a head's component turns from one position to the next; both of a pair turn
/// alike. In f64: at long contexts an f32 product would lose the fraction that matters.
fn speed(angles: Angles, component: usize) -> f64 {
    let pair = match angles.rotation {
        Rotation::Halves => component % (angles.width / 2),
        Rotation::Neighbours => component / 2,
    };
    f64::from(angles.base).powf(-2.0 * pair as f64 / angles.width as f64)
}

/// A row for each row: 1 where the column is to the right of the row.
fn right_of(size: usize) -> Vec<u8> {
    let mut mask = vec![1; size * size];
    mask.chunks_exact_mut(size).enumerate().for_each(|(i, row)| row[..=i].fill(0));
    mask
}

fn load_weight(
    session: &Arc<Session>,
    gguf: &GgufFile,
    weight: &Weight,
    dtype: DataType,
) -> Result<Resident, DeviceError> {
    let view = gguf.tensor_shaped(&weight.name, weight.rows, weight.columns)?;
    let copied = failed("copied a weight to the chip");
    let size = weight.rows * weight.columns * dtype.bytes();
    let buffer = Buffer::new(session, size).map_err(&copied)?;
    let row_bytes = view.columns / view.dtype.block_size() * view.dtype.type_size();
    let rows = (PIECE / view.columns.max(1)).max(1);
    let mut aligned: Vec<u64> = Vec::new();
    let mut converted = Vec::new();
    for first in (0..view.rows).step_by(rows) {
        let count = rows.min(view.rows - first);
        let blocks = &view.bytes[first * row_bytes..][..count * row_bytes];
        // A copy into aligned storage: candle reads blocks as typed values.
        aligned.resize(blocks.len().div_ceil(8), 0);
        let copy = &mut bytemuck::cast_slice_mut(&mut aligned)[..blocks.len()];
        copy.copy_from_slice(blocks);
        let values =
            QStorage::from_data(std::borrow::Cow::Borrowed(&*copy), &Device::Cpu, view.dtype)
                .and_then(|storage| QTensor::new(storage, (count, view.columns)))
                .and_then(|tensor| tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>())
                .map_err(|error| DeviceError::Failed {
                    device: NAME.into(),
                    doing: format!("unpacked {}", weight.name),
                    reason: error.to_string().lines().next().unwrap_or_default().to_owned(),
                })?;
        converted.clear();
        values.into_iter().for_each(|value| put(dtype, value, &mut converted));
        buffer.write(first * view.columns * dtype.bytes(), &converted).map_err(&copied)?;
    }
    Ok(Resident { buffer, dtype })
}

/// Appends a number in that type.
fn put(dtype: DataType, value: f32, to: &mut Vec<u8>) {
    match dtype {
        DataType::F16 => to.extend_from_slice(&f16::from_f32(value).to_ne_bytes()),
        DataType::Bf16 => to.extend_from_slice(&bf16::from_f32(value).to_ne_bytes()),
        DataType::F32 | DataType::I32 | DataType::Bool => {
            to.extend_from_slice(&value.to_ne_bytes());
        }
    }
}

/// What the vendor's operators ask of a model's shape.
pub(super) fn check_shape(graph: &Graph) -> Result<(), DeviceError> {
    for op in &graph.ops {
        if let Op::Attention { q, heads, kv_heads, .. } = op {
            let width = graph.values[*q].columns / heads;
            let fits = width.is_multiple_of(16) && width <= 512 && *heads <= 256;
            if !fits || heads / kv_heads > 64 {
                return Err(DeviceError::Unsupported(format!(
                    "the ascend device cannot run this model's attention: {heads} heads of {width} for {kv_heads}; its operator takes 256 heads at most, up to 64 for one of keys, of a width that is a multiple of 16 up to 512"
                )));
            }
        }
    }
    Ok(())
}
