/* scalar_blocks.c - the readable twins of the kernels for weights in blocks of 32: the bits of every fast one. */
#include <string.h>

#include "kernels/tables.h"

/* An IEEE half as float, exactly. */
static float gv_half(const uint8_t *from) {
    uint32_t half = (uint32_t)from[0] | (uint32_t)from[1] << 8, size = half & 0x7FFF, bits;
    if (size >= 0x7C00) {
        bits = 0x7F800000u | (size & 0x3FF) << 13;
    } else if (size >= 0x400) {
        bits = (size << 13) + 0x38000000u;
    } else { /* subnormal: size * 2^-24 */
        float small = (float)size * 5.9604644775390625e-8f;
        memcpy(&bits, &small, sizeof bits);
    }
    bits |= (half & 0x8000) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The code of input i (0..31) of output `lane` in a record. */
static int gv_code(const uint8_t *record, int bits, int64_t lane, int64_t i) {
    if (bits == 8) return record[i / 4 * 64 + lane * 4 + i % 4];
    int both = record[i / 8 * 64 + lane * 4 + i % 4];
    return i / 4 % 2 == 0 ? both & 15 : both >> 4;
}

void gv_block_rows_scalar(const gv_block_rows *out, const float *x, int64_t x_stride, int64_t rows, int64_t k) {
    const int64_t blocks = gv_block_count(k);
    for (int64_t r = 0; r < rows; r++, x += x_stride) {
        for (int64_t g = 0; g < blocks; g++) {
            const int64_t count = k - g * GV_BLOCK < GV_BLOCK ? k - g * GV_BLOCK : GV_BLOCK, at = r * blocks + g;
            const float *from = x + g * GV_BLOCK;
            int8_t *q = out->q + at * GV_BLOCK;
            float top = 0.0f, strange = 0.0f;
            for (int64_t i = 0; i < count; i++) {
                top = fabsf(from[i]) > top ? fabsf(from[i]) : top;
                strange += from[i] * 0.0f;
            }
            float factor = gv_block_step(&out->scale[at], top);
            int32_t sums[2] = {0, 0};
            for (int64_t i = 0; i < GV_BLOCK; i++) {
                q[i] = i < count && strange == 0.0f ? (int8_t)rintf(from[i] * factor) : 0;
                sums[i / 2 % 2] += q[i];
            }
            out->lanes[at] = (int32_t)((uint32_t)(-8 * sums[1]) << 16 | ((uint32_t)(-8 * sums[0]) & 0xFFFF));
            if (strange != 0.0f) out->scale[at] = NAN;
            out->sum[at] = (float)(sums[0] + sums[1]) * out->scale[at];
        }
    }
}

/* Each step rounded once (fmaf), block by block. */
void gv_product_blocks_scalar(float *y, int64_t y_stride, const gv_block_rows *x, int64_t rows, const gv_quantised *w,
                              int64_t first, int64_t cols, const float *bias) {
    const int bits = w->blocks.bits, middle = bits == 8 ? 128 : w->blocks.minimum ? 0 : 8;
    const int64_t blocks = gv_block_count(w->k), size = gv_block_record(bits, w->blocks.minimum), scales = 64 * bits;
    for (int64_t j = 0; j < cols; j++) {
        const int64_t panel = first + j / GV_PANEL, lane = j % GV_PANEL;
        for (int64_t r = 0; r < rows; r++) {
            float total = 0.0f;
            for (int64_t g = 0; g < blocks; g++) {
                const uint8_t *record = w->blocks.data + (panel * blocks + g) * size;
                const int64_t at = r * blocks + g;
                int32_t sum = 0;
                for (int64_t i = 0; i < GV_BLOCK; i++) {
                    sum += (gv_code(record, bits, lane, i) - middle) * (int32_t)x->q[at * GV_BLOCK + i];
                }
                total = fmaf((float)sum, gv_half(record + scales + 2 * lane) * x->scale[at], total);
                if (w->blocks.minimum) total = fmaf(gv_half(record + scales + 32 + 2 * lane), x->sum[at], total);
            }
            y[r * y_stride + j] = bias != NULL ? total + bias[j] : total;
        }
    }
}

void gv_blocks_row_scalar(float *y, float factor, const gv_quantised *w, int64_t row, bool add) {
    const int bits = w->blocks.bits, middle = bits == 8 ? 128 : w->blocks.minimum ? 0 : 8;
    const int64_t blocks = gv_block_count(w->k), size = gv_block_record(bits, w->blocks.minimum), lane = row % GV_PANEL;
    for (int64_t p = 0; p < w->k; p++) {
        const uint8_t *record = w->blocks.data + (row / GV_PANEL * blocks + p / GV_BLOCK) * size;
        float code = (float)(gv_code(record, bits, lane, p % GV_BLOCK) - middle),
              scale = gv_half(record + 64 * bits + 2 * lane);
        float least = w->blocks.minimum ? gv_half(record + 64 * bits + 32 + 2 * lane) : 0.0f;
        float v = factor * (w->blocks.minimum ? fmaf(code, scale, least) : code * scale);
        y[p] = add ? y[p] + v : v;
    }
}

void gv_pack_rows_scalar(float *out, const float *x, int64_t x_stride, int64_t rows, int64_t k, int64_t height) {
    for (int64_t i = 0; i < rows; i += height, out += height * k) {
        const int64_t count = rows - i < height ? rows - i : height;
        for (int64_t p = 0; p < k; p++) {
            for (int64_t r = 0; r < count; r++) out[p * count + r] = x[(i + r) * x_stride + p];
        }
    }
}

void gv_product_floats_scalar(float *y, int64_t y_stride, const float *x, int64_t rows, int64_t height, const gv_quantised *w,
                              int64_t first, int64_t cols, const float *bias) {
    for (int64_t r = 0; r < rows; r++) {
        const int64_t begin = r / height * height, count = rows - begin < height ? rows - begin : height;
        for (int64_t j = 0; j < cols; j++) {
            const float *in = x + begin * w->k + (r - begin), *from = gv_floats_of(w, first * GV_PANEL + j);
            float total = 0.0f;
            for (int64_t p = 0; p < w->k; p++) total = fmaf(in[p * count], from[p * GV_PANEL], total);
            y[r * y_stride + j] = bias != NULL ? total + bias[j] : total;
        }
    }
}
