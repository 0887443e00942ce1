//! Every instruction set computes what the portable one defines.

use super::{Isa, Kernel, LANES, Simd};

/// All operations on one set of inputs, as bits.
struct Everything {
    a: [f32; LANES],
    b: [f32; LANES],
    bytes: [u8; 64],
    x: [i8; 4],
}

/// Floats that begin at a cache line.
#[repr(align(64))]
struct Lines([f32; 3 * LANES]);

impl Kernel for Everything {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<u32> {
        let mut out = Vec::new();
        let mut floats = |x: S::F| {
            let mut lanes = [0.0f32; LANES];
            simd.f_store(x, &mut lanes);
            out.extend(lanes.map(f32::to_bits));
            // In place and across two lines.
            let mut streamed = Lines([0.0; 3 * LANES]);
            for start in [0, LANES + 4] {
                if let Some(to) = streamed.0[start..].first_chunk_mut() {
                    simd.f_stream(x, to);
                }
            }
            simd.end_of_stream();
            out.extend(streamed.0.map(f32::to_bits));
        };
        let (a, b) = (simd.f_load(&self.a), simd.f_load(&self.b));
        floats(simd.f_add(a, b));
        floats(simd.f_sub(a, b));
        floats(simd.f_mul(a, b));
        floats(simd.f_div(a, b));
        floats(simd.f_fma(a, b, a));
        floats(simd.f_fnma(a, b, a));
        floats(simd.f_max(a, b));
        floats(simd.f_min(a, b));
        floats(simd.f_abs(a));
        floats(simd.f_splat(self.a[3]));
        let small = simd.f_max(simd.f_min(a, simd.f_splat(100.0)), simd.f_splat(-100.0));
        floats(simd.f_from_i(simd.i_round(small)));
        floats(simd.f_exp2_i(simd.i_round(small)));
        floats(crate::elementwise::exp(simd, a));
        let mut half = [0u16; LANES];
        simd.f_to_f16(a, &mut half);
        floats(simd.f_from_f16(&half));
        let low: [u8; LANES] = std::array::from_fn(|i| self.bytes[i]);
        floats(simd.f_from_u6(&low));
        floats(simd.f_from_i8(&low.map(|x| x as i8)));
        let w = simd.b_load(&self.bytes);
        let seven = simd.b_and(w, simd.b_splat(0x7f));
        let start = simd.i_splat(-1000);
        floats(simd.f_from_i(simd.dot(start, seven, self.x)));
        floats(simd.f_from_i(simd.dot_full(start, w, self.x)));
        // Sums of pairs as long as they fit 16 bits: bytes of four bits, eight times.
        let four = simd.b_and(w, simd.b_splat(15));
        let mut pairs = simd.p_zero();
        for _ in 0..8 {
            pairs = simd.p_dot(pairs, four, self.x.map(|x| x.max(-127)));
        }
        floats(simd.f_from_i(simd.p_add(start, pairs)));
        let biased = simd.p_dot_biased(simd.p_zero(), w, self.x.map(|x| x.max(-127)));
        floats(simd.f_from_i(simd.p_add(start, biased)));
        // Weights of -32 to 31, which are stored 32 too large: on the way sums of pairs
        // leave 16 bits, and come back.
        let six = simd.b_and(w, simd.b_splat(63));
        let x = self.x.map(|x| x.max(-127));
        let times = |a: i8, b: i8| ((i32::from(a) + i32::from(b)) * -32 * 4) as i16;
        let mut pairs = simd.p_splat([times(x[0], x[1]), times(x[2], x[3])]);
        for _ in 0..4 {
            pairs = simd.p_dot(pairs, six, x);
        }
        floats(simd.f_from_i(simd.p_add(start, pairs)));
        let shifted = simd.b_or(simd.b_shr::<3>(w), simd.b_shl::<2>(w));
        floats(simd.f_from_i(simd.dot_full(start, shifted, self.x)));
        floats(simd.f_from_i(simd.i_shl7(simd.i_add(start, simd.i_round(small)))));
        let mut quants = [0i8; LANES];
        simd.i_store_i8(simd.i_round(small), &mut quants);
        out.extend(quants.map(|q| q as u32));
        out.push(simd.i_sum(simd.dot_full(start, w, self.x)) as u32);
        out.push(simd.f_reduce_add(a).to_bits());
        out.push(simd.f_reduce_max(a).to_bits());
        out
    }
}

fn compare(a: [f32; LANES], b: [f32; LANES], bytes: [u8; 64], x: [i8; 4]) {
    let of = |isa: Isa| isa.run(Everything { a, b, bytes, x });
    let all = Isa::available();
    let expected = of(all[all.len() - 1]);
    for isa in all {
        assert_eq!(of(isa), expected, "{} differs from portable", isa.name());
    }
}

#[test]
fn extremes_agree() {
    let a = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1.5,
        2.5,
        -2.5,
        65504.0,
        65520.0,
        1e-7,
        -6e-8,
        3e38,
        -87.4,
        88.4,
        f32::INFINITY,
    ];
    let b = [
        1.0,
        2.0,
        -0.0,
        0.0,
        3.0,
        1e-38,
        7.0,
        f32::MIN_POSITIVE,
        1.0,
        1.0,
        1e-30,
        1.0,
        1e-3,
        1.0,
        9.0,
        2.0,
    ];
    for x in [[127, 127, 127, 127], [-128; 4], [-127, 127, -127, 127], [0, 1, 2, 3]] {
        compare(a, b, [255; 64], x);
        compare(b, a, std::array::from_fn(|i| (i * 37) as u8), x);
    }
}

#[test]
fn a_missing_instruction_set_is_one_sentence() {
    let error = Isa::detect(Some("mmx")).unwrap_err();
    assert!(error.contains("'mmx'") && error.contains("portable"), "{error}");
    assert_eq!(Isa::detect(Some("portable")).map(Isa::name), Ok("portable"));
}

#[cfg(not(miri))]
mod random {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn instruction_sets_agree(
            a in prop::array::uniform16(-1e4f32..1e4), b in prop::array::uniform16(0.01f32..50.0),
            low in prop::array::uniform32(any::<u8>()), high in prop::array::uniform32(any::<u8>()),
            x in prop::array::uniform4(any::<i8>()),
        ) {
            let bytes = std::array::from_fn(|i| if i < 32 { low[i] } else { high[i - 32] });
            compare(a, b, bytes, x);
        }
    }
}
