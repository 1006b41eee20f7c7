/* match.c - how well names fit a query: what the two share, how telling that is, and in which order it stands.
 *
 * People shorten names (环评 for 环境影响评价) and leave the order: the longest common subsequence sees that, where pairs of
 * characters do not. It is found 64 symbols of the query at a time (Hyyrö, 2004: V' = (V + (V & M)) | (V & ~M)).
 */
#include <string.h>

#include "base/memory.h"
#include "govlm_search.h"

enum { GV_WORDS = GV_NAME_LONGEST / 64 };

static inline uint32_t gv_pair_bucket(int32_t first, int32_t second, int bits) {
    return ((uint32_t)first * 0x9E3779B1u + (uint32_t)second * 0x85EBCA77u) >> (32 - bits);
}

static gv_status gv_check_bits(int bits, gv_error *error) {
    if (bits >= 8 && bits <= 16) return GV_OK;
    return gv_fail(error, GV_ERR_VALUE, "pair_bits must be from 8 to 16, not %d", bits);
}

gv_status gv_name_pairs(int32_t *out, const int32_t *symbols, int64_t count, int pair_bits, gv_error *error) {
    gv_status status = gv_check_bits(pair_bits, error);
    if (status != GV_OK) return status;
    for (int64_t i = 0; i + 1 < count; i++) {
        bool pair = symbols[i] != 0 && symbols[i + 1] != 0;
        out[i] = pair ? (int32_t)gv_pair_bucket(symbols[i], symbols[i + 1], pair_bits) : -1;
    }
    return GV_OK;
}

/* A query made ready. Symbols that it has are numbered 1.. in `slot`; the rest of the alphabet is 0. */
typedef struct {
    uint16_t *slot;                    /* [alphabet] */
    uint16_t *pairs, *pairs_left;      /* [2^pair_bits]: how often, and how many of them the name has not met yet */
    uint16_t has[GV_NAME_LONGEST + 1]; /* the same of symbols */
    uint16_t left[GV_NAME_LONGEST + 1];
    uint64_t mask[GV_NAME_LONGEST + 1][GV_WORDS]; /* where the query has it */
    int64_t length;                               /* without breaks */
    int words;
    float weight, pair_weight;
} gv_query;

static void gv_query_read(gv_query *q, const gv_names *names, const int32_t *query, int64_t length, float strange) {
    uint16_t slots = 0;
    for (int64_t i = 0; i < length; i++) {
        int32_t symbol = query[i];
        if (symbol == 0) continue;
        bool known = symbol < names->alphabet;
        q->weight += known ? names->weight[symbol] : strange;
        if (known) {
            if (q->slot[symbol] == 0) q->slot[symbol] = ++slots;
            uint16_t slot = q->slot[symbol];
            q->has[slot]++;
            q->left[slot]++;
            q->mask[slot][q->length / 64] |= (uint64_t)1 << (q->length % 64);
        }
        q->length++;
        if (i + 1 < length && query[i + 1] != 0) {
            uint32_t bucket = gv_pair_bucket(symbol, query[i + 1], names->pair_bits);
            q->pair_weight += names->pair_weight[bucket];
            q->pairs[bucket]++;
            q->pairs_left[bucket]++;
        }
    }
    q->words = (int)((q->length + 63) / 64);
}

static void gv_name_row(float *out, gv_query *q, const gv_names *names, int64_t name) {
    const int32_t *symbols = names->symbols + names->splits[name];
    int64_t length = names->splits[name + 1] - names->splits[name], count = 0;
    float weight = 0.0f, pair_weight = 0.0f, common = 0.0f, common_pairs = 0.0f;
    uint64_t state[GV_WORDS];
    for (int w = 0; w < GV_WORDS; w++) state[w] = ~(uint64_t)0;
    for (int64_t i = 0; i < length; i++) {
        int32_t symbol = symbols[i];
        if (symbol == 0) continue;
        count++;
        weight += names->weight[symbol];
        uint16_t slot = q->slot[symbol];
        if (slot != 0) {
            if (q->left[slot] > 0) {
                q->left[slot]--;
                common += names->weight[symbol];
            }
            uint64_t carry = 0;
            for (int w = 0; w < q->words; w++) {
                uint64_t hit = state[w] & q->mask[slot][w], sum = state[w] + hit, carried = sum + carry;
                carry = (uint64_t)(sum < hit) | (uint64_t)(carried < sum);
                state[w] = carried | (state[w] & ~q->mask[slot][w]);
            }
        }
        if (i + 1 < length && symbols[i + 1] != 0) {
            uint32_t bucket = gv_pair_bucket(symbol, symbols[i + 1], names->pair_bits);
            pair_weight += names->pair_weight[bucket];
            if (q->pairs_left[bucket] > 0) {
                q->pairs_left[bucket]--;
                common_pairs += names->pair_weight[bucket];
            }
        }
    }
    int64_t subsequence = 0;
    for (int w = 0; w < q->words; w++) {
        int64_t bits = q->length - 64 * (int64_t)w;
        uint64_t inside = bits >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << bits) - 1;
        subsequence += __builtin_popcountll(~state[w] & inside);
    }
    for (int64_t i = 0; i < length; i++) { /* the query's bags as they were */
        q->left[q->slot[symbols[i]]] = q->has[q->slot[symbols[i]]];
        if (i + 1 < length && symbols[i] != 0 && symbols[i + 1] != 0) {
            uint32_t bucket = gv_pair_bucket(symbols[i], symbols[i + 1], names->pair_bits);
            q->pairs_left[bucket] = q->pairs[bucket];
        }
    }
    out[0] = q->weight > 0.0f ? common / q->weight : 0.0f;
    out[1] = weight > 0.0f ? common / weight : 0.0f;
    out[2] = q->pair_weight > 0.0f ? common_pairs / q->pair_weight : 0.0f;
    out[3] = pair_weight > 0.0f ? common_pairs / pair_weight : 0.0f;
    out[4] = q->length > 0 ? (float)subsequence / (float)q->length : 0.0f;
    out[5] = count > 0 ? (float)subsequence / (float)count : 0.0f;
}

gv_status gv_name_features(float *features, const gv_names *names, const int32_t *query, int64_t length, float strange,
                           const int32_t *which, int64_t chosen, const gv_allocator *allocator, gv_error *error) {
    gv_status status = gv_check_bits(names->pair_bits, error);
    if (status != GV_OK) return status;
    if (length > GV_NAME_LONGEST) {
        return gv_fail(error, GV_ERR_VALUE, "a query of %lld symbols; at most %d are compared", (long long)length,
                       GV_NAME_LONGEST);
    }
    for (int64_t i = 0; i < length; i++) {
        if (query[i] < 0) return gv_fail(error, GV_ERR_INDEX, "symbol %lld of the query is negative", (long long)i);
    }
    for (int64_t i = 0; i < chosen; i++) {
        int64_t name = which != NULL ? which[i] : i;
        if (name < 0 || name >= names->count) {
            return gv_fail(error, GV_ERR_INDEX, "name %lld is not among %lld", (long long)name, (long long)names->count);
        }
    }
    size_t slots = (size_t)names->alphabet * sizeof(uint16_t), pairs = ((size_t)1 << names->pair_bits) * sizeof(uint16_t);
    size_t size = sizeof(gv_query) + slots + 2 * pairs;
    char *memory = gv_alloc(allocator, size);
    if (memory == NULL) return gv_fail(error, GV_ERR_MEMORY, "no memory for a query of %zu bytes", size);
    memset(memory, 0, size);
    gv_query *q = (gv_query *)(void *)memory;
    q->pairs = (uint16_t *)(void *)(memory + sizeof *q);
    q->pairs_left = (uint16_t *)(void *)(memory + sizeof *q + pairs);
    q->slot = (uint16_t *)(void *)(memory + sizeof *q + 2 * pairs);
    gv_query_read(q, names, query, length, strange);
    for (int64_t i = 0; i < chosen; i++) {
        gv_name_row(features + i * GV_NAME_FEATURES, q, names, which != NULL ? which[i] : i);
    }
    gv_release(allocator, memory, size);
    return GV_OK;
}
