//! Operators, each with what the vendor's reference asks of its arguments. The library
//! checks it in an operator's first phase; what is said here is what callers must know.

use std::ffi::c_char;
use std::ptr::null;

use crate::error::Error;
use crate::launcher::Launcher;
use crate::sys::{DataType, Functions, Launch};
use crate::tensor::{Scalar, Tensor, TensorList};

/// `KEEP_DTYPE`: a product is computed in its operands' type (and added up in f32).
const KEEP_DTYPE: i8 = 0;

/// Which components of a head make a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Component i with component i + half.
    Halves,
    /// Neighbours.
    Neighbours,
}

/// A function of each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// GELU by its approximation with a hyperbolic tangent.
    GeluTanh,
}

/// Which keys a query sees. Queries are the last of the sequence whose keys are given: of
/// q queries and k keys, query i stands at key k - q + i.
pub enum Mask<'a> {
    /// All: right for a single query.
    None,
    /// Those up to its own. The tensor is [`Mask::SIZE`] squared of [`DataType::Bool`], 1
    /// where a column is to the right of a row: what the operator wants to be told.
    Causal(&'a Tensor<'a>),
    /// Of these, its own and as many before it.
    Band(&'a Tensor<'a>, usize),
}

impl Mask<'_> {
    /// Rows and columns of the tensor that tells "to the right of".
    pub const SIZE: usize = 2048;
}

/// What attention reads and writes: of one sequence, `rows x heads x width` queries and
/// `keys x kv_heads x width` keys and values, all of one 16-bit type.
pub struct Attention<'a> {
    /// `1 x rows x heads x width`, contiguous.
    pub queries: &'a Tensor<'a>,
    /// `1 x keys x kv_heads x width`, contiguous.
    pub keys: Tensor<'a>,
    /// The same.
    pub values: Tensor<'a>,
    /// `1 x rows x heads x width`, contiguous.
    pub out: &'a Tensor<'a>,
    /// At most 256.
    pub heads: usize,
    /// Divides `heads`, by 64 at most.
    pub kv_heads: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Which keys each query sees.
    pub mask: Mask<'a>,
}

impl Launcher {
    /// `out[i] = x[index[i]]`, rows of any type; `index` is of [`DataType::I32`], each below
    /// x's rows.
    ///
    /// # Errors
    /// As for every operator: when the library refuses the arguments, there is no memory
    /// for its workspace, or it cannot be launched.
    pub fn select_rows(
        &mut self,
        x: &Tensor<'_>,
        index: &Tensor<'_>,
        out: &Tensor<'_>,
    ) -> Result<(), Error> {
        let (prepare, launch) =
            self.of(|f| (f.aclnnIndexSelectGetWorkspaceSize, f.aclnnIndexSelect));
        self.two_phases(
            ("aclnnIndexSelectGetWorkspaceSize", "aclnnIndexSelect"),
            // SAFETY: the tensors are open; the pointers are to numbers that outlive the
            // call. The same holds for all operators below.
            |bytes, executor| unsafe {
                prepare(x.handle(), 0, index.handle(), out.handle(), bytes, executor)
            },
            launch,
        )
    }

    /// `out = x`, in `out`'s type, which is `dtype`.
    ///
    /// # Errors
    /// See [`Launcher::select_rows`].
    pub fn cast(&mut self, x: &Tensor<'_>, dtype: DataType, out: &Tensor<'_>) -> Result<(), Error> {
        let (prepare, launch) = self.of(|f| (f.aclnnCastGetWorkspaceSize, f.aclnnCast));
        self.two_phases(
            ("aclnnCastGetWorkspaceSize", "aclnnCast"),
            // SAFETY: see `select_rows`.
            |bytes, executor| unsafe {
                prepare(x.handle(), dtype as i32, out.handle(), bytes, executor)
            },
            launch,
        )
    }

    /// `x *= factor`.
    ///
    /// # Errors
    /// See [`Launcher::select_rows`].
    pub fn scale(&mut self, x: &Tensor<'_>, factor: f32) -> Result<(), Error> {
        let session = std::sync::Arc::clone(self.session());
        session.bind()?;
        let factor = Scalar::new(&session, factor)?;
        let (prepare, launch) =
            self.of(|f| (f.aclnnInplaceMulsGetWorkspaceSize, f.aclnnInplaceMuls));
        self.two_phases(
            ("aclnnInplaceMulsGetWorkspaceSize", "aclnnInplaceMuls"),
            // SAFETY: see `select_rows`; the scalar is open as well.
            |bytes, executor| unsafe { prepare(x.handle(), factor.handle(), bytes, executor) },
            launch,
        )
    }

    /// `x += y`, where `y` has x's shape or is a row that is added to each row. Types may
    /// differ where y's goes into x's.
    ///
    /// # Errors
    /// See [`Launcher::select_rows`].
    pub fn add(&mut self, x: &Tensor<'_>, y: &Tensor<'_>) -> Result<(), Error> {
        let session = std::sync::Arc::clone(self.session());
        session.bind()?;
        let one = Scalar::new(&session, 1.0)?;
        let (prepare, launch) = self.of(|f| (f.aclnnInplaceAddGetWorkspaceSize, f.aclnnInplaceAdd));
        self.two_phases(
            ("aclnnInplaceAddGetWorkspaceSize", "aclnnInplaceAdd"),
            // SAFETY: see `select_rows`; the scalar is open as well.
            |bytes, executor| unsafe {
                prepare(x.handle(), y.handle(), one.handle(), bytes, executor)
            },
            launch,
        )
    }

    /// `x *= y`, element by element.
    ///
    /// # Errors
    /// See [`Launcher::select_rows`].
    pub fn multiply(&mut self, x: &Tensor<'_>, y: &Tensor<'_>) -> Result<(), Error> {
        let (prepare, launch) = self.of(|f| (f.aclnnInplaceMulGetWorkspaceSize, f.aclnnInplaceMul));
        self.two_phases(
            ("aclnnInplaceMulGetWorkspaceSize", "aclnnInplaceMul"),
            // SAFETY: see `select_rows`.
            |bytes, executor| unsafe { prepare(x.handle(), y.handle(), bytes, executor) },
            launch,
        )
    }

    /// `out = x * matrix`: `rows x inner` times `inner x columns`, all of one type. The
    /// matrix may be [`Tensor::transposed`].
    ///
    /// # Errors
    /// See [`Launcher::select_rows`].
    pub fn product(
        &mut self,
        x: &Tensor<'_>,
        matrix: &Tensor<'_>,
        out: &Tensor<'_>,
    ) -> Result<(), Error> {
        let (prepare, launch) = self.of(|f| (f.aclnnMatmulGetWorkspaceSize, f.aclnnMatmul));
        self.two_phases(
            ("aclnnMatmulGetWorkspaceSize", "aclnnMatmul"),
            // SAFETY: see `select_rows`.
            |bytes, executor| unsafe {
                prepare(x.handle(), matrix.handle(), out.handle(), KEEP_DTYPE, bytes, executor)
            },
            launch,
        )
    }

    /// `out[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * weight`, all of one type; `roots`
    /// takes a float a row (the root's inverse), of [`DataType::F32`] and `rows x 1`.
    ///
    /// # Errors
    /// See [`Launcher::select_rows`].
    pub fn rms_norm(
        &mut self,
        x: &Tensor<'_>,
        weight: &Tensor<'_>,
        epsilon: f32,
        out: &Tensor<'_>,
        roots: &Tensor<'_>,
    ) -> Result<(), Error> {
        let (prepare, launch) = self.of(|f| (f.aclnnRmsNormGetWorkspaceSize, f.aclnnRmsNorm));
        self.two_phases(
            ("aclnnRmsNormGetWorkspaceSize", "aclnnRmsNorm"),
            // SAFETY: see `select_rows`.
            |bytes, executor| unsafe {
                prepare(
                    x.handle(),
                    weight.handle(),
                    f64::from(epsilon),
                    out.handle(),
                    roots.handle(),
                    bytes,
                    executor,
                )
            },
            launch,
        )
    }

    /// Rotates each head of each row: `1 x rows x heads x width` by cosines and sines of
    /// `1 x rows x 1 x width`, all of one type. Each pair's cosine (and sine) stands at both
    /// of its components. Width is even and below 896, heads below 1000.
    ///
    /// # Errors
    /// See [`Launcher::select_rows`].
    pub fn rotate(
        &mut self,
        rotation: Rotation,
        x: &Tensor<'_>,
        cos: &Tensor<'_>,
        sin: &Tensor<'_>,
        out: &Tensor<'_>,
    ) -> Result<(), Error> {
        let mode = match rotation {
            Rotation::Halves => 0,
            Rotation::Neighbours => 1,
        };
        let (prepare, launch) = self.of(|f| {
            (f.aclnnRotaryPositionEmbeddingGetWorkspaceSize, f.aclnnRotaryPositionEmbedding)
        });
        self.two_phases(
            ("aclnnRotaryPositionEmbeddingGetWorkspaceSize", "aclnnRotaryPositionEmbedding"),
            // SAFETY: see `select_rows`.
            |bytes, executor| unsafe {
                prepare(x.handle(), cos.handle(), sin.handle(), mode, out.handle(), bytes, executor)
            },
            launch,
        )
    }

    /// `out = activation(x)`, of one type.
    ///
    /// # Errors
    /// See [`Launcher::select_rows`].
    pub fn activate(
        &mut self,
        activation: Activation,
        x: &Tensor<'_>,
        out: &Tensor<'_>,
    ) -> Result<(), Error> {
        match activation {
            Activation::Silu => {
                let (prepare, launch) = self.of(|f| (f.aclnnSiluGetWorkspaceSize, f.aclnnSilu));
                self.two_phases(
                    ("aclnnSiluGetWorkspaceSize", "aclnnSilu"),
                    // SAFETY: see `select_rows`.
                    |bytes, executor| unsafe { prepare(x.handle(), out.handle(), bytes, executor) },
                    launch,
                )
            }
            Activation::GeluTanh => {
                // 0 would be the exact function, 1 is its approximation.
                let (prepare, launch) = self.of(|f| (f.aclnnGeluV2GetWorkspaceSize, f.aclnnGeluV2));
                self.two_phases(
                    ("aclnnGeluV2GetWorkspaceSize", "aclnnGeluV2"),
                    // SAFETY: see `select_rows`.
                    |bytes, executor| unsafe {
                        prepare(x.handle(), 1, out.handle(), bytes, executor)
                    },
                    launch,
                )
            }
        }
    }

    /// Attention of one sequence: `softmax(queries * keys^T * scale) * values`, each head
    /// with its group's keys. A width is a multiple of 16 up to 512.
    ///
    /// # Errors
    /// See [`Launcher::select_rows`].
    pub fn attention(&mut self, a: Attention<'_>) -> Result<(), Error> {
        // The operator's names for it: leftmost and rightmost token of a row's band,
        // counted from its own. They are not looked at in other modes.
        const ANY: i64 = i32::MAX as i64;
        let (mask, sparse_mode, before, after) = match a.mask {
            Mask::None => (null(), 0, ANY, ANY),
            Mask::Causal(mask) => (mask.handle(), 3, ANY, ANY),
            Mask::Band(mask, before) => (mask.handle(), 4, before as i64, 0),
        };
        self.session().bind()?;
        let (keys, values) = (TensorList::new(a.keys)?, TensorList::new(a.values)?);
        let mut layout: [c_char; 5] = [b'B', b'S', b'N', b'D', 0].map(|c| c as c_char);
        let (prepare, launch) = self.of(|f| {
            (f.aclnnFusedInferAttentionScoreV2GetWorkspaceSize, f.aclnnFusedInferAttentionScoreV2)
        });
        self.two_phases(
            ("aclnnFusedInferAttentionScoreV2GetWorkspaceSize", "aclnnFusedInferAttentionScoreV2"),
            // SAFETY: see `select_rows`; the layout ends with a zero. What is null is
            // optional: lengths are those of the shapes, nothing is quantised, paged,
            // padded or shared.
            |bytes, executor| unsafe {
                prepare(
                    a.queries.handle(),
                    keys.handle(),
                    values.handle(),
                    null(),
                    mask,
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    null(),
                    a.heads as i64,
                    f64::from(a.scale),
                    before,
                    after,
                    layout.as_mut_ptr(),
                    a.kv_heads as i64,
                    sparse_mode,
                    0,
                    0,
                    0,
                    false,
                    0,
                    0,
                    a.out.handle(),
                    null(),
                    bytes,
                    executor,
                )
            },
            launch,
        )
    }

    /// An operator's two functions.
    fn of<P>(&self, choose: impl FnOnce(&Functions) -> (P, Launch)) -> (P, Launch) {
        choose(self.session().functions())
    }
}
