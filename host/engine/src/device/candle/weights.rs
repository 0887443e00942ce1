//! Weights as candle holds them, and products that do not depend on the row
//! count.
//!
//! candle picks its kernel by format, machine and row count, and some kernels
//! add in another order than others: on a machine with AVX-512 VNNI a lone row
//! times a Q6_K matrix differs in its last bits from the same row in company.
//! So for each format, at load, a small experiment finds how rows must be
//! grouped for a row to get the same bits whatever stands beside it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Result, Tensor};

use super::failed;
use crate::device::DeviceError;
use crate::gguf::GgufFile;
use crate::graph::{Graph, Op, Weight};

/// Formats held as f32, because rounding activations to 8 bits costs the models
/// that use them too much: SmolLM2-135M (Q4_1) then disagrees with exact
/// arithmetic in 2.5 % of its top-1 predictions, and so in 1.5 %. The price, on
/// this reference device, is decoding four times slower; prompts are twice as fast.
const UNPACKED: &[GgmlDType] = &[GgmlDType::Q4_1];

/// How rows must be grouped for a product to be batch-invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grouping {
    /// Pad the rows to a multiple of this many (1: not at all).
    Multiple(usize),
    /// No common row count agrees: one product a row.
    OneByOne,
}

struct Matrix {
    product: QMatMul,
    grouping: Grouping,
}

pub(super) struct Weights {
    /// Whether all matrices are unpacked.
    exact: bool,
    gguf: Arc<GgufFile>,
    matrices: HashMap<String, Matrix>,
    vectors: HashMap<String, Tensor>,
    /// Formats of embedding tables, whose rows are unpacked from the file as needed.
    tables: HashMap<String, (GgmlDType, usize)>,
    bytes: u64,
}

impl Weights {
    pub(super) fn load(
        gguf: Arc<GgufFile>,
        graph: &Graph,
        exact: bool,
    ) -> std::result::Result<Self, DeviceError> {
        let mut weights = Self {
            exact,
            gguf: Arc::clone(&gguf),
            matrices: HashMap::new(),
            vectors: HashMap::new(),
            tables: HashMap::new(),
            bytes: 0,
        };
        for op in &graph.ops {
            match op {
                Op::Embed { table, .. } => {
                    let view = gguf.tensor_shaped(&table.name, table.rows, table.columns)?;
                    weights.tables.insert(table.name.clone(), (view.dtype, view.columns));
                }
                Op::Linear { weight, bias, .. } => {
                    weights.load_matrix(weight)?;
                    bias.iter().try_for_each(|bias| weights.load_vector(bias))?;
                }
                Op::RmsNorm { weight, .. } => weights.load_vector(weight)?,
                _ => {}
            }
        }
        weights.find_groupings()?;
        Ok(weights)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of a weight as it stands in the file.
    pub(super) fn file_bytes(&self, name: &str) -> u64 {
        self.gguf.tensor(name).map_or(0, |view| view.bytes.len() as u64)
    }

    /// Whether a graph's weight is resident.
    pub(super) fn check(&self, weight: &Weight) -> std::result::Result<(), DeviceError> {
        let name = &weight.name;
        let known = self.matrices.contains_key(name)
            || self.vectors.contains_key(name)
            || self.tables.contains_key(name);
        if known { Ok(()) } else { Err(self.gguf.tensor_error(name, "is not loaded").into()) }
    }

    fn load_matrix(&mut self, weight: &Weight) -> std::result::Result<(), DeviceError> {
        let tensor = self.quantised(weight)?;
        let product = if self.exact || UNPACKED.contains(&tensor.dtype()) {
            self.bytes += (tensor.shape().elem_count() * size_of::<f32>()) as u64;
            tensor.dequantize(&Device::Cpu).map(QMatMul::Tensor)
        } else {
            self.bytes += tensor.storage_size_in_bytes() as u64;
            QMatMul::from_qtensor(tensor)
        };
        let product = product.map_err(failed("loaded a matrix"))?;
        let matrix = Matrix { product, grouping: Grouping::OneByOne };
        self.matrices.insert(weight.name.clone(), matrix);
        Ok(())
    }

    fn load_vector(&mut self, weight: &Weight) -> std::result::Result<(), DeviceError> {
        let vector = self
            .quantised(weight)?
            .dequantize(&Device::Cpu)
            .and_then(|t| t.flatten_all())
            .map_err(failed("loaded a vector"))?;
        self.bytes += (vector.elem_count() * size_of::<f32>()) as u64;
        self.vectors.insert(weight.name.clone(), vector);
        Ok(())
    }

    fn quantised(&self, weight: &Weight) -> std::result::Result<QTensor, DeviceError> {
        let view = self.gguf.tensor_shaped(&weight.name, weight.rows, weight.columns)?;
        QStorage::from_data(Cow::Borrowed(view.bytes), &Device::Cpu, view.dtype)
            .and_then(|storage| QTensor::new(storage, (view.rows, view.columns)))
            .map_err(failed("loaded a weight"))
    }

    /// Finds each format's grouping on its smallest matrix.
    fn find_groupings(&mut self) -> std::result::Result<(), DeviceError> {
        let mut smallest: HashMap<(GgmlDType, bool), (usize, String)> = HashMap::new();
        let mut keys = HashMap::new();
        for name in self.matrices.keys() {
            let view = self.gguf.tensor(name)?;
            // Whole super-blocks take other kernels than odd widths do.
            let key = (view.dtype, view.columns.is_multiple_of(256));
            keys.insert(name.clone(), key);
            let size = view.bytes.len();
            let best = smallest.entry(key).or_insert_with(|| (size, name.clone()));
            if size < best.0 {
                *best = (size, name.clone());
            }
        }
        let mut found = HashMap::new();
        for (key, (_, name)) in smallest {
            let columns = self.gguf.tensor(&name)?.columns;
            let grouping = find_grouping(&self.matrices[&name].product, columns)
                .map_err(failed("compared its kernels over row counts"))?;
            tracing::debug!(format = ?key.0, whole_blocks = key.1, ?grouping, "row grouping");
            found.insert(key, grouping);
        }
        for (name, matrix) in &mut self.matrices {
            matrix.grouping = found[&keys[name]];
        }
        Ok(())
    }

    /// `x` (rows x columns) times the transposed matrix.
    pub(super) fn product(&self, weight: &Weight, x: &Tensor) -> Result<Tensor> {
        match self.matrices.get(&weight.name) {
            Some(matrix) => grouped_product(&matrix.product, matrix.grouping, x),
            None => candle_core::bail!("matrix {} is not loaded", weight.name),
        }
    }

    pub(super) fn vector(&self, weight: &Weight) -> Result<&Tensor> {
        match self.vectors.get(&weight.name) {
            Some(vector) => Ok(vector),
            None => candle_core::bail!("vector {} is not loaded", weight.name),
        }
    }

    /// Unpacks the table's rows for `tokens`: `tokens x columns`.
    pub(super) fn embed(
        &self,
        table: &Weight,
        tokens: impl Iterator<Item = u32>,
    ) -> Result<Tensor> {
        let Some(&(dtype, columns)) = self.tables.get(&table.name) else {
            candle_core::bail!("table {} is not loaded", table.name)
        };
        let view = self.gguf.tensor(&table.name).map_err(candle_core::Error::wrap)?;
        let row_bytes = columns / dtype.block_size() * dtype.type_size();
        let mut gathered = Vec::new();
        let mut rows = 0;
        for token in tokens {
            gathered.extend_from_slice(&view.bytes[token as usize * row_bytes..][..row_bytes]);
            rows += 1;
        }
        // A copy into aligned storage: candle reads blocks as typed values.
        let mut aligned = vec![0u64; gathered.len().div_ceil(8)];
        let bytes = &mut bytemuck::cast_slice_mut(&mut aligned)[..gathered.len()];
        bytes.copy_from_slice(&gathered);
        let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, dtype)?;
        QTensor::new(storage, (rows, columns))?.dequantize(&Device::Cpu)
    }
}

fn grouped_product(product: &QMatMul, grouping: Grouping, x: &Tensor) -> Result<Tensor> {
    let rows = x.dim(0)?;
    match grouping {
        Grouping::Multiple(n) if rows.is_multiple_of(n) => product.forward(x),
        Grouping::Multiple(n) => {
            let padded = x.pad_with_same(0, 0, n - rows % n)?;
            product.forward(&padded)?.narrow(0, 0, rows)?.contiguous()
        }
        Grouping::OneByOne => {
            let row = |r| product.forward(&x.narrow(0, r, 1)?.contiguous()?);
            let outputs = (0..rows).map(row).collect::<Result<Vec<_>>>()?;
            Tensor::cat(&outputs, 0)
        }
    }
}

/// Tries groupings from the cheapest on, over row counts that meet every tile
/// size in use and their remainders.
fn find_grouping(product: &QMatMul, columns: usize) -> Result<Grouping> {
    const ROWS: [usize; 12] = [1, 2, 3, 4, 5, 7, 8, 11, 16, 17, 24, 33];
    let most = ROWS[ROWS.len() - 1];
    let x: Vec<f32> = (0..most * columns).map(|i| test_value(i as u64)).collect();
    let x = Tensor::from_vec(x, (most, columns), &Device::Cpu)?;
    for n in [1, 2, 4, 8] {
        let grouping = Grouping::Multiple(n);
        let all = bits(&grouped_product(product, grouping, &x)?)?;
        let mut same = true;
        for rows in ROWS {
            let part = grouped_product(product, grouping, &x.narrow(0, 0, rows)?.contiguous()?)?;
            same &= bits(&part)? == all[..rows];
        }
        // A row must not depend on its place either.
        let shifted = grouped_product(product, grouping, &x.narrow(0, 3, 5)?.contiguous()?)?;
        if same && bits(&shifted)? == all[3..8] {
            return Ok(grouping);
        }
    }
    Ok(Grouping::OneByOne)
}

fn bits(t: &Tensor) -> Result<Vec<Vec<u32>>> {
    let rows = t.to_vec2::<f32>()?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(f32::to_bits).collect()).collect())
}

/// Deterministic values between -2 and 2 with a long fraction.
fn test_value(i: u64) -> f32 {
    (aio_core::mix(i) >> 40) as f32 / (1u64 << 22) as f32 - 2.0
}
