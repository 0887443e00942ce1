//! Huawei's Ascend chips, through AscendCL (`aio_ascendcl`), which is opened when a model
//! is to be loaded and never linked. **It has never run on a chip**: its tests run against
//! a library that computes on the CPU and keeps books.
//!
//! Weights are unpacked to 16-bit floats at load, tensor by tensor; what is added up over
//! layers (the residual stream) and norms are f32. Blocks are f16, and bf16 where an
//! architecture normalises what blocks give (Gemma 3): there nothing keeps it within f16's
//! range. The embedding table and the output projection are f16 always, so logits are
//! rounded to 11 bits.
//!
//! A gear is compiled by lowering its graph (`lower`) to the vendor's operators at static
//! shapes, running them once, and capturing them (`aclmdlRICapture...`). A pass copies
//! tokens and positions into the gear's input buffers and launches what was captured; rows
//! that pad it are token 0 at position 0, whose results nobody reads.
//!
//! **Attention is not captured.** Its shape is a sequence's length, which grows with every
//! token, and the fused operator takes lengths from the host, so that a capture would hold
//! those of the moment. A gear is therefore captured in pieces, from one attention to the
//! next, and between them each sequence's keys and values are copied to its cache and
//! attention is launched over exactly its own tokens: no padding, no mask that depends on
//! neighbours, any length. Padded rows never reach a cache. vllm-ascend's piecewise graphs
//! are built alike, and count the price: a captured piece takes one of about 1,800 streams,
//! so ten gears of a model of 30 layers take some 320. The head (the last norm and the
//! output projection) is captured by itself for 1 and for up to 64 rows, because most passes
//! of a prompt want the logits of one row or none.
//!
//! What a chip would have to tell: whether the operators take these shapes and types in
//! the CANN release at hand, what a pass costs (with many sequences the launches of
//! attention, three a layer and sequence, may be most of it), and whether a capture holds
//! all that these operators launch. **Law 1 is not promised here**: the vendor's products
//! choose their tiling by the number of rows, and nothing says that a row gets the same
//! bits beside others.

mod compiled;
mod kv;
mod lower;
mod model;
mod weights;

use std::path::Path;
use std::sync::Arc;

use aio_ascendcl::{Error, Library};

use super::{Device, DeviceError, ResidentModel};
use crate::gguf::GgufFile;
use crate::model::ModelDescription;

/// The name that errors carry.
const NAME: &str = "ascend";

/// One Ascend chip.
pub struct AscendDevice {
    library: Arc<Library>,
    chip: i32,
    name: String,
}

impl AscendDevice {
    /// The chip of that number. `library` names the vendor's library or its folder, else
    /// the environment does (see [`Library::open`]).
    ///
    /// # Errors
    /// One sentence when the library or the chip is not there.
    pub fn open(library: Option<&Path>, chip: i32) -> Result<Self, String> {
        let library = Library::open(library).map_err(|error| error.to_string())?;
        let there = library.chips().map_err(|error| error.to_string())?;
        if u32::try_from(chip).map_or(true, |chip| chip >= there) {
            return Err(format!(
                "there is no Ascend chip {chip}: the driver knows {there}, counted from 0"
            ));
        }
        let name = if chip == 0 { NAME.to_owned() } else { format!("{NAME}:{chip}") };
        Ok(Self { library, chip, name })
    }

    /// The chip's own name, for example "Ascend910B2".
    pub fn chip_name(&self) -> String {
        self.library.chip_name()
    }

    /// Closes the vendor's library, if it is open and no device is left: for the end of
    /// the process.
    ///
    /// # Errors
    /// One sentence when a device is left or the library fails.
    pub fn finish() -> Result<(), String> {
        Library::finalise().map_err(|error| error.to_string())
    }
}

impl Device for AscendDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn load(
        &self,
        gguf: Arc<GgufFile>,
        model: &ModelDescription,
    ) -> Result<Box<dyn ResidentModel>, DeviceError> {
        Ok(Box::new(model::AscendModel::load(&self.library, self.chip, &gguf, model)?))
    }
}

/// A library's error, with what the device was at.
fn failed(doing: &str) -> impl Fn(Error) -> DeviceError + '_ {
    move |error| {
        if error.is_memory() {
            return DeviceError::Memory(format!("the chip has not enough memory: {error}"));
        }
        DeviceError::Failed { device: NAME.into(), doing: doing.into(), reason: error.to_string() }
    }
}
