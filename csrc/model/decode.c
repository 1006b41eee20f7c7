/* decode.c - attention of new tokens against the keys and values in a cache's pages, and what fills the pages.
 *
 * A tile is one sequence and kv head; all query heads that share it go through its pages together. A prompt's rows are cut into
 * several tiles. New keys and values are written before anything looks at them: by the tile itself where it is the only one of its
 * kv head, else in a round of their own.
 */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "base/try.h"
#include "model/adapters.h"
#include "model/cache.h"

enum { GV_DECODE_ROWS = 32 }; /* query rows of a tile */

typedef struct {
    const gv_pass *pass;
    const gv_attention_state *state;
    const gv_row_set *rows;
    bool cross;
    int64_t layer, chunks, most_keys, worker_floats;
    float *scratch;
} gv_decode_job;

/* One key and value [head_dim] of a kv head into row `at` of a page. */
static void gv_write_row(const gv_cache *cache, char *keys, char *values, int64_t at, const float *key, const float *value) {
    int64_t dim = cache->model->config.head_dim;
    if (!cache->bits8) {
        float *k = (float *)(void *)keys;
        for (int64_t c = 0; c < dim; c++) k[c * GV_PAGE_ROWS + at] = key[c];
        memcpy((float *)(void *)values + at * dim, value, (size_t)dim * sizeof(float));
        return;
    }
    for (int i = 0; i < 2; i++) {
        const float *x = i == 0 ? key : value;
        char *part = i == 0 ? keys : values;
        float top = 0;
        bool strange = false;
        for (int64_t c = 0; c < dim; c++) {
            top = fabsf(x[c]) > top ? fabsf(x[c]) : top;
            strange = strange || !isfinite(x[c]);
        }
        /* What is not finite must not come back as a number. */
        ((float *)(void *)(part + dim * GV_PAGE_ROWS))[at] = strange ? NAN : top / 127.0f;
        float inverse = top > 0 && !strange ? 127.0f / top : 0.0f;
        for (int64_t c = 0; c < dim; c++) {
            int64_t place = i == 0 ? c * GV_PAGE_ROWS + at : at * dim + c;
            ((int8_t *)part)[place] = strange ? 1 : (int8_t)lrintf(x[c] * inverse);
        }
    }
}

/* Rows [0, count) of key and value ([.., kv_heads * head_dim]) into a list of pages, from row `first` on. */
static void gv_write_rows(const gv_cache *cache, char *const *pages, int64_t first, int64_t count, const float *key,
                          const float *value, int64_t layer, int64_t head) {
    const gv_config *c = &cache->model->config;
    int64_t stride = c->num_kv_heads * c->head_dim;
    int64_t k = gv_page_offset(cache, layer, false, head), v = gv_page_offset(cache, layer, true, head);
    for (int64_t i = 0; i < count; i++) {
        char *page = pages[(first + i) / GV_PAGE_ROWS];
        gv_write_row(cache, page + k, page + v, (first + i) % GV_PAGE_ROWS, key + i * stride + head * c->head_dim,
                     value + i * stride + head * c->head_dim);
    }
}

static void gv_write_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    const gv_decode_job *job = context;
    const gv_pass *pass = job->pass;
    const gv_config *c = &pass->model->config;
    int64_t b = tile / c->num_kv_heads, kv = tile % c->num_kv_heads, row = pass->all.splits[b];
    int64_t stride = c->num_kv_heads * c->head_dim;
    const gv_cache_sequence *s = &pass->cache->sequences[pass->cache_sequences[b]];
    gv_write_rows(pass->cache, s->self.pages, s->length, pass->all.splits[b + 1] - row, job->state->key + row * stride,
                  job->state->value + row * stride, job->layer, kv);
}

static void gv_fill_distance_bias(float *bias, const gv_pass *pass, int64_t head, int64_t position, int64_t keys) {
    const gv_config *c = &pass->model->config;
    const float *table = gv_data(pass->model, pass->model->relative_bias);
    int64_t limit = c->relative_max_distance;
    for (int64_t j = 0; j < keys; j++) {
        int64_t d = j - position < -limit ? -limit : j - position;
        bias[j] = table[pass->relative_bucket[d + limit] * c->num_heads + head];
    }
}

static void gv_decode_tile(void *context, int64_t tile, int worker) {
    const gv_decode_job *job = context;
    const gv_pass *pass = job->pass;
    const gv_cache *cache = pass->cache;
    const gv_config *c = &pass->model->config;
    int64_t chunk = tile % job->chunks, kv = tile / job->chunks % c->num_kv_heads, b = tile / job->chunks / c->num_kv_heads;
    int64_t group = c->num_heads / c->num_kv_heads, dim = c->head_dim, inner = c->num_heads * dim;
    int64_t begin = job->rows->splits[b], total = (job->rows->splits[b + 1] - begin) * group;
    const gv_cache_sequence *s = &cache->sequences[pass->cache_sequences[b]];
    const float *query[GV_DECODE_ROWS], *bias[GV_DECODE_ROWS];
    float *out[GV_DECODE_ROWS], *scratch = job->scratch + worker * job->worker_floats;
    float *biases = scratch + gv_paged_scratch(job->most_keys, dim);
    int64_t visible[GV_DECODE_ROWS], rows = 0;
    bool relative = c->position == GV_POSITION_RELATIVE && !job->cross;
    if (!job->cross && job->chunks == 1) gv_write_tile(context, b * c->num_kv_heads + kv, worker);
    for (int64_t i = chunk * GV_DECODE_ROWS; i < total && i < (chunk + 1) * GV_DECODE_ROWS; i++, rows++) {
        int64_t row = begin + i / group, head = kv * group + i % group;
        query[rows] = job->state->query + row * inner + head * dim;
        out[rows] = job->state->context + row * inner + head * dim;
        visible[rows] = job->cross ? s->memory_length : job->rows->position[row] + 1;
        if (visible[rows] == 0) memset(out[rows], 0, (size_t)dim * sizeof(float));
        bias[rows] = biases + rows * job->most_keys;
        if (relative) gv_fill_distance_bias(biases + rows * job->most_keys, pass, head, visible[rows] - 1, visible[rows]);
    }
    if (rows == 0 || visible[0] == 0) return;
    const gv_paged_attention attention = {
        .pages = (const char *const *)(job->cross ? s->memory.pages : s->self.pages),
        .key_offset = gv_page_offset(cache, job->layer, false, kv),
        .value_offset = gv_page_offset(cache, job->layer, true, kv),
        .bits8 = cache->bits8,
        .rows = rows,
        .head_dim = dim,
        .query = query,
        .out = out,
        .visible = visible,
        .bias = relative ? bias : NULL,
        .scale = (float)c->attention_scale,
    };
    gv_kernels_get()->attention_pages(&attention, scratch);
}

static int64_t gv_most_keys(const gv_pass *pass, bool cross) {
    int64_t most = 0;
    for (int64_t b = 0; b < pass->sequences; b++) {
        const gv_cache_sequence *s = &pass->cache->sequences[pass->cache_sequences[b]];
        int64_t keys = cross ? s->memory_length : s->length + pass->all.splits[b + 1] - pass->all.splits[b];
        if (keys > most) most = keys;
    }
    return most;
}

static int64_t gv_decode_floats(const gv_pass *pass, int64_t most_keys) {
    const gv_config *c = &pass->model->config;
    int64_t biases = c->position == GV_POSITION_RELATIVE ? GV_DECODE_ROWS * most_keys : 0;
    return (gv_paged_scratch(most_keys, c->head_dim) + biases + 15) / 16 * 16;
}

int64_t gv_decode_scratch(const gv_pass *pass) {
    int64_t self = gv_most_keys(pass, false), cross = pass->model->config.cross_attention ? gv_most_keys(pass, true) : 0;
    return gv_decode_floats(pass, self > cross ? self : cross) * pass->width;
}

gv_status gv_decode_attend(gv_pass *pass, int64_t layer, const gv_attention_state *s, const gv_row_set *rows, bool cross,
                           float *scratch) {
    const gv_config *c = &pass->model->config;
    int64_t longest = 0, group = c->num_heads / c->num_kv_heads, tiles = pass->sequences * c->num_kv_heads;
    gv_decode_job job = {
        .pass = pass, .state = s, .rows = rows, .cross = cross, .layer = layer, .most_keys = gv_most_keys(pass, cross)};
    job.worker_floats = gv_decode_floats(pass, job.most_keys);
    job.scratch = scratch;
    for (int64_t b = 0; b < pass->sequences; b++) {
        int64_t count = (rows->splits[b + 1] - rows->splits[b]) * group;
        if (count > longest) longest = count;
    }
    job.chunks = (longest + GV_DECODE_ROWS - 1) / GV_DECODE_ROWS;
    if (job.chunks == 0) job.chunks = 1; /* no row is wanted, the keys are */
    gv_status status = GV_OK;
    if (!cross && job.chunks > 1) status = gv_parallel_for(tiles, gv_write_tile, &job);
    if (status == GV_OK) status = gv_parallel_for(tiles * job.chunks, gv_decode_tile, &job);
    return status;
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static gv_status gv_remember_layers(gv_cache *cache, const int64_t *sequences, int64_t count, const float *memory,
                                    const int64_t *splits, const gv_adapter_choice *adapters, float *key, float *value,
                                    gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = cache->model;
    const gv_config *c = &model->config;
    int64_t kv = c->num_kv_heads * c->head_dim;
    /* As much of a pass as a linear layer looks at. */
    const gv_pass pass = {.model = model, .sequences = count, .width = gv_parallel_width(), .adapters = *adapters};
    const gv_row_set rows = {.count = splits[count], .splits = splits};
    for (int64_t layer = 0; layer < c->num_layers; layer++) {
        const gv_attention_ids *ids = &model->layers[layer].cross;
        GV_TRY(gv_linear(key, &pass, layer, &rows, ids->key, kv, c->hidden_size, memory, error));
        GV_TRY(gv_linear(value, &pass, layer, &rows, ids->value, kv, c->hidden_size, memory, error));
        for (int64_t b = 0; b < count; b++) {
            const gv_cache_sequence *s = &cache->sequences[sequences[b]];
            for (int64_t head = 0; head < c->num_kv_heads; head++) {
                gv_write_rows(cache, s->memory.pages, 0, splits[b + 1] - splits[b], key + splits[b] * kv,
                              value + splits[b] * kv, layer, head);
            }
        }
    }
done:
    return status;
}

gv_status gv_cache_remember(gv_cache *cache, const int64_t *sequences, int64_t count, const float *memory,
                            const int64_t *memory_splits, const gv_adapter_choice *adapters, gv_error *error) {
    gv_status status = GV_OK;
    const gv_adapter_choice none = {0};
    bool locked = false;
    gv_model *model = cache->model;
    const gv_config *c = &model->config;
    gv_arena arena = {0};
    gv_cache_sequence *s;
    gv_error local = {0};
    int64_t b = 0;
    if (error == NULL) error = &local;
    if (adapters == NULL) adapters = &none;
    if (!c->cross_attention) return gv_fail(error, GV_ERR_VALUE, "memory was given, but the model has no cross attention");
    pthread_rwlock_rdlock(&model->weights);
    pthread_mutex_lock(&cache->lock);
    GV_TRY(gv_check_bound(model, error));
    GV_TRY(gv_cache_fresh(cache, error));
    GV_TRY(gv_check_adapters(model, adapters, count, error));
    gv_adapters_read_lock(adapters);
    locked = true;
    for (int64_t i = 0; i < count; i++) {
        GV_TRY(gv_cache_find(&s, cache, sequences[i], error));
        if (memory_splits[i + 1] < memory_splits[i] || memory_splits[0] != 0) {
            status = gv_fail(error, GV_ERR_VALUE, "memory_splits must rise from 0, got %lld after %lld",
                             (long long)memory_splits[i + 1], (long long)memory_splits[i]);
            goto done;
        }
    }
    int64_t floats = memory_splits[count] * c->num_kv_heads * c->head_dim;
    GV_TRY(gv_workspaces_borrow(&arena, model->workspaces, 2 * (size_t)floats * sizeof(float) + 128, error));
    for (; b < count; b++) {
        s = &cache->sequences[sequences[b]];
        GV_TRY(gv_cache_reserve_memory(cache, s, memory_splits[b + 1] - memory_splits[b], error));
    }
    float *key = gv_arena_floats(&arena, floats), *value = gv_arena_floats(&arena, floats);
    GV_TRY(gv_remember_layers(cache, sequences, count, memory, memory_splits, adapters, key, value, error));
    for (int64_t i = 0; i < count; i++) cache->sequences[sequences[i]].memory_length = memory_splits[i + 1] - memory_splits[i];
done:
    if (locked) gv_adapters_unlock(adapters);
    for (int64_t i = 0; status != GV_OK && i < b; i++) gv_cache_forget_memory(cache, &cache->sequences[sequences[i]]);
    pthread_mutex_unlock(&cache->lock);
    pthread_rwlock_unlock(&model->weights);
    gv_workspaces_return(model->workspaces, &arena);
    return status;
}
