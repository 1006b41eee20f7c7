/* simd_attention.h - attention of one head as small products over blocks of query rows; the scores of a block stay in the
 * caches, and rows of `wide` floats are never a power of two apart. */

enum { GV_QUERY_BLOCK = 48 };

GV_INLINE int64_t gv_attention_wide(int64_t key_rows) {
    return (key_rows + 15) / 16 * 16 + 16;
}

/* keys and values transposed, two blocks of scores, one row of dropout factors */
static int64_t simd_attention_scratch(int64_t query_rows, int64_t key_rows, int64_t head_dim) {
    int64_t block = query_rows < GV_QUERY_BLOCK ? query_rows : GV_QUERY_BLOCK;
    return (2 * head_dim + 2 * block) * gv_attention_wide(key_rows) + (key_rows + 4 * VW);
}

/* to[dim][wide] = from[rows][dim]^T */
static void gv_turn(float *to, int64_t wide, const float *from, int64_t stride, int64_t rows, int64_t dim) {
    for (int64_t j = 0; j < rows; j += 8) {
        int64_t c = 0;
        if (rows - j >= 8) {
            for (; c + 8 <= dim; c += 8) gv_transpose8(to + c * wide + j, wide, from + j * stride + c, stride);
        }
        for (; c < dim; c++) {
            for (int64_t i = j; i < rows && i < j + 8; i++) to[c * wide + i] = from[i * stride + c];
        }
    }
}

/* score * scale + bias of query row i, minus infinity where it may not look; in place */
static void gv_finish_scores(float *s, const gv_attention_head *head, int64_t i) {
    vf scale = v_set1(head->scale), never = v_set1(-INFINITY);
    const float *bias = head->bias != NULL ? head->bias + i * head->bias_stride : NULL;
    for (int64_t j = 0; j < head->key_rows; j += VW) {
        int64_t n = head->key_rows - j;
        vf x = v_mul(v_load_some(s + j, n), scale);
        if (bias != NULL) x = v_add(x, v_load_some(bias + j, n));
        if (head->causal) x = v_choose(v_not_after(head->key_position + j, n, head->query_position[i]), x, never);
        v_store_some(s + j, x, n);
    }
}

static void simd_attention(float *out, int64_t out_stride, float *lse, float *probs, const gv_attention_head *head,
                           float *scratch) {
    int64_t keys = head->key_rows, dim = head->head_dim, wide = gv_attention_wide(keys);
    float *turned = scratch, *scores = turned + dim * wide;
    float *factor = scratch + simd_attention_scratch(head->query_rows, keys, dim) - (keys + 4 * VW);
    gv_turn(turned, wide, head->key, head->key_stride, keys, dim);
    for (int64_t start = 0; start < head->query_rows; start += GV_QUERY_BLOCK) {
        int64_t rows = head->query_rows - start < GV_QUERY_BLOCK ? head->query_rows - start : GV_QUERY_BLOCK;
        simd_product_nn(scores, wide, head->query + start * head->query_stride, head->query_stride, 1, turned, wide, rows, keys,
                        dim, false, false);
        for (int64_t r = 0; r < rows; r++) {
            int64_t i = start + r;
            float *p = scores + r * wide;
            gv_finish_scores(p, head, i);
            float top = gv_simd_row_max(p, keys);
            if (lse != NULL) lse[i] = -INFINITY;
            if (top == -INFINITY) {
                memset(p, 0, (size_t)keys * sizeof *p);
            } else {
                double sum = gv_exp_row(p, p, top, keys);
                simd_scale(p, (float)(1.0 / sum), p, keys);
                if (lse != NULL) lse[i] = top + (float)log(sum);
                if (head->dropout.p > 0.0f) {
                    gv_dropout_row(factor, keys, &head->dropout, head->sample, head->query_position[i]);
                    for (int64_t j = 0; j < keys; j += VW) {
                        v_store_some(p + j, v_mul(v_load_some(p + j, keys - j), v_load_some(factor + j, keys - j)), keys - j);
                    }
                }
            }
            if (probs != NULL) memcpy(probs + i * keys, p, (size_t)keys * sizeof *p);
        }
        simd_product_nn(out + start * out_stride, out_stride, scores, wide, 1, head->value, head->value_stride, rows, dim, keys,
                        false, false);
    }
}

/* As the scalar twin, block by block: p again from lse, g = gradient at the scores, then three products. */
static void simd_attention_backward(float *dquery, float *dkey, float *dvalue, float *dbias, const float *dout,
                                    const float *out, int64_t out_stride, const float *lse, const float *dprobs,
                                    const gv_attention_head *head, float *scratch) {
    (void)out;
    int64_t keys = head->key_rows, dim = head->head_dim, wide = gv_attention_wide(keys);
    int64_t block = head->query_rows < GV_QUERY_BLOCK ? head->query_rows : GV_QUERY_BLOCK;
    float *turned_key = scratch, *turned_value = turned_key + dim * wide;
    float *scores = turned_value + dim * wide, *slopes = scores + block * wide, *factor = slopes + block * wide;
    gv_turn(turned_key, wide, head->key, head->key_stride, keys, dim);
    gv_turn(turned_value, wide, head->value, head->value_stride, keys, dim);
    bool drop = head->dropout.p > 0.0f;
    vf scale = v_set1(head->scale);
    for (int64_t start = 0; start < head->query_rows; start += block) {
        int64_t rows = head->query_rows - start < block ? head->query_rows - start : block;
        const float *query = head->query + start * head->query_stride, *dto = dout + start * out_stride;
        simd_product_nn(scores, wide, query, head->query_stride, 1, turned_key, wide, rows, keys, dim, false, false);
        simd_product_nn(slopes, wide, dto, out_stride, 1, turned_value, wide, rows, keys, dim, false, false);
        for (int64_t r = 0; r < rows; r++) {
            int64_t i = start + r;
            float *p = scores + r * wide, *g = slopes + r * wide;
            if (lse[i] == -INFINITY) {
                memset(p, 0, (size_t)keys * sizeof *p);
                memset(g, 0, (size_t)keys * sizeof *g);
                continue;
            }
            gv_finish_scores(p, head, i);
            if (drop) gv_dropout_row(factor, keys, &head->dropout, head->sample, head->query_position[i]);
            vf shift = v_set1(lse[i]), dot = v_zero();
            for (int64_t j = 0; j < keys; j += VW) {
                int64_t n = keys - j;
                vf e = v_exp(v_sub(v_load_some(p + j, n), shift)), d = v_load_some(g + j, n);
                if (n < VW) e = v_keep_n(e, (int)n);
                if (dprobs != NULL) d = v_add(d, v_load_some(dprobs + i * keys + j, n));
                if (drop) d = v_mul(d, v_load_some(factor + j, n));
                dot = v_fma(e, d, dot);
                v_store_some(p + j, e, n);
                v_store_some(g + j, d, n);
            }
            vf along = v_set1(v_sum(dot));
            for (int64_t j = 0; j < keys; j += VW) {
                int64_t n = keys - j;
                vf e = v_load_some(p + j, n), d = v_mul(e, v_sub(v_load_some(g + j, n), along));
                if (dbias != NULL) {
                    float *to = dbias + i * head->bias_stride + j;
                    v_store_some(to, v_add(v_load_some(to, n), d), n);
                }
                v_store_some(g + j, v_mul(d, scale), n);
                if (drop) v_store_some(p + j, v_mul(e, v_load_some(factor + j, n)), n);
            }
        }
        simd_product_nn(dquery + start * head->query_stride, head->query_stride, slopes, wide, 1, head->key, head->key_stride,
                        rows, dim, keys, false, false);
        simd_product_nn(dkey, head->key_stride, slopes, 1, wide, query, head->query_stride, keys, dim, rows, true, false);
        simd_product_nn(dvalue, head->value_stride, scores, 1, wide, dto, out_stride, keys, dim, rows, true, false);
    }
}
