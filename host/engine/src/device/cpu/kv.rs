//! KV caches in blocks: memory is taken as a sequence grows, a block of
//! [`attention::BLOCK`] positions for all layers at a time, and given back when it
//! is closed.

use aio_kernels::attention;
use aio_kernels::memory::{Memory, OutOfMemory};
use aio_kernels::shared::Shared;

/// What a model's caches look like.
#[derive(Debug, Clone, Copy)]
pub(super) struct KvShape {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_width: usize,
}

impl KvShape {
    /// Where in a block a layer's head begins, in half-precision numbers.
    pub fn offset(self, layer: usize, head: usize) -> usize {
        (layer * self.kv_heads + head) * attention::block_length(self.head_width)
    }

    fn block_bytes(self) -> usize {
        self.offset(self.layers, 0) * size_of::<u16>()
    }
}

/// One sequence's cache.
pub(super) struct KvCache {
    shape: KvShape,
    length: usize,
    /// Owns what `blocks` points to.
    memory: Vec<Memory>,
    blocks: Vec<Shared<'static, u16>>,
}

impl KvCache {
    pub fn new(shape: KvShape) -> Self {
        Self { shape, length: 0, memory: Vec::new(), blocks: Vec::new() }
    }

    pub fn length(&self) -> usize {
        self.length
    }

    pub fn set_length(&mut self, length: usize) {
        self.length = length;
    }

    /// Positions past the length are never seen, so forgetting is moving the mark;
    /// the blocks stay for what comes instead.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Makes room for `length` positions.
    pub fn reserve(&mut self, length: usize) -> Result<(), OutOfMemory> {
        while self.blocks.len() * attention::BLOCK < length {
            let mut block = Memory::zeroed(self.shape.block_bytes())?;
            let halves: &mut [u16] = bytemuck::cast_slice_mut(block.bytes_mut());
            // SAFETY: the memory lies outside the `Memory` value, which therefore may
            // move, and lives as long as `self.memory`, whose blocks are dropped only
            // with `self`; it is reached through this view alone, which stays in this
            // struct and the passes that borrow it.
            let view = unsafe { Shared::from_raw(halves.as_mut_ptr(), halves.len()) };
            self.memory.push(block);
            self.blocks.push(view);
        }
        Ok(())
    }

    pub fn blocks(&self) -> &[Shared<'static, u16>] {
        &self.blocks
    }

    pub fn bytes(&self) -> u64 {
        self.memory.iter().map(|block| block.len() as u64).sum()
    }
}
