//! What the host measures: acceptance of its drafters, for policies, and memory,
//! for records.

use aio_core::{Acceptance, Drafter, MemoryRecord};
use aio_engine::device::Memory;

use crate::process::ProcessMemory;

/// Weight of a new round in the moving averages: about the last 20 rounds count.
const WEIGHT: f32 = 0.05;

/// Acceptance by tier and drafter, over all requests.
#[derive(Debug, Default)]
pub(crate) struct AcceptanceTable(Vec<Acceptance>);

impl AcceptanceTable {
    /// Notes a round in which `drafted` tokens were drafted and the first
    /// `accepted` of them accepted.
    pub(crate) fn note(&mut self, tier: u32, drafter: Drafter, drafted: u32, accepted: u32) {
        if drafted == 0 {
            return;
        }
        let known = self.0.iter().position(|a| a.tier == tier && a.drafter == drafter);
        let index = known.unwrap_or_else(|| {
            self.0.push(Acceptance { tier, drafter, by_position: Vec::new(), rounds: 0 });
            self.0.len() - 1
        });
        let entry = &mut self.0[index];
        entry.rounds += 1;
        // Positions after the first rejected one were not put to the test.
        for position in 0..drafted.min(accepted + 1) {
            let hit = if position < accepted { 1.0 } else { 0.0 };
            match entry.by_position.get_mut(position as usize) {
                Some(share) => *share += WEIGHT * (hit - *share),
                None => entry.by_position.push(hit),
            }
        }
    }

    /// The table as facts.
    pub(crate) fn facts(&self) -> &[Acceptance] {
        &self.0
    }
}

/// Memory by kind, given what each tier holds.
pub(crate) fn memory(tiers: impl Iterator<Item = Memory>) -> MemoryRecord {
    let peak_resident = ProcessMemory::own().map_or(0, |memory| memory.peak_bytes);
    let mut record = MemoryRecord { peak_resident, ..MemoryRecord::default() };
    for held in tiers {
        record.weights += held.weights;
        record.kv += held.kv;
        record.arena += held.arena;
    }
    let known = record.weights + record.kv + record.arena;
    record.other = record.peak_resident.saturating_sub(known);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positions_that_were_tested_count() {
        let mut table = AcceptanceTable::default();
        table.note(1, Drafter::Lookup, 4, 2);
        assert_eq!(table.facts()[0].by_position, [1.0, 1.0, 0.0]);
        table.note(1, Drafter::Lookup, 1, 0);
        assert_eq!(table.facts()[0].by_position, [1.0 - WEIGHT, 1.0, 0.0]);
        table.note(1, Drafter::Lookup, 0, 0);
        table.note(0, Drafter::Lookup, 2, 2);
        assert_eq!((table.facts()[0].rounds, table.facts().len()), (2, 2));
    }

    #[test]
    fn memory_is_summed_by_kind() {
        let held = |n: u32| Memory { weights: 1 << n, kv: 10, arena: 5 };
        let record = memory([held(4), held(5)].into_iter());
        assert_eq!((record.weights, record.kv, record.arena), (48, 20, 10));
        if cfg!(target_os = "linux") {
            assert!(record.peak_resident > 1 << 20, "{record:?}");
            assert_eq!(record.other, record.peak_resident - 78);
        }
    }
}
