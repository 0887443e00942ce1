//! Walking a graph's operations over candle tensors.

use candle_core::{Device, Result, Tensor};

use super::{CandleModel, Span, failed};
use crate::device::{DeviceError, Logits, Row};
use crate::graph::{Activation, Op, RopeStyle, ValueId};

/// Tensors by value; empty until their operation has run.
struct Values(Vec<Option<Tensor>>);

impl Values {
    fn get(&self, id: ValueId) -> Result<&Tensor> {
        match &self.0[id] {
            Some(tensor) => Ok(tensor),
            None => candle_core::bail!("value {id} is read before it is computed"),
        }
    }

    fn set(&mut self, id: ValueId, tensor: Tensor) {
        self.0[id] = Some(tensor);
    }
}

/// Cosines and sines of a pass's rows, `rows x head width / 2` each.
struct Rotation {
    base: f32,
    width: usize,
    cos: Tensor,
    sin: Tensor,
}

/// Rotations of a pass, each computed when a layer first needs it: models have
/// one or two.
struct Rotations<'a> {
    rows: &'a [Row],
    known: Vec<Rotation>,
}

impl Rotations<'_> {
    fn get(&mut self, base: f32, width: usize) -> Result<&Rotation> {
        let known = self.known.iter().position(|r| r.base == base && r.width == width);
        let index = known.unwrap_or(self.known.len());
        if known.is_none() {
            self.known.push(Rotation::new(self.rows, base, width)?);
        }
        Ok(&self.known[index])
    }
}

impl Rotation {
    /// Angles are computed in f64: at long contexts an f32 product would lose the
    /// fraction that matters.
    fn new(rows: &[Row], base: f32, width: usize) -> Result<Self> {
        let frequency = |i: usize| f64::from(base).powf(2.0 * i as f64 / width as f64);
        let angles = rows.iter().flat_map(|row| {
            let position = f64::from(row.position);
            (0..width / 2).map(move |i| position / frequency(i))
        });
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        let shape = (rows.len(), width / 2);
        Ok(Self {
            base,
            width,
            cos: Tensor::from_vec(cos, shape, &Device::Cpu)?,
            sin: Tensor::from_vec(sin, shape, &Device::Cpu)?,
        })
    }
}

impl CandleModel {
    pub(super) fn run_graph(
        &mut self,
        gear: usize,
        rows: &[Row],
        spans: &[Span],
        logits: &mut Logits,
    ) -> std::result::Result<(), DeviceError> {
        let Some(graph) = self.graphs.remove(&gear) else {
            return Err(DeviceError::BadPass(format!("gear {gear} is not compiled")));
        };
        let result = self.run_ops(&graph, rows, spans);
        let logits_id = graph.logits;
        self.graphs.insert(gear, graph);
        let values = result?;
        if rows.iter().any(|row| row.logits) {
            let found = values.get(logits_id).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
            let found = found.map_err(failed("read the logits"))?;
            let vocabulary = self.description.vocabulary;
            let wanted = rows.iter().filter(|row| row.logits).count();
            let to = logits.append(vocabulary, wanted)?;
            let to = to.chunks_exact_mut(Logits::stride(vocabulary));
            for (to, from) in to.zip(found.chunks_exact(vocabulary)) {
                to[..vocabulary].copy_from_slice(from);
            }
        }
        for span in spans {
            if let Some(cache) = self.caches.get_mut(&span.kv) {
                cache.advance(span.rows);
            }
        }
        Ok(())
    }

    fn run_ops(
        &mut self,
        graph: &crate::graph::Graph,
        rows: &[Row],
        spans: &[Span],
    ) -> std::result::Result<Values, DeviceError> {
        let mut rotations = Rotations { rows, known: Vec::new() };
        let mut values = Values(vec![None; graph.values.len()]);
        for op in &graph.ops {
            if let Op::SelectRows { .. } = op
                && !rows.iter().any(|row| row.logits)
            {
                break; // Nobody wants logits: the caches are filled, the rest is not needed.
            }
            self.run_op(op, rows, spans, &mut rotations, &mut values).map_err(failed(name(op)))?;
        }
        Ok(values)
    }

    fn run_op(
        &mut self,
        op: &Op,
        rows: &[Row],
        spans: &[Span],
        rotations: &mut Rotations<'_>,
        values: &mut Values,
    ) -> Result<()> {
        match op {
            Op::Embed { table, scale, out } => {
                let embedded = self.weights.embed(table, rows.iter().map(|row| row.token))?;
                values.set(*out, (embedded * f64::from(*scale))?);
            }
            Op::RmsNorm { x, weight, heads, epsilon, out } => {
                let (x, weight) = (values.get(*x)?, self.weights.vector(weight)?);
                let (rows, columns) = x.dims2()?;
                let parts = x.reshape((rows * heads, columns / heads))?;
                let normed = candle_nn::ops::rms_norm(&parts, weight, *epsilon)?;
                values.set(*out, normed.reshape((rows, columns))?);
            }
            Op::Linear { x, weight, bias, out } => {
                let mut y = self.weights.product(weight, values.get(*x)?)?;
                if let Some(bias) = bias {
                    y = y.broadcast_add(self.weights.vector(bias)?)?;
                }
                values.set(*out, y);
            }
            Op::Rope { x, heads, style, base } => {
                let tensor = values.get(*x)?;
                let rotation = rotations.get(*base, tensor.dim(1)? / heads)?;
                let rotated = rope(tensor, *heads, *style, rotation)?;
                values.set(*x, rotated);
            }
            Op::StoreKv { layer, k, v } => {
                self.store_kv(*layer, values.get(*k)?, values.get(*v)?, spans)?;
            }
            Op::Attention { layer, q, heads, kv_heads, scale, window, out } => {
                let q = (values.get(*q)? * f64::from(*scale))?;
                let q = q.reshape((q.dim(0)?, *kv_heads, heads / kv_heads, ()))?;
                values.set(*out, self.attention(*layer, &q, *window, spans)?);
            }
            Op::Add { x, y } => {
                let sum = values.get(*x)?.add(values.get(*y)?)?;
                values.set(*x, sum);
            }
            Op::Gated { activation, gate, up, out } => {
                let gate = values.get(*gate)?;
                let bent = match activation {
                    Activation::Silu => candle_nn::ops::silu(gate)?,
                    Activation::GeluTanh => gate.gelu()?,
                };
                values.set(*out, bent.mul(values.get(*up)?)?);
            }
            Op::SelectRows { x, out } => {
                let wanted = rows.iter().enumerate().filter(|(_, row)| row.logits);
                let wanted: Vec<u32> = wanted.map(|(i, _)| i as u32).collect();
                let index = Tensor::new(wanted, &Device::Cpu)?;
                values.set(*out, values.get(*x)?.index_select(&index, 0)?);
            }
        }
        Ok(())
    }

    fn store_kv(&mut self, layer: usize, k: &Tensor, v: &Tensor, spans: &[Span]) -> Result<()> {
        let (heads, width) = (self.description.kv_heads, self.description.head_width);
        for span in spans {
            let of_span = |t: &Tensor| {
                t.narrow(0, span.first, span.rows)?
                    .reshape((span.rows, heads, width))?
                    .transpose(0, 1)?
                    .contiguous()
            };
            match self.caches.get_mut(&span.kv) {
                Some(cache) => cache.store(layer, &of_span(k)?, &of_span(v)?)?,
                None => candle_core::bail!("sequence {} has no cache", span.kv.0),
            }
        }
        Ok(())
    }

    /// Row by row, each over exactly its own positions: the products then have
    /// the same shapes whether the row stands in a prompt, a draft or alone. `q`
    /// is scaled, `rows x key and value heads x group x head width`.
    fn attention(
        &self,
        layer: usize,
        q: &Tensor,
        window: Option<usize>,
        spans: &[Span],
    ) -> Result<Tensor> {
        let mut outputs = Vec::new();
        for span in spans {
            let Some(cache) = self.caches.get(&span.kv) else {
                candle_core::bail!("sequence {} has no cache", span.kv.0)
            };
            for i in 0..span.rows {
                let end = span.position + i + 1;
                let start = window.map_or(0, |window| end.saturating_sub(window));
                let (k, v) = cache.view(layer, start..end)?;
                let scores = q.get(span.first + i)?.matmul(&k.t()?)?;
                let weights = candle_nn::ops::softmax_last_dim(&scores)?;
                outputs.push(weights.matmul(&v)?.flatten_all()?);
            }
        }
        Tensor::stack(&outputs, 0)
    }
}

fn rope(x: &Tensor, heads: usize, style: RopeStyle, rotation: &Rotation) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    // candle's rotation wants batch x heads x rows x width.
    let x = x.reshape((1, rows, heads, columns / heads))?.transpose(1, 2)?.contiguous()?;
    let rotated = match style {
        RopeStyle::Halves => candle_nn::rotary_emb::rope(&x, &rotation.cos, &rotation.sin)?,
        RopeStyle::Neighbours => candle_nn::rotary_emb::rope_i(&x, &rotation.cos, &rotation.sin)?,
    };
    rotated.transpose(1, 2)?.contiguous()?.reshape((rows, columns))
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Embed { .. } => "looked up embeddings",
        Op::RmsNorm { .. } => "normalised",
        Op::Linear { .. } => "multiplied",
        Op::Rope { .. } => "rotated positions in",
        Op::StoreKv { .. } => "stored keys and values",
        Op::Attention { .. } => "ran attention",
        Op::Add { .. } => "added",
        Op::Gated { .. } => "gated",
        Op::SelectRows { .. } => "selected rows",
    }
}
