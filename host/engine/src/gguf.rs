//! Reading GGUF files, memory-mapped. The header goes through candle's reader,
//! which bounds every length by the file's size; this module adds the checks on
//! tensor extents that make a truncated file one clear sentence at load instead
//! of a fault in the middle of a pass.
//!
//! It must not know what the tensors or keys mean; `model` does.

use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};
use memmap2::Mmap;

/// Why a file could not be opened as GGUF, or lacks something a model needs.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file could not be opened or mapped.
    #[error("cannot open {path}: {source}; check the path and its permissions")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The header could not be read.
    #[error(
        "{path} is not a readable GGUF file ({reason}); fetch it again, for example with `aio models pull`"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Tensor data ends after the file does.
    #[error(
        "{path} is truncated: tensor {tensor} needs {needed} bytes but the file has {actual}; fetch it again, for example with `aio models pull`"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The first tensor found to be cut off.
        tensor: String,
        /// File size the tensor needs.
        needed: u64,
        /// File size there is.
        actual: u64,
    },
    /// A metadata key is missing or of the wrong type.
    #[error(
        "{path} lacks the metadata key {key}, or has it in another form than this program expects; use a model of a supported architecture"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A tensor is missing or has the wrong shape.
    #[error("{path}: tensor {tensor} {problem}; use a model of a supported architecture")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// "is missing", or what is wrong with it.
        problem: String,
    },
}

/// One tensor's bytes as they lie in the file.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Storage format.
    pub dtype: GgmlDType,
    /// Rows; 1 for a vector.
    pub rows: usize,
    /// Weights a row; the contiguous dimension.
    pub columns: usize,
    /// The blocks, rows one after the other.
    pub bytes: &'a [u8],
}

/// An open, memory-mapped GGUF file whose tensors all lie within it.
pub struct GgufFile {
    path: PathBuf,
    map: Mmap,
    content: Content,
}

impl GgufFile {
    /// Opens and maps `path`, reads the header and checks every tensor's extent.
    ///
    /// # Errors
    /// When the file cannot be opened, is no GGUF file, or is truncated.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let open = |source| GgufError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open)?;
        // SAFETY: mapped read-only, for this struct alone. A process that truncated or rewrote
        // the file meanwhile would move its bytes; those in the cache are only ever replaced
        // by an atomic rename, which leaves mapped ones alone.
        let map = unsafe { Mmap::map(&file) }.map_err(open)?;
        let content = Content::read(&mut Cursor::new(&map[..])).map_err(|error| {
            GgufError::Malformed { path: path.to_owned(), reason: first_line(&error.to_string()) }
        })?;
        let gguf = Self { path: path.to_owned(), map, content };
        gguf.check_extents()?;
        Ok(gguf)
    }

    fn check_extents(&self) -> Result<(), GgufError> {
        let actual = self.map.len() as u64;
        let mut last: Option<(u64, &str)> = None;
        for (name, info) in &self.content.tensor_infos {
            let block = info.ggml_dtype.block_size();
            let columns = info.shape.dims().last().copied().unwrap_or(1);
            let elements = info.shape.dims().iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            let bytes = elements
                .and_then(|n| (n / block).checked_mul(info.ggml_dtype.type_size()))
                .and_then(|n| u64::try_from(n).ok());
            let end = bytes
                .and_then(|n| n.checked_add(info.offset))
                .and_then(|n| n.checked_add(self.content.tensor_data_offset));
            let Some(end) = end.filter(|_| columns.is_multiple_of(block)) else {
                return Err(self.tensor_error(name, "has an impossible shape"));
            };
            if last.is_none_or(|(furthest, _)| end > furthest) {
                last = Some((end, name));
            }
        }
        match last {
            Some((needed, tensor)) if needed > actual => Err(GgufError::Truncated {
                path: self.path.clone(),
                tensor: tensor.to_owned(),
                needed,
                actual,
            }),
            _ => Ok(()),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// All metadata, for the tokenizer and the chat template.
    pub fn metadata(&self) -> &std::collections::HashMap<String, Value> {
        &self.content.metadata
    }

    /// Whether a tensor is there.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// Names of all tensors, in no particular order.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.content.tensor_infos.keys().map(String::as_str)
    }

    /// A tensor's bytes and shape.
    ///
    /// # Errors
    /// When there is no such tensor or it has more than two dimensions.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, GgufError> {
        let info = self
            .content
            .tensor_infos
            .get(name)
            .ok_or_else(|| self.tensor_error(name, "is missing"))?;
        let (rows, columns) = match *info.shape.dims() {
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            _ => return Err(self.tensor_error(name, "has more than two dimensions")),
        };
        let length = rows * columns / info.ggml_dtype.block_size() * info.ggml_dtype.type_size();
        let start = (self.content.tensor_data_offset + info.offset) as usize;
        Ok(TensorView {
            dtype: info.ggml_dtype,
            rows,
            columns,
            // In bounds: `check_extents` compared every tensor's end with the map.
            bytes: &self.map[start..start + length],
        })
    }

    /// Tells the system that a tensor's bytes are not needed for now, so that they do
    /// not count as this process's memory. They are read from the file again when
    /// somebody looks.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn release(&self, name: &str) -> Result<(), GgufError> {
        #[cfg(unix)]
        {
            const PAGE: usize = 4096;
            let bytes = self.tensor(name)?.bytes;
            let start = bytes.as_ptr() as usize - self.map.as_ptr() as usize;
            let (first, end) = (start.next_multiple_of(PAGE), (start + bytes.len()) / PAGE * PAGE);
            if first < end {
                // SAFETY: the mapping is of a file and read-only: what is dropped is read
                // again from the file, the same bytes. It is advice: failing loses nothing.
                let _ = unsafe {
                    self.map.unchecked_advise_range(
                        memmap2::UncheckedAdvice::DontNeed,
                        first,
                        end - first,
                    )
                };
            }
        }
        Ok(())
    }

    /// A tensor that must have this shape (`rows` = 1 for a vector).
    ///
    /// # Errors
    /// When it is missing or shaped otherwise.
    pub fn tensor_shaped(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<TensorView<'_>, GgufError> {
        let view = self.tensor(name)?;
        if (view.rows, view.columns) != (rows, columns) {
            let problem = format!(
                "has the shape {} x {} where {rows} x {columns} was expected",
                view.rows, view.columns
            );
            return Err(self.tensor_error(name, &problem));
        }
        Ok(view)
    }

    /// A string value.
    ///
    /// # Errors
    /// When the key is missing or no string.
    pub fn string(&self, key: &str) -> Result<&str, GgufError> {
        match self.content.metadata.get(key) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(self.key_error(key)),
        }
    }

    /// A non-negative integer value of any width.
    ///
    /// # Errors
    /// When the key is missing or its value is no such integer.
    pub fn integer(&self, key: &str) -> Result<usize, GgufError> {
        let value = match self.content.metadata.get(key) {
            Some(Value::U8(v)) => Some(usize::from(*v)),
            Some(Value::U16(v)) => Some(usize::from(*v)),
            Some(Value::U32(v)) => usize::try_from(*v).ok(),
            Some(Value::U64(v)) => usize::try_from(*v).ok(),
            Some(Value::I32(v)) => usize::try_from(*v).ok(),
            Some(Value::I64(v)) => usize::try_from(*v).ok(),
            _ => None,
        };
        value.ok_or_else(|| self.key_error(key))
    }

    /// A floating-point value.
    ///
    /// # Errors
    /// When the key is missing, no float, or not finite.
    pub fn float(&self, key: &str) -> Result<f32, GgufError> {
        let value = match self.content.metadata.get(key) {
            Some(Value::F32(v)) => Some(*v),
            Some(Value::F64(v)) => Some(*v as f32),
            _ => None,
        };
        value.filter(|v| v.is_finite()).ok_or_else(|| self.key_error(key))
    }

    /// Whether the metadata has this key.
    pub fn has_key(&self, key: &str) -> bool {
        self.content.metadata.contains_key(key)
    }

    pub(crate) fn key_error(&self, key: &str) -> GgufError {
        GgufError::Key { path: self.path.clone(), key: key.to_owned() }
    }

    pub(crate) fn tensor_error(&self, tensor: &str, problem: &str) -> GgufError {
        GgufError::Tensor {
            path: self.path.clone(),
            tensor: tensor.to_owned(),
            problem: problem.to_owned(),
        }
    }
}

impl std::fmt::Debug for GgufFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GgufFile").field("path", &self.path).finish_non_exhaustive()
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}
