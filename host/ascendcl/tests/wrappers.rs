//! The wrappers by themselves, on the library that stands in for the vendor's: small
//! enough to be run under AddressSanitizer, which also looks for leaks (see `.ci/run`).

#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/stub.rs"]
mod stub;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aio_ascendcl::{
    Activation, Attention, Buffer, DataType, Error, Launcher, Library, Mask, Rotation, Session,
    Tensor,
};
use stub::Stub;

struct Turn {
    stub: Stub,
    _alone: MutexGuard<'static, ()>,
}

impl Turn {
    fn begin() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let stub = Stub::open(env!("CARGO_TARGET_TMPDIR"));
        let _ = Library::finalise();
        stub.new_process();
        Self { stub, _alone: alone }
    }

    fn session(&self) -> Arc<Session> {
        let library = Library::open(Some(&self.stub.path)).unwrap();
        assert_eq!(library.chips().unwrap(), 2);
        Session::open(&library, 0).unwrap()
    }

    fn end(self) {
        Library::finalise().unwrap();
        assert_eq!((self.stub.violations(), self.stub.left()), (String::new(), String::new()));
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn floats(buffer: &Buffer, at: usize, count: usize) -> Vec<f32> {
    let mut bytes = vec![0; count * 4];
    buffer.read(at, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn what_is_launched_has_run_when_it_was_waited_for() {
    let turn = Turn::begin();
    let session = turn.session();
    let buffer = Buffer::new(&session, 1024).unwrap();
    buffer.write(0, &bytes(&[1.0, 2.0, 3.0, 4.0])).unwrap();
    let mut launcher = Launcher::new(&session);
    let x = Tensor::new(&buffer, 0, DataType::F32, &[2, 2]).unwrap();
    launcher.scale(&x, 10.0).unwrap();
    drop(x);
    // Not yet: that is what the stand-in is for.
    assert_eq!(floats(&buffer, 0, 4), [1.0, 2.0, 3.0, 4.0]);
    session.synchronise().unwrap();
    assert_eq!(floats(&buffer, 0, 4), [10.0, 20.0, 30.0, 40.0]);

    // A matrix seen with its axes exchanged: [1 2; 3 4] x [10 30; 20 40].
    buffer.write(64, &bytes(&[1.0, 2.0, 3.0, 4.0])).unwrap();
    let x = Tensor::new(&buffer, 64, DataType::F32, &[2, 2]).unwrap();
    let matrix = Tensor::transposed(&buffer, 0, DataType::F32, 2, 2).unwrap();
    let out = Tensor::new(&buffer, 128, DataType::F32, &[2, 2]).unwrap();
    assert!(launcher.workspace().is_none());
    launcher.product(&x, &matrix, &out).unwrap();
    assert!(launcher.workspace().is_some());
    session.synchronise().unwrap();
    assert_eq!(floats(&buffer, 128, 4), [50.0, 110.0, 110.0, 250.0]);
    let (free, total) = session.memory().unwrap();
    assert!(free < total);
    drop((x, matrix, out));
    drop((launcher, buffer, session));
    turn.end();
}

/// A captured graph runs on what its buffers hold when it is launched, keeps them, and is
/// given up if what is to be captured fails.
#[test]
fn a_captured_graph_runs_again_and_again() {
    let turn = Turn::begin();
    let session = turn.session();
    let buffer = Buffer::new(&session, 256).unwrap();
    buffer.write(0, &bytes(&[1.0, 2.0])).unwrap();
    let mut launcher = Launcher::new(&session);
    launcher.fix();
    let double = |launcher: &mut Launcher| {
        let x = Tensor::new(&buffer, 0, DataType::F32, &[1, 2])?;
        launcher.add(&x, &x)
    };
    let keep = || vec![Arc::clone(&buffer)];
    let captured = session.capture::<Error>(keep(), || double(&mut launcher)).unwrap();
    session.synchronise().unwrap();
    assert_eq!(floats(&buffer, 0, 2), [1.0, 2.0]);
    for _ in 0..3 {
        captured.launch().unwrap();
    }
    session.synchronise().unwrap();
    assert_eq!(floats(&buffer, 0, 2), [8.0, 16.0]);

    let given_up = session.capture::<Error>(keep(), || {
        double(&mut launcher)?;
        Err(Error::Misuse("no more".into()))
    });
    assert_eq!(given_up.err().unwrap().to_string(), "no more");
    // A workspace that a capture would need cannot be had any more.
    let grows = session.capture::<Error>(keep(), || {
        let x = Tensor::new(&buffer, 0, DataType::F32, &[1, 2])?;
        let matrix = Tensor::transposed(&buffer, 32, DataType::F32, 2, 2)?;
        let out = Tensor::new(&buffer, 64, DataType::F32, &[1, 2])?;
        launcher.product(&x, &matrix, &out)
    });
    assert!(grows.err().unwrap().to_string().contains("while it is captured"));
    double(&mut launcher).unwrap();
    session.synchronise().unwrap();
    assert_eq!(floats(&buffer, 0, 2), [16.0, 32.0], "the stream is as before");
    drop((buffer, launcher, session));
    captured.launch().unwrap();
    drop(captured);
    // It was launched and nobody waited: the one thing that is the caller's to see to.
    assert!(turn.stub.violations().contains("not yet run uses it"));
    let _ = turn.stub.violations();
    Library::finalise().unwrap();
}

#[test]
fn what_goes_beyond_a_buffer_is_refused_before_anything_is_called() {
    let turn = Turn::begin();
    let session = turn.session();
    let buffer = Buffer::new(&session, 100).unwrap();
    turn.stub.fail_at(0, 0);
    let refused = [
        Buffer::new(&session, 0).err(),
        buffer.write(96, &[0; 5]).err(),
        buffer.read(usize::MAX, &mut [0; 2]).err(),
        buffer.copy_from(0, &buffer, 90, 11).err(),
        Tensor::new(&buffer, 4, DataType::F32, &[5, 5]).err(),
        Tensor::transposed(&buffer, 0, DataType::F16, 10, 6).err(),
    ];
    for error in refused {
        assert!(matches!(error, Some(Error::Misuse(_))), "{error:?}");
    }
    assert_eq!(turn.stub.calls(), Vec::<String>::new());
    drop((buffer, session));
    turn.end();
}

/// Everything that the wrappers call, once.
fn everything(stub: &Stub) -> Result<Vec<f32>, Error> {
    let library = Library::open(Some(&stub.path))?;
    let session = Session::open(&library, 1)?;
    session.memory()?;
    let (buffer, mask) = (Buffer::new(&session, 4096)?, Buffer::new(&session, 2048 * 2048)?);
    // 1 to the right of the diagonal.
    let mut triangle = vec![1; 2048 * 2048];
    triangle.chunks_exact_mut(2048).enumerate().for_each(|(i, row)| row[..=i].fill(0));
    mask.write(0, &triangle)?;
    let mut launcher = Launcher::new(&session);
    let result = everything_on(&session, &mut launcher, &buffer, &mask);
    // Buffers, the workspace among them, go when nothing uses them any more.
    let waited = session.synchronise();
    let result = result?;
    waited?;
    let mut read = vec![0; 64];
    buffer.read(result, &mut read)?;
    Ok(read.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn everything_on(
    session: &Arc<Session>,
    launcher: &mut Launcher,
    buffer: &Arc<Buffer>,
    mask: &Arc<Buffer>,
) -> Result<usize, Error> {
    let tensor = |at, shape: &[usize]| Tensor::new(buffer, at, DataType::F32, shape);
    let half = |at, shape: &[usize]| Tensor::new(buffer, at, DataType::F16, shape);
    let values: Vec<f32> = (0..16).map(|i| i as f32 / 8.0 - 1.0).collect();
    buffer.write(0, &bytes(&[values.clone(), values].concat()))?;
    buffer.write(128, &[1i32, 0].map(i32::to_ne_bytes).concat())?;
    let index = Tensor::new(buffer, 128, DataType::I32, &[2])?;
    let (x, y) = (tensor(0, &[2, 16])?, tensor(256, &[2, 16])?);
    launcher.select_rows(&x, &index, &y)?;
    launcher.scale(&y, 0.5)?;
    launcher.add(&x, &y)?;
    let (weight, roots) = (tensor(0, &[16])?, tensor(384, &[2, 1])?);
    launcher.rms_norm(&x, &weight, 1e-6, &y, &roots)?;
    let angles = tensor(0, &[1, 2, 1, 16])?;
    let (from, to) = (tensor(256, &[1, 2, 1, 16])?, tensor(512, &[1, 2, 1, 16])?);
    for rotation in [Rotation::Halves, Rotation::Neighbours] {
        launcher.rotate(rotation, &from, &angles, &angles, &to)?;
    }
    let rotated = tensor(512, &[2, 16])?;
    for activation in [Activation::Silu, Activation::GeluTanh] {
        launcher.activate(activation, &rotated, &y)?;
    }
    launcher.multiply(&y, &x)?;
    launcher.cast(&y, DataType::F16, &half(1024, &[2, 16])?)?;
    let shape = [1, 2, 1, 16];
    let (queries, out) = (half(1024, &shape)?, half(1152, &shape)?);
    let square = [Mask::SIZE, Mask::SIZE];
    let triangle = Tensor::new(mask, 0, DataType::Bool, &square)?;
    for mask in [Mask::None, Mask::Causal(&triangle), Mask::Band(&triangle, 0)] {
        let (keys, values) = (half(1024, &shape)?, half(1024, &shape)?);
        let (heads, kv_heads, scale) = (1, 1, 0.25);
        let (queries, out) = (&queries, &out);
        launcher.attention(Attention {
            queries,
            keys,
            values,
            out,
            heads,
            kv_heads,
            scale,
            mask,
        })?;
    }
    launcher.cast(&half(1152, &[2, 16])?, DataType::F32, &tensor(1280, &[2, 16])?)?;
    buffer.copy_from(2048, buffer, 1280, 64)?;
    session.synchronise()?;
    launcher.fix();
    let captured = session.capture::<Error>(vec![Arc::clone(buffer)], || {
        launcher.scale(&tensor(2048, &[16])?, 2.0)
    })?;
    captured.launch()?;
    // The graph goes when the function ends.
    session.synchronise()?;
    Ok(2048)
}

#[test]
fn every_call_may_fail() {
    let turn = Turn::begin();
    turn.stub.fail_at(0, 0);
    let expected = everything(&turn.stub).unwrap();
    Library::finalise().unwrap();
    let calls = turn.stub.calls();
    // By a band of one, each row attended to itself alone.
    assert!(expected.iter().any(|value| *value != 0.0) && expected.iter().all(|v| v.is_finite()));
    for (i, name) in calls.iter().enumerate() {
        turn.stub.new_process();
        turn.stub.fail_at(i as u64 + 1, 507_015);
        let result = everything(&turn.stub);
        let finalised = Library::finalise();
        match result.and_then(|values| finalised.map(|()| values)) {
            Ok(values) => assert_eq!(values, expected, "call {i}, {name}"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.starts_with(&format!("{name} ")), "call {i}, {name}: {error}");
            }
        }
        assert_eq!(&turn.stub.failed(), name);
        let wrong = (turn.stub.violations(), turn.stub.left());
        assert_eq!(wrong, (String::new(), String::new()), "call {i}, {name}");
    }
    println!("{} calls failed", calls.len());
    turn.stub.new_process();
}
