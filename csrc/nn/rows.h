/* rows.h - row-wise layers over the pool: residual + norm, dropout, activation, gather and scatter.
 * Arrays are contiguous [rows, cols] float32. Row tiles are cut by shape, columns of parameter gradients likewise. */
#ifndef GV_NN_ROWS_H
#define GV_NN_ROWS_H

#include "kernels/kernels.h"

typedef struct {
    const float *gamma, *beta; /* beta NULL = none */
    float eps;
    bool rms;
} gv_norm;

/* Which random numbers a row uses: see gv_dropout. Off when dropout.p is 0. */
typedef struct {
    gv_dropout dropout;
    const uint32_t *sample;  /* [rows] */
    const int32_t *position; /* [rows] */
} gv_row_dropout;

/* sum = dropout(a) + residual (residual NULL = 0); y = norm(sum) when norm is not NULL. sum may be a, or NULL when only y is wanted. */
gv_status gv_residual_norm(float *sum, float *y, const float *a, const float *residual, const gv_norm *norm,
                           const gv_row_dropout *dropout, int64_t rows, int64_t cols);
gv_status gv_norm_forward(float *y, const float *x, const gv_norm *norm, int64_t rows, int64_t cols);
/* dx = d norm(x); the statistics are computed again from x. dx may be dy. dgamma, dbeta are added to (NULL = not wanted).
 * stats: 2 * rows floats of scratch. */
gv_status gv_norm_backward(float *dx, float *dgamma, float *dbeta, const float *dy, const float *x, const gv_norm *norm,
                           int64_t rows, int64_t cols, float *stats);
gv_status gv_dropout_rows(float *y, const float *x, const gv_row_dropout *dropout, int64_t rows, int64_t cols);
gv_status gv_add_rows(float *y, const float *x, int64_t rows, int64_t cols); /* y += x */
/* y = dropout(act(up)) or dropout(act(gate) * up) when gate is not NULL. */
gv_status gv_activate_rows(float *y, const float *gate, const float *up, gv_activation kind, const gv_row_dropout *dropout,
                           int64_t rows, int64_t cols);
/* dy comes in as the gradient at y and leaves as the gradient at up; dgate likewise when gated. */
gv_status gv_activate_rows_backward(float *dy, float *dgate, const float *gate, const float *up, gv_activation kind,
                                    const gv_row_dropout *dropout, int64_t rows, int64_t cols);
/* y[r] = x[index[r]] */
void gv_gather_rows(float *y, const float *x, const int32_t *index, int64_t rows, int64_t cols);
/* y[index[r]] += x[r]; indices differ from each other */
void gv_scatter_rows(float *y, const float *x, const int32_t *index, int64_t rows, int64_t cols);

#endif
