//! Weights as the kernels read them: matrices packed at load, in parallel, from the
//! memory map; vectors as f32. Embedding rows are unpacked from the file as they
//! are needed. Nothing else of the file stays in memory.

use std::collections::HashMap;
use std::sync::Arc;

use aio_kernels::block::{self, BlockFormat};
use aio_kernels::matrix::Matrix;
use aio_kernels::memory::Memory;
use aio_kernels::pack::{self, GROUP, Layout};
use candle_core::quantized::GgmlDType;
use rayon::prelude::*;

use crate::device::DeviceError;
use crate::gguf::GgufFile;
use crate::graph::{Graph, Op, Weight};

/// A model's resident weights.
pub(super) struct Weights {
    gguf: Arc<GgufFile>,
    /// Index of each matrix, vector and table by its tensor's name.
    names: HashMap<String, usize>,
    matrices: Vec<Packed>,
    /// All packed matrices, one after the other in order of use.
    packed: Memory,
    vectors: Vec<Vec<f32>>,
    tables: Vec<(BlockFormat, String)>,
    table_names: HashMap<String, usize>,
}

#[derive(Debug)]
struct Packed {
    name: String,
    format: BlockFormat,
    rows: usize,
    columns: usize,
    start: usize,
    length: usize,
}

impl Weights {
    /// Packs what the graph's operations read.
    pub fn load(gguf: Arc<GgufFile>, graph: &Graph) -> Result<Self, DeviceError> {
        let mut weights = Self {
            gguf,
            names: HashMap::new(),
            matrices: Vec::new(),
            packed: Memory::zeroed(0).map_err(memory)?,
            vectors: Vec::new(),
            tables: Vec::new(),
            table_names: HashMap::new(),
        };
        for op in &graph.ops {
            match op {
                Op::Embed { table, .. } => weights.add_table(table)?,
                Op::RmsNorm { weight, .. } => weights.add_vector(weight)?,
                Op::Linear { weight, bias, .. } => {
                    weights.add_matrix(weight)?;
                    bias.iter().try_for_each(|bias| weights.add_vector(bias))?;
                }
                _ => {}
            }
        }
        weights.pack()?;
        Ok(weights)
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let floats: usize = self.vectors.iter().map(Vec::len).sum();
        (self.packed.len() + floats * size_of::<f32>()) as u64
    }

    /// Index of a matrix or vector.
    pub fn index(&self, weight: &Weight) -> Result<usize, DeviceError> {
        let index = self.names.get(&weight.name).copied();
        index.ok_or_else(|| self.gguf.tensor_error(&weight.name, "is not loaded").into())
    }

    /// Index of an embedding table.
    pub fn table_index(&self, weight: &Weight) -> Result<usize, DeviceError> {
        let index = self.table_names.get(&weight.name).copied();
        index.ok_or_else(|| self.gguf.tensor_error(&weight.name, "is not loaded").into())
    }

    pub fn matrix(&self, index: usize) -> Matrix<'_> {
        let &Packed { format, rows, columns, start, length, .. } = &self.matrices[index];
        Matrix { format, rows, columns, packed: &self.packed.bytes()[start..][..length] }
    }

    /// A matrix's tensor in the file.
    pub fn matrix_name(&self, index: usize) -> &str {
        &self.matrices[index].name
    }

    /// A vector, padded with zeros to whole groups.
    pub fn vector(&self, index: usize) -> &[f32] {
        &self.vectors[index]
    }

    /// An embedding table's format and bytes, as they stand in the file.
    pub fn table(&self, index: usize) -> (BlockFormat, &[u8]) {
        let (format, name) = &self.tables[index];
        // The tensor was found when the table was added.
        (*format, self.gguf.tensor(name).map_or(&[], |view| view.bytes))
    }

    fn add_table(&mut self, table: &Weight) -> Result<(), DeviceError> {
        let format = format_of(&self.gguf, table)?;
        self.table_names.insert(table.name.clone(), self.tables.len());
        self.tables.push((format, table.name.clone()));
        Ok(())
    }

    fn add_vector(&mut self, weight: &Weight) -> Result<(), DeviceError> {
        let format = format_of(&self.gguf, weight)?;
        let view = self.gguf.tensor(&weight.name)?;
        let mut floats = vec![0.0; view.columns.next_multiple_of(GROUP)];
        block::dequantise(format, view.bytes, &mut floats[..view.columns]);
        self.names.insert(weight.name.clone(), self.vectors.len());
        self.vectors.push(floats);
        Ok(())
    }

    /// Notes where a matrix will be.
    fn add_matrix(&mut self, weight: &Weight) -> Result<(), DeviceError> {
        if self.names.contains_key(&weight.name) {
            return Ok(());
        }
        let format = format_of(&self.gguf, weight)?;
        let (rows, columns) = (weight.rows, weight.columns);
        let length = Layout::of(format).matrix_bytes(rows, columns);
        let start = self.matrices.last().map_or(0, |last| last.start + last.length);
        self.names.insert(weight.name.clone(), self.matrices.len());
        self.matrices.push(Packed {
            name: weight.name.clone(),
            format,
            rows,
            columns,
            start,
            length,
        });
        Ok(())
    }

    /// Packs all matrices.
    fn pack(&mut self) -> Result<(), DeviceError> {
        let total = self.matrices.last().map_or(0, |last| last.start + last.length);
        self.packed = Memory::zeroed(total).map_err(memory)?;
        for matrix in &self.matrices {
            let source = self.gguf.tensor(&matrix.name)?.bytes;
            pack(matrix, source, &mut self.packed.bytes_mut()[matrix.start..][..matrix.length]);
            // The file's copy would otherwise count as this process's memory.
            self.gguf.release(&matrix.name)?;
        }
        Ok(())
    }
}

fn memory(error: aio_kernels::memory::OutOfMemory) -> DeviceError {
    DeviceError::Memory(error.to_string())
}

/// The weight's format, after a look at its shape.
fn format_of(gguf: &GgufFile, weight: &Weight) -> Result<BlockFormat, DeviceError> {
    let view = gguf.tensor_shaped(&weight.name, weight.rows, weight.columns)?;
    let format = match view.dtype {
        GgmlDType::F32 => BlockFormat::F32,
        GgmlDType::F16 => BlockFormat::F16,
        GgmlDType::Q4_0 => BlockFormat::Q4_0,
        GgmlDType::Q4_1 => BlockFormat::Q4_1,
        GgmlDType::Q5_0 => BlockFormat::Q5_0,
        GgmlDType::Q8_0 => BlockFormat::Q8_0,
        GgmlDType::Q4K => BlockFormat::Q4K,
        GgmlDType::Q5K => BlockFormat::Q5K,
        GgmlDType::Q6K => BlockFormat::Q6K,
        other => {
            return Err(DeviceError::Unsupported(format!(
                "tensor {} is stored as {other:?}, for which the cpu device has no kernel; use a \
                 file in Q4_K_M, Q5_K_M, Q6_K, Q8_0, Q4_0, Q4_1 or F16, or --device candle",
                weight.name
            )));
        }
    };
    Ok(format)
}

fn pack(matrix: &Packed, source: &[u8], out: &mut [u8]) {
    let &Packed { format, columns, .. } = matrix;
    let group_bytes = Layout::of(format).group_bytes(columns);
    let rows_bytes = GROUP * format.row_bytes(columns);
    let groups = out.par_chunks_exact_mut(group_bytes).zip(source.par_chunks(rows_bytes));
    groups.for_each(|(out, rows)| pack::pack_group(format, columns, rows, out));
}
