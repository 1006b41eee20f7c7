/* simd_all.h - the bodies in order and the table they fill; included by avx2.c and avx512.c. */
GV_INLINE void gv_prefetch(const float *p) {
    __builtin_prefetch(p, 0, 3);
}

/* to[j][i] = from[i][j] for 8 x 8 floats; on 8 lanes for every instruction set */
static void gv_transpose8(float *to, int64_t to_stride, const float *from, int64_t from_stride) {
    __m256 r[8], t[8];
    GV_UNROLL for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(from + i * from_stride);
    GV_UNROLL for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    GV_UNROLL for (int i = 0; i < 2; i++) {
        r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
        r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
    }
    /* In order: with to_stride < 8 each row overwrites what the one before has written too much. */
    GV_UNROLL for (int i = 0; i < 4; i++) _mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    GV_UNROLL for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + (i + 4) * to_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

#include "kernels/simd_blocks.h"
#include "kernels/simd_math.h"
#include "kernels/simd_rows.h"
/* after these */
#include "kernels/simd_product.h"
#include "kernels/simd_quantised.h"
/* after both */
#include "kernels/simd_attention.h"
#include "kernels/simd_floats.h"
#include "kernels/simd_pages.h"

const gv_kernels GV_ISA_TABLE = {
    .isa = GV_ISA_WORD,
    .add = simd_add,
    .axpy = simd_axpy,
    .scale = simd_scale,
    .activation = simd_activation,
    .activation_backward = simd_activation_backward,
    .gated = simd_gated,
    .gated_backward = simd_gated_backward,
    .sum_squares = simd_sum_squares,
    .all_finite = simd_all_finite,
    .bias_add = simd_bias_add,
    .column_sum = simd_column_sum,
    .dropout = simd_dropout,
    .layer_norm = simd_layer_norm,
    .layer_norm_backward = simd_layer_norm_backward,
    .norm_param_backward = simd_norm_param_backward,
    .rms_norm = simd_rms_norm,
    .rms_norm_backward = simd_rms_norm_backward,
    .rotary = simd_rotary,
    .attention_scratch = simd_attention_scratch,
    .attention = simd_attention,
    .attention_backward = simd_attention_backward,
    .attention_pages = simd_attention_pages,
    .softmax = simd_softmax,
    .cross_entropy = simd_cross_entropy,
    .adamw = simd_adamw,
    .product_nt = simd_product_nt,
    .product_nn = simd_product_nn,
    .quantise_rows = simd_quantise_rows,
    .product_quantised = GV_PRODUCT_QUANTISED,
    .quantised_row = simd_quantised_row,
    .block_rows = simd_block_rows,
    .product_blocks = GV_PRODUCT_BLOCKS,
    .blocks_row = simd_blocks_row,
    .most_rows = GV_FLOATS_ROWS,
    .pack_rows = simd_pack_rows,
    .product_floats = simd_product_floats,
};
