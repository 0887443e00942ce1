//! What a description becomes.

use super::*;
use crate::model::tests::{describe, gemma3};

fn count(graph: &Graph, which: impl Fn(&Op) -> bool) -> usize {
    graph.ops.iter().filter(|op| which(op)).count()
}

#[test]
fn the_models_switches_become_operations() {
    let graph = build(&gemma3(), 4);
    assert!(matches!(graph.ops[0], Op::Embed { scale, .. } if scale == 32f32.sqrt()));
    // Before and after attention and feed-forward, and the output's.
    assert_eq!(count(&graph, |op| matches!(op, Op::RmsNorm { heads: 1, .. })), 12 * 4 + 1);
    assert_eq!(count(&graph, |op| matches!(op, Op::RmsNorm { heads: 4, .. })), 12);
    assert_eq!(count(&graph, |op| matches!(op, Op::RmsNorm { heads: 2, .. })), 12);
    let gelu =
        |op: &Op| matches!(op, Op::Gated { activation, .. } if *activation == Activation::GeluTanh);
    assert_eq!(count(&graph, gelu), 12);
    let global = |op: &Op| matches!(op, Op::Attention { window: None, scale: 0.25, .. });
    assert_eq!(count(&graph, global), 2);
    let local = |op: &Op| matches!(op, Op::Attention { window: Some(512), scale: 0.25, .. });
    assert_eq!(count(&graph, local), 10);
    assert_eq!(count(&graph, |op| matches!(op, Op::Rope { base: 1e6, .. })), 4);
    assert_eq!(count(&graph, |op| matches!(op, Op::Rope { base: 1e4, .. })), 20);

    let plain = build(&describe("llama", &[]).unwrap(), 1);
    assert!(matches!(plain.ops[0], Op::Embed { scale: 1.0, .. }));
    assert_eq!(count(&plain, |op| matches!(op, Op::RmsNorm { .. })), 12 * 2 + 1);
    assert_eq!(count(&plain, |op| matches!(op, Op::Attention { window: None, .. })), 12);
}

#[test]
fn norms_of_heads_have_a_heads_weight_and_come_before_rotation() {
    let graph = build(&gemma3(), 1);
    let weights = graph.weights();
    let weight = |name: &str| weights.iter().find(|weight| weight.name == name).unwrap();
    assert_eq!(weight("blk.3.attn_q_norm.weight").columns, 16);
    assert_eq!(weight("blk.3.attn_k_norm.weight").columns, 16);
    assert_eq!(weight("blk.3.post_attention_norm.weight").columns, 32);
    assert_eq!(weight("blk.3.post_ffw_norm.weight").columns, 32);
    for pair in graph.ops.windows(4) {
        if let [Op::RmsNorm { out: q, heads: 4, .. }, Op::RmsNorm { out: k, .. }, third, fourth] =
            pair
        {
            assert!(matches!(third, Op::Rope { x, heads: 4, .. } if x == q));
            assert!(matches!(fourth, Op::Rope { x, heads: 2, .. } if x == k));
        }
    }
}

/// Every value is computed before it is read, and widths fit.
#[test]
fn operations_fit_together() {
    for model in [gemma3(), describe("qwen2", &[]).unwrap()] {
        let graph = build(&model, 1);
        for op in &graph.ops {
            if let Op::RmsNorm { x, heads, weight, out, .. } = op {
                assert_eq!(graph.values[*x].columns, heads * weight.columns);
                assert_eq!(graph.values[*x].columns, graph.values[*out].columns);
            }
            if let Op::Attention { q, heads, kv_heads, out, .. } = op {
                assert_eq!(graph.values[*q].columns, heads * model.head_width);
                assert_eq!(graph.values[*q].columns, graph.values[*out].columns);
                assert!(heads.is_multiple_of(*kv_heads));
            }
        }
    }
}
