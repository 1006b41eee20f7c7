/* govlm_search.h - the part of the C API that searches: a scan over dense vectors in 8 bits, and how well names fit a query. */
#ifndef GOVLM_SEARCH_H
#define GOVLM_SEARCH_H

#include "govlm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* n vectors of k floats in 8 bits, packed as kernels/kernels.h lays down for gv_quantised (govlm/quantised.py packs). */
typedef struct {
    const int8_t *panels;
    const int16_t *sums;
    const float *scales;
    int64_t n, k, group;
    int levels;
} gv_dense_rows;
/* scores [queries, n] = the inner products of queries [queries, k] with every vector. */
gv_status gv_dense_scores(float *scores, const gv_dense_rows *rows, const float *vectors, int64_t queries, gv_error *error);

/* Names as symbols: name i holds symbols[splits[i], splits[i + 1]), each in 0..alphabet - 1. Symbol 0 is a break: what stands
 * beside it makes no pair, and it counts for nothing. Two symbols in a row fall into one of 2^pair_bits buckets. */
enum { GV_NAME_FEATURES = 6, GV_NAME_LONGEST = 256 };
typedef struct {
    int64_t count, alphabet;
    const int64_t *splits; /* [count + 1] */
    const int32_t *symbols;
    const float *weight;      /* [alphabet]: how telling a symbol is */
    const float *pair_weight; /* [2^pair_bits] */
    int pair_bits;            /* 8..16 */
} gv_names;
/* The bucket of each pair (symbols[i], symbols[i + 1]) into out [count - 1]; -1 beside a break. */
gv_status gv_name_pairs(int32_t *out, const int32_t *symbols, int64_t count, int pair_bits, gv_error *error);
/* features [chosen, GV_NAME_FEATURES] of the names numbered in `which` (NULL = all, `chosen` of them). With q the query's and
 * n the name's symbols, w(x) the sum of the weights of a bag, & the bag that both have:
 *   w(q & n) / w(q), w(q & n) / w(n), the same two of pairs, lcs / |q|, lcs / |n|
 * where lcs is the length of the longest common subsequence. A query has at most GV_NAME_LONGEST symbols; one that is in no
 * name is `alphabet` or more, and has the weight `strange`. */
gv_status gv_name_features(float *features, const gv_names *names, const int32_t *query, int64_t length, float strange,
                           const int32_t *which, int64_t chosen, const gv_allocator *allocator, gv_error *error);

#ifdef __cplusplus
}
#endif
#endif
