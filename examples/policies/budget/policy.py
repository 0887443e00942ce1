"""Each client has a budget of tokens on the large tier; when it is used up, the
small tier answers.

Who the client is comes from the request's metadata, which the operator grants.
Without it all requests share one budget.
"""

import json

import wit_world
from componentize_py_types import Err
from wit_world.imports import metadata
from wit_world.imports.types import (
    Description,
    Draft,
    Drafter,
    HostInfo,
    Outcome,
    Plan,
    RequestFacts,
    Verdict,
    Verdict_Decided,
)

LOOKUP = Draft(Drafter.LOOKUP, length=8, ngram_min=2, ngram_max=4, draft_tier=None, min_confidence=0.0)
DEFAULTS = {"tokens": 10_000}
# Who a request counts for that names no client.
ANONYMOUS = "anonymous"

tokens = DEFAULTS["tokens"]
largest = 0
# Tokens that the large tier has committed, by client.
used: dict[str, int] = {}
# Who asked, by request, until it is finished.
asked: dict[int, str] = {}


class WitWorld(wit_world.WitWorld):
    def describe(self) -> Description:
        schema = {
            "type": "object",
            "properties": {"tokens": {"type": "integer", "minimum": 0}},
            "additionalProperties": False,
        }
        return Description(
            "budget",
            "0.1.0",
            "The large tier until a client's budget of tokens is used, then the small one.",
            json.dumps(schema),
        )

    def init(self, config: str, carried: bytes | None, host: HostInfo) -> None:
        global tokens, largest, used
        given = json.loads(config) if config else {}
        for field in given:
            if field not in DEFAULTS:
                raise Err(f"unknown field `{field}`, expected `tokens`")
        tokens = given.get("tokens", DEFAULTS["tokens"])
        if type(tokens) is not int or tokens < 0:
            raise Err("`tokens` must be a whole number that is not negative")
        largest = len(host.tiers) - 1
        used = json.loads(carried) if carried else {}

    def plan(self, facts: RequestFacts) -> Verdict:
        client = metadata.get("client") or ANONYMOUS
        asked[facts.request] = client
        spent = used.get(client, 0)
        tier = largest if spent < tokens else 0
        reason = f"{client} has used {spent} of {tokens} tokens"
        label = "within-budget" if tier == largest else "over-budget"
        return Verdict_Decided(Plan(tier, LOOKUP, ask_every=0, label=label, reason=reason))

    def finished(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            client = asked.pop(outcome.request, ANONYMOUS)
            if outcome.tier == largest:
                used[client] = used.get(client, 0) + outcome.committed

    def snapshot(self) -> bytes:
        return json.dumps(used).encode()
