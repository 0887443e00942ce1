// {{name}}: short prompts go to the smallest tier, all others to the largest; both
// draft by looking up repeated text.
#include <string.h>

// Made of wit/ by `aio policy build`; it stands in build/bindings.
#include "hooks.h"

// A string in static memory, which `memory.c` never takes back.
#define TEXT(literal) ((hooks_string_t){(uint8_t *)(literal), sizeof(literal) - 1})

// What an operator may set with `--policy-config`.
static uint32_t short_tokens = 200;
static uint32_t draft_length = 8;

// The same for people and programs, as JSON Schema.
static const char SCHEMA[] =
    "{\"type\": \"object\", \"properties\": {"
    "\"short_tokens\": {\"description\": \"Prompts with fewer tokens are short.\","
    " \"type\": \"integer\", \"minimum\": 0},"
    "\"draft_length\": {\"description\": \"Most tokens that a round drafts; 0: none.\","
    " \"type\": \"integer\", \"minimum\": 0}}, \"additionalProperties\": false}";

static uint32_t largest = 0;
static uint32_t max_draft_length = 0;
static uint32_t max_ngram = 1;

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

void exports_hooks_describe(hooks_description_t *description) {
  description->name = TEXT("{{name}}");
  description->version = TEXT("0.1.0");
  description->summary = TEXT("Short prompts go to the smallest tier.");
  description->config_schema = TEXT(SCHEMA);
}

// A configuration: JSON, but no more of it than an object of whole numbers.
typedef struct {
  const uint8_t *at;
  const uint8_t *end;
} reader_t;

static void skip_space(reader_t *reader) {
  while (reader->at < reader->end &&
         (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\r' || *reader->at == '\t')) {
    reader->at++;
  }
}

static bool take(reader_t *reader, uint8_t expected) {
  skip_space(reader);
  if (reader->at == reader->end || *reader->at != expected) return false;
  reader->at++;
  return true;
}

// A field's name up to its closing quote; where it is unknown, NULL.
static uint32_t *field(reader_t *reader) {
  static const struct {
    const char *name;
    uint32_t *value;
  } FIELDS[] = {{"short_tokens\"", &short_tokens}, {"draft_length\"", &draft_length}};
  for (size_t i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++) {
    size_t length = strlen(FIELDS[i].name);
    size_t same = 0;
    if ((size_t)(reader->end - reader->at) < length) continue;
    while (same < length && reader->at[same] == (uint8_t)FIELDS[i].name[same]) same++;
    if (same == length) {
      reader->at += length;
      return FIELDS[i].value;
    }
  }
  return NULL;
}

static bool number(reader_t *reader, uint32_t *value) {
  uint64_t sum = 0;
  const uint8_t *start = reader->at;
  while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
    sum = sum * 10 + (*reader->at++ - '0');
    if (sum > UINT32_MAX) return false;
  }
  *value = (uint32_t)sum;
  return reader->at > start;
}

// False is the refusal, with what the operator reads.
bool exports_hooks_init(hooks_string_t *config, hooks_list_u8_t *carried, hooks_host_info_t *host,
                        hooks_string_t *refusal) {
  (void)carried;
  largest = (uint32_t)host->tiers.len - 1;
  max_draft_length = host->max_draft_length;
  max_ngram = host->max_ngram > 0 ? host->max_ngram : 1;
  if (config->len == 0) return true;
  reader_t reader = {config->ptr, config->ptr + config->len};
  *refusal = TEXT("the configuration must be an object of whole numbers that are not negative");
  if (!take(&reader, '{')) return false;
  bool more = !take(&reader, '}');
  while (more) {
    if (!take(&reader, '"')) return false;
    uint32_t *value = field(&reader);
    if (value == NULL) {
      *refusal = TEXT("there is an unknown field, expected one of short_tokens, draft_length");
      return false;
    }
    if (!take(&reader, ':')) return false;
    skip_space(&reader);
    if (!number(&reader, value)) return false;
    more = take(&reader, ',');
    if (!more && !take(&reader, '}')) return false;
  }
  // The host has seen that it is JSON: nothing stands behind its end.
  return true;
}

// A text that is put together: in static memory, for the host reads it before it
// asks again.
static uint8_t reason[128];

static void append(size_t *length, const char *text) {
  for (; *text != '\0' && *length < sizeof reason; text++) reason[(*length)++] = (uint8_t)*text;
}

static void append_number(size_t *length, uint32_t number) {
  char digits[11];
  char *first = digits + sizeof digits - 1;
  *first = '\0';
  do {
    *--first = (char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  append(length, first);
}

// Lookup, as far as the host goes along: it would cut what is longer.
static aio_policy_types_draft_t lookup(void) {
  uint32_t length = least(draft_length, max_draft_length);
  return (aio_policy_types_draft_t){
      .drafter = length > 0 ? AIO_POLICY_TYPES_DRAFTER_LOOKUP : AIO_POLICY_TYPES_DRAFTER_NONE,
      .length = length,
      .ngram_min = least(2, max_ngram),
      .ngram_max = least(4, max_ngram),
  };
}

void exports_hooks_plan(hooks_request_facts_t *facts, hooks_verdict_t *verdict) {
  // One count a tier, by its own tokenizer.
  uint32_t tokens = facts->prompt_tokens.ptr[0];
  bool is_short = tokens < short_tokens;
  size_t length = 0;
  append(&length, "the prompt has ");
  append_number(&length, tokens);
  append(&length, " tokens, short are those below ");
  append_number(&length, short_tokens);
  *verdict = (hooks_verdict_t){
      .tag = AIO_POLICY_TYPES_VERDICT_DECIDED,
      .val.decided = {
          .tier = is_short ? 0 : largest,
          .draft = lookup(),
          .ask_every = 0,
          .label = is_short ? TEXT("short") : TEXT("long"),
          .reason = {reason, length},
      },
  };
}
