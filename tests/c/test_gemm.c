/* test_gemm.c - linear layers over the pool: against plain loops in double, in slices, transposed, accumulated, and with the
 * same bits for any number of threads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/parallel.h"
#include "kernels/gemm.h"

static int failures;

static float *filled(int64_t n, uint32_t seed) {
    float *p = malloc((size_t)n * sizeof *p);
    if (p == NULL) exit(2);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
    return p;
}

typedef struct {
    int64_t m, k;
    int count;
    int64_t n[GV_LINEAR_GROUP];
    bool transposed, bias, slice, accumulate;
} shape;

static const shape shapes[] = {
    {1, 1, 1, {1}, false, true, false, false},
    {3, 50, 2, {7, 33}, false, true, true, true},
    {16, 312, 3, {312, 312, 312}, false, true, false, false},
    {16, 312, 3, {312, 100, 12}, true, true, true, true},
    {28, 1200, 1, {312}, false, false, false, true},
    {40, 900, 2, {1200, 60}, false, true, true, false},
    {64, 130, 1, {770}, true, false, false, false},
    {65, 130, 1, {770}, false, true, true, false},
    {100, 300, 3, {200, 96, 40}, true, true, true, true},
    {530, 200, 2, {300, 193}, false, true, false, true},
    {600, 129, 1, {97}, true, true, true, false},
};

/* What one product writes: every array with room around the rows, which must stay as it was. */
typedef struct {
    float *y[GV_LINEAR_GROUP], *before[GV_LINEAR_GROUP], *dx, *dw[GV_LINEAR_GROUP], *dbias[GV_LINEAR_GROUP];
    int64_t y_size[GV_LINEAR_GROUP], dx_size, dw_size[GV_LINEAR_GROUP];
} results;

typedef struct {
    gv_weight weights[GV_LINEAR_GROUP];
    float *w[GV_LINEAR_GROUP], *bias[GV_LINEAR_GROUP], *dy[GV_LINEAR_GROUP], *x;
    int64_t y_stride[GV_LINEAR_GROUP], x_stride;
} operands;

static operands operands_make(const shape *s) {
    operands o = {.x_stride = s->k + (s->slice ? 5 : 0)};
    o.x = filled(s->m * o.x_stride, 1);
    for (int i = 0; i < s->count; i++) {
        int64_t rows = s->transposed ? s->k : s->n[i], cols = s->transposed ? s->n[i] : s->k;
        int64_t stride = cols + (s->slice ? 9 : 0);
        o.w[i] = filled(rows * stride, 10u + (uint32_t)i);
        o.bias[i] = filled(s->n[i], 20u + (uint32_t)i);
        o.weights[i] = (gv_weight){.w = o.w[i], .bias = s->bias ? o.bias[i] : NULL, .n = s->n[i], .k = s->k};
        o.weights[i].stride = stride;
        o.weights[i].transposed = s->transposed;
        o.y_stride[i] = s->n[i] + (s->slice ? 3 : 0);
        o.dy[i] = filled(s->m * o.y_stride[i], 30u + (uint32_t)i);
    }
    return o;
}

static results run(const shape *s, const operands *o) {
    results r = {.dx_size = s->m * o->x_stride};
    gv_error error = {0};
    bool accumulate[GV_LINEAR_GROUP];
    for (int i = 0; i < s->count; i++) {
        int64_t rows = s->transposed ? s->k : s->n[i];
        r.y_size[i] = s->m * o->y_stride[i];
        r.dw_size[i] = rows * o->weights[i].stride;
        r.y[i] = filled(r.y_size[i], 40);
        r.before[i] = filled(r.y_size[i], 40);
        r.dw[i] = filled(r.dw_size[i], 50);
        r.dbias[i] = filled(s->n[i], 60);
        accumulate[i] = s->accumulate;
    }
    r.dx = filled(r.dx_size, 70);
    gv_status status =
        gv_linear_forward(r.y, o->y_stride, r.before, o->weights, s->count, o->x, o->x_stride, s->m, GV_ACT_GELU_ERF, &error);
    if (status == GV_OK) {
        status = gv_linear_backward_input(r.dx, o->x_stride, (const float *const *)o->dy, o->y_stride, o->weights, s->count,
                                          s->m, s->accumulate, &error);
    }
    if (status == GV_OK) {
        status = gv_linear_backward_weight(r.dw, s->bias ? r.dbias : NULL, accumulate, o->weights, s->count,
                                           (const float *const *)o->dy, o->y_stride, o->x, o->x_stride, s->m, &error);
    }
    if (status != GV_OK) {
        failures++;
        (void)fprintf(stderr, "status %d: %s\n", (int)status, error.text);
    }
    return r;
}

static void results_free(const shape *s, results *r) {
    for (int i = 0; i < s->count; i++) {
        free(r->y[i]);
        free(r->before[i]);
        free(r->dw[i]);
        free(r->dbias[i]);
    }
    free(r->dx);
}

static void near(const shape *s, const char *what, double expected, float got, double size) {
    if (fabs(expected - (double)got) <= 3e-6 * size) return;
    if (failures++ < 20) {
        (void)fprintf(stderr, "m=%lld k=%lld: %s is %.9g, expected %.9g\n", (long long)s->m, (long long)s->k, what, (double)got,
                      expected);
    }
}

static float weight_at(const operands *o, int i, int64_t j, int64_t p) {
    const gv_weight *w = &o->weights[i];
    return w->transposed ? w->w[p * w->stride + j] : w->w[j * w->stride + p];
}

static void check(const shape *s, const operands *o, const results *r) {
    for (int i = 0; i < s->count; i++) {
        float *was = filled(r->y_size[i], 40), *was_dw = filled(r->dw_size[i], 50), *was_dbias = filled(s->n[i], 60);
        for (int64_t a = 0; a < s->m; a++) {
            for (int64_t j = 0; j < s->n[i]; j++) {
                double sum = s->bias ? (double)o->bias[i][j] : 0.0;
                for (int64_t p = 0; p < s->k; p++) sum += (double)o->x[a * o->x_stride + p] * (double)weight_at(o, i, j, p);
                near(s, "before the activation", sum, r->before[i][a * o->y_stride[i] + j], sqrt((double)s->k) + 1);
                near(s, "y", 0.5 * sum * erfc(-sum / sqrt(2.0)), r->y[i][a * o->y_stride[i] + j], sqrt((double)s->k) + 1);
            }
            for (int64_t j = s->n[i]; j < o->y_stride[i]; j++) {
                near(s, "room after a row", (double)was[a * o->y_stride[i] + j], r->y[i][a * o->y_stride[i] + j], 0.0);
            }
        }
        for (int64_t j = 0; j < s->n[i]; j++) {
            double bias = s->accumulate ? (double)was_dbias[j] : 0.0;
            for (int64_t a = 0; a < s->m; a++) bias += (double)o->dy[i][a * o->y_stride[i] + j];
            if (s->bias) near(s, "dbias", bias, r->dbias[i][j], sqrt((double)s->m) + 1);
            for (int64_t p = 0; p < s->k; p++) {
                int64_t at = s->transposed ? p * o->weights[i].stride + j : j * o->weights[i].stride + p;
                double sum = s->accumulate ? (double)was_dw[at] : 0.0;
                for (int64_t a = 0; a < s->m; a++)
                    sum += (double)o->dy[i][a * o->y_stride[i] + j] * (double)o->x[a * o->x_stride + p];
                near(s, "dw", sum, r->dw[i][at], sqrt((double)s->m) + 1);
            }
        }
        int64_t rows = s->transposed ? s->k : s->n[i], cols = s->transposed ? s->n[i] : s->k;
        for (int64_t a = 0; a < rows; a++) {
            for (int64_t j = cols; j < o->weights[i].stride; j++) {
                int64_t at = a * o->weights[i].stride + j;
                near(s, "room after a row of dw", (double)was_dw[at], r->dw[i][at], 0.0);
            }
        }
        free(was);
        free(was_dw);
        free(was_dbias);
    }
    float *was = filled(r->dx_size, 70);
    for (int64_t a = 0; a < s->m; a++) {
        for (int64_t p = 0; p < o->x_stride; p++) {
            int64_t at = a * o->x_stride + p, total = 0;
            double sum = s->accumulate || p >= s->k ? (double)was[at] : 0.0;
            for (int i = 0; i < s->count && p < s->k; i++) {
                for (int64_t j = 0; j < s->n[i]; j++) {
                    sum += (double)o->dy[i][a * o->y_stride[i] + j] * (double)weight_at(o, i, j, p);
                }
                total += s->n[i];
            }
            near(s, "dx", sum, r->dx[at], p < s->k ? sqrt((double)total) + 1 : 0.0);
        }
    }
    free(was);
}

static void same_bits(const shape *s, const results *a, const results *b, int threads) {
    bool same = memcmp(a->dx, b->dx, (size_t)a->dx_size * sizeof(float)) == 0;
    for (int i = 0; i < s->count; i++) {
        same = same && memcmp(a->y[i], b->y[i], (size_t)a->y_size[i] * sizeof(float)) == 0;
        same = same && memcmp(a->before[i], b->before[i], (size_t)a->y_size[i] * sizeof(float)) == 0;
        same = same && memcmp(a->dw[i], b->dw[i], (size_t)a->dw_size[i] * sizeof(float)) == 0;
        same = same && memcmp(a->dbias[i], b->dbias[i], (size_t)s->n[i] * sizeof(float)) == 0;
    }
    if (same) return;
    failures++;
    (void)fprintf(stderr, "m=%lld k=%lld: %d threads give other bits than one\n", (long long)s->m, (long long)s->k, threads);
}

/* ------------------------------------------------------------------------------------------------------ speed -- */

static double now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* `test_gemm --speed [ROWS]`: GFLOP/s of the three products of a layer whose weights stream from memory, best of three. */
static void speed(int64_t m, int64_t n, int64_t k) {
    const int64_t copies = 60000000 / (n * k) + 1;
    float *w = filled(copies * n * k, 1), *x = filled(m * k, 2), *y = filled(m * n, 3), *dx = filled(m * k, 4);
    float *dw = filled(n * k, 5), *const ys[] = {y}, *const dws[] = {dw}, *const none[] = {NULL};
    const float *const dys[] = {y};
    const bool add[] = {false};
    double best[3] = {1e9, 1e9, 1e9};
    gv_error error = {0};
    for (int repeat = 0; repeat < 3; repeat++) {
        for (int kind = 0; kind < 3; kind++) {
            double begin = now();
            for (int64_t i = 0; i < copies; i++) {
                gv_weight weight = {.w = w + i * n * k, .n = n, .k = k, .stride = k};
                if (kind == 0) (void)gv_linear_forward(ys, &n, NULL, &weight, 1, x, k, m, GV_ACT_NONE, &error);
                if (kind == 1) (void)gv_linear_backward_input(dx, k, dys, &n, &weight, 1, m, false, &error);
                if (kind == 2) (void)gv_linear_backward_weight(dws, none, add, &weight, 1, dys, &n, x, k, m, &error);
            }
            double took = now() - begin;
            if (took < best[kind]) best[kind] = took;
        }
    }
    double work = 2e-9 * (double)copies * (double)(m * n * k);
    (void)printf("%4lld rows, %5lld outputs, %5lld inputs: forward %6.1f, of inputs %6.1f, of weights %6.1f GFLOP/s\n",
                 (long long)m, (long long)n, (long long)k, work / best[0], work / best[1], work / best[2]);
    (void)fflush(stdout);
    free(w);
    free(x);
    free(y);
    free(dx);
    free(dw);
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "--speed") == 0) {
        const int64_t layers[][2] = {{4864, 896}, {896, 4864}, {896, 896}, {3072, 768}, {768, 768}};
        for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
            speed(count > 2 ? atoi(arguments[2]) : 256, layers[i][0], layers[i][1]);
        }
        return 0;
    }
    const int threads[] = {1, 2, 3, 8};
    gv_error error = {0};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const shape *s = &shapes[i];
        operands o = operands_make(s);
        results first = {0};
        for (int t = 0; t < 4; t++) {
            if (gv_set_num_threads(threads[t], &error) != GV_OK) failures++;
            results r = run(s, &o);
            if (t == 0) {
                check(s, &o, &r);
                first = r;
            } else {
                same_bits(s, &first, &r, threads[t]);
                results_free(s, &r);
            }
        }
        results_free(s, &first);
        free(o.x);
        for (int j = 0; j < s->count; j++) {
            free(o.w[j]);
            free(o.bias[j]);
            free(o.dy[j]);
        }
    }
    /* nothing to do is no error; a raised flag is reported */
    if (gv_linear_forward(NULL, NULL, NULL, NULL, 0, NULL, 0, 0, GV_ACT_NONE, &error) != GV_OK) failures++;
    volatile int flag = 1;
    float one = 1.0f, out = 0.0f, *y[] = {&out};
    const int64_t stride[] = {1};
    const gv_weight weight = {.w = &one, .n = 1, .k = 1, .stride = 1};
    (void)gv_parallel_set_cancel(&flag);
    gv_status status = gv_linear_forward(y, stride, NULL, &weight, 1, &one, 1, 1, GV_ACT_NONE, &error);
    if (status != GV_ERR_CANCELLED || error.text[0] == '\0' || out != 0.0f) failures++;
    (void)gv_parallel_set_cancel(NULL);
    (void)printf("%s: %s\n", gv_gemm_description(), failures == 0 ? "ok" : "FAILED");
    return failures == 0 ? 0 : 1;
}
