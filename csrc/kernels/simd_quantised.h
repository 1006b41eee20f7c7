/* simd_quantised.h - products of u8 activations and s8 weights on 8 lanes, and what turns rows into u8; included by avx2.c and
 * avx512.c (which hands the product to vnni.c where the CPU can).
 *
 * VPMADDUBSW multiplies u8 by s8 and adds neighbours in 16 bits, where it saturates; two of its results are added there too
 * before VPMADDWD widens them. Nothing saturates because of how weights are rounded: in every lane of four weights (k, k + 1,
 * k + 4, k + 5 and k + 2, k + 3, k + 6, k + 7 of a step of 8) the positive ones sum to at most 32767 / levels, the negative
 * ones too. So the integers are exact, in any order, and every instruction set gives the same bits.
 */

enum { GV_Q_ROWS = 6, GV_Q_MANY = 24 /* from here on three rows at a time: the panel stays in the L1 cache */ };

GV_INLINE __m256i gv_q_four(const uint8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm256_set1_epi32(four);
}

/* y[rows][16] of one panel, constant rows. ahead: what to fetch, `lines` (0..2) of every 128 bytes. */
GV_INLINE void gv_q_block(int rows, int lines, float *y, const gv_quantised_rows *x, int64_t row, const gv_quantised *w,
                          int64_t panel, const char *ahead) {
    const __m256i ones = _mm256_set1_epi16(1);
    const int64_t depth = gv_quantised_depth(w->k), groups = gv_quantised_groups(w->k, w->group);
    const int8_t *weights = w->panels + panel * depth * GV_PANEL;
    const int16_t *sums = w->sums + panel * groups * GV_PANEL;
    const uint8_t *q = x->q + row * depth;
    const float *scale = x->scale + row * groups, *low = x->low + row * groups;
    __m256 total[GV_Q_ROWS][2];
    GV_UNROLL for (int r = 0; r < rows; r++) total[r][0] = total[r][1] = _mm256_setzero_ps();
    for (int64_t g = 0; g < groups; g++) {
        int64_t end = (g + 1) * w->group < depth ? (g + 1) * w->group : depth;
        __m256i sum[GV_Q_ROWS][2];
        GV_UNROLL for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        for (int64_t p = g * w->group; p < end; p += 8) {
            const __m256i *in = (const __m256i *)(const void *)(weights + p * GV_PANEL);
            __m256i w00 = _mm256_loadu_si256(in), w01 = _mm256_loadu_si256(in + 1);
            __m256i w10 = _mm256_loadu_si256(in + 2), w11 = _mm256_loadu_si256(in + 3);
            if (lines > 0) __builtin_prefetch(ahead + p * GV_PANEL, 0, 3);
            if (lines > 1) __builtin_prefetch(ahead + p * GV_PANEL + 64, 0, 3);
            GV_UNROLL for (int r = 0; r < rows; r++) {
                __m256i a = gv_q_four(q + r * depth + p), b = gv_q_four(q + r * depth + p + 4);
                __m256i t0 = _mm256_add_epi16(_mm256_maddubs_epi16(a, w00), _mm256_maddubs_epi16(b, w10));
                __m256i t1 = _mm256_add_epi16(_mm256_maddubs_epi16(a, w01), _mm256_maddubs_epi16(b, w11));
                sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(t0, ones));
                sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(t1, ones));
            }
        }
        GV_UNROLL for (int h = 0; h < 2; h++) {
            __m128i short_sums = _mm_loadu_si128((const __m128i *)(const void *)(sums + g * GV_PANEL + 8 * h));
            __m256 weight_sum = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(short_sums));
            GV_UNROLL for (int r = 0; r < rows; r++) {
                total[r][h] =
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][h]), _mm256_set1_ps(scale[r * groups + g]), total[r][h]);
                total[r][h] = _mm256_fmadd_ps(weight_sum, _mm256_set1_ps(low[r * groups + g]), total[r][h]);
            }
        }
    }
    GV_UNROLL for (int r = 0; r < rows; r++) {
        GV_UNROLL for (int h = 0; h < 2; h++) _mm256_storeu_ps(y + r * GV_PANEL + 8 * h, total[r][h]);
    }
}

#define GV_Q_CASE(R)                                  \
    case R * 3:                                       \
        gv_q_block(R, 0, y, x, row, w, panel, ahead); \
        break;                                        \
    case R * 3 + 1:                                   \
        gv_q_block(R, 1, y, x, row, w, panel, ahead); \
        break;                                        \
    case R * 3 + 2:                                   \
        gv_q_block(R, 2, y, x, row, w, panel, ahead); \
        break

static void gv_q_dispatch(int rows, int lines, float *y, const gv_quantised_rows *x, int64_t row, const gv_quantised *w,
                          int64_t panel, const char *ahead) {
    switch (rows * 3 + lines) {
        GV_Q_CASE(1);
        GV_Q_CASE(2);
        GV_Q_CASE(3);
        GV_Q_CASE(4);
        GV_Q_CASE(5);
        GV_Q_CASE(6);
        default:
            break;
    }
}

static void simd_product_quantised(float *y, int64_t y_stride, const gv_quantised_rows *x, int64_t rows, const gv_quantised *w,
                                   int64_t first, int64_t cols, const float *bias) {
    _Alignas(64) float block[GV_Q_ROWS * GV_PANEL];
    const int64_t depth = gv_quantised_depth(w->k), panels = (w->n + GV_PANEL - 1) / GV_PANEL;
    const int64_t most = rows >= GV_Q_MANY ? 3 : GV_Q_ROWS, blocks = (rows + most - 1) / most;
    for (int64_t c = 0; c < cols; c += GV_PANEL) {
        const int64_t panel = first + c / GV_PANEL;
        const int64_t width = cols - c < GV_PANEL ? cols - c : GV_PANEL;
        const float *scale = w->scale + panel * GV_PANEL;
        int64_t row = 0;
        for (int64_t b = 0; b < blocks; b++) {
            int64_t taken = (rows - row + blocks - b - 1) / (blocks - b);
            /* the panel after this one: one block fetches all of it, or two one half each */
            int lines = panel + 1 >= panels ? 0 : blocks == 1 ? 2 : b < 2 ? 1 : 0;
            const char *ahead = (const char *)(w->panels + (panel + 1) * depth * GV_PANEL) + (b == 1 ? 64 : 0);
            if (lines == 0) ahead = NULL;
            gv_q_dispatch((int)taken, lines, block, x, row, w, panel, ahead);
            for (int64_t r = 0; r < taken; r++) {
                float *to = y + (row + r) * y_stride + c;
                const float *from = block + r * GV_PANEL;
                int64_t j = 0;
                for (; j + 8 <= width; j += 8) {
                    __m256 add = bias != NULL ? _mm256_loadu_ps(bias + c + j) : _mm256_setzero_ps();
                    _mm256_storeu_ps(to + j, _mm256_fmadd_ps(_mm256_load_ps(from + j), _mm256_loadu_ps(scale + j), add));
                }
                if (j < width) {
                    const __m256i lanes =
                        _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(width - j)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
                    __m256 add = bias != NULL ? _mm256_maskload_ps(bias + c + j, lanes) : _mm256_setzero_ps();
                    _mm256_maskstore_ps(to + j, lanes,
                                        _mm256_fmadd_ps(_mm256_load_ps(from + j), _mm256_loadu_ps(scale + j), add));
                }
            }
            row += taken;
        }
    }
}

/* ------------------------------------------------------------------------------------------------ activations -- */

static void simd_quantise_rows(const gv_quantised_rows *out, const float *x, int64_t x_stride, const float *smooth,
                               int64_t rows, int64_t k, int64_t group, int levels) {
    const int64_t depth = gv_quantised_depth(k), groups = gv_quantised_groups(k, group);
    const __m256i narrow = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1,
                                            -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    for (int64_t r = 0; r < rows; r++, x += x_stride) {
        for (int64_t g = 0; g < groups; g++) {
            const int64_t begin = g * group, end = begin + group < k ? begin + group : k;
            __m256 top = _mm256_set1_ps(-INFINITY), bottom = _mm256_set1_ps(INFINITY), odd = _mm256_setzero_ps();
            float high, low, strange;
            int64_t p = begin;
            for (; p + 8 <= end; p += 8) {
                __m256 v = _mm256_loadu_ps(x + p);
                if (smooth != NULL) v = _mm256_mul_ps(v, _mm256_loadu_ps(smooth + p));
                top = _mm256_max_ps(v, top);
                bottom = _mm256_min_ps(v, bottom);
                odd = _mm256_fmadd_ps(v, _mm256_setzero_ps(), odd);
            }
            __m128 t = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
            __m128 b = _mm_min_ps(_mm256_castps256_ps128(bottom), _mm256_extractf128_ps(bottom, 1));
            __m128 o = _mm_add_ps(_mm256_castps256_ps128(odd), _mm256_extractf128_ps(odd, 1));
            t = _mm_max_ps(t, _mm_movehl_ps(t, t));
            b = _mm_min_ps(b, _mm_movehl_ps(b, b));
            o = _mm_add_ps(o, _mm_movehl_ps(o, o));
            high = _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
            low = _mm_cvtss_f32(_mm_min_ss(b, _mm_movehdup_ps(b)));
            strange = _mm_cvtss_f32(_mm_add_ss(o, _mm_movehdup_ps(o)));
            for (int64_t i = p; i < end; i++) {
                float v = smooth != NULL ? x[i] * smooth[i] : x[i];
                high = v > high ? v : high;
                low = v < low ? v : low;
                strange += v * 0.0f;
            }
            const float factor =
                gv_quantised_step(&out->scale[r * groups + g], &out->low[r * groups + g], high, low, strange, levels);
            const __m256 base = _mm256_set1_ps(low), times = _mm256_set1_ps(factor);
            uint8_t *q = out->q + r * depth;
            for (p = begin; p + 8 <= end; p += 8) {
                __m256 v = _mm256_loadu_ps(x + p);
                if (smooth != NULL) v = _mm256_mul_ps(v, _mm256_loadu_ps(smooth + p));
                __m256i whole = _mm256_shuffle_epi8(_mm256_cvtps_epi32(_mm256_mul_ps(_mm256_sub_ps(v, base), times)), narrow);
                __m128i eight = _mm_unpacklo_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
                _mm_storel_epi64((__m128i *)(void *)(q + p), eight);
            }
            for (; p < end; p++) {
                float v = smooth != NULL ? x[p] * smooth[p] : x[p];
                q[p] = (uint8_t)_mm_cvtss_si32(_mm_set_ss((v - low) * factor));
            }
        }
        if (depth > k) memset(out->q + r * depth + k, 0, (size_t)(depth - k));
    }
}

static void simd_quantised_row(float *y, float factor, const gv_quantised *w, int64_t row, bool add) {
    const int64_t depth = gv_quantised_depth(w->k);
    const int8_t *from = w->panels + row / GV_PANEL * depth * GV_PANEL + row % GV_PANEL * 4;
    const __m256 times = _mm256_set1_ps(factor * w->scale[row]);
    int64_t p = 0;
    for (; p + 8 <= w->k; p += 8, from += 8 * GV_PANEL) {
        int32_t first, second;
        memcpy(&first, from, sizeof first);
        memcpy(&second, from + 4 * GV_PANEL, sizeof second);
        __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_setr_epi32(first, second, 0, 0))), times);
        if (w->smooth != NULL) v = _mm256_mul_ps(v, _mm256_loadu_ps(w->smooth + p));
        _mm256_storeu_ps(y + p, add ? _mm256_add_ps(_mm256_loadu_ps(y + p), v) : v);
    }
    for (int64_t i = 0; p < w->k; p++, i++) {
        float v = (float)from[i / 4 * 4 * GV_PANEL + i % 4] * (factor * w->scale[row]);
        if (w->smooth != NULL) v *= w->smooth[p];
        y[p] = add ? y[p] + v : v;
    }
}
