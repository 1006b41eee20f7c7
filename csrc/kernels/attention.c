/* attention.c - scaled dot-product attention of one head (Vaswani et al., arXiv:1706.03762), the readable twin. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/tables.h"

/* Two rows of one value a key: probabilities, and their gradients in the backward pass. */
int64_t gv_attention_scratch_scalar(int64_t query_rows, int64_t key_rows, int64_t head_dim) {
    (void)query_rows;
    (void)head_dim;
    return 2 * key_rows;
}

static float gv_dot(const float *a, const float *b, int64_t n) {
    float sum = 0.0f;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* score[j] of query row i; minus infinity where it may not look */
static void gv_scores(float *score, const gv_attention_head *head, int64_t i) {
    for (int64_t j = 0; j < head->key_rows; j++) {
        if (head->causal && head->key_position[j] > head->query_position[i]) {
            score[j] = -INFINITY;
            continue;
        }
        score[j] = head->scale * gv_dot(head->query + i * head->query_stride, head->key + j * head->key_stride, head->head_dim);
        if (head->bias != NULL) score[j] += head->bias[i * head->bias_stride + j];
    }
}

/* What p[j] is multiplied with: 0 or 1 / (1 - p) */
static void gv_keep(float *p, const gv_attention_head *head, int64_t i) {
    if (head->dropout.p <= 0.0f) return;
    uint32_t threshold = gv_dropout_threshold(head->dropout.p);
    float keep = 1.0f / (1.0f - head->dropout.p);
    const uint32_t key[2] = {head->dropout.seed, head->dropout.step};
    for (int64_t j = 0; j < head->key_rows; j += 4) {
        const uint32_t counter[4] = {(uint32_t)(j / 4), (uint32_t)head->query_position[i], head->sample, head->dropout.site};
        uint32_t word[4];
        gv_philox(word, counter, key);
        for (int64_t l = j; l < head->key_rows && l < j + 4; l++) p[l] = word[l - j] >= threshold ? p[l] * keep : 0.0f;
    }
}

void gv_attention_scalar(float *out, int64_t out_stride, float *lse, float *probs, const gv_attention_head *head,
                         float *scratch) {
    for (int64_t i = 0; i < head->query_rows; i++) {
        float *p = probs != NULL ? probs + i * head->key_rows : scratch, *to = out + i * out_stride, top = -INFINITY;
        double sum = 0.0;
        gv_scores(p, head, i);
        for (int64_t j = 0; j < head->key_rows; j++) top = p[j] > top ? p[j] : top;
        memset(to, 0, (size_t)head->head_dim * sizeof *to);
        if (lse != NULL) lse[i] = -INFINITY;
        if (top == -INFINITY) {
            memset(p, 0, (size_t)head->key_rows * sizeof *p);
            continue;
        }
        for (int64_t j = 0; j < head->key_rows; j++) {
            p[j] = expf(p[j] - top);
            sum += (double)p[j];
        }
        float inverse = (float)(1.0 / sum);
        for (int64_t j = 0; j < head->key_rows; j++) p[j] *= inverse;
        if (lse != NULL) lse[i] = top + (float)log(sum);
        gv_keep(p, head, i);
        for (int64_t j = 0; j < head->key_rows; j++) {
            const float *value = head->value + j * head->value_stride;
            for (int64_t c = 0; c < head->head_dim; c++) to[c] += p[j] * value[c];
        }
    }
}

/* With g the gradient at the scores: dq_i = scale sum_j g_ij k_j, dk_j += scale g_ij q_i, dv_j += d_ij dout_i, where
 * g_ij = p_ij (dp_ij - sum_l p_il dp_il) and dp is the gradient at the probabilities before dropout. */
void gv_attention_backward_scalar(float *dquery, float *dkey, float *dvalue, float *dbias, const float *dout, const float *out,
                                  int64_t out_stride, const float *lse, const float *dprobs, const gv_attention_head *head,
                                  float *scratch) {
    (void)out;
    int64_t dim = head->head_dim;
    float *p = scratch, *g = scratch + head->key_rows;
    for (int64_t i = 0; i < head->query_rows; i++) {
        const float *query = head->query + i * head->query_stride, *dto = dout + i * out_stride;
        float *dq = dquery + i * head->query_stride;
        memset(dq, 0, (size_t)dim * sizeof *dq);
        if (lse[i] == -INFINITY) continue;
        gv_scores(p, head, i);
        for (int64_t j = 0; j < head->key_rows; j++) {
            p[j] = expf(p[j] - lse[i]);
            g[j] = gv_dot(dto, head->value + j * head->value_stride, dim);
            if (dprobs != NULL) g[j] += dprobs[i * head->key_rows + j];
        }
        gv_keep(g, head, i);
        double along = 0.0;
        for (int64_t j = 0; j < head->key_rows; j++) along += (double)p[j] * (double)g[j];
        for (int64_t j = 0; j < head->key_rows; j++) g[j] = p[j] * (g[j] - (float)along);
        gv_keep(p, head, i);
        for (int64_t j = 0; j < head->key_rows; j++) {
            const float *key = head->key + j * head->key_stride;
            float *dk = dkey + j * head->key_stride, *dv = dvalue + j * head->value_stride;
            float slope = head->scale * g[j];
            if (dbias != NULL) dbias[i * head->bias_stride + j] += g[j];
            for (int64_t c = 0; c < dim; c++) {
                dq[c] += slope * key[c];
                dk[c] += slope * query[c];
                dv[c] += p[j] * dto[c];
            }
        }
    }
}

/* One key or value of a page: element (row, c) of keys lies at c * GV_PAGE_ROWS + row, of values at row * head_dim + c. */
static float gv_paged_value(const gv_paged_attention *a, const char *part, bool value, int64_t row, int64_t c) {
    int64_t at = value ? row * a->head_dim + c : c * GV_PAGE_ROWS + row;
    if (!a->bits8) return ((const float *)(const void *)part)[at];
    const float *scale = (const float *)(const void *)(part + a->head_dim * GV_PAGE_ROWS);
    return (float)((const int8_t *)part)[at] * scale[row];
}

void gv_attention_pages_scalar(const gv_paged_attention *a, float *scratch) {
    for (int64_t i = 0; i < a->rows; i++) {
        float *p = scratch, *to = a->out[i], top = -INFINITY;
        double sum = 0.0;
        for (int64_t j = 0; j < a->visible[i]; j++) {
            const char *keys = a->pages[j / GV_PAGE_ROWS] + a->key_offset;
            float dot = 0.0f;
            for (int64_t c = 0; c < a->head_dim; c++)
                dot += a->query[i][c] * gv_paged_value(a, keys, false, j % GV_PAGE_ROWS, c);
            p[j] = dot * a->scale + (a->bias != NULL ? a->bias[i][j] : 0.0f);
            top = p[j] > top ? p[j] : top;
        }
        for (int64_t j = 0; j < a->visible[i]; j++) {
            p[j] = expf(p[j] - top);
            sum += (double)p[j];
        }
        memset(to, 0, (size_t)a->head_dim * sizeof *to);
        float inverse = (float)(1.0 / sum);
        for (int64_t j = 0; j < a->visible[i]; j++) {
            const char *values = a->pages[j / GV_PAGE_ROWS] + a->value_offset;
            for (int64_t c = 0; c < a->head_dim; c++)
                to[c] += p[j] * inverse * gv_paged_value(a, values, true, j % GV_PAGE_ROWS, c);
        }
    }
}
