/* simd_rows.h - element-wise kernels, rows, losses and the optimiser on vectors. */

GV_INLINE vf v_load_some(const float *p, int64_t n) {
    return n >= VW ? v_load(p) : v_load_n(p, (int)n);
}
GV_INLINE void v_store_some(float *p, vf x, int64_t n) {
    if (n >= VW) {
        v_store(p, x);
    } else {
        v_store_n(p, x, (int)n);
    }
}

/* ---------------------------------------------------------------------------------------------- element-wise -- */

static void simd_add(float *y, const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i += VW) {
        v_store_some(y + i, v_add(v_load_some(a + i, n - i), v_load_some(b + i, n - i)), n - i);
    }
}

static void simd_axpy(float *y, float alpha, const float *x, int64_t n) {
    vf factor = v_set1(alpha);
    for (int64_t i = 0; i < n; i += VW) {
        v_store_some(y + i, v_fma(factor, v_load_some(x + i, n - i), v_load_some(y + i, n - i)), n - i);
    }
}

static void simd_scale(float *y, float alpha, const float *x, int64_t n) {
    vf factor = v_set1(alpha);
    for (int64_t i = 0; i < n; i += VW) v_store_some(y + i, v_mul(factor, v_load_some(x + i, n - i)), n - i);
}

GV_INLINE void gv_activation_loop(gv_activation kind, float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += VW) v_store_some(y + i, v_activate(kind, v_load_some(x + i, n - i)), n - i);
}

GV_INLINE void gv_slope_loop(gv_activation kind, float *dx, const float *dy, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += VW) {
        vf slope = v_activate_slope(kind, v_load_some(x + i, n - i));
        v_store_some(dx + i, v_mul(v_load_some(dy + i, n - i), slope), n - i);
    }
}

GV_INLINE void gv_gated_loop(gv_activation kind, float *y, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i += VW) {
        vf active = v_activate(kind, v_load_some(gate + i, n - i));
        v_store_some(y + i, v_mul(active, v_load_some(up + i, n - i)), n - i);
    }
}

GV_INLINE void gv_gated_slope_loop(gv_activation kind, float *dgate, float *dup, const float *dy, const float *gate,
                                   const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i += VW) {
        vf g = v_load_some(gate + i, n - i), u = v_load_some(up + i, n - i), d = v_load_some(dy + i, n - i);
        v_store_some(dgate + i, v_mul(v_mul(d, u), v_activate_slope(kind, g)), n - i);
        v_store_some(dup + i, v_mul(d, v_activate(kind, g)), n - i);
    }
}

/* One loop for each kind, so that the choice is made once. */
#define GV_EACH_ACTIVATION(LOOP, ...)            \
    switch (kind) {                              \
        case GV_ACT_GELU_ERF:                    \
            LOOP(GV_ACT_GELU_ERF, __VA_ARGS__);  \
            break;                               \
        case GV_ACT_GELU_TANH:                   \
            LOOP(GV_ACT_GELU_TANH, __VA_ARGS__); \
            break;                               \
        case GV_ACT_RELU:                        \
            LOOP(GV_ACT_RELU, __VA_ARGS__);      \
            break;                               \
        case GV_ACT_SILU:                        \
            LOOP(GV_ACT_SILU, __VA_ARGS__);      \
            break;                               \
        case GV_ACT_TANH:                        \
            LOOP(GV_ACT_TANH, __VA_ARGS__);      \
            break;                               \
        case GV_ACT_NONE:                        \
            LOOP(GV_ACT_NONE, __VA_ARGS__);      \
            break;                               \
    }

static void simd_activation(gv_activation kind, float *y, const float *x, int64_t n) {
    GV_EACH_ACTIVATION(gv_activation_loop, y, x, n)
}

static void simd_activation_backward(gv_activation kind, float *dx, const float *dy, const float *x, int64_t n) {
    GV_EACH_ACTIVATION(gv_slope_loop, dx, dy, x, n)
}

static void simd_gated(gv_activation kind, float *y, const float *gate, const float *up, int64_t n) {
    GV_EACH_ACTIVATION(gv_gated_loop, y, gate, up, n)
}

static void simd_gated_backward(gv_activation kind, float *dgate, float *dup, const float *dy, const float *gate,
                                const float *up, int64_t n) {
    GV_EACH_ACTIVATION(gv_gated_slope_loop, dgate, dup, dy, gate, up, n)
}

/* Four sums at once hide the latency of addition; blocks of 512 go to double, so that long vectors lose nothing. */
static double simd_sum_squares(const float *x, int64_t n) {
    double total = 0.0;
    for (int64_t start = 0; start < n; start += 512) {
        int64_t end = n - start < 512 ? n : start + 512, i = start;
        vf s0 = v_zero(), s1 = v_zero(), s2 = v_zero(), s3 = v_zero();
        for (; i + 4 * VW <= end; i += 4 * VW) {
            vf a = v_load(x + i), b = v_load(x + i + VW), c = v_load(x + i + 2 * VW), d = v_load(x + i + 3 * VW);
            s0 = v_fma(a, a, s0);
            s1 = v_fma(b, b, s1);
            s2 = v_fma(c, c, s2);
            s3 = v_fma(d, d, s3);
        }
        for (; i < end; i += VW) {
            vf a = v_load_some(x + i, end - i);
            s0 = v_fma(a, a, s0);
        }
        total += (double)v_sum(v_add(v_add(s0, s1), v_add(s2, s3)));
    }
    return total;
}

static bool simd_all_finite(const float *x, int64_t n) {
    /* 0 times infinity or NaN is NaN, and stays in the sum */
    vf sum = v_zero();
    for (int64_t i = 0; i < n; i += VW) sum = v_fma(v_load_some(x + i, n - i), v_zero(), sum);
    return v_sum(sum) == 0.0f;
}

/* ------------------------------------------------------------------------------------------------------ rows -- */

static void simd_bias_add(float *y, const float *bias, int64_t rows, int64_t cols, int64_t stride) {
    for (int64_t r = 0; r < rows; r++) simd_add(y + r * stride, y + r * stride, bias, cols);
}

static void simd_column_sum(float *out, const float *x, int64_t rows, int64_t cols, int64_t stride) {
    int64_t c = 0;
    for (; c + 4 * VW <= cols; c += 4 * VW) {
        const float *from = x + c;
        vf s0 = v_load(out + c), s1 = v_load(out + c + VW), s2 = v_load(out + c + 2 * VW), s3 = v_load(out + c + 3 * VW);
        for (int64_t r = 0; r < rows; r++, from += stride) {
            s0 = v_add(s0, v_load(from));
            s1 = v_add(s1, v_load(from + VW));
            s2 = v_add(s2, v_load(from + 2 * VW));
            s3 = v_add(s3, v_load(from + 3 * VW));
        }
        v_store(out + c, s0);
        v_store(out + c + VW, s1);
        v_store(out + c + 2 * VW, s2);
        v_store(out + c + 3 * VW, s3);
    }
    for (; c < cols; c += VW) {
        vf sum = v_load_some(out + c, cols - c);
        for (int64_t r = 0; r < rows; r++) sum = v_add(sum, v_load_some(x + r * stride + c, cols - c));
        v_store_some(out + c, sum, cols - c);
    }
}

/* factor[0 .. 4 VW) for columns 4 * first ..: `keep` where the word says so, else 0 */
GV_INLINE void gv_dropout_block(float *factor, const gv_dropout *dropout, uint32_t first, uint32_t sample, int32_t position,
                                vi threshold, vf keep) {
    vi word[4];
    v_philox(word, first, (uint32_t)position, sample, dropout->site, dropout->seed, dropout->step);
    GV_UNROLL for (int i = 0; i < 4; i++) v_store(factor + i * VW, v_keep_words(word[i], threshold, keep));
}

/* factor[0 .. cols rounded up to 4 VW) of one row */
static void gv_dropout_row(float *factor, int64_t cols, const gv_dropout *dropout, uint32_t sample, int32_t position) {
    vi threshold = v_set1_i((int32_t)gv_dropout_threshold(dropout->p));
    vf keep = v_set1(1.0f / (1.0f - dropout->p));
    for (int64_t c = 0; c < cols; c += 4 * VW) {
        gv_dropout_block(factor + c, dropout, (uint32_t)(c / 4), sample, position, threshold, keep);
    }
}

static void simd_dropout(float *y, const float *x, int64_t rows, int64_t cols, const gv_dropout *dropout,
                         const uint32_t *sample, const int32_t *position) {
    if (dropout->p <= 0.0f) {
        if (y != x) memmove(y, x, (size_t)(rows * cols) * sizeof *y);
        return;
    }
    vi threshold = v_set1_i((int32_t)gv_dropout_threshold(dropout->p));
    vf keep = v_set1(1.0f / (1.0f - dropout->p));
    for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
        for (int64_t c = 0; c < cols; c += 4 * VW) {
            float factor[4 * VW];
            gv_dropout_block(factor, dropout, (uint32_t)(c / 4), sample[r], position[r], threshold, keep);
            for (int64_t i = c; i < cols && i < c + 4 * VW; i += VW) {
                v_store_some(y + i, v_mul(v_load_some(x + i, cols - i), v_load(factor + (i - c))), cols - i);
            }
        }
    }
}

/* ----------------------------------------------------------------------------------------------------- norms -- */

GV_INLINE float gv_row_sum(const float *x, int64_t n) {
    vf s0 = v_zero(), s1 = v_zero();
    int64_t i = 0;
    for (; i + 2 * VW <= n; i += 2 * VW) {
        s0 = v_add(s0, v_load(x + i));
        s1 = v_add(s1, v_load(x + i + VW));
    }
    for (; i < n; i += VW) s0 = v_add(s0, v_load_some(x + i, n - i));
    return v_sum(v_add(s0, s1));
}

static void simd_layer_norm(float *y, float *mean, float *rstd, const float *x, const float *gamma, const float *beta,
                            int64_t rows, int64_t cols, float eps) {
    for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
        float m = gv_row_sum(x, cols) / (float)cols;
        vf center = v_set1(m), s0 = v_zero(), s1 = v_zero();
        int64_t c = 0;
        for (; c + 2 * VW <= cols; c += 2 * VW) {
            vf a = v_sub(v_load(x + c), center), b = v_sub(v_load(x + c + VW), center);
            s0 = v_fma(a, a, s0);
            s1 = v_fma(b, b, s1);
        }
        for (; c < cols; c += VW) {
            vf a = v_sub(v_load_some(x + c, cols - c), center);
            if (cols - c < VW) a = v_keep_n(a, (int)(cols - c));
            s0 = v_fma(a, a, s0);
        }
        float s = 1.0f / sqrtf(v_sum(v_add(s0, s1)) / (float)cols + eps);
        vf scale = v_set1(s);
        for (c = 0; c < cols; c += VW) {
            vf normal = v_mul(v_sub(v_load_some(x + c, cols - c), center), scale), g = v_load_some(gamma + c, cols - c);
            v_store_some(y + c, beta != NULL ? v_fma(normal, g, v_load_some(beta + c, cols - c)) : v_mul(normal, g), cols - c);
        }
        if (mean != NULL) mean[r] = m;
        if (rstd != NULL) rstd[r] = s;
    }
}

/* With h = (x - mean) * rstd and g = dy * gamma: dx = rstd * (g - avg(g) - h * avg(g h)); mean NULL drops avg(g). */
GV_INLINE void gv_simd_norm_backward(float *dx, const float *dy, const float *x, const float *mean, const float *rstd,
                                     const float *gamma, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++, dx += cols, dy += cols, x += cols) {
        float m = mean != NULL ? mean[r] : 0.0f;
        vf center = v_set1(m), scale = v_set1(rstd[r]), sum = v_zero(), dot = v_zero();
        for (int64_t c = 0; c < cols; c += VW) {
            /* g is 0 in the lanes beyond, so they add nothing */
            vf g = v_mul(v_load_some(dy + c, cols - c), v_load_some(gamma + c, cols - c));
            vf h = v_mul(v_sub(v_load_some(x + c, cols - c), center), scale);
            sum = v_add(sum, g);
            dot = v_fma(g, h, dot);
        }
        vf average = v_set1(mean != NULL ? v_sum(sum) / (float)cols : 0.0f), along = v_set1(v_sum(dot) / (float)cols);
        for (int64_t c = 0; c < cols; c += VW) {
            vf g = v_mul(v_load_some(dy + c, cols - c), v_load_some(gamma + c, cols - c));
            vf h = v_mul(v_sub(v_load_some(x + c, cols - c), center), scale);
            v_store_some(dx + c, v_mul(scale, v_fnma(h, along, v_sub(g, average))), cols - c);
        }
    }
}

static void simd_layer_norm_backward(float *dx, const float *dy, const float *x, const float *mean, const float *rstd,
                                     const float *gamma, int64_t rows, int64_t cols) {
    gv_simd_norm_backward(dx, dy, x, mean, rstd, gamma, rows, cols);
}

static void simd_norm_param_backward(float *dgamma, float *dbeta, const float *dy, const float *x, const float *mean,
                                     const float *rstd, int64_t rows, int64_t cols, int64_t stride) {
    for (int64_t c = 0; c < cols; c += 2 * VW) {
        int64_t left = cols - c, more = left > VW ? left - VW : 0;
        vf g0 = v_load_some(dgamma + c, left), b0 = dbeta != NULL ? v_load_some(dbeta + c, left) : v_zero();
        vf g1 = more > 0 ? v_load_some(dgamma + c + VW, more) : v_zero();
        vf b1 = more > 0 && dbeta != NULL ? v_load_some(dbeta + c + VW, more) : v_zero();
        for (int64_t r = 0; r < rows; r++) {
            vf center = v_set1(mean != NULL ? mean[r] : 0.0f), scale = v_set1(rstd[r]);
            const float *d = dy + r * stride + c, *in = x + r * stride + c;
            vf d0 = v_load_some(d, left);
            g0 = v_fma(d0, v_mul(v_sub(v_load_some(in, left), center), scale), g0);
            b0 = v_add(b0, d0);
            if (more > 0) {
                vf d1 = v_load_some(d + VW, more);
                g1 = v_fma(d1, v_mul(v_sub(v_load_some(in + VW, more), center), scale), g1);
                b1 = v_add(b1, d1);
            }
        }
        v_store_some(dgamma + c, g0, left);
        if (dbeta != NULL) v_store_some(dbeta + c, b0, left);
        if (more > 0) v_store_some(dgamma + c + VW, g1, more);
        if (more > 0 && dbeta != NULL) v_store_some(dbeta + c + VW, b1, more);
    }
}

static void simd_rms_norm(float *y, float *rstd, const float *x, const float *gamma, int64_t rows, int64_t cols, float eps) {
    for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
        float s = 1.0f / sqrtf((float)(simd_sum_squares(x, cols) / (double)cols) + eps);
        vf scale = v_set1(s);
        for (int64_t c = 0; c < cols; c += VW) {
            v_store_some(y + c, v_mul(v_mul(v_load_some(x + c, cols - c), scale), v_load_some(gamma + c, cols - c)), cols - c);
        }
        if (rstd != NULL) rstd[r] = s;
    }
}

static void simd_rms_norm_backward(float *dx, const float *dy, const float *x, const float *rstd, const float *gamma,
                                   int64_t rows, int64_t cols) {
    gv_simd_norm_backward(dx, dy, x, NULL, rstd, gamma, rows, cols);
}

static void simd_rotary(float *x, const float *cosine, const float *sine, int64_t rows, int64_t heads, int64_t head_dim,
                        int64_t stride, float sign) {
    int64_t half = head_dim / 2;
    vf side = v_set1(sign);
    for (int64_t r = 0; r < rows; r++, cosine += half, sine += half) {
        for (int64_t h = 0; h < heads; h++) {
            float *low = x + r * stride + h * head_dim, *high = low + half;
            for (int64_t i = 0; i < half; i += VW) {
                int64_t n = half - i;
                vf a = v_load_some(low + i, n), b = v_load_some(high + i, n);
                vf c = v_load_some(cosine + i, n), s = v_mul(side, v_load_some(sine + i, n));
                v_store_some(low + i, v_fnma(b, s, v_mul(a, c)), n);
                v_store_some(high + i, v_fma(a, s, v_mul(b, c)), n);
            }
        }
    }
}

/* ---------------------------------------------------------------------------------------------------- losses -- */

static float gv_simd_row_max(const float *x, int64_t n) {
    vf top = v_set1(-INFINITY);
    int64_t i = 0;
    for (; i + VW <= n; i += VW) top = v_max(top, v_load(x + i));
    float best = v_top(top);
    for (; i < n; i++) best = x[i] > best ? x[i] : best;
    return best;
}

/* sum of exp(x - top), in double over blocks; written to p unless NULL */
static double gv_exp_row(float *p, const float *x, float top, int64_t n) {
    double total = 0.0;
    vf shift = v_set1(top);
    for (int64_t start = 0; start < n; start += 1024) {
        int64_t end = n - start < 1024 ? n : start + 1024;
        vf sum = v_zero();
        for (int64_t i = start; i < end; i += VW) {
            vf e = v_exp(v_sub(v_load_some(x + i, end - i), shift));
            if (end - i < VW) e = v_keep_n(e, (int)(end - i));
            if (p != NULL) v_store_some(p + i, e, end - i);
            sum = v_add(sum, e);
        }
        total += (double)v_sum(sum);
    }
    return total;
}

static void simd_softmax(float *p, float *lse, const float *x, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++, p += cols, x += cols) {
        float top = gv_simd_row_max(x, cols);
        double sum = gv_exp_row(p, x, top, cols);
        simd_scale(p, (float)(1.0 / sum), p, cols);
        if (lse != NULL) lse[r] = top + (float)log(sum);
    }
}

static void simd_cross_entropy(float *loss, float *x, const int64_t *label, const float *scale, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++, x += cols) {
        if (label[r] == -100) {
            loss[r] = 0.0f;
            if (scale != NULL) memset(x, 0, (size_t)cols * sizeof *x);
            continue;
        }
        float top = gv_simd_row_max(x, cols), target = x[label[r]];
        double sum = gv_exp_row(scale != NULL ? x : NULL, x, top, cols);
        loss[r] = (float)(log(sum) - (double)(target - top));
        if (scale == NULL) continue;
        simd_scale(x, (float)((double)scale[r] / sum), x, cols);
        x[label[r]] -= scale[r];
    }
}

/* ------------------------------------------------------------------------------------------------- optimiser -- */

static void simd_adamw(float *param, const float *grad, float *first, float *second, int64_t n, const gv_adamw *hyper) {
    gv_adamw_factors f = gv_adamw_prepare(hyper);
    vf decay = v_set1(f.decay), lerp = v_set1(f.one_minus_beta1), beta2 = v_set1(f.beta2), rest = v_set1(f.one_minus_beta2);
    vf step = v_set1(f.step_size), root = v_set1(f.inverse_root), eps = v_set1(f.eps), clip = v_set1(f.grad_scale);
    for (int64_t i = 0; i < n; i += VW) {
        int64_t left = n - i;
        vf g = v_mul(v_load_some(grad + i, left), clip), m = v_load_some(first + i, left);
        m = v_fma(lerp, v_sub(g, m), m);
        vf v = v_fma(v_mul(rest, g), g, v_mul(beta2, v_load_some(second + i, left)));
        v_store_some(first + i, m, left);
        v_store_some(second + i, v, left);
        vf move = v_div(m, v_fma(v_sqrt(v), root, eps));
        v_store_some(param + i, v_fnma(step, move, v_mul(v_load_some(param + i, left), decay)), left);
    }
}
