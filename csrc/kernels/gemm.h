/* gemm.h - matrix products over the thread pool. gemm.c is the only file that includes dnnl.h.
 *
 * All matrices are row-major float32; strides in floats. Tiles are cut by shape alone: the same bits for any number of
 * threads. Calls may come from several threads at once.
 */
#ifndef GV_KERNELS_GEMM_H
#define GV_KERNELS_GEMM_H

#include "kernels/kernels.h"

/* Where a layer's inputs are copied to while a model is studied (quantisation): the first `most` rows of k floats. One forward
 * at a time may do so. */
typedef struct {
    float *rows;
    int64_t most, count;
} gv_capture;

/* One weight of a linear layer: w is [n, k] (`transposed` false, torch's Linear: out x in) or [k, n] (`transposed` true,
 * GPT-2's Conv1D: in x out); rows are `stride` floats apart (a slice of a fused matrix has a larger one). */
typedef struct {
    const float *w;
    const float *bias; /* [n] or NULL */
    int64_t n, k, stride;
    bool transposed;
    const gv_quantised *quantised; /* NULL = float32; else `w` is NULL, and there is no gradient of it */
    gv_capture *capture;           /* NULL = not studied */
    /* Of a quantised weight: gv_unpack_floats(k) of scratch, for products in float32 with what it stands for, a part at a time.
     * NULL = inputs are rounded as it is, and only the forward exists. */
    float *unpack;
} gv_weight;

enum { GV_LINEAR_GROUP = 4 };

/* y_i[m, n_i] = x[m, k] w_i^T + bias_i for `count` <= GV_LINEAR_GROUP weights that share x (query, key, value; gate, up),
 * in one parallel region. y_stride[i] in floats. activation is applied to every y_i after the bias; when
 * `before[i]` is not NULL it receives the value before the activation, same stride. */
gv_status gv_linear_forward(float *const y[], const int64_t y_stride[], float *const before[], const gv_weight weights[],
                            int count, const float *x, int64_t x_stride, int64_t m, gv_activation activation, gv_error *error);

/* dx[m, k] = (accumulate ? dx : 0) + sum_i dy_i[m, n_i] w_i */
gv_status gv_linear_backward_input(float *dx, int64_t dx_stride, const float *const dy[], const int64_t dy_stride[],
                                   const gv_weight weights[], int count, int64_t m, bool accumulate, gv_error *error);

/* dw_i = (accumulate[i] ? dw_i : 0) + dy_i^T x, laid out as w_i; dbias_i[n_i] likewise (NULL = no bias gradient).
 * dw[i] NULL skips that weight (frozen). */
gv_status gv_linear_backward_weight(float *const dw[], float *const dbias[], const bool accumulate[], const gv_weight weights[],
                                    int count, const float *const dy[], const int64_t dy_stride[], const float *x,
                                    int64_t x_stride, int64_t m, gv_error *error);

/* The same for weights that are all quantised; quantised.c. gv_linear_forward calls it. */
gv_status gv_quantised_forward(float *const y[], const int64_t y_stride[], float *const before[], const gv_weight weights[],
                               int count, const float *x, int64_t x_stride, int64_t m, gv_activation activation,
                               gv_error *error);

/* The same in float32 for quantised weights with `unpack`; unpacked.c. gv_linear_forward and gv_linear_backward_input call them. */
int64_t gv_unpack_floats(int64_t k);
gv_status gv_unpacked_forward(float *const y[], const int64_t y_stride[], float *const before[], const gv_weight weights[],
                              int count, const float *x, int64_t x_stride, int64_t m, gv_activation activation,
                              gv_error *error);
gv_status gv_unpacked_backward_input(float *dx, int64_t dx_stride, const float *const dy[], const int64_t dy_stride[],
                                     const gv_weight weights[], int count, int64_t m, bool accumulate, gv_error *error);

/* What `govlm info` prints about matmul: "forward: dnnl_sgemm 3.2.0 (avx2) for m >= 65, own (avx2) below; ...". */
const char *gv_gemm_description(void);

#endif
