/* heads.c - pooler, sequence and token classification, masked and causal LM; their losses and gradients.
 *
 * Logits over the vocabulary are made in chunks of rows: forwards for the loss, backwards once more for the gradient, so that
 * [rows, vocabulary] is never held whole unless the caller asked for the logits.
 */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "base/try.h"
#include "model/pass.h"

enum { GV_CHUNK_ROWS = 64, GV_UNPACK_ROWS = 256 };

/* Rows whose logits are made at once. A weight in few bits is unpacked once more for every chunk, so chunks are larger there. */
static int64_t gv_chunk_rows(const gv_pass *pass) {
    int64_t r = pass->selected.count, most = GV_CHUNK_ROWS;
    if (pass->exact && gv_quantised_of(pass->model, pass->model->mlm_decoder) != NULL) most = GV_UNPACK_ROWS;
    int64_t count = (r + most - 1) / most;
    return count > 1 ? (r + count - 1) / count : r;
}

static bool gv_is_frozen(const gv_model *model, int64_t index) {
    return index < 0 || !model->parameters[index].requires_grad;
}

/* Whether the forward makes the gradient at mlm_out at once, while a chunk's logits are there: where nothing else is wanted of
 * them, that saves a product. */
static bool gv_fuses_loss(const gv_pass *pass) {
    const gv_model *model = pass->model;
    bool rounded = gv_quantised_of(model, model->mlm_decoder) != NULL && !pass->exact;
    return pass->save && pass->labels != NULL && !pass->wants_logits && !rounded && gv_is_frozen(model, model->mlm_decoder) &&
           gv_is_frozen(model, model->mlm_bias);
}

void gv_head_take_results(gv_pass *pass, gv_arena *arena, bool want_logits) {
    const gv_config *c = &pass->model->config;
    pass->wants_logits = want_logits;
    if (c->pooler) pass->pooled = gv_arena_floats(arena, pass->sequences * c->hidden_size);
    if (c->head == GV_HEAD_SEQUENCE || c->head == GV_HEAD_TOKEN || (gv_speaks(c) && want_logits)) {
        pass->logits = gv_arena_floats(arena, pass->head_set.count * pass->logit_cols);
    }
}

void gv_head_take(gv_pass *pass, gv_arena *arena) {
    const gv_config *c = &pass->model->config;
    int64_t b = pass->sequences, r = pass->selected.count, h = c->hidden_size, e = c->embedding_size;
    if (c->pooler || c->head == GV_HEAD_SEQUENCE) pass->pooler_in = gv_arena_floats(arena, b * h);
    if (c->pooler) pass->pooler_before = gv_arena_floats(arena, b * h);
    if (c->head == GV_HEAD_SEQUENCE || c->head == GV_HEAD_TOKEN) {
        pass->head_in = gv_arena_floats(arena, pass->head_set.count * h);
        pass->chunk = gv_arena_floats(arena, pass->head_set.count * c->num_labels);
    }
    if (c->head == GV_HEAD_MLM) {
        pass->mlm_before = gv_arena_floats(arena, r * e);
        pass->mlm_act = gv_arena_floats(arena, r * e);
        pass->mlm_out = gv_arena_floats(arena, r * e);
    }
    if (c->head == GV_HEAD_LM && c->logit_scale != 1) pass->mlm_out = gv_arena_floats(arena, r * h);
    if (gv_speaks(c)) {
        pass->chunk = gv_arena_floats(arena, gv_chunk_rows(pass) * c->vocab_size);
        pass->mlm_gradient = gv_fuses_loss(pass) ? gv_arena_floats(arena, r * e) : NULL;
    }
    if (c->head != GV_HEAD_NONE) {
        pass->row_loss = gv_arena_floats(arena, pass->head_set.count);
        pass->row_scale = gv_arena_floats(arena, pass->head_set.count);
    }
}

/* ---- losses: rows [0, count) of [count, cols] --------------------------------------------------------------------- */

typedef struct {
    float *loss, *x;
    const int64_t *label;
    const float *scale;
    int64_t cols;
} gv_entropy_job;

static void gv_entropy_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    const gv_entropy_job *job = context;
    gv_kernels_get()->cross_entropy(job->loss + tile, job->x + tile * job->cols, job->label + tile,
                                    job->scale != NULL ? job->scale + tile : NULL, 1, job->cols);
}

static gv_status gv_entropy(float *loss, float *x, const int64_t *label, const float *scale, int64_t rows, int64_t cols) {
    if (rows * cols < 1 << 14) {
        gv_kernels_get()->cross_entropy(loss, x, label, scale, rows, cols);
        return GV_OK;
    }
    gv_entropy_job job = {loss, x, label, scale, cols};
    return gv_parallel_for(rows, gv_entropy_tile, &job);
}

static double gv_row_weight(const gv_pass *pass, int64_t row) {
    int64_t label = pass->labels[row];
    if (label == -100) return 0;
    return pass->class_weights != NULL ? (double)pass->class_weights[label] : 1;
}

static void gv_row_scales(gv_pass *pass, double scale) {
    for (int64_t i = 0; i < pass->head_set.count; i++)
        pass->row_scale[i] = (float)(scale * gv_row_weight(pass, i) / pass->label_weight);
}

static double gv_softplus(double x) {
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* BCE with logits, or mean squared error; gradient (times scale) into dx when not NULL, added. */
static double gv_value_loss(float *dx, const gv_pass *pass, double scale) {
    int64_t n = pass->sequences * pass->logit_cols;
    double total = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = pass->logits[i], y = pass->label_values[i];
        if (pass->loss_kind == GV_LOSS_MULTI_LABEL) {
            total += gv_softplus(x) - x * y;
            if (dx != NULL) dx[i] += (float)(scale * (1 / (1 + exp(-x)) - y) / (double)n);
        } else {
            total += (x - y) * (x - y);
            if (dx != NULL) dx[i] += (float)(scale * 2 * (x - y) / (double)n);
        }
    }
    return total / (double)n;
}

/* ---- forward ------------------------------------------------------------------------------------------------------ */

static gv_status gv_first_forward(gv_pass *pass, gv_error *error) {
    gv_status status = GV_OK;
    const gv_model *model = pass->model;
    const gv_config *c = &model->config;
    int64_t h = c->hidden_size;
    gv_row_dropout dropout = gv_pass_dropout(pass, c->num_layers, GV_SITE_POOLER, c->pooler_dropout, &pass->head_set);
    for (int64_t b = 0; b < pass->sequences; b++) {
        if (pass->first[b] >= 0) {
            memcpy(pass->pooler_in + b * h, pass->last + pass->first[b] * h, (size_t)h * sizeof(float));
        } else {
            memset(pass->pooler_in + b * h, 0, (size_t)h * sizeof(float));
        }
    }
    if (!c->pooler) goto done;
    GV_TRY(gv_dropout_rows(pass->pooler_in, pass->pooler_in, &dropout, pass->sequences, h));
    GV_TRY(
        gv_linear(pass->pooler_before, pass, c->num_layers, &pass->sequence_set, model->pooler, h, h, pass->pooler_in, error));
    gv_kernels_get()->activation(GV_ACT_TANH, pass->pooled, pass->pooler_before, pass->sequences * h);
done:
    return status;
}

static gv_status gv_classifier_forward(gv_pass *pass, const float *in, gv_error *error) {
    gv_status status = GV_OK;
    const gv_model *model = pass->model;
    const gv_config *c = &model->config;
    int64_t rows = pass->head_set.count, h = c->hidden_size;
    gv_row_dropout dropout = gv_pass_dropout(pass, c->num_layers, GV_SITE_CLASSIFIER, c->classifier_dropout, &pass->head_set);
    GV_TRY(gv_dropout_rows(pass->head_in, in, &dropout, rows, h));
    GV_TRY(gv_linear(pass->logits, pass, c->num_layers, &pass->head_set, model->classifier, c->num_labels, h, pass->head_in,
                     error));
done:
    return status;
}

static gv_status gv_decode(float *logits, gv_pass *pass, int64_t first, int64_t rows, gv_error *error) {
    const gv_model *model = pass->model;
    const gv_linear_ids decoder = {model->mlm_decoder, model->mlm_bias};
    int64_t e = model->config.embedding_size;
    return gv_plain_linear(logits, pass, decoder, model->config.vocab_size, e, pass->mlm_out + first * e, rows, error);
}

/* What the decoder multiplies: of a masked LM the transformed rows, of a causal one the last hidden state itself. */
static gv_status gv_transform_forward(gv_pass *pass, gv_error *error) {
    gv_status status = GV_OK;
    const gv_model *model = pass->model;
    const gv_config *c = &model->config;
    int64_t r = pass->selected.count, e = c->embedding_size;
    if (c->head == GV_HEAD_LM) {
        if (c->logit_scale == 1) {
            pass->mlm_out = pass->last;
        } else {
            gv_kernels_get()->scale(pass->mlm_out, (float)c->logit_scale, pass->last, r * e);
        }
        return GV_OK;
    }
    gv_norm norm = {gv_data(model, model->mlm_norm), gv_data(model, model->mlm_norm_bias), (float)c->head_norm_eps, false};
    GV_TRY(gv_linear(pass->mlm_before, pass, c->num_layers, &pass->selected, model->mlm_dense, e, c->hidden_size, pass->last,
                     error));
    GV_TRY(gv_activate_rows(pass->mlm_act, NULL, pass->mlm_before, (gv_activation)c->head_activation, NULL, r, e));
    GV_TRY(gv_norm_forward(pass->mlm_out, pass->mlm_act, &norm, r, e));
done:
    return status;
}

static gv_status gv_vocabulary_forward(gv_pass *pass, gv_error *error) {
    gv_status status = GV_OK;
    const gv_model *model = pass->model;
    int64_t r = pass->selected.count, v = model->config.vocab_size, e = model->config.embedding_size;
    int64_t step = gv_chunk_rows(pass);
    GV_TRY(gv_transform_forward(pass, error));
    if (pass->logits != NULL) GV_TRY(gv_decode(pass->logits, pass, 0, r, error));
    if (pass->labels == NULL) goto done;
    if (pass->mlm_gradient != NULL) gv_row_scales(pass, 1);
    for (int64_t first = 0; first < r; first += step) {
        int64_t rows = r - first < step ? r - first : step;
        float *logits = pass->chunk;
        if (pass->logits != NULL) {
            logits = pass->logits + first * v;
        } else {
            GV_TRY(gv_decode(logits, pass, first, rows, error));
        }
        const float *scales = pass->mlm_gradient != NULL ? pass->row_scale + first : NULL;
        GV_TRY(gv_entropy(pass->row_loss + first, logits, pass->labels + first, scales, rows, v));
        if (scales == NULL) continue;
        const gv_linear_ids decoder = {model->mlm_decoder, model->mlm_bias};
        GV_TRY(gv_plain_linear_backward(pass->mlm_gradient + first * e, false, pass, decoder, v, e, logits,
                                        pass->mlm_out + first * e, rows, error));
    }
done:
    return status;
}

gv_status gv_head_forward(gv_pass *pass, gv_error *error) {
    gv_status status = GV_OK;
    const gv_config *c = &pass->model->config;
    pass->label_weight = 0;
    for (int64_t i = 0; pass->labels != NULL && i < pass->head_set.count; i++) pass->label_weight += gv_row_weight(pass, i);
    if (pass->pooler_in != NULL) GV_TRY(gv_first_forward(pass, error));
    if (c->head == GV_HEAD_SEQUENCE) GV_TRY(gv_classifier_forward(pass, c->pooler ? pass->pooled : pass->pooler_in, error));
    if (c->head == GV_HEAD_TOKEN) GV_TRY(gv_classifier_forward(pass, pass->last, error));
    if (gv_speaks(c)) GV_TRY(gv_vocabulary_forward(pass, error));
    if (pass->label_values != NULL) {
        pass->loss = gv_value_loss(NULL, pass, 0);
        pass->has_loss = true;
    }
    if (pass->labels != NULL) {
        int64_t rows = pass->head_set.count;
        if (!gv_speaks(c)) {
            GV_TRY(gv_entropy(pass->row_loss, pass->logits, pass->labels, NULL, rows, pass->logit_cols));
        }
        double total = 0;
        for (int64_t i = 0; i < rows; i++) {
            double weight = gv_row_weight(pass, i);
            /* 0 * NaN is NaN: an ignored row must not count at all */
            if (weight != 0) total += weight * (double)pass->row_loss[i];
        }
        pass->loss = total / pass->label_weight;
        pass->has_loss = true;
    }
done:
    return status;
}

/* ---- backward ----------------------------------------------------------------------------------------------------- */

/* Gradient at rows [first, first + rows) of the logits into `out`, which holds the logits. */
static gv_status gv_logit_gradient(float *out, gv_pass *pass, const gv_backward_args *args, int64_t first, int64_t rows) {
    gv_status status = GV_OK;
    int64_t n = rows * pass->logit_cols;
    if (args->has_scale && pass->labels != NULL) {
        status = gv_entropy(pass->row_loss + first, out, pass->labels + first, pass->row_scale + first, rows, pass->logit_cols);
    } else {
        memset(out, 0, (size_t)n * sizeof(float));
        if (args->has_scale && pass->label_values != NULL) (void)gv_value_loss(out, pass, args->scale);
    }
    if (status == GV_OK && args->logits != NULL) gv_kernels_get()->add(out, out, args->logits + first * pass->logit_cols, n);
    return status;
}

static gv_status gv_vocabulary_backward(float *dlast, gv_pass *pass, const gv_backward_args *args, gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = pass->model;
    const gv_config *c = &model->config;
    const gv_linear_ids decoder = {model->mlm_decoder, model->mlm_bias};
    int64_t r = pass->selected.count, e = c->embedding_size, v = c->vocab_size;
    gv_norm norm = {gv_data(model, model->mlm_norm), gv_data(model, model->mlm_norm_bias), (float)c->head_norm_eps, false};
    gv_arena arena = {0};
    GV_TRY(gv_workspaces_borrow(&arena, model->workspaces, (size_t)(r * e + 2 * r + 64) * sizeof(float), error));
    float *dout = gv_arena_floats(&arena, r * e), *stats = gv_arena_floats(&arena, 2 * r);
    bool made = pass->mlm_gradient != NULL && args->logits == NULL && gv_is_frozen(model, decoder.weight) &&
                gv_is_frozen(model, decoder.bias);
    int64_t step = gv_chunk_rows(pass);
    if (made) gv_kernels_get()->scale(dout, args->has_scale ? (float)args->scale : 0.0f, pass->mlm_gradient, r * e);
    for (int64_t first = 0; !made && first < r; first += step) {
        int64_t rows = r - first < step ? r - first : step;
        if (pass->logits != NULL) {
            memcpy(pass->chunk, pass->logits + first * v, (size_t)(rows * v) * sizeof(float));
        } else {
            GV_TRY(gv_decode(pass->chunk, pass, first, rows, error));
        }
        GV_TRY(gv_logit_gradient(pass->chunk, pass, args, first, rows));
        GV_TRY(gv_plain_linear_backward(dout + first * e, false, pass, decoder, v, e, pass->chunk, pass->mlm_out + first * e,
                                        rows, error));
    }
    if (c->head == GV_HEAD_LM) {
        if (c->logit_scale != 1) gv_kernels_get()->scale(dout, (float)c->logit_scale, dout, r * e);
        gv_kernels_get()->add(dlast, dlast, dout, r * e);
        goto done;
    }
    GV_TRY(gv_norm_backward(dout, gv_grad_added(model, model->mlm_norm), gv_grad_added(model, model->mlm_norm_bias), dout,
                            pass->mlm_act, &norm, r, e, stats));
    GV_TRY(gv_activate_rows_backward(dout, NULL, NULL, pass->mlm_before, (gv_activation)c->head_activation, NULL, r, e));
    GV_TRY(gv_linear_backward(dlast, true, pass, c->num_layers, &pass->selected, model->mlm_dense, e, c->hidden_size, dout,
                              pass->last, error));
done:
    gv_workspaces_return(model->workspaces, &arena);
    return status;
}

/* dpooled [B, H]: gradient at the pooled vectors, or (no pooler) at the first tokens. */
static gv_status gv_first_backward(float *dlast, float *dpooled, gv_pass *pass, gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = pass->model;
    const gv_config *c = &model->config;
    int64_t b = pass->sequences, h = c->hidden_size;
    gv_row_dropout dropout = gv_pass_dropout(pass, c->num_layers, GV_SITE_POOLER, c->pooler_dropout, &pass->head_set);
    gv_arena arena = {0};
    if (c->pooler) {
        GV_TRY(gv_workspaces_borrow(&arena, model->workspaces, (size_t)(b * h + 64) * sizeof(float), error));
        float *dfirst = gv_arena_floats(&arena, b * h);
        gv_kernels_get()->activation_backward(GV_ACT_TANH, dpooled, dpooled, pass->pooler_before, b * h);
        GV_TRY(gv_linear_backward(dfirst, false, pass, c->num_layers, &pass->sequence_set, model->pooler, h, h, dpooled,
                                  pass->pooler_in, error));
        GV_TRY(gv_dropout_rows(dfirst, dfirst, &dropout, b, h));
        dpooled = dfirst;
    }
    for (int64_t i = 0; i < b; i++) {
        if (pass->first[i] >= 0)
            gv_kernels_get()->add(dlast + pass->first[i] * h, dlast + pass->first[i] * h, dpooled + i * h, h);
    }
done:
    gv_workspaces_return(model->workspaces, &arena);
    return status;
}

gv_status gv_head_backward(float *dlast, gv_pass *pass, const gv_backward_args *args, gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = pass->model;
    const gv_config *c = &model->config;
    int64_t rows = pass->head_set.count, h = c->hidden_size;
    bool through_logits = (args->has_scale && pass->has_loss) || args->logits != NULL;
    gv_arena arena = {0};
    memset(dlast, 0, (size_t)(pass->selected.count * h) * sizeof(float));
    if (through_logits && pass->labels != NULL) gv_row_scales(pass, args->has_scale ? args->scale : 0);
    if (gv_speaks(c)) {
        if (through_logits && pass->selected.count > 0) GV_TRY(gv_vocabulary_backward(dlast, pass, args, error));
        if (args->pooled == NULL) goto done;
    }
    if (rows == 0 && pass->sequences == 0) goto done;
    int64_t most = rows > pass->sequences ? rows : pass->sequences;
    GV_TRY(gv_workspaces_borrow(&arena, model->workspaces, (size_t)(most * h + 64) * sizeof(float), error));
    float *din = gv_arena_floats(&arena, most * h);
    bool first = false;
    if (through_logits && (c->head == GV_HEAD_SEQUENCE || c->head == GV_HEAD_TOKEN)) {
        gv_row_dropout dropout =
            gv_pass_dropout(pass, c->num_layers, GV_SITE_CLASSIFIER, c->classifier_dropout, &pass->head_set);
        memcpy(pass->chunk, pass->logits, (size_t)(rows * pass->logit_cols) * sizeof(float));
        GV_TRY(gv_logit_gradient(pass->chunk, pass, args, 0, rows));
        GV_TRY(gv_linear_backward(din, false, pass, c->num_layers, &pass->head_set, model->classifier, c->num_labels, h,
                                  pass->chunk, pass->head_in, error));
        GV_TRY(gv_dropout_rows(din, din, &dropout, rows, h));
        if (c->head == GV_HEAD_TOKEN) {
            GV_TRY(gv_add_rows(dlast, din, rows, h));
        } else {
            first = true;
        }
    }
    if (args->pooled != NULL) {
        if (first) {
            gv_kernels_get()->add(din, din, args->pooled, pass->sequences * h);
        } else {
            memcpy(din, args->pooled, (size_t)(pass->sequences * h) * sizeof(float));
        }
        first = true;
    }
    if (first) GV_TRY(gv_first_backward(dlast, din, pass, error));
done:
    gv_workspaces_return(model->workspaces, &arena);
    return status;
}
