//! A gear: its buffers, and its pieces as captured graphs.

use std::sync::Arc;

use aio_ascendcl::{Buffer, Captured, DataType, Error, Launcher, Session, Tensor};

use super::lower::{HEAD_ROWS, Id, Piece, Plan, Step};
use super::weights::Weights;
use crate::graph::Graph;

/// Bytes that inputs begin at a multiple of.
const ALIGNMENT: usize = 64;

pub(super) struct Compiled {
    pub graph: Graph,
    pub plan: Plan,
    /// As in the plan.
    pub pieces: Vec<Captured>,
    /// As in the plan.
    pub heads: Vec<Captured>,
    pub memory: Memory,
    workspace_bytes: usize,
}

/// A gear's buffers.
pub(super) struct Memory {
    /// All intermediate results.
    pub arena: Arc<Buffer>,
    /// Tokens and positions of the pass's rows, and which of them logits are wanted of.
    inputs: Arc<Buffer>,
    gear: usize,
}

impl Memory {
    pub(super) fn new(session: &Arc<Session>, plan: &Plan, gear: usize) -> Result<Self, Error> {
        let arena = Buffer::new(session, plan.arena_bytes)?;
        let rows = (gear * 4).next_multiple_of(ALIGNMENT);
        let inputs = Buffer::new(session, 2 * rows + HEAD_ROWS * 4)?;
        Ok(Self { arena, inputs, gear })
    }

    fn positions(&self) -> usize {
        (self.gear * 4).next_multiple_of(ALIGNMENT)
    }

    fn selection(&self) -> usize {
        2 * self.positions()
    }

    /// Puts in the pass's rows; those that pad it become token 0 at position 0.
    pub(super) fn write_rows(
        &self,
        rows: impl Iterator<Item = (u32, u32)> + Clone,
    ) -> Result<(), Error> {
        let padded = |numbers: &mut dyn Iterator<Item = u32>| {
            let padding = std::iter::repeat(0);
            numbers.chain(padding).take(self.gear).flat_map(u32::to_ne_bytes).collect::<Vec<u8>>()
        };
        let tokens = padded(&mut rows.clone().map(|(token, _)| token));
        let positions = padded(&mut rows.map(|(_, position)| position));
        self.inputs.write(0, &tokens)?;
        self.inputs.write(self.positions(), &positions)
    }

    /// Puts in the rows that logits are wanted of, [`HEAD_ROWS`] at most.
    pub(super) fn write_selection(&self, rows: &[u32]) -> Result<(), Error> {
        let mut selection = [0u32; HEAD_ROWS];
        selection[..rows.len()].copy_from_slice(rows);
        let bytes: Vec<u8> = selection.into_iter().flat_map(u32::to_ne_bytes).collect();
        self.inputs.write(self.selection(), &bytes)
    }
}

impl Compiled {
    /// Runs a gear's operators once, then captures them. What was launched has run, or
    /// was given up, when it returns.
    pub(super) fn new(
        session: &Arc<Session>,
        weights: &Weights,
        graph: Graph,
        plan: Plan,
    ) -> Result<Self, Error> {
        let memory = Memory::new(session, &plan, graph.gear)?;
        let mut launcher = Launcher::new(session);
        let captured = capture(session, weights, &plan, &memory, &mut launcher);
        if captured.is_err() {
            drain(session);
        }
        let (pieces, heads) = captured?;
        let workspace_bytes = launcher.workspace().map_or(0, |workspace| workspace.bytes());
        Ok(Self { graph, plan, pieces, heads, memory, workspace_bytes })
    }

    pub(super) fn bytes(&self) -> u64 {
        let memory = &self.memory;
        (memory.arena.bytes() + memory.inputs.bytes() + self.workspace_bytes) as u64
    }

    /// First byte of a buffer in the arena.
    pub(super) fn start(&self, id: Id) -> usize {
        self.plan.buffers[id].start
    }
}

/// Waits for what was launched, so that its buffers may go; there was an error already.
pub(super) fn drain(session: &Session) {
    if let Err(error) = session.synchronise() {
        tracing::warn!("{error}");
    }
}

type Pieces = (Vec<Captured>, Vec<Captured>);

fn capture(
    session: &Arc<Session>,
    weights: &Weights,
    plan: &Plan,
    memory: &Memory,
    launcher: &mut Launcher,
) -> Result<Pieces, Error> {
    memory.write_rows(std::iter::empty())?;
    memory.write_selection(&[])?;
    // The first run of an operator loads its kernel and tells its workspace, neither of
    // which a capture can hold.
    let all = || plan.pieces.iter().chain(plan.heads.iter().map(|head| &head.piece));
    for piece in all() {
        launch(piece, weights, plan, memory, launcher)?;
    }
    session.synchronise()?;
    launcher.fix();
    let mut captured = Vec::new();
    for piece in all() {
        let mut buffers = vec![Arc::clone(&memory.arena), Arc::clone(&memory.inputs)];
        buffers.extend(launcher.workspace().cloned());
        buffers.extend(weights.buffers());
        let launch = || launch(piece, weights, plan, memory, launcher);
        captured.push(session.capture::<Error>(buffers, launch)?);
    }
    let heads = captured.split_off(plan.pieces.len());
    Ok((captured, heads))
}

fn launch(
    piece: &Piece,
    weights: &Weights,
    plan: &Plan,
    memory: &Memory,
    launcher: &mut Launcher,
) -> Result<(), Error> {
    let scope = Scope { rows: piece.rows, weights, plan, memory };
    piece.steps.iter().try_for_each(|step| scope.launch(step, launcher))
}

/// What a step's names mean.
struct Scope<'a> {
    rows: usize,
    weights: &'a Weights,
    plan: &'a Plan,
    memory: &'a Memory,
}

impl Scope<'_> {
    fn launch(&self, step: &Step, launcher: &mut Launcher) -> Result<(), Error> {
        match step {
            Step::Lookup { table, out } => {
                let resident = self.weights.get(&table.name)?;
                let shape = [table.rows, table.columns];
                let x = Tensor::new(&resident.buffer, 0, resident.dtype, &shape)?;
                let index = self.input(0)?;
                launcher.select_rows(&x, &index, &self.matrix(*out, table.columns)?)
            }
            Step::LookupAngles { angles, cos, sin } => {
                let table = &self.weights.tables[*angles];
                let width = table.angles.width;
                let index = self.input(self.memory.positions())?;
                for (from, out) in [(&table.cos, *cos), (&table.sin, *sin)] {
                    let dtype = self.plan.buffers[out].dtype;
                    let shape = [from.bytes() / (width * dtype.bytes()), width];
                    let x = Tensor::new(from, 0, dtype, &shape)?;
                    launcher.select_rows(&x, &index, &self.matrix(out, width)?)?;
                }
                Ok(())
            }
            Step::Pick { x, of, columns, out } => {
                let x = self.tensor(*x, &[*of, *columns])?;
                let index = self.input(self.memory.selection())?;
                launcher.select_rows(&x, &index, &self.matrix(*out, *columns)?)
            }
            Step::Scale { x, columns, factor } => {
                launcher.scale(&self.matrix(*x, *columns)?, *factor)
            }
            Step::Cast { x, columns, out } => {
                let dtype = self.plan.buffers[*out].dtype;
                let (x, out) = (self.matrix(*x, *columns)?, self.matrix(*out, *columns)?);
                launcher.cast(&x, dtype, &out)
            }
            Step::Norm { x, weight, heads, epsilon, out, roots } => {
                let shape = [self.rows * heads, weight.columns];
                let (x, out) = (self.tensor(*x, &shape)?, self.tensor(*out, &shape)?);
                let roots = self.tensor(*roots, &[self.rows * heads, 1])?;
                launcher.rms_norm(
                    &x,
                    &self.vector(&weight.name, weight.columns)?,
                    *epsilon,
                    &out,
                    &roots,
                )
            }
            Step::Product { x, weight, out } => {
                let resident = self.weights.get(&weight.name)?;
                let (rows, columns) = (weight.rows, weight.columns);
                let matrix =
                    Tensor::transposed(&resident.buffer, 0, resident.dtype, rows, columns)?;
                let (x, out) = (self.matrix(*x, columns)?, self.matrix(*out, rows)?);
                launcher.product(&x, &matrix, &out)
            }
            Step::Bias { x, bias } => {
                let x = self.matrix(*x, bias.columns)?;
                launcher.add(&x, &self.vector(&bias.name, bias.columns)?)
            }
            Step::Rotate { x, heads, angles, cos, sin, out } => {
                let angles = self.plan.angles[*angles];
                let shape = [1, self.rows, *heads, angles.width];
                let (x, out) = (self.tensor(*x, &shape)?, self.tensor(*out, &shape)?);
                let shape = [1, self.rows, 1, angles.width];
                let (cos, sin) = (self.tensor(*cos, &shape)?, self.tensor(*sin, &shape)?);
                launcher.rotate(angles.rotation, &x, &cos, &sin, &out)
            }
            Step::Activate { activation, x, columns, out } => {
                let (x, out) = (self.matrix(*x, *columns)?, self.matrix(*out, *columns)?);
                launcher.activate(*activation, &x, &out)
            }
            Step::Multiply { x, y, columns } => {
                launcher.multiply(&self.matrix(*x, *columns)?, &self.matrix(*y, *columns)?)
            }
            Step::Add { x, y, columns } => {
                launcher.add(&self.matrix(*x, *columns)?, &self.matrix(*y, *columns)?)
            }
        }
    }

    /// An input: an integer for each row.
    fn input(&self, start: usize) -> Result<Tensor<'_>, Error> {
        Tensor::new(&self.memory.inputs, start, DataType::I32, &[self.rows])
    }

    fn vector(&self, name: &str, columns: usize) -> Result<Tensor<'_>, Error> {
        let resident = self.weights.get(name)?;
        Tensor::new(&resident.buffer, 0, resident.dtype, &[columns])
    }

    fn matrix(&self, id: Id, columns: usize) -> Result<Tensor<'_>, Error> {
        self.tensor(id, &[self.rows, columns])
    }

    fn tensor(&self, id: Id, shape: &[usize]) -> Result<Tensor<'_>, Error> {
        let place = self.plan.buffers[id];
        Tensor::new(&self.memory.arena, place.start, place.dtype, shape)
    }
}
