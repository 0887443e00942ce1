// {{name}}: short prompts go to the smallest tier, all others to the largest; both
// draft by looking up repeated text.

/** What an operator may set with `--policy-config`. */
const DEFAULTS = { short_tokens: 200, draft_length: 8 };

/** The same for people and programs, as JSON Schema. */
const SCHEMA = {
  type: 'object',
  properties: {
    short_tokens: {
      description: 'Prompts with fewer tokens are short.', type: 'integer', minimum: 0,
    },
    draft_length: {
      description: 'Most tokens that a round drafts; 0: none.', type: 'integer', minimum: 0,
    },
  },
  additionalProperties: false,
};

let config = DEFAULTS;
let largest = 0;
let draft;

/** Lookup, as far as the host goes along: it would cut what is longer. */
function lookup(most, host) {
  const length = Math.min(most, host.maxDraftLength);
  return {
    drafter: length > 0 ? 'lookup' : 'none',
    length,
    ngramMin: Math.max(1, Math.min(2, host.maxNgram)),
    ngramMax: Math.max(1, Math.min(4, host.maxNgram)),
    draftTier: null,
    minConfidence: 0,
  };
}

export function describe() {
  return {
    name: '{{name}}',
    version: '0.1.0',
    summary: 'Short prompts go to the smallest tier.',
    configSchema: JSON.stringify(SCHEMA),
  };
}

// A thrown string is the refusal that the operator reads.
export function init(text, carried, host) {
  const given = text === '' ? {} : JSON.parse(text);
  if (typeof given !== 'object' || given === null) throw 'the configuration must be an object';
  for (const [field, value] of Object.entries(given)) {
    if (!(field in DEFAULTS)) {
      throw `unknown field \`${field}\`, expected one of ${Object.keys(DEFAULTS).join(', ')}`;
    }
    if (!Number.isInteger(value) || value < 0) {
      throw `\`${field}\` must be a whole number that is not negative`;
    }
  }
  config = { ...DEFAULTS, ...given };
  largest = host.tiers.length - 1;
  draft = lookup(config.draft_length, host);
}

export function plan(facts) {
  // One count a tier, by its own tokenizer.
  const tokens = facts.promptTokens[0];
  const short = tokens < config.short_tokens;
  return {
    tag: 'decided',
    val: {
      tier: short ? 0 : largest,
      draft,
      askEvery: 0,
      label: short ? 'short' : 'long',
      reason: `the prompt has ${tokens} tokens, short are those below ${config.short_tokens}`,
    },
  };
}
