//! The KV cache of one sequence as candle tensors: for each layer keys and
//! values of `kv_heads x capacity x head width`, f32, grown by doubling.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use crate::model::ModelDescription;

/// Tokens that a cache first has room for.
const FIRST_CAPACITY: usize = 256;

pub(super) struct KvCache {
    kv_heads: usize,
    head_width: usize,
    /// Most tokens it may ever hold.
    context: usize,
    length: usize,
    layers: Vec<Option<LayerCache>>,
}

#[derive(Clone)]
struct LayerCache {
    k: Tensor,
    v: Tensor,
}

impl KvCache {
    pub(super) fn new(model: &ModelDescription) -> Self {
        Self {
            kv_heads: model.kv_heads,
            head_width: model.head_width,
            context: model.context,
            length: 0,
            layers: vec![None; model.layers],
        }
    }

    /// A cache of its own that holds the first `length` tokens.
    pub(super) fn copy(&self, length: usize) -> Result<Self> {
        let length = length.min(self.length);
        let mut copy = Self { length: 0, layers: vec![None; self.layers.len()], ..*self };
        if length > 0 {
            for layer in 0..self.layers.len() {
                let (k, v) = self.view(layer, 0..length)?;
                copy.store(layer, &k.contiguous()?, &v.contiguous()?)?;
            }
        }
        copy.length = length;
        Ok(copy)
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
        let tensors = self.layers.iter().flatten().flat_map(|layer| [&layer.k, &layer.v]);
        tensors.map(|t| (t.elem_count() * DType::F32.size_in_bytes()) as u64).sum()
    }

    /// Bytes that it grows by when it is to hold `length` tokens.
    pub(super) fn needed(&self, length: usize) -> u64 {
        let of = |layer: &Option<LayerCache>| {
            let has = layer.as_ref().and_then(|l| l.k.dim(1).ok()).unwrap_or(0);
            if has < length { self.capacity(length) - has } else { 0 }
        };
        let tokens: usize = self.layers.iter().map(of).sum();
        (tokens * 2 * self.kv_heads * self.head_width * DType::F32.size_in_bytes()) as u64
    }

    /// Tokens that there is room for once `needed` had no room.
    fn capacity(&self, needed: usize) -> usize {
        needed.next_power_of_two().max(FIRST_CAPACITY).min(self.context.max(needed))
    }

    /// Stores keys and values (`kv_heads x rows x head width`) of the tokens
    /// that follow those held.
    pub(super) fn store(&mut self, layer: usize, k: &Tensor, v: &Tensor) -> Result<()> {
        let needed = self.length + k.dim(1)?;
        self.reserve(layer, needed)?;
        if let Some(cache) = &self.layers[layer] {
            cache.k.slice_set(k, 1, self.length)?;
            cache.v.slice_set(v, 1, self.length)?;
        }
        Ok(())
    }

    /// Keys and values of the tokens at `positions`.
    pub(super) fn view(&self, layer: usize, positions: Range<usize>) -> Result<(Tensor, Tensor)> {
        match &self.layers[layer] {
            Some(cache) => {
                let of = |t: &Tensor| t.narrow(1, positions.start, positions.len());
                Ok((of(&cache.k)?, of(&cache.v)?))
            }
            None => candle_core::bail!("layer {layer} has stored nothing yet"),
        }
    }

    fn reserve(&mut self, layer: usize, needed: usize) -> Result<()> {
        let old = self.layers[layer].take();
        let capacity = old.as_ref().map_or(Ok(0), |cache| cache.k.dim(1))?;
        if capacity >= needed {
            self.layers[layer] = old;
            return Ok(());
        }
        let capacity = self.capacity(needed);
        let grow = |old: Option<&Tensor>| -> Result<Tensor> {
            let shape = (self.kv_heads, capacity, self.head_width);
            let grown = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
            if let Some(old) = old.filter(|_| self.length > 0) {
                grown.slice_set(&old.narrow(1, 0, self.length)?.contiguous()?, 1, 0)?;
            }
            Ok(grown)
        };
        let (k, v) = (old.as_ref().map(|c| &c.k), old.as_ref().map(|c| &c.v));
        self.layers[layer] = Some(LayerCache { k: grow(k)?, v: grow(v)? });
        Ok(())
    }
}
