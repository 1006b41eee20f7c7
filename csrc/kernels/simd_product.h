/* simd_product.h - small matrix products, included by avx2.c and avx512.c after they have defined their vectors.
 *
 * product_nt walks along k and keeps GV_NT_FEW x PRODUCT_NT_COLS sums in registers: weights are read where they lie,
 * once, with the next rows fetched ahead. product_nn walks along the rows of B and keeps PRODUCT_NN_ROWS rows of two
 * vectors. Every sum runs along k in one order that depends on k alone, so a row's result does not depend on its
 * neighbours.
 */

enum {
    GV_NT_FEW = 4,                 /* rows of x for which dot products do */
    GV_NN_DEPTH = 256,             /* of a panel of B: 256 rows of 64 bytes stay in the L1 cache */
    GV_NT_DEPTH = GV_PACKED_DEPTH, /* of packed x: weight rows are read 3 KB at a time */
    GV_NT_ROWS = GV_PACKED_ROWS,   /* of x taken at once */
    GV_NT_COLS = 192               /* rows of w between two packings of x */
};

/* ------------------------------------------------------------------------------------------ x [m,k], w [n,k] -- */

/* y[i,j] = sum over p < k of x[i,p] w[j,p] (+ bias[j]) for constant rows, cols. `ahead`: rows to fetch, or NULL. */
GV_INLINE void gv_nt_block(int rows, int cols, float *y, int64_t y_stride, const float *x, int64_t x_stride, const float *w,
                           int64_t w_stride, int64_t k, const float *bias, const float *ahead) {
    vf sum[GV_NT_FEW][PRODUCT_NT_COLS];
    GV_UNROLL for (int i = 0; i < rows; i++) {
        GV_UNROLL for (int j = 0; j < cols; j++) sum[i][j] = v_zero();
    }
    int64_t p = 0;
    for (; p + VW <= k; p += VW) {
        vf b[PRODUCT_NT_COLS];
        GV_UNROLL for (int j = 0; j < cols; j++) b[j] = v_load(w + j * w_stride + p);
        if (ahead != NULL && p % 16 == 0) {
            GV_UNROLL for (int j = 0; j < cols; j++) gv_prefetch(ahead + j * w_stride + p);
        }
        GV_UNROLL for (int i = 0; i < rows; i++) {
            vf a = v_load(x + i * x_stride + p);
            GV_UNROLL for (int j = 0; j < cols; j++) sum[i][j] = v_fma(a, b[j], sum[i][j]);
        }
    }
    if (p < k) {
        int left = (int)(k - p);
        GV_UNROLL for (int i = 0; i < rows; i++) {
            vf a = v_load_n(x + i * x_stride + p, left);
            GV_UNROLL for (int j = 0; j < cols; j++) sum[i][j] = v_fma(a, v_load_n(w + j * w_stride + p, left), sum[i][j]);
        }
    }
    GV_UNROLL for (int i = 0; i < rows; i++) {
        GV_UNROLL for (int j = 0; j < cols; j++) {
            float total = v_sum(sum[i][j]);
            y[i * y_stride + j] = bias != NULL ? total + bias[j] : total;
        }
    }
}

#define GV_NT_CASE(R, C)                                                          \
    case (R)*8 + (C):                                                             \
        gv_nt_block(R, C, y, y_stride, x, x_stride, w, w_stride, k, bias, ahead); \
        break
#define GV_NT_CASES(R) \
    GV_NT_CASE(R, 1);  \
    GV_NT_CASE(R, 2);  \
    GV_NT_CASE(R, 3)

static void gv_nt_dispatch(int rows, int cols, float *y, int64_t y_stride, const float *x, int64_t x_stride, const float *w,
                           int64_t w_stride, int64_t k, const float *bias, const float *ahead) {
    switch (rows * 8 + cols) {
        GV_NT_CASES(1);
        GV_NT_CASES(2);
        GV_NT_CASES(3);
        GV_NT_CASES(4);
        default:
            break;
    }
}

/* A few rows: dot products along k, each weight row read once from end to end. */
static void gv_nt_few(float *y, int64_t y_stride, const float *x, int64_t x_stride, const float *w, int64_t w_stride,
                      const float *bias, int64_t m, int64_t n, int64_t k) {
    int64_t step = m == 1 ? 1 : PRODUCT_NT_COLS; /* one row alone is read in one stream */
    for (int64_t j = 0; j < n; j += step) {
        int cols = (int)(n - j < step ? n - j : step);
        const float *ahead = j + step + cols <= n ? w + (j + step) * w_stride : NULL;
        gv_nt_dispatch((int)m, cols, y + j, y_stride, x, x_stride, w + j * w_stride, w_stride, k,
                       bias != NULL ? bias + j : NULL, ahead);
    }
}
/* ------------------------------------------------------------------------------- a (any strides), b row-major -- */

/* c[i, 0..nv*VW) (+)= sum over p < k of a[i*row + p*step] b[p, :] for constant rows and nv. Whole vectors of b are read; only
 * `last` floats of c's last vector are touched when `masked`. */
GV_INLINE void gv_nn_block(int rows, int nv, bool masked, float *c, int64_t c_stride, const float *a, int64_t row, int64_t step,
                           const float *b, int64_t b_stride, int64_t k, bool add, int last, const float *ahead,
                           int64_t ahead_step, bool stream) {
    vf sum[PRODUCT_NN_MOST][2];
    GV_UNROLL for (int i = 0; i < rows; i++) {
        GV_UNROLL for (int v = 0; v < nv; v++) {
            const float *from = c + i * c_stride + v * VW;
            sum[i][v] = !add ? v_zero() : masked && v == nv - 1 ? v_load_n(from, last) : v_load(from);
        }
    }
    for (int64_t p = 0; p < k; p++, b += b_stride, a += step) {
        vf in[2];
        GV_UNROLL for (int v = 0; v < nv; v++) in[v] = v_load(b + v * VW);
        if (ahead != NULL) {
            gv_prefetch(ahead);
            ahead += ahead_step;
        }
        GV_UNROLL for (int i = 0; i < rows; i++) {
            vf factor = v_set1(a[i * row]);
            GV_UNROLL for (int v = 0; v < nv; v++) sum[i][v] = v_fma(factor, in[v], sum[i][v]);
        }
    }
    GV_UNROLL for (int i = 0; i < rows; i++) {
        GV_UNROLL for (int v = 0; v < nv; v++) {
            float *to = c + i * c_stride + v * VW;
            if (masked && v == nv - 1) {
                v_store_n(to, sum[i][v], last);
            } else if (stream) {
                v_stream(to, sum[i][v]);
            } else {
                v_store(to, sum[i][v]);
            }
        }
    }
}

#define GV_NN_CASE(R)                                                                                                \
    case R:                                                                                                          \
        if (kind == 0)                                                                                               \
            gv_nn_block(R, 2, false, c, c_stride, a, row, step, b, b_stride, k, add, 0, ahead, ahead_step, stream);  \
        else                                                                                                         \
            gv_nn_block(R, 2, true, c, c_stride, a, row, step, b, b_stride, k, add, last, ahead, ahead_step, false); \
        break
#define GV_N1_CASE(R)                                                                                            \
    case R:                                                                                                      \
        gv_nn_block(R, 1, true, c, c_stride, a, row, step, b, b_stride, k, add, last, ahead, ahead_step, false); \
        break
#define GV_SIX_CASES(CASE, R) \
    CASE(R + 1);              \
    CASE(R + 2);              \
    CASE(R + 3);              \
    CASE(R + 4);              \
    CASE(R + 5);              \
    CASE(R + 6)

/* kind 0: two whole vectors; 1: two, the last with `last` floats; 2: one with `last` floats */
static void gv_nn_dispatch(int rows, int kind, float *c, int64_t c_stride, const float *a, int64_t row, int64_t step,
                           const float *b, int64_t b_stride, int64_t k, bool add, int last, const float *ahead,
                           int64_t ahead_step, bool stream) {
    if (kind == 2) {
        switch (rows) {
            GV_SIX_CASES(GV_N1_CASE, 0);
            GV_SIX_CASES(GV_N1_CASE, 6);
            default:
                break;
        }
        return;
    }
    switch (rows) {
        GV_SIX_CASES(GV_NN_CASE, 0);
#if PRODUCT_NN_ROWS > 6
        GV_SIX_CASES(GV_NN_CASE, 6);
#endif
        default:
            break;
    }
}

/* ------------------------------------------------------------------------------- many rows: both sides packed -- */

/* A panel of b, [depth][2 VW], stays in the L1 cache; rows of a, block by block [depth][rows of the block], in the L2 cache. Read
 * where they lie, rows some KB apart collide in the caches and no stream is long enough to be fetched ahead. */
enum {
    GV_MANY_ROWS = 264, /* of a, packed at once */
    GV_MANY_FROM = 5 * PRODUCT_NN_ROWS + 1,
    GV_MANY_COLS = 8 * 2 * VW, /* from here on packing a pays */
};

static void gv_pack_a(float *to, const float *a, int64_t row, int64_t step, int64_t m, int64_t height, int64_t depth) {
    if (row == 1) {
        for (int64_t p = 0; p < depth; p++, a += step) {
            float *at = to + p * height;
            int64_t i = 0;
            if (height == PRODUCT_NN_ROWS) {
                for (; i + height <= m; i += height, at += height * depth) memcpy(at, a + i, PRODUCT_NN_ROWS * sizeof *a);
            }
            for (; i < m; i += height) {
                int64_t rows = m - i < height ? m - i : height;
                memcpy(to + i * depth + p * rows, a + i, (size_t)rows * sizeof *a);
            }
        }
        return;
    }
    for (int64_t i = 0; i < m; i += height) {
        int64_t rows = m - i < height ? m - i : height, p = 0;
        float *at = to + i * depth;
        if (step == 1 && i + (rows < 8 ? 8 : rows) <= m) {
            for (; p + 8 <= depth; p += 8) {
                for (int64_t s = 0; s < rows; s = s + 8 >= rows ? rows : s + 16 <= rows ? s + 8 : rows - 8) {
                    gv_transpose8(at + p * rows + s, rows, a + (i + s) * row + p, row);
                }
            }
        }
        for (; p < depth; p++) {
            for (int64_t r = 0; r < rows; r++) at[p * rows + r] = a[(i + r) * row + p * step];
        }
    }
}

/* `width` columns, zeros beside them. */
static void gv_pack_b(float *to, const float *b, int64_t b_stride, int64_t depth, int64_t width) {
    for (int64_t p = 0; p < depth; p++, b += b_stride, to += 2 * VW) {
        v_store(to, width >= VW ? v_load(b) : v_load_n(b, (int)width));
        v_store(to + VW, width == 2 * VW ? v_load(b + VW) : width > VW ? v_load_n(b + VW, (int)width - VW) : v_zero());
    }
}

#define GV_MANY_CASE(R)                                                                            \
    case R:                                                                                        \
        gv_nn_block(R, 2, false, c, c_stride, a, 1, R, b, 2 * VW, depth, add, 0, NULL, 0, stream); \
        break

static void gv_many_block(int rows, float *c, int64_t c_stride, const float *a, const float *b, int64_t depth, bool add,
                          bool stream) {
    switch (rows) {
        GV_SIX_CASES(GV_MANY_CASE, 0);
#if PRODUCT_NN_ROWS > 6
        GV_SIX_CASES(GV_MANY_CASE, 6);
#endif
        default:
            break;
    }
}

/* The last columns: by way of a whole block. */
static void gv_many_edge(int rows, float *c, int64_t c_stride, const float *a, const float *b, int64_t depth, bool add,
                         int64_t width) {
    float whole[PRODUCT_NN_ROWS * 2 * VW] = {0};
    for (int i = 0; add && i < rows; i++) memcpy(whole + i * 2 * VW, c + i * c_stride, (size_t)width * sizeof *c);
    gv_many_block(rows, whole, 2 * VW, a, b, depth, add, false);
    for (int i = 0; i < rows; i++) memcpy(c + i * c_stride, whole + i * 2 * VW, (size_t)width * sizeof *c);
}

/* c (+)= a b; sums run along k as in the blocks above. */
static void gv_many(float *c, int64_t c_stride, const float *a, int64_t row, int64_t step, const float *b, int64_t b_stride,
                    int64_t m, int64_t n, int64_t k, bool add, bool stream) {
    _Alignas(64) float panel[GV_NN_DEPTH * 2 * VW], kept[GV_MANY_ROWS * GV_NN_DEPTH + 8];
    int64_t passes = (k + GV_NN_DEPTH - 1) / GV_NN_DEPTH, most_depth = (k + passes - 1) / passes;
    int64_t chunks = (m + GV_MANY_ROWS - 1) / GV_MANY_ROWS, most_rows = (m + chunks - 1) / chunks;
    most_rows = (most_rows + PRODUCT_NN_ROWS - 1) / PRODUCT_NN_ROWS * PRODUCT_NN_ROWS;
    for (int64_t p = 0; p < k; p += most_depth, add = true) {
        int64_t depth = k - p < most_depth ? k - p : most_depth;
        for (int64_t r = 0; r < m; r += most_rows) {
            int64_t rows = m - r < most_rows ? m - r : most_rows, blocks = (rows + PRODUCT_NN_ROWS - 1) / PRODUCT_NN_ROWS;
            int64_t height = (rows + blocks - 1) / blocks; /* blocks of nearly one height */
            gv_pack_a(kept, a + r * row + p * step, row, step, rows, height, depth);
            for (int64_t j = 0; j < n; j += 2 * VW) {
                int64_t width = n - j < 2 * VW ? n - j : 2 * VW, line = 0;
                /* What is packed next, so many rows of it with every block: the panel beside, or the next pass's first. */
                const float *from = b + p * b_stride + j, *next = n - j >= 4 * VW ? from + 2 * VW : NULL;
                if (next == NULL && r + rows == m && p + 2 * depth <= k) next = b + (p + depth) * b_stride;
                int64_t each = next != NULL ? (depth + blocks - 1) / blocks : 0;
                float *to = c + r * c_stride + j;
                gv_pack_b(panel, from, b_stride, depth, width);
                for (int64_t i = 0; i < rows; i += height, to += height * c_stride) {
                    int taken = (int)(rows - i < height ? rows - i : height);
                    for (int64_t end = line + each < depth ? line + each : depth; line < end; line++) {
                        GV_UNROLL for (int v = 0; v < 2 * VW; v += 16) gv_prefetch(next + line * b_stride + v);
                    }
                    if (width < 2 * VW) {
                        gv_many_edge(taken, to, c_stride, kept + i * depth, panel, depth, add, width);
                        continue;
                    }
                    for (int64_t q = height; add && q < 2 * height && i + q < rows; q++) gv_prefetch(to + q * c_stride);
                    gv_many_block(taken, to, c_stride, kept + i * depth, panel, depth, add, stream);
                }
            }
        }
    }
    if (stream) v_fence();
}

/* What a panel of `left` remaining columns is. */
GV_INLINE int gv_nn_kind(int64_t left, int *last) {
    int kind = left >= 2 * VW ? 0 : left > VW ? 1 : 2;
    *last = kind == 0 ? VW : (int)(kind == 1 ? left - VW : left);
    return kind;
}

static void simd_product_nn(float *c, int64_t c_stride, const float *a, int64_t row, int64_t step, const float *b,
                            int64_t b_stride, int64_t m, int64_t n, int64_t k, bool add, bool stream) {
    _Alignas(64) float panel[GV_NN_DEPTH * 2 * VW];
    stream = stream && (uintptr_t)c % (4 * VW) == 0 && c_stride % VW == 0 && k <= GV_NN_DEPTH && !add;
    if (k == 0 && !add) {
        for (int64_t i = 0; i < m; i++) memset(c + i * c_stride, 0, (size_t)n * sizeof *c);
    }
    if (m >= GV_MANY_FROM && n >= GV_MANY_COLS && k > 0 && (row == 1 || step == 1)) {
        gv_many(c, c_stride, a, row, step, b, b_stride, m, n, k, add, stream);
        return;
    }
    int64_t passes = (k + GV_NN_DEPTH - 1) / GV_NN_DEPTH, most_depth = passes > 0 ? (k + passes - 1) / passes : 0;
    for (int64_t p = 0; p < k; p += most_depth) { /* passes of nearly one depth: each reads and writes c once more */
        int64_t depth = k - p < most_depth ? k - p : most_depth;
        for (int64_t j = 0; j < n; j += 2 * VW) {
            int last, kind = gv_nn_kind(n - j, &last);
            const float *from = b + p * b_stride + j, *ahead = NULL, *in = from;
            int64_t in_stride = b_stride;
            if (n - j >= 4 * VW) {
                ahead = from + 2 * VW;
            } else if (p + 2 * depth <= k) {
                ahead = b + (p + depth) * b_stride;
            }
            /* Rows far apart collide in the caches, and a short last vector must not be read past its end. */
            if (kind != 0 || (m > 5 * PRODUCT_NN_ROWS && b_stride > 64)) {
                int whole = kind == 2 ? 0 : 1;
                for (int64_t q = 0; q < depth; q++) {
                    float *to = panel + q * 2 * VW;
                    if (whole) v_store(to, v_load(from + q * b_stride));
                    v_store(to + whole * VW,
                            kind == 0 ? v_load(from + q * b_stride + VW) : v_load_n(from + q * b_stride + whole * VW, last));
                }
                in = panel;
                in_stride = 2 * VW;
            }
            int64_t most = kind == 2 ? PRODUCT_NN_MOST : PRODUCT_NN_ROWS, blocks = (m + most - 1) / most;
            most = (m + blocks - 1) / blocks; /* blocks of nearly one height */
            for (int64_t i = 0; i < m; i += most) {
                int rows = (int)(m - i < most ? m - i : most);
                gv_nn_dispatch(rows, kind, c + i * c_stride + j, c_stride, a + i * row + p * step, row, step, in, in_stride,
                               depth, add || p > 0, last, ahead, b_stride, stream);
                ahead = NULL;
            }
        }
    }
    if (stream) v_fence();
}

/* ----------------------------------------------------------------------------- x [m,k], w [n,k], more than a few rows -- */

/* packed[panel of 2 VW rows][depth][2 VW] from rows of x, missing rows as 0 */
static void gv_pack_columns(float *packed, const float *x, int64_t x_stride, int64_t rows, int64_t depth) {
    for (int64_t s = 0; s < rows; s += 8) {
        float *to = packed + s / (2 * VW) * (2 * VW) * GV_NT_DEPTH + s % (2 * VW);
        const float *from = x + s * x_stride;
        int64_t p = 0;
        if (rows - s >= 8) {
            for (; p + 8 <= depth; p += 8) gv_transpose8(to + p * 2 * VW, 2 * VW, from + p, x_stride);
        }
        for (; p < depth; p++) {
            for (int64_t i = 0; i < 8; i++) to[p * 2 * VW + i] = s + i < rows ? from[i * x_stride + p] : 0.0f;
        }
    }
    /* what the last panel holds beyond */
    for (int64_t s = (rows + 7) / 8 * 8; s % (2 * VW) != 0; s += 8) {
        float *to = packed + s / (2 * VW) * (2 * VW) * GV_NT_DEPTH + s % (2 * VW);
        for (int64_t p = 0; p < depth; p++) memset(to + p * 2 * VW, 0, 8 * sizeof *to);
    }
}

static void gv_unpack_columns(float *y, int64_t y_stride, const float *sums, const float *bias, int64_t rows, int64_t cols) {
    for (int64_t j = 0; j < cols; j += 8) {
        int64_t i = 0;
        if (cols - j >= 8) {
            for (; i + 8 <= rows; i += 8) {
                gv_transpose8(y + i * y_stride + j, y_stride, sums + j * GV_NT_ROWS + i, GV_NT_ROWS);
            }
        }
        for (int64_t c = j; c < cols && c < j + 8; c++) {
            for (int64_t r = i; r < rows; r++) y[r * y_stride + c] = sums[c * GV_NT_ROWS + r];
        }
    }
    if (bias != NULL) simd_bias_add(y, bias, rows, cols, y_stride);
}

/* sum[i, 0..nv*VW) (+)= sum over p < k of w[i, p] x[p, :], rows of `sum` GV_NT_ROWS apart; constant rows and nv */
GV_INLINE void gv_nt_block_packed(int rows, int nv, float *to, const float *w, int64_t w_stride, const float *x, int64_t k,
                                  bool add, const float *ahead) {
    vf sum[PRODUCT_NN_MOST][2];
    GV_UNROLL for (int i = 0; i < rows; i++) {
        GV_UNROLL for (int v = 0; v < nv; v++) sum[i][v] = add ? v_load(to + i * GV_NT_ROWS + v * VW) : v_zero();
    }
    for (int64_t q = 0; q < k; q += 16) {
        int64_t end = k - q < 16 ? k : q + 16;
        if (ahead != NULL) {
            GV_UNROLL for (int i = 0; i < rows; i++) gv_prefetch(ahead + i * w_stride + q);
        }
        for (int64_t p = q; p < end; p++, x += 2 * VW) {
            vf in[2];
            GV_UNROLL for (int v = 0; v < nv; v++) in[v] = v_load(x + v * VW);
            GV_UNROLL for (int i = 0; i < rows; i++) {
                vf factor = v_set1(w[i * w_stride + p]);
                GV_UNROLL for (int v = 0; v < nv; v++) sum[i][v] = v_fma(factor, in[v], sum[i][v]);
            }
        }
    }
    GV_UNROLL for (int i = 0; i < rows; i++) {
        GV_UNROLL for (int v = 0; v < nv; v++) v_store(to + i * GV_NT_ROWS + v * VW, sum[i][v]);
    }
}

#define GV_NT_WIDE(R)                                                \
    case R:                                                          \
        gv_nt_block_packed(R, 2, to, w, w_stride, x, k, add, ahead); \
        break
#define GV_NT_NARROW(R)                                              \
    case R:                                                          \
        gv_nt_block_packed(R, 1, to, w, w_stride, x, k, add, ahead); \
        break

static void gv_nt_columns(int rows, bool wide, float *to, const float *w, int64_t w_stride, const float *x, int64_t k, bool add,
                          const float *ahead) {
    if (!wide) {
        switch (rows) {
            GV_SIX_CASES(GV_NT_NARROW, 0);
#if PRODUCT_NN_ROWS > 6
            GV_SIX_CASES(GV_NT_NARROW, 6);
#endif
            default:
                break;
        }
        return;
    }
    switch (rows) {
        GV_SIX_CASES(GV_NT_WIDE, 0);
#if PRODUCT_NN_ROWS > 6
        GV_SIX_CASES(GV_NT_WIDE, 6);
#endif
        default:
            break;
    }
}

/* y^T = w x^T: w is walked along its own rows, one factor at a time, against packed columns of x. */
static void simd_product_nt(float *y, int64_t y_stride, const float *x, int64_t x_stride, const float *w, int64_t w_stride,
                            const float *bias, int64_t m, int64_t n, int64_t k, gv_packed_rows *packed) {
    if (m <= GV_NT_FEW) {
        gv_nt_few(y, y_stride, x, x_stride, w, w_stride, bias, m, n, k);
        return;
    }
    _Alignas(64) float own[GV_NT_DEPTH * GV_NT_ROWS], sums[GV_NT_COLS * GV_NT_ROWS];
    if (m > GV_NT_ROWS) packed = NULL;
    for (int64_t r = 0; r < m; r += GV_NT_ROWS) {
        int64_t rows = m - r < GV_NT_ROWS ? m - r : GV_NT_ROWS;
        for (int64_t j = 0; j < n; j += GV_NT_COLS) {
            int64_t cols = n - j < GV_NT_COLS ? n - j : GV_NT_COLS;
            for (int64_t p = 0; p < k; p += GV_NT_DEPTH) {
                int64_t depth = k - p < GV_NT_DEPTH ? k - p : GV_NT_DEPTH;
                float *columns = packed != NULL ? packed->columns + p * GV_NT_ROWS : own;
                if (packed == NULL || !packed->ready) gv_pack_columns(columns, x + r * x_stride + p, x_stride, rows, depth);
                int64_t step = PRODUCT_NN_ROWS;
                for (int64_t q = 0; q < cols; q += step) {
                    const float *from = w + (j + q) * w_stride + p;
                    for (int64_t s = 0; s < rows; s += 2 * VW) {
                        bool wide = rows - s > VW;
                        int64_t block = cols - q < step ? cols - q : step;
                        /* the same lines of the rows after these, once */
                        const float *ahead = s == 0 && q + step < cols ? from + step * w_stride : NULL;
                        gv_nt_columns((int)block, wide, sums + q * GV_NT_ROWS + s, from, w_stride, columns + s * GV_NT_DEPTH,
                                      depth, p > 0, ahead);
                    }
                }
            }
            if (packed != NULL) packed->ready = true;
            gv_unpack_columns(y + r * y_stride + j, y_stride, sums, bias != NULL ? bias + j : NULL, rows, cols);
        }
    }
}
