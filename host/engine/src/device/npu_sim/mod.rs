//! A simulated NPU: what a pass would cost on hardware that a profile describes.
//!
//! [`Profile`] is the hardware with the software that drives it, as numbers in a file;
//! [`CostModel`] puts them to a model's real graph. [`published`] has what was measured of
//! such hardware, to hold the predictions against; a profile that was measured on a machine
//! has its [`Calibration`] with it. A [`Simulation`] says whose costs the loaded models are
//! given, and [`NpuSimDevice`] runs passes on another device and answers with the cost model's
//! times. The cost model must not know weights,
//! policies or requests.

mod calibration;
mod cost;
mod device;
mod pricing;
mod profile;
pub mod published;
mod simulation;
mod stored;

pub use calibration::{Calibration, MeasuredPass};
pub use cost::{Compiling, Cost, CostModel, Sequence};
pub use device::NpuSimDevice;
pub use pricing::Pricing;
pub use profile::{
    Arithmetic, Graphs, Host, Launches, Memory, Mode, Profile, ProfileError, SHIPPED, Unpacking,
};
pub use simulation::{CostedModel, Simulation, SimulationError};
pub use stored::StoredWeights;
