/* spm.c - SentencePiece's normalisation: rules of a precompiled charsmap, white space, the space written as U+2581.
 *
 * A precompiled charsmap is the size of a double array (uint32), the double array (Yata's Darts, units of 32 bits: 8 bits of
 * label, bit 8 = a value follows, bits 9..30 the offset, bit 31 = a value), and the replacements, each closed by a NUL. All
 * rules are read out of it once; the longest rule at a place wins. What one code point becomes when no longer rule can begin
 * with it stands in a table, so that Chinese text is a run of look-ups and stores.
 */
#include <string.h>

#include "base/memory.h"
#include "base/try.h"
#include "govlm_unigram.h"
#include "text/added.h"
#include "text/text.h"
#include "text/trie.h"
#include "text/unicode.h"

enum {
    GV_SPM_PLANE = 0x10000,
    GV_SPM_LONGEST = 256, /* bytes of a rule */
    GV_SPM_SHARED = 16,
    GV_SPM_REPLACED = 1024 /* code points of a replacement */
};
static const uint32_t GV_SPM_SPACE = 0x2581;
/* Entries: a code point, perhaps with a flag. */
static const uint32_t GV_ENTRY_MAYBE = 1u << 24; /* unless a code point that can be second follows */
static const uint32_t GV_ENTRY_BLANK = 1u << 25; /* becomes one space */
static const uint32_t GV_ENTRY_LOOK = 1u << 26;  /* anything else */

struct gv_spm {
    const gv_allocator *allocator;
    gv_spm_options options;
    uint32_t *entries; /* [GV_SPM_PLANE] */
    uint32_t *second;  /* [GV_SPM_PLANE / 32] bits: the code point is second in some rule or symbol */
    gv_trie rules;     /* values: places in `pool` */
    gv_trie symbols;
    uint32_t *pool; /* a count and so many code points, for each replacement */
    int64_t pool_count, pool_capacity;
};

/* ---- reading the charsmap ------------------------------------------------------------------------------------------- */

static uint32_t gv_unit_at(const uint8_t *units, int64_t index) {
    const uint8_t *p = units + index * 4;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static uint32_t gv_unit_offset(uint32_t unit) {
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* Decodes UTF-8 [0, size); the number of code points, -1 where it is malformed or longer than `most`. */
static int gv_decode(uint32_t *out, int most, const uint8_t *bytes, int64_t size) {
    int count = 0;
    for (int64_t i = 0; i < size;) {
        uint8_t first = bytes[i];
        int length = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
        if ((first >= 0x80 && first < 0xC2) || first > 0xF4 || i + length > size || count == most) return -1;
        uint32_t code = length == 1 ? first : first & (0x7Fu >> length);
        for (int k = 1; k < length; k++) {
            if ((bytes[i + k] & 0xC0) != 0x80) return -1;
            code = code << 6 | (bytes[i + k] & 0x3Fu);
        }
        static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
        if (code < least[length] || code >= GV_UC_LIMIT || gv_uc_is_surrogate(code)) return -1;
        out[count++] = code;
        i += length;
    }
    return count;
}

static gv_status gv_pool_add(int32_t *out, gv_spm *spm, const uint32_t *codes, int count, gv_error *error) {
    if (spm->pool_count + count + 1 > spm->pool_capacity) {
        int64_t capacity = spm->pool_capacity * 2 + count + 1024;
        uint32_t *bigger = gv_alloc_array(spm->allocator, (size_t)capacity, sizeof *bigger);
        if (bigger == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a charsmap");
        if (spm->pool_count > 0) memcpy(bigger, spm->pool, (size_t)spm->pool_count * sizeof *bigger);
        gv_release(spm->allocator, spm->pool, (size_t)spm->pool_capacity * sizeof *bigger);
        spm->pool = bigger;
        spm->pool_capacity = capacity;
    }
    if (spm->pool_count > INT32_MAX - GV_SPM_REPLACED) return gv_fail(error, GV_ERR_FORMAT, "charsmap: too much text");
    *out = (int32_t)spm->pool_count;
    spm->pool[spm->pool_count++] = (uint32_t)count;
    if (count > 0) memcpy(spm->pool + spm->pool_count, codes, (size_t)count * sizeof *codes);
    spm->pool_count += count;
    return GV_OK;
}

/* One rule: `key` becomes the text that begins at `value` of the replacements. */
static gv_status gv_add_rule(gv_spm *spm, const uint8_t *key, int length, uint32_t value, const uint8_t *texts, int64_t size,
                             gv_error *error) {
    uint32_t from[GV_SPM_LONGEST], to[GV_SPM_REPLACED];
    int32_t place = 0;
    if (value >= size) return gv_fail(error, GV_ERR_FORMAT, "charsmap: a rule points behind the replacements");
    const uint8_t *end = memchr(texts + value, 0, (size_t)(size - value));
    int count = gv_decode(from, GV_SPM_LONGEST, key, length);
    int replaced = end == NULL ? -1 : gv_decode(to, GV_SPM_REPLACED, texts + value, end - (texts + value));
    if (count <= 0 || replaced < 0) return gv_fail(error, GV_ERR_FORMAT, "charsmap: a rule is not UTF-8, or too long");
    gv_status status = gv_pool_add(&place, spm, to, replaced, error);
    return status == GV_OK ? gv_trie_add(&spm->rules, (gv_text){from, count, 4}, place, spm->allocator, error) : status;
}

/* Walks the whole double array, depth first. Equal ends of rules may share units, but not without measure: this bounds the walk. */
static gv_status gv_read_rules(gv_spm *spm, const uint8_t *data, int64_t size, gv_error *error) {
    struct {
        int64_t base;
        int label;
    } stack[GV_SPM_LONGEST + 1];
    uint8_t key[GV_SPM_LONGEST + 1];
    if (size < 8) return gv_fail(error, GV_ERR_FORMAT, "charsmap: %lld bytes are too few", (long long)size);
    int64_t bytes = (int64_t)gv_unit_at(data, 0), units = bytes / 4, visited = 0;
    if (bytes % 4 != 0 || bytes < 4 || bytes >= size - 4)
        return gv_fail(error, GV_ERR_FORMAT, "charsmap: its double array does not fit into %lld bytes", (long long)size);
    const uint8_t *array = data + 4, *texts = data + 4 + bytes;
    int depth = 0;
    stack[0].base = gv_unit_offset(gv_unit_at(array, 0));
    stack[0].label = 1;
    while (depth >= 0) {
        if (stack[depth].label > 255) {
            depth--;
            continue;
        }
        int label = stack[depth].label++;
        int64_t at = stack[depth].base ^ label;
        if (at >= units) continue;
        uint32_t unit = gv_unit_at(array, at);
        if ((unit & 0x800000FFu) != (uint32_t)label) continue;
        if (++visited > units * GV_SPM_SHARED)
            return gv_fail(error, GV_ERR_FORMAT, "charsmap: its double array runs in circles");
        if (depth >= GV_SPM_LONGEST)
            return gv_fail(error, GV_ERR_FORMAT, "charsmap: a rule of more than %d bytes", GV_SPM_LONGEST);
        key[depth] = (uint8_t)label;
        int64_t base = at ^ gv_unit_offset(unit);
        if ((unit & 0x100u) != 0) {
            if (base >= units) return gv_fail(error, GV_ERR_FORMAT, "charsmap: a value lies outside the double array");
            uint32_t value = gv_unit_at(array, base) & 0x7FFFFFFFu;
            gv_status status = gv_add_rule(spm, key, depth + 1, value, texts, size - 4 - bytes, error);
            if (status != GV_OK) return status;
        }
        depth++;
        stack[depth].base = base;
        stack[depth].label = 1;
    }
    return GV_OK;
}

/* ---- making one ----------------------------------------------------------------------------------------------------- */

/* The entry of a code point that no longer rule begins with. */
static uint32_t gv_entry_of(const gv_spm *spm, uint32_t code) {
    const gv_trie_slot *slot = gv_trie_step(&spm->rules, GV_TRIE_ROOT, code);
    if (slot != NULL && slot->value >= 0) {
        const uint32_t *to = spm->pool + slot->value;
        if (to[0] != 1) return GV_ENTRY_LOOK;
        code = to[1];
    }
    return code == ' ' ? GV_ENTRY_BLANK : code;
}

/* Every first code point of a longer rule or symbol gets its flag, every second one its bit. */
static void gv_flag_longer(gv_spm *spm, const gv_trie *trie, uint32_t flag) {
    for (uint64_t i = 0; i <= trie->mask; i++) {
        const gv_trie_slot *slot = &trie->slots[i];
        if (slot->key == 0) continue;
        uint32_t parent = (uint32_t)((slot->key - 1) >> 21), code = (uint32_t)(slot->key - 1) & 0x1FFFFF;
        if (code >= GV_SPM_PLANE) continue; /* the slow way sees all of these */
        if (parent == GV_TRIE_ROOT) {
            if (flag == GV_ENTRY_LOOK) spm->entries[code] = flag;
        } else {
            spm->second[code >> 5] |= 1u << (code & 31);
        }
    }
}

/* Nodes below the root with children mark the code point above them. */
static gv_status gv_flag_first(gv_spm *spm, gv_error *error) {
    size_t size = spm->rules.nodes;
    uint8_t *inner = gv_alloc_zero(spm->allocator, size);
    if (inner == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a charsmap");
    for (uint64_t i = 0; i <= spm->rules.mask; i++)
        if (spm->rules.slots[i].key != 0) inner[(spm->rules.slots[i].key - 1) >> 21] = 1;
    for (uint64_t i = 0; i <= spm->rules.mask; i++) {
        const gv_trie_slot *slot = &spm->rules.slots[i];
        uint32_t code = (uint32_t)(slot->key - 1) & 0x1FFFFF;
        if (slot->key == 0 || (slot->key - 1) >> 21 != GV_TRIE_ROOT || !inner[slot->child] || code >= GV_SPM_PLANE) continue;
        uint32_t *entry = &spm->entries[code];
        *entry = *entry < GV_ENTRY_MAYBE ? *entry | GV_ENTRY_MAYBE : GV_ENTRY_LOOK;
    }
    gv_release(spm->allocator, inner, size);
    return GV_OK;
}

void gv_spm_free(gv_spm *spm) {
    if (spm == NULL) return;
    gv_release(spm->allocator, spm->entries, GV_SPM_PLANE * sizeof *spm->entries);
    gv_release(spm->allocator, spm->second, GV_SPM_PLANE / 8);
    gv_release(spm->allocator, spm->pool, (size_t)spm->pool_capacity * sizeof *spm->pool);
    gv_trie_clear(&spm->rules, spm->allocator);
    gv_trie_clear(&spm->symbols, spm->allocator);
    gv_release(spm->allocator, spm, sizeof *spm);
}

gv_status gv_spm_create(gv_spm **out, const gv_spm_options *options, const gv_text *symbols, int64_t count,
                        const gv_allocator *allocator, gv_error *error) {
    gv_status status = GV_OK;
    *out = NULL;
    gv_spm *spm = gv_alloc_zero(allocator, sizeof *spm);
    if (spm == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a normaliser");
    spm->allocator = allocator;
    spm->options = *options;
    spm->options.charsmap = NULL;
    spm->entries = gv_alloc(allocator, GV_SPM_PLANE * sizeof *spm->entries);
    spm->second = gv_alloc_zero(allocator, GV_SPM_PLANE / 8);
    if (spm->entries == NULL || spm->second == NULL) {
        GV_TRY(gv_fail(error, GV_ERR_MEMORY, "out of memory for a normaliser"));
    }
    GV_TRY(gv_trie_init(&spm->rules, allocator, error));
    GV_TRY(gv_trie_init(&spm->symbols, allocator, error));
    if (options->charsmap != NULL && options->charsmap_size > 0)
        GV_TRY(gv_read_rules(spm, options->charsmap, options->charsmap_size, error));
    for (int64_t i = 0; i < count; i++) GV_TRY(gv_trie_add(&spm->symbols, symbols[i], 0, allocator, error));
    for (uint32_t code = 0; code < GV_SPM_PLANE; code++)
        spm->entries[code] = gv_uc_is_surrogate(code) ? GV_ENTRY_LOOK : gv_entry_of(spm, code);
    GV_TRY(gv_flag_first(spm, error));
    gv_flag_longer(spm, &spm->rules, GV_ENTRY_MAYBE);
    gv_flag_longer(spm, &spm->symbols, GV_ENTRY_LOOK);
    *out = spm;
    spm = NULL;
done:
    gv_spm_free(spm);
    return status;
}

/* ---- normalising ---------------------------------------------------------------------------------------------------- */

void gv_spm_text_clear(gv_spm_text *text) {
    size_t size = (size_t)text->capacity * sizeof(uint32_t);
    gv_release(text->allocator, text->codes, size);
    gv_release(text->allocator, text->origins, size);
    text->codes = NULL;
    text->origins = NULL;
    text->count = text->capacity = 0;
}

static gv_status gv_spm_reserve(gv_spm_text *text, int64_t more, gv_error *error) {
    if (text->count + more <= text->capacity) return GV_OK;
    gv_spm_text bigger = {.allocator = text->allocator, .aligned = text->aligned, .count = text->count};
    bigger.capacity = text->count + more + text->capacity / 2;
    bigger.codes = gv_alloc_array(text->allocator, (size_t)bigger.capacity, sizeof *bigger.codes);
    if (text->aligned) bigger.origins = gv_alloc_array(text->allocator, (size_t)bigger.capacity, sizeof *bigger.origins);
    if (bigger.codes == NULL || (text->aligned && bigger.origins == NULL)) {
        gv_spm_text_clear(&bigger);
        return gv_fail(error, GV_ERR_MEMORY, "out of memory for a text of %lld characters", (long long)(text->count + more));
    }
    if (text->count > 0) {
        memcpy(bigger.codes, text->codes, (size_t)text->count * sizeof *bigger.codes);
        if (text->aligned) memcpy(bigger.origins, text->origins, (size_t)text->count * sizeof *bigger.origins);
    }
    gv_spm_text_clear(text);
    *text = bigger;
    return GV_OK;
}

/* There is room. */
static inline void gv_spm_push(gv_spm_text *out, uint32_t code, int64_t origin) {
    out->codes[out->count] = code;
    if (out->aligned) out->origins[out->count] = (int32_t)origin;
    out->count++;
}

/* The longest text of the trie at `at`: its length, 0 for none. */
static int64_t gv_longest(int32_t *value, const gv_trie *trie, gv_text text, int64_t at) {
    uint32_t node = GV_TRIE_ROOT;
    int64_t found = 0;
    for (int64_t i = at; trie->edges > 0 && i < text.length; i++) {
        const gv_trie_slot *slot = gv_trie_step(trie, node, gv_text_at(text, i));
        if (slot == NULL) break;
        if (slot->value >= 0) {
            found = i + 1 - at;
            *value = slot->value;
        }
        node = slot->child;
    }
    return found;
}

/* What stands at one place: `consumed` code points, which become codes[0..count), or pass as they are when codes is NULL. */
typedef struct {
    int64_t consumed;
    const uint32_t *codes;
    int64_t count;
} gv_spm_step;

static gv_status gv_step_at(gv_spm_step *out, const gv_spm *spm, gv_text text, int64_t at, gv_error *error) {
    int32_t place = 0;
    uint32_t code = gv_text_at(text, at);
    if (gv_uc_is_surrogate(code) || code >= GV_UC_LIMIT) return gv_refuse_code(code, at, error);
    *out = (gv_spm_step){.consumed = gv_longest(&place, &spm->symbols, text, at)};
    if (out->consumed > 0) {
        out->count = out->consumed;
        return GV_OK;
    }
    out->consumed = gv_longest(&place, &spm->rules, text, at);
    if (out->consumed == 0) {
        out->consumed = out->count = 1;
    } else {
        out->codes = spm->pool + place + 1;
        out->count = spm->pool[place];
    }
    return GV_OK;
}

static inline uint32_t gv_step_code(const gv_spm_step *step, gv_text text, int64_t at, int64_t index) {
    return step->codes != NULL ? step->codes[index] : gv_text_at(text, at + index);
}

/* Pushes what follows from `at` on while it is looked up in the table alone; returns where that ended. There is room for the
 * rest of the text. */
#define GV_DEFINE_SPM_RUN(name, type)                                                                          \
    static int64_t name(gv_spm_text *out, bool *blank, const gv_spm *spm, gv_text text, int64_t at) {          \
        const type *source = text.data;                                                                        \
        const uint32_t *entries = spm->entries;                                                                \
        const uint32_t space = spm->options.escape_whitespaces ? GV_SPM_SPACE : ' ';                           \
        uint32_t *codes = out->codes + out->count;                                                             \
        int32_t *origins = out->aligned ? out->origins + out->count : NULL;                                    \
        for (; at < text.length; at++) {                                                                       \
            uint32_t code = source[at];                                                                        \
            if (code >= (uint32_t)GV_SPM_PLANE) break;                                                         \
            uint32_t entry = entries[code];                                                                    \
            if (entry < GV_ENTRY_MAYBE) {                                                                      \
                *blank = false;                                                                                \
            } else if ((entry & GV_ENTRY_MAYBE) != 0) {                                                        \
                uint32_t next = at + 1 < text.length ? source[at + 1] : 0;                                     \
                if (next >= (uint32_t)GV_SPM_PLANE || (spm->second[next >> 5] >> (next & 31) & 1) != 0) break; \
                entry &= ~GV_ENTRY_MAYBE;                                                                      \
                *blank = false;                                                                                \
            } else if (entry == GV_ENTRY_BLANK) {                                                              \
                if (*blank) continue;                                                                          \
                *blank = spm->options.remove_extra_whitespaces;                                                \
                entry = space;                                                                                 \
            } else {                                                                                           \
                break;                                                                                         \
            }                                                                                                  \
            *codes++ = entry;                                                                                  \
            if (origins != NULL) *origins++ = (int32_t)at;                                                     \
        }                                                                                                      \
        out->count = codes - out->codes;                                                                       \
        return at;                                                                                             \
    }

GV_DEFINE_SPM_RUN(gv_spm_run_1, uint8_t)
GV_DEFINE_SPM_RUN(gv_spm_run_2, uint16_t)
GV_DEFINE_SPM_RUN(gv_spm_run_4, uint32_t)

gv_status gv_spm_normalise(gv_spm_text *out, const gv_spm *spm, gv_text text, gv_error *error) {
    gv_status status = GV_OK;
    const bool remove = spm->options.remove_extra_whitespaces;
    const uint32_t space = spm->options.escape_whitespaces ? GV_SPM_SPACE : ' ';
    int64_t at = 0;
    gv_spm_step step;
    bool blank = remove; /* what was last pushed ends with a space, and another one would be dropped */
    if (text.length > INT32_MAX) return gv_fail(error, GV_ERR_VALUE, "a text of more than 2^31 - 1 characters: cut it");
    if (text.width != 1 && text.width != 2 && text.width != 4)
        return gv_fail(error, GV_ERR_VALUE, "a character must have 1, 2 or 4 bytes, got %d", text.width);
    out->count = 0;
    GV_TRY(gv_spm_reserve(out, text.length + 4, error));
    while (remove && at < text.length) {
        GV_TRY(gv_step_at(&step, spm, text, at, error));
        if (step.count != 1 || gv_step_code(&step, text, at, 0) != ' ') break;
        at += step.consumed;
    }
    if (at == text.length) goto done; /* nothing, or nothing but white space */
    if (spm->options.add_dummy_prefix && !spm->options.whitespace_as_suffix) gv_spm_push(out, space, at);
    for (;;) {
        at = text.width == 1   ? gv_spm_run_1(out, &blank, spm, text, at)
             : text.width == 2 ? gv_spm_run_2(out, &blank, spm, text, at)
                               : gv_spm_run_4(out, &blank, spm, text, at);
        if (at == text.length) break;
        GV_TRY(gv_step_at(&step, spm, text, at, error));
        GV_TRY(gv_spm_reserve(out, step.count + (text.length - at) + 4, error));
        int64_t first = 0;
        while (blank && first < step.count && gv_step_code(&step, text, at, first) == ' ') first++;
        for (int64_t i = first; i < step.count; i++) {
            uint32_t code = gv_step_code(&step, text, at, i);
            gv_spm_push(out, code == ' ' ? space : code, at);
        }
        if (first < step.count) blank = remove && gv_step_code(&step, text, at, step.count - 1) == ' ';
        at += step.consumed;
    }
    while (remove && out->count > 0 && out->codes[out->count - 1] == space) {
        out->count--;
        if (out->aligned) at = out->origins[out->count];
    }
    if (spm->options.add_dummy_prefix && spm->options.whitespace_as_suffix) gv_spm_push(out, space, at);
done:
    if (status == GV_OK) {
        out->codes[out->count] = 0;
        if (out->aligned) out->origins[out->count] = (int32_t)at;
    }
    return status;
}
