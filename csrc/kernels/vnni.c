/* vnni.c - the quantised product on 16 lanes with VPDPBUSD, which widens to 32 bits at once: the same integers as
 * simd_quantised.h, and the same floats, on the same panels. */
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "kernels/tables.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,prefer-vector-width=512")
#endif

#define GV_UNROLL _Pragma("GCC unroll 16")
#define GV_INLINE static inline __attribute__((always_inline))

enum { GV_V_ROWS = 8 };

/* y[r][0..width) for constant rows: one panel. ahead: the next panel, `lines` (0..2) of every 128 bytes. */
GV_INLINE void gv_v_block(int rows, int lines, float *y, int64_t y_stride, const gv_quantised_rows *x, int64_t row,
                          const gv_quantised *w, int64_t panel, const char *ahead, __mmask16 lanes, const float *bias) {
    const int64_t depth = gv_quantised_depth(w->k), groups = gv_quantised_groups(w->k, w->group);
    const int8_t *weights = w->panels + panel * depth * GV_PANEL;
    const int16_t *sums = w->sums + panel * groups * GV_PANEL;
    const uint8_t *q = x->q + row * depth;
    const float *scale = x->scale + row * groups, *low = x->low + row * groups;
    __m512 total[GV_V_ROWS];
    GV_UNROLL for (int r = 0; r < rows; r++) total[r] = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g++) {
        int64_t end = (g + 1) * w->group < depth ? (g + 1) * w->group : depth;
        __m512i sum[GV_V_ROWS];
        GV_UNROLL for (int r = 0; r < rows; r++) sum[r] = _mm512_setzero_si512();
        for (int64_t p = g * w->group; p < end; p += 8) {
            __m512i w0 = _mm512_loadu_si512(weights + p * GV_PANEL), w1 = _mm512_loadu_si512(weights + p * GV_PANEL + 64);
            if (lines > 0) __builtin_prefetch(ahead + p * GV_PANEL, 0, 3);
            if (lines > 1) __builtin_prefetch(ahead + p * GV_PANEL + 64, 0, 3);
            GV_UNROLL for (int r = 0; r < rows; r++) {
                int32_t a, b;
                memcpy(&a, q + r * depth + p, sizeof a);
                memcpy(&b, q + r * depth + p + 4, sizeof b);
                sum[r] = _mm512_dpbusd_epi32(sum[r], _mm512_set1_epi32(a), w0);
                sum[r] = _mm512_dpbusd_epi32(sum[r], _mm512_set1_epi32(b), w1);
            }
        }
        __m256i short_sums = _mm256_loadu_si256((const __m256i *)(const void *)(sums + g * GV_PANEL));
        __m512 weight_sum = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(short_sums));
        GV_UNROLL for (int r = 0; r < rows; r++) {
            total[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r]), _mm512_set1_ps(scale[r * groups + g]), total[r]);
            total[r] = _mm512_fmadd_ps(weight_sum, _mm512_set1_ps(low[r * groups + g]), total[r]);
        }
    }
    __m512 times = _mm512_loadu_ps(w->scale + panel * GV_PANEL);
    __m512 add = bias != NULL ? _mm512_maskz_loadu_ps(lanes, bias) : _mm512_setzero_ps();
    GV_UNROLL for (int r = 0; r < rows; r++) {
        _mm512_mask_storeu_ps(y + r * y_stride, lanes, _mm512_fmadd_ps(total[r], times, add));
    }
}

#define GV_V_CASE(R)                                                         \
    case R * 3:                                                              \
        gv_v_block(R, 0, y, y_stride, x, row, w, panel, ahead, lanes, bias); \
        break;                                                               \
    case R * 3 + 1:                                                          \
        gv_v_block(R, 1, y, y_stride, x, row, w, panel, ahead, lanes, bias); \
        break;                                                               \
    case R * 3 + 2:                                                          \
        gv_v_block(R, 2, y, y_stride, x, row, w, panel, ahead, lanes, bias); \
        break

static void gv_v_dispatch(int rows, int lines, float *y, int64_t y_stride, const gv_quantised_rows *x, int64_t row,
                          const gv_quantised *w, int64_t panel, const char *ahead, __mmask16 lanes, const float *bias) {
    switch (rows * 3 + lines) {
        GV_V_CASE(1);
        GV_V_CASE(2);
        GV_V_CASE(3);
        GV_V_CASE(4);
        GV_V_CASE(5);
        GV_V_CASE(6);
        GV_V_CASE(7);
        GV_V_CASE(8);
        default:
            break;
    }
}

void gv_vnni_product(float *y, int64_t y_stride, const gv_quantised_rows *x, int64_t rows, const gv_quantised *w, int64_t first,
                     int64_t cols, const float *bias) {
    const int64_t depth = gv_quantised_depth(w->k), panels = (w->n + GV_PANEL - 1) / GV_PANEL;
    const int64_t blocks = (rows + GV_V_ROWS - 1) / GV_V_ROWS;
    for (int64_t c = 0; c < cols; c += GV_PANEL) {
        const int64_t panel = first + c / GV_PANEL, width = cols - c < GV_PANEL ? cols - c : GV_PANEL;
        const __mmask16 lanes = (__mmask16)((1u << width) - 1u);
        int64_t row = 0;
        for (int64_t b = 0; b < blocks; b++) {
            int64_t taken = (rows - row + blocks - b - 1) / (blocks - b);
            int lines = panel + 1 >= panels ? 0 : blocks == 1 ? 2 : b < 2 ? 1 : 0;
            const char *ahead = (const char *)(w->panels + (panel + 1) * depth * GV_PANEL) + (b == 1 ? 64 : 0);
            if (lines == 0) ahead = NULL;
            gv_v_dispatch((int)taken, lines, y + row * y_stride + c, y_stride, x, row, w, panel, ahead, lanes,
                          bias != NULL ? bias + c : NULL);
            row += taken;
        }
    }
}

/* ------------------------------------------------------------------------------- weights in blocks of 32 inputs -- */

/* total[rows][16] of one panel, constant rows, bits and minimum. VPDPBUSD takes codes of 8 bits whole. */
GV_INLINE void gv_v_records(int rows, int bits, bool minimum, float *total, const gv_block_rows *x, int64_t row,
                            const gv_quantised *w, int64_t panel) {
    const __m512i mask = _mm512_set1_epi8(15), ones = _mm512_set1_epi16(1);
    const int64_t blocks = gv_block_count(w->k), size = gv_block_record(bits, minimum);
    const uint8_t *record = w->blocks.data + panel * blocks * size;
    __m512 t[GV_V_ROWS];
    GV_UNROLL for (int r = 0; r < rows; r++) t[r] = _mm512_setzero_ps();
    for (int64_t g = 0; g < blocks; g++, record += size) {
        const int64_t at = row * blocks + g;
        __m512i sum[GV_V_ROWS];
        GV_UNROLL for (int r = 0; r < rows; r++) {
            sum[r] = _mm512_setzero_si512();
            if (!minimum) sum[r] = _mm512_madd_epi16(_mm512_set1_epi32(x->lanes[at + r * blocks]), ones);
            if (bits == 8) sum[r] = _mm512_slli_epi32(sum[r], 4);
        }
        GV_UNROLL for (int s = 0; s < bits; s++) {
            __m512i both = _mm512_loadu_si512(record + 64 * s);
            __builtin_prefetch(record + 64 * s + 2048, 0, 3);
            GV_UNROLL for (int r = 0; r < rows; r++) {
                const int8_t *q = x->q + (at + r * blocks) * GV_BLOCK + s * (32 / bits);
                int32_t a, b;
                memcpy(&a, q, sizeof a);
                if (bits == 8) {
                    sum[r] = _mm512_dpbusd_epi32(sum[r], both, _mm512_set1_epi32(a));
                    continue;
                }
                memcpy(&b, q + 4, sizeof b);
                sum[r] = _mm512_dpbusd_epi32(sum[r], _mm512_and_si512(both, mask), _mm512_set1_epi32(a));
                __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
                sum[r] = _mm512_dpbusd_epi32(sum[r], high, _mm512_set1_epi32(b));
            }
        }
        const uint8_t *halves = record + 64 * bits;
        __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)halves)), least = scale;
        if (minimum) least = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(halves + 32)));
        GV_UNROLL for (int r = 0; r < rows; r++) {
            __m512 step = _mm512_mul_ps(scale, _mm512_set1_ps(x->scale[at + r * blocks]));
            t[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r]), step, t[r]);
            if (minimum) t[r] = _mm512_fmadd_ps(least, _mm512_set1_ps(x->sum[at + r * blocks]), t[r]);
        }
    }
    GV_UNROLL for (int r = 0; r < rows; r++) _mm512_storeu_ps(total + r * GV_PANEL, t[r]);
}

#define GV_V_RECORDS(R)                                          \
    case R:                                                      \
        gv_v_records(R, bits, minimum, total, x, row, w, panel); \
        break

GV_INLINE void gv_v_blocks(int bits, bool minimum, float *y, int64_t y_stride, const gv_block_rows *x, int64_t rows,
                           const gv_quantised *w, int64_t first, int64_t cols, const float *bias) {
    float total[GV_V_ROWS * GV_PANEL];
    const int64_t parts = (rows + GV_V_ROWS - 1) / GV_V_ROWS;
    for (int64_t c = 0; c < cols; c += GV_PANEL) {
        const int64_t panel = first + c / GV_PANEL, width = cols - c < GV_PANEL ? cols - c : GV_PANEL;
        const __mmask16 lanes = (__mmask16)((1u << width) - 1u);
        int64_t row = 0;
        for (int64_t b = 0; b < parts; b++) {
            int64_t taken = (rows - row + parts - b - 1) / (parts - b);
            switch (taken) {
                GV_V_RECORDS(1);
                GV_V_RECORDS(2);
                GV_V_RECORDS(3);
                GV_V_RECORDS(4);
                GV_V_RECORDS(5);
                GV_V_RECORDS(6);
                GV_V_RECORDS(7);
                GV_V_RECORDS(8);
                default:
                    break;
            }
            for (int64_t r = 0; r < taken; r++) {
                __m512 t = _mm512_loadu_ps(total + r * GV_PANEL);
                if (bias != NULL) t = _mm512_add_ps(t, _mm512_maskz_loadu_ps(lanes, bias + c));
                _mm512_mask_storeu_ps(y + (row + r) * y_stride + c, lanes, t);
            }
            row += taken;
        }
    }
}

void gv_vnni_product_blocks(float *y, int64_t y_stride, const gv_block_rows *x, int64_t rows, const gv_quantised *w,
                            int64_t first, int64_t cols, const float *bias) {
    if (w->blocks.bits == 8) {
        gv_v_blocks(8, false, y, y_stride, x, rows, w, first, cols, bias);
    } else if (w->blocks.minimum) {
        gv_v_blocks(4, true, y, y_stride, x, rows, w, first, cols, bias);
    } else {
        gv_v_blocks(4, false, y, y_stride, x, rows, w, first, cols, bias);
    }
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
