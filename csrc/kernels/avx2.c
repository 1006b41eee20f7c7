/* avx2.c - the kernels on 8 lanes: AVX2, FMA and F16C. The bodies stand in the simd_*.h files. */
#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/tables.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define GV_UNROLL _Pragma("GCC unroll 16")
#define GV_UNROLL_ROWS _Pragma("GCC unroll 24")
#define GV_INLINE static inline __attribute__((always_inline))

typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm; /* all bits of a lane set = true */
enum { VW = 8 };

GV_INLINE vf v_zero(void) {
    return _mm256_setzero_ps();
}
GV_INLINE vf v_set1(float x) {
    return _mm256_set1_ps(x);
}
GV_INLINE vf v_load(const float *p) {
    return _mm256_loadu_ps(p);
}
GV_INLINE void v_store(float *p, vf x) {
    _mm256_storeu_ps(p, x);
}
GV_INLINE void v_stream(float *p, vf x) {
    _mm256_stream_ps(p, x);
}
GV_INLINE void v_fence(void) {
    _mm_sfence();
}
GV_INLINE vi gv_first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
/* the first n lanes, n in 1..VW; the others load as 0 and stay unwritten */
GV_INLINE vf v_load_n(const float *p, int n) {
    return _mm256_maskload_ps(p, gv_first_lanes(n));
}
GV_INLINE void v_store_n(float *p, vf x, int n) {
    _mm256_maskstore_ps(p, gv_first_lanes(n), x);
}
GV_INLINE vf v_keep_n(vf x, int n) {
    return _mm256_and_ps(x, _mm256_castsi256_ps(gv_first_lanes(n)));
}
GV_INLINE vf v_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
GV_INLINE vf v_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
GV_INLINE vf v_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
GV_INLINE vf v_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
GV_INLINE vf v_sqrt(vf a) {
    return _mm256_sqrt_ps(a);
}
GV_INLINE vf v_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
} /* b where either is NaN */
GV_INLINE vf v_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
} /* b where either is NaN */
GV_INLINE vf v_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
GV_INLINE vf v_fnma(vf a, vf b, vf c) {
    return _mm256_fnmadd_ps(a, b, c);
} /* c - a b */
GV_INLINE vf v_abs(vf a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
GV_INLINE vf v_sign_of(vf size, vf sign) { /* size >= 0 */
    return _mm256_or_ps(size, _mm256_and_ps(sign, _mm256_set1_ps(-0.0f)));
}
GV_INLINE vf v_round(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
GV_INLINE vm v_less(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
GV_INLINE vf v_choose(vm m, vf yes, vf no) {
    return _mm256_blendv_ps(no, yes, m);
}
/* 2^n for whole n in -126..127 */
GV_INLINE vf v_power2(vf n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
GV_INLINE float v_sum(vf a) {
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}
GV_INLINE float v_top(vf a) {
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}

GV_INLINE vi v_set1_i(int32_t x) {
    return _mm256_set1_epi32(x);
}
/* lanes whose position is at most `limit`, for n positions */
GV_INLINE vm v_not_after(const int32_t *position, int64_t n, int32_t limit) {
    vi p = n >= VW ? _mm256_loadu_si256((const __m256i *)position) : _mm256_maskload_epi32(position, gv_first_lanes((int)n));
    vi after = _mm256_cmpgt_epi32(p, _mm256_set1_epi32(limit));
    return _mm256_castsi256_ps(_mm256_xor_si256(after, _mm256_set1_epi32(-1)));
}
/* keep where word >= threshold, unsigned */
GV_INLINE vf v_keep_words(vi word, vi threshold, vf keep) {
    return _mm256_and_ps(keep, _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(word, threshold), word)));
}
GV_INLINE void gv_multiply_wide(vi *high, vi *low, vi a, vi b) {
    vi even = _mm256_mul_epu32(a, b), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), b);
    *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}
/* base/rng.h on VW counters {first + lane, position, sample, site}; out[0..3]: the words in the order of columns */
GV_INLINE void v_philox(vi out[4], uint32_t first, uint32_t position, uint32_t sample, uint32_t site, uint32_t seed,
                        uint32_t step) {
    vi c0 = _mm256_add_epi32(_mm256_set1_epi32((int32_t)first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    vi c1 = v_set1_i((int32_t)position), c2 = v_set1_i((int32_t)sample), c3 = v_set1_i((int32_t)site);
    const vi m0 = v_set1_i((int32_t)0xD2511F53u), m1 = v_set1_i((int32_t)0xCD9E8D57u);
    GV_UNROLL for (int round = 0; round < 10; round++) {
        vi h0, l0, h1, l1;
        gv_multiply_wide(&h0, &l0, c0, m0);
        gv_multiply_wide(&h1, &l1, c2, m1);
        c0 = _mm256_xor_si256(_mm256_xor_si256(h1, c1), v_set1_i((int32_t)seed));
        c2 = _mm256_xor_si256(_mm256_xor_si256(h0, c3), v_set1_i((int32_t)step));
        c1 = l1;
        c3 = l0;
        seed += 0x9E3779B9u;
        step += 0xBB67AE85u;
    }
    vi a = _mm256_unpacklo_epi32(c0, c1), b = _mm256_unpackhi_epi32(c0, c1);
    vi c = _mm256_unpacklo_epi32(c2, c3), d = _mm256_unpackhi_epi32(c2, c3);
    vi e = _mm256_unpacklo_epi64(a, c), f = _mm256_unpackhi_epi64(a, c); /* counters 0, 4 and 1, 5 */
    vi g = _mm256_unpacklo_epi64(b, d), h = _mm256_unpackhi_epi64(b, d); /* 2, 6 and 3, 7 */
    out[0] = _mm256_permute2x128_si256(e, f, 0x20);
    out[1] = _mm256_permute2x128_si256(g, h, 0x20);
    out[2] = _mm256_permute2x128_si256(e, f, 0x31);
    out[3] = _mm256_permute2x128_si256(g, h, 0x31);
}

#define PRODUCT_NT_COLS 3
#define PRODUCT_NN_ROWS 6
#define PRODUCT_NN_MOST 12
#define GV_FLOATS_ROWS 6
#define GV_PRODUCT_QUANTISED simd_product_quantised
#define GV_PRODUCT_BLOCKS simd_product_blocks
#define GV_ISA_WORD "avx2"
#define GV_ISA_TABLE gv_kernels_avx2

#include "kernels/simd_all.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
