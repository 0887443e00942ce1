//! A matrix and activations to multiply, for the benchmarks and for counting.

use aio_kernels::activation;
use aio_kernels::block::BlockFormat;
use aio_kernels::matrix::{self, Epilogue, Matrix, Tiles};
use aio_kernels::memory::{Memory, OutOfMemory};
use aio_kernels::pack::{self, GROUP, Layout};
use aio_kernels::shared::{Shared, SharedRows};
use aio_kernels::simd::Isa;

/// The instruction set that `AIO_CPU` names, or the best.
pub fn instruction_set() -> Isa {
    let wanted = std::env::var("AIO_CPU").ok().filter(|name| !name.is_empty());
    match Isa::detect(wanted.as_deref()) {
        Ok(isa) => isa,
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(1);
        }
    }
}

/// A product to run again and again.
pub struct Work {
    isa: Isa,
    format: BlockFormat,
    columns: usize,
    groups: usize,
    rows: usize,
    packed: Memory,
    records: Memory,
    out: Vec<f32>,
}

impl Work {
    /// Weights of about `bytes` bytes, times `rows` rows of `columns`. One group of
    /// weights is repeated: what a kernel costs does not depend on their values.
    pub fn new(
        isa: Isa,
        format: BlockFormat,
        columns: usize,
        rows: usize,
        bytes: usize,
    ) -> Result<Self, OutOfMemory> {
        let layout = Layout::of(format);
        let group_bytes = layout.group_bytes(columns);
        let groups = (bytes / group_bytes).max(1);
        // Bits 0x15 everywhere: scales are small positive numbers in every format.
        let source = vec![0x15; GROUP * format.row_bytes(columns)];
        let mut packed = Memory::zeroed(groups * group_bytes)?;
        let (first, rest) = packed.bytes_mut().split_at_mut(group_bytes);
        pack::pack_group(format, columns, &source, first);
        rest.chunks_exact_mut(group_bytes).for_each(|group| group.copy_from_slice(first));
        let kind = layout.records;
        let count = kind.records(columns);
        let mut records = Memory::zeroed(rows * count * kind.bytes())?;
        let shared = Shared::new(records.bytes_mut());
        let tiles = Tiles::new(rows, isa.tile());
        for row in 0..rows {
            let x: Vec<f32> = (0..columns).map(|i| ((i * 7 + row) % 31) as f32 - 15.0).collect();
            let place = tiles.place(row, count);
            // SAFETY: nothing else runs.
            unsafe { activation::quantise_row(isa, kind, &x, 0..count, shared, place) };
        }
        let out = vec![0.0; rows * groups * GROUP];
        Ok(Self { isa, format, columns, groups, rows, packed, records, out })
    }

    /// The packed weights.
    pub fn weights(&self) -> &[u8] {
        self.packed.bytes()
    }

    /// Multiplies once, on this thread.
    pub fn run(&mut self) {
        let matrix = Matrix {
            format: self.format,
            rows: self.groups * GROUP,
            columns: self.columns,
            packed: self.packed.bytes(),
        };
        let out = SharedRows { floats: Shared::new(&mut self.out), stride: self.groups * GROUP };
        let tiles = Tiles::new(self.rows, self.isa.tile());
        let records = Shared::new(self.records.bytes_mut());
        // SAFETY: nothing else runs.
        unsafe {
            matrix::product(self.isa, matrix, 0..self.groups, records, tiles, out, Epilogue::Store);
        }
    }
}
