/* sparse_linear.c - weighing n-gram counts, one support vector machine a label, and their logits.
 *
 * The machines minimise  |w|^2 / 2 + C * sum_i cost_i * max(0, 1 - y_i (w.x_i + b))^2  by coordinate descent in the dual
 * (Hsieh et al., "A dual coordinate descent method for large-scale linear SVM", ICML 2008), the bias being one more feature
 * that is always 1. Labels are independent of each other: each is a tile, computed by one thread in one order.
 */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "govlm_ngrams.h"

enum { GV_ROW_TILE = 8 };

/* Refuses rows whose splits or indices do not fit. */
static gv_status gv_sparse_check(const gv_sparse *data, int64_t features, gv_error *error) {
    if (data->splits[0] != 0) return gv_fail(error, GV_ERR_VALUE, "row_splits must begin with 0");
    for (int64_t row = 0; row < data->rows; row++) {
        if (data->splits[row + 1] < data->splits[row]) {
            return gv_fail(error, GV_ERR_VALUE, "row_splits[%lld] is smaller than the one before", (long long)row + 1);
        }
    }
    for (int64_t i = 0; i < data->splits[data->rows]; i++) {
        if (data->indices[i] < 0 || data->indices[i] >= features) {
            return gv_fail(error, GV_ERR_INDEX, "feature %d is not in 0..%lld", data->indices[i], (long long)features - 1);
        }
    }
    return GV_OK;
}

/* ---- counts to weights ---------------------------------------------------------------------------------------------- */

/* The first place at or after `low` whose bucket is not below `bucket`: strides that double, then halving. */
static int64_t gv_find_bucket(const int32_t *buckets, int64_t features, int64_t low, int32_t bucket) {
    int64_t step = 1, high = low;
    while (high < features && buckets[high] < bucket) {
        low = high + 1;
        high += step;
        step *= 2;
    }
    if (high > features) high = features;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (buckets[middle] < bucket) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

gv_status gv_ngrams_weigh(int64_t *out_splits, int32_t *out_indices, float *out_values, const gv_sparse *counts,
                          const int32_t *buckets, const float *idf, int64_t features, gv_error *error) {
    gv_status status = gv_sparse_check(counts, INT32_MAX, error);
    if (status != GV_OK) return status;
    int64_t count = 0;
    out_splits[0] = 0;
    for (int64_t row = 0; row < counts->rows; row++) {
        int64_t place = 0, first = count;
        double length = 0.0;
        for (int64_t i = counts->splits[row]; i < counts->splits[row + 1] && place < features; i++) {
            place = gv_find_bucket(buckets, features, place, counts->indices[i]);
            if (place == features || buckets[place] != counts->indices[i]) continue;
            float value = (1.0f + logf(counts->values[i])) * idf[place];
            out_indices[count] = (int32_t)place;
            out_values[count++] = value;
            length += (double)value * (double)value;
        }
        float factor = length > 0.0 ? (float)(1.0 / sqrt(length)) : 0.0f;
        for (int64_t i = first; i < count; i++) out_values[i] *= factor;
        out_splits[row + 1] = count;
    }
    return GV_OK;
}

/* ---- fitting -------------------------------------------------------------------------------------------------------- */

typedef struct {
    float *weights, *bias;
    const gv_sparse *data;
    const int8_t *targets;
    const float *costs;
    const double *lengths; /* [rows] x.x + 1 */
    int64_t features, labels;
    const gv_svm_options *options;
    char *scratch; /* [width] of gv_svm_scratch_size */
    size_t scratch_size;
} gv_svm_job;

static size_t gv_svm_scratch_size(int64_t features, int64_t rows) {
    size_t size = (size_t)features * sizeof(float) + (size_t)rows * sizeof(double) + (size_t)rows * sizeof(int32_t) + 3 * 64;
    return (size + 63) / 64 * 64;
}

/* A Fisher-Yates shuffle whose numbers depend on seed, label and pass alone. */
static void gv_shuffle(int32_t *order, int64_t count, uint32_t seed, uint32_t label, uint32_t pass) {
    const uint32_t key[2] = {seed, 0x4E475356u};
    uint32_t numbers[4] = {0};
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t lane = (count - 1 - i) % 4;
        if (lane == 0) gv_philox(numbers, (const uint32_t[4]){(uint32_t)i, label, pass, 0}, key);
        int64_t j = (int64_t)(((uint64_t)numbers[lane] * (uint64_t)(i + 1)) >> 32);
        int32_t held = order[i];
        order[i] = order[j];
        order[j] = held;
    }
}

static void gv_svm_tile(void *context, int64_t label, int worker) {
    const gv_svm_job *job = context;
    const gv_sparse *data = job->data;
    const gv_svm_options *o = job->options;
    gv_arena arena = {job->scratch + (size_t)worker * job->scratch_size, 0, job->scratch_size};
    double *alpha = gv_arena_take(&arena, (size_t)data->rows * sizeof *alpha);
    float *w = gv_arena_take(&arena, (size_t)job->features * sizeof *w);
    int32_t *order = gv_arena_take(&arena, (size_t)data->rows * sizeof *order);
    double bias = 0.0, above = INFINITY;
    int64_t active = data->rows;
    memset(alpha, 0, (size_t)data->rows * sizeof *alpha);
    memset(w, 0, (size_t)job->features * sizeof *w);
    for (int64_t i = 0; i < data->rows; i++) order[i] = (int32_t)i;
    for (int32_t pass = 0; pass < o->most; pass++) {
        double most = -INFINITY, least = INFINITY;
        gv_shuffle(order, active, o->seed, (uint32_t)label, (uint32_t)pass);
        for (int64_t at = 0; at < active; at++) {
            int32_t i = order[at];
            double y = job->targets[i * job->labels + label], dot = bias;
            double d = 0.5 / (o->c * (job->costs != NULL ? (double)job->costs[i] : 1.0));
            for (int64_t k = data->splits[i]; k < data->splits[i + 1]; k++) {
                dot += (double)(w[data->indices[k]] * data->values[k]);
            }
            double gradient = y * dot - 1.0 + d * alpha[i], projected = gradient;
            if (alpha[i] == 0.0) {
                if (gradient > above) { /* far inside: left out until the end */
                    order[at--] = order[--active];
                    order[active] = i;
                    continue;
                }
                if (gradient > 0.0) projected = 0.0;
            }
            if (projected > most) most = projected;
            if (projected < least) least = projected;
            if (fabs(projected) < 1e-12) continue;
            double old = alpha[i], changed = old - gradient / (job->lengths[i] + d);
            alpha[i] = changed > 0.0 ? changed : 0.0;
            double step = (alpha[i] - old) * y;
            bias += step;
            for (int64_t k = data->splits[i]; k < data->splits[i + 1]; k++) {
                w[data->indices[k]] += (float)step * data->values[k];
            }
        }
        if (most - least <= o->tolerance || active == 0) {
            if (active == data->rows) break;
            active = data->rows; /* all once more */
            above = INFINITY;
        } else {
            above = most > 0.0 ? most : INFINITY;
        }
    }
    for (int64_t f = 0; f < job->features; f++) job->weights[f * job->labels + label] = w[f];
    job->bias[label] = (float)bias;
}

gv_status gv_sparse_svm(float *weights, float *bias, const gv_sparse *data, const int8_t *targets, const float *costs,
                        int64_t features, int64_t labels, const gv_svm_options *options, const gv_allocator *allocator,
                        gv_error *error) {
    gv_status status = gv_sparse_check(data, features, error);
    if (status != GV_OK) return status;
    if (data->rows > INT32_MAX) return gv_fail(error, GV_ERR_VALUE, "more than 2^31 - 1 rows");
    if (!(options->c > 0.0) || !isfinite(options->c)) return gv_fail(error, GV_ERR_VALUE, "c must be above 0");
    for (int64_t i = 0; i < data->rows * labels; i++) {
        if (targets[i] != 1 && targets[i] != -1) return gv_fail(error, GV_ERR_VALUE, "targets must be 1 or -1");
    }
    for (int64_t i = 0; costs != NULL && i < data->rows; i++) {
        if (!(costs[i] > 0.0f) || !isfinite(costs[i])) return gv_fail(error, GV_ERR_VALUE, "costs must be above 0");
    }
    size_t width = (size_t)gv_parallel_width(), each = gv_svm_scratch_size(features, data->rows);
    double *lengths = gv_alloc_array(allocator, (size_t)data->rows, sizeof *lengths);
    char *scratch = gv_alloc_array(allocator, width, each);
    if (lengths == NULL || scratch == NULL) {
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory for the n-gram branch");
        goto done;
    }
    for (int64_t i = 0; i < data->rows; i++) {
        lengths[i] = 1.0;
        for (int64_t k = data->splits[i]; k < data->splits[i + 1]; k++) {
            lengths[i] += (double)data->values[k] * (double)data->values[k];
        }
    }
    gv_svm_job job = {weights, bias, data, targets, costs, lengths, features, labels, options, scratch, each};
    status = gv_parallel_for(labels, gv_svm_tile, &job);
    if (status != GV_OK) gv_fail(error, status, "interrupted");
done:
    gv_release(allocator, lengths, (size_t)data->rows * sizeof *lengths);
    gv_release(allocator, scratch, width * each);
    return status;
}

/* ---- logits --------------------------------------------------------------------------------------------------------- */

typedef struct {
    float *out;
    const gv_sparse *data;
    const int8_t *weights;
    const float *scales, *bias;
    float factor;
    int64_t labels;
} gv_logits_job;

static void gv_logits_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    const gv_logits_job *job = context;
    const gv_sparse *data = job->data;
    int64_t end = (tile + 1) * GV_ROW_TILE < data->rows ? (tile + 1) * GV_ROW_TILE : data->rows;
    for (int64_t row = tile * GV_ROW_TILE; row < end; row++) {
        float *out = job->out + row * job->labels;
        memcpy(out, job->bias, (size_t)job->labels * sizeof *out);
        for (int64_t k = data->splits[row]; k < data->splits[row + 1]; k++) {
            const int8_t *w = job->weights + data->indices[k] * job->labels;
            float value = data->values[k] * job->scales[data->indices[k]];
            for (int64_t c = 0; c < job->labels; c++) out[c] += value * (float)w[c];
        }
        for (int64_t c = 0; c < job->labels; c++) out[c] *= job->factor;
    }
}

gv_status gv_sparse_logits(float *out, const gv_sparse *data, const int8_t *weights, const float *scales, const float *bias,
                           float factor, int64_t features, int64_t labels, gv_error *error) {
    gv_status status = gv_sparse_check(data, features, error);
    if (status != GV_OK) return status;
    gv_logits_job job = {out, data, weights, scales, bias, factor, labels};
    status = gv_parallel_for((data->rows + GV_ROW_TILE - 1) / GV_ROW_TILE, gv_logits_tile, &job);
    return status == GV_OK ? GV_OK : gv_fail(error, status, "interrupted");
}
