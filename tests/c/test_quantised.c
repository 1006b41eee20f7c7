/* test_quantised.c - quantised products: the same integers as plain 32-bit sums and as oneDNN, at the extremes too; the same
 * bits from every instruction set, any number of threads, and for a row alone; the error bound of rounding. */
#include <dnnl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "kernels/gemm.h"

static int failures;

static void expect(bool good, const char *what, int64_t a, int64_t b, int64_t c) {
    if (good || failures++ >= 20) return;
    (void)fprintf(stderr, "failed: %s (%lld, %lld, %lld)\n", what, (long long)a, (long long)b, (long long)c);
}

static uint32_t gv_seed = 7;
static uint32_t any(uint32_t below) {
    gv_seed = gv_seed * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)gv_seed * below) >> 32);
}

static void *room(size_t size) {
    void *p = aligned_alloc(64, (size + 63) / 64 * 64);
    if (p == NULL) exit(2);
    memset(p, 0x5a, (size + 63) / 64 * 64);
    return p;
}

static const char *const names[] = {"scalar", "avx2", "avx512"};

typedef struct {
    gv_quantised w;
    int8_t *panels, *plain; /* plain: [n, depth] row-major */
    int16_t *sums;
    float *scale, *smooth;
} packed;

/* From row-major integers. */
static packed pack(const int8_t *plain, int64_t n, int64_t k, int64_t group, int levels, bool smooth) {
    int64_t depth = gv_quantised_depth(k), groups = gv_quantised_groups(k, group), panels = (n + 15) / 16;
    packed p = {.panels = room((size_t)(panels * depth * 16)), .plain = room((size_t)(n * depth))};
    p.sums = room((size_t)(panels * groups * 16) * sizeof(int16_t));
    p.scale = room((size_t)(panels * 16) * sizeof(float));
    p.smooth = room((size_t)k * sizeof(float));
    memset(p.panels, 0, (size_t)(panels * depth * 16));
    memset(p.sums, 0, (size_t)(panels * groups * 16) * sizeof(int16_t));
    memset(p.plain, 0, (size_t)(n * depth));
    for (int64_t o = 0; o < n; o++) {
        for (int64_t i = 0; i < k; i++) {
            int8_t v = plain[o * k + i];
            p.panels[o / 16 * depth * 16 + i / 4 * 64 + o % 16 * 4 + i % 4] = v;
            p.sums[(o / 16 * groups + i / group) * 16 + o % 16] =
                (int16_t)(p.sums[(o / 16 * groups + i / group) * 16 + o % 16] + v);
            p.plain[o * depth + i] = v;
        }
    }
    for (int64_t o = 0; o < panels * 16; o++) p.scale[o] = o < n ? (float)(1 + any(100)) / 1000.0f : 0.0f;
    for (int64_t i = 0; i < k; i++) p.smooth[i] = (float)(1 + any(200)) / 100.0f;
    p.w =
        (gv_quantised){.panels = p.panels, .sums = p.sums, .scale = p.scale, .n = n, .k = k, .group = group, .levels = levels};
    if (smooth) p.w.smooth = p.smooth;
    return p;
}

static void packed_free(packed *p) {
    free(p->panels);
    free(p->plain);
    free(p->sums);
    free(p->scale);
    free(p->smooth);
}

/* Weights whose lanes of four lie at the limit that simd_quantised.h states. kind 0: any that keep it; 1: all of the limit in one
 * weight or spread over four; 2: negative ones likewise; 3: both signs at once. */
static void extreme(int8_t *plain, int64_t n, int64_t k, int levels, int kind) {
    int limit = 32767 / levels;
    for (int64_t i = 0; i < n * k; i++) plain[i] = 0;
    for (int64_t o = 0; o < n; o++) {
        for (int64_t step = 0; step < k; step += 8) {
            for (int lane = 0; lane < 2; lane++) {
                int left[2] = {limit, limit};
                int64_t at[4] = {step + 2 * lane, step + 2 * lane + 1, step + 2 * lane + 4, step + 2 * lane + 5};
                for (int j = 0; j < 4; j++) {
                    if (at[j] >= k) continue;
                    int negative = kind == 0 ? (int)any(2) : kind == 3 ? (int)((o + step + j) % 2) : kind == 2;
                    int most = left[negative] > 127 ? 127 : left[negative];
                    int v = kind == 0                ? (int)any((uint32_t)most + 1)
                            : (o + j) % 3 == 0       ? most
                            : (limit + 3) / 4 > most ? most
                                                     : (limit + 3) / 4;
                    left[negative] -= v;
                    plain[o * k + at[j]] = (int8_t)(negative ? -v : v);
                }
            }
        }
    }
}

static const int64_t shapes[][4] = {/* rows, n, k, group */
                                    {1, 1, 1, 8},       {2, 17, 7, 8},     {3, 16, 8, 64},     {4, 33, 65, 64},
                                    {5, 40, 130, 128},  {6, 100, 312, 64}, {7, 31, 1200, 256}, {13, 48, 96, 32},
                                    {25, 50, 200, 128}, {70, 16, 72, 64}};

/* With scale 1 and low 0 in each row the product is the plain integer sum of each group. */
static void exact(const int64_t shape[4], int levels, int kind, int filling) {
    int64_t m = shape[0], n = shape[1], k = shape[2], group = shape[3];
    int64_t depth = gv_quantised_depth(k), groups = gv_quantised_groups(k, group), wide = (n + 15) / 16 * 16;
    int8_t *plain = room((size_t)(n * k));
    extreme(plain, n, k, levels, kind);
    packed p = pack(plain, n, k, group, levels, false);
    uint8_t *q = room((size_t)(m * depth));
    float *scale = room((size_t)(m * groups) * sizeof(float)), *low = room((size_t)(m * groups) * sizeof(float));
    float *y = room((size_t)(m * (n + 3)) * sizeof(float));
    int32_t *twin = room((size_t)(m * n) * sizeof(int32_t));
    memset(q, 0, (size_t)(m * depth));
    for (int64_t r = 0; r < m; r++) {
        for (int64_t i = 0; i < k; i++) {
            q[r * depth + i] = (uint8_t)(filling == 0   ? levels
                                         : filling == 1 ? (i % 2 == r % 2 ? levels : 0)
                                                        : (int)any((uint32_t)levels + 1));
        }
    }
    for (int64_t i = 0; i < m * groups; i++) {
        scale[i] = 1.0f;
        low[i] = 0.0f;
    }
    for (int64_t o = 0; o < wide; o++) p.scale[o] = 1.0f;
    gv_quantised_rows rows = {q, scale, low};
    const uint8_t zero_a = 0;
    const int8_t zero_b = 0;
    const int32_t zero_c = 0;
    dnnl_status_t status =
        dnnl_gemm_u8s8s32('N', 'T', 'F', m, n, depth, 1.0f, q, depth, zero_a, p.plain, depth, zero_b, 0.0f, twin, n, &zero_c);
    expect(status == dnnl_success, "oneDNN's product", m, n, k);
    for (int t = 0; t < 3; t++) {
        const gv_kernels *kernels = gv_kernels_for(names[t]);
        if (kernels == NULL) continue;
        for (int64_t i = 0; i < m * (n + 3); i++) y[i] = -77.0f;
        kernels->product_quantised(y, n + 3, &rows, m, &p.w, 0, n, NULL);
        for (int64_t r = 0; r < m; r++) {
            for (int64_t o = 0; o < n; o++) {
                int32_t sum = 0;
                for (int64_t i = 0; i < k; i++) sum += (int32_t)q[r * depth + i] * plain[o * k + i];
                /* below 2^24 a float holds it exactly */
                expect(y[r * (n + 3) + o] == (float)sum, names[t], r, o, k);
                expect(status != dnnl_success || twin[r * n + o] == sum, "oneDNN agrees", r, o, k);
            }
            for (int64_t o = n; o < n + 3; o++)
                expect(y[r * (n + 3) + o] == -77.0f, "nothing beside the row is written", r, o, k);
        }
    }
    free(plain);
    free(q);
    free(scale);
    free(low);
    free(y);
    free(twin);
    packed_free(&p);
}

static void fill(float *x, int64_t n, int kind) {
    for (int64_t i = 0; i < n; i++) {
        x[i] = ((float)any(1 << 20) / 524288.0f - 1.0f) * (kind == 1 && any(97) == 0 ? 1e4f : 1.0f);
        if (kind == 2) x[i] = 0.0f;
        if (kind == 3) x[i] = 3.25f;
        if (kind == 4) x[i] *= 1e-40f;
    }
}

/* Rounding and product: one bound, and the same bits everywhere. */
static void alike(const int64_t shape[4], int levels, int kind, bool smooth) {
    int64_t m = shape[0], n = shape[1], k = shape[2], group = shape[3];
    int64_t depth = gv_quantised_depth(k), groups = gv_quantised_groups(k, group);
    int8_t *plain = room((size_t)(n * k));
    extreme(plain, n, k, levels, 0);
    packed p = pack(plain, n, k, group, levels, smooth);
    float *x = room((size_t)(m * k) * sizeof(float)), *bias = room((size_t)n * sizeof(float));
    fill(x, m * k, kind);
    fill(bias, n, 0);
    uint8_t *q[3];
    float *scale[3], *low[3], *y[3], *back[3];
    for (int t = 0; t < 3; t++) {
        q[t] = room((size_t)(m * depth));
        scale[t] = room((size_t)(m * groups) * sizeof(float));
        low[t] = room((size_t)(m * groups) * sizeof(float));
        y[t] = room((size_t)(m * n) * sizeof(float));
        back[t] = room((size_t)(n * k) * sizeof(float));
        const gv_kernels *kernels = gv_kernels_for(names[t]);
        if (kernels == NULL) continue;
        gv_quantised_rows rows = {q[t], scale[t], low[t]};
        kernels->quantise_rows(&rows, x, k, p.w.smooth, m, k, group, levels);
        kernels->product_quantised(y[t], n, &rows, m, &p.w, 0, n, bias);
        for (int64_t o = 0; o < n; o++) {
            kernels->quantised_row(back[t] + o * k, 1.0f, &p.w, o, false);
            kernels->quantised_row(back[t] + o * k, -0.5f, &p.w, o, true);
        }
        expect(memcmp(q[t], q[0], (size_t)(m * depth)) == 0, "rounded rows", t, m, k);
        expect(memcmp(scale[t], scale[0], (size_t)(m * groups) * sizeof(float)) == 0, "steps", t, m, k);
        expect(memcmp(low[t], low[0], (size_t)(m * groups) * sizeof(float)) == 0, "lows", t, m, k);
        expect(memcmp(y[t], y[0], (size_t)(m * n) * sizeof(float)) == 0, "products", t, m, k);
        expect(memcmp(back[t], back[0], (size_t)(n * k) * sizeof(float)) == 0, "rows of a weight", t, m, k);
        for (int64_t r = 0; r < m; r++) {
            /* alone */
            float *one = room((size_t)n * sizeof(float));
            gv_quantised_rows row = {q[t] + r * depth, scale[t] + r * groups, low[t] + r * groups};
            kernels->product_quantised(one, n, &row, 1, &p.w, 0, n, bias);
            expect(memcmp(one, y[t] + r * n, (size_t)n * sizeof(float)) == 0, "a row alone", t, r, k);
            free(one);
        }
    }
    for (int64_t r = 0; r < m; r++) {
        for (int64_t i = 0; i < k; i++) {
            double v = smooth ? (double)(x[r * k + i] * p.smooth[i]) : (double)x[r * k + i];
            double step = (double)scale[0][r * groups + i / group], base = (double)low[0][r * groups + i / group];
            double got = (double)q[0][r * depth + i] * step + base;
            expect(fabs(got - v) <= 0.5001 * step + 1e-6 * fabs(base) + 1e-6 * fabs(v) + 3e-36,
                   "a rounded value is half a step away at most", r, i, kind);
        }
        for (int64_t o = 0; o < n; o++) {
            double exact_sum = (double)bias[o], size = fabs((double)bias[o]), bound = 0;
            for (int64_t i = 0; i < k; i++) {
                double v = smooth ? (double)(x[r * k + i] * p.smooth[i]) : (double)x[r * k + i];
                double w = (double)plain[o * k + i] * (double)p.scale[o];
                exact_sum += v * w;
                size += fabs(w) * (fabs(v) + fabs((double)low[0][r * groups + i / group]));
                bound += 0.5001 * (double)scale[0][r * groups + i / group] * fabs(w);
            }
            expect(fabs((double)y[0][r * n + o] - exact_sum) <= bound + 2e-5 * size + 1e-30, "the product is within the bound",
                   r, o, kind);
        }
    }
    for (int t = 0; t < 3; t++) {
        free(q[t]);
        free(scale[t]);
        free(low[t]);
        free(y[t]);
        free(back[t]);
    }
    free(plain);
    free(x);
    free(bias);
    packed_free(&p);
}

/* A NaN or an infinity in an input is one in the output of that row, and of no other. */
static void not_finite(void) {
    const int64_t k = 130, n = 20, depth = gv_quantised_depth(k), groups = gv_quantised_groups(k, 64);
    int8_t *plain = room((size_t)(n * k));
    extreme(plain, n, k, 192, 0);
    packed p = pack(plain, n, k, 64, 192, false);
    for (int t = 0; t < 3; t++) {
        const gv_kernels *kernels = gv_kernels_for(names[t]);
        if (kernels == NULL) continue;
        for (int64_t at = 0; at < k; at += 43) {
            float x[2 * 130], y[2 * 20], scale[6], low[6];
            uint8_t *q = room((size_t)(2 * depth));
            fill(x, 2 * k, 0);
            x[at] = at % 2 == 0 ? NAN : INFINITY;
            gv_quantised_rows rows = {q, scale, low};
            expect(groups <= 3, "room", groups, 0, 0);
            kernels->quantise_rows(&rows, x, k, NULL, 2, k, 64, 192);
            kernels->product_quantised(y, n, &rows, 2, &p.w, 0, n, NULL);
            for (int64_t o = 0; o < n; o++) {
                expect(!isfinite(y[o]), "a strange input shows", t, at, o);
                expect(isfinite(y[n + o]), "in its own row only", t, at, o);
            }
            free(q);
        }
    }
    free(plain);
    packed_free(&p);
}

/* Over the pool: three weights that share x, two kinds of rounding, activation and the value before it; 1 and 3 threads. */
static void pooled(int64_t m, int64_t k, const int64_t n[3], bool same) {
    gv_weight weights[3];
    packed p[3];
    float *bias[3], *x = room((size_t)(m * k) * sizeof(float)), *y[2][3], *before[3], *plain_y = NULL;
    int64_t stride[3];
    fill(x, m * k, 0);
    for (int i = 0; i < 3; i++) {
        int8_t *plain = room((size_t)(n[i] * k));
        extreme(plain, n[i], k, 160, 0);
        p[i] = pack(plain, n[i], k, 64, 160, true);
        free(plain);
        if (same) memcpy(p[i].smooth, p[0].smooth, (size_t)k * sizeof(float));
        bias[i] = room((size_t)n[i] * sizeof(float));
        fill(bias[i], n[i], 0);
        weights[i] = (gv_weight){.bias = bias[i], .n = n[i], .k = k, .quantised = &p[i].w};
        stride[i] = n[i] + 5;
        before[i] = room((size_t)(m * stride[i]) * sizeof(float));
        for (int t = 0; t < 2; t++) y[t][i] = room((size_t)(m * stride[i]) * sizeof(float));
    }
    gv_error error = {0};
    for (int t = 0; t < 2; t++) {
        expect(gv_set_num_threads(t == 0 ? 1 : 3, &error) == GV_OK, "threads", t, 0, 0);
        gv_status status = gv_linear_forward(y[t], stride, before, weights, 3, x, k, m, GV_ACT_GELU_ERF, &error);
        expect(status == GV_OK, error.text, m, k, t);
    }
    for (int i = 0; i < 3; i++) {
        expect(memcmp(y[0][i], y[1][i], (size_t)(m * stride[i]) * sizeof(float)) == 0, "threads do not show", m, k, i);
        plain_y = room((size_t)(m * n[i]) * sizeof(float));
        int64_t depth = gv_quantised_depth(k), groups = gv_quantised_groups(k, 64);
        gv_quantised_rows rows = {room((size_t)(m * depth)), room((size_t)(m * groups) * 4), room((size_t)(m * groups) * 4)};
        const gv_kernels *kernels = gv_kernels_get();
        kernels->quantise_rows(&rows, x, k, p[i].smooth, m, k, 64, 160);
        kernels->product_quantised(plain_y, n[i], &rows, m, &p[i].w, 0, n[i], bias[i]);
        for (int64_t r = 0; r < m; r++) {
            expect(memcmp(plain_y + r * n[i], before[i] + r * stride[i], (size_t)n[i] * sizeof(float)) == 0, "as one call", r,
                   m, i);
        }
        free(rows.q);
        free(rows.scale);
        free(rows.low);
        free(plain_y);
        free(before[i]);
        free(bias[i]);
        free(y[0][i]);
        free(y[1][i]);
        packed_free(&p[i]);
    }
    free(x);
}

int main(void) {
    const int levels[] = {127, 160, 192, 255};
    const int64_t shapes_count = (int64_t)(sizeof shapes / sizeof shapes[0]);
    for (int64_t s = 0; s < shapes_count; s++) {
        for (int l = 0; l < 4; l++) {
            for (int kind = 0; kind < 4; kind++) {
                for (int filling = 0; filling < 3; filling++) exact(shapes[s], levels[l], kind, filling);
            }
            for (int kind = 0; kind < 5; kind++) alike(shapes[s], levels[l], kind, kind % 2 == 0);
        }
    }
    not_finite();
    pooled(1, 312, (const int64_t[3]){312, 312, 312}, true);
    pooled(16, 312, (const int64_t[3]){312, 100, 17}, false);
    pooled(200, 300, (const int64_t[3]){400, 33, 16}, true);
    if (failures > 0) {
        (void)fprintf(stderr, "%d failures\n", failures);
        return 1;
    }
    (void)printf("ok\n");
    return 0;
}
