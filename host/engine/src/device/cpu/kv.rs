//! KV caches in blocks: memory is taken as a sequence grows, a block of
//! [`attention::BLOCK`] positions for all layers at a time, and given back when it
//! is closed. A sequence that begins like another shares its blocks until it writes
//! to them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// A block of positions. Sequences with a common beginning share it; who shares it
/// only reads it.
struct KvBlock {
    memory: Memory,
    /// The same memory, for passes.
    view: Shared<'static, u16>,
    held: Arc<AtomicU64>,
}

impl KvBlock {
    fn new(shape: KvShape, held: &Arc<AtomicU64>) -> Result<Self, OutOfMemory> {
        let mut memory = Memory::zeroed(shape.block_bytes())?;
        let halves: &mut [u16] = bytemuck::cast_slice_mut(memory.bytes_mut());
        // SAFETY: the memory lies outside the `Memory` value, which therefore may move,
        // and lives as long as this block; it is reached through this view alone, which
        // stays in the caches that hold the block and the passes that borrow them.
        let view = unsafe { Shared::from_raw(halves.as_mut_ptr(), halves.len()) };
        held.fetch_add(memory.len() as u64, Ordering::Relaxed);
        Ok(Self { memory, view, held: Arc::clone(held) })
    }

    /// A block of the same content.
    fn copy(&self, shape: KvShape) -> Result<Self, OutOfMemory> {
        let copy = Self::new(shape, &self.held)?;
        // SAFETY: caches are changed between passes, so nobody writes to the one, and
        // nobody else knows the other.
        unsafe {
            let from = self.view.read(0, self.view.len());
            copy.view.write(0, from.len()).copy_from_slice(from);
        }
        Ok(copy)
    }
}

impl Drop for KvBlock {
    fn drop(&mut self) {
        self.held.fetch_sub(self.memory.len() as u64, Ordering::Relaxed);
    }
}

/// One sequence's cache.
pub(super) struct KvCache {
    shape: KvShape,
    length: usize,
    /// Own what `views` points to.
    blocks: Vec<Arc<KvBlock>>,
    views: Vec<Shared<'static, u16>>,
    /// Bytes of all caches of the model, shared blocks counted once.
    held: Arc<AtomicU64>,
}

impl KvCache {
    pub fn new(shape: KvShape, held: Arc<AtomicU64>) -> Self {
        Self { shape, length: 0, blocks: Vec::new(), views: Vec::new(), held }
    }

    /// A cache that holds this one's first `length` positions, in the same blocks.
    pub fn fork(&self, length: usize) -> Self {
        let length = length.min(self.length);
        let shared = length.div_ceil(attention::BLOCK);
        Self {
            shape: self.shape,
            length,
            blocks: self.blocks[..shared].to_vec(),
            views: self.views[..shared].to_vec(),
            held: Arc::clone(&self.held),
        }
    }

    pub fn length(&self) -> usize {
        self.length
    }

    pub fn set_length(&mut self, length: usize) {
        self.length = length;
    }

    /// Positions past the length are never seen, so forgetting is moving the mark.
    /// One block beyond it stays for what comes instead: drafts are rolled back all
    /// the time.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
        let kept = self.length.div_ceil(attention::BLOCK) + 1;
        self.blocks.truncate(kept);
        self.views.truncate(kept);
    }

    /// Makes room for `length` positions; what is to be written, from this cache's
    /// end on, then lies in blocks of its own.
    pub fn reserve(&mut self, length: usize) -> Result<(), OutOfMemory> {
        for i in self.written(length) {
            if self.is_shared(i) {
                // What lies past the end is written before it is read.
                let own = if i * attention::BLOCK < self.length {
                    self.blocks[i].copy(self.shape)?
                } else {
                    KvBlock::new(self.shape, &self.held)?
                };
                self.views[i] = own.view;
                self.blocks[i] = Arc::new(own);
            }
        }
        while self.blocks.len() * attention::BLOCK < length {
            let block = KvBlock::new(self.shape, &self.held)?;
            self.views.push(block.view);
            self.blocks.push(Arc::new(block));
        }
        Ok(())
    }

    /// Bytes that [`KvCache::reserve`] would take.
    pub fn needed(&self, length: usize) -> u64 {
        let new = length.div_ceil(attention::BLOCK).saturating_sub(self.blocks.len());
        let own = self.written(length).filter(|&i| self.is_shared(i)).count();
        ((new + own) * self.shape.block_bytes()) as u64
    }

    /// Blocks that are there and get written when the cache grows to `length`.
    fn written(&self, length: usize) -> Range<usize> {
        let end = length.div_ceil(attention::BLOCK).min(self.blocks.len());
        self.length / attention::BLOCK..end
    }

    fn is_shared(&self, block: usize) -> bool {
        Arc::strong_count(&self.blocks[block]) > 1
    }

    pub fn blocks(&self) -> &[Shared<'static, u16>] {
        &self.views
    }
}
