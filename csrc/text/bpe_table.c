/* bpe_table.c - making a gv_bpe: the vocabulary by bytes, the merges by pairs, and what every character starts as.
 *
 * Merging need not start from bytes. A character may start as the token that its own bytes become alone, when nothing outside can
 * take one of its parts before: let a part at the right edge be used inside the character at rank R (the highest rank so far); if
 * every merge of that part with something that begins a character ranks after R, and likewise at the left edge, and every merge
 * of the whole ranks after its own making, then the order of merges that the definition prescribes can be changed into "inside
 * first" without any merge seeing other neighbours. This is checked for every character when the tokenizer is made. Most
 * characters of trained vocabularies fail it only behind a space (" \xE6" is a token) or before a few others; so what fails at the
 * right is kept as a list of what must not follow, and what fails at the left behind ASCII only as a flag.
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

static void gv_pairs_clear(gv_pair_table *table, const gv_allocator *allocator) {
    gv_release(allocator, table->slots, (table->mask + 1) * sizeof *table->slots);
    gv_release(allocator, table->made, (table->mask + 1) * sizeof *table->made);
    gv_release(allocator, table->filter, (1 << GV_FILTER_BITS) / 8);
    *table = (gv_pair_table){0};
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
    gv_release(allocator, bpe->risk_begins, (GV_BPE_PLANE + 1) * sizeof *bpe->risk_begins);
    gv_release(allocator, bpe->risks, ((size_t)bpe->risk_count + 1) * sizeof *bpe->risks);
    gv_pairs_clear(&bpe->pairs, allocator);
    gv_release(allocator, bpe, sizeof *bpe);
}

/* ---- merges ---------------------------------------------------------------------------------------------------------- */

static gv_status gv_pairs_init(gv_pair_table *table, int64_t count, const gv_allocator *allocator, gv_error *error) {
    if (table->slots != NULL) return gv_fail(error, GV_ERR_STATE, "the merges are set already");
    table->mask = 255;
    table->shift = 56;
    while (table->mask < (uint64_t)count + (uint64_t)count / 2) {
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

/* For every token the lowest rank at which it merges, as the right part, with what ends a character (other than ASCII, or ASCII);
 * and at all; and its merges with what begins a character: followers[begins[id] .. begins[id + 1]). */
typedef struct {
    uint32_t *after_other, *after_ascii, *any; /* [count] each */
    uint32_t *begins;                          /* [count + 1] */
    struct {
        uint32_t rank;
        int32_t right;
    } * followers;
} gv_edges;

static void gv_edges_read(gv_edges *edges, const gv_bpe *bpe) {
    for (int64_t i = 0; i < bpe->count; i++) edges->after_other[i] = edges->after_ascii[i] = edges->any[i] = GV_BPE_NEVER;
    memset(edges->begins, 0, ((size_t)bpe->count + 1) * sizeof *edges->begins);
    for (int pass = 0; pass < 2; pass++) {
        for (uint64_t at = 0; at <= bpe->pairs.mask; at++) {
            uint64_t entry = bpe->pairs.slots[at];
            if (entry == UINT64_MAX) continue;
            uint32_t rank = (uint32_t)(entry & 0xFFFFFF), left = (uint32_t)(entry >> (24 + GV_BPE_ID_BITS)),
                     right = (uint32_t)(entry >> 24) & ((1u << GV_BPE_ID_BITS) - 1);
            uint8_t last = bpe->bytes[bpe->begins[left + 1] - 1];
            bool begins = (bpe->bytes[bpe->begins[right]] & 0xC0) != 0x80;
            if (pass == 1) {
                if (!begins) continue;
                edges->followers[edges->begins[left]].rank = rank;
                edges->followers[edges->begins[left]++].right = (int32_t)right;
                continue;
            }
            if (rank < edges->any[left]) edges->any[left] = rank;
            if (rank < edges->any[right]) edges->any[right] = rank;
            if (last < 0x80 && rank < edges->after_ascii[right]) edges->after_ascii[right] = rank;
            if (last >= 0x80 && last < 0xC0 && rank < edges->after_other[right]) edges->after_other[right] = rank;
            edges->begins[left] += begins;
        }
        uint32_t sum = 0;
        for (int64_t i = 0; pass == 0 && i <= bpe->count; i++) {
            uint32_t count = edges->begins[i];
            edges->begins[i] = sum;
            sum += count;
        }
    }
    for (int64_t i = bpe->count; i > 0; i--) edges->begins[i] = edges->begins[i - 1]; /* they moved on by one list */
    edges->begins[0] = 0;
}

enum { GV_MOST_FOLLOWERS = 24 };

/* What a character starts as (bpe.h), -1 for its bytes. Writes the followers that must not stand behind it to `risks`, *risky of them. */
static int32_t gv_start_of(gv_follower risks[GV_MOST_FOLLOWERS], int *risky, const gv_bpe *bpe, const gv_edges *edges,
                           uint32_t code) {
    uint8_t utf8[4];
    int32_t parts[4], flags = 0;
    int count = gv_utf8(utf8, code);
    *risky = 0;
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
        if (place == 0) {
            if (edges->after_other[parts[0]] <= highest) return -1;
            if (edges->after_ascii[parts[0]] <= highest) flags |= GV_START_NOT_BEHIND_ASCII;
        }
        int32_t last = parts[count - 1];
        for (uint32_t i = edges->begins[last]; place == count - 2 && i < edges->begins[last + 1]; i++) {
            if (edges->followers[i].rank > highest) continue;
            if (*risky == GV_MOST_FOLLOWERS) return -1;
            const uint8_t *bytes = bpe->bytes + bpe->begins[edges->followers[i].right];
            int64_t length = bpe->begins[edges->followers[i].right + 1] - bpe->begins[edges->followers[i].right];
            risks[(*risky)++] = gv_follower_of(bytes, length > 4 ? 4 : (int)length);
        }
        parts[place] = bpe->pairs.made[best_slot];
        for (int i = place + 1; i + 1 < count; i++) parts[i] = parts[i + 1];
        count--;
    }
    if (highest > 0 && edges->any[parts[0]] <= highest) return -1;
    return parts[0] | flags | (*risky > 0 ? GV_START_RISKY : 0);
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
    gv_status status = GV_OK;
    size_t size = ((size_t)bpe->count * 4 + 1 + (size_t)bpe->pairs.count * 2) * sizeof(uint32_t);
    uint32_t *memory = gv_alloc(bpe->allocator, size);
    bpe->risk_begins = gv_alloc_array(bpe->allocator, GV_BPE_PLANE + 1, sizeof *bpe->risk_begins);
    if (memory == NULL || bpe->risk_begins == NULL) {
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory for a tokenizer");
        goto done;
    }
    gv_edges edges = {memory, memory + bpe->count, memory + 2 * bpe->count, memory + 3 * bpe->count,
                      (void *)(memory + 4 * bpe->count + 1)};
    gv_edges_read(&edges, bpe);
    for (int pass = 0; pass < 2; pass++) { /* count the risks, then write them */
        uint32_t total = 0;
        for (uint32_t code = 0; code < GV_BPE_PLANE; code++) {
            gv_follower risks[GV_MOST_FOLLOWERS];
            int risky = 0;
            int32_t start = gv_uc_is_surrogate(code) ? -1 : gv_start_of(risks, &risky, bpe, &edges, code);
            bpe->starts[code] = start;
            bpe->risk_begins[code] = total;
            if (start < 0) continue;
            if (pass == 1 && risky > 0) memcpy(bpe->risks + total, risks, (size_t)risky * sizeof *risks);
            total += (uint32_t)risky;
        }
        bpe->risk_begins[GV_BPE_PLANE] = total;
        if (pass == 1) break;
        bpe->risks = gv_alloc_array(bpe->allocator, (size_t)total + 1, sizeof *bpe->risks);
        if (bpe->risks == NULL) {
            status = gv_fail(error, GV_ERR_MEMORY, "out of memory for a tokenizer");
            goto done;
        }
        bpe->risk_count = total;
    }
done:
    gv_release(bpe->allocator, memory, size);
    return status;
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

/* The last merge that makes token `id` of its own bytes by the merges in the table, all of lower rank: 1 and the pair, or 0 when they
 * leave other than two parts. parts: room for a symbol a byte. */
static int gv_last_merge(int32_t pair[2], int32_t *parts, const gv_bpe *bpe, int64_t id) {
    const uint8_t *data = bpe->bytes + bpe->begins[id];
    int64_t length = bpe->begins[id + 1] - bpe->begins[id], count = 0;
    for (int64_t i = 0, size = 1; i < length; i += size, count++) {
        size = 1;
        while (bpe->options.characters && i + size < length && (data[i + size] & 0xC0) == 0x80) size++;
        parts[count] = gv_bpe_token_of(bpe, data + i, size);
        if (parts[count] < 0) return 0;
    }
    while (count > 2) {
        uint64_t slot = 0, best_slot = 0;
        uint32_t best = GV_BPE_NEVER;
        int64_t place = 0;
        for (int64_t i = 0; i + 1 < count; i++) {
            uint32_t rank = gv_pair_find(&slot, &bpe->pairs, parts[i], parts[i + 1]);
            if (rank < best) {
                best = rank;
                best_slot = slot;
                place = i;
            }
        }
        if (best == GV_BPE_NEVER) return 0;
        parts[place] = bpe->pairs.made[best_slot];
        memmove(parts + place + 1, parts + place + 2, (size_t)(count - place - 2) * sizeof *parts);
        count--;
    }
    pair[0] = parts[0];
    pair[1] = parts[count - 1];
    return count == 2;
}

/* Every pair that makes token `id`; returns how many, and puts them into the table when `put`. */
static int64_t gv_all_merges(gv_bpe *bpe, int64_t id, uint32_t rank, bool put) {
    const uint8_t *data = bpe->bytes + bpe->begins[id];
    int64_t length = bpe->begins[id + 1] - bpe->begins[id], count = 0;
    for (int64_t cut = 1; cut < length; cut++) {
        if (bpe->options.characters && (data[cut] & 0xC0) == 0x80) continue;
        int32_t left = gv_bpe_token_of(bpe, data, cut), right = gv_bpe_token_of(bpe, data + cut, length - cut);
        if (left < 0 || right < 0) continue;
        if (put) gv_pairs_put(&bpe->pairs, left, right, rank, gv_bpe_token_of(bpe, data, length));
        count++;
    }
    return count;
}

enum { GV_RANKED_BYTES = 4096 }; /* no merge makes a longer token */

static bool gv_is_ranked(const gv_bpe *bpe, const int32_t *ranks, int64_t id) {
    int64_t length = bpe->begins[id + 1] - bpe->begins[id];
    return ranks[id] >= 0 && length > 1 && length <= GV_RANKED_BYTES;
}

/* With a rank for every token, a token arises in one way only, whatever stands around it: as its own bytes alone become it, since
 * until then nothing outside has taken a part of it. So one merge a token is enough, found from the lowest rank up; where that
 * does not work out, or ranks are shared, all pairs that make the token are kept. */
gv_status gv_bpe_set_ranks(gv_bpe *bpe, const int32_t *ranks, gv_error *error) {
    gv_status status = GV_OK;
    int64_t highest = 0, all = 0, ranked = 0;
    bool shared = false;
    for (int64_t id = 0; id < bpe->count; id++) {
        if (ranks[id] >= 0xFFFFFF) return gv_fail(error, GV_ERR_VALUE, "rank %d is too high", (int)ranks[id]);
        if (ranks[id] > highest) highest = ranks[id];
    }
    size_t size = ((size_t)highest + 1 + GV_RANKED_BYTES) * sizeof(int32_t);
    int32_t *order = gv_alloc(bpe->allocator, size), *parts = order + highest + 1;
    if (order == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for ranks");
    for (int64_t i = 0; i <= highest; i++) order[i] = -1;
    for (int64_t id = 0; id < bpe->count; id++) {
        if (!gv_is_ranked(bpe, ranks, id)) continue;
        shared = shared || order[ranks[id]] >= 0;
        order[ranks[id]] = (int32_t)id;
        all += gv_all_merges(bpe, id, 0, false);
        ranked++;
    }
    if (all >= 0xFFFFFF) {
        status = gv_fail(error, GV_ERR_VALUE, "the ranks give %lld merges: too many", (long long)all);
        goto done;
    }
    GV_TRY(gv_pairs_init(&bpe->pairs, shared ? all : ranked + all / 16 + 2 * GV_RANKED_BYTES, bpe->allocator, error));
    for (int64_t rank = 0; !shared && rank <= highest; rank++) {
        int32_t pair[2], id = order[rank];
        if (id < 0) continue;
        if (bpe->pairs.count + GV_RANKED_BYTES >
            (int64_t)bpe->pairs.mask) { /* most do not work out: no training gave these ranks */
            shared = true;
            gv_pairs_clear(&bpe->pairs, bpe->allocator);
            GV_TRY(gv_pairs_init(&bpe->pairs, all, bpe->allocator, error));
        } else if (gv_last_merge(pair, parts, bpe, id)) {
            int64_t begin = bpe->begins[id];
            int32_t made = gv_bpe_token_of(bpe, bpe->bytes + begin, bpe->begins[id + 1] - begin);
            gv_pairs_put(&bpe->pairs, pair[0], pair[1], (uint32_t)rank, made);
        } else {
            (void)gv_all_merges(bpe, id, (uint32_t)rank, true);
        }
    }
    for (int64_t id = 0; shared && id < bpe->count; id++) {
        if (gv_is_ranked(bpe, ranks, id)) (void)gv_all_merges(bpe, id, (uint32_t)ranks[id], true);
    }
    status = gv_starts_init(bpe, error);
done:
    gv_release(bpe->allocator, order, size);
    return status;
}
