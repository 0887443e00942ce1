//! `aio graph`: what a model's compiled forward pass does, step by step.

use std::process::ExitCode;

use aio_bench::Table;
use aio_engine::Tier;
use aio_engine::device::{DeviceOptions, ListedStep, Listing};
use anyhow::bail;
use clap::Args;

use super::sources::tier_sources;

/// Print a model's compiled graph: operations, shapes, bytes, arena
///
/// A graph is compiled for a gear, the most rows of tokens that one pass holds.
/// Each line is one step: what it does, the shape of its result, the weights that
/// it reads, and the places in the arena (the memory for intermediate results, one
/// for all steps) that it uses.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio graph smollm2-135m --gear 8
  aio graph qwen2.5-coder-1.5b --device candle
  aio graph model.gguf --json | jq '[.steps[].weight_bytes] | add'")]
pub struct GraphArgs {
    /// The model: a catalogue name or a GGUF file
    #[arg(value_name = "MODEL")]
    tier: String,
    /// Rows that a pass must hold; the smallest gear that does is shown
    #[arg(long, value_name = "ROWS", default_value_t = 1)]
    gear: usize,
    /// The device that compiles it
    #[arg(long, default_value = aio_engine::device::DEFAULT)]
    device: String,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &GraphArgs) -> anyhow::Result<ExitCode> {
    let sources = tier_sources(std::slice::from_ref(&args.tier))?;
    let [source] = sources.as_slice() else {
        bail!("{} is a set of models; name one of them", args.tier);
    };
    let device = super::open_device(&args.device, DeviceOptions::default())?;
    let mut tier = Tier::open(&source.name, &source.path, &*device, None)?;
    let listing = tier.listing(args.gear)?;
    let text = if args.json {
        serde_json::to_string(&listing)? + "\n"
    } else {
        table(tier.name(), &listing)
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn table(name: &str, listing: &Listing) -> String {
    let steps: Table = listing.steps.iter().enumerate().map(line).collect();
    // The steps' numbers and sizes.
    let steps = steps.right(|column| matches!(column, 0 | 3));
    format!(
        "{name} on {}: gear {}, {} steps, {} of weights a pass, {} of arena\n\n{}",
        listing.device,
        listing.gear,
        listing.steps.len(),
        bytes(listing.weight_bytes),
        bytes(listing.arena_bytes),
        steps.text()
    )
}

fn line((i, step): (usize, &ListedStep)) -> [String; 5] {
    let places = step.arena.iter().map(|place| format!("{}+{}", place.start, place.bytes));
    let mut last: Vec<String> = step.weights.clone();
    last.extend(places);
    let size = if step.weight_bytes > 0 { bytes(step.weight_bytes) } else { String::new() };
    [(i + 1).to_string(), step.operation.clone(), step.shape.clone(), size, last.join(" ")]
}

fn bytes(n: u64) -> String {
    match n {
        0..10_000 => format!("{n} B"),
        10_000..10_000_000 => format!("{:.0} kB", n as f64 / 1e3),
        _ => format!("{:.1} MB", n as f64 / 1e6),
    }
}
