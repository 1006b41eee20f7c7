/* parameters.c - names and shapes from a configuration, binding, the flat buffers, gradient bookkeeping. */
#include "model/parameters.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "model/adapters.h"
#include "model/workspace.h"

/* The table was sized for the worst case. */
int64_t gv_register(gv_model *model, int64_t rows, int64_t cols, const char *format, ...) {
    gv_parameter *p = &model->parameters[model->parameter_count];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(p->name, sizeof p->name, format, args);
    va_end(args);
    p->shape[0] = rows;
    p->shape[1] = cols;
    p->dimensions = cols == 0 ? 1 : 2;
    p->size = cols == 0 ? rows : rows * cols;
    p->offset = model->flat_size;
    p->requires_grad = true;
    p->slices = 1;
    model->flat_size += (p->size + 15) / 16 * 16; /* every parameter starts on a cache line */
    return model->parameter_count++;
}

static gv_linear_ids gv_register_linear(gv_model *model, int64_t out, int64_t in, bool bias, bool conv1d, const char *name) {
    gv_linear_ids ids = {-1, -1};
    ids.weight = conv1d ? gv_register(model, in, out, "%s.weight", name) : gv_register(model, out, in, "%s.weight", name);
    model->parameters[ids.weight].linear = true;
    if (bias) ids.bias = gv_register(model, out, 0, "%s.bias", name);
    return ids;
}

static void gv_register_norm(gv_model *model, int64_t *gamma, int64_t *beta, int64_t size, const char *name) {
    *gamma = gv_register(model, size, 0, "%s.weight", name);
    *beta = model->config.norm_bias ? gv_register(model, size, 0, "%s.bias", name) : -1;
}

static void gv_register_attention(gv_model *model, gv_attention_ids *ids, int64_t layer, const char *kind) {
    const gv_config *c = &model->config;
    char name[48];
    int64_t inner = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim;
    bool fused = c->fused_qkv && strcmp(kind, "attention") == 0;
    ids->query_norm = ids->key_norm = -1;
#define GV_NAMED(part) (snprintf(name, sizeof name, "layers.%lld.%s.%s", (long long)layer, kind, part), name)
    if (fused) {
        ids->query =
            gv_register_linear(model, 3 * inner, c->hidden_size, c->attention_bias, c->conv1d, GV_NAMED("query_key_value"));
        ids->key = ids->value = ids->query;
        model->parameters[ids->query.weight].slices = 3;
    } else {
        ids->query = gv_register_linear(model, inner, c->hidden_size, c->attention_bias, c->conv1d, GV_NAMED("query"));
        ids->key = gv_register_linear(model, kv, c->hidden_size, c->attention_bias, c->conv1d, GV_NAMED("key"));
        ids->value = gv_register_linear(model, kv, c->hidden_size, c->attention_bias, c->conv1d, GV_NAMED("value"));
    }
    ids->output = gv_register_linear(model, c->hidden_size, inner, c->output_bias, c->conv1d, GV_NAMED("output"));
    if (c->query_key_norm && strcmp(kind, "attention") == 0) {
        ids->query_norm = gv_register(model, c->head_dim, 0, "%s.weight", GV_NAMED("query_norm"));
        ids->key_norm = gv_register(model, c->head_dim, 0, "%s.weight", GV_NAMED("key_norm"));
    }
    gv_register_norm(model, &ids->norm, &ids->norm_bias, c->hidden_size, GV_NAMED("norm"));
#undef GV_NAMED
}

static void gv_register_layer(gv_model *model, gv_layer_ids *ids, int64_t layer) {
    const gv_config *c = &model->config;
    char name[48];
    gv_register_attention(model, &ids->self, layer, "attention");
    if (c->cross_attention) gv_register_attention(model, &ids->cross, layer, "cross");
    ids->gate = (gv_linear_ids){-1, -1};
#define GV_NAMED(part) (snprintf(name, sizeof name, "layers.%lld.mlp.%s", (long long)layer, part), name)
    if (c->gated)
        ids->gate = gv_register_linear(model, c->intermediate_size, c->hidden_size, c->mlp_bias, c->conv1d, GV_NAMED("gate"));
    ids->up = gv_register_linear(model, c->intermediate_size, c->hidden_size, c->mlp_bias, c->conv1d, GV_NAMED("up"));
    ids->down = gv_register_linear(model, c->hidden_size, c->intermediate_size, c->mlp_bias, c->conv1d, GV_NAMED("down"));
    gv_register_norm(model, &ids->mlp_norm, &ids->mlp_norm_bias, c->hidden_size, GV_NAMED("norm"));
#undef GV_NAMED
}

static void gv_register_all(gv_model *model) {
    const gv_config *c = &model->config;
    int64_t e = c->embedding_size, h = c->hidden_size;
    const gv_linear_ids none = {-1, -1};
    model->position = model->token_type = model->embedding_norm = model->embedding_norm_bias = model->relative_bias = -1;
    model->final_norm = model->final_norm_bias = model->mlm_norm = model->mlm_norm_bias = model->mlm_decoder = model->mlm_bias =
        -1;
    model->projection = model->pooler = model->classifier = model->mlm_dense = none;

    model->word = gv_register(model, c->vocab_size, e, "embeddings.word.weight");
    if (c->position == GV_POSITION_LEARNED)
        model->position = gv_register(model, c->max_positions, e, "embeddings.position.weight");
    if (c->type_vocab_size > 0) model->token_type = gv_register(model, c->type_vocab_size, e, "embeddings.token_type.weight");
    for (int64_t i = 0; i < model->parameter_count; i++) model->parameters[i].embedding = true;
    if (c->embedding_norm) gv_register_norm(model, &model->embedding_norm, &model->embedding_norm_bias, e, "embeddings.norm");
    if (e != h) model->projection = gv_register_linear(model, h, e, true, false, "embeddings.projection");
    if (c->position == GV_POSITION_RELATIVE) {
        model->relative_bias = gv_register(model, c->relative_buckets, c->num_heads, "attention.relative_bias.weight");
    }
    for (int64_t i = 0; i < c->num_layers; i++) {
        if (c->shared_layers && i > 0) {
            model->layers[i] = model->layers[0];
        } else {
            gv_register_layer(model, &model->layers[i], i);
        }
    }
    if (c->final_norm) gv_register_norm(model, &model->final_norm, &model->final_norm_bias, h, "final_norm");
    if (c->pooler) model->pooler = gv_register_linear(model, h, h, true, false, "pooler");
    if (c->head == GV_HEAD_SEQUENCE || c->head == GV_HEAD_TOKEN) {
        model->classifier = gv_register_linear(model, c->num_labels, h, true, false, "classifier");
    }
    if (c->head == GV_HEAD_MLM) {
        model->mlm_dense = gv_register_linear(model, e, h, true, false, "mlm.dense");
        model->mlm_norm = gv_register(model, e, 0, "mlm.norm.weight");
        model->mlm_norm_bias = gv_register(model, e, 0, "mlm.norm.bias");
        model->mlm_decoder = c->tied_decoder ? model->word : gv_register(model, c->vocab_size, e, "mlm.decoder.weight");
        model->parameters[model->mlm_decoder].linear = true;
        model->mlm_bias = gv_register(model, c->vocab_size, 0, "mlm.bias");
    }
    if (c->head == GV_HEAD_LM) {
        model->mlm_decoder = c->tied_decoder ? model->word : gv_register(model, c->vocab_size, h, "lm_head.weight");
        model->parameters[model->mlm_decoder].linear = true;
    }
}

gv_status gv_parameters_create(gv_model **out, int64_t capacity, const gv_allocator *allocator, gv_error *error) {
    *out = NULL;
    gv_model *model = gv_alloc_zero(allocator, sizeof *model);
    if (model == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a model");
    model->allocator = allocator;
    model->word = model->position = model->token_type = model->mlm_decoder = -1;
    pthread_mutex_init(&model->lock, NULL);
    pthread_rwlockattr_t writers_first;
    pthread_rwlockattr_init(&writers_first);
#ifdef __GLIBC__
    /* Else a stream of predictions would keep a step waiting for ever. */
    pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&model->weights, &writers_first);
    pthread_rwlockattr_destroy(&writers_first);
    model->parameter_capacity = capacity;
    model->parameters = gv_alloc_zero(allocator, (size_t)capacity * sizeof *model->parameters);
    if (model->parameters == NULL) {
        gv_model_free(model);
        return gv_fail(error, GV_ERR_MEMORY, "out of memory for a model's parameter table");
    }
    *out = model;
    return GV_OK;
}

gv_status gv_model_create(gv_model **out, const gv_config *config, const gv_allocator *allocator, gv_error *error) {
    gv_status status = GV_OK;
    gv_config finished = *config;
    gv_model *model = NULL;
    *out = NULL;
    if ((status = gv_config_finish(&finished, error)) != GV_OK) return status;
    if (finished.num_layers > 10000) {
        return gv_fail(error, GV_ERR_VALUE, "model configuration: num_layers %lld is too large",
                       (long long)finished.num_layers);
    }
    status = gv_parameters_create(&model, 32 + 32 * (finished.shared_layers ? 1 : finished.num_layers), allocator, error);
    if (status != GV_OK) return status;
    model->config = finished;
    model->layers = gv_alloc_zero(allocator, (size_t)finished.num_layers * sizeof *model->layers);
    if (model->layers == NULL) {
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory for a model's parameter table");
        goto done;
    }
    gv_register_all(model);
    status = gv_workspaces_create(&model->workspaces, allocator, error);
done:
    if (status != GV_OK) {
        gv_model_free(model);
    } else {
        *out = model;
    }
    return status;
}

void gv_model_free(gv_model *model) {
    if (model == NULL) return;
    const gv_allocator *allocator = model->allocator;
    if (model->parameters != NULL) {
        for (int64_t i = 0; i < model->parameter_count; i++) {
            gv_release(allocator, model->parameters[i].touched, (size_t)model->parameters[i].shape[0]);
            gv_forget_quantised(model, i);
            gv_release(allocator, model->parameters[i].capture, sizeof(gv_capture));
        }
        gv_release(allocator, model->parameters, (size_t)model->parameter_capacity * sizeof *model->parameters);
    }
    gv_release(allocator, model->layers, (size_t)model->config.num_layers * sizeof *model->layers);
    gv_unmap(allocator, model->flat, (size_t)model->flat_size * sizeof(float));
    gv_unmap(allocator, model->flat_grad, (size_t)model->flat_size * sizeof(float));
    gv_workspaces_free(model->workspaces);
    gv_adapter_forget(model);
    pthread_rwlock_destroy(&model->weights);
    pthread_mutex_destroy(&model->lock);
    gv_release(allocator, model, sizeof *model);
}

int64_t gv_model_parameter_count(const gv_model *model) {
    return model->parameter_count;
}

void gv_model_parameter(gv_parameter_info *out, const gv_model *model, int64_t index) {
    const gv_parameter *p = &model->parameters[index];
    *out = (gv_parameter_info){.name = p->name,
                               .shape = {p->shape[0], p->shape[1]},
                               .dimensions = p->dimensions,
                               .size = p->size,
                               .offset = p->offset,
                               .data = p->data,
                               .requires_grad = p->requires_grad,
                               .quantised = p->quantised != NULL};
}

int64_t gv_model_find(const gv_model *model, const char *name) {
    for (int64_t i = 0; i < model->parameter_count; i++) {
        if (strcmp(model->parameters[i].name, name) == 0) return i;
    }
    return -1;
}

gv_status gv_model_bind(gv_model *model, int64_t index, const float *data, gv_error *error) {
    gv_status status = GV_OK;
    pthread_rwlock_wrlock(&model->weights);
    if (model->flat != NULL) {
        status = gv_fail(error, GV_ERR_STATE, "%s: the model is trainable; write into its parameter instead",
                         model->parameters[index].name);
    } else {
        gv_forget_quantised(model, index);
        model->parameters[index].data = data;
        model->version++;
    }
    pthread_rwlock_unlock(&model->weights);
    return status;
}

uint64_t gv_model_version(const gv_model *model) {
    return model->version;
}

const float *gv_data(const gv_model *model, int64_t index) {
    return index < 0 ? NULL : model->parameters[index].data;
}

gv_status gv_check_bound(const gv_model *model, gv_error *error) {
    for (int64_t i = 0; i < model->parameter_count; i++) {
        if (model->parameters[i].data == NULL && model->parameters[i].quantised == NULL) {
            return gv_fail(error, GV_ERR_STATE, "%s has no value: bind it or make the model trainable",
                           model->parameters[i].name);
        }
    }
    return GV_OK;
}

typedef struct {
    float *target;
    const float *source;
    int64_t size;
} gv_copy_job;

enum { GV_COPY_TILE = 1 << 18 };

static void gv_copy_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    const gv_copy_job *job = context;
    int64_t begin = tile * GV_COPY_TILE;
    int64_t count = job->size - begin < GV_COPY_TILE ? job->size - begin : GV_COPY_TILE;
    memcpy(job->target + begin, job->source + begin, (size_t)count * sizeof(float));
}

gv_status gv_model_make_trainable(gv_model *model, gv_error *error) {
    gv_status status = GV_OK;
    size_t bytes = (size_t)model->flat_size * sizeof(float);
    pthread_mutex_lock(&model->lock);
    if (model->flat != NULL) goto done;
    float *flat = gv_map_zero(model->allocator, bytes);
    float *grad = gv_map_zero(model->allocator, bytes);
    bool complete = flat != NULL && grad != NULL;
    for (int64_t i = 0; complete && i < model->parameter_count; i++) {
        gv_parameter *p = &model->parameters[i];
        if (p->embedding && p->touched == NULL) {
            p->touched = gv_alloc_zero(model->allocator, (size_t)p->shape[0]);
            complete = p->touched != NULL;
        }
    }
    if (!complete) {
        gv_unmap(model->allocator, flat, bytes);
        gv_unmap(model->allocator, grad, bytes);
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory: training this model needs %zu MB for weights and gradients",
                         2 * bytes >> 20);
        goto done;
    }
    gv_advise_huge(model->allocator, flat, bytes);
    /* Embedding gradients stay sparse; the rest is streamed whole, so it gets large pages. */
    int64_t first_dense = 0;
    while (first_dense < model->parameter_count && model->parameters[first_dense].embedding) first_dense++;
    if (first_dense < model->parameter_count) {
        gv_advise_huge(model->allocator, grad + model->parameters[first_dense].offset,
                       bytes - (size_t)model->parameters[first_dense].offset * sizeof(float));
    }
    /* The caller may free what was bound when this returns: no forward may be reading it then. */
    pthread_rwlock_wrlock(&model->weights);
    for (int64_t i = 0; i < model->parameter_count; i++) {
        gv_parameter *p = &model->parameters[i];
        if (p->data != NULL) {
            gv_copy_job job = {flat + p->offset, p->data, p->size};
            /* A cancelled copy would leave half a model: finish it in any case. */
            if (gv_parallel_for((p->size + GV_COPY_TILE - 1) / GV_COPY_TILE, gv_copy_tile, &job) != GV_OK) {
                memcpy(job.target, job.source, (size_t)p->size * sizeof(float));
            }
        }
        if (p->quantised != NULL) {
            gv_dequantise(flat + p->offset, model, i);
            gv_forget_quantised(model, i);
        }
        p->data = flat + p->offset;
        p->grad = grad + p->offset;
    }
    model->flat = flat;
    model->flat_grad = grad;
    pthread_rwlock_unlock(&model->weights);
done:
    pthread_mutex_unlock(&model->lock);
    return status;
}

bool gv_model_is_trainable(const gv_model *model) {
    return model->flat != NULL;
}

float *gv_model_flat(gv_model *model, int64_t *size) {
    *size = model->flat_size;
    return model->flat;
}

float *gv_model_flat_gradient(gv_model *model, int64_t *size) {
    *size = model->flat_size;
    if (model->flat == NULL) return NULL;
    for (int64_t i = 0; i < model->parameter_count; i++) {
        gv_parameter *p = &model->parameters[i];
        bool clean = p->state == GV_GRAD_DENSE || p->state == GV_GRAD_ROWS;
        if (!clean) memset(p->grad, 0, (size_t)p->size * sizeof(float));
        if (p->requires_grad) p->state = GV_GRAD_DENSE;
    }
    return model->flat_grad;
}

float *gv_model_gradient(gv_model *model, int64_t index) {
    gv_parameter *p = &model->parameters[index];
    return p->state == GV_GRAD_NONE ? NULL : p->grad;
}

bool gv_model_trains(const gv_model *model) {
    for (int64_t i = 0; i < model->parameter_count; i++) {
        if (model->parameters[i].requires_grad) return true;
    }
    return false;
}

void gv_model_set_requires_grad(gv_model *model, int64_t index, bool value) {
    model->parameters[index].requires_grad = value;
}

void gv_model_zero_grad(gv_model *model) {
    pthread_mutex_lock(&model->lock);
    for (int64_t i = 0; i < model->parameter_count; i++) {
        gv_parameter *p = &model->parameters[i];
        if (p->embedding && p->state == GV_GRAD_DENSE) p->dirty = true;
        if (p->embedding && p->state == GV_GRAD_ROWS) {
            gv_zero_pages(model->allocator, p->grad, (size_t)p->size * sizeof(float));
        }
        if (p->touched != NULL) memset(p->touched, 0, (size_t)p->shape[0]);
        p->state = GV_GRAD_NONE;
    }
    pthread_mutex_unlock(&model->lock);
}

float *gv_grad_dense(gv_model *model, int64_t index, bool *accumulate) {
    *accumulate = false;
    if (index < 0 || !model->parameters[index].requires_grad) return NULL;
    gv_parameter *p = &model->parameters[index];
    *accumulate = p->state != GV_GRAD_NONE;
    p->state = GV_GRAD_DENSE;
    return p->grad;
}

float *gv_grad_added(gv_model *model, int64_t index) {
    bool accumulate;
    float *grad = gv_grad_dense(model, index, &accumulate);
    if (grad != NULL && !accumulate) memset(grad, 0, (size_t)model->parameters[index].size * sizeof(float));
    return grad;
}

float *gv_grad_rows(gv_model *model, int64_t index) {
    if (index < 0 || !model->parameters[index].requires_grad) return NULL;
    gv_parameter *p = &model->parameters[index];
    if (p->state == GV_GRAD_NONE) {
        if (p->dirty) memset(p->grad, 0, (size_t)p->size * sizeof(float));
        p->dirty = false;
        p->state = GV_GRAD_ROWS;
    }
    return p->grad;
}

/* ---- passes over the gradient: fixed tiles, summed in order, so the thread count does not show ---- */

enum { GV_NORM_TILE = 1 << 16 };

typedef struct {
    const float *data;
    float *target;
    double *partial;
    int64_t size;
    float factor;
    bool bad;
} gv_span_job;

static void gv_norm_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_span_job *job = context;
    int64_t begin = tile * GV_NORM_TILE;
    int64_t count = job->size - begin < GV_NORM_TILE ? job->size - begin : GV_NORM_TILE;
    job->partial[tile] = gv_kernels_get()->sum_squares(job->data + begin, count);
}

static void gv_scale_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_span_job *job = context;
    int64_t begin = tile * GV_NORM_TILE;
    int64_t count = job->size - begin < GV_NORM_TILE ? job->size - begin : GV_NORM_TILE;
    gv_kernels_get()->scale(job->target + begin, job->factor, job->target + begin, count);
}

gv_status gv_model_grad_norm(double *out, gv_model *model, const int64_t *indices, int64_t count, gv_error *error) {
    gv_status status = GV_OK;
    double total = 0;
    size_t partial_size = (size_t)(model->flat_size / GV_NORM_TILE + 1) * sizeof(double);
    double *partial = gv_alloc(model->allocator, partial_size);
    if (partial == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a gradient norm");
    pthread_mutex_lock(&model->lock);
    for (int64_t i = 0; i < count && status == GV_OK; i++) {
        gv_parameter *p = &model->parameters[indices[i]];
        if (p->state == GV_GRAD_NONE) continue;
        if (p->state == GV_GRAD_ROWS) {
            for (int64_t row = 0; row < p->shape[0]; row++) {
                if (p->touched[row]) total += gv_kernels_get()->sum_squares(p->grad + row * p->shape[1], p->shape[1]);
            }
            continue;
        }
        int64_t tiles = (p->size + GV_NORM_TILE - 1) / GV_NORM_TILE;
        gv_span_job job = {.data = p->grad, .partial = partial, .size = p->size};
        status = gv_parallel_for(tiles, gv_norm_tile, &job);
        for (int64_t t = 0; t < tiles && status == GV_OK; t++) total += partial[t];
    }
    pthread_mutex_unlock(&model->lock);
    gv_release(model->allocator, partial, partial_size);
    if (status != GV_OK) return gv_fail(error, status, "interrupted");
    *out = total < 0 ? 0 : __builtin_sqrt(total);
    return GV_OK;
}

gv_status gv_model_scale_grad(gv_model *model, float factor, const int64_t *indices, int64_t count, gv_error *error) {
    gv_status status = GV_OK;
    (void)error;
    pthread_mutex_lock(&model->lock);
    for (int64_t i = 0; i < count && status == GV_OK; i++) {
        gv_parameter *p = &model->parameters[indices[i]];
        if (p->state == GV_GRAD_NONE) continue;
        if (p->state == GV_GRAD_ROWS) {
            for (int64_t row = 0; row < p->shape[0]; row++) {
                float *values = p->grad + row * p->shape[1];
                if (p->touched[row]) gv_kernels_get()->scale(values, factor, values, p->shape[1]);
            }
            continue;
        }
        gv_span_job job = {.target = p->grad, .size = p->size, .factor = factor};
        status = gv_parallel_for((p->size + GV_NORM_TILE - 1) / GV_NORM_TILE, gv_scale_tile, &job);
    }
    pthread_mutex_unlock(&model->lock);
    return status == GV_OK ? GV_OK : gv_fail(error, status, "interrupted while gradients were scaled: zero them");
}

void gv_model_first_nonfinite(char *out, size_t size, gv_model *model) {
    const gv_kernels *k = gv_kernels_get();
    out[0] = '\0';
    pthread_rwlock_rdlock(&model->weights);
    for (int64_t i = 0; i < model->parameter_count; i++) {
        const gv_parameter *p = &model->parameters[i];
        if (p->data != NULL && !k->all_finite(p->data, p->size)) {
            (void)snprintf(out, size, "%s", p->name);
            goto done;
        }
    }
    for (int64_t i = 0; i < model->parameter_count; i++) {
        const gv_parameter *p = &model->parameters[i];
        if (p->state != GV_GRAD_NONE && !k->all_finite(p->grad, p->size)) {
            (void)snprintf(out, size, "%s (gradient)", p->name);
            goto done;
        }
    }
done:
    pthread_rwlock_unlock(&model->weights);
}
