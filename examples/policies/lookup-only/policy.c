// Drafts by lookup alone, and as long as the match at hand is good for: where
// many tokens repeat what stood before, more are likely to follow.
#include <stdlib.h>

#include "generated/lookup_only.h"

enum {
  NGRAM_MIN = 2,
  NGRAM_MAX = 8,
  // Tokens drafted for each token that matches.
  PER_MATCH = 2,
};

// A string in static memory, which `memory.c` never frees.
#define TEXT(literal) ((lookup_only_string_t){(uint8_t *)(literal), sizeof(literal) - 1})

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static aio_policy_types_draft_t lookup(uint32_t length) {
  return (aio_policy_types_draft_t){
      .drafter = AIO_POLICY_TYPES_DRAFTER_LOOKUP,
      .length = length,
      .ngram_min = NGRAM_MIN,
      .ngram_max = NGRAM_MAX,
  };
}

void exports_lookup_only_plan(lookup_only_request_facts_t *facts, lookup_only_verdict_t *verdict) {
  // One length a tier, small to large: the last is the largest tier's.
  uint32_t tiers = (uint32_t)facts->prompt_tokens.len;
  *verdict = (lookup_only_verdict_t){
      .tag = AIO_POLICY_TYPES_VERDICT_DECIDED,
      .val.decided = {
          .tier = tiers > 0 ? tiers - 1 : 0,
          .draft = lookup(NGRAM_MIN * PER_MATCH),
          .ask_every = 1,
          .label = TEXT("lookup"),
          .reason = TEXT("lookup alone, as long as the match is good for"),
      },
  };
}

void exports_lookup_only_rounds(lookup_only_round_context_t *context,
                                lookup_only_list_round_facts_t *requests,
                                lookup_only_list_round_decision_t *decisions) {
  (void)context;
  lookup_only_round_decision_t *out = realloc(NULL, requests->len * sizeof *out);
  size_t count = 0;
  for (size_t i = 0; i < requests->len; i++) {
    const lookup_only_round_facts_t *request = &requests->ptr[i];
    // Without a match nothing is drafted whatever the length: leave it be.
    if (request->lookup_match < NGRAM_MIN) continue;
    uint32_t length = least(request->lookup_match, NGRAM_MAX) * PER_MATCH;
    // The round itself commits one token beside the drafts.
    if (request->remaining > 0) length = least(length, request->remaining - 1);
    if (request->draft.length == length) continue;
    out[count++] = (lookup_only_round_decision_t){
        .request = request->request,
        .action = {.tag = AIO_POLICY_TYPES_ACTION_DRAFT, .val.draft = lookup(length)},
        .reason = TEXT("as long as the match is good for"),
    };
  }
  *decisions = (lookup_only_list_round_decision_t){out, count};
}
