/* pass.c - one forward and its backward: inputs checked and copied, activations laid out, layers walked both ways. */
#include "model/pass.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/parallel.h"
#include "base/try.h"
#include "model/adapters.h"
#include "model/cache.h"

/* ---- arguments ---------------------------------------------------------------------------------------------------- */

static gv_status gv_check_splits(const char *name, const int64_t *splits, int64_t sequences, int64_t total, gv_error *error) {
    if (splits[0] != 0) return gv_fail(error, GV_ERR_VALUE, "%s must start at 0, got %lld", name, (long long)splits[0]);
    for (int64_t b = 0; b < sequences; b++) {
        if (splits[b + 1] < splits[b]) return gv_fail(error, GV_ERR_VALUE, "%s decreases at sequence %lld", name, (long long)b);
    }
    if (total >= 0 && splits[sequences] != total) {
        return gv_fail(error, GV_ERR_VALUE, "%s ends at %lld, but there are %lld tokens", name, (long long)splits[sequences],
                       (long long)total);
    }
    return GV_OK;
}

static gv_status gv_check_ids(const char *name, const int32_t *ids, int64_t count, int64_t limit, gv_error *error) {
    for (int64_t t = 0; t < count; t++) {
        if (ids[t] < 0 || ids[t] >= limit) {
            return gv_fail(error, GV_ERR_INDEX, "%s[%lld] is %d, outside 0..%lld", name, (long long)t, ids[t],
                           (long long)limit - 1);
        }
    }
    return GV_OK;
}

static gv_status gv_check_labels(const gv_model *model, const gv_forward_args *args, gv_error *error) {
    const gv_config *c = &model->config;
    if (args->labels == NULL && args->label_values == NULL) return GV_OK;
    if (c->head == GV_HEAD_NONE) return gv_fail(error, GV_ERR_VALUE, "labels were given, but this model has no head");
    if (args->label_values != NULL && (c->head != GV_HEAD_SEQUENCE || args->loss == GV_LOSS_SINGLE_LABEL)) {
        return gv_fail(error, GV_ERR_VALUE,
                       "real-valued labels need a sequence classification head and a multi-label or regression loss");
    }
    if (args->labels == NULL) return GV_OK;
    int64_t limit = gv_speaks(c) ? c->vocab_size : c->num_labels;
    int64_t count = c->head == GV_HEAD_SEQUENCE ? args->sequences : args->rows != NULL ? args->row_count : args->tokens;
    for (int64_t i = 0; i < count; i++) {
        if (args->labels[i] != -100 && (args->labels[i] < 0 || args->labels[i] >= limit)) {
            return gv_fail(error, GV_ERR_INDEX, "labels[%lld] is %lld, outside 0..%lld (-100 = ignored)", (long long)i,
                           (long long)args->labels[i], (long long)limit - 1);
        }
    }
    return GV_OK;
}

/* What goes with a cache, and that each of its sequences is there, once, with room for its positions. Under the cache's lock. */
static gv_status gv_check_cache(const gv_model *model, const gv_forward_args *args, gv_error *error) {
    gv_status status = GV_OK;
    const gv_config *c = &model->config;
    const char *stray = args->save             ? "save"
                        : args->training       ? "training"
                        : args->attentions     ? "attentions"
                        : args->position_ids   ? "position_ids"
                        : args->token_type_ids ? "token_type_ids"
                        : args->key_counts     ? "key_counts"
                        : args->memory         ? "memory (the cache remembers it)"
                                               : NULL;
    if (stray != NULL) return gv_fail(error, GV_ERR_VALUE, "a forward with a cache takes no %s", stray);
    if (args->cache->model != model) return gv_fail(error, GV_ERR_VALUE, "the cache belongs to another model");
    GV_TRY(gv_cache_fresh(args->cache, error));
    for (int64_t b = 0; b < args->sequences; b++) {
        gv_cache_sequence *s;
        GV_TRY(gv_cache_find(&s, args->cache, args->cache_sequences[b], error));
        for (int64_t i = 0; i < b; i++) {
            if (args->cache_sequences[i] != args->cache_sequences[b]) continue;
            status = gv_fail(error, GV_ERR_VALUE, "the cache's sequence %lld stands twice in the batch",
                             (long long)args->cache_sequences[b]);
            goto done;
        }
        int64_t length = s->length + args->row_splits[b + 1] - args->row_splits[b];
        if (c->position == GV_POSITION_LEARNED && length > c->max_positions) {
            status = gv_fail(error, GV_ERR_INDEX, "sequence %lld grows to %lld tokens, but the model has %lld positions",
                             (long long)b, (long long)length, (long long)c->max_positions);
            goto done;
        }
        if (c->cross_attention && s->memory_length < 0) {
            status = gv_fail(error, GV_ERR_STATE, "the cache's sequence %lld has no memory for the cross attention yet",
                             (long long)args->cache_sequences[b]);
            goto done;
        }
    }
done:
    return status;
}

static gv_status gv_check_args(const gv_model *model, const gv_forward_args *args, gv_error *error) {
    gv_status status = GV_OK;
    const gv_config *c = &model->config;
    GV_TRY(gv_check_bound(model, error));
    GV_TRY(gv_check_splits("row_splits", args->row_splits, args->sequences, args->tokens, error));
    GV_TRY(gv_check_ids("input_ids", args->input_ids, args->tokens, c->vocab_size, error));
    if (args->token_type_ids != NULL && c->type_vocab_size > 0) {
        GV_TRY(gv_check_ids("token_type_ids", args->token_type_ids, args->tokens, c->type_vocab_size, error));
    }
    if (c->position == GV_POSITION_LEARNED) {
        if (args->position_ids != NULL) {
            GV_TRY(gv_check_ids("position_ids", args->position_ids, args->tokens, c->max_positions, error));
        }
        for (int64_t b = 0; args->position_ids == NULL && args->cache == NULL && b < args->sequences; b++) {
            int64_t length = args->row_splits[b + 1] - args->row_splits[b];
            if (length > c->max_positions) {
                status =
                    gv_fail(error, GV_ERR_INDEX, "sequence %lld has %lld tokens, but the model has %lld positions: truncate it",
                            (long long)b, (long long)length, (long long)c->max_positions);
                goto done;
            }
        }
    }
    if (args->rows != NULL) {
        GV_TRY(gv_check_ids("rows", args->rows, args->row_count, args->tokens, error));
        for (int64_t r = 1; r < args->row_count; r++) {
            if (args->rows[r] <= args->rows[r - 1]) {
                status = gv_fail(error, GV_ERR_VALUE, "rows must ascend: rows[%lld] = %d after %d", (long long)r, args->rows[r],
                                 args->rows[r - 1]);
                goto done;
            }
        }
        if (c->num_layers == 0) {
            status = gv_fail(error, GV_ERR_VALUE, "rows need a model with layers");
            goto done;
        }
    }
    for (int64_t b = 0; args->key_counts != NULL && b < args->sequences; b++) {
        if (args->key_counts[b] < 0 || args->key_counts[b] > args->row_splits[b + 1] - args->row_splits[b]) {
            status = gv_fail(error, GV_ERR_VALUE, "key_counts[%lld] = %lld is outside its sequence", (long long)b,
                             (long long)args->key_counts[b]);
            goto done;
        }
    }
    if (args->cache != NULL) GV_TRY(gv_check_cache(model, args, error));
    if (c->cross_attention && args->memory == NULL && args->cache == NULL) {
        status = gv_fail(error, GV_ERR_VALUE, "a model with cross attention needs memory and memory_splits");
        goto done;
    }
    if (args->memory != NULL) {
        if (!c->cross_attention) {
            status = gv_fail(error, GV_ERR_VALUE, "memory was given, but the model has no cross attention");
            goto done;
        }
        GV_TRY(gv_check_splits("memory_splits", args->memory_splits, args->sequences, -1, error));
    }
    GV_TRY(gv_check_labels(model, args, error));
    GV_TRY(gv_check_adapters(model, &args->adapters, args->sequences, error));
done:
    return status;
}

/* ---- inputs ------------------------------------------------------------------------------------------------------- */

static void *gv_copy_in(gv_arena *arena, const void *source, int64_t count, size_t size) {
    void *target = gv_arena_take(arena, (size_t)count * size);
    if (target != NULL && source != NULL && count > 0) memcpy(target, source, (size_t)count * size);
    return target;
}

static void gv_fill_rotary(float *cosine, float *sine, const int32_t *position, int64_t rows, const gv_config *c) {
    int64_t dim = c->head_dim;
    for (int64_t i = 0; i < dim / 2; i++) {
        /* float32 as the reference: the angle is rounded before cos and sin */
        float inverse = gv_rotary_inverse(c, i);
        for (int64_t r = 0; r < rows; r++) {
            double angle = (double)((float)position[r] * inverse);
            cosine[r * (dim / 2) + i] = (float)cos(angle);
            sine[r * (dim / 2) + i] = (float)sin(angle);
        }
    }
}

static void gv_take_rotary(gv_row_set *rows, gv_arena *arena, const gv_config *c) {
    if (c->position != GV_POSITION_ROTARY) return;
    size_t size = (size_t)(rows->count * (c->head_dim / 2)) * sizeof(float);
    float *cosine = gv_arena_take(arena, size), *sine = gv_arena_take(arena, size);
    if (cosine != NULL && sine != NULL) gv_fill_rotary(cosine, sine, rows->position, rows->count, c);
    rows->cosine = cosine;
    rows->sine = sine;
}

/* Called twice: with an empty arena to count, then to fill. */
static void gv_take_inputs(gv_pass *pass, gv_arena *arena, const gv_forward_args *args) {
    const gv_config *c = &pass->model->config;
    int64_t t = args->tokens, b = args->sequences, r = args->rows != NULL ? args->row_count : t;
    bool real = arena->base != NULL;
    pass->ids = gv_copy_in(arena, args->input_ids, t, sizeof(int32_t));
    pass->types = args->token_type_ids != NULL ? gv_copy_in(arena, args->token_type_ids, t, sizeof(int32_t)) : NULL;
    int64_t *splits = gv_copy_in(arena, args->row_splits, b + 1, sizeof(int64_t));
    int32_t *position = gv_copy_in(arena, args->position_ids, t, sizeof(int32_t));
    uint32_t *samples = gv_copy_in(arena, args->samples, b, sizeof(uint32_t));
    uint32_t *token_sample = gv_arena_take(arena, (size_t)t * sizeof(uint32_t));
    pass->key_counts = args->key_counts != NULL ? gv_copy_in(arena, args->key_counts, b, sizeof(int64_t)) : NULL;
    pass->cache_sequences = args->cache != NULL ? gv_copy_in(arena, args->cache_sequences, b, sizeof(int64_t)) : NULL;
    for (int64_t s = 0; real && s < b; s++) {
        int64_t before = args->cache != NULL ? args->cache->sequences[args->cache_sequences[s]].length : 0;
        if (args->samples == NULL) samples[s] = (uint32_t)s;
        for (int64_t i = splits[s]; i < splits[s + 1]; i++) {
            if (args->position_ids == NULL) position[i] = (int32_t)(before + i - splits[s]);
            token_sample[i] = samples[s];
        }
    }
    pass->samples = samples;
    pass->all = (gv_row_set){t, NULL, splits, position, token_sample, NULL, NULL};
    gv_take_rotary(&pass->all, arena, c);
    int32_t *first = gv_arena_take(arena, (size_t)b * sizeof(int32_t));
    int32_t *zero = gv_arena_take(arena, (size_t)b * sizeof(int32_t));
    pass->selected = pass->all;
    if (args->rows != NULL) {
        int32_t *index = gv_copy_in(arena, args->rows, r, sizeof(int32_t));
        int64_t *row_splits = gv_arena_take(arena, (size_t)(b + 1) * sizeof(int64_t));
        int32_t *row_position = gv_arena_take(arena, (size_t)r * sizeof(int32_t));
        uint32_t *row_sample = gv_arena_take(arena, (size_t)r * sizeof(uint32_t));
        if (real) {
            int64_t at = 0;
            for (int64_t s = 0; s < b; s++) {
                row_splits[s] = at;
                while (at < r && index[at] < splits[s + 1]) at++;
            }
            row_splits[b] = at;
            for (int64_t i = 0; i < r; i++) {
                row_position[i] = position[index[i]];
                row_sample[i] = token_sample[index[i]];
            }
        }
        pass->selected = (gv_row_set){r, index, row_splits, row_position, row_sample, NULL, NULL};
        gv_take_rotary(&pass->selected, arena, c);
    }
    for (int64_t s = 0; real && s < b; s++) {
        bool any = pass->selected.splits[s + 1] > pass->selected.splits[s];
        first[s] = any ? (int32_t)pass->selected.splits[s] : -1;
        zero[s] = 0;
    }
    pass->first = first;
    bool per_sequence = c->head == GV_HEAD_SEQUENCE || (c->head == GV_HEAD_NONE && c->pooler);
    pass->sequence_set = (gv_row_set){b, NULL, NULL, zero, samples, NULL, NULL};
    pass->head_set = per_sequence ? pass->sequence_set : pass->selected;
    pass->logit_cols = gv_speaks(c) ? c->vocab_size : c->num_labels;
    pass->labels = args->labels != NULL ? gv_copy_in(arena, args->labels, pass->head_set.count, sizeof(int64_t)) : NULL;
    pass->label_values =
        args->label_values != NULL ? gv_copy_in(arena, args->label_values, b * c->num_labels, sizeof(float)) : NULL;
    pass->class_weights =
        args->class_weights != NULL ? gv_copy_in(arena, args->class_weights, c->num_labels, sizeof(float)) : NULL;
    if (args->memory != NULL) {
        pass->memory_rows = args->memory_splits[b];
        pass->memory = gv_copy_in(arena, args->memory, pass->memory_rows * c->hidden_size, sizeof(float));
        int64_t *memory_splits = gv_copy_in(arena, args->memory_splits, b + 1, sizeof(int64_t));
        int32_t *memory_position = gv_arena_take(arena, (size_t)pass->memory_rows * sizeof(int32_t));
        uint32_t *memory_sample = gv_arena_take(arena, (size_t)pass->memory_rows * sizeof(uint32_t));
        for (int64_t s = 0; real && s < b; s++) {
            for (int64_t i = memory_splits[s]; i < memory_splits[s + 1]; i++) {
                memory_position[i] = (int32_t)(i - memory_splits[s]);
                memory_sample[i] = samples[s];
            }
        }
        pass->memory_splits = memory_splits;
        pass->memory_set = (gv_row_set){pass->memory_rows, NULL, memory_splits, memory_position, memory_sample, NULL, NULL};
    }
    int64_t adapters = args->adapters.count;
    gv_model *const *models = gv_copy_in(arena, args->adapters.adapters, adapters, sizeof *models);
    int32_t *which = args->adapters.which != NULL ? gv_copy_in(arena, args->adapters.which, b, sizeof *which) : NULL;
    pass->adapters = (gv_adapter_choice){models, real ? adapters : 0, which};
    pass->adapter_versions = gv_arena_take(arena, (size_t)adapters * sizeof *pass->adapter_versions);
    for (int64_t i = 0; real && i < adapters; i++) pass->adapter_versions[i] = models[i]->version;
    if (c->position == GV_POSITION_RELATIVE) {
        int32_t *bucket = gv_arena_take(arena, (size_t)(2 * c->relative_max_distance + 1) * sizeof(int32_t));
        if (real) gv_relative_buckets(bucket, c->relative_buckets, c->relative_max_distance, c->relative_bidirectional);
        pass->relative_bucket = bucket;
    }
    pass->hidden = gv_arena_take(arena, (size_t)(c->num_layers + 1) * sizeof(float *));
    pass->layers = gv_arena_take(arena, (size_t)(c->num_layers + 1) * sizeof(gv_layer_state));
    pass->layer_inputs = gv_arena_take(arena, (size_t)(c->num_layers + 1) * sizeof(float *));
    if (real) memset(pass->hidden, 0, (size_t)(c->num_layers + 1) * sizeof(float *));
}

static void gv_take_results(gv_pass *pass, gv_arena *arena, bool want_logits) {
    const gv_config *c = &pass->model->config;
    for (int64_t l = 0; l <= c->num_layers; l++) {
        int64_t rows = l == c->num_layers ? pass->selected.count : pass->tokens;
        if (l < c->num_layers && !pass->keep_hidden) continue;
        float *hidden = gv_arena_take(arena, (size_t)(rows * c->hidden_size) * sizeof(float));
        if (pass->hidden != NULL) pass->hidden[l] = hidden;
    }
    if (pass->hidden != NULL) pass->last = pass->hidden[c->num_layers];
    gv_head_take_results(pass, arena, want_logits);
}

/* Every layer's own when saved, or one set for all but the last, and the last (its backward comes first); else one for all: what a
 * layer reads of the one before is not written before it is read. */
static void gv_take_activations(gv_pass *pass, gv_arena *arena) {
    int64_t layers = pass->model->config.num_layers;
    gv_layer_state state = {0};
    pass->embedded = gv_arena_take(arena, (size_t)(pass->tokens * pass->model->config.hidden_size) * sizeof(float));
    bool own = (pass->save && !pass->checkpoint) || pass->keep_attention;
    for (int64_t l = 0; l < layers; l++) {
        bool last = l == layers - 1;
        if (pass->checkpoint && l > 0) {
            float *input = gv_arena_floats(arena, pass->tokens * pass->model->config.hidden_size);
            pass->layer_inputs[l] = input;
        }
        if (own || (last && pass->save) || l == 0) gv_layer_state_take(&state, arena, pass, last);
        pass->layers[l] = state;
    }
    gv_head_take(pass, arena);
}

/* Room to make quantised weights float32 in, a part at a time; NULL when there are none. */
static float *gv_unpack_take(gv_arena *arena, const gv_model *model) {
    int64_t most = 0;
    for (int64_t i = 0; i < model->parameter_count; i++) {
        const gv_quantised *w = model->parameters[i].quantised;
        if (w != NULL && gv_unpack_floats(w->k) > most) most = gv_unpack_floats(w->k);
    }
    return most > 0 ? gv_arena_floats(arena, most) : NULL;
}

/* ---- forward ------------------------------------------------------------------------------------------------------ */

static gv_status gv_run_forward(gv_pass *pass, const gv_forward_temps *temps, gv_error *error) {
    gv_status status = GV_OK;
    const gv_model *model = pass->model;
    const gv_config *c = &model->config;
    size_t row = (size_t)c->hidden_size * sizeof(float);
    float *x = pass->embedded;
    GV_TRY(gv_embed_forward(pass, temps, error));
    for (int64_t l = 0; l < c->num_layers; l++) {
        if (pass->keep_hidden) memcpy(pass->hidden[l], x, (size_t)pass->tokens * row);
        if (pass->checkpoint && l > 0) {
            memcpy(pass->layer_inputs[l], x, (size_t)pass->tokens * row);
            x = pass->layer_inputs[l];
        }
        GV_TRY(gv_layer_forward(&x, pass, l, x, temps, error));
    }
    pass->last_raw = x;
    if (c->final_norm) {
        gv_norm norm = gv_norm_of(model, model->final_norm, model->final_norm_bias, c->norm_eps);
        gv_row_dropout dropout = gv_pass_dropout(pass, c->num_layers, GV_SITE_FINAL, c->final_dropout, &pass->selected);
        GV_TRY(gv_norm_forward(pass->last, x, &norm, pass->selected.count, c->hidden_size));
        GV_TRY(gv_dropout_rows(pass->last, pass->last, &dropout, pass->selected.count, c->hidden_size));
    } else if (pass->selected.count > 0) {
        memcpy(pass->last, x, (size_t)pass->selected.count * row);
    }
    GV_TRY(gv_head_forward(pass, error));
done:
    return status;
}

gv_status gv_model_forward(gv_pass **out, gv_model *model, const gv_forward_args *args, gv_error *error) {
    gv_status status = GV_OK;
    gv_arena temporary = {0}, plan = {0};
    gv_forward_temps temps;
    gv_error local = {0};
    bool locked = false;
    *out = NULL;
    if (error == NULL) error = &local;
    if (model->adapter != NULL) {
        return gv_fail(error, GV_ERR_STATE, "an adapter runs as part of its model: name it in the model's forward");
    }
    gv_pass *pass = gv_alloc_zero(model->allocator, sizeof *pass);
    if (pass == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a forward pass");
    pass->model = model;
    pthread_rwlock_rdlock(&model->weights);
    if (args->cache != NULL) pthread_mutex_lock(&args->cache->lock);
    GV_TRY(gv_check_args(model, args, error));
    gv_adapters_read_lock(&args->adapters);
    locked = true;
    pass->version = model->version;
    pass->width = gv_parallel_width();
    pass->tokens = args->tokens;
    pass->sequences = args->sequences;
    pass->save = args->save;
    pass->training = args->training;
    pass->keep_hidden = args->hidden_states;
    pass->keep_attention = args->attentions;
    pass->seed = args->seed;
    pass->step = args->step;
    pass->loss_kind = args->loss;
    /* Attention maps need every layer's own state. */
    pass->checkpoint = args->checkpoint && args->save && !args->attentions;
    pass->exact = args->save && args->adapters.count > 0;
    if (args->cache != NULL) {
        GV_TRY(gv_cache_reserve(args->cache, args->cache_sequences, args->row_splits, args->sequences, error));
        pass->cache = args->cache;
    }
    gv_take_inputs(pass, &plan, args);
    GV_TRY(gv_workspaces_borrow(&pass->inputs, model->workspaces, plan.used, error));
    gv_take_inputs(pass, &pass->inputs, args);
    plan = (gv_arena){0};
    gv_take_results(pass, &plan, args->logits);
    GV_TRY(gv_workspaces_borrow(&pass->results, model->workspaces, plan.used, error));
    gv_take_results(pass, &pass->results, args->logits);
    plan = (gv_arena){0};
    gv_take_activations(pass, &plan);
    GV_TRY(gv_workspaces_borrow(&pass->arena, model->workspaces, plan.used, error));
    gv_take_activations(pass, &pass->arena);
    plan = (gv_arena){0};
    gv_forward_temps_take(&temps, &plan, pass);
    if (pass->exact) (void)gv_unpack_take(&plan, model);
    GV_TRY(gv_workspaces_borrow(&temporary, model->workspaces, plan.used, error));
    gv_forward_temps_take(&temps, &temporary, pass);
    if (pass->exact) pass->unpack = gv_unpack_take(&temporary, model);
    GV_TRY(gv_run_forward(pass, &temps, error));
    if (!pass->save && !pass->keep_attention) gv_workspaces_return(model->workspaces, &pass->arena);
    for (int64_t b = 0; args->cache != NULL && b < args->sequences; b++) {
        args->cache->sequences[args->cache_sequences[b]].length += args->row_splits[b + 1] - args->row_splits[b];
    }
done:
    pass->cache = NULL; /* it may be freed before the pass is */
    pass->unpack = NULL;
    if (locked) gv_adapters_unlock(&args->adapters);
    if (args->cache != NULL) pthread_mutex_unlock(&args->cache->lock);
    pthread_rwlock_unlock(&model->weights);
    gv_workspaces_return(model->workspaces, &temporary);
    if (status != GV_OK) {
        gv_pass_free(pass);
    } else {
        *out = pass;
    }
    return status;
}

void gv_pass_free(gv_pass *pass) {
    if (pass == NULL) return;
    gv_workspaces_return(pass->model->workspaces, &pass->arena);
    gv_workspaces_return(pass->model->workspaces, &pass->results);
    gv_workspaces_return(pass->model->workspaces, &pass->inputs);
    gv_release(pass->model->allocator, pass, sizeof *pass);
}

/* ---- backward ----------------------------------------------------------------------------------------------------- */

/* Does anything that `owner` holds below the output of `layer` (0 = of the embeddings) want a gradient? */
static bool gv_holds_below(const gv_model *owner, bool shared, int64_t layer) {
    char prefix[32];
    for (int64_t i = 0; i < owner->parameter_count; i++) {
        const gv_parameter *p = &owner->parameters[i];
        if (!p->requires_grad) continue;
        if (strncmp(p->name, "embeddings.", 11) == 0 || strncmp(p->name, "attention.", 10) == 0) return true;
        for (int64_t l = 0; l < (shared ? 1 : layer); l++) {
            int length = snprintf(prefix, sizeof prefix, "layers.%lld.", (long long)l);
            if (strncmp(p->name, prefix, (size_t)length) == 0) return true;
        }
    }
    return false;
}

static bool gv_wants_below(const gv_pass *pass, int64_t layer, bool memory) {
    bool shared = pass->model->config.shared_layers;
    if (memory || gv_holds_below(pass->model, shared, layer)) return true;
    for (int64_t i = 0; i < pass->adapters.count; i++) {
        if (gv_holds_below(pass->adapters.adapters[i], shared, layer)) return true;
    }
    return false;
}

static gv_status gv_run_backward(gv_pass *pass, const gv_backward_args *args, const gv_backward_temps *temps, gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = pass->model;
    const gv_config *c = &model->config;
    const gv_kernels *k = gv_kernels_get();
    int64_t layers = c->num_layers, h = c->hidden_size, r = pass->selected.count;
    float *d = temps->dx;
    if (args->memory != NULL) memset(args->memory, 0, (size_t)(pass->memory_rows * h) * sizeof(float));
    GV_TRY(gv_head_backward(d, pass, args, error));
    if (args->hidden != NULL && args->hidden[layers] != NULL) k->add(d, d, args->hidden[layers], r * h);
    if (c->final_norm && r > 0) {
        gv_norm norm = gv_norm_of(model, model->final_norm, model->final_norm_bias, c->norm_eps);
        gv_row_dropout dropout = gv_pass_dropout(pass, layers, GV_SITE_FINAL, c->final_dropout, &pass->selected);
        GV_TRY(gv_dropout_rows(d, d, &dropout, r, h));
        GV_TRY(gv_norm_backward(d, gv_grad_added(model, model->final_norm), gv_grad_added(model, model->final_norm_bias), d,
                                pass->last_raw, &norm, r, h, temps->stats));
    }
    for (int64_t l = layers - 1; l >= 0; l--) {
        if (!gv_wants_below(pass, l + 1, args->memory != NULL)) goto done;
        const float *const *dprobs = args->attention != NULL ? args->attention + l * pass->sequences : NULL;
        const float *const *dprojection = args->projection != NULL ? args->projection + l * 3 : NULL;
        GV_TRY(gv_layer_backward(pass, l, d, dprobs, dprojection, args->memory, temps, error));
        if (args->hidden != NULL && args->hidden[l] != NULL) k->add(d, d, args->hidden[l], pass->tokens * h);
    }
    if (gv_wants_below(pass, 0, false)) GV_TRY(gv_embed_backward(pass, d, temps, error));
done:
    return status;
}

static bool gv_pass_is_stale(const gv_pass *pass) {
    if (pass->version != pass->model->version) return true;
    for (int64_t i = 0; i < pass->adapters.count; i++) {
        if (pass->adapter_versions[i] != pass->adapters.adapters[i]->version) return true;
    }
    return false;
}

gv_status gv_pass_backward(gv_pass *pass, const gv_backward_args *args, gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = pass->model;
    gv_arena temporary = {0}, plan = {0};
    gv_backward_temps temps;
    gv_error local = {0};
    if (error == NULL) error = &local;
    if (pass->spent) return gv_fail(error, GV_ERR_STATE, "backward was already called on this forward: run the model again");
    if (!pass->save) return gv_fail(error, GV_ERR_STATE, "this forward did not save its activations (save=False)");
    if (args->has_scale && !pass->has_loss) {
        return gv_fail(error, GV_ERR_STATE, "this forward has no loss: pass labels, or a gradient at logits or hidden states");
    }
    if (gv_model_trains(model)) GV_TRY(gv_model_make_trainable(model, error)); /* else it stays as it is, in few bits too */
    for (int64_t i = 0; i < pass->adapters.count; i++) {
        if (gv_model_trains(pass->adapters.adapters[i])) GV_TRY(gv_model_make_trainable(pass->adapters.adapters[i], error));
    }
    pthread_mutex_lock(&model->lock);
    for (int64_t i = 0; i < pass->adapters.count; i++) pthread_mutex_lock(&pass->adapters.adapters[i]->lock);
    pass->width = gv_parallel_width();
    if (gv_pass_is_stale(pass)) {
        status = gv_fail(error, GV_ERR_STATE, "the weights changed since this forward: run the model again before backward");
    } else {
        gv_backward_temps_take(&temps, &plan, pass);
        (void)gv_unpack_take(&plan, model);
        status = gv_workspaces_borrow(&temporary, model->workspaces, plan.used, error);
        if (status == GV_OK) {
            gv_backward_temps_take(&temps, &temporary, pass);
            pass->unpack = gv_unpack_take(&temporary, model);
            pass->spent = true;
            status = gv_run_backward(pass, args, &temps, error);
            pass->unpack = NULL;
            /* Attention probabilities lie among the activations and may still be looked at. */
            if (!pass->keep_attention) gv_workspaces_return(model->workspaces, &pass->arena);
        }
    }
    for (int64_t i = 0; i < pass->adapters.count; i++) pthread_mutex_unlock(&pass->adapters.adapters[i]->lock);
    pthread_mutex_unlock(&model->lock);
done:
    gv_workspaces_return(model->workspaces, &temporary);
    return status;
}

/* ---- results ------------------------------------------------------------------------------------------------------ */

bool gv_pass_loss(double *out, const gv_pass *pass) {
    *out = pass->loss;
    return pass->has_loss;
}

gv_view gv_pass_logits(const gv_pass *pass) {
    return (gv_view){pass->logits, {pass->head_set.count, pass->logit_cols, 0}};
}

gv_view gv_pass_pooled(const gv_pass *pass) {
    return (gv_view){pass->pooled, {pass->sequences, pass->model->config.hidden_size, 0}};
}

gv_view gv_pass_hidden(const gv_pass *pass, int64_t layer) {
    int64_t layers = pass->model->config.num_layers;
    return (gv_view){pass->hidden[layer],
                     {layer == layers ? pass->selected.count : pass->tokens, pass->model->config.hidden_size, 0}};
}

gv_view gv_pass_attention(const gv_pass *pass, int64_t layer, int64_t sequence, bool cross) {
    const gv_config *c = &pass->model->config;
    const gv_attention_state *s = cross ? &pass->layers[layer].cross : &pass->layers[layer].self;
    const gv_row_set *rows = layer == c->num_layers - 1 ? &pass->selected : &pass->all;
    const int64_t *keys = cross ? pass->memory_splits : pass->all.splits;
    gv_view view = {NULL, {c->num_heads, rows->splits[sequence + 1] - rows->splits[sequence], 0}};
    if (s->probs == NULL || keys == NULL) return view;
    view.data = s->probs + s->probs_offset[sequence];
    view.shape[2] = !cross && pass->key_counts != NULL ? pass->key_counts[sequence] : keys[sequence + 1] - keys[sequence];
    return view;
}

gv_view gv_pass_projection(const gv_pass *pass, int64_t layer, gv_projection which) {
    const gv_config *c = &pass->model->config;
    const gv_attention_state *s = &pass->layers[layer].self;
    int64_t queries = layer == c->num_layers - 1 ? pass->selected.count : pass->tokens;
    gv_view view = {NULL, {pass->tokens, c->num_kv_heads * c->head_dim, 0}};
    if (which == GV_QUERY) {
        view.shape[0] = queries;
        view.shape[1] = c->num_heads * c->head_dim;
    }
    if (!pass->save || pass->spent || pass->checkpoint) return view;
    view.data = which == GV_QUERY ? s->query : which == GV_KEY ? s->key : s->value;
    return view;
}

gv_view gv_pass_memory(const gv_pass *pass) {
    return (gv_view){pass->memory, {pass->memory_rows, pass->model->config.hidden_size, 0}};
}

int64_t gv_pass_layers(const gv_pass *pass) {
    return pass->model->config.num_layers;
}
int64_t gv_pass_sequences(const gv_pass *pass) {
    return pass->sequences;
}

void gv_pass_first_nonfinite(char *out, size_t size, const gv_pass *pass) {
    const gv_kernels *k = gv_kernels_get();
    const gv_config *c = &pass->model->config;
    out[0] = '\0';
    bool there = pass->arena.base != NULL;
    if (there && !k->all_finite(pass->embedded, pass->tokens * c->hidden_size)) {
        (void)snprintf(out, size, "embeddings");
        return;
    }
    for (int64_t l = 1; there && pass->checkpoint && l < c->num_layers; l++) {
        if (!k->all_finite(pass->layer_inputs[l], pass->tokens * c->hidden_size)) {
            (void)snprintf(out, size, "hidden state of layer %lld", (long long)l);
            return;
        }
    }
    for (int64_t l = 0; there && pass->save && !pass->checkpoint && l < c->num_layers; l++) {
        int64_t rows = l == c->num_layers - 1 ? pass->selected.count : pass->tokens;
        if (!k->all_finite(pass->layers[l].self.sum, rows * c->hidden_size)) {
            (void)snprintf(out, size, "attention output of layer %lld", (long long)l);
            return;
        }
        if (!k->all_finite(pass->layers[l].sum, rows * c->hidden_size)) {
            (void)snprintf(out, size, "hidden state of layer %lld", (long long)l + 1);
            return;
        }
    }
    if (!k->all_finite(pass->last, pass->selected.count * c->hidden_size)) {
        (void)snprintf(out, size, "last hidden state");
    } else if (pass->logits != NULL && !k->all_finite(pass->logits, pass->head_set.count * pass->logit_cols)) {
        (void)snprintf(out, size, "logits");
    } else if (pass->has_loss && !isfinite(pass->loss)) {
        (void)snprintf(out, size, "loss");
    }
}
