//! Attention: what the vendor's reference asks of its arguments, as far as it is used, and
//! what it computes.

use std::ffi::{CStr, c_char};

use crate::Handle;
use crate::Status;
use crate::books::{Books, Tensor};
use crate::numbers::{BF16, BOOL, F16};
use crate::operators::{INVALID, Pointer, dot, ensure, first_phase, tensor};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnFusedInferAttentionScoreV2GetWorkspaceSize(
    query: Pointer,
    key: Pointer,
    value: Pointer,
    shift: Pointer,
    mask: Pointer,
    lengths: Pointer,
    key_lengths: Pointer,
    deq_scale1: Pointer,
    quant_scale1: Pointer,
    deq_scale2: Pointer,
    quant_scale2: Pointer,
    quant_offset2: Pointer,
    antiquant_scale: Pointer,
    antiquant_offset: Pointer,
    block_table: Pointer,
    query_padding: Pointer,
    kv_padding: Pointer,
    key_antiquant_scale: Pointer,
    key_antiquant_offset: Pointer,
    value_antiquant_scale: Pointer,
    value_antiquant_offset: Pointer,
    key_prefix: Pointer,
    value_prefix: Pointer,
    prefix_length: Pointer,
    heads: i64,
    scale: f64,
    before: i64,
    after: i64,
    layout: *mut c_char,
    kv_heads: i64,
    sparse: i64,
    precise: i64,
    block_size: i64,
    antiquant_mode: i64,
    lse: bool,
    key_antiquant_mode: i64,
    value_antiquant_mode: i64,
    out: Pointer,
    softmax_lse: Pointer,
    workspace: *mut u64,
    executor: *mut Handle,
) -> Status {
    let names =
        ("aclnnFusedInferAttentionScoreV2GetWorkspaceSize", "aclnnFusedInferAttentionScoreV2");
    let check = |books: &mut Books| {
        let unused = [
            shift,
            lengths,
            key_lengths,
            deq_scale1,
            quant_scale1,
            deq_scale2,
            quant_scale2,
            quant_offset2,
            antiquant_scale,
            antiquant_offset,
            block_table,
            query_padding,
            kv_padding,
            key_antiquant_scale,
            key_antiquant_offset,
            value_antiquant_scale,
            value_antiquant_offset,
            key_prefix,
            value_prefix,
            prefix_length,
            softmax_lse,
        ];
        let numbers =
            [precise, block_size, antiquant_mode, key_antiquant_mode, value_antiquant_mode];
        ensure(unused.iter().all(|p| p.is_null()) && numbers == [0; 5] && !lse, "not known here")?;
        // SAFETY: the caller gives a text that ends with 0.
        let layout = unsafe { CStr::from_ptr(layout) };
        ensure(layout == c"BSND", "another layout than BSND")?;
        let list = |list: Pointer| match books.lists.get(&(list as u64)).map(Vec::as_slice) {
            Some([one]) => Ok(one.clone()),
            _ => Err("a list is not there, or not of one tensor".to_owned()),
        };
        let (key, value) = (list(key)?, list(value)?);
        let (query, out) = (tensor(books, query)?, tensor(books, out)?);
        let &[1, rows, n, width] = &query.shape[..] else { return Err("not 1SND".to_owned()) };
        let &[1, keys, groups, same] = &key.shape[..] else { return Err("not 1SND".to_owned()) };
        let all = [&query, &key, &value, &out];
        let half = query.dtype == F16 || query.dtype == BF16;
        ensure(half && all.iter().all(|t| t.dtype == query.dtype), "not of one 16-bit type")?;
        ensure(all.iter().all(|t| t.contiguous()), "not contiguous")?;
        ensure(value.shape == key.shape && out.shape == query.shape, "shapes do not fit")?;
        ensure(n as i64 == heads && groups as i64 == kv_heads, "heads do not fit")?;
        ensure(same == width && width % 16 == 0 && width <= 512, "not such a width")?;
        ensure(n <= 256 && n % groups == 0 && n / groups <= 64, "too many heads")?;
        let mut uses = vec![query.clone(), key.clone(), value.clone(), out.clone()];
        let mut sparse = sparse;
        if rows == 1 {
            sparse = 0;
        } else if sparse == 3 || sparse == 4 {
            let mask = tensor(books, mask)?;
            ensure(mask.shape == [2048, 2048] && mask.dtype == BOOL, "another mask than expected")?;
            ensure(keys >= rows, "more queries than keys")?;
            uses.push(mask);
        } else {
            ensure(sparse == 0 && mask.is_null(), "a mask that is not known here")?;
        }
        ensure(sparse != 4 || (before >= 0 && after == 0), "another band than expected")?;
        let mask = uses.get(4).cloned();
        Ok(((rows * keys * 4) as u64, uses, move |books: &mut Books| {
            if let Some(mask) = &mask {
                triangle(books, mask);
            }
            let (q, k, v) = (books.stored(&query), books.stored(&key), books.stored(&value));
            let mut attended = Vec::with_capacity(q.len());
            for (i, q) in q.chunks_exact(width).enumerate() {
                let (row, group) = (i / n, i % n / (n / groups));
                // Rows stand at the end of the keys.
                let own = keys - rows + row;
                let (first, last) = match sparse {
                    3 => (0, own),
                    4 => (own.saturating_sub(before as usize), own),
                    _ => (0, keys - 1),
                };
                let of = |all: &[f32], j: usize| (j * groups + group) * width..all.len();
                let scores: Vec<f32> =
                    (first..=last).map(|j| dot(q, &k[of(&k, j)][..width]) * scale as f32).collect();
                let most = scores.iter().fold(f32::NEG_INFINITY, |most, score| most.max(*score));
                let weights: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
                let sum: f32 = weights.iter().sum();
                let mut out = vec![0.0; width];
                for (weight, j) in weights.iter().zip(first..) {
                    let row = &v[of(&v, j)][..width];
                    out.iter_mut().zip(row).for_each(|(out, v)| *out += weight / sum * v);
                }
                attended.extend(out);
            }
            books.store(&out, &attended);
        }))
    };
    // SAFETY: the outputs are the caller's, given on as they came.
    unsafe { first_phase(names, (workspace, executor), check) }
}

/// That a mask tells "to the right of".
fn triangle(books: &mut Books, mask: &Tensor) {
    for i in [0, 1, 1000, 2046, 2047] {
        let row = books.bytes(mask.address + i * 2048, 2048).unwrap_or_default();
        if !row.iter().zip(0..).all(|(&hidden, j)| hidden == u8::from(j > i)) {
            books.wrong(INVALID, "the mask does not tell what is to the right");
        }
    }
}
