//! Building a graph from a model's description: the one place that says how a
//! decoder-only transformer is wired.

use super::{Graph, Op, Value, ValueId, Weight};
use crate::model::ModelDescription;

/// The forward pass of `model` for passes of up to `gear` rows.
pub fn build(model: &ModelDescription, gear: usize) -> Graph {
    let mut b = Builder { model, values: Vec::new(), ops: Vec::new() };
    let x = b.value("residual", model.width);
    let table = weight("token_embd.weight", model.vocabulary, model.width);
    b.ops.push(Op::Embed { table: table.clone(), scale: model.embedding_scale, out: x });
    for layer in 0..model.layers {
        b.attention_block(layer, x);
        b.feed_forward_block(layer, x);
    }
    let selected = b.value("selected", model.width);
    b.ops.push(Op::SelectRows { x, out: selected });
    let normed = b.norm(selected, "output_norm.weight");
    let head = if model.tied_output {
        table
    } else {
        weight("output.weight", model.vocabulary, model.width)
    };
    let logits = b.value("logits", model.vocabulary);
    b.ops.push(Op::Linear { x: normed, weight: head, bias: None, out: logits });
    Graph { gear, values: b.values, ops: b.ops, logits }
}

struct Builder<'a> {
    model: &'a ModelDescription,
    values: Vec<Value>,
    ops: Vec<Op>,
}

impl Builder<'_> {
    fn attention_block(&mut self, layer: usize, x: ValueId) {
        let model = self.model;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let normed = self.norm(x, &name("attn_norm.weight"));
        let biased = model.architecture.qkv_bias;
        let (wide, narrow) = (model.query_width(), model.kv_width());
        let mut q = self.linear(normed, &name("attn_q"), wide, biased);
        let mut k = self.linear(normed, &name("attn_k"), narrow, biased);
        let v = self.linear(normed, &name("attn_v"), narrow, biased);
        if model.architecture.head_norms {
            q = self.norm_heads(q, &name("attn_q_norm.weight"), model.heads);
            k = self.norm_heads(k, &name("attn_k_norm.weight"), model.kv_heads);
        }
        let (style, base) = (model.architecture.rope, model.rope_base(layer));
        self.ops.push(Op::Rope { x: q, heads: model.heads, style, base });
        self.ops.push(Op::Rope { x: k, heads: model.kv_heads, style, base });
        self.ops.push(Op::StoreKv { layer, k, v });
        let attended = self.value("attended", wide);
        self.ops.push(Op::Attention {
            layer,
            q,
            heads: model.heads,
            kv_heads: model.kv_heads,
            scale: model.attention_scale(),
            window: model.window(layer),
            out: attended,
        });
        let projected = self.linear(attended, &name("attn_output"), model.width, false);
        self.add(x, projected, &name("post_attention_norm.weight"));
    }

    fn feed_forward_block(&mut self, layer: usize, x: ValueId) {
        let model = self.model;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let normed = self.norm(x, &name("ffn_norm.weight"));
        let gate = self.linear(normed, &name("ffn_gate"), model.feed_forward, false);
        let up = self.linear(normed, &name("ffn_up"), model.feed_forward, false);
        let inner = self.value("feed-forward", model.feed_forward);
        let activation = model.architecture.activation;
        self.ops.push(Op::Gated { activation, gate, up, out: inner });
        let down = self.linear(inner, &name("ffn_down"), model.width, false);
        self.add(x, down, &name("post_ffw_norm.weight"));
    }

    /// Adds a block's result to the residual stream, normalised by `post_norm` if
    /// the architecture does that.
    fn add(&mut self, x: ValueId, result: ValueId, post_norm: &str) {
        let normalised = self.model.architecture.post_norms;
        let y = if normalised { self.norm(result, post_norm) } else { result };
        self.ops.push(Op::Add { x, y });
    }

    fn norm(&mut self, x: ValueId, name: &str) -> ValueId {
        self.norm_heads(x, name, 1)
    }

    fn norm_heads(&mut self, x: ValueId, name: &str, heads: usize) -> ValueId {
        let columns = self.values[x].columns;
        let out = self.value("normed", columns);
        let weight = weight(name, 1, columns / heads);
        let epsilon = self.model.norm_epsilon;
        self.ops.push(Op::RmsNorm { x, weight, heads, epsilon, out });
        out
    }

    /// `name` without its `.weight` or `.bias`.
    fn linear(&mut self, x: ValueId, name: &str, columns: usize, biased: bool) -> ValueId {
        let out = self.value(name.rsplit('.').next().unwrap_or(name), columns);
        let bias = biased.then(|| weight(&format!("{name}.bias"), 1, columns));
        let weight = weight(&format!("{name}.weight"), columns, self.values[x].columns);
        self.ops.push(Op::Linear { x, weight, bias, out });
        out
    }

    fn value(&mut self, name: &str, columns: usize) -> ValueId {
        self.values.push(Value { name: name.to_owned(), columns });
        self.values.len() - 1
    }
}

fn weight(name: &str, rows: usize, columns: usize) -> Weight {
    Weight { name: name.to_owned(), rows, columns }
}
