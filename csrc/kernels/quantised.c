/* quantised.c - linear layers whose weights are packed, over the thread pool: activations rounded once, then tiles of
 * panels. Few rows are rounded by every worker for itself (that is quicker than waiting for each other); many, in a job of
 * their own. What is kept of a rounded row, and which kernels make and use it, is the form of the weights: in 8 bits, in
 * blocks of 32, or in blocks of float32, for which rows are only laid side by side.
 */
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "kernels/gemm.h"

enum {
    GV_OWN_ELEMENTS = 1 << 15,      /* of x: up to here each worker rounds all of it */
    GV_TILE_BYTES = 192 * 1024,     /* of rounded x: stays in the L2 cache beside a panel */
    GV_TILE_PANELS = 12,            /* of 8 bits; in blocks, which are read as one stream: */
    GV_STREAM_BYTES = 64 * 1024,    /* of weights a tile (of float32 four times as many), and */
    GV_STREAM_X_BYTES = 256 * 1024, /* of rounded x */
    GV_ROUND_ROWS = 16,
    GV_PARTS = 4 /* arrays that a row is kept in, at most */
};

/* Rounded rows: those that the form has, of gv_quantised_rows or gv_block_rows in their order. */
typedef struct {
    char *part[GV_PARTS];
} gv_rounded;

typedef struct {
    const gv_kernels *kernels;
    const gv_weight *weights;
    int count;
    bool blocks, floats; /* the form; floats lie in blocks, too */
    int64_t height;      /* of floats: rows side by side; tiles hold whole blocks of them, or of 12 */
    int64_t row_bytes[GV_PARTS];
    int64_t m, k, rows, row_tiles;                               /* rows of x a tile */
    int64_t panels[GV_LINEAR_GROUP], col_tiles[GV_LINEAR_GROUP]; /* panels a tile, tiles */
    gv_activation activation;
    float *const *y;
    const int64_t *y_stride;
    float *const *before;
    const float *x;
    int64_t x_stride;
    gv_rounded *rounded; /* [copies] */
    bool *ready;         /* [copies] */
    bool own;            /* a copy for each worker, filled when it first needs it */
} gv_quantised_job;

/* ---- the two forms ------------------------------------------------------------------------------------------------ */

static void gv_take_form(gv_quantised_job *job) {
    const gv_quantised *w = job->weights[0].quantised;
    job->k = job->weights[0].k;
    job->blocks = w->blocks.data != NULL;
    job->floats = gv_in_floats(w);
    job->height = 12;
    if (job->floats) {
        int64_t most = job->kernels->most_rows, blocks = (job->m + most - 1) / most;
        job->height = (job->m + blocks - 1) / blocks; /* of nearly one height */
        memcpy(job->row_bytes, (int64_t[GV_PARTS]){job->k * (int64_t)sizeof(float)}, sizeof job->row_bytes);
    } else if (job->blocks) {
        int64_t blocks = gv_block_count(job->k), each = blocks * (int64_t)sizeof(float);
        memcpy(job->row_bytes, (int64_t[GV_PARTS]){blocks * GV_BLOCK, each, each, each}, sizeof job->row_bytes);
    } else {
        int64_t groups = gv_quantised_groups(w->k, w->group) * (int64_t)sizeof(float);
        memcpy(job->row_bytes, (int64_t[GV_PARTS]){gv_quantised_depth(w->k), groups, groups, 0}, sizeof job->row_bytes);
    }
}

static gv_rounded gv_rows_from(const gv_quantised_job *job, const gv_rounded *all, int64_t row) {
    gv_rounded from;
    for (int i = 0; i < GV_PARTS; i++) from.part[i] = all->part[i] + row * job->row_bytes[i];
    return from;
}

static gv_block_rows gv_as_blocks(gv_rounded x) {
    return (gv_block_rows){(int8_t *)x.part[0], (float *)(void *)x.part[1], (float *)(void *)x.part[2],
                           (int32_t *)(void *)x.part[3]};
}

static gv_quantised_rows gv_as_bytes(gv_rounded x) {
    return (gv_quantised_rows){(uint8_t *)x.part[0], (float *)(void *)x.part[1], (float *)(void *)x.part[2]};
}

static void gv_round(const gv_quantised_job *job, const gv_rounded *all, int64_t row, int64_t rows) {
    const float *x = job->x + row * job->x_stride;
    gv_rounded part = gv_rows_from(job, all, row);
    if (job->floats) {
        job->kernels->pack_rows((float *)(void *)part.part[0], x, job->x_stride, rows, job->k, job->height);
    } else if (job->blocks) {
        gv_block_rows out = gv_as_blocks(part);
        job->kernels->block_rows(&out, x, job->x_stride, rows, job->k);
    } else {
        const gv_quantised *w = job->weights[0].quantised;
        gv_quantised_rows out = gv_as_bytes(part);
        job->kernels->quantise_rows(&out, x, job->x_stride, w->smooth, rows, job->k, w->group, w->levels);
    }
}

static void gv_multiply(const gv_quantised_job *job, float *y, int64_t stride, gv_rounded x, int64_t rows,
                        const gv_weight *weight, int64_t panel, int64_t cols) {
    const float *bias = weight->bias != NULL ? weight->bias + panel * GV_PANEL : NULL;
    if (job->floats) {
        job->kernels->product_floats(y, stride, (float *)(void *)x.part[0], rows, job->height, weight->quantised, panel, cols,
                                     bias);
    } else if (job->blocks) {
        gv_block_rows part = gv_as_blocks(x);
        job->kernels->product_blocks(y, stride, &part, rows, weight->quantised, panel, cols, bias);
    } else {
        gv_quantised_rows part = gv_as_bytes(x);
        job->kernels->product_quantised(y, stride, &part, rows, weight->quantised, panel, cols, bias);
    }
}

/* Tiles that `panels` panels of a weight are cut into, by what a tile reads. */
static int64_t gv_wanted_tiles(const gv_quantised_job *job, const gv_quantised *w, int64_t panels) {
    if (!job->blocks) return (panels + GV_TILE_PANELS - 1) / GV_TILE_PANELS;
    int64_t bytes = panels * gv_block_count(job->k) * gv_block_record(w->blocks.bits, w->blocks.minimum);
    int64_t most = job->floats ? 4 * GV_STREAM_BYTES : GV_STREAM_BYTES;
    return (bytes + most - 1) / most;
}

/* Whether one rounding of x serves both. */
static bool gv_round_alike(const gv_quantised *a, const gv_quantised *b) {
    if ((a->blocks.data != NULL) != (b->blocks.data != NULL) || gv_in_floats(a) != gv_in_floats(b)) return false;
    if (a->blocks.data != NULL) return true;
    if (a->k != b->k || a->group != b->group || a->levels != b->levels) return false;
    if (a->smooth == b->smooth) return true;
    if (a->smooth == NULL || b->smooth == NULL) return false;
    return memcmp(a->smooth, b->smooth, (size_t)a->k * sizeof *a->smooth) == 0;
}

/* ---- tiles -------------------------------------------------------------------------------------------------------- */

/* Rows rounded in one job. */
static int64_t gv_round_rows(const gv_quantised_job *job) {
    return job->floats ? (GV_ROUND_ROWS + job->height - 1) / job->height * job->height : GV_ROUND_ROWS;
}

static void gv_round_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    const gv_quantised_job *job = context;
    int64_t most = gv_round_rows(job), row = tile * most, left = job->m - row;
    gv_round(job, &job->rounded[0], row, left < most ? left : most);
}

static void gv_quantised_tile(void *context, int64_t tile, int worker) {
    const gv_quantised_job *job = context;
    int i = 0;
    while (i + 1 < job->count && tile >= job->col_tiles[i] * job->row_tiles) tile -= job->col_tiles[i++] * job->row_tiles;
    const gv_weight *weight = &job->weights[i];
    const gv_rounded *all = &job->rounded[job->own ? worker : 0];
    if (job->own && !job->ready[worker]) {
        gv_round(job, all, 0, job->m);
        job->ready[worker] = true;
    }
    int64_t r = tile % job->row_tiles * job->rows, panel = tile / job->row_tiles * job->panels[i], c = panel * GV_PANEL;
    int64_t rows = job->m - r < job->rows ? job->m - r : job->rows;
    int64_t cols = weight->n - c < job->panels[i] * GV_PANEL ? weight->n - c : job->panels[i] * GV_PANEL;
    int64_t stride = job->y_stride[i];
    float *y = job->y[i] + r * stride + c;
    gv_multiply(job, y, stride, gv_rows_from(job, all, r), rows, weight, panel, cols);
    float *before = job->before != NULL && job->before[i] != NULL ? job->before[i] + r * stride + c : NULL;
    if (before == NULL && job->activation == GV_ACT_NONE) return;
    for (int64_t j = 0; j < rows; j++, y += stride) {
        if (before != NULL) memcpy(before + j * stride, y, (size_t)cols * sizeof *y);
        if (job->activation != GV_ACT_NONE) job->kernels->activation(job->activation, y, y, cols);
    }
}

/* Tiles by shape alone, of nearly one height in whole blocks of rows; returns how many. */
static int64_t gv_quantised_cut(gv_quantised_job *job) {
    int64_t tiles = 0, most = (job->blocks ? GV_STREAM_X_BYTES : GV_TILE_BYTES) / job->row_bytes[0], unit = job->height;
    most = most < unit ? unit : most / unit * unit;
    job->row_tiles = (job->m + most - 1) / most;
    job->rows = ((job->m + job->row_tiles - 1) / job->row_tiles + unit - 1) / unit * unit;
    job->row_tiles = (job->m + job->rows - 1) / job->rows;
    for (int i = 0; i < job->count; i++) {
        int64_t panels = (job->weights[i].n + GV_PANEL - 1) / GV_PANEL;
        int64_t count = gv_wanted_tiles(job, job->weights[i].quantised, panels);
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

static gv_status gv_quantised_run(gv_quantised_job *job, gv_error *error) {
    gv_take_form(job);
    int64_t tiles = gv_quantised_cut(job);
    job->own = job->m * job->row_bytes[0] <= GV_OWN_ELEMENTS;
    size_t copies = job->own ? (size_t)gv_parallel_width() : 1, part[GV_PARTS], each = 0;
    for (int i = 0; i < GV_PARTS; i++) each += part[i] = ((size_t)(job->m * job->row_bytes[i]) + 63) / 64 * 64;
    size_t size = copies * (each + sizeof *job->rounded + sizeof *job->ready);
    char *scratch = gv_alloc(NULL, size), *at = scratch;
    if (scratch == NULL) return gv_fail(error, GV_ERR_MEMORY, "no memory for %zu bytes of quantised activations", size);
    job->rounded = (gv_rounded *)(void *)(scratch + copies * each);
    job->ready = (bool *)(void *)(job->rounded + copies);
    for (size_t copy = 0; copy < copies; copy++) {
        for (int i = 0; i < GV_PARTS; at += part[i++]) job->rounded[copy].part[i] = at;
        job->ready[copy] = false;
    }
    gv_status status = GV_OK;
    int64_t each_round = gv_round_rows(job);
    if (!job->own) status = gv_parallel_for((job->m + each_round - 1) / each_round, gv_round_tile, job);
    if (status == GV_OK) status = gv_parallel_for(tiles, gv_quantised_tile, job);
    gv_release(NULL, scratch, size);
    return status == GV_ERR_CANCELLED ? gv_fail(error, status, "cancelled") : status;
}

gv_status gv_quantised_forward(float *const y[], const int64_t y_stride[], float *const before[], const gv_weight weights[],
                               int count, const float *x, int64_t x_stride, int64_t m, gv_activation activation,
                               gv_error *error) {
    gv_status status = GV_OK;
    for (int i = 0, alike; i < count && m > 0 && status == GV_OK; i += alike) {
        for (alike = 1; i + alike < count && gv_round_alike(weights[i].quantised, weights[i + alike].quantised);) alike++;
        gv_quantised_job job = {.kernels = gv_kernels_get(), .weights = weights + i, .count = alike, .m = m};
        job.activation = activation;
        job.y = y + i;
        job.y_stride = y_stride + i;
        job.before = before != NULL ? before + i : NULL;
        job.x = x;
        job.x_stride = x_stride;
        status = gv_quantised_run(&job, error);
    }
    return status;
}
