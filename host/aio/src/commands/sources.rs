//! From names on the command line to model files, fetched where they are absent.

use aio_models::{Cache, Catalogue, Target};
use aio_serve::TierSource;
use anyhow::bail;

use crate::progress::TerminalProgress;

/// The tier set that is used where nothing is named.
const DEFAULT_TIERS: &str = "default";

/// The files of the models that were named, or of the default set.
///
/// # Errors
/// When a name is unknown or given twice, or a model cannot be fetched.
pub fn tier_sources(named: &[String]) -> anyhow::Result<Vec<TierSource>> {
    let catalogue = Catalogue::embedded();
    let mut names: Vec<String> = Vec::new();
    let default = [DEFAULT_TIERS.to_owned()];
    for name in if named.is_empty() { &default[..] } else { named } {
        match catalogue.tier_sets().get(name) {
            Some(set) => names.extend(set.iter().cloned()),
            None => names.push(name.clone()),
        }
    }
    // All names are checked before anything is fetched.
    let targets = names.iter().map(|n| catalogue.resolve(n)).collect::<Result<Vec<_>, _>>()?;
    let mut sources: Vec<TierSource> = Vec::new();
    for target in targets {
        let source = match target {
            Target::Model(model) => TierSource {
                name: model.name.clone(),
                path: Cache::from_env()?.ensure(model, &mut TerminalProgress::default())?,
            },
            Target::File(path) => {
                let stem = path.file_stem().unwrap_or(path.as_os_str());
                TierSource { name: stem.to_string_lossy().into_owned(), path }
            }
        };
        if sources.iter().any(|s| s.name == source.name) {
            bail!("tier {} is named twice; name each model once in --tiers", source.name);
        }
        sources.push(source);
    }
    Ok(sources)
}
