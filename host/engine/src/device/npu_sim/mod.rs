//! A simulated NPU: what a pass would cost on hardware that a profile describes.
//!
//! [`Profile`] is the hardware with the software that drives it, as numbers in a file;
//! [`CostModel`] puts them to a model's real graph. [`published`] has what was measured of
//! such hardware, to hold the predictions against. [`NpuSimDevice`] runs passes on the `cpu`
//! device and answers with the cost model's times. The cost model must not know weights,
//! policies or requests.

mod cost;
mod device;
mod profile;
pub mod published;

pub use cost::{Compiling, Cost, CostModel, Sequence};
pub use device::NpuSimDevice;
pub use profile::{
    Arithmetic, Graphs, Host, Launches, Memory, Mode, Profile, ProfileError, SHIPPED,
};
