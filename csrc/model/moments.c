/* moments.c - AdamW over the flat buffer in one pass; its state lies as the parameters do and is touched lazily.
 *
 * An embedding row that no gradient has ever reached has zero moments: AdamW only decays it, so only the weight is visited.
 */
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "model/parameters.h"

enum { GV_STEP_TILE = 1 << 16 };

typedef struct {
    int64_t parameter, begin, count; /* floats within the parameter */
} gv_step_tile;

struct gv_moments {
    gv_model *model;
    float *first, *second;
    int64_t *steps; /* [parameters] */
    uint8_t **live; /* [parameters]: NULL, or of an embedding: rows with moments */
    gv_step_tile *tiles;
    int64_t tile_count;
    float *zeros; /* as long as the longest embedding row: the gradient of a row that this step did not reach */
    int64_t zero_count;
    const gv_adamw *hyper; /* during a step: [parameters] */
    const bool *chosen;
};

/* Embedding tiles hold whole rows. */
static int64_t gv_tile_floats(const gv_parameter *p) {
    if (!p->embedding) return GV_STEP_TILE;
    int64_t rows = GV_STEP_TILE / p->shape[1];
    return (rows < 1 ? 1 : rows) * p->shape[1];
}

gv_status gv_moments_create(gv_moments **out, gv_model *model, gv_error *error) {
    gv_status status = GV_OK;
    const gv_allocator *a = model->allocator;
    size_t bytes = (size_t)model->flat_size * sizeof(float), count = (size_t)model->parameter_count;
    *out = NULL;
    gv_moments *moments = gv_alloc_zero(a, sizeof *moments);
    if (moments == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for an optimiser");
    moments->model = model;
    if ((status = gv_model_make_trainable(model, error)) != GV_OK) goto done;
    for (int64_t i = 0; i < model->parameter_count; i++) {
        int64_t tile = gv_tile_floats(&model->parameters[i]);
        moments->tile_count += (model->parameters[i].size + tile - 1) / tile;
        const gv_parameter *p = &model->parameters[i];
        if (p->embedding && p->shape[1] > moments->zero_count) moments->zero_count = p->shape[1];
    }
    moments->first = gv_map_zero(a, bytes);
    moments->second = gv_map_zero(a, bytes);
    moments->steps = gv_alloc_zero(a, count * sizeof *moments->steps);
    moments->live = gv_alloc_zero(a, count * sizeof *moments->live);
    moments->zeros = gv_alloc_zero(a, (size_t)moments->zero_count * sizeof *moments->zeros);
    moments->tiles = gv_alloc_array(a, (size_t)moments->tile_count, sizeof *moments->tiles);
    bool complete = moments->first != NULL && moments->second != NULL && moments->steps != NULL && moments->live != NULL &&
                    moments->zeros != NULL && moments->tiles != NULL;
    int64_t at = 0, dense = -1;
    for (int64_t i = 0; complete && i < model->parameter_count; i++) {
        const gv_parameter *p = &model->parameters[i];
        int64_t tile = gv_tile_floats(p);
        for (int64_t begin = 0; begin < p->size; begin += tile) {
            moments->tiles[at++] = (gv_step_tile){i, begin, p->size - begin < tile ? p->size - begin : tile};
        }
        if (p->embedding) {
            moments->live[i] = gv_alloc_zero(a, (size_t)p->shape[0]);
            complete = moments->live[i] != NULL;
        } else if (dense < 0) {
            dense = p->offset;
        }
    }
    if (!complete) {
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory: the optimiser's moments need %zu MB", 2 * bytes >> 20);
        goto done;
    }
    if (dense >= 0) {
        gv_advise_huge(a, moments->first + dense, bytes - (size_t)dense * sizeof(float));
        gv_advise_huge(a, moments->second + dense, bytes - (size_t)dense * sizeof(float));
    }
done:
    if (status != GV_OK) {
        gv_moments_free(moments);
    } else {
        *out = moments;
    }
    return status;
}

void gv_moments_free(gv_moments *moments) {
    if (moments == NULL) return;
    const gv_model *model = moments->model;
    const gv_allocator *a = model->allocator;
    size_t count = (size_t)model->parameter_count;
    for (int64_t i = 0; moments->live != NULL && i < model->parameter_count; i++) {
        gv_release(a, moments->live[i], (size_t)model->parameters[i].shape[0]);
    }
    gv_release(a, moments->live, count * sizeof *moments->live);
    gv_release(a, moments->zeros, (size_t)moments->zero_count * sizeof *moments->zeros);
    gv_release(a, moments->steps, count * sizeof *moments->steps);
    gv_release(a, moments->tiles, (size_t)moments->tile_count * sizeof *moments->tiles);
    gv_unmap(a, moments->first, (size_t)model->flat_size * sizeof(float));
    gv_unmap(a, moments->second, (size_t)model->flat_size * sizeof(float));
    gv_release(a, moments, sizeof *moments);
}

float *gv_moments_first(gv_moments *moments, int64_t index) {
    return moments->first + moments->model->parameters[index].offset;
}
float *gv_moments_second(gv_moments *moments, int64_t index) {
    return moments->second + moments->model->parameters[index].offset;
}
int64_t gv_moments_step(const gv_moments *moments, int64_t index) {
    return moments->steps[index];
}

void gv_moments_set_step(gv_moments *moments, int64_t index, int64_t step) {
    const gv_parameter *p = &moments->model->parameters[index];
    moments->steps[index] = step;
    if (moments->live[index] == NULL) return;
    const float *first = gv_moments_first(moments, index), *second = gv_moments_second(moments, index);
    for (int64_t row = 0; row < p->shape[0]; row++) {
        bool live = false;
        for (int64_t c = row * p->shape[1]; c < (row + 1) * p->shape[1] && !live; c++) live = first[c] != 0 || second[c] != 0;
        moments->live[index][row] = live;
    }
}

static void gv_step(void *context, int64_t index, int worker) {
    (void)worker;
    gv_moments *moments = context;
    const gv_kernels *k = gv_kernels_get();
    const gv_step_tile *tile = &moments->tiles[index];
    if (!moments->chosen[tile->parameter]) return;
    gv_parameter *p = &moments->model->parameters[tile->parameter];
    const gv_adamw *hyper = &moments->hyper[tile->parameter];
    int64_t at = p->offset + tile->begin;
    float *weight = moments->model->flat + at;
    const uint8_t *live = moments->live[tile->parameter];
    if (live == NULL) {
        k->adamw(weight, p->grad + tile->begin, moments->first + at, moments->second + at, tile->count, hyper);
        return;
    }
    int64_t cols = p->shape[1];
    float keep = (float)(1.0 - hyper->lr * hyper->weight_decay);
    bool dense = p->state == GV_GRAD_DENSE;
    for (int64_t c = 0; c < tile->count; c += cols) {
        int64_t row = (tile->begin + c) / cols;
        if (live[row]) {
            const float *grad = dense || p->touched[row] ? p->grad + tile->begin + c : moments->zeros;
            k->adamw(weight + c, grad, moments->first + at + c, moments->second + at + c, cols, hyper);
        } else if (hyper->weight_decay != 0) {
            k->scale(weight + c, keep, weight + c, cols);
        }
    }
}

gv_status gv_moments_adamw(gv_moments *moments, const int64_t *indices, int64_t count, const gv_adamw_group *group,
                           gv_error *error) {
    gv_status status = GV_OK;
    gv_model *model = moments->model;
    size_t n = (size_t)model->parameter_count;
    gv_adamw *hyper = gv_alloc_zero(model->allocator, n * sizeof *hyper);
    bool *chosen = gv_alloc_zero(model->allocator, n * sizeof *chosen);
    if (hyper == NULL || chosen == NULL) {
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory for an optimiser step");
        goto done;
    }
    pthread_mutex_lock(&model->lock);
    for (int64_t i = 0; i < count; i++) {
        gv_parameter *p = &model->parameters[indices[i]];
        if (p->state == GV_GRAD_NONE || !p->requires_grad || chosen[indices[i]]) continue;
        chosen[indices[i]] = true;
        hyper[indices[i]] = (gv_adamw){.lr = group->lr,
                                       .beta1 = group->beta1,
                                       .beta2 = group->beta2,
                                       .eps = group->eps,
                                       .weight_decay = group->weight_decay,
                                       .step = ++moments->steps[indices[i]],
                                       .grad_scale = 1};
        uint8_t *live = moments->live[indices[i]];
        if (live == NULL) continue;
        if (p->state == GV_GRAD_DENSE) {
            memset(live, 1, (size_t)p->shape[0]);
        } else {
            for (int64_t row = 0; row < p->shape[0]; row++) live[row] |= p->touched[row];
        }
    }
    moments->hyper = hyper;
    moments->chosen = chosen;
    pthread_rwlock_wrlock(&model->weights);
    model->version++;
    /* A step must not stop half-way: Ctrl-C waits for it (some tens of milliseconds). */
    const volatile int *cancel = gv_parallel_set_cancel(NULL);
    status = gv_parallel_for(moments->tile_count, gv_step, moments);
    (void)gv_parallel_set_cancel(cancel);
    pthread_rwlock_unlock(&model->weights);
    moments->hyper = NULL;
    moments->chosen = NULL;
    pthread_mutex_unlock(&model->lock);
    if (status != GV_OK) (void)gv_fail(error, status, "the optimiser step did not run to its end");
done:
    gv_release(model->allocator, hyper, n * sizeof *hyper);
    gv_release(model->allocator, chosen, n * sizeof *chosen);
    return status;
}
