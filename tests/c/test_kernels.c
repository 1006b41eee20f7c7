/* test_kernels.c - one table of cases drives three tests of every kernel:
 *   value     each fast twin against the scalar one, outputs and gradients, at sizes with odd tails
 *   gradient  the scalar twin against finite differences of its own outputs
 *   speed     `test_kernels --speed`: time, GB/s or GFLOP/s for each instruction set; nothing is asserted
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/kernels.h"

static int failures;

static float *floats(int64_t n) {
    float *p = aligned_alloc(64, (size_t)(n + 64) / 16 * 64 + 64);
    if (p == NULL) exit(2);
    memset(p, 0, (size_t)(n + 64) / 16 * 64 + 64);
    return p;
}

static uint32_t random_state;

static float uniform(void) { /* -1 .. 1 */
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / 8388608.0f - 1.0f;
}

static void fill(float *p, int64_t n, uint32_t seed) {
    random_state = seed;
    for (int64_t i = 0; i < n; i++) p[i] = uniform();
}

/* ------------------------------------------------------------------------------------------------------ cases -- */

typedef struct {
    const gv_kernels *k;
    const int64_t *size;
    int kind;
    const float *in;   /* inputs */
    float *out;        /* outputs */
    const float *dout; /* gradient at the outputs; NULL = forward only */
    float *din;        /* gradient at the inputs, zero at the start */
} call;

typedef struct {
    const char *name;
    int kind;
    int64_t (*inputs)(const int64_t *size, int kind);
    int64_t (*outputs)(const int64_t *size, int kind);
    void (*run)(const call *c);
    bool differentiable;
    float tolerance; /* of the value test, relative to 1 + the largest value */
    int64_t sizes[5][3];
    int64_t speed[3];
    double (*work)(const int64_t *size); /* forward: flops when positive, bytes when negative */
} test_case;

static int64_t one_n(const int64_t *s, int kind) {
    return (void)kind, s[0];
}
static int64_t two_n(const int64_t *s, int kind) {
    return (void)kind, 2 * s[0];
}
static int64_t three_n(const int64_t *s, int kind) {
    return (void)kind, 3 * s[0];
}
static int64_t four_n(const int64_t *s, int kind) {
    return (void)kind, 4 * s[0];
}
static int64_t single(const int64_t *s, int kind) {
    return (void)s, (void)kind, 1;
}
static int64_t rows_only(const int64_t *s, int kind) {
    return (void)kind, s[0];
}
static int64_t rows_cols(const int64_t *s, int kind) {
    return (void)kind, s[0] * s[1];
}
static int64_t rows_cols_one(const int64_t *s, int kind) {
    return (void)kind, s[0] * s[1] + s[1];
}
static int64_t rows_cols_two(const int64_t *s, int kind) {
    return (void)kind, s[0] * s[1] + 2 * s[1];
}
static double two_streams(const int64_t *s) {
    return -8.0 * (double)s[0];
}
static double three_streams(const int64_t *s) {
    return -12.0 * (double)s[0];
}
static double row_streams(const int64_t *s) {
    return -8.0 * (double)(s[0] * s[1]);
}

static void run_add(const call *c) {
    int64_t n = c->size[0];
    c->k->add(c->out, c->in, c->in + n, n);
    if (c->dout == NULL) return;
    c->k->axpy(c->din, 1.0f, c->dout, n);
    c->k->scale(c->din + n, 1.0f, c->dout, n);
}

static void run_scale(const call *c) {
    c->k->scale(c->out, -2.5f, c->in, c->size[0]);
    c->k->axpy(c->out, 0.25f, c->in, c->size[0]);
    if (c->dout != NULL) c->k->scale(c->din, -2.25f, c->dout, c->size[0]);
}

/* inputs up to 6, away from the kink of ReLU */
static void spread(float *x, const float *in, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = in[i] * 6.0f;
}

static void run_activation(const call *c) {
    int64_t n = c->size[0];
    float *x = floats(n);
    spread(x, c->in, n);
    c->k->activation((gv_activation)c->kind, c->out, x, n);
    if (c->dout != NULL) {
        c->k->activation_backward((gv_activation)c->kind, c->din, c->dout, x, n);
        c->k->scale(c->din, 6.0f, c->din, n);
    }
    free(x);
}

static void run_gated(const call *c) {
    int64_t n = c->size[0];
    c->k->gated((gv_activation)c->kind, c->out, c->in, c->in + n, n);
    if (c->dout != NULL) c->k->gated_backward((gv_activation)c->kind, c->din, c->din + n, c->dout, c->in, c->in + n, n);
}

static void run_sum_squares(const call *c) {
    c->out[0] = (float)c->k->sum_squares(c->in, c->size[0]);
    if (c->dout != NULL) c->k->scale(c->din, 2.0f * c->dout[0], c->in, c->size[0]);
}

static void run_bias(const call *c) {
    int64_t rows = c->size[0], cols = c->size[1];
    memcpy(c->out, c->in, (size_t)(rows * cols) * sizeof(float));
    c->k->bias_add(c->out, c->in + rows * cols, rows, cols, cols);
    if (c->dout == NULL) return;
    c->k->scale(c->din, 1.0f, c->dout, rows * cols);
    c->k->column_sum(c->din + rows * cols, c->dout, rows, cols, cols);
}

static const gv_dropout dropping = {.seed = 7, .step = 3, .site = 11, .p = 0.3f};

static void run_dropout(const call *c) {
    int64_t rows = c->size[0], cols = c->size[1];
    uint32_t *sample = malloc((size_t)rows * sizeof *sample);
    int32_t *position = malloc((size_t)rows * sizeof *position);
    for (int64_t r = 0; r < rows; r++) {
        sample[r] = (uint32_t)(r / 3);
        position[r] = (int32_t)(r % 3 + 5);
    }
    c->k->dropout(c->out, c->in, rows, cols, &dropping, sample, position);
    if (c->dout != NULL) c->k->dropout(c->din, c->dout, rows, cols, &dropping, sample, position);
    free(sample);
    free(position);
}

static void run_layer_norm(const call *c) {
    int64_t rows = c->size[0], cols = c->size[1], n = rows * cols;
    const float *gamma = c->in + n, *beta = gamma + cols;
    float *mean = floats(rows), *rstd = floats(rows);
    c->k->layer_norm(c->out, mean, rstd, c->in, gamma, beta, rows, cols, 1e-5f);
    if (c->dout != NULL) {
        c->k->layer_norm_backward(c->din, c->dout, c->in, mean, rstd, gamma, rows, cols);
        c->k->norm_param_backward(c->din + n, c->din + n + cols, c->dout, c->in, mean, rstd, rows, cols, cols);
    }
    free(mean);
    free(rstd);
}

static void run_rms_norm(const call *c) {
    int64_t rows = c->size[0], cols = c->size[1], n = rows * cols;
    float *rstd = floats(rows);
    c->k->rms_norm(c->out, rstd, c->in, c->in + n, rows, cols, 1e-5f);
    if (c->dout != NULL) {
        c->k->rms_norm_backward(c->din, c->dout, c->in, rstd, c->in + n, rows, cols);
        c->k->norm_param_backward(c->din + n, NULL, c->dout, c->in, NULL, rstd, rows, cols, cols);
    }
    free(rstd);
}

/* size: rows, heads, head_dim */
static int64_t rotary_count(const int64_t *s, int kind) {
    return (void)kind, s[0] * s[1] * s[2];
}

static void run_rotary(const call *c) {
    int64_t rows = c->size[0], heads = c->size[1], dim = c->size[2], half = dim / 2, n = rows * heads * dim;
    float *cosine = floats(rows * half), *sine = floats(rows * half);
    for (int64_t i = 0; i < rows * half; i++) {
        cosine[i] = cosf(0.37f * (float)i);
        sine[i] = sinf(0.37f * (float)i);
    }
    memcpy(c->out, c->in, (size_t)n * sizeof(float));
    c->k->rotary(c->out, cosine, sine, rows, heads, dim, heads * dim, 1.0f);
    if (c->dout != NULL) {
        memcpy(c->din, c->dout, (size_t)n * sizeof(float));
        c->k->rotary(c->din, cosine, sine, rows, heads, dim, heads * dim, -1.0f);
    }
    free(cosine);
    free(sine);
}

/* size: query rows, key rows, head_dim; kind: the flags below; rows are 3 floats further apart than they need */
enum { CAUSAL = 1, BIAS = 2, DROP = 4, PROBS = 8, PAD = 3 };

static int64_t attention_inputs(const int64_t *s, int kind) {
    return (s[0] + 2 * s[1]) * (s[2] + PAD) + (kind & BIAS ? s[0] * s[1] : 0);
}
static int64_t attention_outputs(const int64_t *s, int kind) {
    return s[0] * (s[2] + PAD) + (kind & PROBS ? s[0] * s[1] : 0);
}
static double attention_work(const int64_t *s) {
    return 4.0 * (double)(s[0] * s[1] * s[2]);
}

static void run_attention(const call *c) {
    int64_t q = c->size[0], k = c->size[1], stride = c->size[2] + PAD;
    int32_t *query_position = malloc((size_t)q * sizeof(int32_t)), *key_position = malloc((size_t)k * sizeof(int32_t));
    /* the first query may look at nothing when causal */
    for (int64_t i = 0; i < q; i++) query_position[i] = (int32_t)i;
    for (int64_t i = 0; i < k; i++) key_position[i] = (int32_t)i + 1;
    gv_attention_head head = {.query = c->in, .key = c->in + q * stride, .value = c->in + (q + k) * stride};
    head.query_stride = head.key_stride = head.value_stride = stride;
    head.query_rows = q;
    head.key_rows = k;
    head.head_dim = c->size[2];
    head.scale = 1.0f / sqrtf((float)c->size[2]);
    head.causal = (c->kind & CAUSAL) != 0;
    head.query_position = query_position;
    head.key_position = key_position;
    head.bias = c->kind & BIAS ? c->in + (q + 2 * k) * stride : NULL;
    head.bias_stride = k;
    if (c->kind & DROP) head.dropout = dropping;
    head.sample = 2;
    float *scratch = floats(c->k->attention_scratch(q, k, c->size[2])), *lse = floats(q);
    float *probs = c->kind & PROBS ? c->out + q * stride : NULL;
    c->k->attention(c->out, stride, lse, probs, &head, scratch);
    if (c->dout != NULL) {
        float *din = c->din;
        c->k->attention_backward(din, din + q * stride, din + (q + k) * stride,
                                 c->kind & BIAS ? din + (q + 2 * k) * stride : NULL, c->dout, c->out, stride, lse,
                                 c->kind & PROBS ? c->dout + q * stride : NULL, &head, scratch);
    }
    free(scratch);
    free(lse);
    free(query_position);
    free(key_position);
}

/* size: query rows, keys, head_dim; each row sees one key more than the one before, the last one all */
enum { BITS8 = 16 };

static int64_t pages_inputs(const int64_t *s, int kind) {
    return (s[0] + 2 * s[1]) * s[2] + (kind & BIAS ? s[0] * s[1] : 0);
}
static int64_t pages_outputs(const int64_t *s, int kind) {
    return (void)kind, s[0] * s[2];
}

static void run_pages(const call *c) {
    int64_t q = c->size[0], k = c->size[1], dim = c->size[2], count = (k + GV_PAGE_ROWS - 1) / GV_PAGE_ROWS;
    bool bits8 = (c->kind & BITS8) != 0;
    int64_t bytes = gv_page_bytes(dim, bits8);
    char *memory = (char *)floats(count * bytes / 2);
    const char **pages = malloc((size_t)count * sizeof *pages);
    const float **query = malloc((size_t)q * sizeof *query), **bias = malloc((size_t)q * sizeof *bias);
    float **out = malloc((size_t)q * sizeof *out);
    int64_t *visible = malloc((size_t)q * sizeof *visible);
    memset(memory, 0xff, (size_t)(2 * count * bytes)); /* NaN where no key is */
    for (int64_t p = 0; p < count; p++) pages[p] = memory + 2 * p * bytes;
    for (int64_t j = 0; j < k; j++) {
        for (int values = 0; values < 2; values++) {
            char *part = memory + (2 * (j / GV_PAGE_ROWS) + values) * bytes;
            const float *x = c->in + (q + values * k + j) * dim;
            if (bits8) ((float *)(void *)(part + dim * GV_PAGE_ROWS))[j % GV_PAGE_ROWS] = 1.0f / 127.0f;
            for (int64_t d = 0; d < dim; d++) {
                int64_t at = values ? j % GV_PAGE_ROWS * dim + d : d * GV_PAGE_ROWS + j % GV_PAGE_ROWS;
                if (bits8) {
                    ((int8_t *)part)[at] = (int8_t)lrintf(x[d] * 127.0f);
                } else {
                    ((float *)(void *)part)[at] = x[d];
                }
            }
        }
    }
    for (int64_t i = 0; i < q; i++) {
        query[i] = c->in + i * dim;
        out[i] = c->out + i * dim;
        visible[i] = k - (q - 1 - i) > 1 ? k - (q - 1 - i) : 1;
        bias[i] = c->in + (q + 2 * k) * dim + i * k;
    }
    const gv_paged_attention attention = {
        .pages = pages,
        .value_offset = bytes,
        .bits8 = bits8,
        .rows = q,
        .head_dim = dim,
        .query = query,
        .out = out,
        .visible = visible,
        .bias = c->kind & BIAS ? bias : NULL,
        .scale = 1.0f / sqrtf((float)dim),
    };
    float *scratch = floats(gv_paged_scratch(k, dim));
    c->k->attention_pages(&attention, scratch);
    free(scratch);
    free(memory);
    free(pages);
    free(query);
    free(bias);
    free(out);
    free(visible);
}

static void run_softmax(const call *c) {
    int64_t rows = c->size[0], cols = c->size[1];
    float *wide = floats(rows * cols);
    spread(wide, c->in, rows * cols);
    c->k->softmax(c->out, c->out + rows * cols, wide, rows, cols);
    free(wide);
}
static int64_t softmax_outputs(const int64_t *s, int kind) {
    return (void)kind, s[0] * s[1] + s[0];
}

static void run_cross_entropy(const call *c) {
    int64_t rows = c->size[0], cols = c->size[1];
    int64_t *label = malloc((size_t)rows * sizeof *label);
    for (int64_t r = 0; r < rows; r++) label[r] = r % 5 == 4 ? -100 : (r * 7) % cols;
    float *x = floats(rows * cols);
    memcpy(x, c->in, (size_t)(rows * cols) * sizeof(float));
    c->k->cross_entropy(c->out, x, label, NULL, rows, cols);
    if (memcmp(x, c->in, (size_t)(rows * cols) * sizeof(float)) != 0) failures++; /* only the losses: x untouched */
    if (c->dout != NULL) {
        c->k->cross_entropy(c->out, x, label, c->dout, rows, cols);
        memcpy(c->din, x, (size_t)(rows * cols) * sizeof(float));
    }
    free(x);
    free(label);
}

/* in: param, grad, first, second; out: the three that move */
static void run_adamw(const call *c) {
    int64_t n = c->size[0];
    gv_adamw hyper = {
        .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .step = 3, .grad_scale = 0.5f};
    if (c->dout != NULL) { /* the speed test times the kernel alone, on what is there */
        memcpy(c->out, c->in, (size_t)n * sizeof(float));
        memcpy(c->out + n, c->in + 2 * n, (size_t)n * sizeof(float));
        for (int64_t i = 0; i < n; i++) c->out[2 * n + i] = fabsf(c->in[3 * n + i]);
    }
    c->k->adamw(c->out, c->in + n, c->out + n, c->out + 2 * n, n, &hyper);
}
static double adamw_work(const int64_t *s) {
    return -28.0 * (double)s[0];
}

/* size: m, n, k */
static int64_t product_inputs(const int64_t *s, int kind) {
    return (void)kind, s[0] * s[2] + s[1] * s[2] + s[1];
}
static int64_t product_outputs(const int64_t *s, int kind) {
    return (void)kind, s[0] * s[1];
}
static double product_work(const int64_t *s) {
    return 2.0 * (double)(s[0] * s[1] * s[2]);
}

static void run_product(const call *c) {
    int64_t m = c->size[0], n = c->size[1], k = c->size[2];
    const float *x = c->in, *w = x + m * k, *bias = w + n * k;
    c->k->product_nt(c->out, n, x, k, w, k, bias, m, n, k, NULL);
    if (c->dout == NULL) return;
    c->k->product_nn(c->din, k, c->dout, n, 1, w, k, m, k, n, false, false);
    /* in two parts, so that adding is tried as well */
    float *dw = c->din + m * k;
    int64_t first = m / 2;
    c->k->product_nn(dw, k, c->dout, 1, n, x, k, n, k, first, false, true);
    c->k->product_nn(dw, k, c->dout + first * n, 1, n, x + first * k, k, n, k, m - first, true, false);
    c->k->column_sum(dw + n * k, c->dout, m, n, n);
}

#define N_SIZES                 \
    {                           \
        {1}, {7}, {8}, {100}, { \
            2051                \
        }                       \
    }
#define ROW_SIZES                            \
    {                                        \
        {1, 1}, {3, 7}, {5, 33}, {4, 312}, { \
            9, 1029                          \
        }                                    \
    }
#define ATTENTION_SIZES                                      \
    {                                                        \
        {1, 1, 1}, {5, 7, 26}, {13, 13, 32}, {50, 61, 64}, { \
            97, 103, 21                                      \
        }                                                    \
    }

static const test_case cases[] = {
    {"add", 0, two_n, one_n, run_add, true, 1e-6f, N_SIZES, {1 << 20}, three_streams},
    {"scale, axpy", 0, one_n, one_n, run_scale, true, 1e-6f, N_SIZES, {1 << 20}, two_streams},
    {"gelu", GV_ACT_GELU_ERF, one_n, one_n, run_activation, true, 6e-7f, N_SIZES, {1 << 16}, two_streams},
    {"gelu tanh", GV_ACT_GELU_TANH, one_n, one_n, run_activation, true, 6e-7f, N_SIZES, {1 << 16}, two_streams},
    {"relu", GV_ACT_RELU, one_n, one_n, run_activation, false, 0.0f, N_SIZES, {1 << 16}, two_streams},
    {"silu", GV_ACT_SILU, one_n, one_n, run_activation, true, 6e-7f, N_SIZES, {1 << 16}, two_streams},
    {"tanh", GV_ACT_TANH, one_n, one_n, run_activation, true, 6e-7f, N_SIZES, {1 << 16}, two_streams},
    {"no activation", GV_ACT_NONE, one_n, one_n, run_activation, true, 0.0f, N_SIZES, {1 << 16}, two_streams},
    {"gated gelu", GV_ACT_GELU_ERF, two_n, one_n, run_gated, true, 6e-7f, N_SIZES, {1 << 16}, three_streams},
    {"gated gelu tanh", GV_ACT_GELU_TANH, two_n, one_n, run_gated, true, 6e-7f, N_SIZES, {1 << 16}, three_streams},
    {"gated silu", GV_ACT_SILU, two_n, one_n, run_gated, true, 6e-7f, N_SIZES, {1 << 16}, three_streams},
    {"sum of squares", 0, one_n, single, run_sum_squares, true, 1e-6f, N_SIZES, {1 << 20}, two_streams},
    {"bias, column sum", 0, rows_cols_one, rows_cols, run_bias, true, 2e-6f, ROW_SIZES, {256, 768}, row_streams},
    {"dropout", 0, rows_cols, rows_cols, run_dropout, true, 0.0f, ROW_SIZES, {256, 768}, row_streams},
    {"layer norm", 0, rows_cols_two, rows_cols, run_layer_norm, true, 5e-6f, ROW_SIZES, {256, 768}, row_streams},
    {"rms norm", 0, rows_cols_one, rows_cols, run_rms_norm, true, 5e-6f, ROW_SIZES, {256, 768}, row_streams},
    {"rotary",
     0,
     rotary_count,
     rotary_count,
     run_rotary,
     true,
     1e-6f,
     {{1, 1, 2}, {3, 2, 26}, {5, 3, 64}, {2, 4, 34}, {7, 1, 128}},
     {256, 12, 64},
     row_streams},
    {"attention",
     0,
     attention_inputs,
     attention_outputs,
     run_attention,
     true,
     5e-6f,
     ATTENTION_SIZES,
     {512, 512, 26},
     attention_work},
    {"attention, 64 wide",
     0,
     attention_inputs,
     attention_outputs,
     run_attention,
     true,
     5e-6f,
     ATTENTION_SIZES,
     {512, 512, 64},
     attention_work},
    {"attention, short",
     0,
     attention_inputs,
     attention_outputs,
     run_attention,
     true,
     5e-6f,
     ATTENTION_SIZES,
     {25, 25, 26},
     attention_work},
    {"attention, causal",
     CAUSAL,
     attention_inputs,
     attention_outputs,
     run_attention,
     true,
     5e-6f,
     ATTENTION_SIZES,
     {512, 512, 64},
     attention_work},
    {"attention, bias",
     BIAS | PROBS,
     attention_inputs,
     attention_outputs,
     run_attention,
     true,
     5e-6f,
     ATTENTION_SIZES,
     {512, 512, 64},
     attention_work},
    {"attention, dropout",
     DROP | PROBS,
     attention_inputs,
     attention_outputs,
     run_attention,
     true,
     5e-6f,
     ATTENTION_SIZES,
     {512, 512, 64},
     attention_work},
    {"attention, all",
     CAUSAL | BIAS | DROP | PROBS,
     attention_inputs,
     attention_outputs,
     run_attention,
     true,
     5e-6f,
     ATTENTION_SIZES,
     {128, 128, 64},
     attention_work},
    {"attention, pages",
     0,
     pages_inputs,
     pages_outputs,
     run_pages,
     false,
     5e-6f,
     {{1, 1, 2}, {1, 33, 64}, {4, 64, 26}, {7, 100, 13}, {14, 31, 40}},
     {7, 1024, 64},
     attention_work},
    {"attention, pages and bias",
     BIAS,
     pages_inputs,
     pages_outputs,
     run_pages,
     false,
     5e-6f,
     {{1, 1, 2}, {1, 33, 64}, {4, 64, 26}, {7, 100, 13}, {14, 31, 40}},
     {7, 1024, 64},
     attention_work},
    {"attention, pages of 8 bits",
     BITS8,
     pages_inputs,
     pages_outputs,
     run_pages,
     false,
     5e-6f,
     {{1, 1, 2}, {1, 33, 64}, {4, 64, 26}, {7, 100, 13}, {14, 31, 40}},
     {7, 1024, 64},
     attention_work},
    {"softmax", 0, rows_cols, softmax_outputs, run_softmax, false, 1e-6f, ROW_SIZES, {64, 21128}, row_streams},
    {"cross entropy", 0, rows_cols, rows_only, run_cross_entropy, true, 2e-6f, ROW_SIZES, {64, 21128}, row_streams},
    {"adamw", 0, four_n, three_n, run_adamw, false, 1e-6f, N_SIZES, {1 << 22}, adamw_work},
    {"product, 1 row",
     0,
     product_inputs,
     product_outputs,
     run_product,
     true,
     5e-6f,
     {{1, 1, 1}, {1, 7, 13}, {2, 5, 100}, {3, 31, 770}, {4, 200, 312}},
     {1, 768, 768},
     product_work},
    {"product, 16 rows",
     0,
     product_inputs,
     product_outputs,
     run_product,
     true,
     5e-6f,
     {{5, 3, 9}, {7, 13, 5}, {16, 197, 300}, {17, 12, 515}, {29, 205, 261}},
     {16, 768, 768},
     product_work},
    {"product, 28 rows",
     0,
     product_inputs,
     product_outputs,
     run_product,
     true,
     5e-6f,
     {{28, 48, 64}, {33, 6, 17}, {48, 11, 257}, {64, 193, 40}, {70, 400, 33}},
     {28, 768, 768},
     product_work},
    {"product, hundreds of rows",
     0,
     product_inputs,
     product_outputs,
     run_product,
     true,
     5e-6f,
     {{31, 128, 130}, {77, 267, 147}, {265, 36, 128}, {300, 530, 161}, {530, 45, 259}},
     {256, 768, 768},
     product_work},
};
enum { CASES = sizeof cases / sizeof *cases };

/* ------------------------------------------------------------------------------------------------------ tests -- */

typedef struct {
    int64_t inputs, outputs;
    float *in, *out, *dout, *din;
} data;

static data data_make(const test_case *t, const int64_t *size) {
    data d = {.inputs = t->inputs(size, t->kind), .outputs = t->outputs(size, t->kind)};
    d.in = floats(d.inputs);
    d.out = floats(d.outputs);
    d.dout = floats(d.outputs);
    d.din = floats(d.inputs);
    fill(d.in, d.inputs, 12345u + (uint32_t)d.inputs);
    fill(d.dout, d.outputs, 777u);
    return d;
}

static void data_free(data *d) {
    free(d->in);
    free(d->out);
    free(d->dout);
    free(d->din);
}

static void run(const test_case *t, const gv_kernels *k, const int64_t *size, data *d, bool backward) {
    memset(d->din, 0, (size_t)d->inputs * sizeof(float));
    t->run(&(call){
        .k = k, .size = size, .kind = t->kind, .in = d->in, .out = d->out, .dout = backward ? d->dout : NULL, .din = d->din});
}

static void compare(const test_case *t, const char *isa, const char *what, const int64_t *size, const float *expected,
                    const float *got, int64_t n) {
    float largest = 0.0f, worst = 0.0f;
    int64_t where = 0;
    for (int64_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(expected[i]));
    for (int64_t i = 0; i < n; i++) {
        float off = fabsf(expected[i] - got[i]);
        if (!(off <= worst)) {
            worst = off;
            where = i;
            if (off != off) break;
        }
    }
    if (worst <= t->tolerance * (1.0f + largest)) return;
    failures++;
    (void)fprintf(stderr, "%s (%s) %s at %lld x %lld x %lld: element %lld is %.9g, scalar says %.9g\n", t->name, isa, what,
                  (long long)size[0], (long long)size[1], (long long)size[2], (long long)where, (double)got[where],
                  (double)expected[where]);
}

static void test_value(const test_case *t, const gv_kernels *fast) {
    const gv_kernels *scalar = gv_kernels_for("scalar");
    for (int s = 0; s < 5; s++) {
        data a = data_make(t, t->sizes[s]), b = data_make(t, t->sizes[s]);
        run(t, scalar, t->sizes[s], &a, true);
        run(t, fast, t->sizes[s], &b, true);
        compare(t, fast->isa, "value", t->sizes[s], a.out, b.out, a.outputs);
        compare(t, fast->isa, "gradient", t->sizes[s], a.din, b.din, a.inputs);
        data_free(&a);
        data_free(&b);
    }
}

static double loss(const test_case *t, const gv_kernels *k, const int64_t *size, data *d) {
    double sum = 0.0;
    run(t, k, size, d, false);
    for (int64_t i = 0; i < d->outputs; i++) sum += (double)d->dout[i] * (double)d->out[i];
    return sum;
}

/* Central differences of a float function: the step balances rounding against curvature, so agreement is to about 1 %. */
static void test_gradient(const test_case *t, const gv_kernels *k) {
    const float step = 1.0f / 128.0f;
    for (int s = 0; s < 4; s++) {
        const int64_t *size = t->sizes[s];
        data d = data_make(t, size);
        run(t, k, size, &d, true);
        float *analytic = floats(d.inputs);
        memcpy(analytic, d.din, (size_t)d.inputs * sizeof(float));
        int64_t stride = d.inputs / 40 + 1;
        for (int64_t i = 0; i < d.inputs; i += stride) {
            float kept = d.in[i];
            double difference = 0.0;
            for (int order = 0; order < 2; order++) { /* two steps, extrapolated */
                float h = order == 0 ? step : 2.0f * step;
                d.in[i] = kept + h;
                double up = loss(t, k, size, &d);
                d.in[i] = kept - h;
                double down = loss(t, k, size, &d);
                difference += (order == 0 ? 4.0 : -1.0) / 3.0 * (up - down) / (2.0 * (double)h);
            }
            d.in[i] = kept;
            double wrong = fabs(difference - (double)analytic[i]);
            if (wrong <= 0.01 * (0.3 + fabs((double)analytic[i]))) continue;
            failures++;
            (void)fprintf(stderr, "%s (%s): gradient %lld of %lld at %lld x %lld x %lld is %.6g, differences say %.6g\n",
                          t->name, k->isa, (long long)i, (long long)d.inputs, (long long)size[0], (long long)size[1],
                          (long long)size[2], (double)analytic[i], difference);
        }
        free(analytic);
        data_free(&d);
    }
}

/* What the table of cases cannot say: special values, and activations against double precision. */
static void expect(bool right, const char *isa, const char *what) {
    if (right) return;
    failures++;
    (void)fprintf(stderr, "%s: %s\n", isa, what);
}

static void test_special(const gv_kernels *k) {
    float x[67];
    for (int64_t n = 1; n <= 67; n++) {
        for (int64_t bad = 0; bad < n; bad++) {
            for (int64_t i = 0; i < n; i++) x[i] = i % 2 ? -3e38f : 1e-42f;
            if (!k->all_finite(x, n)) failures++;
            x[bad] = bad % 2 ? NAN : bad % 4 ? INFINITY : -INFINITY;
            if (k->all_finite(x, n)) failures++;
        }
    }
    const float odd[] = {0.0f, -0.0f, 1e-30f, -1e-30f, 20.0f, -20.0f, 100.0f, -100.0f, 3e38f, -3e38f, NAN};
    float y[11], slope[11], ones[11];
    for (int i = 0; i < 11; i++) ones[i] = 1.0f;
    for (int kind = GV_ACT_NONE; kind <= GV_ACT_TANH; kind++) {
        k->activation((gv_activation)kind, y, odd, 11);
        k->activation_backward((gv_activation)kind, slope, ones, odd, 11);
        expect(isnan(y[10]), k->isa, "an activation hides a NaN");
        for (int i = 0; i < 10; i++)
            expect(kind == GV_ACT_GELU_TANH || kind == GV_ACT_SILU || isfinite(y[i]), k->isa, "activation overflows");
        expect(fabsf(y[4] - (kind == GV_ACT_TANH ? 1.0f : 20.0f)) < 1e-5f, k->isa, "activation at 20");
        if (kind != GV_ACT_NONE && kind != GV_ACT_TANH) expect(fabsf(y[7]) < 1e-6f, k->isa, "activation at -100");
        expect(kind == GV_ACT_NONE || fabsf(slope[7]) < 1e-6f, k->isa, "slope at -100");
    }
    enum { STEPS = 4000 };
    float *in = floats(STEPS), *out = floats(STEPS), *tangent = floats(STEPS);
    for (int i = 0; i < STEPS; i++) in[i] = ((float)i - STEPS / 2) * (12.0f / STEPS);
    k->activation(GV_ACT_GELU_ERF, out, in, STEPS);
    k->activation(GV_ACT_TANH, tangent, in, STEPS);
    for (int i = 0; i < STEPS; i++) {
        double z = (double)in[i], exact = 0.5 * z * erfc(-z / sqrt(2.0));
        expect(fabs((double)out[i] - exact) <= 2.5e-7 * (1.0 + fabs(exact)), k->isa, "gelu is off");
        expect(fabs((double)tangent[i] - tanh(z)) <= 3e-7 * fabs(tanh(z)), k->isa, "tanh is off");
    }
    free(in);
    free(out);
    free(tangent);
    /* scores that cannot all be looked at: minus infinity in a row, and nothing but minus infinity */
    float row[40], p[40], lse;
    for (int i = 0; i < 40; i++) row[i] = i == 17 ? 2.0f : -INFINITY;
    k->softmax(p, &lse, row, 1, 40);
    expect(p[17] == 1.0f && p[16] == 0.0f && lse == 2.0f, k->isa, "softmax over minus infinity");
}

static double seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void speed(const test_case *t, const gv_kernels *k) {
    double best[2] = {1e9, 1e9}, work = t->work(t->speed);
    data d = data_make(t, t->speed);
    for (int backward = 0; backward < 2; backward++) {
        double end = seconds() + 0.05;
        do {
            double start = seconds();
            run(t, k, t->speed, &d, backward == 1);
            double taken = seconds() - start;
            if (taken < best[backward]) best[backward] = taken;
        } while (seconds() < end);
    }
    data_free(&d);
    (void)printf("%-20s %-7s %4lld x %5lld x %3lld  forward %9.1f us %7.1f %s   with backward %9.1f us\n", t->name, k->isa,
                 (long long)t->speed[0], (long long)t->speed[1], (long long)t->speed[2], best[0] * 1e6,
                 fabs(work) / best[0] * 1e-9, work > 0 ? "GFLOP/s" : "GB/s   ", best[1] * 1e6);
}

int main(int argc, char **argv) {
    const char *names[] = {"scalar", "avx2", "avx512"};
    bool timing = argc > 1 && strcmp(argv[1], "--speed") == 0;
    for (int i = 0; i < 3; i++) {
        const gv_kernels *k = gv_kernels_for(names[i]);
        if (k == NULL) {
            (void)printf("%s: this CPU (or GOVLM_MAX_ISA) has no such kernels\n", names[i]);
            continue;
        }
        if (timing) {
            for (int t = 0; t < CASES; t++) speed(&cases[t], k);
            continue;
        }
        int before = failures;
        test_special(k);
        for (int t = 0; t < CASES; t++) {
            if (i > 0) test_value(&cases[t], k);
            if (cases[t].differentiable && i == 0) test_gradient(&cases[t], k);
        }
        (void)printf("%s: %s\n", names[i], failures == before ? "ok" : "FAILED");
    }
    return failures == 0 ? 0 : 1;
}
