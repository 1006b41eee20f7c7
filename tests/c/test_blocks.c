/* test_blocks.c - products of weights in blocks of 32: the scalar twin against plain sums in double, every instruction set
 * against the scalar bits, at the extremes too; a row alone, any number of threads; the error bound of rounded activations. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/parallel.h"
#include "kernels/gemm.h"

static int failures;

static void expect(bool good, const char *what, int64_t a, int64_t b, int64_t c) {
    if (good || failures++ >= 20) return;
    (void)fprintf(stderr, "failed: %s (%lld, %lld, %lld)\n", what, (long long)a, (long long)b, (long long)c);
}

static uint32_t seed = 7;
static uint32_t any(uint32_t below) {
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)seed * below) >> 32);
}

static void *room(size_t size) {
    void *p = aligned_alloc(64, (size + 63) / 64 * 64 + 64);
    if (p == NULL) exit(2);
    memset(p, 0x5a, (size + 63) / 64 * 64 + 64);
    return p;
}

static const char *const names[] = {"scalar", "avx2", "avx512"};

/* The three kinds of weight. */
static const struct {
    int bits;
    bool minimum;
} kinds[] = {{4, false}, {4, true}, {8, false}};

typedef enum { ORDINARY = 0, TOP_CODES, BOTTOM_CODES, ZERO_SCALES, SUBNORMAL_SCALES } filling;

typedef struct {
    gv_quantised w;
    uint8_t *data;
    double *plain; /* [n, k] what it stands for */
} packed;

static double half(uint32_t h) {
    double size = (h & 0x7C00) == 0 ? ldexp((double)(h & 0x3FF), -24)
                                    : ldexp((double)((h & 0x3FF) | 0x400), (int)((h & 0x7C00) >> 10) - 25);
    return (h & 0x8000) != 0 ? -size : size;
}

static packed pack(int64_t n, int64_t k, int kind, filling fill) {
    int bits = kinds[kind].bits;
    bool minimum = kinds[kind].minimum;
    int64_t blocks = gv_block_count(k), size = gv_block_record(bits, minimum), panels = (n + 15) / 16;
    size_t bytes = (size_t)(panels * blocks * size);
    packed p = {.data = malloc(bytes), .plain = room((size_t)(n * k) * sizeof(double))}; /* exact: ASan sees a read behind */
    if (p.data == NULL) exit(2);
    memset(p.data, 0, bytes);
    for (int64_t panel = 0; panel < panels; panel++) {
        for (int64_t g = 0; g < blocks; g++) {
            uint8_t *record = p.data + (panel * blocks + g) * size;
            for (int64_t lane = 0; lane < 16; lane++) {
                int64_t o = panel * 16 + lane;
                uint32_t scale = o >= n || fill == ZERO_SCALES ? 0
                                 : fill == SUBNORMAL_SCALES    ? any(0x400)
                                                               : 0x2000 + any(0x800) + 0x8000 * any(2);
                uint32_t least = o >= n ? 0 : 0x2800 + any(0x800) + 0x8000 * any(2);
                memcpy(record + 64 * bits + 2 * lane, &(uint16_t){(uint16_t)scale}, 2);
                if (minimum) memcpy(record + 64 * bits + 32 + 2 * lane, &(uint16_t){(uint16_t)least}, 2);
                for (int64_t i = 0; i < 32; i++) {
                    uint32_t most = (1u << bits) - 1;
                    uint32_t code = fill == TOP_CODES ? most : fill == BOTTOM_CODES ? 0 : any(most + 1);
                    uint8_t *at = record + (bits == 8 ? i / 4 : i / 8) * 64 + lane * 4 + i % 4;
                    *at = (uint8_t)(bits == 8 || i / 4 % 2 == 0 ? *at | code : *at | code << 4);
                    if (o >= n || g * 32 + i >= k) continue;
                    double value = minimum ? (double)code * half(scale) + half(least)
                                           : ((double)code - (bits == 8 ? 128 : 8)) * half(scale);
                    p.plain[o * k + g * 32 + i] = value;
                }
            }
        }
    }
    p.w = (gv_quantised){.n = n, .k = k, .blocks = {p.data, bits, minimum}};
    return p;
}

static void packed_free(packed *p) {
    free(p->data);
    free(p->plain);
}

static gv_block_rows block_rows(int64_t m, int64_t k) {
    size_t count = (size_t)(m * gv_block_count(k));
    return (gv_block_rows){room(count * 32), room(count * 4), room(count * 4), room(count * 4)};
}

static void block_rows_free(gv_block_rows *rows) {
    free(rows->q);
    free(rows->scale);
    free(rows->sum);
    free(rows->lanes);
}

static float *inputs(int64_t n, int kind) {
    float *x = malloc((size_t)n * sizeof *x); /* exact: ASan sees a read behind it */
    if (x == NULL) exit(2);
    for (int64_t i = 0; i < n; i++) {
        x[i] = ((float)any(1 << 20) / 524288.0f - 1.0f) * (kind == 1 && any(97) == 0 ? 1e4f : 1.0f);
        if (kind == 2) x[i] = 0.0f;
        if (kind == 3) x[i] = i % 2 == 0 ? -3.25f : -3.25f;
        if (kind == 4) x[i] *= 1e-40f;
        if (kind == 5) x[i] = 2.5f;
    }
    return x;
}

static const int64_t shapes[][3] = {/* rows, n, k */
                                    {1, 1, 1},     {2, 17, 7},    {3, 16, 32},   {4, 33, 65},  {5, 40, 130},
                                    {6, 100, 312}, {7, 31, 1200}, {12, 48, 96},  {13, 20, 33}, {25, 50, 200},
                                    {133, 16, 72}, {9, 24, 1056}, {17, 18, 1100}};

static void alike(const int64_t shape[3], int kind, filling fill, int of_x) {
    int64_t m = shape[0], n = shape[1], k = shape[2], blocks = gv_block_count(k), stride = n + 3;
    packed p = pack(n, k, kind, fill);
    float *x = inputs(m * k, of_x), *bias = inputs(n, 0), *y[3], *back[3];
    gv_block_rows rows[3];
    for (int t = 0; t < 3; t++) {
        const gv_kernels *kernels = gv_kernels_for(names[t]);
        y[t] = room((size_t)(m * stride) * sizeof(float));
        back[t] = room((size_t)(n * k) * sizeof(float));
        rows[t] = block_rows(m, k);
        if (kernels == NULL) continue;
        for (int64_t i = 0; i < m * stride; i++) y[t][i] = -77.0f;
        kernels->block_rows(&rows[t], x, k, m, k);
        kernels->product_blocks(y[t], stride, &rows[t], m, &p.w, 0, n, bias);
        for (int64_t o = 0; o < n; o++) {
            kernels->blocks_row(back[t] + o * k, 1.0f, &p.w, o, false);
            for (int64_t i = 0; i < k; i++) {
                expect(fabs((double)back[t][o * k + i] - p.plain[o * k + i]) <= 6e-8 * fabs(p.plain[o * k + i]), "a row", t, o,
                       i);
            }
            kernels->blocks_row(back[t] + o * k, -0.3f, &p.w, o, true);
        }
        size_t steps = (size_t)(m * blocks) * sizeof(float);
        expect(memcmp(rows[t].q, rows[0].q, (size_t)(m * blocks * 32)) == 0, "rounded rows", t, m, k);
        expect(memcmp(rows[t].scale, rows[0].scale, steps) == 0, "steps", t, m, k);
        expect(memcmp(rows[t].sum, rows[0].sum, steps) == 0, "sums", t, m, k);
        expect(memcmp(rows[t].lanes, rows[0].lanes, steps) == 0, "lanes", t, m, k);
        expect(memcmp(y[t], y[0], (size_t)(m * stride) * sizeof(float)) == 0, "products", t, m, k);
        expect(memcmp(back[t], back[0], (size_t)(n * k) * sizeof(float)) == 0, "rows of a weight", t, m, k);
        for (int64_t r = 0; r < m; r++) {
            float *one = room((size_t)n * sizeof(float));
            int64_t at = r * blocks;
            gv_block_rows row = {rows[t].q + at * 32, rows[t].scale + at, rows[t].sum + at, rows[t].lanes + at};
            kernels->product_blocks(one, n, &row, 1, &p.w, 0, n, bias);
            expect(memcmp(one, y[t] + r * stride, (size_t)n * sizeof(float)) == 0, "a row alone", t, r, k);
            for (int64_t o = n; o < stride; o++) expect(y[t][r * stride + o] == -77.0f, "nothing beside", r, o, k);
            free(one);
        }
    }
    for (int64_t r = 0; r < m; r++) {
        for (int64_t i = 0; i < k; i++) {
            double step = (double)rows[0].scale[r * blocks + i / 32], v = (double)x[r * k + i];
            expect(fabs(rows[0].q[r * blocks * 32 + i] * step - v) <= 0.5001 * step + 1e-6 * fabs(v) + 1.6e-36,
                   "a rounded value is half a step away at most", r, i, of_x);
        }
        for (int64_t o = 0; o < n; o++) {
            double exact = (double)bias[o], size = fabs((double)bias[o]), bound = 0;
            for (int64_t i = 0; i < k; i++) {
                double w = p.plain[o * k + i], v = (double)x[r * k + i];
                exact += v * w;
                size += fabs(w * v);
                /* a minimum comes to -7.5 steps and more of the other sign: both parts count */
                size += kinds[kind].minimum ? 64.0 * fabs(v) * 0.25 : 0.0;
                bound += 0.5001 * (double)rows[0].scale[r * blocks + i / 32] * fabs(w);
            }
            expect(fabs((double)y[0][r * stride + o] - exact) <= bound + 2e-5 * size + 1e-30, "the product is within the bound",
                   r, o, of_x);
        }
    }
    for (int t = 0; t < 3; t++) {
        free(y[t]);
        free(back[t]);
        block_rows_free(&rows[t]);
    }
    free(x);
    free(bias);
    packed_free(&p);
}

/* A NaN or an infinity in an input is one in the output of that row, and of no other. */
static void not_finite(int kind) {
    const int64_t k = 130, n = 20, m = 13;
    packed p = pack(n, k, kind, ORDINARY);
    for (int t = 0; t < 3; t++) {
        const gv_kernels *kernels = gv_kernels_for(names[t]);
        if (kernels == NULL) continue;
        for (int64_t at = 0; at < k; at += 43) {
            float *x = inputs(m * k, 0), y[13 * 20];
            x[at] = at % 2 == 0 ? NAN : INFINITY;
            gv_block_rows rows = block_rows(m, k);
            kernels->block_rows(&rows, x, k, m, k);
            kernels->product_blocks(y, n, &rows, m, &p.w, 0, n, NULL);
            for (int64_t i = 0; i < m * n; i++)
                expect(isfinite(y[i]) == (i >= n), "a strange input shows in its row", t, at, i);
            block_rows_free(&rows);
            free(x);
        }
    }
    packed_free(&p);
}

/* Over the pool: three weights of three kinds that share x, activation and the value before it; 1 and 3 threads. */
static void pooled(int64_t m, int64_t k, const int64_t n[3]) {
    gv_weight weights[3];
    packed p[3];
    float *bias[3], *x = inputs(m * k, 0), *y[2][3], *before[3];
    int64_t stride[3];
    for (int i = 0; i < 3; i++) {
        p[i] = pack(n[i], k, i, ORDINARY);
        bias[i] = inputs(n[i], 0);
        weights[i] = (gv_weight){.bias = bias[i], .n = n[i], .k = k, .quantised = &p[i].w};
        stride[i] = n[i] + 5;
        before[i] = room((size_t)(m * stride[i]) * sizeof(float));
        for (int t = 0; t < 2; t++) y[t][i] = room((size_t)(m * stride[i]) * sizeof(float));
    }
    gv_error error = {0};
    for (int t = 0; t < 2; t++) {
        expect(gv_set_num_threads(t == 0 ? 1 : 3, &error) == GV_OK, "threads", t, 0, 0);
        gv_status status = gv_linear_forward(y[t], stride, before, weights, 3, x, k, m, GV_ACT_SILU, &error);
        expect(status == GV_OK, error.text, m, k, t);
    }
    gv_block_rows rows = block_rows(m, k);
    const gv_kernels *kernels = gv_kernels_get();
    kernels->block_rows(&rows, x, k, m, k);
    for (int i = 0; i < 3; i++) {
        expect(memcmp(y[0][i], y[1][i], (size_t)(m * stride[i]) * sizeof(float)) == 0, "threads do not show", m, k, i);
        float *plain = room((size_t)(m * n[i]) * sizeof(float));
        kernels->product_blocks(plain, n[i], &rows, m, &p[i].w, 0, n[i], bias[i]);
        for (int64_t r = 0; r < m; r++) {
            expect(memcmp(plain + r * n[i], before[i] + r * stride[i], (size_t)n[i] * sizeof(float)) == 0, "as one call", r, m,
                   i);
        }
        free(plain);
        free(before[i]);
        free(bias[i]);
        free(y[0][i]);
        free(y[1][i]);
        packed_free(&p[i]);
    }
    block_rows_free(&rows);
    free(x);
}

/* ------------------------------------------------------------------------------------------------------ speed -- */

/* Of one thread the CPU's time, which other work on the machine hardly changes. */
static double now(void) {
    struct timespec t;
    (void)clock_gettime(gv_num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* `test_blocks --speed [ROWS [KIND]]`: the layers of a 0.5B model (24 x 896x4864), streamed from memory, best of several. */
static void speed(int kind, int64_t m) {
    enum { LAYERS = 24 };
    const int64_t n[4] = {1152, 896, 9728, 896}, k[4] = {896, 896, 896, 4864};
    static gv_quantised w[LAYERS][4];
    double bytes = 0, work = 0, best = 1e9;
    gv_error error = {0};
    for (int l = 0; l < LAYERS; l++) {
        for (int i = 0; i < 4; i++) {
            size_t size = (size_t)(n[i] / 16 * gv_block_count(k[i]) * gv_block_record(kinds[kind].bits, kinds[kind].minimum));
            uint8_t *data = room(size);
            w[l][i] = (gv_quantised){.n = n[i], .k = k[i], .blocks = {data, kinds[kind].bits, kinds[kind].minimum}};
            bytes += (double)size;
            work += 2.0 * (double)(n[i] * k[i] * m);
        }
    }
    float *x = inputs(m * 4864, 0), *y = room((size_t)(m * 9728) * sizeof(float));
    for (int repeat = 0; repeat < (m > 64 ? 1 : 8); repeat++) {
        double begin = now();
        for (int l = 0; l < LAYERS; l++) {
            for (int i = 0; i < 4; i++) {
                gv_weight weight = {.n = n[i], .k = k[i], .quantised = &w[l][i]};
                (void)gv_linear_forward(&y, &n[i], NULL, &weight, 1, x, k[i], m, GV_ACT_NONE, &error);
            }
        }
        double took = now() - begin;
        if (took < best) best = took;
    }
    (void)printf("bits %d%s, %3lld rows: %7.2f ms, %5.1f GB/s, %6.1f GOP/s\n", kinds[kind].bits,
                 kinds[kind].minimum ? " + minimum" : "", (long long)m, best * 1e3, bytes / best * 1e-9, work / best * 1e-9);
    (void)fflush(stdout);
    for (int l = 0; l < LAYERS; l++) {
        for (int i = 0; i < 4; i++) free((void *)(uintptr_t)w[l][i].blocks.data);
    }
    free(x);
    free(y);
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "--speed") == 0) {
        const int64_t rows[] = {1, 2, 4, 8, 16, 512};
        for (int kind = 0; kind < 3; kind++) {
            for (int i = 0; i < 6; i++) {
                if ((count < 3 || atoi(arguments[2]) == rows[i]) && (count < 4 || atoi(arguments[3]) == kind))
                    speed(kind, rows[i]);
            }
        }
        return 0;
    }
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        for (int kind = 0; kind < 3; kind++) {
            for (int fill = ORDINARY; fill <= SUBNORMAL_SCALES; fill++) alike(shapes[s], kind, (filling)fill, (int)s % 2);
            for (int of_x = 2; of_x < 6; of_x++) alike(shapes[s], kind, of_x % 2 == 0 ? TOP_CODES : BOTTOM_CODES, of_x);
        }
    }
    for (int kind = 0; kind < 3; kind++) not_finite(kind);
    pooled(1, 312, (const int64_t[3]){312, 312, 312});
    pooled(8, 900, (const int64_t[3]){640, 100, 17});
    pooled(200, 300, (const int64_t[3]){400, 33, 16});
    if (failures > 0) {
        (void)fprintf(stderr, "%d failures\n", failures);
        return 1;
    }
    (void)printf("ok\n");
    return 0;
}
