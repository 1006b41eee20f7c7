/* transformer.c - the one block of all families, forwards and backwards.
 *
 * Post-norm (BERT):   n1 = norm(x + attention(x));  y = norm(n1 + mlp(n1))
 * Pre-norm (others):  s1 = x + attention(norm(x));  [sc = s1 + cross(norm(s1), memory)];  y = s1 + mlp(norm(s1))
 * Saved per layer: query, key, value, context, the two sums and the inner pre-activation. Norm outputs and activations are
 * computed again in the backward: they cost a pass over memory, not a product.
 */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "base/try.h"
#include "model/adapters.h"
#include "model/cache.h"
#include "nn/embedding.h"

gv_row_dropout gv_pass_dropout(const gv_pass *pass, int64_t layer, int site, double rate, const gv_row_set *rows) {
    gv_dropout dropout = {pass->seed, pass->step, (uint32_t)(layer * 16 + site), pass->training ? (float)rate : 0.0f};
    return (gv_row_dropout){dropout, rows->sample, rows->position};
}

gv_norm gv_norm_of(const gv_model *model, int64_t gamma, int64_t beta, double eps) {
    return (gv_norm){gv_data(model, gamma), gv_data(model, beta), (float)eps, model->config.norm == GV_NORM_RMS};
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static int64_t gv_probs_size(const gv_pass *pass, const int64_t *query_splits, const int64_t *key_splits) {
    int64_t total = 0;
    for (int64_t b = 0; b < pass->sequences; b++) {
        total += (query_splits[b + 1] - query_splits[b]) * (key_splits[b + 1] - key_splits[b]);
    }
    return total * pass->model->config.num_heads;
}

/* All but the sum, which outlives it. */
static void gv_attention_state_take(gv_attention_state *out, gv_arena *arena, const gv_pass *pass, const gv_row_set *rows,
                                    int64_t key_rows, const int64_t *key_splits, bool norm) {
    const gv_config *c = &pass->model->config;
    int64_t inner = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim;
    out->query = gv_arena_floats(arena, rows->count * inner);
    out->key = gv_arena_floats(arena, key_rows * kv);
    out->value = gv_arena_floats(arena, key_rows * kv);
    out->query_raw = norm ? gv_arena_floats(arena, rows->count * inner) : NULL;
    out->key_raw = norm ? gv_arena_floats(arena, key_rows * kv) : NULL;
    out->context = gv_arena_floats(arena, rows->count * inner);
    out->lse = gv_arena_floats(arena, rows->count * c->num_heads);
    out->probs = NULL;
    out->probs_offset = NULL;
    if (pass->keep_attention) {
        out->probs = gv_arena_floats(arena, gv_probs_size(pass, rows->splits, key_splits));
        int64_t *offset = gv_arena_take(arena, (size_t)pass->sequences * sizeof(int64_t));
        int64_t at = 0;
        for (int64_t b = 0; b < pass->sequences && offset != NULL; b++) {
            offset[b] = at;
            at += (rows->splits[b + 1] - rows->splits[b]) * (key_splits[b + 1] - key_splits[b]) * c->num_heads;
        }
        out->probs_offset = offset;
    }
}

/* Whether a layer may forget what it read and its attention as soon as it is done with them. */
static bool gv_forgets(const gv_pass *pass) {
    return !pass->save && !pass->keep_attention;
}

void gv_layer_state_take(gv_layer_state *out, gv_arena *arena, const gv_pass *pass, bool last) {
    const gv_config *c = &pass->model->config;
    const gv_row_set *rows = last ? &pass->selected : &pass->all;
    memset(out, 0, sizeof *out);
    out->self.sum = gv_arena_floats(arena, rows->count * c->hidden_size);
    if (c->cross_attention) {
        out->cross.sum = gv_arena_floats(arena, rows->count * c->hidden_size);
        gv_attention_state_take(&out->cross, arena, pass, rows, pass->memory_rows, pass->memory_splits, false);
    }
    gv_arena over = *arena;
    gv_attention_state_take(&out->self, arena, pass, rows, pass->tokens, pass->all.splits, c->query_key_norm);
    if (gv_forgets(pass)) {
        out->inner = gv_arena_floats(&over, rows->count * c->intermediate_size);
        if (over.used > arena->used) arena->used = over.used;
    }
    bool same = gv_forgets(pass) && !c->pre_norm; /* the first sum is read by its norm alone */
    out->sum = same ? out->self.sum : gv_arena_floats(arena, rows->count * c->hidden_size);
    if (c->gated) out->gate = gv_arena_floats(arena, rows->count * c->intermediate_size);
    /* Without a backward nobody reads the value before the activation. */
    if (pass->save || c->gated) out->up = gv_arena_floats(arena, rows->count * c->intermediate_size);
}

static gv_attention_batch gv_batch_of(const gv_pass *pass, int64_t layer, const gv_row_set *rows, bool cross) {
    const gv_model *model = pass->model;
    const gv_config *c = &model->config;
    gv_attention_batch batch = {
        .sequences = pass->sequences,
        .heads = c->num_heads,
        .kv_heads = c->num_kv_heads,
        .head_dim = c->head_dim,
        .query_splits = rows->splits,
        .key_splits = cross ? pass->memory_splits : pass->all.splits,
        .key_counts = cross ? NULL : pass->key_counts,
        .query_position = rows->position,
        .key_position = cross ? pass->memory_set.position : pass->all.position,
        .samples = pass->samples,
        .scale = (float)c->attention_scale,
        .causal = c->causal && !cross,
        .dropout = gv_pass_dropout(pass, layer, cross ? GV_SITE_CROSS : GV_SITE_ATTENTION, c->attention_dropout, rows).dropout,
    };
    if (c->position == GV_POSITION_RELATIVE && !cross) {
        batch.relative_table = gv_data(model, model->relative_bias);
        batch.relative_bucket = pass->relative_bucket;
        batch.relative_buckets = c->relative_buckets;
        batch.relative_max_distance = c->relative_max_distance;
    }
    return batch;
}

static int64_t gv_scratch_floats(const gv_pass *pass) {
    int64_t most = 0;
    if (pass->cache != NULL) return gv_decode_scratch(pass);
    for (int cross = 0; cross <= (pass->model->config.cross_attention ? 1 : 0); cross++) {
        gv_attention_batch batch = gv_batch_of(pass, 0, &pass->all, cross != 0);
        /* Planning happens before parameters are looked at: a relative table counts when the configuration has one. */
        int64_t floats = gv_attention_scratch(&batch, pass->width);
        if (floats > most) most = floats;
    }
    return most;
}

void gv_forward_temps_take(gv_forward_temps *out, gv_arena *arena, const gv_pass *pass) {
    const gv_config *c = &pass->model->config;
    int64_t h = c->hidden_size, widest = h > c->embedding_size ? h : c->embedding_size;
    out->ping = gv_arena_floats(arena, pass->tokens * widest);
    out->pong = gv_forgets(pass) ? pass->embedded : gv_arena_floats(arena, pass->tokens * h); /* the first layer leaves it */
    out->normed = gv_arena_floats(arena, pass->tokens * h);
    out->gathered = pass->selected.index != NULL ? gv_arena_floats(arena, pass->selected.count * h) : NULL;
    out->output = gv_arena_floats(arena, pass->tokens * h);
    bool over = gv_forgets(pass) && c->num_layers > 0;
    out->inner = over ? pass->layers[0].inner : gv_arena_floats(arena, pass->tokens * c->intermediate_size);
    out->scratch = gv_arena_floats(arena, gv_scratch_floats(pass));
}

void gv_backward_temps_take(gv_backward_temps *out, gv_arena *arena, const gv_pass *pass) {
    const gv_config *c = &pass->model->config;
    int64_t t = pass->tokens, h = c->hidden_size, inner = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim;
    int64_t widest = h > c->embedding_size ? h : c->embedding_size;
    int64_t keys = t > pass->memory_rows ? t : pass->memory_rows;
    out->dx = gv_arena_floats(arena, t * widest);
    out->dsum = gv_arena_floats(arena, t * h);
    out->d_in = gv_arena_floats(arena, t * widest);
    out->dquery = gv_arena_floats(arena, t * inner);
    out->dkey = gv_arena_floats(arena, keys * kv);
    out->dvalue = gv_arena_floats(arena, keys * kv);
    out->dcontext = gv_arena_floats(arena, t * inner);
    out->inner = gv_arena_floats(arena, t * c->intermediate_size);
    out->dinner = gv_arena_floats(arena, t * c->intermediate_size);
    out->dgate = c->gated ? gv_arena_floats(arena, t * c->intermediate_size) : NULL;
    out->x = gv_arena_floats(arena, t * widest);
    out->normed = gv_arena_floats(arena, t * widest);
    out->stats =
        gv_arena_floats(arena, 2 * (t * c->num_heads > keys * c->num_kv_heads ? t * c->num_heads : keys * c->num_kv_heads) + 2);
    out->scratch = gv_arena_floats(arena, gv_scratch_floats(pass));
    out->small = gv_arena_floats(arena, t * h);
    out->gathered = pass->selected.index != NULL ? gv_arena_floats(arena, pass->selected.count * h) : NULL;
    if (pass->checkpoint) gv_forward_temps_take(&out->again, arena, pass);
}

/* ---- embeddings ------------------------------------------------------------------------------------------------- */

static gv_table gv_table_of(const gv_model *model, int64_t index) {
    return (gv_table){gv_data(model, index), gv_quantised_of(model, index)};
}

static gv_status gv_embed_rows(float *out, const gv_pass *pass) {
    const gv_model *model = pass->model;
    return gv_embedding_forward(out, gv_table_of(model, model->word), gv_table_of(model, model->position),
                                gv_table_of(model, model->token_type), pass->ids, pass->all.position, pass->types,
                                (float)model->config.embedding_scale, pass->tokens, model->config.embedding_size);
}

gv_status gv_embed_forward(gv_pass *pass, const gv_forward_temps *temps, gv_error *error) {
    gv_status status = GV_OK;
    const gv_model *model = pass->model;
    const gv_config *c = &model->config;
    int64_t t = pass->tokens, e = c->embedding_size;
    bool projects = model->projection.weight >= 0;
    float *rows = projects ? temps->ping : pass->embedded;
    gv_row_dropout dropout = gv_pass_dropout(pass, c->num_layers, GV_SITE_EMBEDDING, c->embedding_dropout, &pass->all);
    GV_TRY(gv_embed_rows(rows, pass));
    if (c->embedding_norm) {
        gv_norm norm = gv_norm_of(model, model->embedding_norm, model->embedding_norm_bias, c->norm_eps);
        GV_TRY(gv_norm_forward(rows, rows, &norm, t, e));
    }
    GV_TRY(gv_dropout_rows(rows, rows, &dropout, t, e));
    if (projects) {
        GV_TRY(gv_linear(pass->embedded, pass, c->num_layers, &pass->all, model->projection, c->hidden_size, e, rows, error));
    }
done:
    return status;
}

static gv_status gv_embed_table_backward(gv_pass *pass, int64_t index, const float *dy, const int32_t *ids, float scale,
                                         int64_t skip) {
    gv_model *model = pass->model;
    float *grad = gv_grad_rows(model, index);
    if (grad == NULL) return GV_OK;
    const gv_parameter *p = &model->parameters[index];
    return gv_embedding_backward(grad, p->state == GV_GRAD_ROWS ? p->touched : NULL, dy, ids, scale, skip, pass->tokens,
                                 model->config.embedding_size);
}

gv_status gv_embed_backward(gv_pass *pass, float *dx, const gv_backward_temps *temps, gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = pass->model;
    const gv_config *c = &model->config;
    int64_t t = pass->tokens, e = c->embedding_size;
    gv_row_dropout dropout = gv_pass_dropout(pass, c->num_layers, GV_SITE_EMBEDDING, c->embedding_dropout, &pass->all);
    gv_norm norm = gv_norm_of(model, model->embedding_norm, model->embedding_norm_bias, c->norm_eps);
    float *rows = temps->x, *dy = dx;
    GV_TRY(gv_embed_rows(rows, pass));
    if (model->projection.weight >= 0) {
        float *normed = temps->normed;
        if (c->embedding_norm) {
            GV_TRY(gv_norm_forward(normed, rows, &norm, t, e));
        } else {
            memcpy(normed, rows, (size_t)(t * e) * sizeof(float));
        }
        GV_TRY(gv_dropout_rows(normed, normed, &dropout, t, e));
        dy = temps->d_in;
        GV_TRY(gv_linear_backward(dy, false, pass, c->num_layers, &pass->all, model->projection, c->hidden_size, e, dx, normed,
                                  error));
    }
    GV_TRY(gv_dropout_rows(dy, dy, &dropout, t, e));
    if (c->embedding_norm) {
        GV_TRY(gv_norm_backward(dy, gv_grad_added(model, model->embedding_norm),
                                gv_grad_added(model, model->embedding_norm_bias), dy, rows, &norm, t, e, temps->stats));
    }
    GV_TRY(gv_embed_table_backward(pass, model->word, dy, pass->ids, (float)c->embedding_scale, c->padding_id));
    if (model->position >= 0) {
        GV_TRY(gv_embed_table_backward(pass, model->position, dy, pass->all.position, 1, c->position_padding_id));
    }
    if (model->token_type >= 0) GV_TRY(gv_embed_table_backward(pass, model->token_type, dy, pass->types, 1, -1));
done:
    return status;
}

/* ---- query, key, value ------------------------------------------------------------------------------------------ */

/* The three weights of a self-attention; of one fused matrix, three slices. */
static void gv_qkv_weights(gv_weight out[3], const gv_pass *pass, const gv_attention_ids *ids, bool fused) {
    const gv_model *model = pass->model;
    const gv_config *c = &model->config;
    int64_t inner = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim;
    if (!fused) {
        out[0] = gv_weight_of(pass, model, ids->query, inner, c->hidden_size);
        out[1] = gv_weight_of(pass, model, ids->key, kv, c->hidden_size);
        out[2] = gv_weight_of(pass, model, ids->value, kv, c->hidden_size);
        return;
    }
    gv_weight whole = gv_weight_of(pass, model, ids->query, 3 * inner, c->hidden_size);
    for (int i = 0; i < 3; i++) {
        out[i] = whole;
        out[i].n = inner;
        if (i > 0) out[i].capture = NULL; /* they share their input */
        if (whole.quantised != NULL) {
            out[i].quantised += i;
        } else {
            out[i].w += i * (whole.transposed ? inner : inner * whole.stride);
        }
        if (whole.bias != NULL) out[i].bias += i * inner;
    }
}

/* Gradient targets of the same three, with what is already there. */
static void gv_qkv_gradients(float *dw[3], float *db[3], bool accumulate[3], gv_model *model, const gv_attention_ids *ids,
                             const gv_weight weights[3], bool fused) {
    const gv_linear_ids each[3] = {ids->query, ids->key, ids->value};
    bool add_bias[3];
    if (!fused) {
        for (int i = 0; i < 3; i++) {
            dw[i] = gv_grad_dense(model, each[i].weight, &accumulate[i]);
            db[i] = gv_grad_dense(model, each[i].bias, &add_bias[i]);
            if (db[i] != NULL && dw[i] != NULL && add_bias[i] != accumulate[i]) {
                /* frozen apart in an earlier backward: make both additive */
                if (!accumulate[i]) memset(dw[i], 0, (size_t)(weights[i].n * weights[i].k) * sizeof(float));
                if (!add_bias[i]) memset(db[i], 0, (size_t)weights[i].n * sizeof(float));
                accumulate[i] = true;
            } else if (dw[i] == NULL) {
                accumulate[i] = add_bias[i];
            }
        }
        return;
    }
    bool add, add_b;
    float *whole = gv_grad_dense(model, ids->query.weight, &add), *bias = gv_grad_dense(model, ids->query.bias, &add_b);
    if (whole != NULL && bias != NULL && add != add_b) {
        if (!add) memset(whole, 0, (size_t)model->parameters[ids->query.weight].size * sizeof(float));
        if (!add_b) memset(bias, 0, (size_t)model->parameters[ids->query.bias].size * sizeof(float));
        add = true;
    }
    for (int i = 0; i < 3; i++) {
        dw[i] = whole == NULL ? NULL : whole + i * (weights[i].transposed ? weights[i].n : weights[i].n * weights[i].stride);
        db[i] = bias == NULL ? NULL : bias + i * weights[i].n;
        accumulate[i] = whole != NULL ? add : add_b;
    }
}

static gv_status gv_head_norms(gv_attention_state *s, const gv_model *model, const gv_attention_ids *ids, int64_t query_rows,
                               int64_t key_rows) {
    const gv_config *c = &model->config;
    gv_norm q = {gv_data(model, ids->query_norm), NULL, (float)c->norm_eps, true},
            k = {gv_data(model, ids->key_norm), NULL, (float)c->norm_eps, true};
    gv_status status = gv_norm_forward(s->query, s->query_raw, &q, query_rows * c->num_heads, c->head_dim);
    if (status == GV_OK) status = gv_norm_forward(s->key, s->key_raw, &k, key_rows * c->num_kv_heads, c->head_dim);
    return status;
}

static void gv_rotate(const gv_config *c, float *x, const gv_row_set *rows, int64_t heads, float sign) {
    if (c->position != GV_POSITION_ROTARY) return;
    gv_kernels_get()->rotary(x, rows->cosine, rows->sine, rows->count, heads, c->head_dim, heads * c->head_dim, sign);
}

/* in: [T, H]; in_rows: the same for the query rows. */
static gv_status gv_project_qkv(gv_pass *pass, int64_t layer, gv_attention_state *s, const float *in, const float *in_rows,
                                const gv_row_set *rows, gv_error *error) {
    gv_status status = GV_OK;
    const gv_model *model = pass->model;
    const gv_config *c = &model->config;
    const gv_attention_ids *ids = &model->layers[layer].self;
    int64_t inner = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim, h = c->hidden_size;
    gv_weight w[3];
    gv_qkv_weights(w, pass, ids, c->fused_qkv);
    float *q = c->query_key_norm ? s->query_raw : s->query, *k = c->query_key_norm ? s->key_raw : s->key;
    float *const ys[3] = {q, k, s->value}, *const before[3] = {NULL, NULL, NULL};
    const int64_t strides[3] = {inner, kv, kv};
    if (rows->index == NULL) {
        GV_TRY(gv_linear_forward(ys, strides, before, w, 3, in, h, pass->tokens, GV_ACT_NONE, error));
    } else {
        GV_TRY(gv_linear_forward(ys + 1, strides + 1, before, w + 1, 2, in, h, pass->tokens, GV_ACT_NONE, error));
        if (rows->count > 0) GV_TRY(gv_linear_forward(ys, strides, before, w, 1, in_rows, h, rows->count, GV_ACT_NONE, error));
    }
    const gv_linear_ids each[3] = {ids->query, ids->key, ids->value};
    for (int i = 0; i < 3; i++) {
        GV_TRY(gv_adapt(ys[i], strides[i], pass, layer, i == 0 ? rows : &pass->all, each[i].weight,
                        c->fused_qkv ? i * inner : 0, w[i].n, h, i == 0 ? in_rows : in, error));
    }
    if (c->query_key_norm) GV_TRY(gv_head_norms(s, model, ids, rows->count, pass->tokens));
    gv_rotate(c, s->query, rows, c->num_heads, 1);
    gv_rotate(c, s->key, &pass->all, c->num_kv_heads, 1);
done:
    return status;
}

/* ---- forward ---------------------------------------------------------------------------------------------------- */

static gv_status gv_attend(gv_pass *pass, int64_t layer, gv_attention_state *s, const gv_row_set *rows, bool cross,
                           float *scratch) {
    if (pass->cache != NULL) return gv_decode_attend(pass, layer, s, rows, cross, scratch);
    gv_attention_batch batch = gv_batch_of(pass, layer, rows, cross);
    return gv_attention_forward(s->context, pass->save ? s->lse : NULL, s->probs, s->probs_offset, s->query, s->key, s->value,
                                &batch, scratch);
}

static gv_status gv_cross_forward(gv_pass *pass, int64_t layer, const float *base, const gv_row_set *rows,
                                  const gv_forward_temps *t, gv_error *error) {
    gv_status status = GV_OK;
    const gv_model *model = pass->model;
    const gv_config *c = &model->config;
    const gv_attention_ids *ids = &model->layers[layer].cross;
    gv_attention_state *s = &pass->layers[layer].cross;
    int64_t h = c->hidden_size, inner = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim;
    gv_norm norm = gv_norm_of(model, ids->norm, ids->norm_bias, c->norm_eps);
    gv_row_dropout dropout = gv_pass_dropout(pass, layer, GV_SITE_CROSS_OUTPUT, c->hidden_dropout, rows);
    GV_TRY(gv_norm_forward(t->normed, base, &norm, rows->count, h));
    GV_TRY(gv_linear(s->query, pass, layer, rows, ids->query, inner, h, t->normed, error));
    /* Of a cached sequence they were made once; memory_rows is 0. */
    GV_TRY(gv_linear(s->key, pass, layer, &pass->memory_set, ids->key, kv, h, pass->memory, error));
    GV_TRY(gv_linear(s->value, pass, layer, &pass->memory_set, ids->value, kv, h, pass->memory, error));
    GV_TRY(gv_attend(pass, layer, s, rows, true, t->scratch));
    GV_TRY(gv_linear(t->output, pass, layer, rows, ids->output, h, inner, s->context, error));
    GV_TRY(gv_residual_norm(s->sum, NULL, t->output, base, NULL, &dropout, rows->count, h));
done:
    return status;
}

/* in: [rows, H] -> t->inner: [rows, I] after activation and dropout; before it saved in s. */
static gv_status gv_mlp_inner(gv_pass *pass, int64_t layer, gv_layer_state *s, const float *in, const gv_row_set *rows,
                              const gv_forward_temps *t, gv_error *error) {
    gv_status status = GV_OK;
    const gv_model *model = pass->model;
    const gv_config *c = &model->config;
    const gv_layer_ids *ids = &model->layers[layer];
    gv_activation kind = (gv_activation)c->activation;
    int64_t h = c->hidden_size, i = c->intermediate_size, strides[2] = {i, i};
    gv_row_dropout dropout = gv_pass_dropout(pass, layer, GV_SITE_MLP, c->mlp_dropout, rows);
    gv_weight w[2] = {gv_weight_of(pass, model, ids->up, i, h), {0}};
    if (c->gated) {
        float *const ys[2] = {s->up, s->gate}, *const before[2] = {NULL, NULL};
        w[1] = gv_weight_of(pass, model, ids->gate, i, h);
        GV_TRY(gv_linear_forward(ys, strides, before, w, 2, in, h, rows->count, GV_ACT_NONE, error));
        GV_TRY(gv_adapt(s->up, i, pass, layer, rows, ids->up.weight, 0, i, h, in, error));
        GV_TRY(gv_adapt(s->gate, i, pass, layer, rows, ids->gate.weight, 0, i, h, in, error));
        GV_TRY(gv_activate_rows(t->inner, s->gate, s->up, kind, &dropout, rows->count, i));
    } else if (gv_adapts(pass, ids->up.weight)) { /* what comes before the activation is not whole yet */
        float *up = s->up != NULL ? s->up : t->inner;
        GV_TRY(gv_linear(up, pass, layer, rows, ids->up, i, h, in, error));
        GV_TRY(gv_activate_rows(t->inner, NULL, up, kind, &dropout, rows->count, i));
    } else {
        float *const ys[1] = {t->inner}, *const before[1] = {s->up};
        GV_TRY(gv_linear_forward(ys, strides, before, w, 1, in, h, rows->count, kind, error));
        GV_TRY(gv_dropout_rows(t->inner, t->inner, &dropout, rows->count, i));
    }
done:
    return status;
}

gv_status gv_layer_forward(float **y, gv_pass *pass, int64_t layer, float *x, const gv_forward_temps *t, gv_error *error) {
    gv_status status = GV_OK;
    const gv_model *model = pass->model;
    const gv_config *c = &model->config;
    const gv_layer_ids *ids = &model->layers[layer];
    gv_layer_state *s = &pass->layers[layer];
    const gv_row_set *rows = layer == c->num_layers - 1 ? &pass->selected : &pass->all;
    int64_t h = c->hidden_size, inner = c->num_heads * c->head_dim;
    gv_norm attention_norm = gv_norm_of(model, ids->self.norm, ids->self.norm_bias, c->norm_eps);
    gv_norm mlp_norm = gv_norm_of(model, ids->mlp_norm, ids->mlp_norm_bias, c->norm_eps);
    gv_row_dropout output_dropout = gv_pass_dropout(pass, layer, GV_SITE_OUTPUT, c->hidden_dropout, rows);
    gv_row_dropout down_dropout = gv_pass_dropout(pass, layer, GV_SITE_DOWN, c->down_dropout, rows);
    float *out = x == t->ping ? t->pong : t->ping;
    const float *in = x, *in_rows = x, *residual = x;

    if (c->pre_norm) {
        GV_TRY(gv_norm_forward(t->normed, x, &attention_norm, pass->tokens, h));
        in = in_rows = t->normed;
    }
    if (rows->index != NULL && rows->count > 0) {
        gv_gather_rows(t->gathered, in, rows->index, rows->count, h);
        in_rows = t->gathered;
    }
    if (pass->tokens > 0) GV_TRY(gv_project_qkv(pass, layer, &s->self, in, in_rows, rows, error));
    GV_TRY(gv_attend(pass, layer, &s->self, rows, false, t->scratch));
    GV_TRY(gv_linear(t->output, pass, layer, rows, ids->self.output, h, inner, s->self.context, error));
    if (rows->index != NULL) {
        gv_gather_rows(t->gathered, x, rows->index, rows->count, h);
        residual = t->gathered;
    }
    const float *base; /* what the mlp's output is added to */
    const float *mlp_in = t->normed;
    if (c->pre_norm) {
        GV_TRY(gv_residual_norm(s->self.sum, NULL, t->output, residual, NULL, &output_dropout, rows->count, h));
        base = s->self.sum;
        if (c->cross_attention) {
            GV_TRY(gv_cross_forward(pass, layer, base, rows, t, error));
            base = s->cross.sum;
        }
        GV_TRY(gv_norm_forward(t->normed, base, &mlp_norm, rows->count, h));
    } else {
        GV_TRY(gv_residual_norm(s->self.sum, t->normed, t->output, residual, &attention_norm, &output_dropout, rows->count, h));
        base = t->normed;
    }
    if (rows->count > 0) GV_TRY(gv_mlp_inner(pass, layer, s, mlp_in, rows, t, error));
    GV_TRY(gv_linear(t->output, pass, layer, rows, ids->down, h, c->intermediate_size, t->inner, error));
    if (c->pre_norm) {
        GV_TRY(gv_residual_norm(s->sum, NULL, t->output, base, NULL, &down_dropout, rows->count, h));
        out = s->sum;
    } else {
        GV_TRY(gv_residual_norm(s->sum, out, t->output, base, &mlp_norm, &down_dropout, rows->count, h));
    }
    *y = out;
done:
    return status;
}

/* ---- backward --------------------------------------------------------------------------------------------------- */

/* x of `layer` as the forward had it. */
static gv_status gv_layer_input(const float **out, gv_pass *pass, int64_t layer, float *buffer) {
    const gv_config *c = &pass->model->config;
    if (layer == 0 || pass->checkpoint) {
        *out = layer == 0 ? pass->embedded : pass->layer_inputs[layer];
        return GV_OK;
    }
    *out = pass->layers[layer - 1].sum;
    if (c->pre_norm) return GV_OK;
    const gv_layer_ids *ids = &pass->model->layers[layer - 1];
    gv_norm norm = gv_norm_of(pass->model, ids->mlp_norm, ids->mlp_norm_bias, c->norm_eps);
    *out = buffer;
    return gv_norm_forward(buffer, pass->layers[layer - 1].sum, &norm, pass->tokens, c->hidden_size);
}

/* dsum [rows, H] at the mlp's sum -> d_in [rows, H] at the mlp's input (not the residual). */
static gv_status gv_mlp_backward(gv_pass *pass, int64_t layer, const float *mlp_in, const gv_row_set *rows,
                                 const gv_backward_temps *t, gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = pass->model;
    const gv_config *c = &model->config;
    const gv_layer_ids *ids = &model->layers[layer];
    gv_layer_state *s = &pass->layers[layer];
    gv_activation kind = (gv_activation)c->activation;
    int64_t m = rows->count, h = c->hidden_size, i = c->intermediate_size;
    gv_row_dropout inner_dropout = gv_pass_dropout(pass, layer, GV_SITE_MLP, c->mlp_dropout, rows);
    gv_row_dropout down_dropout = gv_pass_dropout(pass, layer, GV_SITE_DOWN, c->down_dropout, rows);
    const float *down = t->dsum;
    if (down_dropout.dropout.p > 0) {
        GV_TRY(gv_dropout_rows(t->small, t->dsum, &down_dropout, m, h));
        down = t->small;
    }
    GV_TRY(gv_activate_rows(t->inner, s->gate, s->up, kind, &inner_dropout, m, i));
    GV_TRY(gv_linear_backward(t->dinner, false, pass, layer, rows, ids->down, h, i, down, t->inner, error));
    GV_TRY(gv_activate_rows_backward(t->dinner, t->dgate, s->gate, s->up, kind, &inner_dropout, m, i));
    GV_TRY(gv_linear_backward(t->d_in, false, pass, layer, rows, ids->up, i, h, t->dinner, mlp_in, error));
    if (c->gated) GV_TRY(gv_linear_backward(t->d_in, true, pass, layer, rows, ids->gate, i, h, t->dgate, mlp_in, error));
done:
    return status;
}

/* Adds to t->dsum ([rows, H], the gradient at the cross sum, which is the residual too) what flows through the attention. */
static gv_status gv_cross_backward(gv_pass *pass, int64_t layer, float *dmemory, const gv_row_set *rows,
                                   const gv_backward_temps *t, gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = pass->model;
    const gv_config *c = &model->config;
    const gv_attention_ids *ids = &model->layers[layer].cross;
    gv_attention_state *s = &pass->layers[layer].cross;
    const float *base = pass->layers[layer].self.sum;
    int64_t m = rows->count, h = c->hidden_size, inner = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim;
    gv_norm norm = gv_norm_of(model, ids->norm, ids->norm_bias, c->norm_eps);
    gv_row_dropout dropout = gv_pass_dropout(pass, layer, GV_SITE_CROSS_OUTPUT, c->hidden_dropout, rows);
    gv_attention_batch batch = gv_batch_of(pass, layer, rows, true);
    GV_TRY(gv_dropout_rows(t->small, t->dsum, &dropout, m, h));
    GV_TRY(gv_linear_backward(t->dcontext, false, pass, layer, rows, ids->output, h, inner, t->small, s->context, error));
    GV_TRY(gv_attention_backward(t->dquery, t->dkey, t->dvalue, NULL, t->dcontext, s->context, s->lse, NULL, s->query, s->key,
                                 s->value, &batch, t->scratch));
    GV_TRY(gv_norm_forward(t->normed, base, &norm, m, h));
    GV_TRY(gv_linear_backward(t->d_in, false, pass, layer, rows, ids->query, inner, h, t->dquery, t->normed, error));
    GV_TRY(gv_linear_backward(dmemory, true, pass, layer, &pass->memory_set, ids->key, kv, h, t->dkey, pass->memory, error));
    GV_TRY(
        gv_linear_backward(dmemory, true, pass, layer, &pass->memory_set, ids->value, kv, h, t->dvalue, pass->memory, error));
    GV_TRY(gv_norm_backward(t->d_in, gv_grad_added(model, ids->norm), gv_grad_added(model, ids->norm_bias), t->d_in, base,
                            &norm, m, h, t->stats));
    GV_TRY(gv_add_rows(t->dsum, t->d_in, m, h));
done:
    return status;
}

/* Through the rotation and the per-head norms, in place. */
static gv_status gv_qk_backward(gv_pass *pass, int64_t layer, const gv_row_set *rows, const gv_backward_temps *t) {
    gv_status status = GV_OK;
    gv_model *model = pass->model;
    const gv_config *c = &model->config;
    const gv_attention_ids *ids = &model->layers[layer].self;
    gv_attention_state *s = &pass->layers[layer].self;
    gv_rotate(c, t->dquery, rows, c->num_heads, -1);
    gv_rotate(c, t->dkey, &pass->all, c->num_kv_heads, -1);
    if (!c->query_key_norm) return GV_OK;
    gv_norm q = {gv_data(model, ids->query_norm), NULL, (float)c->norm_eps, true},
            k = {gv_data(model, ids->key_norm), NULL, (float)c->norm_eps, true};
    status = gv_norm_backward(t->dquery, gv_grad_added(model, ids->query_norm), NULL, t->dquery, s->query_raw, &q,
                              rows->count * c->num_heads, c->head_dim, t->stats);
    if (status == GV_OK) {
        status = gv_norm_backward(t->dkey, gv_grad_added(model, ids->key_norm), NULL, t->dkey, s->key_raw, &k,
                                  pass->tokens * c->num_kv_heads, c->head_dim, t->stats);
    }
    return status;
}

/* What goes through the adapters of query, key and value `from` .. `to` - 1; dx and x are of the query's rows when `to` is 1. */
static gv_status gv_qkv_adapt_backward(float *dx, gv_pass *pass, int64_t layer, int from, int to, const gv_row_set *rows,
                                       const float *const dys[3], const float *x, gv_error *error) {
    gv_status status = GV_OK;
    const gv_config *c = &pass->model->config;
    const gv_attention_ids *ids = &pass->model->layers[layer].self;
    const gv_linear_ids each[3] = {ids->query, ids->key, ids->value};
    int64_t inner = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim;
    for (int i = from; i < to; i++) {
        int64_t n = i == 0 ? inner : kv;
        GV_TRY(gv_adapt_backward(dx, pass, layer, i == 0 ? rows : &pass->all, each[i].weight, c->fused_qkv ? i * inner : 0, n,
                                 c->hidden_size, dys[i], n, x, error));
    }
done:
    return status;
}

/* From dquery, dkey, dvalue to the gradient at the attention's input, t->d_in [T, H]. in: [T, H]. */
static gv_status gv_qkv_backward(gv_pass *pass, int64_t layer, const float *in, const gv_row_set *rows,
                                 const gv_backward_temps *t, gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = pass->model;
    const gv_config *c = &model->config;
    int64_t h = c->hidden_size, inner = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim;
    gv_weight w[3];
    float *dw[3], *db[3];
    bool accumulate[3];
    const int64_t strides[3] = {inner, kv, kv};
    const float *const dys[3] = {t->dquery, t->dkey, t->dvalue};
    gv_qkv_weights(w, pass, &model->layers[layer].self, c->fused_qkv);
    gv_qkv_gradients(dw, db, accumulate, model, &model->layers[layer].self, w, c->fused_qkv);
    for (int i = 0; i < 3; i++) {
        if (dw[i] != NULL || db[i] == NULL) continue; /* the weight is frozen, its bias is not */
        if (!accumulate[i]) memset(db[i], 0, (size_t)w[i].n * sizeof(float));
        gv_kernels_get()->column_sum(db[i], dys[i], i == 0 ? rows->count : pass->tokens, w[i].n, strides[i]);
        db[i] = NULL;
    }
    if (rows->index == NULL) {
        GV_TRY(gv_linear_backward_weight(dw, db, accumulate, w, 3, dys, strides, in, h, pass->tokens, error));
        GV_TRY(gv_linear_backward_input(t->d_in, h, dys, strides, w, 3, pass->tokens, false, error));
        GV_TRY(gv_qkv_adapt_backward(t->d_in, pass, layer, 0, 3, rows, dys, in, error));
        goto done;
    }
    GV_TRY(
        gv_linear_backward_weight(dw + 1, db + 1, accumulate + 1, w + 1, 2, dys + 1, strides + 1, in, h, pass->tokens, error));
    GV_TRY(gv_linear_backward_input(t->d_in, h, dys + 1, strides + 1, w + 1, 2, pass->tokens, false, error));
    GV_TRY(gv_qkv_adapt_backward(t->d_in, pass, layer, 1, 3, rows, dys, in, error));
    gv_gather_rows(t->gathered, in, rows->index, rows->count, h);
    GV_TRY(gv_linear_backward_weight(dw, db, accumulate, w, 1, dys, strides, t->gathered, h, rows->count, error));
    GV_TRY(gv_linear_backward_input(t->small, h, dys, strides, w, 1, rows->count, false, error));
    GV_TRY(gv_qkv_adapt_backward(t->small, pass, layer, 0, 1, rows, dys, t->gathered, error));
    gv_scatter_rows(t->d_in, t->small, rows->index, rows->count, h);
done:
    return status;
}

gv_status gv_layer_backward(gv_pass *pass, int64_t layer, const float *dy, const float *const *dprobs,
                            const float *const *dprojection, float *dmemory, const gv_backward_temps *t, gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = pass->model;
    const gv_config *c = &model->config;
    const gv_layer_ids *ids = &model->layers[layer];
    gv_layer_state *s = &pass->layers[layer];
    const gv_row_set *rows = layer == c->num_layers - 1 ? &pass->selected : &pass->all;
    int64_t m = rows->count, tokens = pass->tokens, h = c->hidden_size, inner = c->num_heads * c->head_dim;
    gv_norm attention_norm = gv_norm_of(model, ids->self.norm, ids->self.norm_bias, c->norm_eps);
    gv_norm mlp_norm = gv_norm_of(model, ids->mlp_norm, ids->mlp_norm_bias, c->norm_eps);
    gv_row_dropout output_dropout = gv_pass_dropout(pass, layer, GV_SITE_OUTPUT, c->hidden_dropout, rows);
    gv_attention_batch batch = gv_batch_of(pass, layer, rows, false);

    if (m == 0) {
        memset(t->dx, 0, (size_t)(tokens * h) * sizeof(float));
        return GV_OK;
    }
    if (pass->checkpoint && layer < c->num_layers - 1) {
        float *x = layer == 0 ? pass->embedded : pass->layer_inputs[layer], *unused;
        GV_TRY(gv_layer_forward(&unused, pass, layer, x, &t->again, error));
    }
    /* mlp */
    const float *base = c->cross_attention ? s->cross.sum : s->self.sum;
    if (c->pre_norm) {
        if (t->dsum != dy) memcpy(t->dsum, dy, (size_t)(m * h) * sizeof(float));
        GV_TRY(gv_norm_forward(t->normed, base, &mlp_norm, m, h));
        GV_TRY(gv_mlp_backward(pass, layer, t->normed, rows, t, error));
        GV_TRY(gv_norm_backward(t->d_in, gv_grad_added(model, ids->mlp_norm), gv_grad_added(model, ids->mlp_norm_bias), t->d_in,
                                base, &mlp_norm, m, h, t->stats));
        GV_TRY(gv_add_rows(t->dsum, t->d_in, m, h));
        if (c->cross_attention) GV_TRY(gv_cross_backward(pass, layer, dmemory, rows, t, error));
    } else {
        GV_TRY(gv_norm_backward(t->dsum, gv_grad_added(model, ids->mlp_norm), gv_grad_added(model, ids->mlp_norm_bias), dy,
                                s->sum, &mlp_norm, m, h, t->stats));
        GV_TRY(gv_norm_forward(t->normed, s->self.sum, &attention_norm, m, h));
        GV_TRY(gv_mlp_backward(pass, layer, t->normed, rows, t, error));
        GV_TRY(gv_add_rows(t->dsum, t->d_in, m, h));
        GV_TRY(gv_norm_backward(t->dsum, gv_grad_added(model, ids->self.norm), gv_grad_added(model, ids->self.norm_bias),
                                t->dsum, s->self.sum, &attention_norm, m, h, t->stats));
    }
    /* attention: dsum is the gradient at the attention's sum */
    const float *doutput = t->dsum;
    if (output_dropout.dropout.p > 0) {
        GV_TRY(gv_dropout_rows(t->small, t->dsum, &output_dropout, m, h));
        doutput = t->small;
    }
    GV_TRY(
        gv_linear_backward(t->dcontext, false, pass, layer, rows, ids->self.output, h, inner, doutput, s->self.context, error));
    float *dtable = c->position == GV_POSITION_RELATIVE ? gv_grad_added(model, model->relative_bias) : NULL;
    GV_TRY(gv_attention_backward(t->dquery, t->dkey, t->dvalue, dtable, t->dcontext, s->self.context, s->self.lse, dprobs,
                                 s->self.query, s->self.key, s->self.value, &batch, t->scratch));
    if (dprojection != NULL) {
        float *const into[3] = {t->dquery, t->dkey, t->dvalue};
        int64_t kv = c->num_kv_heads * c->head_dim;
        const int64_t sizes[3] = {m * inner, tokens * kv, tokens * kv};
        for (int i = 0; i < 3; i++) {
            if (dprojection[i] != NULL) gv_kernels_get()->add(into[i], into[i], dprojection[i], sizes[i]);
        }
    }
    GV_TRY(gv_qk_backward(pass, layer, rows, t));
    const float *x;
    GV_TRY(gv_layer_input(&x, pass, layer, t->x));
    const float *in = x;
    if (c->pre_norm) {
        GV_TRY(gv_norm_forward(t->normed, x, &attention_norm, tokens, h));
        in = t->normed;
    }
    GV_TRY(gv_qkv_backward(pass, layer, in, rows, t, error));
    if (c->pre_norm) {
        GV_TRY(gv_norm_backward(t->d_in, gv_grad_added(model, ids->self.norm), gv_grad_added(model, ids->self.norm_bias),
                                t->d_in, x, &attention_norm, tokens, h, t->stats));
    }
    if (rows->index == NULL) {
        GV_TRY(gv_residual_norm(t->dx, NULL, t->d_in, t->dsum, NULL, NULL, tokens, h));
    } else {
        memcpy(t->dx, t->d_in, (size_t)(tokens * h) * sizeof(float));
        gv_scatter_rows(t->dx, t->dsum, rows->index, m, h);
    }
done:
    return status;
}
