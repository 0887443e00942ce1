//! The README's policy: short prompts go to the smallest tier, all others to the
//! largest; both draft by looking up repeated text.

use aio_policy_sdk::prelude::*;

struct ShortIsSmall;

impl Policy for ShortIsSmall {
    type Config = NoConfig;
    fn describe() -> Description {
        Description::new("short-is-small", "0.1.0", "Short prompts go to the smallest tier.")
    }
    fn new(_: NoConfig, _: Start<'_>) -> Result<Self, String> {
        Ok(Self)
    }
    fn plan(&mut self, facts: &RequestFacts, host: &HostInfo) -> Verdict {
        let tier = if facts.prompt_tokens[0] < 200 { 0 } else { host.largest_tier() };
        Plan::on(tier).draft(Draft::lookup(8)).label("by-length").into()
    }
}

export_policy!(ShortIsSmall);
