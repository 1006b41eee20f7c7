/* dense.c - inner products of a few queries with many vectors in 8 bits: the quantised product of a linear layer. */
#include "govlm_search.h"
#include "kernels/gemm.h"

gv_status gv_dense_scores(float *scores, const gv_dense_rows *rows, const float *vectors, int64_t queries, gv_error *error) {
    const gv_quantised packed = {.panels = rows->panels,
                                 .sums = rows->sums,
                                 .scale = rows->scales,
                                 .n = rows->n,
                                 .k = rows->k,
                                 .group = rows->group,
                                 .levels = rows->levels};
    const gv_weight weight = {.n = rows->n, .k = rows->k, .stride = rows->k, .quantised = &packed};
    if (rows->n == 0 || queries == 0) return GV_OK;
    return gv_quantised_forward(&scores, &rows->n, NULL, &weight, 1, vectors, rows->k, queries, GV_ACT_NONE, error);
}
