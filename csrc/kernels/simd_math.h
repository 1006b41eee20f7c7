/* simd_math.h - exp, tanh, sigmoid and the normal distribution on vectors. The polynomials are our own least-maximum fits of
 * relative error (exp 2e-9, scaled erfc 7e-9, tanh 4e-8 before float rounding). */

/* 0 below -87.3 and +inf from 88.37 on; NaN stays */
GV_INLINE vf v_exp(vf x) {
    const vf low = v_set1(-87.33654f), high = v_set1(88.37626f);
    vf in = v_max(low, v_min(high, x));
    vf n = v_round(v_mul(in, v_set1(1.44269504f)));
    vf r = v_fnma(n, v_set1(0.693145752f), in);
    r = v_fnma(n, v_set1(1.42860677e-6f), r);
    vf p = v_set1(0.0013836829f);
    p = v_fma(p, r, v_set1(0.00837482204f));
    p = v_fma(p, r, v_set1(0.0416682262f));
    p = v_fma(p, r, v_set1(0.166664201f));
    p = v_fma(p, r, v_set1(0.499999921f));
    p = v_fma(p, r, v_set1(1.00000004f));
    p = v_fma(p, r, v_set1(1.0f));
    vf y = v_mul(p, v_power2(n));
    y = v_choose(v_less(x, low), v_zero(), y);
    return v_choose(v_less(high, x), v_set1(INFINITY), y);
}

GV_INLINE vf v_sigmoid(vf x) {
    return v_div(v_set1(1.0f), v_add(v_set1(1.0f), v_exp(v_sub(v_zero(), x))));
}

GV_INLINE vf v_tanh(vf x) {
    vf size = v_abs(x), square = v_mul(x, x);
    vf p = v_set1(-0.00611318204f);
    p = v_fma(p, square, v_set1(0.021010074f));
    p = v_fma(p, square, v_set1(-0.0538540679f));
    p = v_fma(p, square, v_set1(0.133327945f));
    p = v_fma(p, square, v_set1(-0.333333292f));
    vf near = v_fma(v_mul(x, square), p, x);
    vf far = v_sub(v_set1(1.0f), v_div(v_set1(2.0f), v_add(v_exp(v_add(size, size)), v_set1(1.0f))));
    return v_choose(v_less(v_set1(0.625f), size), v_sign_of(far, x), near);
}

/* The normal distribution at x, and exp(-x^2 / 2). With z = |x| / sqrt 2 and t = 1 / (1 + 0.35 z), erfc(z) exp(z^2) is t times
 * a polynomial in t. */
GV_INLINE vf v_normal(vf x, vf *bell) {
    vf t = v_div(v_set1(1.0f), v_fma(v_set1(0.35f * 0.707106781f), v_abs(x), v_set1(1.0f)));
    vf e = v_exp(v_mul(v_mul(v_set1(-0.5f), x), x));
    vf p = v_set1(0.037612026f);
    p = v_fma(p, t, v_set1(-0.154492784f));
    p = v_fma(p, t, v_set1(0.170626661f));
    p = v_fma(p, t, v_set1(-0.0126364599f));
    p = v_fma(p, t, v_set1(0.0738893165f));
    p = v_fma(p, t, v_set1(0.153461111f));
    p = v_fma(p, t, v_set1(0.148471857f));
    p = v_fma(p, t, v_set1(0.188521503f));
    p = v_fma(p, t, v_set1(0.197058576f));
    p = v_fma(p, t, v_set1(0.197488199f));
    vf tail = v_mul(v_mul(v_set1(0.5f), e), v_mul(p, t));
    *bell = e;
    return v_choose(v_less(v_zero(), x), v_sub(v_set1(1.0f), tail), tail);
}

GV_INLINE vf v_gelu_tanh_gate(vf x) {
    vf square = v_mul(x, x);
    return v_sigmoid(v_mul(v_mul(v_set1(1.59576912f), x), v_fma(v_set1(0.044715f), square, v_set1(1.0f))));
}

GV_INLINE vf v_activate(gv_activation kind, vf x) {
    vf bell;
    switch (kind) {
        case GV_ACT_GELU_ERF:
            return v_mul(x, v_normal(x, &bell));
        case GV_ACT_GELU_TANH:
            return v_mul(x, v_gelu_tanh_gate(x));
        case GV_ACT_RELU:
            return v_max(v_zero(), x);
        case GV_ACT_SILU:
            return v_mul(x, v_sigmoid(x));
        case GV_ACT_TANH:
            return v_tanh(x);
        case GV_ACT_NONE:
            break;
    }
    return x;
}

GV_INLINE vf v_activate_slope(gv_activation kind, vf x) {
    const vf one = v_set1(1.0f);
    switch (kind) {
        case GV_ACT_GELU_ERF: {
            vf bell, normal = v_normal(x, &bell);
            return v_fma(v_mul(x, v_set1(0.398942280f)), bell, normal);
        }
        case GV_ACT_GELU_TANH: {
            vf s = v_gelu_tanh_gate(x);
            vf inner = v_mul(v_set1(1.59576912f), v_fma(v_set1(0.134145f), v_mul(x, x), one));
            return v_fma(v_mul(x, v_mul(s, v_sub(one, s))), inner, s);
        }
        case GV_ACT_RELU:
            return v_choose(v_less(v_zero(), x), one, v_zero());
        case GV_ACT_SILU: {
            vf s = v_sigmoid(x);
            return v_fma(v_mul(x, s), v_sub(one, s), s);
        }
        case GV_ACT_TANH: {
            vf t = v_tanh(x);
            return v_fnma(t, t, one);
        }
        case GV_ACT_NONE:
            break;
    }
    return one;
}
