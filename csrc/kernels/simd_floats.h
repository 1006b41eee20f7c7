/* simd_floats.h - products of float32 weights that lie in panels of 16 outputs; included by avx2.c and avx512.c.
 *
 * One stream of weights, lanes of outputs: any number of rows costs what it is, a vector of factors for each, and a sum runs
 * along k in one order, whatever the rows beside it and the instruction set. Where rows are many, a part of a panel that stays
 * in the L1 cache meets all of them.
 */

enum {
    GV_F_VECTORS = GV_PANEL / VW,
    GV_F_DEPTH = 256,      /* inputs of a panel that meet all rows: 16 KB */
    GV_F_AHEAD = 8192 / 4, /* floats fetched ahead: 4 KB were too near (benchmarks/SPEED.md) */
};

/* y[rows][16] (+)= x [k][rows] times a panel [k][16] (+ bias), constant rows. */
GV_INLINE void gv_f_block(int rows, float *y, int64_t y_stride, const float *x, const float *w, int64_t k, bool add,
                          const float *bias) {
    vf sum[GV_FLOATS_ROWS][GV_F_VECTORS];
    GV_UNROLL_ROWS for (int i = 0; i < rows; i++) {
        GV_UNROLL for (int v = 0; v < GV_F_VECTORS; v++) sum[i][v] = add ? v_load(y + i * y_stride + v * VW) : v_zero();
    }
    for (int64_t p = 0; p < k; p++, w += GV_PANEL, x += rows) {
        vf in[GV_F_VECTORS];
        GV_UNROLL for (int v = 0; v < GV_F_VECTORS; v++) in[v] = v_load(w + v * VW);
        gv_prefetch(w + GV_F_AHEAD);
        GV_UNROLL_ROWS for (int i = 0; i < rows; i++) {
            vf factor = v_set1(x[i]);
            GV_UNROLL for (int v = 0; v < GV_F_VECTORS; v++) sum[i][v] = v_fma(factor, in[v], sum[i][v]);
        }
    }
    GV_UNROLL_ROWS for (int i = 0; i < rows; i++) {
        GV_UNROLL for (int v = 0; v < GV_F_VECTORS; v++) {
            v_store(y + i * y_stride + v * VW, bias != NULL ? v_add(sum[i][v], v_load(bias + v * VW)) : sum[i][v]);
        }
    }
}

#define GV_F_CASE(R)                                    \
    case R:                                             \
        gv_f_block(R, y, y_stride, x, w, k, add, bias); \
        break

static void gv_f_dispatch(int64_t rows, float *y, int64_t y_stride, const float *x, const float *w, int64_t k, bool add,
                          const float *bias) {
    switch (rows) {
        GV_SIX_CASES(GV_F_CASE, 0);
#if GV_FLOATS_ROWS > 6
        GV_SIX_CASES(GV_F_CASE, 6);
        GV_SIX_CASES(GV_F_CASE, 12);
        GV_SIX_CASES(GV_F_CASE, 18);
#endif
        default:
            break;
    }
}

/* The last panel, of `cols` < 16 outputs: by way of a whole one. */
static void gv_f_edge(float *y, int64_t y_stride, const float *x, int64_t rows, const float *w, int64_t k, int64_t cols,
                      const float *bias) {
    float whole[GV_FLOATS_ROWS * GV_PANEL], add[GV_PANEL] = {0};
    if (bias != NULL) memcpy(add, bias, (size_t)cols * sizeof *bias);
    gv_f_dispatch(rows, whole, GV_PANEL, x, w, k, false, bias != NULL ? add : NULL);
    for (int64_t r = 0; r < rows; r++) memcpy(y + r * y_stride, whole + r * GV_PANEL, (size_t)cols * sizeof *y);
}

static void simd_product_floats(float *y, int64_t y_stride, const float *x, int64_t rows, int64_t height, const gv_quantised *w,
                                int64_t first, int64_t cols, const float *bias) {
    for (int64_t j = 0; j < cols; j += GV_PANEL) {
        const float *panel = gv_floats_of(w, first * GV_PANEL + j), *add = bias != NULL ? bias + j : NULL;
        const bool part = cols - j < GV_PANEL;
        const int64_t depth = part || rows <= height ? w->k : GV_F_DEPTH;
        for (int64_t p = 0; p < w->k; p += depth) {
            const int64_t deep = w->k - p < depth ? w->k - p : depth;
            for (int64_t r = 0; r < rows; r += height) {
                const int64_t some = rows - r < height ? rows - r : height;
                const float *in = x + r * w->k + p * some;
                float *to = y + r * y_stride + j;
                if (part) {
                    gv_f_edge(to, y_stride, in, some, panel, deep, cols - j, add);
                } else {
                    gv_f_dispatch(some, to, y_stride, in, panel + p * GV_PANEL, deep, p > 0, p + deep == w->k ? add : NULL);
                }
            }
        }
    }
}

static void simd_pack_rows(float *out, const float *x, int64_t x_stride, int64_t rows, int64_t k, int64_t height) {
    if (height == 1) {
        for (int64_t r = 0; r < rows; r++) memcpy(out + r * k, x + r * x_stride, (size_t)k * sizeof *x);
    } else {
        gv_pack_a(out, x, x_stride, 1, rows, height, k);
    }
}
