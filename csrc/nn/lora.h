/* lora.h - what a low-rank adapter adds to a linear layer: y += scale * (x' A^T) B^T, x' = dropout(x) (Hu et al.,
 * arXiv:2106.09685). */
#ifndef GV_NN_LORA_H
#define GV_NN_LORA_H

#include "nn/rows.h"

typedef struct {
    const float *a, *b; /* A [rank, k]; B [n, rank]: of a fused matrix's slice, the slice's rows of B */
    int64_t rank, n, k;
    float scale;
    gv_row_dropout dropout; /* of the rows of x; off when p is 0 */
} gv_lora;

/* Floats of scratch that both calls need for m rows, when the pool is `width` wide (asked once per pass). */
int64_t gv_lora_scratch(const gv_lora *lora, int64_t m, int width);

/* Adds to y [m, n], row stride y_stride. x [m, k]. */
gv_status gv_lora_forward(float *y, int64_t y_stride, const gv_lora *lora, const float *x, int64_t m, float *scratch);
/* Adds to dx [m, k], da [rank, k] and db [n, rank]; NULL = not wanted. dy [m, n], row stride dy_stride. */
gv_status gv_lora_backward(float *dx, float *da, float *db, const gv_lora *lora, const float *dy, int64_t dy_stride,
                           const float *x, int64_t m, float *scratch);

#endif
