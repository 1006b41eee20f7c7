/* quantise.c - parameters in 8 or 4 bits, or float32 in panels: their sizes, binding what a file holds, and the way back to float32.
 *
 * Rounding and packing are done once, when a model is quantised, by govlm/train/quantise.py; here the packed arrays are used
 * where the file maps them.
 */
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "model/parameters.h"

/* A conv1d matrix is stored [in, out], and packed like any other. */
static bool gv_is_transposed(const gv_model *model, const gv_parameter *p) {
    return model->config.conv1d && p->linear && strncmp(p->name, "layers.", 7) == 0;
}

void gv_linear_shape(int64_t *n, int64_t *k, const gv_model *model, int64_t index) {
    const gv_parameter *p = &model->parameters[index];
    bool transposed = gv_is_transposed(model, p);
    *n = p->shape[transposed ? 1 : 0];
    *k = p->shape[transposed ? 0 : 1];
}

/* Outputs and inputs of one slice. */
static void gv_slice_shape(int64_t *n, int64_t *k, const gv_model *model, const gv_parameter *p) {
    bool transposed = gv_is_transposed(model, p);
    *n = p->shape[transposed ? 1 : 0] / p->slices;
    *k = p->shape[transposed ? 0 : 1];
}

static gv_status gv_check_quantisable(const gv_parameter *p, gv_error *error) {
    if (p->linear || p->embedding) return GV_OK;
    return gv_fail(error, GV_ERR_VALUE, "%s is no matrix of a linear layer and no embedding: it stays float32", p->name);
}

gv_status gv_model_quantised_sizes(gv_quantised_sizes *out, const gv_model *model, int64_t index, int64_t group,
                                   gv_error *error) {
    const gv_parameter *p = &model->parameters[index];
    int64_t n, k;
    gv_status status = gv_check_quantisable(p, error);
    if (status != GV_OK) return status;
    if (group < GV_QUANTISED_STEP || group > 256 || group % GV_QUANTISED_STEP != 0) {
        return gv_fail(error, GV_ERR_VALUE, "%s: a group of %lld inputs is not a multiple of 8 up to 256", p->name,
                       (long long)group);
    }
    gv_slice_shape(&n, &k, model, p);
    int64_t panels = (n + GV_PANEL - 1) / GV_PANEL;
    *out = (gv_quantised_sizes){.slices = p->slices,
                                .panels = panels * GV_PANEL * gv_quantised_depth(k),
                                .sums = panels * GV_PANEL * gv_quantised_groups(k, group),
                                .scales = panels * GV_PANEL,
                                .smooth = k};
    return GV_OK;
}

/* Takes `made`, [slices], also when it fails. */
static gv_status gv_put_quantised(gv_model *model, int64_t index, gv_quantised *made, gv_error *error) {
    gv_parameter *p = &model->parameters[index];
    gv_status status = GV_OK;
    pthread_rwlock_wrlock(&model->weights);
    if (model->flat != NULL) {
        status = gv_fail(error, GV_ERR_STATE, "%s: the model is trainable, so its weights are float32", p->name);
        gv_release(model->allocator, made, (size_t)p->slices * sizeof *made);
    } else {
        gv_forget_quantised(model, index);
        p->data = NULL;
        p->quantised = made;
        model->version++;
    }
    pthread_rwlock_unlock(&model->weights);
    return status;
}

gv_status gv_model_bind_quantised(gv_model *model, int64_t index, const gv_quantised_arrays *arrays, gv_error *error) {
    gv_parameter *p = &model->parameters[index];
    gv_quantised_sizes sizes;
    gv_status status = gv_model_quantised_sizes(&sizes, model, index, arrays->group, error);
    if (status != GV_OK) return status;
    if (arrays->levels < 1 || arrays->levels > 255) {
        return gv_fail(error, GV_ERR_VALUE, "%s: %d levels of activations are not in 1..255", p->name, arrays->levels);
    }
    gv_quantised *made = gv_alloc(model->allocator, (size_t)p->slices * sizeof *made);
    if (made == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for the table of a quantised weight");
    int64_t n, k;
    gv_slice_shape(&n, &k, model, p);
    for (int i = 0; i < p->slices; i++) {
        made[i] = (gv_quantised){.panels = arrays->panels + i * sizes.panels,
                                 .sums = arrays->sums + i * sizes.sums,
                                 .scale = arrays->scales + i * sizes.scales,
                                 .smooth = arrays->smooth,
                                 .n = n,
                                 .k = k,
                                 .group = arrays->group,
                                 .levels = arrays->levels};
    }
    return gv_put_quantised(model, index, made, error);
}

gv_status gv_model_blocks_sizes(gv_blocks_sizes *out, const gv_model *model, int64_t index, int bits, bool minimum,
                                gv_error *error) {
    const gv_parameter *p = &model->parameters[index];
    gv_status status = gv_check_quantisable(p, error);
    if (status != GV_OK) return status;
    if ((bits != 4 && bits != 8 && bits != 32) || (bits != 4 && minimum)) {
        return gv_fail(error, GV_ERR_VALUE, "%s: blocks have 4 bits, or 8 or 32 without a minimum, not %d%s", p->name, bits,
                       minimum ? " with one" : "");
    }
    *out = (gv_blocks_sizes){.slices = p->slices};
    gv_slice_shape(&out->outputs, &out->inputs, model, p);
    int64_t panels = (out->outputs + GV_PANEL - 1) / GV_PANEL;
    out->bytes = panels * gv_block_count(out->inputs) * gv_block_record(bits, minimum);
    return GV_OK;
}

gv_status gv_model_bind_blocks(gv_model *model, int64_t index, const uint8_t *data, int bits, bool minimum, gv_error *error) {
    gv_parameter *p = &model->parameters[index];
    gv_blocks_sizes sizes;
    gv_status status = gv_model_blocks_sizes(&sizes, model, index, bits, minimum, error);
    if (status != GV_OK) return status;
    if (bits == 32 && (uintptr_t)data % sizeof(float) != 0) {
        return gv_fail(error, GV_ERR_VALUE, "%s: blocks of floats begin at a multiple of 4 bytes", p->name);
    }
    gv_quantised *made = gv_alloc(model->allocator, (size_t)p->slices * sizeof *made);
    if (made == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for the table of a quantised weight");
    for (int i = 0; i < p->slices; i++) {
        made[i] = (gv_quantised){.n = sizes.outputs,
                                 .k = sizes.inputs,
                                 .blocks = {.data = data + i * sizes.bytes, .bits = bits, .minimum = minimum}};
    }
    return gv_put_quantised(model, index, made, error);
}

const gv_quantised *gv_quantised_of(const gv_model *model, int64_t index) {
    return index < 0 ? NULL : model->parameters[index].quantised;
}

void gv_forget_quantised(gv_model *model, int64_t index) {
    gv_parameter *p = &model->parameters[index];
    gv_release(model->allocator, p->quantised, (size_t)p->slices * sizeof *p->quantised);
    p->quantised = NULL;
}

gv_status gv_model_capture(gv_model *model, int64_t index, float *rows, int64_t most, gv_error *error) {
    gv_parameter *p = &model->parameters[index];
    gv_status status = GV_OK;
    if (!p->linear && index != model->mlm_decoder) return gv_fail(error, GV_ERR_VALUE, "%s multiplies no inputs", p->name);
    pthread_rwlock_wrlock(&model->weights);
    if (rows == NULL) {
        gv_release(model->allocator, p->capture, sizeof *p->capture);
        p->capture = NULL;
    } else {
        if (p->capture == NULL) p->capture = gv_alloc(model->allocator, sizeof *p->capture);
        if (p->capture == NULL) {
            status = gv_fail(error, GV_ERR_MEMORY, "out of memory");
        } else {
            *p->capture = (gv_capture){rows, most, 0};
        }
    }
    pthread_rwlock_unlock(&model->weights);
    return status;
}

int64_t gv_model_captured(const gv_model *model, int64_t index) {
    const gv_parameter *p = &model->parameters[index];
    return p->capture != NULL ? p->capture->count : 0;
}

enum { GV_ROW_TILE = 64 };

typedef struct {
    float *out;
    const gv_parameter *parameter;
    bool transposed;
} gv_dequantise_job;

/* out[p * stride] = w[o, p] */
static void gv_scatter_blocks(float *out, int64_t stride, const gv_quantised *w, int64_t o) {
    int64_t blocks = gv_block_count(w->k), size = gv_block_record(w->blocks.bits, w->blocks.minimum);
    gv_quantised one = {.n = GV_PANEL, .blocks = w->blocks};
    float values[GV_BLOCK];
    for (int64_t g = 0; g < blocks; g++) {
        one.k = w->k - g * GV_BLOCK < GV_BLOCK ? w->k - g * GV_BLOCK : GV_BLOCK;
        one.blocks.data = w->blocks.data + (o / GV_PANEL * blocks + g) * size;
        gv_any_row(gv_kernels_get(), values, 1.0f, &one, o % GV_PANEL, false);
        for (int64_t i = 0; i < one.k; i++) out[(g * GV_BLOCK + i) * stride] = values[i];
    }
}

static void gv_dequantise_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    const gv_dequantise_job *job = context;
    const gv_quantised *w = job->parameter->quantised;
    int64_t total = w->n * job->parameter->slices, end = (tile + 1) * GV_ROW_TILE < total ? (tile + 1) * GV_ROW_TILE : total;
    for (int64_t row = tile * GV_ROW_TILE; row < end; row++) {
        if (!job->transposed) {
            gv_any_row(gv_kernels_get(), job->out + row * w->k, 1.0f, w + row / w->n, row % w->n, false);
            continue;
        }
        const gv_quantised *part = w + row / w->n;
        int64_t o = row % w->n;
        if (part->blocks.data != NULL) {
            gv_scatter_blocks(job->out + row, total, part, o);
            continue;
        }
        const int8_t *from = part->panels + o / GV_PANEL * gv_quantised_depth(w->k) * GV_PANEL + o % GV_PANEL * 4;
        for (int64_t p = 0; p < w->k; p++) {
            float v = (float)from[p / 4 * 4 * GV_PANEL + p % 4] * part->scale[o];
            job->out[p * total + row] = part->smooth != NULL ? v * part->smooth[p] : v;
        }
    }
}

void gv_dequantise(float *out, const gv_model *model, int64_t index) {
    const gv_parameter *p = &model->parameters[index];
    int64_t n, k, tiles;
    gv_slice_shape(&n, &k, model, p);
    gv_dequantise_job job = {out, p, gv_is_transposed(model, p)};
    tiles = (n * p->slices + GV_ROW_TILE - 1) / GV_ROW_TILE;
    /* A cancelled job would leave half a weight: finish it in any case. */
    if (gv_parallel_for(tiles, gv_dequantise_tile, &job) != GV_OK) {
        for (int64_t t = 0; t < tiles; t++) gv_dequantise_tile(&job, t, 0);
    }
}

void gv_model_values(float *out, gv_model *model, int64_t index) {
    pthread_rwlock_rdlock(&model->weights);
    const gv_parameter *p = &model->parameters[index];
    if (p->quantised != NULL) {
        gv_dequantise(out, model, index);
    } else if (p->data != NULL) {
        memcpy(out, p->data, (size_t)p->size * sizeof *out);
    }
    pthread_rwlock_unlock(&model->weights);
}
