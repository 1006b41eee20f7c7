/* simd_blocks.h - products of s8 activations and weights in blocks of 32 on 8 lanes, and what turns rows into s8; included by
 * avx2.c and avx512.c (which hands the product to vnni.c where the CPU can).
 *
 * VPMADDUBSW multiplies codes 0..15 by q -127..127 and adds neighbours: at most 3810. A 16-bit lane takes in 16 products of a
 * block, at most 30480 (or, begun at -8 times the sum of its q, 16256), so nothing is widened before the block is done and the
 * sums are exact in any order. Codes of 8 bits are two planes of 4: code - 128 = 16 (high - 8) + low.
 */

enum {
    GV_B_DIRECT = 4,   /* rows of a block that reads the records as they are */
    GV_B_ROWS = 4,     /* of one that reads unpacked codes; of 8 bits half as many */
    GV_B_UNPACK = 12,  /* from here on rows are worth unpacking for */
    GV_B_CHUNK = 32,   /* blocks unpacked at once: 16 KB of 4-bit codes stay in the L1 cache */
    GV_B_PASS = 128,   /* rows for which a panel is unpacked */
    GV_B_AHEAD = 2048, /* bytes */
};

GV_INLINE __m256i gv_b_load(const void *from) {
    return _mm256_loadu_si256((const __m256i *)from);
}
/* sum + codes . q. The empty statement keeps gcc from gathering all products before it adds (it reassociates whole numbers,
 * and spills them all). */
GV_INLINE __m256i gv_b_add(__m256i sum, __m256i codes, __m256i q) {
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, q));
    __asm__("" : "+x"(sum));
    return sum;
}
GV_INLINE __m256i gv_b_four(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm256_set1_epi32(four);
}
GV_INLINE __m256 gv_b_halves(const uint8_t *from) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
}

/* total[rows][2] += one block. sum: exact; low, high: planes of 8-bit codes (4-bit ones use `high` alone). */
GV_INLINE __m256i gv_b_widen(int planes, __m256i low, __m256i high) {
    const __m256i ones = _mm256_set1_epi16(1);
    if (planes == 1) return _mm256_madd_epi16(high, ones);
    return _mm256_add_epi32(_mm256_madd_epi16(high, _mm256_set1_epi16(16)), _mm256_madd_epi16(low, ones));
}

/* y[rows][16] of one panel from its records, constant rows, bits and minimum. */
GV_INLINE void gv_b_direct(int rows, int bits, bool minimum, float *y, const gv_block_rows *x, int64_t row,
                           const gv_quantised *w, int64_t panel) {
    const int planes = bits / 4;
    const __m256i mask = _mm256_set1_epi8(15);
    const int64_t blocks = gv_block_count(w->k), size = gv_block_record(bits, minimum);
    const uint8_t *record = w->blocks.data + panel * blocks * size;
    __m256 total[GV_B_DIRECT][2];
    GV_UNROLL for (int r = 0; r < rows; r++) total[r][0] = total[r][1] = _mm256_setzero_ps();
    for (int64_t g = 0; g < blocks; g++, record += size) {
        const int64_t at = row * blocks + g;
        __m256i sum[GV_B_DIRECT][2][2];
        GV_UNROLL for (int r = 0; r < rows; r++) {
            __m256i begin = minimum ? _mm256_setzero_si256() : _mm256_set1_epi32(x->lanes[at + r * blocks]);
            GV_UNROLL for (int h = 0; h < 2; h++) {
                sum[r][h][0] = _mm256_setzero_si256();
                sum[r][h][1] = begin;
            }
        }
        GV_UNROLL for (int s = 0; s < bits; s++) {
            if (GV_B_AHEAD > 0) __builtin_prefetch(record + GV_B_AHEAD + 64 * s, 0, 3);
            __m256i first[GV_B_DIRECT], second[GV_B_DIRECT];
            GV_UNROLL for (int r = 0; r < rows; r++) {
                const int8_t *q = x->q + (at + r * blocks) * GV_BLOCK;
                first[r] = gv_b_four(q + (planes == 1 ? 8 * s : 4 * s));
                second[r] = planes == 1 ? gv_b_four(q + 8 * s + 4) : first[r];
            }
            GV_UNROLL for (int h = 0; h < 2; h++) {
                __m256i both = gv_b_load(record + 64 * s + 32 * h);
                __m256i low = _mm256_and_si256(both, mask), high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
                GV_UNROLL for (int r = 0; r < rows; r++) {
                    sum[r][h][2 - planes] = gv_b_add(sum[r][h][2 - planes], low, first[r]);
                    sum[r][h][1] = gv_b_add(sum[r][h][1], high, second[r]);
                }
            }
        }
        if (GV_B_AHEAD > 0 && bits == 4) __builtin_prefetch(record + GV_B_AHEAD + 256, 0, 3);
        GV_UNROLL for (int h = 0; h < 2; h++) {
            __m256 scale = gv_b_halves(record + 64 * bits + 16 * h);
            __m256 least = minimum ? gv_b_halves(record + 64 * bits + 32 + 16 * h) : scale;
            GV_UNROLL for (int r = 0; r < rows; r++) {
                __m256 whole = _mm256_cvtepi32_ps(gv_b_widen(planes, sum[r][h][0], sum[r][h][1]));
                __m256 step = _mm256_mul_ps(scale, _mm256_set1_ps(x->scale[at + r * blocks]));
                total[r][h] = _mm256_fmadd_ps(whole, step, total[r][h]);
                if (minimum) total[r][h] = _mm256_fmadd_ps(least, _mm256_set1_ps(x->sum[at + r * blocks]), total[r][h]);
            }
        }
    }
    GV_UNROLL for (int r = 0; r < rows; r++) {
        GV_UNROLL for (int h = 0; h < 2; h++) _mm256_storeu_ps(y + r * GV_PANEL + 8 * h, total[r][h]);
    }
}

/* Up to GV_B_CHUNK blocks of a panel, ready to multiply. */
typedef struct {
    _Alignas(64) uint8_t codes[GV_B_CHUNK * 1024]; /* [block][step of 4 inputs][plane][16][4] */
    _Alignas(64) float scale[GV_B_CHUNK][GV_PANEL], least[GV_B_CHUNK][GV_PANEL];
} gv_b_chunk;

GV_INLINE void gv_b_unpack(int bits, bool minimum, gv_b_chunk *to, const uint8_t *record, int64_t count) {
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i *codes = (__m256i *)(void *)to->codes;
    const int64_t size = gv_block_record(bits, minimum);
    for (int64_t g = 0; g < count; g++, record += size) {
        GV_UNROLL for (int s = 0; s < bits; s++, codes += 4) {
            GV_UNROLL for (int h = 0; h < 2; h++) {
                __m256i both = gv_b_load(record + 64 * s + 32 * h);
                _mm256_store_si256(codes + h, _mm256_and_si256(both, mask));
                _mm256_store_si256(codes + 2 + h, _mm256_and_si256(_mm256_srli_epi16(both, 4), mask));
            }
        }
        GV_UNROLL for (int h = 0; h < 2; h++) {
            _mm256_store_ps(to->scale[g] + 8 * h, gv_b_halves(record + 64 * bits + 16 * h));
            if (minimum) _mm256_store_ps(to->least[g] + 8 * h, gv_b_halves(record + 64 * bits + 32 + 16 * h));
        }
    }
}

/* total[rows][16] += `count` unpacked blocks; at: place of row 0's first block in x */
GV_INLINE void gv_b_many(int rows, int bits, bool minimum, float *total, const gv_block_rows *x, int64_t at, int64_t blocks,
                         const gv_b_chunk *chunk, int64_t count) {
    const int planes = bits / 4;
    const uint8_t *codes = chunk->codes;
    const int8_t *q = x->q + at * GV_BLOCK;
    for (int64_t g = 0; g < count; g++, at++, q += GV_BLOCK) {
        __m256i sum[GV_B_ROWS][2][2];
        GV_UNROLL for (int r = 0; r < rows; r++) {
            __m256i begin = minimum ? _mm256_setzero_si256() : _mm256_set1_epi32(x->lanes[at + r * blocks]);
            GV_UNROLL for (int h = 0; h < 2; h++) {
                sum[r][h][0] = _mm256_setzero_si256();
                sum[r][h][1] = begin;
            }
        }
        GV_UNROLL for (int s = 0; s < 8; s++) {
            GV_UNROLL for (int plane = 0; plane < planes; plane++, codes += 64) {
                __m256i a = gv_b_load(codes), b = gv_b_load(codes + 32);
                const int to = planes == 1 ? 1 : plane;
                GV_UNROLL for (int r = 0; r < rows; r++) {
                    __m256i four = gv_b_four(q + r * blocks * GV_BLOCK + 4 * s);
                    sum[r][0][to] = gv_b_add(sum[r][0][to], a, four);
                    sum[r][1][to] = gv_b_add(sum[r][1][to], b, four);
                }
            }
        }
        GV_UNROLL for (int r = 0; r < rows; r++) {
            __m256 times = _mm256_set1_ps(x->scale[at + r * blocks]);
            GV_UNROLL for (int h = 0; h < 2; h++) {
                float *here = total + r * GV_PANEL + 8 * h;
                __m256 whole = _mm256_cvtepi32_ps(gv_b_widen(planes, sum[r][h][0], sum[r][h][1]));
                __m256 step = _mm256_mul_ps(_mm256_load_ps(chunk->scale[g] + 8 * h), times);
                __m256 t = _mm256_fmadd_ps(whole, step, _mm256_load_ps(here));
                if (minimum) {
                    __m256 sums = _mm256_set1_ps(x->sum[at + r * blocks]);
                    t = _mm256_fmadd_ps(_mm256_load_ps(chunk->least[g] + 8 * h), sums, t);
                }
                _mm256_store_ps(here, t);
            }
        }
    }
}

/* y = total + bias, `width` of 16 columns */
static void gv_b_store(float *y, const float *total, const float *bias, int64_t width) {
    int64_t j = 0;
    for (; j + 8 <= width; j += 8) {
        __m256 t = _mm256_load_ps(total + j);
        _mm256_storeu_ps(y + j, bias != NULL ? _mm256_add_ps(t, _mm256_loadu_ps(bias + j)) : t);
    }
    for (; j < width; j++) y[j] = bias != NULL ? total[j] + bias[j] : total[j];
}

/* One kind of weight: all rows, all panels. */
GV_INLINE void gv_b_product(int bits, bool minimum, float *y, int64_t y_stride, const gv_block_rows *x, int64_t rows,
                            const gv_quantised *w, int64_t first, int64_t cols, const float *bias) {
    const int64_t blocks = gv_block_count(w->k), size = gv_block_record(bits, minimum);
    if (rows < GV_B_UNPACK) {
        _Alignas(64) float total[GV_B_DIRECT * GV_PANEL];
        for (int64_t c = 0; c < cols; c += GV_PANEL) {
            const int64_t panel = first + c / GV_PANEL, width = cols - c < GV_PANEL ? cols - c : GV_PANEL;
            const int64_t parts = (rows + GV_B_DIRECT - 1) / GV_B_DIRECT;
            int64_t row = 0;
            for (int64_t b = 0; b < parts; b++) {
                int64_t taken = (rows - row + parts - b - 1) / (parts - b);
                switch (taken) {
                    case 1:
                        gv_b_direct(1, bits, minimum, total, x, row, w, panel);
                        break;
                    case 2:
                        gv_b_direct(2, bits, minimum, total, x, row, w, panel);
                        break;
                    case 3:
                        gv_b_direct(3, bits, minimum, total, x, row, w, panel);
                        break;
                    default:
                        gv_b_direct(4, bits, minimum, total, x, row, w, panel);
                        break;
                }
                for (int64_t r = 0; r < taken; r++) {
                    gv_b_store(y + (row + r) * y_stride + c, total + r * GV_PANEL, bias != NULL ? bias + c : NULL, width);
                }
                row += taken;
            }
        }
        return;
    }
    const int most = bits == 4 ? GV_B_ROWS : GV_B_ROWS / 2;
    _Alignas(64) float total[GV_B_PASS * GV_PANEL];
    gv_b_chunk chunk;
    for (int64_t c = 0; c < cols; c += GV_PANEL) {
        const int64_t panel = first + c / GV_PANEL, width = cols - c < GV_PANEL ? cols - c : GV_PANEL;
        for (int64_t pass = 0; pass < rows; pass += GV_B_PASS) {
            const int64_t taken = rows - pass < GV_B_PASS ? rows - pass : GV_B_PASS;
            memset(total, 0, (size_t)(taken * GV_PANEL) * sizeof *total);
            for (int64_t g = 0; g < blocks; g += GV_B_CHUNK) {
                const int64_t count = blocks - g < GV_B_CHUNK ? blocks - g : GV_B_CHUNK;
                gv_b_unpack(bits, minimum, &chunk, w->blocks.data + (panel * blocks + g) * size, count);
                int64_t r = 0, at = pass * blocks + g;
                for (; r + most <= taken; r += most) {
                    gv_b_many(most, bits, minimum, total + r * GV_PANEL, x, at + r * blocks, blocks, &chunk, count);
                }
                for (; r + 2 <= taken; r += 2) {
                    gv_b_many(2, bits, minimum, total + r * GV_PANEL, x, at + r * blocks, blocks, &chunk, count);
                }
                if (r < taken) gv_b_many(1, bits, minimum, total + r * GV_PANEL, x, at + r * blocks, blocks, &chunk, count);
            }
            for (int64_t r = 0; r < taken; r++) {
                gv_b_store(y + (pass + r) * y_stride + c, total + r * GV_PANEL, bias != NULL ? bias + c : NULL, width);
            }
        }
    }
}

static void simd_product_blocks(float *y, int64_t y_stride, const gv_block_rows *x, int64_t rows, const gv_quantised *w,
                                int64_t first, int64_t cols, const float *bias) {
    if (w->blocks.bits == 8) {
        gv_b_product(8, false, y, y_stride, x, rows, w, first, cols, bias);
    } else if (w->blocks.minimum) {
        gv_b_product(4, true, y, y_stride, x, rows, w, first, cols, bias);
    } else {
        gv_b_product(4, false, y, y_stride, x, rows, w, first, cols, bias);
    }
}

/* ------------------------------------------------------------------------------------------------ activations -- */

static void simd_block_rows(const gv_block_rows *out, const float *x, int64_t x_stride, int64_t rows, int64_t k) {
    const int64_t blocks = gv_block_count(k);
    const __m256 sign = _mm256_set1_ps(-0.0f);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (int64_t r = 0; r < rows; r++, x += x_stride) {
        for (int64_t g = 0; g < blocks; g++) {
            const int64_t left = k - g * GV_BLOCK, at = r * blocks + g;
            float tail[GV_BLOCK] = {0};
            const float *from = x + g * GV_BLOCK;
            if (left < GV_BLOCK) {
                memcpy(tail, from, (size_t)left * sizeof *tail);
                from = tail;
            }
            __m256 v[4], top = _mm256_setzero_ps(), odd = _mm256_setzero_ps();
            GV_UNROLL for (int i = 0; i < 4; i++) {
                v[i] = _mm256_loadu_ps(from + 8 * i);
                top = _mm256_max_ps(_mm256_andnot_ps(sign, v[i]), top);
                odd = _mm256_fmadd_ps(v[i], _mm256_setzero_ps(), odd);
            }
            __m128 t = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
            __m128 o = _mm_add_ps(_mm256_castps256_ps128(odd), _mm256_extractf128_ps(odd, 1));
            t = _mm_max_ps(t, _mm_movehl_ps(t, t));
            o = _mm_add_ps(o, _mm_movehl_ps(o, o));
            float strange = _mm_cvtss_f32(_mm_add_ss(o, _mm_movehdup_ps(o)));
            float factor = gv_block_step(&out->scale[at], _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t))));
            const __m256 times = _mm256_set1_ps(factor);
            __m256i whole[4];
            GV_UNROLL for (int i = 0; i < 4; i++) whole[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], times));
            __m256i q = _mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3]));
            q = _mm256_permutevar8x32_epi32(q, order);
            if (strange != 0.0f) {
                q = _mm256_setzero_si256();
                out->scale[at] = NAN;
            }
            _mm256_storeu_si256((__m256i *)(void *)(out->q + at * GV_BLOCK), q);
            __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q); /* even lanes: inputs 0, 1 of four */
            __m128i s = _mm_add_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
            s = _mm_add_epi16(s, _mm_shuffle_epi32(s, 0x4E));
            s = _mm_add_epi16(s, _mm_shuffle_epi32(s, 0xB1));
            out->lanes[at] = _mm_cvtsi128_si32(_mm_mullo_epi16(s, _mm_set1_epi16(-8)));
            out->sum[at] = (float)_mm_cvtsi128_si32(_mm_madd_epi16(s, _mm_set1_epi16(1))) * out->scale[at];
        }
    }
}

static void simd_blocks_row(float *y, float factor, const gv_quantised *w, int64_t row, bool add) {
    const int bits = w->blocks.bits;
    const bool minimum = w->blocks.minimum;
    const int64_t blocks = gv_block_count(w->k), size = gv_block_record(bits, minimum), lane = row % GV_PANEL;
    const uint8_t *record = w->blocks.data + row / GV_PANEL * blocks * size;
    const __m256i middle = _mm256_set1_epi32(bits == 8 ? 128 : minimum ? 0 : 8);
    const __m256 times = _mm256_set1_ps(factor);
    for (int64_t g = 0; g < blocks; g++, record += size, y += GV_BLOCK) {
        const int64_t end = w->k - g * GV_BLOCK < GV_BLOCK ? w->k - g * GV_BLOCK : GV_BLOCK;
        float halves[8];
        const uint8_t *at = record + 64 * bits + lane / 8 * 16;
        _mm256_storeu_ps(halves, gv_b_halves(at));
        const __m256 scale = _mm256_set1_ps(halves[lane % 8]);
        if (minimum) _mm256_storeu_ps(halves, gv_b_halves(at + 32));
        const __m256 least = _mm256_set1_ps(halves[lane % 8]);
        for (int64_t p = 0; p < end; p += 8) {
            int32_t a, b;
            memcpy(&a, record + (bits == 8 ? p / 4 : p / 8) * 64 + 4 * lane, sizeof a);
            memcpy(&b, record + (bits == 8 ? p / 4 + 1 : p / 8) * 64 + 4 * lane, sizeof b);
            if (bits == 4) {
                a &= 0x0F0F0F0F;
                b = (int32_t)((uint32_t)b >> 4) & 0x0F0F0F0F;
            }
            __m256i codes = _mm256_sub_epi32(_mm256_cvtepu8_epi32(_mm_setr_epi32(a, b, 0, 0)), middle);
            __m256 v = _mm256_cvtepi32_ps(codes);
            v = _mm256_mul_ps(minimum ? _mm256_fmadd_ps(v, scale, least) : _mm256_mul_ps(v, scale), times);
            if (end - p >= 8) {
                _mm256_storeu_ps(y + p, add ? _mm256_add_ps(_mm256_loadu_ps(y + p), v) : v);
                continue;
            }
            float few[8];
            _mm256_storeu_ps(few, v);
            for (int64_t i = 0; i < end - p; i++) y[p + i] = add ? y[p + i] + few[i] : few[i];
        }
    }
}
