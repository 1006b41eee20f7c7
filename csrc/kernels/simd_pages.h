/* simd_pages.h - attention over keys and values in pages: up to four query rows walk the pages together, two vectors wide. */

enum { GV_PAGED_ROWS = 4 };

/* to[n] = from[n] * scale; `scale` is one number, or one an element when `each`. */
static void gv_widen(float *to, const int8_t *from, const float *scale, bool each, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] = (float)from[i] * scale[each ? i : 0];
}

/* The keys (or values) of a page in float32, in place or in `room`. */
GV_INLINE const float *gv_open_page(float *room, const gv_paged_attention *a, int64_t page, bool values) {
    const char *part = a->pages[page] + (values ? a->value_offset : a->key_offset);
    if (!a->bits8) return (const float *)(const void *)part;
    const int8_t *q = (const int8_t *)part;
    const float *scale = (const float *)(const void *)(part + a->head_dim * GV_PAGE_ROWS);
    if (values) {
        for (int64_t r = 0; r < GV_PAGE_ROWS; r++)
            gv_widen(room + r * a->head_dim, q + r * a->head_dim, scale + r, false, a->head_dim);
    } else {
        for (int64_t c = 0; c < a->head_dim; c++)
            gv_widen(room + c * GV_PAGE_ROWS, q + c * GV_PAGE_ROWS, scale, true, GV_PAGE_ROWS);
    }
    return room;
}

/* Asks for a page's keys (or values) before their turn: they lie apart from the page before, and the weights of a token have
 * pushed them out of the caches since they were read last. */
GV_INLINE void gv_ask_page(const gv_paged_attention *a, int64_t page, bool values) {
    const char *part = a->pages[page] + (values ? a->value_offset : a->key_offset);
    for (int64_t at = 0; at < gv_page_bytes(a->head_dim, a->bits8); at += 64) __builtin_prefetch(part + at, 0, 3);
}

/* scores[r][0..GV_PAGE_ROWS) += q_r . keys */
GV_INLINE void gv_page_scores(const int rows, float *scores, int64_t wide, const float *const *query, const float *keys,
                              int64_t dim) {
    for (int64_t j = 0; j < GV_PAGE_ROWS; j += 2 * VW) {
        vf sum[GV_PAGED_ROWS][2];
        GV_UNROLL for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = v_zero();
        for (int64_t c = 0; c < dim; c++) {
            vf k0 = v_load(keys + c * GV_PAGE_ROWS + j), k1 = v_load(keys + c * GV_PAGE_ROWS + j + VW);
            GV_UNROLL for (int r = 0; r < rows; r++) {
                vf q = v_set1(query[r][c]);
                sum[r][0] = v_fma(q, k0, sum[r][0]);
                sum[r][1] = v_fma(q, k1, sum[r][1]);
            }
        }
        GV_UNROLL for (int r = 0; r < rows; r++) {
            v_store(scores + r * wide + j, sum[r][0]);
            v_store(scores + r * wide + j + VW, sum[r][1]);
        }
    }
}

/* out[r] (+)= p_r[0..count) values */
GV_INLINE void gv_page_mix(const int rows, float *const *out, const float *p, int64_t wide, const float *values, int64_t count,
                           int64_t dim, bool add) {
    int64_t c = 0;
    for (; c + 2 * VW <= dim; c += 2 * VW) {
        vf sum[GV_PAGED_ROWS][2];
        GV_UNROLL for (int r = 0; r < rows; r++) {
            sum[r][0] = add ? v_load(out[r] + c) : v_zero();
            sum[r][1] = add ? v_load(out[r] + c + VW) : v_zero();
        }
        for (int64_t j = 0; j < count; j++) {
            vf v0 = v_load(values + j * dim + c), v1 = v_load(values + j * dim + c + VW);
            GV_UNROLL for (int r = 0; r < rows; r++) {
                vf w = v_set1(p[r * wide + j]);
                sum[r][0] = v_fma(w, v0, sum[r][0]);
                sum[r][1] = v_fma(w, v1, sum[r][1]);
            }
        }
        GV_UNROLL for (int r = 0; r < rows; r++) {
            v_store(out[r] + c, sum[r][0]);
            v_store(out[r] + c + VW, sum[r][1]);
        }
    }
    for (; c < dim; c += VW) {
        int64_t n = dim - c;
        vf sum[GV_PAGED_ROWS];
        GV_UNROLL for (int r = 0; r < rows; r++) sum[r] = add ? v_load_some(out[r] + c, n) : v_zero();
        for (int64_t j = 0; j < count; j++) {
            vf v = v_load_some(values + j * dim + c, n);
            GV_UNROLL for (int r = 0; r < rows; r++) sum[r] = v_fma(v_set1(p[r * wide + j]), v, sum[r]);
        }
        GV_UNROLL for (int r = 0; r < rows; r++) v_store_some(out[r] + c, sum[r], n);
    }
}

/* Scores of row i into probabilities, zeros from what it may not see up to `wide`. */
static void gv_paged_softmax(float *p, const gv_paged_attention *a, int64_t i, int64_t wide) {
    int64_t n = a->visible[i];
    vf scale = v_set1(a->scale);
    for (int64_t j = 0; j < n; j += VW) {
        vf x = v_mul(v_load_some(p + j, n - j), scale);
        if (a->bias != NULL) x = v_add(x, v_load_some(a->bias[i] + j, n - j));
        v_store_some(p + j, x, n - j);
    }
    float top = gv_simd_row_max(p, n);
    double sum = gv_exp_row(p, p, top, n);
    simd_scale(p, (float)(1.0 / sum), p, n);
    memset(p + n, 0, (size_t)(wide - n) * sizeof *p);
}

/* ask: nothing has read the pages yet. */
GV_INLINE void gv_paged_rows(const int rows, const gv_paged_attention *a, int64_t first, bool ask, float *scratch) {
    int64_t most = 0, dim = a->head_dim;
    for (int r = 0; r < rows; r++) most = a->visible[first + r] > most ? a->visible[first + r] : most;
    int64_t pages = (most + GV_PAGE_ROWS - 1) / GV_PAGE_ROWS, wide = pages * GV_PAGE_ROWS;
    float *room = scratch + GV_PAGED_ROWS * wide;
    if (ask) gv_ask_page(a, 0, false);
    for (int64_t page = 0; page < pages; page++) {
        if (ask) gv_ask_page(a, page + 1 < pages ? page + 1 : 0, page + 1 == pages);
        gv_page_scores(rows, scratch + page * GV_PAGE_ROWS, wide, a->query + first, gv_open_page(room, a, page, false), dim);
    }
    for (int r = 0; r < rows; r++) gv_paged_softmax(scratch + r * wide, a, first + r, wide);
    for (int64_t page = 0; page < pages; page++) {
        int64_t count = most - page * GV_PAGE_ROWS < GV_PAGE_ROWS ? most - page * GV_PAGE_ROWS : GV_PAGE_ROWS;
        if (ask && page + 1 < pages) gv_ask_page(a, page + 1, true);
        gv_page_mix(rows, a->out + first, scratch + page * GV_PAGE_ROWS, wide, gv_open_page(room, a, page, true), count, dim,
                    page > 0);
    }
}

static void simd_attention_pages(const gv_paged_attention *a, float *scratch) {
    int64_t i = 0;
    for (; i + 4 <= a->rows; i += 4) gv_paged_rows(4, a, i, i == 0, scratch);
    switch (a->rows - i) {
        case 3:
            gv_paged_rows(3, a, i, i == 0, scratch);
            break;
        case 2:
            gv_paged_rows(2, a, i, i == 0, scratch);
            break;
        case 1:
            gv_paged_rows(1, a, i, i == 0, scratch);
            break;
        default:
            break;
    }
}
