"""{{name}}: short prompts go to the smallest tier, all others to the largest; both
draft by looking up repeated text.
"""

import json

import wit_world
from componentize_py_types import Err
from wit_world.imports.types import (
    Description,
    Draft,
    Drafter,
    HostInfo,
    Plan,
    RequestFacts,
    Verdict,
    Verdict_Decided,
)

# What an operator may set with `--policy-config`.
DEFAULTS = {"short_tokens": 200, "draft_length": 8}

# The same for people and programs, as JSON Schema.
SCHEMA = {
    "type": "object",
    "properties": {
        "short_tokens": {
            "description": "Prompts with fewer tokens are short.",
            "type": "integer",
            "minimum": 0,
        },
        "draft_length": {
            "description": "Most tokens that a round drafts; 0: none.",
            "type": "integer",
            "minimum": 0,
        },
    },
    "additionalProperties": False,
}

config = dict(DEFAULTS)
largest = 0
draft: Draft


def lookup(most: int, host: HostInfo) -> Draft:
    """Lookup, as far as the host goes along: it would cut what is longer."""
    length = min(most, host.max_draft_length)
    return Draft(
        Drafter.LOOKUP if length > 0 else Drafter.NONE,
        length,
        ngram_min=max(1, min(2, host.max_ngram)),
        ngram_max=max(1, min(4, host.max_ngram)),
        draft_tier=None,
        min_confidence=0.0,
    )


class WitWorld(wit_world.WitWorld):
    def describe(self) -> Description:
        summary = "Short prompts go to the smallest tier."
        return Description("{{name}}", "0.1.0", summary, json.dumps(SCHEMA))

    # An Err is the refusal that the operator reads.
    def init(self, text: str, carried: bytes | None, host: HostInfo) -> None:
        global config, largest, draft
        given = json.loads(text) if text else {}
        if not isinstance(given, dict):
            raise Err("the configuration must be an object")
        for field, value in given.items():
            if field not in DEFAULTS:
                raise Err(f"unknown field `{field}`, expected one of {', '.join(DEFAULTS)}")
            if type(value) is not int or value < 0:
                raise Err(f"`{field}` must be a whole number that is not negative")
        config = DEFAULTS | given
        largest = len(host.tiers) - 1
        draft = lookup(config["draft_length"], host)

    def plan(self, facts: RequestFacts) -> Verdict:
        # One count a tier, by its own tokenizer.
        tokens = facts.prompt_tokens[0]
        below = config["short_tokens"]
        tier, label = (0, "short") if tokens < below else (largest, "long")
        reason = f"the prompt has {tokens} tokens, short are those below {below}"
        return Verdict_Decided(Plan(tier, draft, ask_every=0, label=label, reason=reason))
