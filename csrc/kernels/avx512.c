/* avx512.c - the kernels on 16 lanes: AVX-512 F, BW, DQ and VL. The bodies stand in the simd_*.h files. */
#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/tables.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#endif

#define GV_UNROLL _Pragma("GCC unroll 16")
#define GV_UNROLL_ROWS _Pragma("GCC unroll 24")
#define GV_INLINE static inline __attribute__((always_inline))

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
enum { VW = 16 };

GV_INLINE __mmask16 gv_first_lanes(int n) {
    return (__mmask16)((1u << n) - 1u);
}
GV_INLINE vf v_zero(void) {
    return _mm512_setzero_ps();
}
GV_INLINE vf v_set1(float x) {
    return _mm512_set1_ps(x);
}
GV_INLINE vf v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
GV_INLINE void v_store(float *p, vf x) {
    _mm512_storeu_ps(p, x);
}
GV_INLINE void v_stream(float *p, vf x) {
    _mm512_stream_ps(p, x);
}
GV_INLINE void v_fence(void) {
    _mm_sfence();
}
/* the first n lanes, n in 1..VW; the others load as 0 and stay unwritten */
GV_INLINE vf v_load_n(const float *p, int n) {
    return _mm512_maskz_loadu_ps(gv_first_lanes(n), p);
}
GV_INLINE void v_store_n(float *p, vf x, int n) {
    _mm512_mask_storeu_ps(p, gv_first_lanes(n), x);
}
GV_INLINE vf v_keep_n(vf x, int n) {
    return _mm512_maskz_mov_ps(gv_first_lanes(n), x);
}
GV_INLINE vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
GV_INLINE vf v_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
GV_INLINE vf v_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
GV_INLINE vf v_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
GV_INLINE vf v_sqrt(vf a) {
    return _mm512_sqrt_ps(a);
}
GV_INLINE vf v_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
} /* b where either is NaN */
GV_INLINE vf v_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
} /* b where either is NaN */
GV_INLINE vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
GV_INLINE vf v_fnma(vf a, vf b, vf c) {
    return _mm512_fnmadd_ps(a, b, c);
} /* c - a b */
GV_INLINE vf v_abs(vf a) {
    return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a);
}
GV_INLINE vf v_sign_of(vf size, vf sign) { /* size >= 0 */
    return _mm512_or_ps(size, _mm512_and_ps(sign, _mm512_set1_ps(-0.0f)));
}
GV_INLINE vf v_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
GV_INLINE vm v_less(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
GV_INLINE vf v_choose(vm m, vf yes, vf no) {
    return _mm512_mask_blend_ps(m, no, yes);
}
/* 2^n for whole n in -126..127 */
GV_INLINE vf v_power2(vf n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
GV_INLINE float v_sum(vf a) {
    return _mm512_reduce_add_ps(a);
}
GV_INLINE float v_top(vf a) {
    return _mm512_reduce_max_ps(a);
}
GV_INLINE vi v_set1_i(int32_t x) {
    return _mm512_set1_epi32(x);
}
/* lanes whose position is at most `limit`, for n positions */
GV_INLINE vm v_not_after(const int32_t *position, int64_t n, int32_t limit) {
    __mmask16 lanes = gv_first_lanes(n >= VW ? VW : (int)n);
    return _mm512_cmple_epi32_mask(_mm512_maskz_loadu_epi32(lanes, position), _mm512_set1_epi32(limit));
}
/* keep where word >= threshold, unsigned */
GV_INLINE vf v_keep_words(vi word, vi threshold, vf keep) {
    return _mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(word, threshold), keep);
}
GV_INLINE void gv_multiply_wide(vi *high, vi *low, vi a, vi b) {
    vi even = _mm512_mul_epu32(a, b), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), b);
    *low = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
    *high = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
}
/* base/rng.h on VW counters {first + lane, position, sample, site}; out[0..3]: the words in the order of columns */
GV_INLINE void v_philox(vi out[4], uint32_t first, uint32_t position, uint32_t sample, uint32_t site, uint32_t seed,
                        uint32_t step) {
    vi c0 = _mm512_add_epi32(v_set1_i((int32_t)first), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    vi c1 = v_set1_i((int32_t)position), c2 = v_set1_i((int32_t)sample), c3 = v_set1_i((int32_t)site);
    const vi m0 = v_set1_i((int32_t)0xD2511F53u), m1 = v_set1_i((int32_t)0xCD9E8D57u);
    GV_UNROLL for (int round = 0; round < 10; round++) {
        vi h0, l0, h1, l1;
        gv_multiply_wide(&h0, &l0, c0, m0);
        gv_multiply_wide(&h1, &l1, c2, m1);
        c0 = _mm512_xor_si512(_mm512_xor_si512(h1, c1), v_set1_i((int32_t)seed));
        c2 = _mm512_xor_si512(_mm512_xor_si512(h0, c3), v_set1_i((int32_t)step));
        c1 = l1;
        c3 = l0;
        seed += 0x9E3779B9u;
        step += 0xBB67AE85u;
    }
    vi a = _mm512_unpacklo_epi32(c0, c1), b = _mm512_unpackhi_epi32(c0, c1);
    vi c = _mm512_unpacklo_epi32(c2, c3), d = _mm512_unpackhi_epi32(c2, c3);
    /* quarters of 128 bits hold counters e: 0 4 8 12, f: 1 5 9 13, g: 2 6 10 14, h: 3 7 11 15 */
    vi e = _mm512_unpacklo_epi64(a, c), f = _mm512_unpackhi_epi64(a, c);
    vi g = _mm512_unpacklo_epi64(b, d), h = _mm512_unpackhi_epi64(b, d);
    vi i = _mm512_shuffle_i32x4(e, f, 0x88), j = _mm512_shuffle_i32x4(e, f, 0xDD); /* 0 8 1 9 and 4 12 5 13 */
    vi k = _mm512_shuffle_i32x4(g, h, 0x88), l = _mm512_shuffle_i32x4(g, h, 0xDD); /* 2 10 3 11 and 6 14 7 15 */
    out[0] = _mm512_shuffle_i32x4(i, k, 0x88);
    out[1] = _mm512_shuffle_i32x4(j, l, 0x88);
    out[2] = _mm512_shuffle_i32x4(i, k, 0xDD);
    out[3] = _mm512_shuffle_i32x4(j, l, 0xDD);
}

#define PRODUCT_NT_COLS 3
#define PRODUCT_NN_ROWS 12
#define PRODUCT_NN_MOST 12
#define GV_FLOATS_ROWS 24
#define GV_PRODUCT_QUANTISED gv_product_quantised_512
#define GV_PRODUCT_BLOCKS gv_product_blocks_512
#define GV_ISA_WORD "avx512"
#define GV_ISA_TABLE gv_kernels_avx512

static void gv_product_quantised_512(float *y, int64_t y_stride, const gv_quantised_rows *x, int64_t rows,
                                     const gv_quantised *w, int64_t first, int64_t cols, const float *bias);
static void gv_product_blocks_512(float *y, int64_t y_stride, const gv_block_rows *x, int64_t rows, const gv_quantised *w,
                                  int64_t first, int64_t cols, const float *bias);

#include "kernels/simd_all.h"

static void gv_product_quantised_512(float *y, int64_t y_stride, const gv_quantised_rows *x, int64_t rows,
                                     const gv_quantised *w, int64_t first, int64_t cols, const float *bias) {
    if (gv_cpu_vnni()) {
        gv_vnni_product(y, y_stride, x, rows, w, first, cols, bias);
    } else {
        simd_product_quantised(y, y_stride, x, rows, w, first, cols, bias);
    }
}

static void gv_product_blocks_512(float *y, int64_t y_stride, const gv_block_rows *x, int64_t rows, const gv_quantised *w,
                                  int64_t first, int64_t cols, const float *bias) {
    if (gv_cpu_vnni()) {
        gv_vnni_product_blocks(y, y_stride, x, rows, w, first, cols, bias);
    } else {
        simd_product_blocks(y, y_stride, x, rows, w, first, cols, bias);
    }
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
