//! The catalogue of models, the cache that their files live in, and how a file
//! gets there: fetched from its sources in order, resumed after an
//! interruption, checked against its length and SHA-256, and put in place
//! whole or not at all.
//!
//! A model here is a name, a file and a checksum. This crate must not know
//! what is inside a GGUF file, how a model runs, or how progress is drawn.
//!
//! ```no_run
//! use aio_models::{Cache, Catalogue, Silent};
//!
//! # fn main() -> Result<(), aio_models::Error> {
//! let catalogue = Catalogue::embedded();
//! let model = catalogue.model("smollm2-135m")?;
//! let path = Cache::from_env()?.ensure(model, &mut Silent)?;
//! # Ok(())
//! # }
//! ```

mod cache;
mod catalogue;
mod checksum;
mod error;
mod partial;
mod progress;
mod source;
mod units;

pub use cache::{Cache, Pulled};
pub use catalogue::{Catalogue, Model, ModelFile, Package, Source, Target};
pub use error::{Error, SourceError, SourceFailure, SourceFailures};
pub use progress::{Progress, Silent};
pub use units::human_bytes;
