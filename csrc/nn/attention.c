/* attention.c - cuts a packed batch into (sequence, head) tiles for the kernel. */
#include "nn/attention.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"

typedef struct {
    float *out, *lse, *probs, *dquery, *dkey, *dvalue, *table_partial, *scratch;
    const int64_t *probs_offset;
    const float *query, *key, *value, *dout, *attention_out, *saved_lse;
    const float *const *dprobs;
    const gv_attention_batch *batch;
    int64_t worker_floats, max_query, max_key;
} gv_attention_job;

void gv_relative_buckets(int32_t *out, int64_t buckets, int64_t max_distance, bool bidirectional) {
    int64_t half = bidirectional ? buckets / 2 : buckets;
    int64_t exact = half / 2;
    for (int64_t d = -max_distance; d <= max_distance; d++) {
        int64_t bucket = bidirectional && d > 0 ? half : 0;
        int64_t n = bidirectional ? (d < 0 ? -d : d) : (d < 0 ? -d : 0);
        if (n >= exact) {
            /* float32, as the reference computes it: the floor is sensitive */
            float place =
                logf((float)n / (float)exact) / (float)log((double)max_distance / (double)exact) * (float)(half - exact);
            n = exact + (int64_t)place;
            if (n > half - 1) n = half - 1;
        }
        out[d + max_distance] = (int32_t)(bucket + n);
    }
}

static void gv_longest(const gv_attention_batch *batch, int64_t *query, int64_t *key) {
    *query = *key = 0;
    for (int64_t b = 0; b < batch->sequences; b++) {
        int64_t q = batch->query_splits[b + 1] - batch->query_splits[b], k = batch->key_splits[b + 1] - batch->key_splits[b];
        if (q > *query) *query = q;
        if (k > *key) *key = k;
    }
}

/* Per worker: the kernel's scratch, then two [q, k] planes for a relative bias and its gradient. */
static int64_t gv_worker_floats(const gv_attention_batch *batch, int64_t max_query, int64_t max_key) {
    int64_t floats = gv_kernels_get()->attention_scratch(max_query, max_key, batch->head_dim);
    floats = (floats + 15) / 16 * 16;
    if (batch->relative_table != NULL) floats += 2 * ((max_query * max_key + 15) / 16 * 16);
    return floats;
}

/* Scratch starts with the partial sums of the relative table, one per sequence and head. */
static int64_t gv_partial_floats(const gv_attention_batch *batch) {
    if (batch->relative_table == NULL) return 0;
    return (batch->sequences * batch->heads * batch->relative_buckets + 15) / 16 * 16;
}

int64_t gv_attention_scratch(const gv_attention_batch *batch, int width) {
    int64_t query, key;
    gv_longest(batch, &query, &key);
    return gv_partial_floats(batch) + gv_worker_floats(batch, query, key) * width;
}

static void gv_fill_bias(float *bias, const gv_attention_batch *batch, const gv_attention_head *head, int64_t h) {
    int64_t limit = batch->relative_max_distance;
    for (int64_t i = 0; i < head->query_rows; i++) {
        for (int64_t j = 0; j < head->key_rows; j++) {
            int64_t d = (int64_t)head->key_position[j] - head->query_position[i];
            d = d < -limit ? -limit : d > limit ? limit : d;
            bias[i * head->key_rows + j] = batch->relative_table[batch->relative_bucket[d + limit] * batch->heads + h];
        }
    }
}

static gv_attention_head gv_head_of(const gv_attention_job *job, int64_t b, int64_t h, float *bias) {
    const gv_attention_batch *batch = job->batch;
    int64_t kv = h / (batch->heads / batch->kv_heads);
    int64_t q0 = batch->query_splits[b], k0 = batch->key_splits[b];
    gv_attention_head head = {
        .query_stride = batch->heads * batch->head_dim,
        .key_stride = batch->kv_heads * batch->head_dim,
        .value_stride = batch->kv_heads * batch->head_dim,
        .query_rows = batch->query_splits[b + 1] - q0,
        .key_rows = batch->key_counts != NULL ? batch->key_counts[b] : batch->key_splits[b + 1] - k0,
        .head_dim = batch->head_dim,
        .scale = batch->scale,
        .causal = batch->causal,
        .query_position = batch->query_position + q0,
        .key_position = batch->key_position + k0,
        .dropout = batch->dropout,
        .sample = batch->samples[b],
    };
    head.query = job->query + q0 * head.query_stride + h * batch->head_dim;
    head.key = job->key + k0 * head.key_stride + kv * batch->head_dim;
    head.value = job->value + k0 * head.value_stride + kv * batch->head_dim;
    head.dropout.site += (uint32_t)h << 20;
    if (batch->relative_table != NULL && head.key_rows > 0) {
        gv_fill_bias(bias, batch, &head, h);
        head.bias = bias;
        head.bias_stride = head.key_rows;
    }
    return head;
}

static int64_t gv_kernel_floats(const gv_attention_job *job) {
    return (gv_kernels_get()->attention_scratch(job->max_query, job->max_key, job->batch->head_dim) + 15) / 16 * 16;
}

static void gv_attention_tile(void *context, int64_t tile, int worker) {
    gv_attention_job *job = context;
    const gv_attention_batch *batch = job->batch;
    int64_t b = tile / batch->heads, h = tile % batch->heads;
    float *scratch = job->scratch + worker * job->worker_floats;
    gv_attention_head head = gv_head_of(job, b, h, scratch + gv_kernel_floats(job));
    if (head.query_rows == 0) return;
    int64_t q0 = batch->query_splits[b], total = batch->query_splits[batch->sequences];
    float *out = job->out + q0 * head.query_stride + h * batch->head_dim;
    if (head.key_rows == 0) {
        for (int64_t i = 0; i < head.query_rows; i++)
            memset(out + i * head.query_stride, 0, (size_t)head.head_dim * sizeof(float));
        return;
    }
    gv_kernels_get()->attention(
        out, head.query_stride, job->lse != NULL ? job->lse + h * total + q0 : NULL,
        job->probs != NULL ? job->probs + job->probs_offset[b] + h * head.query_rows * head.key_rows : NULL, &head, scratch);
}

gv_status gv_attention_forward(float *out, float *lse, float *probs, const int64_t *probs_offset, const float *query,
                               const float *key, const float *value, const gv_attention_batch *batch, float *scratch) {
    gv_attention_job job = {.out = out,
                            .lse = lse,
                            .probs = probs,
                            .probs_offset = probs_offset,
                            .query = query,
                            .key = key,
                            .value = value,
                            .batch = batch,
                            .scratch = scratch + gv_partial_floats(batch)};
    gv_longest(batch, &job.max_query, &job.max_key);
    job.worker_floats = gv_worker_floats(batch, job.max_query, job.max_key);
    return gv_parallel_for(batch->sequences * batch->heads, gv_attention_tile, &job);
}

/* One tile owns a kv head of a sequence, so that the query heads that share it add in order. */
static void gv_attention_backward_tile(void *context, int64_t tile, int worker) {
    gv_attention_job *job = context;
    const gv_attention_batch *batch = job->batch;
    int64_t b = tile / batch->kv_heads, kv = tile % batch->kv_heads, group = batch->heads / batch->kv_heads;
    int64_t d = batch->head_dim, q_stride = batch->heads * d, k_stride = batch->kv_heads * d;
    int64_t q0 = batch->query_splits[b], k0 = batch->key_splits[b], k1 = batch->key_splits[b + 1];
    int64_t total = batch->query_splits[batch->sequences];
    float *scratch = job->scratch + worker * job->worker_floats;
    float *bias = scratch + gv_kernel_floats(job);
    float *dbias = bias + (job->max_query * job->max_key + 15) / 16 * 16;
    for (int64_t j = k0; j < k1; j++) {
        memset(job->dkey + j * k_stride + kv * d, 0, (size_t)d * sizeof(float));
        memset(job->dvalue + j * k_stride + kv * d, 0, (size_t)d * sizeof(float));
    }
    for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
        gv_attention_head head = gv_head_of(job, b, h, bias);
        int64_t plane = head.query_rows * head.key_rows;
        float *dquery = job->dquery + q0 * q_stride + h * d;
        if (plane == 0) {
            for (int64_t i = 0; i < head.query_rows; i++) memset(dquery + i * q_stride, 0, (size_t)d * sizeof(float));
            continue;
        }
        bool wants_table = job->table_partial != NULL;
        if (wants_table) memset(dbias, 0, (size_t)plane * sizeof(float));
        const float *dprobs = job->dprobs != NULL && job->dprobs[b] != NULL ? job->dprobs[b] + h * plane : NULL;
        gv_kernels_get()->attention_backward(dquery, job->dkey + k0 * k_stride + kv * d, job->dvalue + k0 * k_stride + kv * d,
                                             wants_table ? dbias : NULL, job->dout + q0 * q_stride + h * d,
                                             job->attention_out + q0 * q_stride + h * d, q_stride,
                                             job->saved_lse + h * total + q0, dprobs, &head, scratch);
        if (!wants_table) continue;
        float *partial = job->table_partial + (b * batch->heads + h) * batch->relative_buckets;
        int64_t limit = batch->relative_max_distance;
        for (int64_t i = 0; i < head.query_rows; i++) {
            for (int64_t j = 0; j < head.key_rows; j++) {
                int64_t distance = (int64_t)head.key_position[j] - head.query_position[i];
                distance = distance < -limit ? -limit : distance > limit ? limit : distance;
                partial[batch->relative_bucket[distance + limit]] += dbias[i * head.key_rows + j];
            }
        }
    }
}

gv_status gv_attention_backward(float *dquery, float *dkey, float *dvalue, float *dtable, const float *dout, const float *out,
                                const float *lse, const float *const *dprobs, const float *query, const float *key,
                                const float *value, const gv_attention_batch *batch, float *scratch) {
    gv_attention_job job = {.dquery = dquery,
                            .dkey = dkey,
                            .dvalue = dvalue,
                            .dout = dout,
                            .attention_out = out,
                            .saved_lse = lse,
                            .dprobs = dprobs,
                            .query = query,
                            .key = key,
                            .value = value,
                            .batch = batch,
                            .scratch = scratch + gv_partial_floats(batch)};
    gv_longest(batch, &job.max_query, &job.max_key);
    job.worker_floats = gv_worker_floats(batch, job.max_query, job.max_key);
    int64_t partials = batch->sequences * batch->heads;
    if (dtable != NULL) {
        job.table_partial = scratch;
        memset(job.table_partial, 0, (size_t)(partials * batch->relative_buckets) * sizeof(float));
    }
    gv_status status = gv_parallel_for(batch->sequences * batch->kv_heads, gv_attention_backward_tile, &job);
    if (status == GV_OK && dtable != NULL) {
        for (int64_t p = 0; p < partials; p++) {
            for (int64_t t = 0; t < batch->relative_buckets; t++) {
                dtable[t * batch->heads + p % batch->heads] += job.table_partial[p * batch->relative_buckets + t];
            }
        }
    }
    return status;
}
