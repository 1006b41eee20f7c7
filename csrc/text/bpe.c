/* bpe.c - text to ids: added tokens, normal form, pieces, and the merging of each piece.
 *
 * A piece is looked for in a cache first (64 bytes an entry, keyed by its characters). One that is not there starts as the symbols
 * that bpe_table.c proves safe, mostly one a character, and is merged lowest rank first: short ones by a scan over the ranks of
 * neighbours, long ones with a heap. Buffers and cache belong to a gv_bpe_work, of which a tokenizer keeps those that are free.
 */
#include "text/bpe.h"

#include <string.h>

#include "base/memory.h"
#include "base/try.h"
#include "text/text.h"
#include "text/unicode.h"

enum { GV_CACHE_BITS = 14, GV_CACHE_CODES = 14, GV_CACHE_IDS = 8, GV_SHORT = 48 };

typedef struct {
    uint16_t codes[16]; /* the piece, zeros behind; [15] = its length, 0 = empty; [14] = the number of ids */
    int32_t ids[GV_CACHE_IDS];
} gv_cached_piece;

/* Symbols of the piece at hand: ids with the characters [starts, ends) they come from (only with offsets). */
typedef struct {
    int32_t *ids, *starts, *ends;
    uint32_t *ranks; /* of merging a symbol with the next */
    int32_t *next, *before;
    uint64_t *heap; /* rank above place */
    int64_t capacity;
} gv_symbols;

struct gv_bpe_work {
    gv_bpe_work *after; /* in the list of free ones */
    gv_cached_piece *cache;
    uint32_t *codes;
    uint8_t *classes;
    int32_t *origins;
    int64_t capacity; /* of the three */
    gv_composed composed;
    gv_symbols symbols;
};

/* ---- buffers --------------------------------------------------------------------------------------------------------- */

static void gv_symbols_clear(gv_symbols *s, const gv_allocator *allocator) {
    size_t size = (size_t)s->capacity * sizeof(int32_t);
    gv_release(allocator, s->ids, size);
    gv_release(allocator, s->starts, size);
    gv_release(allocator, s->ends, size);
    gv_release(allocator, s->ranks, size);
    gv_release(allocator, s->next, size);
    gv_release(allocator, s->before, size);
    gv_release(allocator, s->heap, (size_t)s->capacity * 3 * sizeof(uint64_t));
    *s = (gv_symbols){0};
}

static gv_status gv_symbols_reserve(gv_symbols *s, int64_t capacity, const gv_allocator *allocator, gv_error *error) {
    if (capacity <= s->capacity) return GV_OK;
    gv_symbols_clear(s, allocator);
    s->capacity = capacity + capacity / 2 + 256;
    size_t count = (size_t)s->capacity;
    s->ids = gv_alloc_array(allocator, count, sizeof(int32_t));
    s->starts = gv_alloc_array(allocator, count, sizeof(int32_t));
    s->ends = gv_alloc_array(allocator, count, sizeof(int32_t));
    s->ranks = gv_alloc_array(allocator, count, sizeof(int32_t));
    s->next = gv_alloc_array(allocator, count, sizeof(int32_t));
    s->before = gv_alloc_array(allocator, count, sizeof(int32_t));
    s->heap = gv_alloc_array(allocator, count * 3, sizeof(uint64_t));
    if (s->ids && s->starts && s->ends && s->ranks && s->next && s->before && s->heap) return GV_OK;
    gv_symbols_clear(s, allocator);
    return gv_fail(error, GV_ERR_MEMORY, "out of memory for a piece of %lld characters", (long long)capacity);
}

static void gv_work_clear_text(gv_bpe_work *work, const gv_allocator *allocator) {
    gv_release(allocator, work->codes, (size_t)work->capacity * sizeof *work->codes);
    gv_release(allocator, work->origins, (size_t)work->capacity * sizeof *work->origins);
    gv_release(allocator, work->classes, (size_t)work->capacity);
    work->codes = NULL;
    work->origins = NULL;
    work->classes = NULL;
    work->capacity = 0;
}

static gv_status gv_work_reserve(gv_bpe_work *work, int64_t capacity, const gv_allocator *allocator, gv_error *error) {
    if (capacity <= work->capacity) return GV_OK;
    gv_work_clear_text(work, allocator);
    work->capacity = capacity + capacity / 2 + 256;
    work->codes = gv_alloc_array(allocator, (size_t)work->capacity, sizeof *work->codes);
    work->origins = gv_alloc_array(allocator, (size_t)work->capacity, sizeof *work->origins);
    work->classes = gv_alloc_array(allocator, (size_t)work->capacity, 1);
    if (work->codes != NULL && work->origins != NULL && work->classes != NULL) return GV_OK;
    gv_work_clear_text(work, allocator);
    return gv_fail(error, GV_ERR_MEMORY, "out of memory for a text of %lld characters", (long long)capacity);
}

void gv_bpe_work_free(gv_bpe_work *work, const gv_allocator *allocator) {
    while (work != NULL) {
        gv_bpe_work *after = work->after;
        gv_work_clear_text(work, allocator);
        gv_composed_clear(&work->composed, allocator);
        gv_symbols_clear(&work->symbols, allocator);
        gv_release(allocator, work->cache, sizeof *work->cache << GV_CACHE_BITS);
        gv_release(allocator, work, sizeof *work);
        work = after;
    }
}

static gv_status gv_work_take(gv_bpe_work **out, const gv_bpe *bpe, gv_error *error) {
    gv_bpe *owner = (gv_bpe *)(uintptr_t)bpe; /* the list of free ones is all that changes, under its lock */
    pthread_mutex_lock(&owner->lock);
    *out = owner->free_work;
    if (*out != NULL) owner->free_work = (*out)->after;
    pthread_mutex_unlock(&owner->lock);
    if (*out != NULL) return GV_OK;
    gv_bpe_work *work = gv_alloc_zero(bpe->allocator, sizeof *work);
    if (work != NULL) work->cache = gv_alloc_zero(bpe->allocator, sizeof *work->cache << GV_CACHE_BITS);
    if (work == NULL || work->cache == NULL) {
        gv_release(bpe->allocator, work, sizeof *work);
        return gv_fail(error, GV_ERR_MEMORY, "out of memory for encoding");
    }
    *out = work;
    return GV_OK;
}

static void gv_work_give(const gv_bpe *bpe, gv_bpe_work *work) {
    gv_bpe *owner = (gv_bpe *)(uintptr_t)bpe;
    if (work->capacity > 1 << 20) gv_work_clear_text(work, bpe->allocator); /* one huge text must not hold memory for good */
    if (work->symbols.capacity > 1 << 18) gv_symbols_clear(&work->symbols, bpe->allocator);
    if (work->composed.capacity > 1 << 20) gv_composed_clear(&work->composed, bpe->allocator);
    pthread_mutex_lock(&owner->lock);
    work->after = owner->free_work;
    owner->free_work = work;
    pthread_mutex_unlock(&owner->lock);
}

/* ---- merging --------------------------------------------------------------------------------------------------------- */

/* Merges s[0..count) in place, without offsets or with; returns how many are left. */
static int64_t gv_merge_short(gv_symbols *s, const gv_pair_table *pairs, int64_t count, bool offsets) {
    uint64_t slot = 0;
    uint32_t ranks[GV_SHORT];
    int32_t *ids = s->ids;
    for (int64_t i = 0; i + 1 < count; i++) ranks[i] = gv_pair_find(&slot, pairs, ids[i], ids[i + 1]);
    while (count > 1) {
        int64_t at = 0;
        for (int64_t i = 1; i + 1 < count; i++) at = ranks[i] < ranks[at] ? i : at;
        if (ranks[at] == GV_BPE_NEVER) break;
        (void)gv_pair_find(&slot, pairs, ids[at], ids[at + 1]);
        ids[at] = pairs->made[slot];
        if (offsets) {
            s->ends[at] = s->ends[at + 1];
            for (int64_t i = at + 1; i + 1 < count; i++) {
                s->starts[i] = s->starts[i + 1];
                s->ends[i] = s->ends[i + 1];
            }
        }
        for (int64_t i = at + 1; i + 1 < count; i++) ids[i] = ids[i + 1];
        for (int64_t i = at; i + 2 < count; i++) ranks[i] = ranks[i + 1];
        count--;
        if (at > 0) ranks[at - 1] = gv_pair_find(&slot, pairs, ids[at - 1], ids[at]);
        if (at + 1 < count) ranks[at] = gv_pair_find(&slot, pairs, ids[at], ids[at + 1]);
    }
    return count;
}

static void gv_heap_push(uint64_t *heap, int64_t *count, uint64_t value) {
    int64_t at = (*count)++;
    while (at > 0 && heap[(at - 1) / 2] > value) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = value;
}

static uint64_t gv_heap_pop(uint64_t *heap, int64_t *count) {
    uint64_t top = heap[0], last = heap[--*count];
    int64_t at = 0;
    for (int64_t child = 1; child < *count; child = 2 * at + 1) {
        if (child + 1 < *count && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

/* The same for long pieces: every pair is pushed when it arises, and passed over when it is no more. At most count - 1 pairs at
 * first and two with each merge: 3 * count entries. */
static int64_t gv_merge_long(gv_symbols *s, const gv_pair_table *pairs, int64_t count, bool offsets) {
    uint64_t slot = 0;
    int64_t heaped = 0;
    for (int64_t i = 0; i < count; i++) {
        s->next[i] = (int32_t)(i + 1 < count ? i + 1 : -1);
        s->before[i] = (int32_t)(i - 1);
        s->ranks[i] = i + 1 < count ? gv_pair_find(&slot, pairs, s->ids[i], s->ids[i + 1]) : GV_BPE_NEVER;
        if (s->ranks[i] != GV_BPE_NEVER) gv_heap_push(s->heap, &heaped, (uint64_t)s->ranks[i] << 32 | (uint64_t)i);
    }
    while (heaped > 0) {
        uint64_t top = gv_heap_pop(s->heap, &heaped);
        int64_t at = (int64_t)(top & 0xFFFFFFFF);
        if (s->ids[at] < 0 || s->ranks[at] != (uint32_t)(top >> 32)) continue;
        int32_t right = s->next[at];
        (void)gv_pair_find(&slot, pairs, s->ids[at], s->ids[right]);
        s->ids[at] = pairs->made[slot];
        if (offsets) s->ends[at] = s->ends[right];
        s->ids[right] = -1;
        s->ranks[right] = GV_BPE_NEVER;
        int32_t next = s->next[right], before = s->before[at];
        s->next[at] = next;
        s->ranks[at] = next >= 0 ? gv_pair_find(&slot, pairs, s->ids[at], s->ids[next]) : GV_BPE_NEVER;
        if (s->ranks[at] != GV_BPE_NEVER) gv_heap_push(s->heap, &heaped, (uint64_t)s->ranks[at] << 32 | (uint64_t)at);
        if (next >= 0) s->before[next] = (int32_t)at;
        if (before < 0) continue;
        s->ranks[before] = gv_pair_find(&slot, pairs, s->ids[before], s->ids[at]);
        if (s->ranks[before] != GV_BPE_NEVER)
            gv_heap_push(s->heap, &heaped, (uint64_t)s->ranks[before] << 32 | (uint64_t)before);
    }
    int64_t left = 0;
    for (int64_t i = 0; i >= 0 && i < count; i = s->next[i]) {
        s->ids[left] = s->ids[i];
        if (offsets) {
            s->starts[left] = s->starts[i];
            s->ends[left] = s->ends[i];
        }
        left++;
        if (s->next[i] < 0) break;
    }
    return left;
}

/* ---- pieces ---------------------------------------------------------------------------------------------------------- */

/* A stretch of text in its normal form. origins NULL: character i comes from first + i. */
typedef struct {
    const uint32_t *codes;
    const uint8_t *classes;
    const int32_t *origins;
    int64_t length, first;
    bool wide; /* characters beyond the basic plane */
} gv_stretch;

static int32_t gv_origin(const gv_stretch *text, int64_t at) {
    return text->origins != NULL ? text->origins[at] : (int32_t)(text->first + at);
}

static void gv_symbol_add(gv_symbols *s, int64_t *count, int32_t id, int32_t origin) {
    s->ids[*count] = id;
    s->starts[*count] = origin;
    s->ends[(*count)++] = origin + 1;
}

/* Whether the character at `at` may start as its one symbol where it stands in the piece text[from..to). */
static bool gv_start_holds(const gv_bpe *bpe, const gv_stretch *text, int64_t at, int64_t from, int64_t to) {
    uint32_t code = text->codes[at];
    uint8_t utf8[4];
    if (bpe->starts[code] & GV_START_NOT_BEHIND_ASCII && at > from && text->codes[at - 1] < 0x80) return false;
    if (!(bpe->starts[code] & GV_START_RISKY) || at + 1 == to) return true;
    int size = gv_utf8(utf8, text->codes[at + 1]);
    gv_follower next = gv_follower_of(utf8, size);
    for (uint32_t i = bpe->risk_begins[code]; i < bpe->risk_begins[code + 1]; i++) {
        if (gv_follows(bpe->risks[i], next)) return false;
    }
    return true;
}

/* The symbols that text[from..to) starts as. Room for four a character is there. */
static int64_t gv_start_symbols(gv_symbols *s, const gv_bpe *bpe, const gv_stretch *text, int64_t from, int64_t to) {
    int64_t count = 0;
    bool unknown = false;
    for (int64_t i = from; i < to; i++) {
        uint32_t code = text->codes[i];
        int32_t id = code < GV_BPE_PLANE ? bpe->starts[code] : -1, origin = gv_origin(text, i);
        uint8_t utf8[4];
        if (id >= 0 && (id <= GV_START_ID || gv_start_holds(bpe, text, i, from, to))) {
            gv_symbol_add(s, &count, id & GV_START_ID, origin);
            unknown = false;
            continue;
        }
        int size = gv_utf8(utf8, code), known = 0;
        if (bpe->options.characters) {
            if (code >= GV_BPE_PLANE) id = gv_bpe_token_of(bpe, utf8, size);
            if (id >= 0) {
                gv_symbol_add(s, &count, id, origin);
                unknown = false;
                continue;
            }
            for (int j = 0; j < size; j++) known += bpe->byte_ids[utf8[j]] >= 0;
            if (known < size) size = 0; /* all of its bytes or none */
            if (size == 0 && bpe->options.unknown_id >= 0) {
                if (unknown && bpe->options.fuse_unknown) {
                    s->ends[count - 1] = origin + 1;
                } else {
                    gv_symbol_add(s, &count, bpe->options.unknown_id, origin);
                }
                unknown = true;
                continue;
            }
        }
        unknown = false;
        for (int j = 0; j < size; j++) {
            int32_t byte = bpe->byte_ids[utf8[j]];
            if (byte < 0) byte = bpe->options.unknown_id;
            if (byte >= 0) gv_symbol_add(s, &count, byte, origin);
        }
    }
    return count;
}

/* The piece itself when the vocabulary has it, else -1. */
static int32_t gv_whole_piece(const gv_bpe *bpe, const gv_stretch *text, int64_t from, int64_t to) {
    uint8_t bytes[512];
    int64_t length = 0;
    if (to - from > 128) return -1; /* 512 bytes: no vocabulary has such words */
    for (int64_t i = from; i < to; i++) length += gv_utf8(bytes + length, text->codes[i]);
    return gv_bpe_token_of(bpe, bytes, length);
}

static uint64_t gv_cache_hash(const uint16_t codes[16]) {
    uint64_t part[4];
    memcpy(part, codes, 32);
    uint64_t hash = (part[0] ^ part[1] >> 32 ^ part[1] << 32) * 0x9E3779B97F4A7C15u;
    hash ^= (part[2] ^ part[3] >> 31 ^ part[3] << 33) * 0xC2B2AE3D27D4EB4Fu ^ part[1] * 0x165667B19E3779F9u;
    hash *= 0x9E3779B97F4A7C15u;
    return hash >> (64 - GV_CACHE_BITS);
}

static void gv_emit_ids(gv_tokens *out, const int32_t *ids, int64_t count) {
    memcpy(out->ids + out->count, ids, (size_t)count * sizeof *ids);
    out->count += count;
}

/* Encodes text[from..to), one piece, as word number `word`. */
static gv_status gv_encode_piece(gv_tokens *out, const gv_bpe *bpe, gv_bpe_work *work, const gv_stretch *text, int64_t from,
                                 int64_t to, int32_t word, gv_error *error) {
    gv_status status = GV_OK;
    gv_cached_piece *cached = NULL;
    gv_symbols *s = &work->symbols;
    uint16_t key[16] = {0};
    int64_t length = to - from;
    if (length <= GV_CACHE_CODES && !text->wide && !out->offsets) {
        for (int64_t i = 0; i < length; i++) key[i] = (uint16_t)text->codes[from + i];
        cached = &work->cache[gv_cache_hash(key)];
        key[15] = (uint16_t)length;
        if (cached->codes[15] == key[15] && memcmp(cached->codes, key, GV_CACHE_CODES * sizeof *key) == 0) {
            if ((status = gv_tokens_reserve(out, GV_CACHE_IDS, error)) != GV_OK) return status;
            memcpy(out->ids + out->count, cached->ids, sizeof cached->ids);
            out->count += cached->codes[14];
            return GV_OK;
        }
    }
    if (length > INT32_MAX / 8) return gv_fail(error, GV_ERR_VALUE, "a word of %lld characters", (long long)length);
    if ((status = gv_symbols_reserve(s, 4 * length, bpe->allocator, error)) != GV_OK) return status;
    int64_t count;
    int32_t whole = bpe->options.whole_words ? gv_whole_piece(bpe, text, from, to) : -1;
    if (whole >= 0) {
        s->ids[0] = whole;
        s->starts[0] = gv_origin(text, from);
        s->ends[0] = gv_origin(text, to - 1) + 1;
        count = 1;
    } else {
        count = gv_start_symbols(s, bpe, text, from, to);
        count = count <= GV_SHORT ? gv_merge_short(s, &bpe->pairs, count, out->offsets)
                                  : gv_merge_long(s, &bpe->pairs, count, out->offsets);
    }
    if (cached != NULL && count <= GV_CACHE_IDS) {
        key[14] = (uint16_t)count;
        memcpy(cached->codes, key, sizeof key);
        memcpy(cached->ids, s->ids, sizeof cached->ids);
    }
    if ((status = gv_tokens_reserve(out, count, error)) != GV_OK) return status;
    for (int64_t i = 0; out->offsets && i < count; i++) {
        out->starts[out->count + i] = s->starts[i];
        out->ends[out->count + i] = s->ends[i];
        out->words[out->count + i] = word;
    }
    gv_emit_ids(out, s->ids, count);
    return GV_OK;
}

/* One stretch without added tokens. */
static gv_status gv_encode_pieces(gv_tokens *out, const gv_bpe *bpe, gv_bpe_work *work, const gv_stretch *text, int32_t *words,
                                  gv_error *error) {
    gv_status status = GV_OK;
    for (int64_t at = 0; at < text->length && status == GV_OK;) {
        int64_t end;
        if (bpe->options.characters) {
            end = at + 1;
            if (bpe->separable) {
                while (end < text->length && (text->codes[end] != GV_BPE_MARK || text->codes[end - 1] == GV_BPE_MARK)) end++;
            } else {
                end = text->length;
            }
            status = gv_encode_piece(out, bpe, work, text, at, end, *words, error);
            *words += end == text->length; /* the whole stretch is one word */
        } else {
            end = gv_split_end(bpe->options.split, text->codes, text->classes, at, text->length);
            status = gv_encode_piece(out, bpe, work, text, at, end, (*words)++, error);
        }
        at = end;
    }
    return status;
}

/* ---- stretches between added tokens ------------------------------------------------------------------------------------- */

/* codes[0..length) of the text from character `first`: spaces marked, one put before it where asked. Then its pieces. */
static gv_status gv_encode_plain(gv_tokens *out, const gv_bpe *bpe, gv_bpe_work *work, const gv_stretch *source, int32_t *words,
                                 gv_error *error) {
    const gv_bpe_options *options = &bpe->options;
    gv_stretch text = *source;
    gv_status status = GV_OK;
    uint32_t *codes = NULL;
    size_t size = ((size_t)source->length + 1) * 9;
    if (source->length == 0) return GV_OK;
    uint32_t space = options->characters ? GV_BPE_MARK : ' ';
    bool there = source->codes[0] == ' ' || source->codes[0] == space;
    bool prepend = options->prepend == GV_PREPEND_ALWAYS || (options->prepend == GV_PREPEND_MISSING && !there) ||
                   (options->prepend == GV_PREPEND_FIRST && !there && gv_origin(source, 0) == 0);
    if (options->characters || prepend) {
        codes = gv_alloc(bpe->allocator, size);
        if (codes == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a text");
        int32_t *origins = (int32_t *)(void *)(codes + source->length + 1);
        uint8_t *classes = (uint8_t *)(void *)(origins + source->length + 1);
        int64_t count = 0;
        if (prepend) {
            codes[0] = space;
            classes[0] = bpe->classes[space];
            origins[0] = gv_origin(source, 0);
            count = 1;
        }
        for (int64_t i = 0; i < source->length; i++, count++) {
            codes[count] = options->characters && source->codes[i] == ' ' ? GV_BPE_MARK : source->codes[i];
            classes[count] = source->classes[i];
            origins[count] = gv_origin(source, i);
        }
        text = (gv_stretch){codes, classes, origins, count, 0, source->wide};
    }
    status = gv_encode_pieces(out, bpe, work, &text, words, error);
    gv_release(bpe->allocator, codes, codes != NULL ? size : 0);
    return status;
}

static gv_status gv_emit_added(gv_tokens *out, const gv_found *found, int32_t start, int32_t end, int32_t *words,
                               gv_error *error) {
    gv_status status = gv_tokens_push(out, found->token->id, error);
    if (status != GV_OK) return status;
    if (out->offsets) {
        out->starts[out->count - 1] = start;
        out->ends[out->count - 1] = end;
        out->words[out->count - 1] = *words;
    }
    (*words)++;
    return GV_OK;
}

/* A stretch without raw added tokens: its normal form, and the added tokens that are looked for there. */
static gv_status gv_encode_stretch(gv_tokens *out, const gv_bpe *bpe, gv_bpe_work *work, const gv_stretch *source,
                                   bool unstable, int32_t *words, gv_error *error) {
    gv_status status = GV_OK;
    gv_stretch text = *source;
    if (bpe->options.compose && unstable) {
        gv_composed *composed = &work->composed;
        GV_TRY(gv_compose(composed, source->codes, source->length, source->first, bpe->allocator, error));
        bool wide = false;
        for (int64_t i = 0; i < composed->count; i++) {
            uint32_t code = composed->codes[i];
            wide = wide || code >= GV_BPE_PLANE;
            composed->classes[i] = code < GV_BPE_PLANE ? bpe->classes[code] : gv_split_class(code);
        }
        text = (gv_stretch){composed->codes, composed->classes, composed->origins, composed->count, 0, wide};
    }
    int64_t done = 0;
    if (bpe->added.normalized.edges > 0) {
        gv_text codes = {text.codes, text.length, 4};
        for (int64_t i = 0; i < text.length && status == GV_OK;) {
            gv_found found;
            bool may = text.classes[i] & GV_CLASS_ADDED || text.codes[i] >= GV_BPE_PLANE;
            if (!may || !gv_added_find(&found, &bpe->added, &bpe->added.normalized, codes, i)) {
                i++;
                continue;
            }
            i = found.end;
            if (!gv_added_accept(&found, codes, done)) continue;
            gv_stretch part = {text.codes + done,  text.classes + done, text.origins != NULL ? text.origins + done : NULL,
                               found.start - done, text.first + done,   text.wide};
            GV_TRY(gv_encode_plain(out, bpe, work, &part, words, error));
            GV_TRY(
                gv_emit_added(out, &found, gv_origin(&text, found.start), gv_origin(&text, found.end - 1) + 1, words, error));
            done = found.end;
        }
    }
    gv_stretch part = {text.codes + done,  text.classes + done, text.origins != NULL ? text.origins + done : NULL,
                       text.length - done, text.first + done,   text.wide};
    status = gv_encode_plain(out, bpe, work, &part, words, error);
done:
    return status;
}

/* The text's code points and classes; *seen: all class bits together. */
#define GV_DEFINE_READ(name, type)                                                        \
    static uint8_t name(bool *wide, gv_bpe_work *work, const gv_bpe *bpe, gv_text text) { \
        const type *source = text.data;                                                   \
        const uint8_t *table = bpe->classes;                                              \
        uint8_t seen = 0;                                                                 \
        for (int64_t i = 0; i < text.length; i++) {                                       \
            uint32_t code = source[i];                                                    \
            uint8_t class = 0;                                                            \
            if (code < GV_BPE_PLANE) {                                                    \
                class = table[code];                                                      \
            } else {                                                                      \
                *wide = true;                                                             \
                if (code < GV_UC_LIMIT) class = gv_split_class(code);                     \
            }                                                                             \
            work->codes[i] = code;                                                        \
            work->classes[i] = class;                                                     \
            seen = (uint8_t)(seen | class);                                               \
        }                                                                                 \
        return seen;                                                                      \
    }

GV_DEFINE_READ(gv_read_1, uint8_t)
GV_DEFINE_READ(gv_read_2, uint16_t)
GV_DEFINE_READ(gv_read_4, uint32_t)

static gv_status gv_encode_text(gv_tokens *out, const gv_bpe *bpe, gv_bpe_work *work, gv_text text, gv_error *error) {
    gv_status status = GV_OK;
    bool wide = false;
    int32_t words = 0;
    GV_TRY(gv_work_reserve(work, text.length, bpe->allocator, error));
    uint8_t seen = text.width == 1   ? gv_read_1(&wide, work, bpe, text)
                   : text.width == 2 ? gv_read_2(&wide, work, bpe, text)
                                     : gv_read_4(&wide, work, bpe, text);
    if (seen & GV_CLASS_BAD || wide) {
        for (int64_t i = 0; i < text.length; i++) {
            uint32_t code = work->codes[i];
            if (gv_uc_is_surrogate(code) || code >= GV_UC_LIMIT) {
                status = gv_refuse_code(code, i, error);
                goto done;
            }
        }
    }
    bool unstable = (seen & GV_CLASS_UNSTABLE) != 0;
    gv_text codes = {work->codes, text.length, 4};
    int64_t done = 0;
    if (bpe->added.raw.edges > 0 && (seen & GV_CLASS_ADDED || (wide && bpe->added_beyond))) {
        for (int64_t i = 0; i < text.length;) {
            gv_found found;
            bool may = work->classes[i] & GV_CLASS_ADDED || work->codes[i] >= GV_BPE_PLANE;
            if (!may || !gv_added_find(&found, &bpe->added, &bpe->added.raw, codes, i)) {
                i++;
                continue;
            }
            i = found.end;
            if (!gv_added_accept(&found, codes, done)) continue;
            gv_stretch part = {work->codes + done, work->classes + done, NULL, found.start - done, done, wide};
            GV_TRY(gv_encode_stretch(out, bpe, work, &part, unstable, &words, error));
            GV_TRY(gv_emit_added(out, &found, (int32_t)found.start, (int32_t)found.end, &words, error));
            done = found.end;
        }
    }
    gv_stretch part = {work->codes + done, work->classes + done, NULL, text.length - done, done, wide};
    status = gv_encode_stretch(out, bpe, work, &part, unstable, &words, error);
done:
    return status;
}

gv_status gv_bpe_encode(gv_tokens *out, const gv_bpe *bpe, gv_text text, gv_error *error) {
    gv_bpe_work *work;
    if (text.length > INT32_MAX) return gv_fail(error, GV_ERR_VALUE, "a text of more than 2^31 - 1 characters: cut it");
    if (text.width != 1 && text.width != 2 && text.width != 4)
        return gv_fail(error, GV_ERR_VALUE, "a character must have 1, 2 or 4 bytes, got %d", text.width);
    if (bpe->pairs.slots == NULL) return gv_fail(error, GV_ERR_STATE, "the merges are not set");
    gv_status status = gv_work_take(&work, bpe, error);
    if (status != GV_OK) return status;
    status = gv_encode_text(out, bpe, work, text, error);
    gv_work_give(bpe, work);
    return status;
}

gv_status gv_bpe_add_token(gv_bpe *bpe, const gv_added_token *token, gv_error *error) {
    gv_status status = GV_OK;
    gv_composed composed = {0};
    gv_text text = token->text;
    size_t size = (size_t)text.length * sizeof(uint32_t);
    uint32_t *codes = gv_alloc(bpe->allocator, size);
    if (codes == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for an added token");
    for (int64_t i = 0; i < text.length; i++) {
        codes[i] = gv_text_at(text, i);
        if (gv_uc_is_surrogate(codes[i]) || codes[i] >= GV_UC_LIMIT) {
            status = gv_fail(error, GV_ERR_VALUE, "an added token holds a lone surrogate");
            goto done;
        }
    }
    if (token->normalized && bpe->options.compose) {
        GV_TRY(gv_compose(&composed, codes, text.length, 0, bpe->allocator, error));
        text = (gv_text){composed.codes, composed.count, 4};
    }
    GV_TRY(gv_added_append(&bpe->added, token, text, bpe->allocator, error));
    uint32_t first = gv_text_at(text, 0);
    if (first < GV_BPE_PLANE) {
        bpe->classes[first] |= GV_CLASS_ADDED;
    } else {
        bpe->added_beyond = true;
    }
done:
    gv_composed_clear(&composed, bpe->allocator);
    gv_release(bpe->allocator, codes, size);
    return status;
}
