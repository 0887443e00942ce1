//! Walking a graph's operations over candle tensors.

use candle_core::{Device, Result, Tensor};

use super::{CandleModel, Span, failed};
use crate::device::{DeviceError, Logits, Row};
use crate::graph::{Op, ValueId};
use crate::model::RopeStyle;

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
    cos: Tensor,
    sin: Tensor,
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
            logits.extend(&found.map_err(failed("read the logits"))?);
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
        let rotation = self.rotation(rows).map_err(failed("computed rotary angles"))?;
        let mut values = Values(vec![None; graph.values.len()]);
        for op in &graph.ops {
            if let Op::SelectRows { .. } = op
                && !rows.iter().any(|row| row.logits)
            {
                break; // Nobody wants logits: the caches are filled, the rest is not needed.
            }
            self.run_op(op, rows, spans, &rotation, &mut values).map_err(failed(name(op)))?;
        }
        Ok(values)
    }

    fn run_op(
        &mut self,
        op: &Op,
        rows: &[Row],
        spans: &[Span],
        rotation: &Rotation,
        values: &mut Values,
    ) -> Result<()> {
        match op {
            Op::Embed { table, out } => {
                values.set(*out, self.weights.embed(table, rows.iter().map(|row| row.token))?);
            }
            Op::RmsNorm { x, weight, epsilon, out } => {
                let weight = self.weights.vector(weight)?;
                values.set(*out, candle_nn::ops::rms_norm(values.get(*x)?, weight, *epsilon)?);
            }
            Op::Linear { x, weight, bias, out } => {
                let mut y = self.weights.product(weight, values.get(*x)?)?;
                if let Some(bias) = bias {
                    y = y.broadcast_add(self.weights.vector(bias)?)?;
                }
                values.set(*out, y);
            }
            Op::Rope { x, heads } => {
                let rotated = self.rope(values.get(*x)?, *heads, rotation)?;
                values.set(*x, rotated);
            }
            Op::StoreKv { layer, k, v } => {
                self.store_kv(*layer, values.get(*k)?, values.get(*v)?, spans)?;
            }
            Op::Attention { layer, q, out } => {
                values.set(*out, self.attention(*layer, values.get(*q)?, spans)?);
            }
            Op::Add { x, y } => {
                let sum = values.get(*x)?.add(values.get(*y)?)?;
                values.set(*x, sum);
            }
            Op::SwiGlu { gate, up, out } => {
                let gated = candle_nn::ops::silu(values.get(*gate)?)?.mul(values.get(*up)?)?;
                values.set(*out, gated);
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

    /// Angles are position / base^(2i / head width), computed in f64: at long
    /// contexts an f32 product would lose the fraction that matters.
    fn rotation(&self, rows: &[Row]) -> Result<Rotation> {
        let width = self.description.head_width;
        let base = f64::from(self.description.rope_base);
        let angles = rows.iter().flat_map(|row| {
            let position = f64::from(row.position);
            (0..width / 2).map(move |i| position / base.powf(2.0 * i as f64 / width as f64))
        });
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        let shape = (rows.len(), width / 2);
        Ok(Rotation {
            cos: Tensor::from_vec(cos, shape, &Device::Cpu)?,
            sin: Tensor::from_vec(sin, shape, &Device::Cpu)?,
        })
    }

    fn rope(&self, x: &Tensor, heads: usize, rotation: &Rotation) -> Result<Tensor> {
        let (rows, width) = (x.dim(0)?, self.description.head_width);
        // candle's rotation wants batch x heads x rows x width.
        let x = x.reshape((1, rows, heads, width))?.transpose(1, 2)?.contiguous()?;
        let rotated = match self.description.architecture.rope {
            RopeStyle::Halves => candle_nn::rotary_emb::rope(&x, &rotation.cos, &rotation.sin)?,
            RopeStyle::Neighbours => {
                candle_nn::rotary_emb::rope_i(&x, &rotation.cos, &rotation.sin)?
            }
        };
        rotated.transpose(1, 2)?.contiguous()?.reshape((rows, heads * width))
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
    /// the same shapes whether the row stands in a prompt, a draft or alone.
    fn attention(&self, layer: usize, q: &Tensor, spans: &[Span]) -> Result<Tensor> {
        let model = &self.description;
        let group = model.heads / model.kv_heads;
        let scale = 1.0 / (model.head_width as f64).sqrt();
        let q = (q * scale)?;
        let mut outputs = Vec::new();
        for span in spans {
            let Some(cache) = self.caches.get(&span.kv) else {
                candle_core::bail!("sequence {} has no cache", span.kv.0)
            };
            for i in 0..span.rows {
                let (k, v) = cache.view(layer, span.position + i + 1)?;
                let q = q.narrow(0, span.first + i, 1)?;
                let q = q.reshape((model.kv_heads, group, model.head_width))?;
                let scores = q.matmul(&k.t()?)?;
                let weights = candle_nn::ops::softmax_last_dim(&scores)?;
                outputs.push(weights.matmul(&v)?.reshape((1, model.query_width()))?);
            }
        }
        Tensor::cat(&outputs, 0)
    }
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
        Op::SwiGlu { .. } => "gated",
        Op::SelectRows { .. } => "selected rows",
    }
}
