/* tables.h - what the kernel files share with each other and with nobody else. */
#ifndef GV_KERNELS_TABLES_H
#define GV_KERNELS_TABLES_H

#include <math.h>

#include "kernels/kernels.h"

extern const gv_kernels gv_kernels_scalar;
#if defined(__x86_64__)
extern const gv_kernels gv_kernels_avx2, gv_kernels_avx512;
/* product_quantised for a CPU that has AVX-512 VNNI; vnni.c. */
void gv_vnni_product(float *y, int64_t y_stride, const gv_quantised_rows *x, int64_t rows, const gv_quantised *w, int64_t first,
                     int64_t cols, const float *bias);
void gv_vnni_product_blocks(float *y, int64_t y_stride, const gv_block_rows *x, int64_t rows, const gv_quantised *w,
                            int64_t first, int64_t cols, const float *bias);
#endif

int64_t gv_attention_scratch_scalar(int64_t query_rows, int64_t key_rows, int64_t head_dim);
void gv_attention_scalar(float *out, int64_t out_stride, float *lse, float *probs, const gv_attention_head *head,
                         float *scratch);
void gv_attention_backward_scalar(float *dquery, float *dkey, float *dvalue, float *dbias, const float *dout, const float *out,
                                  int64_t out_stride, const float *lse, const float *dprobs, const gv_attention_head *head,
                                  float *scratch);

void gv_block_rows_scalar(const gv_block_rows *out, const float *x, int64_t x_stride, int64_t rows, int64_t k);
void gv_product_blocks_scalar(float *y, int64_t y_stride, const gv_block_rows *x, int64_t rows, const gv_quantised *w,
                              int64_t first, int64_t cols, const float *bias);
void gv_blocks_row_scalar(float *y, float factor, const gv_quantised *w, int64_t row, bool add);
void gv_pack_rows_scalar(float *out, const float *x, int64_t x_stride, int64_t rows, int64_t k, int64_t height);
void gv_product_floats_scalar(float *y, int64_t y_stride, const float *x, int64_t rows, int64_t height, const gv_quantised *w,
                              int64_t first, int64_t cols, const float *bias);

/* Scale of a block of activations from its largest absolute value; returns what to multiply by. Below the smallest normal
 * number a block counts as zero. */
static inline float gv_block_step(float *scale, float top) {
    float step = top / 127.0f;
    *scale = step >= 1.17549435e-38f ? step : 0.0f;
    return *scale > 0.0f ? 127.0f / top : 0.0f;
}

void gv_attention_pages_scalar(const gv_paged_attention *attention, float *scratch);

/* A word at or above it is kept. */
static inline uint32_t gv_dropout_threshold(float p) {
    double words = (double)p * 4294967296.0 + 0.5;
    return words >= 4294967295.0 ? UINT32_MAX : (uint32_t)words;
}

/* What one AdamW step multiplies with, computed once in double. */
typedef struct {
    float decay, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_root, eps, grad_scale;
} gv_adamw_factors;

static inline gv_adamw_factors gv_adamw_prepare(const gv_adamw *hyper) {
    double step = (double)hyper->step;
    gv_adamw_factors f;
    f.decay = (float)(1.0 - hyper->lr * hyper->weight_decay);
    f.one_minus_beta1 = (float)(1.0 - hyper->beta1);
    f.beta2 = (float)hyper->beta2;
    f.one_minus_beta2 = (float)(1.0 - hyper->beta2);
    f.step_size = (float)(hyper->lr / (1.0 - pow(hyper->beta1, step)));
    f.inverse_root = (float)(1.0 / sqrt(1.0 - pow(hyper->beta2, step)));
    f.eps = (float)hyper->eps;
    f.grad_scale = hyper->grad_scale;
    return f;
}

#endif
