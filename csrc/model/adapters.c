/* adapters.c - see adapters.h: making one, which rows of a batch go through which, and the gradients. */
#include "model/adapters.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/try.h"
#include "nn/lora.h"

/* ---- making ------------------------------------------------------------------------------------------------------- */

void gv_adapter_forget(gv_model *adapter) {
    gv_adapter *table = adapter->adapter;
    if (table == NULL) return;
    size_t size = (size_t)table->base_count * sizeof(int64_t);
    gv_release(adapter->allocator, table->a, size);
    gv_release(adapter->allocator, table->b, size);
    gv_release(adapter->allocator, table->whole, size);
    gv_release(adapter->allocator, table, sizeof *table);
    adapter->adapter = NULL;
}

static gv_status gv_check_target(const gv_model *base, int64_t index, const gv_adapter *table, gv_error *error) {
    if (index < 0 || index >= base->parameter_count) return gv_fail(error, GV_ERR_INDEX, "there is no such parameter");
    const gv_parameter *p = &base->parameters[index];
    if (!p->linear || p->embedding || index == base->mlm_decoder) {
        return gv_fail(error, GV_ERR_VALUE, "%s is no matrix of a linear layer that an adapter could go with", p->name);
    }
    if (table->a[index] >= 0) return gv_fail(error, GV_ERR_VALUE, "%s is named twice", p->name);
    return GV_OK;
}

static gv_status gv_check_whole(const gv_model *base, int64_t index, const gv_adapter *table, gv_error *error) {
    if (index < 0 || index >= base->parameter_count) return gv_fail(error, GV_ERR_INDEX, "there is no such parameter");
    const gv_parameter *p = &base->parameters[index];
    bool ours = index == base->pooler.weight || index == base->pooler.bias || index == base->classifier.weight ||
                index == base->classifier.bias;
    if (!ours) return gv_fail(error, GV_ERR_VALUE, "an adapter cannot hold %s whole, only a pooler or classifier", p->name);
    if (table->whole[index] >= 0 || table->a[index] >= 0) return gv_fail(error, GV_ERR_VALUE, "%s is named twice", p->name);
    return GV_OK;
}

/* A head is held whole with all that belongs to it: a matrix without its bias would run without one. */
static gv_status gv_check_head(const gv_model *base, gv_linear_ids head, const gv_adapter *table, gv_error *error) {
    if (head.weight < 0 || head.bias < 0 || (table->whole[head.weight] >= 0) == (table->whole[head.bias] >= 0)) return GV_OK;
    return gv_fail(error, GV_ERR_VALUE, "an adapter holds %s and %s whole together or not at all",
                   base->parameters[head.weight].name, base->parameters[head.bias].name);
}

/* "layers.0.attention.query.weight" -> "layers.0.attention.query.lora_A.weight" */
static void gv_low_rank_name(char out[64], const char *name, const char *part) {
    int stem = (int)(strlen(name) - strlen(".weight"));
    (void)snprintf(out, 64, "%.*s.%s.weight", stem, name, part);
}

gv_status gv_adapter_create(gv_model **out, const gv_model *base, const gv_adapter_options *options, gv_error *error) {
    gv_status status = GV_OK;
    gv_error local = {0};
    gv_model *made = NULL;
    char name[64];
    *out = NULL;
    if (error == NULL) error = &local;
    if (base->adapter != NULL) return gv_fail(error, GV_ERR_VALUE, "an adapter cannot have an adapter");
    if (options->rank < 1 || options->rank > 4096) {
        return gv_fail(error, GV_ERR_VALUE, "an adapter's rank must be in 1..4096, not %lld", (long long)options->rank);
    }
    if (!isfinite((float)options->scale)) {
        return gv_fail(error, GV_ERR_VALUE, "an adapter's scale must be a finite number, not %g", options->scale);
    }
    if (!(options->dropout >= 0 && options->dropout < 1)) {
        return gv_fail(error, GV_ERR_VALUE, "an adapter's dropout must be in [0, 1), not %g", options->dropout);
    }
    GV_TRY(gv_parameters_create(&made, 2 * options->target_count + options->whole_count, base->allocator, error));
    gv_adapter *table = made->adapter = gv_alloc_zero(base->allocator, sizeof *table);
    bool complete = table != NULL;
    if (complete) {
        *table = (gv_adapter){.base = base,
                              .rank = options->rank,
                              .base_count = base->parameter_count,
                              .scale = (float)options->scale,
                              .dropout = options->dropout};
        int64_t **const lists[] = {&table->a, &table->b, &table->whole};
        for (int i = 0; i < 3; i++) {
            *lists[i] = gv_alloc_array(base->allocator, (size_t)base->parameter_count, sizeof(int64_t));
            complete = complete && *lists[i] != NULL;
            if (*lists[i] != NULL) memset(*lists[i], 0xFF, (size_t)base->parameter_count * sizeof(int64_t)); /* -1 */
        }
    }
    if (!complete) {
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory for an adapter's table");
        goto done;
    }
    for (int64_t i = 0; i < options->target_count; i++) {
        int64_t index = options->targets[i], n, k;
        GV_TRY(gv_check_target(base, index, table, error));
        gv_linear_shape(&n, &k, base, index);
        gv_low_rank_name(name, base->parameters[index].name, "lora_A");
        table->a[index] = gv_register(made, options->rank, k, "%s", name);
        gv_low_rank_name(name, base->parameters[index].name, "lora_B");
        table->b[index] = gv_register(made, n, options->rank, "%s", name);
    }
    for (int64_t i = 0; i < options->whole_count; i++) {
        int64_t index = options->whole[i];
        GV_TRY(gv_check_whole(base, index, table, error));
        const gv_parameter *p = &base->parameters[index];
        table->whole[index] = gv_register(made, p->shape[0], p->dimensions == 1 ? 0 : p->shape[1], "%s", p->name);
    }
    GV_TRY(gv_check_head(base, base->pooler, table, error));
    GV_TRY(gv_check_head(base, base->classifier, table, error));
done:
    if (status != GV_OK) {
        gv_model_free(made);
    } else {
        *out = made;
    }
    return status;
}

/* ---- in a pass ---------------------------------------------------------------------------------------------------- */

gv_status gv_check_adapters(const gv_model *model, const gv_adapter_choice *choice, int64_t sequences, gv_error *error) {
    gv_status status = GV_OK;
    if (choice->count > 1 && choice->which == NULL) {
        return gv_fail(error, GV_ERR_VALUE, "%lld adapters need adapter_of, which says whose each sequence is",
                       (long long)choice->count);
    }
    for (int64_t i = 0; i < choice->count; i++) {
        const gv_model *adapter = choice->adapters[i];
        if (adapter->adapter == NULL || adapter->adapter->base != model) {
            return gv_fail(error, GV_ERR_VALUE, "adapters[%lld] was not made for this model", (long long)i);
        }
        for (int64_t j = 0; j < i; j++) {
            if (choice->adapters[j] == adapter) {
                return gv_fail(error, GV_ERR_VALUE, "adapters[%lld] and adapters[%lld] are the same", (long long)j,
                               (long long)i);
            }
        }
        GV_TRY(gv_check_bound(adapter, error));
    }
    for (int64_t b = 0; choice->count > 0 && choice->which != NULL && b < sequences; b++) {
        if (choice->which[b] < -1 || choice->which[b] >= choice->count) {
            return gv_fail(error, GV_ERR_INDEX, "adapter_of[%lld] is %d, outside -1..%lld", (long long)b, choice->which[b],
                           (long long)choice->count - 1);
        }
    }
done:
    return status;
}

void gv_adapters_read_lock(const gv_adapter_choice *choice) {
    for (int64_t i = 0; i < choice->count; i++) pthread_rwlock_rdlock(&choice->adapters[i]->weights);
}

void gv_adapters_unlock(const gv_adapter_choice *choice) {
    for (int64_t i = 0; i < choice->count; i++) pthread_rwlock_unlock(&choice->adapters[i]->weights);
}

bool gv_adapters_train(const gv_pass *pass) {
    for (int64_t i = 0; i < pass->adapters.count; i++) {
        if (gv_model_trains(pass->adapters.adapters[i])) return true;
    }
    return false;
}

bool gv_adapts(const gv_pass *pass, int64_t weight) {
    for (int64_t i = 0; weight >= 0 && i < pass->adapters.count; i++) {
        if (pass->adapters.adapters[i]->adapter->a[weight] >= 0) return true;
    }
    return false;
}

bool gv_replaces(const gv_pass *pass, int64_t weight) {
    for (int64_t i = 0; weight >= 0 && i < pass->adapters.count; i++) {
        if (pass->adapters.adapters[i]->adapter->whole[weight] >= 0) return true;
    }
    return false;
}

static gv_model *gv_adapter_of(const gv_pass *pass, int64_t sequence) {
    const gv_adapter_choice *c = &pass->adapters;
    if (c->count == 0) return NULL;
    int32_t which = c->which != NULL ? c->which[sequence] : 0;
    return which < 0 ? NULL : c->adapters[which];
}

bool gv_next_segment(gv_segment *segment, int64_t *sequence, const gv_pass *pass, const gv_row_set *rows) {
    if (*sequence >= pass->sequences || rows->count == 0) return false;
    int64_t b = *sequence, first = rows->splits != NULL ? rows->splits[b] : b;
    gv_model *adapter = gv_adapter_of(pass, b);
    while (b < pass->sequences && gv_adapter_of(pass, b) == adapter) b++;
    *segment = (gv_segment){first, (rows->splits != NULL ? rows->splits[b] : b) - first, adapter};
    *sequence = b;
    return true;
}

/* A bit that no other stream of dropout has, and the matrix; of layers that share it, the layer too. */
static uint32_t gv_adapter_site(const gv_pass *pass, int64_t layer, int64_t weight) {
    return 0x80000000u | (uint32_t)(weight + (pass->model->config.shared_layers ? layer * 64 : 0));
}

static gv_lora gv_lora_of(const gv_pass *pass, int64_t layer, const gv_segment *at, const gv_row_set *rows, int64_t weight,
                          int64_t first, int64_t n, int64_t k) {
    const gv_adapter *table = at->adapter->adapter;
    float p = pass->training ? (float)table->dropout : 0.0f;
    return (gv_lora){
        .a = gv_data(at->adapter, table->a[weight]),
        .b = gv_data(at->adapter, table->b[weight]) + first * table->rank,
        .rank = table->rank,
        .n = n,
        .k = k,
        .scale = table->scale,
        .dropout = {{pass->seed, pass->step, gv_adapter_site(pass, layer, weight), p},
                    rows->sample != NULL ? rows->sample + at->first : NULL,
                    rows->position != NULL ? rows->position + at->first : NULL},
    };
}

gv_status gv_adapt(float *y, int64_t y_stride, const gv_pass *pass, int64_t layer, const gv_row_set *rows, int64_t weight,
                   int64_t first, int64_t n, int64_t k, const float *x, gv_error *error) {
    gv_status status = GV_OK;
    gv_arena arena = {0};
    gv_segment at;
    if (!gv_adapts(pass, weight)) return GV_OK;
    for (int64_t b = 0; gv_next_segment(&at, &b, pass, rows);) {
        if (at.adapter == NULL || at.adapter->adapter->a[weight] < 0 || at.count == 0) continue;
        gv_lora lora = gv_lora_of(pass, layer, &at, rows, weight, first, n, k);
        int64_t floats = gv_lora_scratch(&lora, at.count, pass->width);
        GV_TRY(gv_workspaces_borrow(&arena, pass->model->workspaces, (size_t)floats * sizeof(float) + 64, error));
        GV_TRY(gv_lora_forward(y + at.first * y_stride, y_stride, &lora, x + at.first * k, at.count,
                               gv_arena_floats(&arena, floats)));
        gv_workspaces_return(pass->model->workspaces, &arena);
    }
done:
    gv_workspaces_return(pass->model->workspaces, &arena);
    return status;
}

gv_status gv_adapt_backward(float *dx, const gv_pass *pass, int64_t layer, const gv_row_set *rows, int64_t weight,
                            int64_t first, int64_t n, int64_t k, const float *dy, int64_t dy_stride, const float *x,
                            gv_error *error) {
    gv_status status = GV_OK;
    gv_arena arena = {0};
    gv_segment at;
    if (!gv_adapts(pass, weight)) return GV_OK;
    for (int64_t b = 0; gv_next_segment(&at, &b, pass, rows);) {
        if (at.adapter == NULL || at.adapter->adapter->a[weight] < 0 || at.count == 0) continue;
        gv_lora lora = gv_lora_of(pass, layer, &at, rows, weight, first, n, k);
        int64_t floats = gv_lora_scratch(&lora, at.count, pass->width), a = at.adapter->adapter->a[weight];
        float *da = gv_grad_added(at.adapter, a); /* NULL where it is frozen: A and B each for itself */
        float *db = gv_grad_added(at.adapter, at.adapter->adapter->b[weight]);
        GV_TRY(gv_workspaces_borrow(&arena, pass->model->workspaces, (size_t)floats * sizeof(float) + 64, error));
        GV_TRY(gv_lora_backward(dx != NULL ? dx + at.first * k : NULL, da, db != NULL ? db + first * lora.rank : NULL, &lora,
                                dy + at.first * dy_stride, dy_stride, x + at.first * k, at.count,
                                gv_arena_floats(&arena, floats)));
        gv_workspaces_return(pass->model->workspaces, &arena);
    }
done:
    gv_workspaces_return(pass->model->workspaces, &arena);
    return status;
}
