/* blocks.c - linear layers whose weights lie in blocks of 32, over the thread pool: activations rounded once, then tiles of
 * panels. Few rows (decoding) are rounded by every worker for itself and meet tiles of about 64 KB of weights, read as one
 * stream; many (a prompt) are rounded in a job of their own.
 */
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "kernels/gemm.h"

enum {
    GV_OWN_ELEMENTS = 1 << 15,   /* of x: up to here each worker rounds all of it */
    GV_STREAM_BYTES = 64 * 1024, /* of weights a tile */
    GV_ROWS_BYTES = 256 * 1024,  /* of rounded x a tile: stays in the L2 cache */
    GV_ROUND_ROWS = 16
};

typedef struct {
    const gv_kernels *kernels;
    const gv_weight *weights;
    int count;
    int64_t m, k, rows, row_tiles;                               /* rows of x a tile */
    int64_t panels[GV_LINEAR_GROUP], col_tiles[GV_LINEAR_GROUP]; /* panels a tile, tiles */
    gv_activation activation;
    float *const *y;
    const int64_t *y_stride;
    float *const *before;
    const float *x;
    int64_t x_stride;
    gv_block_rows *rounded; /* [copies] */
    bool *ready;            /* [copies] */
    bool own;               /* a copy for each worker, filled when it first needs it */
} gv_blocks_job;

static gv_block_rows gv_rows_from(const gv_block_rows *all, int64_t row, int64_t k) {
    int64_t at = row * gv_block_count(k);
    return (gv_block_rows){all->q + at * GV_BLOCK, all->scale + at, all->sum + at, all->lanes + at};
}

static void gv_block_round(const gv_blocks_job *job, const gv_block_rows *all, int64_t row, int64_t rows) {
    gv_block_rows part = gv_rows_from(all, row, job->k);
    job->kernels->block_rows(&part, job->x + row * job->x_stride, job->x_stride, rows, job->k);
}

static void gv_block_round_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    const gv_blocks_job *job = context;
    int64_t row = tile * GV_ROUND_ROWS, left = job->m - row;
    gv_block_round(job, &job->rounded[0], row, left < GV_ROUND_ROWS ? left : GV_ROUND_ROWS);
}

static void gv_blocks_tile(void *context, int64_t tile, int worker) {
    const gv_blocks_job *job = context;
    int i = 0;
    while (i + 1 < job->count && tile >= job->col_tiles[i] * job->row_tiles) tile -= job->col_tiles[i++] * job->row_tiles;
    const gv_weight *weight = &job->weights[i];
    const gv_quantised *w = weight->quantised;
    const gv_block_rows *all = &job->rounded[job->own ? worker : 0];
    if (job->own && !job->ready[worker]) {
        gv_block_round(job, all, 0, job->m);
        job->ready[worker] = true;
    }
    int64_t r = tile % job->row_tiles * job->rows, panel = tile / job->row_tiles * job->panels[i], c = panel * GV_PANEL;
    int64_t rows = job->m - r < job->rows ? job->m - r : job->rows;
    int64_t cols = w->n - c < job->panels[i] * GV_PANEL ? w->n - c : job->panels[i] * GV_PANEL;
    int64_t stride = job->y_stride[i];
    float *y = job->y[i] + r * stride + c;
    gv_block_rows part = gv_rows_from(all, r, job->k);
    job->kernels->product_blocks(y, stride, &part, rows, w, panel, cols, weight->bias != NULL ? weight->bias + c : NULL);
    float *before = job->before != NULL && job->before[i] != NULL ? job->before[i] + r * stride + c : NULL;
    if (before == NULL && job->activation == GV_ACT_NONE) return;
    for (int64_t j = 0; j < rows; j++, y += stride) {
        if (before != NULL) memcpy(before + j * stride, y, (size_t)cols * sizeof *y);
        if (job->activation != GV_ACT_NONE) job->kernels->activation(job->activation, y, y, cols);
    }
}

/* Tiles by shape alone; returns how many. */
static int64_t gv_blocks_cut(gv_blocks_job *job) {
    int64_t blocks = gv_block_count(job->k), tiles = 0, most = GV_ROWS_BYTES / (blocks * GV_BLOCK) / 12 * 12;
    if (most < 12) most = 12;
    job->row_tiles = (job->m + most - 1) / most;
    job->rows = ((job->m + job->row_tiles - 1) / job->row_tiles + 11) / 12 * 12;
    job->row_tiles = (job->m + job->rows - 1) / job->rows;
    for (int i = 0; i < job->count; i++) {
        const gv_quantised *w = job->weights[i].quantised;
        int64_t panels = (w->n + GV_PANEL - 1) / GV_PANEL;
        int64_t bytes = panels * blocks * gv_block_record(w->blocks.bits, w->blocks.minimum);
        int64_t count = (bytes + GV_STREAM_BYTES - 1) / GV_STREAM_BYTES;
        job->panels[i] = (panels + count - 1) / count;
        job->col_tiles[i] = (panels + job->panels[i] - 1) / job->panels[i];
        /* An even number of them, so that two threads end together. */
        while (job->panels[i] > 1 && job->col_tiles[i] % 2 != 0) {
            job->panels[i]--;
            job->col_tiles[i] = (panels + job->panels[i] - 1) / job->panels[i];
        }
        tiles += job->col_tiles[i] * job->row_tiles;
    }
    return tiles;
}

gv_status gv_blocks_forward(float *const y[], const int64_t y_stride[], float *const before[], const gv_weight weights[],
                            int count, const float *x, int64_t x_stride, int64_t m, gv_activation activation, gv_error *error) {
    gv_status status = GV_OK;
    if (m <= 0) return GV_OK;
    gv_blocks_job job = {.kernels = gv_kernels_get(), .weights = weights, .count = count, .m = m, .k = weights[0].k};
    job.activation = activation;
    job.y = y;
    job.y_stride = y_stride;
    job.before = before;
    job.x = x;
    job.x_stride = x_stride;
    int64_t blocks = gv_block_count(job.k);
    job.own = m * blocks * GV_BLOCK <= GV_OWN_ELEMENTS;
    int64_t copies = job.own ? gv_parallel_width() : 1;
    size_t q_size = (size_t)(m * blocks) * GV_BLOCK, part = ((size_t)(m * blocks) * sizeof(float) + 63) / 64 * 64;
    size_t each = (q_size + 63) / 64 * 64 + 3 * part;
    size_t size = (size_t)copies * (each + sizeof *job.rounded + sizeof *job.ready);
    char *scratch = gv_alloc(NULL, size);
    if (scratch == NULL) return gv_fail(error, GV_ERR_MEMORY, "no memory for %zu bytes of quantised activations", size);
    job.rounded = (gv_block_rows *)(void *)(scratch + (size_t)copies * each);
    job.ready = (bool *)(void *)(job.rounded + copies);
    for (int64_t i = 0; i < copies; i++) {
        char *at = scratch + (size_t)i * each, *rest = at + each - 3 * part;
        job.rounded[i] = (gv_block_rows){(int8_t *)at, (float *)(void *)rest, (float *)(void *)(rest + part),
                                         (int32_t *)(void *)(rest + 2 * part)};
        job.ready[i] = false;
    }
    int64_t tiles = gv_blocks_cut(&job);
    if (!job.own) status = gv_parallel_for((m + GV_ROUND_ROWS - 1) / GV_ROUND_ROWS, gv_block_round_tile, &job);
    if (status == GV_OK) status = gv_parallel_for(tiles, gv_blocks_tile, &job);
    gv_release(NULL, scratch, size);
    return status == GV_ERR_CANCELLED ? gv_fail(error, status, "cancelled") : status;
}
