/* kernels.h - every numeric kernel, as one table of function pointers with the shapes in comments.
 *
 * Kernels run on one thread, on contiguous row-major float32 rows unless a stride is given, and never allocate. The layers
 * above (nn) cut work into tiles and run kernels inside them. scalar.c holds the readable twin of every entry; avx2.c and
 * avx512.c replace what pays. All of them compute the same numbers within rounding, and each is deterministic.
 */
#ifndef GV_KERNELS_H
#define GV_KERNELS_H

#include "govlm.h"

typedef enum {
    GV_ACT_NONE = 0,
    GV_ACT_GELU_ERF,  /* x * Phi(x)                                         Hugging Face "gelu" */
    GV_ACT_GELU_TANH, /* tanh form                       "gelu_new", "gelu_pytorch_tanh", "gelu_fast" */
    GV_ACT_RELU,
    GV_ACT_SILU, /* x * sigmoid(x)                                                "silu", "swish" */
    GV_ACT_TANH
} gv_activation;

/* Names one stream of random numbers. Element (row r, column c) takes word c % 4 of
 * philox(counter = {c / 4, position[r], sample[r], site}, key = {seed, step}); it is kept when word >= threshold,
 * threshold = round(p * 2^32), and kept values are scaled by 1 / (1 - p). */
typedef struct {
    uint32_t seed, step, site;
    float p; /* 0 <= p < 1; 0 = off */
} gv_dropout;

/* One head of one sequence. Query row i may look at key row j when !causal or key_position[j] <= query_position[i].
 * `bias` (NULL = none) is added to the scaled scores: [query_rows, key_rows], row stride bias_stride.
 * score = scale * q.k + bias; p = softmax(score); d = dropout(p) with rows = query rows, columns = key rows, using
 * position = query_position[i], sample = `sample`. out = d v. A row that may look at nothing gives zeros. */
typedef struct {
    const float *query, *key, *value;               /* [rows, head_dim] */
    int64_t query_stride, key_stride, value_stride; /* in floats */
    int64_t query_rows, key_rows, head_dim;
    float scale;
    bool causal;
    const int32_t *query_position, *key_position; /* [query_rows], [key_rows]; required when causal or dropout */
    const float *bias;
    int64_t bias_stride;
    gv_dropout dropout;
    uint32_t sample;
} gv_attention_head;

/* Queries against the keys and values of one kv head that lie in pages of GV_PAGE_ROWS rows (model/cache.c holds them):
 *   keys[head_dim][GV_PAGE_ROWS], values[GV_PAGE_ROWS][head_dim]
 * in float32, or (`bits8`) both in int8, each followed by GV_PAGE_ROWS float32 scales, one a row. Query row i looks at the first
 * visible[i] >= 1 keys; score = scale * q.k + bias[i][key]. A row's result does not depend on the rows beside it. */
enum { GV_PAGE_ROWS = 32 };
typedef struct {
    const char *const *pages;
    int64_t key_offset, value_offset; /* bytes from the start of a page */
    bool bits8;
    int64_t rows, head_dim;
    const float *const *query; /* [rows] of [head_dim] */
    float *const *out;         /* [rows] of [head_dim] */
    const int64_t *visible;    /* [rows] */
    const float *const *bias;  /* [rows] of [visible], or NULL */
    float scale;
} gv_paged_attention;
/* Floats of scratch for rows that see at most `keys` keys. */
static inline int64_t gv_paged_scratch(int64_t keys, int64_t head_dim) {
    return 4 * ((keys + GV_PAGE_ROWS - 1) / GV_PAGE_ROWS * GV_PAGE_ROWS) + GV_PAGE_ROWS * head_dim;
}
/* Bytes of the keys (or the values) of one page and kv head. */
static inline int64_t gv_page_bytes(int64_t head_dim, bool bits8) {
    return bits8 ? (head_dim + 4) * GV_PAGE_ROWS : head_dim * GV_PAGE_ROWS * 4;
}

/* AdamW as torch.optim.AdamW computes it (Loshchilov & Hutter, arXiv:1711.05101); `step` counts from 1. In double,
 * as Python holds them: 1 - 0.999f is off by 1.3e-5. */
typedef struct {
    double lr, beta1, beta2, eps, weight_decay;
    int64_t step;
    float grad_scale; /* gradients are multiplied by this first (clipping); 1 = unchanged */
} gv_adamw;

/* Rows of x in the order in which a product walks them: kept by the caller, filled at the first product. */
typedef struct {
    float *columns; /* [gv_packed_floats(k)], 64-byte aligned */
    bool ready;
} gv_packed_rows;
enum { GV_PACKED_ROWS = 64, GV_PACKED_DEPTH = 768 }; /* more rows are not kept; k goes in blocks */
static inline int64_t gv_packed_floats(int64_t k) {
    return (k + GV_PACKED_DEPTH - 1) / GV_PACKED_DEPTH * GV_PACKED_DEPTH * GV_PACKED_ROWS;
}

/* One weight [n, k] in blocks of 32 inputs that share a scale, as GGUF's Q4_0, Q4_1 and Q8_0 have them, value for value:
 *   bits 4:            w = (code - 8) * scale        codes 0..15
 *   bits 4, minimum:   w = code * scale + minimum
 *   bits 8:            w = (code - 128) * scale      codes 0..255
 *   bits 32:           w as it is, without a scale; x is not rounded for it
 * k is padded to whole blocks, n with scales of 0 to whole panels of 16 outputs. A record for each panel and block, panel by
 * panel, so that a product reads one stream:
 *   codes; scale[16] as IEEE half; minimum[16] likewise when there is one
 * Codes of 4 bits: byte [s 0..3][o % 16][i 0..3] holds input 8 s + i in its low half, input 8 s + 4 + i in its high one.
 * Codes of 8 bits: byte [s 0..7][o % 16][i 0..3] is input 4 s + i. Floats: [i 0..31][o % 16].
 * Not owned: the array lies in a mapped file. */
enum { GV_BLOCK = 32 };
typedef struct {
    const uint8_t *data; /* [panels][blocks][gv_block_record()], aligned or not; floats as floats are */
    int bits;            /* 4, 8 or 32 */
    bool minimum;
} gv_blocks;
static inline int64_t gv_block_count(int64_t k) {
    return (k + GV_BLOCK - 1) / GV_BLOCK;
}
static inline int64_t gv_block_record(int bits, bool minimum) {
    return 16 * (GV_BLOCK / 8) * bits + (bits == 32 ? 0 : minimum ? 64 : 32);
}

/* Rows of activations for such weights: x ~ q * scale, a scale for each row and block; q is in -127..127. */
typedef struct {
    int8_t *q;      /* [rows, blocks * 32], zeros behind k */
    float *scale;   /* [rows, blocks] */
    float *sum;     /* [rows, blocks] scale * (sum of q) */
    int32_t *lanes; /* [rows, blocks] two int16: -8 * the sum of the q of inputs 0, 1 of every four, and of inputs 2, 3 */
} gv_block_rows;

/* One weight [n, k] in 8 bits. Rounded so that no 16-bit sum can overflow (simd_quantised.h says when); packed in panels of 16
 * outputs, four inputs of each side by side, k padded with 0 to a multiple of 8 and n to one of 16:
 *   panels[o / 16][i / 4][o % 16][i % 4] = round(w[o, i] / (scale[o] * smooth[i]))
 *   sums[o / 16][g][o % 16] = their sum over group g of inputs
 * Not owned: the arrays lie in a mapped file. */
enum { GV_PANEL = 16, GV_QUANTISED_STEP = 8 };
typedef struct {
    const int8_t *panels;
    const int16_t *sums;
    const float *scale;  /* [n padded] */
    const float *smooth; /* [k]: inputs are multiplied by it before they are rounded; NULL = 1 */
    int64_t n, k, group; /* group: inputs that share an activation's scale, a multiple of 8, at most 256 */
    int levels;          /* activations are 0..levels, at most 255 */
    gv_blocks blocks;    /* `data` not NULL: the weight lies in blocks, and only n and k are set beside it */
} gv_quantised;
static inline int64_t gv_quantised_depth(int64_t k) {
    return (k + GV_QUANTISED_STEP - 1) / GV_QUANTISED_STEP * GV_QUANTISED_STEP;
}
static inline int64_t gv_quantised_groups(int64_t k, int64_t group) {
    return (k + group - 1) / group;
}

/* Rows of activations in 8 bits: x ~ q * scale + low, a scale and a low for each row and group. */
typedef struct {
    uint8_t *q;         /* [rows, depth], zeros behind k */
    float *scale, *low; /* [rows, groups] */
} gv_quantised_rows;

/* Scale and low of one group from its extremes; returns what to multiply by. `strange` is 0, or NaN when anything was not
 * finite: then so is the result. A group of equal values has scale 0 and is exact. */
static inline float gv_quantised_step(float *scale, float *low, float top, float bottom, float strange, int levels) {
    float range = top - bottom, step = range / (float)levels;
    *low = bottom + strange;
    *scale = step >= 1.17549435e-38f ? step : 0.0f;
    return *scale > 0.0f ? (float)levels / range : 0.0f;
}

typedef struct {
    const char *isa;

    /* -- element-wise, n elements ------------------------------------------------------------------------------- */
    void (*add)(float *y, const float *a, const float *b, int64_t n);            /* y = a + b (may alias)        */
    void (*axpy)(float *y, float alpha, const float *x, int64_t n);              /* y += alpha * x               */
    void (*scale)(float *y, float alpha, const float *x, int64_t n);             /* y = alpha * x (may alias)    */
    void (*activation)(gv_activation kind, float *y, const float *x, int64_t n); /* y = act(x) (may alias)       */
    /* dx = dy * act'(x); dx may alias dy. x is the value BEFORE the activation. */
    void (*activation_backward)(gv_activation kind, float *dx, const float *dy, const float *x, int64_t n);
    void (*gated)(gv_activation kind, float *y, const float *gate, const float *up, int64_t n); /* y = act(gate) * up */
    /* dgate = dy * up * act'(gate); dup = dy * act(gate); dgate, dup may alias gate, up. */
    void (*gated_backward)(gv_activation kind, float *dgate, float *dup, const float *dy, const float *gate, const float *up,
                           int64_t n);
    double (*sum_squares)(const float *x, int64_t n);
    bool (*all_finite)(const float *x, int64_t n);

    /* -- rows ----------------------------------------------------------------------------------------------------- */
    /* y[r,:] += bias; y row stride `stride` */
    void (*bias_add)(float *y, const float *bias, int64_t rows, int64_t cols, int64_t stride);
    /* out[c] += sum_r x[r,c] for c in 0..cols-1; x row stride `stride`; summed in row order */
    void (*column_sum)(float *out, const float *x, int64_t rows, int64_t cols, int64_t stride);
    /* y = x / (1-p) where kept, else 0 (may alias). sample, position: [rows]. */
    void (*dropout)(float *y, const float *x, int64_t rows, int64_t cols, const gv_dropout *dropout, const uint32_t *sample,
                    const int32_t *position);

    /* Layer norm (Ba et al., arXiv:1607.06450): y = (x - mean) * rstd * gamma + beta. mean, rstd: [rows] or NULL (not saved).
     * beta may be NULL. y may alias x. */
    void (*layer_norm)(float *y, float *mean, float *rstd, const float *x, const float *gamma, const float *beta, int64_t rows,
                       int64_t cols, float eps);
    /* dx (may alias dy) */
    void (*layer_norm_backward)(float *dx, const float *dy, const float *x, const float *mean, const float *rstd,
                                const float *gamma, int64_t rows, int64_t cols);
    /* dgamma[c] += sum_r dy * (x - mean) * rstd; dbeta[c] += sum_r dy (dbeta may be NULL); `cols` columns starting at the
     * pointers, rows `stride` apart: the caller cuts tiles of columns. mean NULL = RMS norm. */
    void (*norm_param_backward)(float *dgamma, float *dbeta, const float *dy, const float *x, const float *mean,
                                const float *rstd, int64_t rows, int64_t cols, int64_t stride);
    /* RMS norm (Zhang & Sennrich, arXiv:1910.07467): y = x * rstd * gamma, rstd = 1 / sqrt(mean(x^2) + eps). rstd may be NULL. */
    void (*rms_norm)(float *y, float *rstd, const float *x, const float *gamma, int64_t rows, int64_t cols, float eps);
    void (*rms_norm_backward)(float *dx, const float *dy, const float *x, const float *rstd, const float *gamma, int64_t rows,
                              int64_t cols);

    /* Rotary positions in place (Su et al., arXiv:2104.09864; halves as in Llama): x[r, h, :] for `heads` heads of
     * head_dim, row stride `stride`; cosine, sine: [rows, head_dim / 2]. sign = +1 forward, -1 backward. */
    void (*rotary)(float *x, const float *cosine, const float *sine, int64_t rows, int64_t heads, int64_t head_dim,
                   int64_t stride, float sign);

    /* -- attention ------------------------------------------------------------------------------------------------ */
    /* Floats of scratch that the two calls below need. */
    int64_t (*attention_scratch)(int64_t query_rows, int64_t key_rows, int64_t head_dim);
    /* out: [query_rows, head_dim], row stride out_stride. lse: [query_rows] log-sum-exp of the scores, for backward (NULL =
     * not wanted). probs: [query_rows, key_rows] after dropout, contiguous (NULL = not wanted). */
    void (*attention)(float *out, int64_t out_stride, float *lse, float *probs, const gv_attention_head *head, float *scratch);
    /* Recomputes the probabilities from lse. dquery is written, dkey and dvalue are ADDED to (strides as query, key,
     * value of `head`). out, dout: row stride out_stride. dprobs: gradient at the probabilities after dropout (NULL =
     * none), contiguous. dbias: ADDED to, row stride bias_stride (NULL = not wanted). */
    void (*attention_backward)(float *dquery, float *dkey, float *dvalue, float *dbias, const float *dout, const float *out,
                               int64_t out_stride, const float *lse, const float *dprobs, const gv_attention_head *head,
                               float *scratch);
    /* Forward only; scratch: gv_paged_scratch floats. */
    void (*attention_pages)(const gv_paged_attention *attention, float *scratch);

    /* -- losses --------------------------------------------------------------------------------------------------- */
    /* p = softmax(x) per row (may alias). Returns nothing; lse: [rows] or NULL. */
    void (*softmax)(float *p, float *lse, const float *x, int64_t rows, int64_t cols);
    /* x becomes its own gradient: x = scale[r] * (softmax(x) - onehot(label[r])); loss[r] = lse - x[label]. A label of
     * -100 makes loss 0 and gradient 0. scale NULL = only the losses, x untouched. Labels were checked by the caller. */
    void (*cross_entropy)(float *loss, float *x, const int64_t *label, const float *scale, int64_t rows, int64_t cols);

    /* -- optimiser ------------------------------------------------------------------------------------------------ */
    /* One pass: reads grad, moves first/second moment and param. n elements. */
    void (*adamw)(float *param, const float *grad, float *first, float *second, int64_t n, const gv_adamw *hyper);

    /* -- small products, for linear layers with few rows (kernels/gemm.c chooses) ------------------------------------ */
    /* y[m, n] = x[m, k] . w[n, k]^T + bias[n] (bias NULL = 0): weights where the checkpoint holds them, streamed once.
     * Any m, n, k >= 1; strides in floats. `packed` (NULL = none) carries x from one call to the next with the same x, m, k. */
    void (*product_nt)(float *y, int64_t y_stride, const float *x, int64_t x_stride, const float *w, int64_t w_stride,
                       const float *bias, int64_t m, int64_t n, int64_t k, gv_packed_rows *packed);
    /* c[m, n] = (add ? c : 0) + sum_p a[i * row + p * step] b[p, 0..n): a may be transposed, b and c are row-major. `stream`:
     * c will not be read soon, so it need not go through the caches (a hint). */
    void (*product_nn)(float *c, int64_t c_stride, const float *a, int64_t row, int64_t step, const float *b, int64_t b_stride,
                       int64_t m, int64_t n, int64_t k, bool add, bool stream);

    /* -- quantised products: the same bits from every instruction set, whatever the number of rows ---------------------- */
    /* Rows x[rows, k] (row stride x_stride) times smooth (NULL = 1) into 0..levels, group by group. */
    void (*quantise_rows)(const gv_quantised_rows *out, const float *x, int64_t x_stride, const float *smooth, int64_t rows,
                          int64_t k, int64_t group, int levels);
    /* y[r, j] = x[r, :] . w[16 * first + j, :] + bias[j] for j < cols (bias NULL = 0; it starts at column 0 of y). */
    void (*product_quantised)(float *y, int64_t y_stride, const gv_quantised_rows *x, int64_t rows, const gv_quantised *w,
                              int64_t first, int64_t cols, const float *bias);
    /* y[0..k) = (add ? y : 0) + factor * w[row, :]: a row of an embedding, or of a weight that becomes float32 again. */
    void (*quantised_row)(float *y, float factor, const gv_quantised *w, int64_t row, bool add);
    /* The same three for weights in blocks. A block of x with anything not finite has scale and sum NaN and q 0. */
    void (*block_rows)(const gv_block_rows *out, const float *x, int64_t x_stride, int64_t rows, int64_t k);
    void (*product_blocks)(float *y, int64_t y_stride, const gv_block_rows *x, int64_t rows, const gv_quantised *w,
                           int64_t first, int64_t cols, const float *bias);
    void (*blocks_row)(float *y, float factor, const gv_quantised *w, int64_t row, bool add);
    /* The same for weights in blocks of 32 bits: sums run along k, one fused step an input. x lies in blocks of `height` rows,
     * each [k][its rows], as pack_rows makes them; height is at most most_rows. */
    int most_rows;
    void (*pack_rows)(float *out, const float *x, int64_t x_stride, int64_t rows, int64_t k, int64_t height);
    void (*product_floats)(float *y, int64_t y_stride, const float *x, int64_t rows, int64_t height, const gv_quantised *w,
                           int64_t first, int64_t cols, const float *bias);
} gv_kernels;

/* Whether a weight is float32, in blocks. */
static inline bool gv_in_floats(const gv_quantised *w) {
    return w->blocks.data != NULL && w->blocks.bits == 32;
}

/* Input 0 of output `row`; the others lie GV_PANEL floats apart. */
static inline const float *gv_floats_of(const gv_quantised *w, int64_t row) {
    const float *data = (const float *)(const void *)w->blocks.data;
    return data + row / GV_PANEL * gv_block_count(w->k) * GV_BLOCK * GV_PANEL + row % GV_PANEL;
}

/* y[0..k) = (add ? y : 0) + factor * w[row, :], as the weight is packed. */
static inline void gv_any_row(const gv_kernels *kernels, float *y, float factor, const gv_quantised *w, int64_t row, bool add) {
    if (gv_in_floats(w)) {
        const float *from = gv_floats_of(w, row);
        for (int64_t p = 0; p < w->k; p++) y[p] = (add ? y[p] : 0.0f) + factor * from[p * GV_PANEL];
        return;
    }
    (w->blocks.data != NULL ? kernels->blocks_row : kernels->quantised_row)(y, factor, w, row, add);
}

/* The table for the ISA that cpu.h chose; made once. */
const gv_kernels *gv_kernels_get(void);
/* A given twin, for tests: NULL when this CPU cannot run it. */
const gv_kernels *gv_kernels_for(const char *isa);

#endif
