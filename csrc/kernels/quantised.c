/* quantised.c - linear layers whose weights are quantised, over the thread pool: activations rounded once, then tiles of
 * panels. Few rows are rounded by every worker for itself (that is quicker than waiting for each other); many, in a job of
 * their own.
 */
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "kernels/gemm.h"

enum {
    GV_OWN_ELEMENTS = 1 << 15,  /* of x: up to here each worker rounds all of it */
    GV_TILE_BYTES = 192 * 1024, /* of rounded x: stays in the L2 cache beside a panel */
    GV_TILE_PANELS = 12,
    GV_ROUND_ROWS = 16
};

typedef struct {
    const gv_kernels *kernels;
    const gv_weight *weights;
    int count;
    int64_t m, rows, row_tiles;                                  /* rows of x a tile */
    int64_t panels[GV_LINEAR_GROUP], col_tiles[GV_LINEAR_GROUP]; /* panels a tile, tiles */
    gv_activation activation;
    float *const *y;
    const int64_t *y_stride;
    float *const *before;
    const float *x;
    int64_t x_stride;
    gv_quantised_rows *rounded; /* [copies] */
    bool *ready;                /* [copies] */
    bool own;                   /* a copy for each worker, filled when it first needs it */
} gv_quantised_job;

static void gv_round_rows(const gv_quantised_job *job, const gv_quantised_rows *all, int64_t row, int64_t rows) {
    const gv_quantised *w = job->weights[0].quantised;
    int64_t depth = gv_quantised_depth(w->k), groups = gv_quantised_groups(w->k, w->group);
    gv_quantised_rows part = {all->q + row * depth, all->scale + row * groups, all->low + row * groups};
    job->kernels->quantise_rows(&part, job->x + row * job->x_stride, job->x_stride, w->smooth, rows, w->k, w->group, w->levels);
}

static void gv_round_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    const gv_quantised_job *job = context;
    int64_t row = tile * GV_ROUND_ROWS, left = job->m - row;
    gv_round_rows(job, &job->rounded[0], row, left < GV_ROUND_ROWS ? left : GV_ROUND_ROWS);
}

static void gv_quantised_tile(void *context, int64_t tile, int worker) {
    const gv_quantised_job *job = context;
    int i = 0;
    while (i + 1 < job->count && tile >= job->col_tiles[i] * job->row_tiles) tile -= job->col_tiles[i++] * job->row_tiles;
    const gv_weight *weight = &job->weights[i];
    const gv_quantised *w = weight->quantised;
    const gv_quantised_rows *all = &job->rounded[job->own ? worker : 0];
    if (job->own && !job->ready[worker]) {
        gv_round_rows(job, all, 0, job->m);
        job->ready[worker] = true;
    }
    int64_t depth = gv_quantised_depth(w->k), groups = gv_quantised_groups(w->k, w->group);
    int64_t r = tile % job->row_tiles * job->rows, panel = tile / job->row_tiles * job->panels[i], c = panel * GV_PANEL;
    int64_t rows = job->m - r < job->rows ? job->m - r : job->rows;
    int64_t cols = w->n - c < job->panels[i] * GV_PANEL ? w->n - c : job->panels[i] * GV_PANEL;
    int64_t stride = job->y_stride[i];
    float *y = job->y[i] + r * stride + c;
    gv_quantised_rows part = {all->q + r * depth, all->scale + r * groups, all->low + r * groups};
    job->kernels->product_quantised(y, stride, &part, rows, w, panel, cols, weight->bias != NULL ? weight->bias + c : NULL);
    float *before = job->before != NULL && job->before[i] != NULL ? job->before[i] + r * stride + c : NULL;
    if (before == NULL && job->activation == GV_ACT_NONE) return;
    for (int64_t j = 0; j < rows; j++, y += stride) {
        if (before != NULL) memcpy(before + j * stride, y, (size_t)cols * sizeof *y);
        if (job->activation != GV_ACT_NONE) job->kernels->activation(job->activation, y, y, cols);
    }
}

/* Whether one rounding of x serves both. */
static bool gv_round_alike(const gv_quantised *a, const gv_quantised *b) {
    if (b->blocks.data != NULL || a->k != b->k || a->group != b->group || a->levels != b->levels) return false;
    if (a->smooth == b->smooth) return true;
    if (a->smooth == NULL || b->smooth == NULL) return false;
    return memcmp(a->smooth, b->smooth, (size_t)a->k * sizeof *a->smooth) == 0;
}

static gv_status gv_quantised_run(gv_quantised_job *job, gv_error *error) {
    const gv_quantised *w = job->weights[0].quantised;
    int64_t m = job->m, depth = gv_quantised_depth(w->k), groups = gv_quantised_groups(w->k, w->group), tiles = 0;
    job->own = m * depth <= GV_OWN_ELEMENTS;
    int64_t copies = job->own ? gv_parallel_width() : 1;
    size_t q_size = ((size_t)(m * depth) + 63) / 64 * 64, step_size = ((size_t)(m * groups) * sizeof(float) + 63) / 64 * 64;
    size_t size = (size_t)copies * (q_size + 2 * step_size + sizeof *job->rounded + sizeof *job->ready);
    char *scratch = gv_alloc(NULL, size);
    if (scratch == NULL) return gv_fail(error, GV_ERR_MEMORY, "no memory for %zu bytes of quantised activations", size);
    job->rounded = (gv_quantised_rows *)(void *)(scratch + (size_t)copies * (q_size + 2 * step_size));
    job->ready = (bool *)(void *)(job->rounded + copies);
    for (int64_t i = 0; i < copies; i++) {
        char *at = scratch + (size_t)i * (q_size + 2 * step_size);
        float *scale = (float *)(void *)(at + q_size), *low = (float *)(void *)(at + q_size + step_size);
        job->rounded[i] = (gv_quantised_rows){(uint8_t *)at, scale, low};
        job->ready[i] = false;
    }
    /* Tiles of nearly one height, multiples of 12 rows (of the blocks of every kernel). */
    int64_t most = GV_TILE_BYTES / depth / 12 * 12;
    if (most < 12) most = 12;
    job->row_tiles = (m + most - 1) / most;
    job->rows = ((m + job->row_tiles - 1) / job->row_tiles + 11) / 12 * 12;
    job->row_tiles = (m + job->rows - 1) / job->rows;
    for (int i = 0; i < job->count; i++) {
        int64_t panels = (job->weights[i].quantised->n + GV_PANEL - 1) / GV_PANEL;
        int64_t count = (panels + GV_TILE_PANELS - 1) / GV_TILE_PANELS;
        count += count % 2; /* so that two threads end together */
        job->panels[i] = (panels + count - 1) / count;
        job->col_tiles[i] = (panels + job->panels[i] - 1) / job->panels[i];
        tiles += job->col_tiles[i] * job->row_tiles;
    }
    gv_status status = GV_OK;
    if (!job->own) status = gv_parallel_for((m + GV_ROUND_ROWS - 1) / GV_ROUND_ROWS, gv_round_tile, job);
    if (status == GV_OK) status = gv_parallel_for(tiles, gv_quantised_tile, job);
    gv_release(NULL, scratch, size);
    return status == GV_ERR_CANCELLED ? gv_fail(error, status, "cancelled") : status;
}

gv_status gv_quantised_forward(float *const y[], const int64_t y_stride[], float *const before[], const gv_weight weights[],
                               int count, const float *x, int64_t x_stride, int64_t m, gv_activation activation,
                               gv_error *error) {
    gv_status status = GV_OK;
    for (int i = 0; i < count && m > 0 && status == GV_OK;) {
        int alike = 1;
        if (weights[i].quantised->blocks.data != NULL) {
            while (i + alike < count && weights[i + alike].quantised->blocks.data != NULL) alike++;
            status = gv_blocks_forward(y + i, y_stride + i, before != NULL ? before + i : NULL, weights + i, alike, x, x_stride,
                                       m, activation, error);
            i += alike;
            continue;
        }
        while (i + alike < count && gv_round_alike(weights[i].quantised, weights[i + alike].quantised)) alike++;
        gv_quantised_job job = {.kernels = gv_kernels_get(), .weights = weights + i, .count = alike, .m = m};
        job.activation = activation;
        job.y = y + i;
        job.y_stride = y_stride + i;
        job.before = before != NULL ? before + i : NULL;
        job.x = x;
        job.x_stride = x_stride;
        status = gv_quantised_run(&job, error);
        i += alike;
    }
    return status;
}
