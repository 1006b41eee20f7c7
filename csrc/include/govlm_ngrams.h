/* govlm_ngrams.h - the part of the C API about hashed character n-grams and linear machines over them. */
#ifndef GOVLM_NGRAMS_H
#define GOVLM_NGRAMS_H

#include "govlm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of sparse features, CSR: row r holds indices and values [splits[r], splits[r + 1]). */
typedef struct {
    int64_t rows;
    const int64_t *splits;  /* [rows + 1] */
    const int32_t *indices; /* ascending within a row, no index twice */
    const float *values;
} gv_sparse;

/* The same, growing. Zero it and set `allocator`; free with gv_sparse_buffer_clear. */
typedef struct {
    const gv_allocator *allocator;
    int64_t *splits;
    int32_t *indices;
    float *values;
    int64_t rows, count, row_capacity, capacity;
} gv_sparse_buffer;
void gv_sparse_buffer_clear(gv_sparse_buffer *buffer);

/* Character n-grams of `shortest`..`longest` code points (1..8), hashed into 2^bits buckets (bits 8..30). */
typedef struct {
    int shortest, longest, bits;
} gv_ngram_options;
/* Appends a row a text: how often each bucket occurs. The text is cleaned, lower-cased, freed of accents, full-width forms
 * folded, runs of white space become one space; its begin and its end count as characters. A lone surrogate is refused. */
gv_status gv_ngrams_count(gv_sparse_buffer *out, const gv_ngram_options *options, const gv_text *texts, int64_t count,
                          gv_error *error);

/* Counts to weights of the features that a model knows: buckets [features] ascending, idf [features]. Each value becomes
 * (1 + ln count) * idf, each row is scaled to length 1. out_splits [rows + 1], out_indices (feature numbers) and out_values
 * have room for as many entries as `counts` has. */
gv_status gv_ngrams_weigh(int64_t *out_splits, int32_t *out_indices, float *out_values, const gv_sparse *counts,
                          const int32_t *buckets, const float *idf, int64_t features, gv_error *error);

/* One linear classifier a label on weighed rows, squared hinge loss and L2, fitted in the dual: see nn/sparse_linear.c.
 * weights [features, labels], bias [labels]; targets [rows, labels] are 1 or -1; costs [rows] or NULL = 1. */
typedef struct {
    double c;         /* what an error costs against the length of the weights */
    double tolerance; /* on the projected gradient; smaller = closer to the optimum */
    int32_t most;     /* passes over the rows */
    uint32_t seed;
} gv_svm_options;
gv_status gv_sparse_svm(float *weights, float *bias, const gv_sparse *data, const int8_t *targets, const float *costs,
                        int64_t features, int64_t labels, const gv_svm_options *options, const gv_allocator *allocator,
                        gv_error *error);

/* out [rows, labels] = factor * (bias + sum over the row's features of value * scales[feature] * weights[feature, :]), with
 * weights in 8 bits. */
gv_status gv_sparse_logits(float *out, const gv_sparse *data, const int8_t *weights, const float *scales, const float *bias,
                           float factor, int64_t features, int64_t labels, gv_error *error);

#ifdef __cplusplus
}
#endif
#endif
