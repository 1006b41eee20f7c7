/* scalar.c - the readable twin of every kernel but attention (attention.c): what the numbers are, in plain C.
 *
 * Sums over a row are kept in double: the fast twins sum in eight lanes, and both must agree within float rounding.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/tables.h"

/* ---------------------------------------------------------------------------------------------- activations -- */

static const float GV_SQRT_HALF = 0.70710678118654752f;
static const float GV_INV_SQRT_2PI = 0.39894228040143268f;
static const float GV_SQRT_2_OVER_PI = 0.79788456080286536f;
static const float GV_GELU_CUBE = 0.044715f;

static inline float gv_sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

static inline float gv_activate(gv_activation kind, float x) {
    switch (kind) {
        case GV_ACT_GELU_ERF:
            return 0.5f * x * erfcf(-x * GV_SQRT_HALF); /* erfc keeps the small tail that 1 + erf loses */
        case GV_ACT_GELU_TANH:
            return x * gv_sigmoid(2.0f * GV_SQRT_2_OVER_PI * (x + GV_GELU_CUBE * x * x * x));
        case GV_ACT_RELU:
            return x > 0.0f ? x : x != x ? x : 0.0f;
        case GV_ACT_SILU:
            return x * gv_sigmoid(x);
        case GV_ACT_TANH:
            return tanhf(x);
        case GV_ACT_NONE:
            break;
    }
    return x;
}

static inline float gv_activate_slope(gv_activation kind, float x) {
    switch (kind) {
        case GV_ACT_GELU_ERF:
            return 0.5f * erfcf(-x * GV_SQRT_HALF) + x * GV_INV_SQRT_2PI * expf(-0.5f * x * x);
        case GV_ACT_GELU_TANH: {
            float s = gv_sigmoid(2.0f * GV_SQRT_2_OVER_PI * (x + GV_GELU_CUBE * x * x * x));
            float inner = 2.0f * GV_SQRT_2_OVER_PI * (1.0f + 3.0f * GV_GELU_CUBE * x * x);
            return s + x * s * (1.0f - s) * inner;
        }
        case GV_ACT_RELU:
            return x > 0.0f ? 1.0f : 0.0f;
        case GV_ACT_SILU: {
            float s = gv_sigmoid(x);
            return s + x * s * (1.0f - s);
        }
        case GV_ACT_TANH: {
            float t = tanhf(x);
            return 1.0f - t * t;
        }
        case GV_ACT_NONE:
            break;
    }
    return 1.0f;
}

static void scalar_activation(gv_activation kind, float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = gv_activate(kind, x[i]);
}

static void scalar_activation_backward(gv_activation kind, float *dx, const float *dy, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * gv_activate_slope(kind, x[i]);
}

static void scalar_gated(gv_activation kind, float *y, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = gv_activate(kind, gate[i]) * up[i];
}

static void scalar_gated_backward(gv_activation kind, float *dgate, float *dup, const float *dy, const float *gate,
                                  const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i], u = up[i], d = dy[i];
        dgate[i] = d * u * gv_activate_slope(kind, g);
        dup[i] = d * gv_activate(kind, g);
    }
}

/* --------------------------------------------------------------------------------------------- element-wise -- */

static void scalar_add(float *y, const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static void scalar_axpy(float *y, float alpha, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] += alpha * x[i];
}

static void scalar_scale(float *y, float alpha, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = alpha * x[i];
}

static double scalar_sum_squares(const float *x, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

static bool scalar_all_finite(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (!(fabsf(x[i]) <= FLT_MAX)) return false;
    }
    return true;
}

/* ----------------------------------------------------------------------------------------------------- rows -- */

static void scalar_bias_add(float *y, const float *bias, int64_t rows, int64_t cols, int64_t stride) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) y[r * stride + c] += bias[c];
    }
}

static void scalar_column_sum(float *out, const float *x, int64_t rows, int64_t cols, int64_t stride) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) out[c] += x[r * stride + c];
    }
}

static void scalar_dropout(float *y, const float *x, int64_t rows, int64_t cols, const gv_dropout *dropout,
                           const uint32_t *sample, const int32_t *position) {
    if (dropout->p <= 0.0f) {
        if (y != x) memmove(y, x, (size_t)(rows * cols) * sizeof *y);
        return;
    }
    uint32_t threshold = gv_dropout_threshold(dropout->p);
    float keep = 1.0f / (1.0f - dropout->p);
    const uint32_t key[2] = {dropout->seed, dropout->step};
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c += 4) {
            const uint32_t counter[4] = {(uint32_t)(c / 4), (uint32_t)position[r], sample[r], dropout->site};
            uint32_t word[4];
            gv_philox(word, counter, key);
            for (int64_t i = c; i < cols && i < c + 4; i++) {
                y[r * cols + i] = word[i - c] >= threshold ? x[r * cols + i] * keep : 0.0f;
            }
        }
    }
}

static void scalar_layer_norm(float *y, float *mean, float *rstd, const float *x, const float *gamma, const float *beta,
                              int64_t rows, int64_t cols, float eps) {
    for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
        double sum = 0.0, squares = 0.0;
        for (int64_t c = 0; c < cols; c++) sum += (double)x[c];
        double m = sum / (double)cols;
        for (int64_t c = 0; c < cols; c++) squares += ((double)x[c] - m) * ((double)x[c] - m);
        float center = (float)m, scale = (float)(1.0 / sqrt(squares / (double)cols + (double)eps));
        for (int64_t c = 0; c < cols; c++) {
            float normal = (x[c] - center) * scale * gamma[c];
            y[c] = beta != NULL ? normal + beta[c] : normal;
        }
        if (mean != NULL) mean[r] = center;
        if (rstd != NULL) rstd[r] = scale;
    }
}

/* With h = (x - mean) * rstd and g = dy * gamma: dx = rstd * (g - avg(g) - h * avg(g h)); `center` false drops avg(g). */
static void gv_norm_backward(float *dx, const float *dy, const float *x, const float *mean, const float *rstd,
                             const float *gamma, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++, dx += cols, dy += cols, x += cols) {
        float m = mean != NULL ? mean[r] : 0.0f, s = rstd[r];
        double sum = 0.0, dot = 0.0;
        for (int64_t c = 0; c < cols; c++) {
            double g = (double)dy[c] * (double)gamma[c];
            sum += g;
            dot += g * (double)((x[c] - m) * s);
        }
        float average = mean != NULL ? (float)(sum / (double)cols) : 0.0f, along = (float)(dot / (double)cols);
        for (int64_t c = 0; c < cols; c++) dx[c] = s * (dy[c] * gamma[c] - average - (x[c] - m) * s * along);
    }
}

static void scalar_layer_norm_backward(float *dx, const float *dy, const float *x, const float *mean, const float *rstd,
                                       const float *gamma, int64_t rows, int64_t cols) {
    gv_norm_backward(dx, dy, x, mean, rstd, gamma, rows, cols);
}

static void scalar_norm_param_backward(float *dgamma, float *dbeta, const float *dy, const float *x, const float *mean,
                                       const float *rstd, int64_t rows, int64_t cols, int64_t stride) {
    for (int64_t r = 0; r < rows; r++, dy += stride, x += stride) {
        float m = mean != NULL ? mean[r] : 0.0f, s = rstd[r];
        for (int64_t c = 0; c < cols; c++) dgamma[c] += dy[c] * ((x[c] - m) * s);
        for (int64_t c = 0; dbeta != NULL && c < cols; c++) dbeta[c] += dy[c];
    }
}

static void scalar_rms_norm(float *y, float *rstd, const float *x, const float *gamma, int64_t rows, int64_t cols, float eps) {
    for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
        float s = (float)(1.0 / sqrt(scalar_sum_squares(x, cols) / (double)cols + (double)eps));
        for (int64_t c = 0; c < cols; c++) y[c] = x[c] * s * gamma[c];
        if (rstd != NULL) rstd[r] = s;
    }
}

static void scalar_rms_norm_backward(float *dx, const float *dy, const float *x, const float *rstd, const float *gamma,
                                     int64_t rows, int64_t cols) {
    gv_norm_backward(dx, dy, x, NULL, rstd, gamma, rows, cols);
}

static void scalar_rotary(float *x, const float *cosine, const float *sine, int64_t rows, int64_t heads, int64_t head_dim,
                          int64_t stride, float sign) {
    int64_t half = head_dim / 2;
    for (int64_t r = 0; r < rows; r++, cosine += half, sine += half) {
        for (int64_t h = 0; h < heads; h++) {
            float *low = x + r * stride + h * head_dim, *high = low + half;
            for (int64_t i = 0; i < half; i++) {
                float a = low[i], b = high[i], c = cosine[i], s = sign * sine[i];
                low[i] = a * c - b * s;
                high[i] = b * c + a * s;
            }
        }
    }
}

/* --------------------------------------------------------------------------------------------------- losses -- */

static float gv_row_max(const float *x, int64_t n) {
    float top = -INFINITY;
    for (int64_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

static void scalar_softmax(float *p, float *lse, const float *x, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++, p += cols, x += cols) {
        float top = gv_row_max(x, cols);
        double sum = 0.0;
        for (int64_t c = 0; c < cols; c++) {
            p[c] = expf(x[c] - top);
            sum += (double)p[c];
        }
        float inverse = (float)(1.0 / sum);
        for (int64_t c = 0; c < cols; c++) p[c] *= inverse;
        if (lse != NULL) lse[r] = top + (float)log(sum);
    }
}

static void scalar_cross_entropy(float *loss, float *x, const int64_t *label, const float *scale, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++, x += cols) {
        if (label[r] == -100) {
            loss[r] = 0.0f;
            if (scale != NULL) memset(x, 0, (size_t)cols * sizeof *x);
            continue;
        }
        float top = gv_row_max(x, cols);
        double sum = 0.0;
        for (int64_t c = 0; c < cols; c++) sum += (double)expf(x[c] - top);
        loss[r] = (float)(log(sum) - (double)(x[label[r]] - top));
        if (scale == NULL) continue;
        float factor = (float)((double)scale[r] / sum);
        for (int64_t c = 0; c < cols; c++) x[c] = expf(x[c] - top) * factor;
        x[label[r]] -= scale[r];
    }
}

/* ------------------------------------------------------------------------------------------------ optimiser -- */

static void scalar_adamw(float *param, const float *grad, float *first, float *second, int64_t n, const gv_adamw *hyper) {
    gv_adamw_factors f = gv_adamw_prepare(hyper);
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * f.grad_scale;
        float m = first[i] + f.one_minus_beta1 * (g - first[i]);
        float v = f.beta2 * second[i] + f.one_minus_beta2 * g * g;
        first[i] = m;
        second[i] = v;
        param[i] = param[i] * f.decay - f.step_size * (m / (sqrtf(v) * f.inverse_root + f.eps));
    }
}

/* -------------------------------------------------------------------------------------------- small products -- */

static void scalar_product_nt(float *y, int64_t y_stride, const float *x, int64_t x_stride, const float *w, int64_t w_stride,
                              const float *bias, int64_t m, int64_t n, int64_t k, gv_packed_rows *packed) {
    (void)packed;
    /* weight row by weight row, so that each is read once; eight partial sums, which a compiler turns into vectors */
    for (int64_t j = 0; j < n; j++) {
        const float *b = w + j * w_stride;
        for (int64_t i = 0; i < m; i++) {
            const float *a = x + i * x_stride;
            float sum[8] = {0};
            int64_t p = 0;
            for (; p + 8 <= k; p += 8) {
                for (int l = 0; l < 8; l++) sum[l] += a[p + l] * b[p + l];
            }
            for (; p < k; p++) sum[p % 8] += a[p] * b[p];
            float total = ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
            y[i * y_stride + j] = bias != NULL ? total + bias[j] : total;
        }
    }
}

static void scalar_product_nn(float *c, int64_t c_stride, const float *a, int64_t row, int64_t step, const float *b,
                              int64_t b_stride, int64_t m, int64_t n, int64_t k, bool add, bool stream) {
    (void)stream;
    for (int64_t i = 0; i < m; i++) {
        float *to = c + i * c_stride;
        if (!add) memset(to, 0, (size_t)n * sizeof *to);
        for (int64_t p = 0; p < k; p++) {
            float factor = a[i * row + p * step];
            const float *from = b + p * b_stride;
            for (int64_t j = 0; j < n; j++) to[j] += factor * from[j];
        }
    }
}

/* ------------------------------------------------------------------------------------------------- quantised -- */

static void scalar_quantise_rows(const gv_quantised_rows *out, const float *x, int64_t x_stride, const float *smooth,
                                 int64_t rows, int64_t k, int64_t group, int levels) {
    const int64_t depth = gv_quantised_depth(k), groups = gv_quantised_groups(k, group);
    for (int64_t r = 0; r < rows; r++, x += x_stride) {
        uint8_t *q = out->q + r * depth;
        for (int64_t g = 0; g < groups; g++) {
            int64_t begin = g * group, end = begin + group < k ? begin + group : k;
            float high = -INFINITY, low = INFINITY, strange = 0.0f;
            for (int64_t p = begin; p < end; p++) {
                float v = smooth != NULL ? x[p] * smooth[p] : x[p];
                high = v > high ? v : high;
                low = v < low ? v : low;
                strange += v * 0.0f;
            }
            float factor =
                gv_quantised_step(&out->scale[r * groups + g], &out->low[r * groups + g], high, low, strange, levels);
            for (int64_t p = begin; p < end; p++) {
                float v = smooth != NULL ? x[p] * smooth[p] : x[p];
                float whole = rintf((v - low) * factor);
                q[p] = whole >= 0.0f && whole <= 255.0f ? (uint8_t)whole : 0; /* NaN: 0, as the conversion of the others */
            }
        }
        for (int64_t p = k; p < depth; p++) q[p] = 0;
    }
}

/* In the order of the fast twins, each step rounded once (fmaf), so that the bits are the same. */
static void scalar_product_quantised(float *y, int64_t y_stride, const gv_quantised_rows *x, int64_t rows,
                                     const gv_quantised *w, int64_t first, int64_t cols, const float *bias) {
    const int64_t depth = gv_quantised_depth(w->k), groups = gv_quantised_groups(w->k, w->group);
    for (int64_t j = 0; j < cols; j++) {
        const int64_t panel = first + j / GV_PANEL, lane = j % GV_PANEL;
        const int8_t *weights = w->panels + panel * depth * GV_PANEL + lane * 4;
        for (int64_t r = 0; r < rows; r++) {
            float total = 0.0f;
            for (int64_t g = 0; g < groups; g++) {
                int64_t end = (g + 1) * w->group < depth ? (g + 1) * w->group : depth;
                int32_t sum = 0;
                for (int64_t p = g * w->group; p < end; p++) {
                    sum += (int32_t)x->q[r * depth + p] * weights[p / 4 * 4 * GV_PANEL + p % 4];
                }
                total = fmaf((float)sum, x->scale[r * groups + g], total);
                total = fmaf((float)w->sums[(panel * groups + g) * GV_PANEL + lane], x->low[r * groups + g], total);
            }
            y[r * y_stride + j] = fmaf(total, w->scale[panel * GV_PANEL + lane], bias != NULL ? bias[j] : 0.0f);
        }
    }
}

static void scalar_quantised_row(float *y, float factor, const gv_quantised *w, int64_t row, bool add) {
    const int8_t *from = w->panels + row / GV_PANEL * gv_quantised_depth(w->k) * GV_PANEL + row % GV_PANEL * 4;
    const float times = factor * w->scale[row];
    for (int64_t p = 0; p < w->k; p++) {
        float v = (float)from[p / 4 * 4 * GV_PANEL + p % 4] * times;
        if (w->smooth != NULL) v *= w->smooth[p];
        y[p] = add ? y[p] + v : v;
    }
}

const gv_kernels gv_kernels_scalar = {
    .isa = "scalar",
    .add = scalar_add,
    .axpy = scalar_axpy,
    .scale = scalar_scale,
    .activation = scalar_activation,
    .activation_backward = scalar_activation_backward,
    .gated = scalar_gated,
    .gated_backward = scalar_gated_backward,
    .sum_squares = scalar_sum_squares,
    .all_finite = scalar_all_finite,
    .bias_add = scalar_bias_add,
    .column_sum = scalar_column_sum,
    .dropout = scalar_dropout,
    .layer_norm = scalar_layer_norm,
    .layer_norm_backward = scalar_layer_norm_backward,
    .norm_param_backward = scalar_norm_param_backward,
    .rms_norm = scalar_rms_norm,
    .rms_norm_backward = scalar_rms_norm_backward,
    .rotary = scalar_rotary,
    .attention_scratch = gv_attention_scratch_scalar,
    .attention = gv_attention_scalar,
    .attention_backward = gv_attention_backward_scalar,
    .attention_pages = gv_attention_pages_scalar,
    .softmax = scalar_softmax,
    .cross_entropy = scalar_cross_entropy,
    .adamw = scalar_adamw,
    .product_nt = scalar_product_nt,
    .product_nn = scalar_product_nn,
    .quantise_rows = scalar_quantise_rows,
    .product_quantised = scalar_product_quantised,
    .quantised_row = scalar_quantised_row,
    .block_rows = gv_block_rows_scalar,
    .product_blocks = gv_product_blocks_scalar,
    .blocks_row = gv_blocks_row_scalar,
    .most_rows = 8,
    .pack_rows = gv_pack_rows_scalar,
    .product_floats = gv_product_floats_scalar,
};
