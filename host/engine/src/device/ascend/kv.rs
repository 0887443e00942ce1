//! The KV cache of one sequence in a chip's memory: one buffer of `layers x 2 x capacity x
//! columns`, keys before values, grown by doubling.

use std::sync::Arc;

use aio_ascendcl::{Buffer, DataType, Error, Session, Tensor};

use crate::model::ModelDescription;

/// Tokens that a cache first has room for.
const FIRST_CAPACITY: usize = 256;

/// What all caches of a model have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub layers: usize,
    pub kv_heads: usize,
    pub width: usize,
    pub dtype: DataType,
    /// Most tokens that a cache may ever hold.
    pub context: usize,
}

/// Keys or values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Half {
    Keys,
    Values,
}

impl Shape {
    pub(super) fn new(model: &ModelDescription, dtype: DataType) -> Self {
        Self {
            layers: model.layers,
            kv_heads: model.kv_heads,
            width: model.head_width,
            dtype,
            context: model.context,
        }
    }

    /// Bytes of one token's keys, or its values, in one layer.
    pub(super) fn row_bytes(&self) -> usize {
        self.kv_heads * self.width * self.dtype.bytes()
    }

    pub(super) fn bytes_per_token(&self) -> usize {
        2 * self.layers * self.row_bytes()
    }

    /// Tokens that there is room for once `needed` had no room.
    fn capacity(&self, needed: usize) -> usize {
        needed.next_power_of_two().max(FIRST_CAPACITY).min(self.context.max(needed))
    }

    /// The first byte of a token's keys or values.
    fn start(&self, capacity: usize, layer: usize, half: Half, token: usize) -> usize {
        let half = match half {
            Half::Keys => 0,
            Half::Values => 1,
        };
        ((layer * 2 + half) * capacity + token) * self.row_bytes()
    }
}

pub(super) struct KvCache {
    shape: Shape,
    buffer: Option<Arc<Buffer>>,
    capacity: usize,
    length: usize,
}

impl KvCache {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, buffer: None, capacity: 0, length: 0 }
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Rows past the length are never read, so forgetting is moving the mark.
    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Marks `rows` more tokens as held, after every layer has stored them.
    pub(super) fn advance(&mut self, rows: usize) {
        self.length += rows;
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.capacity * self.shape.bytes_per_token()) as u64
    }

    /// Bytes that it grows by when it is to hold `length` tokens.
    pub(super) fn needed(&self, length: usize) -> u64 {
        if length <= self.capacity {
            return 0;
        }
        ((self.shape.capacity(length) - self.capacity) * self.shape.bytes_per_token()) as u64
    }

    /// A cache of its own that holds the first `length` tokens.
    pub(super) fn copy(&self, session: &Arc<Session>, length: usize) -> Result<Self, Error> {
        let length = length.min(self.length);
        let mut copy = Self::new(self.shape);
        if length > 0 {
            copy.capacity = self.shape.capacity(length);
            copy.buffer = Some(self.copied(session, copy.capacity, length)?);
            copy.length = length;
        }
        Ok(copy)
    }

    /// Makes room for `needed` tokens.
    pub(super) fn reserve(&mut self, session: &Arc<Session>, needed: usize) -> Result<(), Error> {
        if needed > self.capacity {
            let capacity = self.shape.capacity(needed);
            self.buffer = Some(self.copied(session, capacity, self.length)?);
            self.capacity = capacity;
        }
        Ok(())
    }

    /// A new buffer with the first `length` tokens of this one.
    fn copied(
        &self,
        session: &Arc<Session>,
        capacity: usize,
        length: usize,
    ) -> Result<Arc<Buffer>, Error> {
        let grown = Buffer::new(session, capacity * self.shape.bytes_per_token())?;
        let Some(old) = self.buffer.as_ref().filter(|_| length > 0) else { return Ok(grown) };
        let copy = || {
            for layer in 0..self.shape.layers {
                for half in [Half::Keys, Half::Values] {
                    let to = self.shape.start(capacity, layer, half, 0);
                    let from = self.shape.start(self.capacity, layer, half, 0);
                    grown.copy_from(to, old, from, length * self.shape.row_bytes())?;
                }
            }
            Ok(())
        };
        let launched = copy();
        // Whatever was launched uses both buffers until it has run.
        let waited = session.synchronise();
        launched.and(waited).map(|()| grown)
    }

    /// Launches copies of keys and values of the tokens that follow those held: of one
    /// layer, `rows` rows from `from_row` on of places in another buffer.
    pub(super) fn store(
        &self,
        layer: usize,
        (from, k, v): (&Buffer, usize, usize),
        from_row: usize,
        rows: usize,
    ) -> Result<(), Error> {
        let row = self.shape.row_bytes();
        let buffer = self.buffer()?;
        for (half, place) in [(Half::Keys, k), (Half::Values, v)] {
            let to = self.shape.start(self.capacity, layer, half, self.length);
            buffer.copy_from(to, from, place + from_row * row, rows * row)?;
        }
        Ok(())
    }

    /// Keys or values of a layer's tokens from `first` on, `1 x tokens x heads x width`.
    pub(super) fn view(
        &self,
        layer: usize,
        half: Half,
        first: usize,
        tokens: usize,
    ) -> Result<Tensor<'_>, Error> {
        let start = self.shape.start(self.capacity, layer, half, first);
        let shape = [1, tokens, self.shape.kv_heads, self.shape.width];
        Tensor::new(self.buffer()?, start, self.shape.dtype, &shape)
    }

    fn buffer(&self) -> Result<&Buffer, Error> {
        self.buffer.as_deref().ok_or_else(|| Error::Misuse("a cache has stored nothing yet".into()))
    }
}
