//! Operators: what the vendor's reference asks of arguments, and what they compute.

use std::ffi::c_void;

use crate::books::{Books, Kind, Task, Tensor, call, check};
use crate::numbers::{BF16, F16, F32, I32, size};
use crate::{HANDLE, Handle, Status};

const NULL: Status = 161_001;
pub const INVALID: Status = 161_002;

pub type Pointer = *const c_void;
type Does = Box<dyn Fn(&mut Books) + Send + Sync>;

/// An operator after its first phase.
pub struct Executor {
    name: &'static str,
    workspace: u64,
    uses: Vec<(u64, usize)>,
    does: Does,
}

/// A first phase: `f` checks the arguments and gives what the operator wants to work in,
/// the tensors that it uses, and what it does.
pub unsafe fn first_phase<D: Fn(&mut Books) + Send + Sync + 'static>(
    (name, second): (&'static str, &'static str),
    (workspace, executor): (*mut u64, *mut Handle),
    f: impl FnOnce(&mut Books) -> Result<(u64, Vec<Tensor>, D), String>,
) -> Status {
    call(name, Kind::Plain, |books, _| {
        check!(books.current());
        match f(books) {
            Ok((bytes, tensors, does)) => {
                let uses = tensors.iter().map(Tensor::range).collect();
                let made = Executor { name: second, workspace: bytes, uses, does: Box::new(does) };
                let handle = books.handle();
                books.executors.insert(handle, made);
                // SAFETY: the caller has a place for what is given back.
                unsafe {
                    *workspace = bytes;
                    *executor = handle as Handle;
                }
                0
            }
            Err(why) => books.wrong(if why.is_empty() { NULL } else { INVALID }, &why),
        }
    })
}

/// A second phase.
fn second_phase(
    name: &'static str,
    workspace: Handle,
    bytes: u64,
    executor: Handle,
    stream: Handle,
) -> Status {
    // The executor is gone also where the launch fails.
    call(name, Kind::Release, |books, failing| {
        let Some(made) = books.executors.remove(&(executor as u64)) else {
            return books.wrong(HANDLE, "there is no such executor, or it was launched before");
        };
        let stream = check!(books.stream(stream));
        if made.name != name || made.workspace != bytes {
            return books.wrong(INVALID, "the executor or its workspace is of another first phase");
        }
        let mut uses = made.uses;
        let workspace = (workspace as u64, bytes as usize);
        if bytes > 0 {
            if !books.room(workspace.0, workspace.1) {
                return INVALID;
            }
            uses.push(workspace);
        }
        if !failing {
            let does = made.does;
            books.launch(
                stream,
                Task::new(name, uses, move |books| {
                    // Whatever stood there before, it is gone.
                    if bytes > 0 {
                        books.write(workspace.0, &vec![0x5A; workspace.1]);
                    }
                    does(books);
                }),
            );
        }
        0
    })
}

pub fn tensor(books: &Books, handle: Pointer) -> Result<Tensor, String> {
    let found = books.tensors.get(&(handle as u64)).cloned();
    found.ok_or_else(|| "a tensor is not there, or was destroyed".to_owned())
}

pub fn ensure(fits: bool, why: &str) -> Result<(), String> {
    if fits { Ok(()) } else { Err(why.to_owned()) }
}

fn is_float(tensor: &Tensor) -> bool {
    [F32, F16, BF16].contains(&tensor.dtype)
}

macro_rules! second_phases {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(workspace: Handle, bytes: u64, executor: Handle, stream: Handle) -> Status {
            second_phase(stringify!($name), workspace, bytes, executor, stream)
        }
    )*};
}
second_phases! {
    aclnnIndexSelect aclnnCast aclnnInplaceMuls aclnnInplaceAdd aclnnInplaceMul aclnnMatmul
    aclnnRmsNorm aclnnRotaryPositionEmbedding aclnnSilu aclnnGeluV2
    aclnnFusedInferAttentionScoreV2
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnIndexSelectGetWorkspaceSize(
    x: Pointer,
    axis: i64,
    index: Pointer,
    out: Pointer,
    workspace: *mut u64,
    executor: *mut Handle,
) -> Status {
    let names = ("aclnnIndexSelectGetWorkspaceSize", "aclnnIndexSelect");
    let check = |books: &mut Books| {
        let (x, index, out) = (tensor(books, x)?, tensor(books, index)?, tensor(books, out)?);
        ensure(axis == 0 && index.dtype == I32 && index.shape.len() == 1, "not rows by index")?;
        ensure(x.dtype == out.dtype && x.contiguous() && out.contiguous(), "types differ")?;
        let shape = [&index.shape[..], &x.shape[1..]].concat();
        ensure(out.shape == shape, "the result's shape is another")?;
        let uses = vec![x.clone(), index.clone(), out.clone()];
        Ok((0, uses, move |books: &mut Books| {
            let row = x.elements() / x.shape[0] * size(x.dtype);
            for (i, from) in books.integers(&index).into_iter().enumerate() {
                if from < 0 || from as usize >= x.shape[0] {
                    books.wrong(INVALID, &format!("index {from} of {} rows", x.shape[0]));
                } else if let Some(bytes) = books.bytes(x.address + from as u64 * row as u64, row) {
                    books.write(out.address + (i * row) as u64, &bytes);
                }
            }
        }))
    };
    // SAFETY: the outputs are the caller's, given on as they came.
    unsafe { first_phase(names, (workspace, executor), check) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnCastGetWorkspaceSize(
    x: Pointer,
    dtype: i32,
    out: Pointer,
    workspace: *mut u64,
    executor: *mut Handle,
) -> Status {
    let names = ("aclnnCastGetWorkspaceSize", "aclnnCast");
    let check = |books: &mut Books| {
        let (x, out) = (tensor(books, x)?, tensor(books, out)?);
        ensure(out.dtype == dtype && x.shape == out.shape, "types or shapes do not fit")?;
        Ok((0, vec![x.clone(), out.clone()], each(x, out, |x| x)))
    };
    // SAFETY: the outputs are the caller's, given on as they came.
    unsafe { first_phase(names, (workspace, executor), check) }
}

/// A function of each element.
fn each(x: Tensor, out: Tensor, f: fn(f32) -> f32) -> Does {
    Box::new(move |books| {
        let values: Vec<f32> = books.stored(&x).into_iter().map(f).collect();
        books.store(&out, &values);
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnInplaceMulsGetWorkspaceSize(
    x: Pointer,
    factor: Pointer,
    workspace: *mut u64,
    executor: *mut Handle,
) -> Status {
    let names = ("aclnnInplaceMulsGetWorkspaceSize", "aclnnInplaceMuls");
    let check = |books: &mut Books| {
        let x = tensor(books, x)?;
        let factor = books.scalars.get(&(factor as u64)).copied();
        let factor = factor.ok_or("the scalar is not there, or was destroyed")?;
        ensure(is_float(&x) && x.contiguous(), "no floats")?;
        Ok((0, vec![x.clone()], move |books: &mut Books| {
            let values: Vec<f32> = books.stored(&x).into_iter().map(|x| x * factor).collect();
            books.store(&x, &values);
        }))
    };
    // SAFETY: the outputs are the caller's, given on as they came.
    unsafe { first_phase(names, (workspace, executor), check) }
}

/// `x = f(x, y)`, where y has x's shape or is its last axis.
fn in_place(
    books: &Books,
    (x, y): (Pointer, Pointer),
    f: impl Fn(f32, f32) -> f32 + Send + Sync + 'static,
) -> Result<(Vec<Tensor>, Does), String> {
    let (x, y) = (tensor(books, x)?, tensor(books, y)?);
    ensure(is_float(&x) && is_float(&y) && x.contiguous() && y.contiguous(), "no floats")?;
    ensure(x.shape.ends_with(&y.shape), "one shape does not go into the other")?;
    // The wider of two types; between f16 and bf16 that would be f32.
    ensure(x.dtype == F32 || x.dtype == y.dtype, "what comes out does not go into x's type")?;
    let uses = vec![x.clone(), y.clone()];
    let does = move |books: &mut Books| {
        let (mut values, with) = (books.stored(&x), books.stored(&y));
        values.iter_mut().zip(with.iter().cycle()).for_each(|(x, y)| *x = f(*x, *y));
        books.store(&x, &values);
    };
    Ok((uses, Box::new(does)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnInplaceAddGetWorkspaceSize(
    x: Pointer,
    y: Pointer,
    factor: Pointer,
    workspace: *mut u64,
    executor: *mut Handle,
) -> Status {
    let names = ("aclnnInplaceAddGetWorkspaceSize", "aclnnInplaceAdd");
    let check = |books: &mut Books| {
        let factor = books.scalars.get(&(factor as u64)).copied();
        let factor = factor.ok_or("the scalar is not there, or was destroyed")?;
        let (uses, does) = in_place(books, (x, y), move |x, y| x + y * factor)?;
        Ok((0, uses, does))
    };
    // SAFETY: the outputs are the caller's, given on as they came.
    unsafe { first_phase(names, (workspace, executor), check) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnInplaceMulGetWorkspaceSize(
    x: Pointer,
    y: Pointer,
    workspace: *mut u64,
    executor: *mut Handle,
) -> Status {
    let names = ("aclnnInplaceMulGetWorkspaceSize", "aclnnInplaceMul");
    let check = |books: &mut Books| {
        let (uses, does) = in_place(books, (x, y), |x, y| x * y)?;
        Ok((0, uses, does))
    };
    // SAFETY: the outputs are the caller's, given on as they came.
    unsafe { first_phase(names, (workspace, executor), check) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnMatmulGetWorkspaceSize(
    x: Pointer,
    matrix: Pointer,
    out: Pointer,
    math: i8,
    workspace: *mut u64,
    executor: *mut Handle,
) -> Status {
    let names = ("aclnnMatmulGetWorkspaceSize", "aclnnMatmul");
    let check = |books: &mut Books| {
        let (x, matrix, out) = (tensor(books, x)?, tensor(books, matrix)?, tensor(books, out)?);
        ensure(x.dtype == matrix.dtype && x.dtype == out.dtype && is_float(&x), "types differ")?;
        let (&[rows, inner], &[same, columns]) = (&x.shape[..], &matrix.shape[..]) else {
            return Err("not two matrices".to_owned());
        };
        ensure(math == 0 && inner == same && out.shape == [rows, columns], "shapes do not fit")?;
        ensure(x.contiguous() && out.contiguous(), "not contiguous")?;
        // Row by row of the transposed matrix is how it lies there.
        ensure(matrix.strides == [1, inner], "the matrix is not seen with its axes exchanged")?;
        let uses = vec![x.clone(), matrix.clone(), out.clone()];
        Ok((4096 + 64 * rows as u64, uses, move |books: &mut Books| {
            let (x, matrix) = (books.stored(&x), books.stored(&matrix));
            let mut product = Vec::with_capacity(rows * columns);
            for row in x.chunks_exact(inner) {
                product.extend(matrix.chunks_exact(inner).map(|column| dot(row, column)));
            }
            books.store(&out, &product);
        }))
    };
    // SAFETY: the outputs are the caller's, given on as they came.
    unsafe { first_phase(names, (workspace, executor), check) }
}

pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    let (xs, ys) = (x.chunks_exact(16), y.chunks_exact(16));
    let rest: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in xs.zip(ys) {
        sums.iter_mut().zip(x.iter().zip(y)).for_each(|(sum, (x, y))| *sum += x * y);
    }
    sums.iter().sum::<f32>() + rest
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnRmsNormGetWorkspaceSize(
    x: Pointer,
    weight: Pointer,
    epsilon: f64,
    out: Pointer,
    roots: Pointer,
    workspace: *mut u64,
    executor: *mut Handle,
) -> Status {
    let names = ("aclnnRmsNormGetWorkspaceSize", "aclnnRmsNorm");
    let check = |books: &mut Books| {
        let (x, weight) = (tensor(books, x)?, tensor(books, weight)?);
        let (out, roots) = (tensor(books, out)?, tensor(books, roots)?);
        ensure(is_float(&x) && x.dtype == weight.dtype && x.dtype == out.dtype, "types differ")?;
        ensure(weight.shape == [x.last()] && out.shape == x.shape, "shapes do not fit")?;
        let rows = x.elements() / x.last();
        ensure(roots.dtype == F32 && roots.elements() == rows, "a root for each row is wanted")?;
        ensure(x.contiguous() && out.contiguous(), "not contiguous")?;
        let uses = vec![x.clone(), weight.clone(), out.clone(), roots.clone()];
        Ok((256, uses, move |books: &mut Books| {
            let (values, weight) = (books.stored(&x), books.stored(&weight));
            let (mut normed, mut inverse) = (Vec::new(), Vec::new());
            for row in values.chunks_exact(weight.len()) {
                let mean = dot(row, row) / row.len() as f32;
                let root = 1.0 / (mean + epsilon as f32).sqrt();
                inverse.push(root);
                normed.extend(row.iter().zip(&weight).map(|(x, weight)| x * root * weight));
            }
            books.store(&out, &normed);
            books.store(&roots, &inverse);
        }))
    };
    // SAFETY: the outputs are the caller's, given on as they came.
    unsafe { first_phase(names, (workspace, executor), check) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnRotaryPositionEmbeddingGetWorkspaceSize(
    x: Pointer,
    cos: Pointer,
    sin: Pointer,
    mode: i64,
    out: Pointer,
    workspace: *mut u64,
    executor: *mut Handle,
) -> Status {
    let names = ("aclnnRotaryPositionEmbeddingGetWorkspaceSize", "aclnnRotaryPositionEmbedding");
    let check = |books: &mut Books| {
        let (x, out) = (tensor(books, x)?, tensor(books, out)?);
        let (cos, sin) = (tensor(books, cos)?, tensor(books, sin)?);
        let &[1, rows, heads, width] = &x.shape[..] else { return Err("not 1SND".to_owned()) };
        let dtypes = [out.dtype, cos.dtype, sin.dtype];
        ensure(is_float(&x) && dtypes == [x.dtype; 3], "types differ")?;
        ensure(out.shape == x.shape, "shapes do not fit")?;
        let angles = [1, rows, 1, width];
        ensure(cos.shape == angles && sin.shape == angles, "angles are not 1S1D")?;
        ensure(width < 896 && width % 2 == 0 && heads < 1000, "too wide")?;
        ensure((0..2).contains(&mode), "there is no such mode")?;
        ensure(x.address != out.address, "the operator does not work in place")?;
        let uses = vec![x.clone(), cos.clone(), sin.clone(), out.clone()];
        Ok((0, uses, move |books: &mut Books| {
            let (x, cos, sin) = (books.stored(&x), books.stored(&cos), books.stored(&sin));
            let mut rotated = Vec::with_capacity(x.len());
            for (i, head) in x.chunks_exact(width).enumerate() {
                let angles = i / heads * width;
                for j in 0..width {
                    // The other of its pair, with the sign that the rotation gives it.
                    let other = match mode {
                        0 if j < width / 2 => -head[j + width / 2],
                        0 => head[j - width / 2],
                        _ if j % 2 == 0 => -head[j + 1],
                        _ => head[j - 1],
                    };
                    rotated.push(head[j] * cos[angles + j] + other * sin[angles + j]);
                }
            }
            books.store(&out, &rotated);
        }))
    };
    // SAFETY: the outputs are the caller's, given on as they came.
    unsafe { first_phase(names, (workspace, executor), check) }
}

fn activation(
    books: &Books,
    (x, out): (Pointer, Pointer),
    f: fn(f32) -> f32,
) -> Result<(u64, Vec<Tensor>, Does), String> {
    let (x, out) = (tensor(books, x)?, tensor(books, out)?);
    ensure(is_float(&x) && x.dtype == out.dtype && x.shape == out.shape, "types differ")?;
    ensure(x.contiguous() && out.contiguous(), "not contiguous")?;
    Ok((0, vec![x.clone(), out.clone()], each(x, out, f)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnSiluGetWorkspaceSize(
    x: Pointer,
    out: Pointer,
    workspace: *mut u64,
    executor: *mut Handle,
) -> Status {
    let names = ("aclnnSiluGetWorkspaceSize", "aclnnSilu");
    let check = |books: &mut Books| activation(books, (x, out), |x| x / (1.0 + (-x).exp()));
    // SAFETY: the outputs are the caller's, given on as they came.
    unsafe { first_phase(names, (workspace, executor), check) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnGeluV2GetWorkspaceSize(
    x: Pointer,
    approximate: i64,
    out: Pointer,
    workspace: *mut u64,
    executor: *mut Handle,
) -> Status {
    let names = ("aclnnGeluV2GetWorkspaceSize", "aclnnGeluV2");
    let check = |books: &mut Books| {
        ensure(approximate == 1, "the exact function is not here")?;
        activation(books, (x, out), |x| {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        })
    };
    // SAFETY: the outputs are the caller's, given on as they came.
    unsafe { first_phase(names, (workspace, executor), check) }
}
