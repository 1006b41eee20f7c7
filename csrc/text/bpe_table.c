/* bpe_table.c - making a gv_bpe: the vocabulary by bytes, the merges by pairs, and what every character starts as.
 *
 * Merging need not start from bytes. A character may start as the token that its own bytes become alone, when nothing outside can
 * take one of its parts before: let a part at the right edge be used inside the character at rank R (the highest rank so far); if
 * every merge of that part with something that begins a character ranks after R, and likewise at the left edge, and every merge
 * of the whole ranks after its own making, then the order of merges that the definition prescribes can be changed into "inside
 * first" without any merge seeing other neighbours. This is checked for every character when the tokenizer is made.
 */
#include <string.h>

#include "base/memory.h"
#include "base/try.h"
#include "text/bpe.h"
#include "text/text.h"
#include "text/unicode.h"

/* ---- vocabulary ------------------------------------------------------------------------------------------------------ */

static uint64_t gv_hash_bytes(const uint8_t *data, int64_t length) {
    uint64_t hash = 0xCBF29CE484222325u ^ (uint64_t)length;
    for (; length >= 8; data += 8, length -= 8) {
        uint64_t part;
        memcpy(&part, data, 8);
        hash = (hash ^ part) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    for (int64_t i = 0; i < length; i++) hash = (hash ^ data[i]) * 0x100000001B3u;
    hash *= 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 32;
}

/* The place of these bytes in the hash: of their id, or an empty one. */
static uint64_t gv_word_place(const gv_bpe *bpe, const uint8_t *data, int64_t length) {
    for (uint64_t at = gv_hash_bytes(data, length) & bpe->words_mask;; at = (at + 1) & bpe->words_mask) {
        uint32_t id = bpe->words[at];
        if (id == 0) return at;
        int64_t begin = bpe->begins[id - 1];
        if (bpe->begins[id] - begin == length && memcmp(bpe->bytes + begin, data, (size_t)length) == 0) return at;
    }
}

int32_t gv_bpe_token_of(const gv_bpe *bpe, const uint8_t *data, int64_t length) {
    return (int32_t)bpe->words[gv_word_place(bpe, data, length)] - 1;
}

static gv_status gv_read_tokens(gv_bpe *bpe, const gv_bytes *tokens, gv_error *error) {
    gv_status status = GV_OK;
    int64_t total = 0;
    for (int64_t i = 0; i < bpe->count; i++) {
        if (tokens[i].length > 1 << 20)
            return gv_fail(error, GV_ERR_VALUE, "token %lld has over a million bytes", (long long)i);
        total += tokens[i].length;
    }
    bpe->words_mask = 1023;
    while (bpe->words_mask < (uint64_t)bpe->count * 2) bpe->words_mask = bpe->words_mask * 2 + 1;
    bpe->bytes = gv_alloc_array(bpe->allocator, (size_t)total + 1, 1);
    bpe->begins = gv_alloc_array(bpe->allocator, (size_t)bpe->count + 1, sizeof *bpe->begins);
    bpe->words = gv_alloc_zero(bpe->allocator, (bpe->words_mask + 1) * sizeof *bpe->words);
    if (bpe->bytes == NULL || bpe->begins == NULL || bpe->words == NULL)
        return gv_fail(error, GV_ERR_MEMORY, "out of memory for a vocabulary of %lld tokens", (long long)bpe->count);
    bpe->begins[0] = 0;
    for (int64_t i = 0; i < bpe->count; i++) {
        bpe->begins[i + 1] = bpe->begins[i] + tokens[i].length;
        if (tokens[i].length == 0) continue;
        memcpy(bpe->bytes + bpe->begins[i], tokens[i].data, (size_t)tokens[i].length);
        uint64_t at = gv_word_place(bpe, bpe->bytes + bpe->begins[i], tokens[i].length);
        if (bpe->words[at] == 0) bpe->words[at] = (uint32_t)i + 1; /* the first of two alike */
    }
    return status;
}

gv_status gv_bpe_create(gv_bpe **out, const gv_bytes *tokens, int64_t count, const gv_bpe_options *options,
                        const gv_allocator *allocator, gv_error *error) {
    gv_status status = GV_OK;
    *out = NULL;
    if (count < 1 || count > 1 << GV_BPE_ID_BITS)
        return gv_fail(error, GV_ERR_VALUE, "a vocabulary must have 1 to %d tokens, got %lld", 1 << GV_BPE_ID_BITS,
                       (long long)count);
    gv_bpe *bpe = gv_alloc_zero(allocator, sizeof *bpe);
    if (bpe == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a tokenizer");
    bpe->allocator = allocator;
    bpe->options = *options;
    bpe->count = count;
    GV_TRY(gv_added_init(&bpe->added, allocator, error));
    GV_TRY(gv_read_tokens(bpe, tokens, error));
    bpe->starts = gv_alloc_array(allocator, GV_BPE_PLANE, sizeof *bpe->starts);
    bpe->classes = gv_alloc_array(allocator, GV_BPE_PLANE, 1);
    if (bpe->starts == NULL || bpe->classes == NULL) {
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory for a tokenizer");
        goto done;
    }
    for (uint32_t code = 0; code < GV_BPE_PLANE; code++) {
        bpe->classes[code] = gv_uc_is_surrogate(code) ? GV_CLASS_BAD : gv_split_class(code);
    }
    for (int i = 0; i < 256; i++) {
        char name[8] = "<0x00>";
        uint8_t byte = (uint8_t)i;
        name[3] = "0123456789ABCDEF"[i >> 4];
        name[4] = "0123456789ABCDEF"[i & 15];
        bpe->byte_ids[i] = options->characters ? (options->byte_fallback ? gv_bpe_token_of(bpe, (uint8_t *)name, 6) : -1)
                                               : gv_bpe_token_of(bpe, &byte, 1);
    }
    if (pthread_mutex_init(&bpe->lock, NULL) != 0) {
        status = gv_fail(error, GV_ERR_INTERNAL, "a lock could not be made");
        goto done;
    }
    bpe->has_lock = true;
done:
    if (status == GV_OK) {
        *out = bpe;
    } else {
        gv_bpe_free(bpe);
    }
    return status;
}

void gv_bpe_free(gv_bpe *bpe) {
    if (bpe == NULL) return;
    const gv_allocator *allocator = bpe->allocator;
    gv_bpe_work_free(bpe->free_work, allocator);
    if (bpe->has_lock) pthread_mutex_destroy(&bpe->lock);
    gv_added_clear(&bpe->added, allocator);
    if (bpe->begins != NULL) gv_release(allocator, bpe->bytes, (size_t)bpe->begins[bpe->count] + 1);
    gv_release(allocator, bpe->begins, ((size_t)bpe->count + 1) * sizeof *bpe->begins);
    gv_release(allocator, bpe->words, (bpe->words_mask + 1) * sizeof *bpe->words);
    gv_release(allocator, bpe->starts, GV_BPE_PLANE * sizeof *bpe->starts);
    gv_release(allocator, bpe->classes, GV_BPE_PLANE);
    gv_release(allocator, bpe->pairs.slots, (bpe->pairs.mask + 1) * sizeof *bpe->pairs.slots);
    gv_release(allocator, bpe->pairs.made, (bpe->pairs.mask + 1) * sizeof *bpe->pairs.made);
    gv_release(allocator, bpe->pairs.filter, (1 << GV_FILTER_BITS) / 8);
    gv_release(allocator, bpe, sizeof *bpe);
}

/* ---- merges ---------------------------------------------------------------------------------------------------------- */

static gv_status gv_pairs_init(gv_pair_table *table, int64_t count, const gv_allocator *allocator, gv_error *error) {
    if (table->slots != NULL) return gv_fail(error, GV_ERR_STATE, "the merges are set already");
    table->mask = 255;
    table->shift = 56;
    while (table->mask < (uint64_t)count * 2) {
        table->mask = table->mask * 2 + 1;
        table->shift--;
    }
    table->slots = gv_alloc_array(allocator, table->mask + 1, sizeof *table->slots);
    table->made = gv_alloc_array(allocator, table->mask + 1, sizeof *table->made);
    table->filter = gv_alloc_zero(allocator, (1 << GV_FILTER_BITS) / 8);
    if (table->slots == NULL || table->made == NULL || table->filter == NULL)
        return gv_fail(error, GV_ERR_MEMORY, "out of memory for %lld merges", (long long)count);
    memset(table->slots, 0xFF, (table->mask + 1) * sizeof *table->slots);
    return GV_OK;
}

/* Of a pair given twice the later rank counts, as in a mapping. */
static void gv_pairs_put(gv_pair_table *table, int32_t left, int32_t right, uint32_t rank, int32_t made) {
    uint64_t key = gv_pair_key(left, right), hash = key * 0x9E3779B97F4A7C15u, bit = hash >> (64 - GV_FILTER_BITS);
    uint64_t at = hash >> table->shift;
    while (table->slots[at] != UINT64_MAX && table->slots[at] >> 24 != key) at = (at + 1) & table->mask;
    table->count += table->slots[at] == UINT64_MAX;
    table->slots[at] = key << 24 | rank;
    table->made[at] = made;
    table->filter[bit >> 6] |= (uint64_t)1 << (bit & 63);
}

/* ---- what a character starts as ---------------------------------------------------------------------------------------- */

/* For every token the lowest rank at which it merges with what begins (as the left part) or ends (as the right part) a
 * character, and at all. */
typedef struct {
    uint32_t *before_character, *after_character, *any; /* [count] each */
} gv_edges;

static void gv_edges_read(gv_edges *edges, const gv_bpe *bpe) {
    for (int64_t i = 0; i < bpe->count; i++)
        edges->before_character[i] = edges->after_character[i] = edges->any[i] = GV_BPE_NEVER;
    for (uint64_t at = 0; at <= bpe->pairs.mask; at++) {
        uint64_t entry = bpe->pairs.slots[at];
        if (entry == UINT64_MAX) continue;
        uint32_t rank = (uint32_t)(entry & 0xFFFFFF), left = (uint32_t)(entry >> (24 + GV_BPE_ID_BITS)),
                 right = (uint32_t)(entry >> 24) & ((1u << GV_BPE_ID_BITS) - 1);
        bool begins = (bpe->bytes[bpe->begins[right]] & 0xC0) != 0x80;
        bool ends = bpe->bytes[bpe->begins[left + 1] - 1] < 0xC0;
        if (rank < edges->any[left]) edges->any[left] = rank;
        if (rank < edges->any[right]) edges->any[right] = rank;
        if (begins && rank < edges->before_character[left]) edges->before_character[left] = rank;
        if (ends && rank < edges->after_character[right]) edges->after_character[right] = rank;
    }
}

/* The token that the character's bytes become, -1 unless it may be taken at once (see the head of this file). */
static int32_t gv_start_of(const gv_bpe *bpe, const gv_edges *edges, uint32_t code) {
    uint8_t utf8[4];
    int32_t parts[4];
    int count = gv_utf8(utf8, code);
    for (int i = 0; i < count; i++) {
        parts[i] = bpe->byte_ids[utf8[i]];
        if (parts[i] < 0) return -1;
    }
    uint32_t highest = 0;
    while (count > 1) {
        uint64_t slot = 0, best_slot = 0;
        uint32_t best = GV_BPE_NEVER;
        int place = 0;
        for (int i = 0; i + 1 < count; i++) {
            uint32_t rank = gv_pair_find(&slot, &bpe->pairs, parts[i], parts[i + 1]);
            if (rank < best) {
                best = rank;
                best_slot = slot;
                place = i;
            }
        }
        if (best == GV_BPE_NEVER) return -1;
        if (best > highest) highest = best;
        if (place == 0 && edges->after_character[parts[0]] <= highest) return -1;
        if (place == count - 2 && edges->before_character[parts[count - 1]] <= highest) return -1;
        parts[place] = bpe->pairs.made[best_slot];
        for (int i = place + 1; i + 1 < count; i++) parts[i] = parts[i + 1];
        count--;
    }
    return edges->any[parts[0]] <= highest && highest > 0 ? -1 : parts[0];
}

static gv_status gv_starts_init(gv_bpe *bpe, gv_error *error) {
    uint8_t utf8[4];
    if (bpe->options.characters) {
        for (uint32_t code = 0; code < GV_BPE_PLANE; code++)
            bpe->starts[code] = gv_bpe_token_of(bpe, utf8, gv_utf8(utf8, code));
        bpe->separable = true;
        for (int64_t i = 0; i < bpe->count && bpe->separable; i++) {
            const uint8_t *bytes = bpe->bytes + bpe->begins[i];
            int64_t length = bpe->begins[i + 1] - bpe->begins[i], at = 0;
            while (at + 3 <= length && memcmp(bytes + at, "\xE2\x96\x81", 3) == 0) at += 3;
            for (at++; at + 3 <= length; at++) {
                if (memcmp(bytes + at, "\xE2\x96\x81", 3) == 0) bpe->separable = false;
            }
        }
        return GV_OK;
    }
    size_t size = (size_t)bpe->count * 3 * sizeof(uint32_t);
    uint32_t *memory = gv_alloc(bpe->allocator, size);
    if (memory == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a tokenizer");
    gv_edges edges = {memory, memory + bpe->count, memory + 2 * bpe->count};
    gv_edges_read(&edges, bpe);
    for (uint32_t code = 0; code < GV_BPE_PLANE; code++)
        bpe->starts[code] = gv_uc_is_surrogate(code) ? -1 : gv_start_of(bpe, &edges, code);
    gv_release(bpe->allocator, memory, size);
    return GV_OK;
}

gv_status gv_bpe_set_merges(gv_bpe *bpe, const int32_t *pairs, int64_t count, gv_error *error) {
    gv_status status = GV_OK;
    uint8_t *whole = NULL;
    int64_t longest = 0;
    if (count >= 0xFFFFFF) return gv_fail(error, GV_ERR_VALUE, "%lld merges are too many", (long long)count);
    for (int64_t i = 0; i < bpe->count; i++) {
        if (bpe->begins[i + 1] - bpe->begins[i] > longest) longest = bpe->begins[i + 1] - bpe->begins[i];
    }
    whole = gv_alloc(bpe->allocator, (size_t)longest * 2 + 1);
    if (whole == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for merges");
    GV_TRY(gv_pairs_init(&bpe->pairs, count, bpe->allocator, error));
    for (int64_t i = 0; i < count; i++) {
        int64_t length = 0;
        for (int side = 0; side < 2; side++) {
            int32_t id = pairs[2 * i + side];
            int64_t size = id >= 0 && id < bpe->count ? bpe->begins[id + 1] - bpe->begins[id] : 0;
            if (size == 0) {
                status =
                    gv_fail(error, GV_ERR_VALUE, "merge %lld is of %d, which is no token with a text", (long long)i, (int)id);
                goto done;
            }
            memcpy(whole + length, bpe->bytes + bpe->begins[id], (size_t)size);
            length += size;
        }
        int32_t made = gv_bpe_token_of(bpe, whole, length);
        if (made < 0) {
            status = gv_fail(error, GV_ERR_VALUE, "merge %lld makes a token that is not in the vocabulary", (long long)i);
            goto done;
        }
        gv_pairs_put(&bpe->pairs, pairs[2 * i], pairs[2 * i + 1], (uint32_t)i, made);
    }
    status = gv_starts_init(bpe, error);
done:
    gv_release(bpe->allocator, whole, (size_t)longest * 2 + 1);
    return status;
}

gv_status gv_bpe_set_ranks(gv_bpe *bpe, const int32_t *ranks, gv_error *error) {
    gv_status status = GV_OK;
    int64_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) {
            if (count >= 0xFFFFFF)
                return gv_fail(error, GV_ERR_VALUE, "the ranks give %lld merges: too many", (long long)count);
            status = gv_pairs_init(&bpe->pairs, count, bpe->allocator, error);
            if (status != GV_OK) return status;
        }
        for (int64_t id = 0; id < bpe->count; id++) {
            const uint8_t *data = bpe->bytes + bpe->begins[id];
            int64_t length = bpe->begins[id + 1] - bpe->begins[id];
            if (ranks[id] < 0 || length < 2 || length > 4096) continue; /* nothing real is longer */
            if (ranks[id] >= 0xFFFFFF) return gv_fail(error, GV_ERR_VALUE, "rank %d is too high", (int)ranks[id]);
            for (int64_t cut = 1; cut < length; cut++) {
                if (bpe->options.characters && (data[cut] & 0xC0) == 0x80) continue;
                int32_t left = gv_bpe_token_of(bpe, data, cut), right = gv_bpe_token_of(bpe, data + cut, length - cut);
                if (left < 0 || right < 0) continue;
                if (pass == 0) {
                    count++;
                } else {
                    gv_pairs_put(&bpe->pairs, left, right, (uint32_t)ranks[id], gv_bpe_token_of(bpe, data, length));
                }
            }
        }
    }
    return gv_starts_init(bpe, error);
}
