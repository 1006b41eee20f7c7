/* attention.h - attention over a packed batch: one tile per sequence and head, no padding. */
#ifndef GV_NN_ATTENTION_H
#define GV_NN_ATTENTION_H

#include "kernels/kernels.h"

/* query: [Tq, heads * head_dim]; key, value: [Tk, kv_heads * head_dim]; several query heads may share a kv head (Ainslie et
 * al., arXiv:2305.13245). */
typedef struct {
    int64_t sequences, heads, kv_heads, head_dim;
    const int64_t *query_splits, *key_splits;     /* [B+1] */
    const int64_t *key_counts;                    /* [B] or NULL = all */
    const int32_t *query_position, *key_position; /* [Tq], [Tk] */
    const uint32_t *samples;                      /* [B] */
    float scale;
    bool causal;
    gv_dropout dropout; /* site: bits 20.. are the head's, set here */
    /* Relative position buckets (Raffel et al., arXiv:1910.10683), table [buckets, heads]; NULL = none. */
    const float *relative_table;
    const int32_t *relative_bucket; /* [2 * max_distance + 1], by distance key - query + max_distance */
    int64_t relative_buckets, relative_max_distance;
} gv_attention_batch;

void gv_relative_buckets(int32_t *out, int64_t buckets, int64_t max_distance, bool bidirectional);

/* Floats of scratch for both calls when the pool is `width` wide (gv_parallel_width, asked once per pass). */
int64_t gv_attention_scratch(const gv_attention_batch *batch, int width);

/* out: [Tq, heads * head_dim]. lse: [heads, Tq] or NULL. probs: NULL, or per sequence [heads, q, k] at probs_offset[b]. */
gv_status gv_attention_forward(float *out, float *lse, float *probs, const int64_t *probs_offset, const float *query,
                               const float *key, const float *value, const gv_attention_batch *batch, float *scratch);
/* dquery, dkey, dvalue are written. dtable ([buckets, heads]) is added to, NULL = not wanted. dprobs: NULL, or [B] pointers to
 * [heads, q, k] (NULL entries = none). */
gv_status gv_attention_backward(float *dquery, float *dkey, float *dvalue, float *dtable, const float *dout, const float *out,
                                const float *lse, const float *const *dprobs, const float *query, const float *key,
                                const float *value, const gv_attention_batch *batch, float *scratch);

#endif
