/* test_floats.c - products of float32 weights in panels: the scalar twin against plain sums in double, every instruction set
 * against its bits, a row alone, any number of threads, and beside weights of another form. */
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

static uint32_t seed = 11;
static float any(void) {
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)seed / 2147483648.0f;
}

static float *values(int64_t n) { /* exact: ASan sees a read behind it */
    float *x = malloc((size_t)n * sizeof *x);
    if (x == NULL) exit(2);
    for (int64_t i = 0; i < n; i++) x[i] = any();
    return x;
}

static const char *const names[] = {"scalar", "avx2", "avx512"};

/* w [n, k] in panels, zeros beside it; aligned as in a file. */
static gv_quantised pack(const float *w, int64_t n, int64_t k) {
    int64_t blocks = gv_block_count(k), panels = (n + GV_PANEL - 1) / GV_PANEL;
    size_t bytes = (size_t)(panels * blocks * gv_block_record(32, false));
    float *data = aligned_alloc(64, bytes);
    if (data == NULL) exit(2);
    memset(data, 0, bytes);
    gv_quantised packed = {.n = n, .k = k, .blocks = {(uint8_t *)data, 32, false}};
    for (int64_t o = 0; o < n; o++) {
        for (int64_t p = 0; p < k; p++) {
            data[(o / GV_PANEL * blocks * GV_BLOCK + p) * GV_PANEL + o % GV_PANEL] = w[o * k + p];
        }
    }
    return packed;
}

static void packed_free(gv_quantised *w) {
    free((void *)(uintptr_t)w->blocks.data);
}

/* y [m, stride] of one set of kernels, -77 where nothing is written. */
static float *product(const gv_kernels *kernels, const float *x, int64_t m, const gv_quantised *w, const float *bias,
                      int64_t height, int64_t stride) {
    float *rows = malloc((size_t)(m * w->k) * sizeof *rows), *y = malloc((size_t)(m * stride) * sizeof *y);
    if (rows == NULL || y == NULL) exit(2);
    for (int64_t i = 0; i < m * stride; i++) y[i] = -77.0f;
    kernels->pack_rows(rows, x, w->k, m, w->k, height);
    kernels->product_floats(y, stride, rows, m, height, w, 0, w->n, bias);
    free(rows);
    return y;
}

static void alike(int64_t m, int64_t n, int64_t k) {
    const int64_t stride = n + 3;
    float *x = values(m * k), *plain = values(n * k), *bias = values(n), *first = NULL, *row = values(k);
    gv_quantised w = pack(plain, n, k);
    for (int t = 0; t < 3; t++) {
        const gv_kernels *kernels = gv_kernels_for(names[t]);
        if (kernels == NULL) continue;
        int64_t blocks = (m + kernels->most_rows - 1) / kernels->most_rows;
        float *y = product(kernels, x, m, &w, bias, (m + blocks - 1) / blocks, stride);
        if (first == NULL) first = y;
        expect(memcmp(y, first, (size_t)(m * stride) * sizeof *y) == 0, "the scalar bits", t, m, k);
        for (int64_t r = 0; r < m; r++) {
            float *one = product(kernels, x + r * k, 1, &w, bias, 1, n);
            expect(memcmp(one, y + r * stride, (size_t)n * sizeof *y) == 0, "a row alone", t, r, k);
            for (int64_t o = n; o < stride; o++) expect(y[r * stride + o] == -77.0f, "nothing beside", r, o, k);
            free(one);
        }
        for (int64_t o = 0; o < n; o++) {
            gv_any_row(kernels, row, 1.0f, &w, o, false);
            expect(memcmp(row, plain + o * k, (size_t)k * sizeof *row) == 0, "a row of the weight", t, o, k);
            gv_any_row(kernels, row, -2.0f, &w, o, true);
            expect(row[0] == -plain[o * k], "a row added", t, o, k);
        }
        if (y != first) free(y);
    }
    for (int64_t r = 0; r < m; r++) {
        for (int64_t o = 0; o < n; o++) {
            double exact = (double)bias[o], size = fabs(exact);
            for (int64_t p = 0; p < k; p++) {
                exact += (double)x[r * k + p] * (double)plain[o * k + p];
                size += fabs((double)x[r * k + p] * (double)plain[o * k + p]);
            }
            expect(fabs((double)first[r * stride + o] - exact) <= 1e-6 * size, "the product", r, o, k);
        }
    }
    free(first);
    free(x);
    free(plain);
    free(bias);
    free(row);
    packed_free(&w);
}

/* A NaN or an infinity in a row shows in that row, and in no other. */
static void not_finite(void) {
    enum { M = 29, N = 20, K = 70 };
    float *plain = values(N * K);
    gv_quantised w = pack(plain, N, K);
    for (int t = 0; t < 3; t++) {
        const gv_kernels *kernels = gv_kernels_for(names[t]);
        if (kernels == NULL) continue;
        float *x = values(M * K);
        x[7 * K + 3] = NAN;
        x[8 * K + 69] = INFINITY;
        int64_t height = kernels->most_rows < 5 ? kernels->most_rows : 5;
        float *y = product(kernels, x, M, &w, NULL, height, N);
        for (int64_t i = 0; i < M * N; i++) {
            expect(isfinite(y[i]) == (i / N != 7 && i / N != 8), "a strange input shows in its row", t, i / N, i);
        }
        free(y);
        free(x);
    }
    free(plain);
    packed_free(&w);
}

/* Over the pool: two weights in floats and one in 4 bits (zeros: its outputs are its bias) that share x; 1 and 3 threads. */
static void pooled(int64_t m, int64_t k, const int64_t n[3]) {
    float *x = values(m * k), *plain[3], *bias[3], *y[2][3];
    gv_quantised w[3];
    gv_weight weights[3];
    gv_error error = {0};
    for (int i = 0; i < 3; i++) {
        plain[i] = values(n[i] * k);
        bias[i] = values(n[i]);
        w[i] = pack(plain[i], n[i], k);
        if (i == 1) { /* as long, or shorter */
            memset((void *)(uintptr_t)w[i].blocks.data, 0, (size_t)((n[i] + 15) / 16 * gv_block_count(k) * 288));
            w[i].blocks.bits = 4;
        }
        weights[i] = (gv_weight){.bias = bias[i], .n = n[i], .k = k, .quantised = &w[i]};
        for (int t = 0; t < 2; t++) y[t][i] = values(m * n[i]);
    }
    for (int t = 0; t < 2; t++) {
        expect(gv_set_num_threads(t == 0 ? 1 : 3, &error) == GV_OK, "threads", t, 0, 0);
        gv_status status = gv_linear_forward(y[t], n, NULL, weights, 3, x, k, m, GV_ACT_NONE, &error);
        expect(status == GV_OK, error.text, m, k, t);
    }
    for (int i = 0; i < 3; i++) {
        float *one = i == 1 ? NULL : product(gv_kernels_for("scalar"), x, m, &w[i], bias[i], 8, n[i]);
        expect(memcmp(y[0][i], y[1][i], (size_t)(m * n[i]) * sizeof(float)) == 0, "threads do not show", m, k, i);
        for (int64_t j = 0; j < m * n[i]; j++) {
            float wanted = one != NULL ? one[j] : bias[i][j % n[i]];
            expect(y[0][i][j] == wanted, "as one call", m, j, i);
        }
        free(one);
        free(plain[i]);
        free(bias[i]);
        free(y[0][i]);
        free(y[1][i]);
        packed_free(&w[i]);
    }
    free(x);
}

int main(void) {
    const int64_t ks[] = {1, 7, 32, 65, 130, 256, 300, 520}, ns[] = {1, 16, 17, 50};
    for (int64_t m = 1; m <= 26; m++) alike(m, ns[m % 4], ks[m % 8]);
    for (int64_t m = 30; m <= 140; m += 11) {
        for (int i = 0; i < 4; i++) alike(m, ns[i], ks[(m + i) % 8]);
    }
    not_finite();
    pooled(1, 320, (const int64_t[3]){320, 320, 320});
    pooled(17, 300, (const int64_t[3]){500, 40, 17});
    pooled(200, 700, (const int64_t[3]){400, 33, 16});
    if (failures > 0) {
        (void)fprintf(stderr, "%d failures\n", failures);
        return 1;
    }
    (void)printf("ok\n");
    return 0;
}
