// Keeps answers within a budget of milliseconds per token: the largest tier that
// is fast enough answers, with drafts no longer than the budget allows.
import { log } from 'aio:policy/host@0.1.0';

/** How much one outcome weighs in a tier's estimate. */
const WEIGHT = 0.3;
const DEFAULTS = { budgetMilliseconds: 50, draftLength: 8 };

let config = DEFAULTS;
let tiers = [];
/** By tier: milliseconds per committed token; undefined while nothing is known. */
let measured = [];

export function describe() {
  const number = (minimum) => ({ type: 'number', minimum });
  return {
    name: 'latency-guard',
    version: '0.1.0',
    summary: 'Keeps answers within a budget of milliseconds per token.',
    configSchema: JSON.stringify({
      type: 'object',
      properties: { budgetMilliseconds: number(0), draftLength: number(0) },
      additionalProperties: false,
    }),
  };
}

// A thrown string is the refusal that the operator reads.
export function init(text, carried, host) {
  const given = text === '' ? {} : JSON.parse(text);
  for (const [field, value] of Object.entries(given)) {
    if (!(field in DEFAULTS)) {
      throw `unknown field \`${field}\`, expected one of ${Object.keys(DEFAULTS).join(', ')}`;
    }
    if (typeof value !== 'number' || !(value >= 0)) {
      throw `\`${field}\` must be a number that is not negative`;
    }
  }
  config = { ...DEFAULTS, ...given };
  tiers = host.tiers;
  measured = tiers.map(() => undefined);
}

// Plain loops: a component's JavaScript is interpreted, and iterators and
// closures cost several times as much.

/** Milliseconds of a tier's narrowest pass; undefined where all are `null`, not measured. */
function narrowest(gears) {
  let rows = Infinity;
  let milliseconds;
  for (let i = 0; i < gears.length; i++) {
    const gear = gears[i];
    if (gear.rows < rows && gear.milliseconds !== null) {
      rows = gear.rows;
      milliseconds = gear.milliseconds;
    }
  }
  return milliseconds;
}

/** Rows of a tier's widest pass within the budget. */
function rowsWithin(budget, gears) {
  let rows = 1;
  for (let i = 0; i < gears.length; i++) {
    const gear = gears[i];
    if (gear.rows > rows && gear.milliseconds !== null && gear.milliseconds <= budget) rows = gear.rows;
  }
  return rows;
}

export function plan(facts) {
  const budget = config.budgetMilliseconds;
  let tier = tiers.length - 1;
  let solo = narrowest(facts.tiers[tier].gears);
  while (tier > 0 && (measured[tier] ?? solo) > budget) {
    tier -= 1;
    solo = narrowest(facts.tiers[tier].gears);
  }

  // A round whose drafts all fail commits one token, and should be in time even so:
  // its pass must be one that fits the budget. Beside the drafts it has one row.
  let length = Math.floor(config.draftLength);
  if (solo !== undefined) length = Math.min(length, rowsWithin(budget, facts.tiers[tier].gears) - 1);

  const known = measured[tier] ?? solo;
  const cost = known === undefined ? 'no time known' : `${known.toFixed(1)} ms a token`;
  return {
    tag: 'decided',
    val: {
      tier,
      draft: {
        drafter: length > 0 ? 'lookup' : 'none',
        length,
        ngramMin: 2,
        ngramMax: 4,
        draftTier: null,
        minConfidence: 0,
      },
      askEvery: 0,
      label: tier === tiers.length - 1 ? 'in-budget' : 'moved-down',
      reason: `${tiers[tier].name}: ${cost}, budget ${budget} ms, drafts up to ${length}`,
    },
  };
}

export function finished(outcomes) {
  for (const { tier, committed, decodeMilliseconds, finish } of outcomes) {
    if (committed === 0 || finish === 'error' || finish === 'cancelled') continue;
    const now = decodeMilliseconds / committed;
    const before = measured[tier];
    measured[tier] = before === undefined ? now : before + WEIGHT * (now - before);
    if (now > config.budgetMilliseconds) {
      log('info', `${tiers[tier].name} took ${now.toFixed(1)} ms a token`);
    }
  }
}
