/* lora.c - see lora.h. Rows are cut into tiles that do both small products; the gradients of A and B, into tiles of columns
 * that sum over all rows in order. x' A^T is computed again in the backward: it costs a rank's share of the layer.
 */
#include "nn/lora.h"

#include <string.h>

#include "base/parallel.h"

enum {
    GV_LORA_ROWS = 32,
    GV_LORA_COLS = 192,
    GV_LORA_FEW = 8 /* rows below which B is not worth turning over */
};

typedef struct {
    const gv_lora *lora;
    const gv_kernels *kernels;
    float *y, *dx, *da, *db;
    const float *x, *dy;
    int64_t y_stride, dy_stride, m;
    float *a_turned, *b_turned; /* A^T [k, rank], B^T [rank, n]: for products along rows; few rows do without */
    float *low, *dlow;          /* scale * x' A^T, scale * dy B: [m, rank] */
    float *dropped;             /* x' [m, k], or NULL = x */
    float *own;                 /* [width][worker] */
    int64_t worker, a_tiles;    /* floats a worker; tiles of A's columns */
} gv_lora_job;

static int64_t gv_round16(int64_t floats) {
    return (floats + 15) / 16 * 16;
}

static int64_t gv_lora_worker(const gv_lora *lora) {
    int64_t few = GV_LORA_FEW * lora->n, rows = lora->dropout.dropout.p > 0 ? GV_LORA_ROWS * lora->k : 0;
    int64_t cols = lora->rank * GV_LORA_COLS, most = few > rows ? few : rows;
    return gv_round16(most > cols ? most : cols);
}

int64_t gv_lora_scratch(const gv_lora *lora, int64_t m, int width) {
    int64_t floats = gv_round16(lora->rank * lora->n) + gv_round16(lora->rank * lora->k);
    floats += 2 * gv_round16(m * lora->rank) + width * gv_lora_worker(lora);
    return lora->dropout.dropout.p > 0 ? floats + gv_round16(m * lora->k) : floats;
}

/* to[cols, rows] = from[rows, cols] */
static void gv_turn(float *to, const float *from, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) to[c * rows + r] = from[r * cols + c];
    }
}

static gv_lora_job gv_lora_job_of(const gv_lora *lora, const float *x, int64_t m, float *scratch) {
    gv_lora_job job = {.lora = lora, .kernels = gv_kernels_get(), .x = x, .m = m, .worker = gv_lora_worker(lora)};
    job.a_turned = scratch;
    job.b_turned = job.a_turned + gv_round16(lora->rank * lora->k);
    job.low = job.b_turned + gv_round16(lora->rank * lora->n);
    job.dlow = job.low + gv_round16(m * lora->rank);
    job.own = job.dlow + gv_round16(m * lora->rank);
    if (lora->dropout.dropout.p > 0) {
        job.dropped = job.own;
        job.own += gv_round16(m * lora->k);
    }
    return job;
}

/* Fills rows [first, first + rows) of `low` and `dropped`. */
static void gv_lora_reduce(gv_lora_job *job, int64_t first, int64_t rows) {
    const gv_lora *l = job->lora;
    const float *x = job->x + first * l->k;
    float *low = job->low + first * l->rank;
    if (job->dropped != NULL) {
        const gv_row_dropout *d = &l->dropout;
        float *to = job->dropped + first * l->k;
        job->kernels->dropout(to, x, rows, l->k, &d->dropout, d->sample + first, d->position + first);
        x = to;
    }
    if (job->m >= GV_LORA_FEW) {
        job->kernels->product_nn(low, l->rank, x, l->k, 1, job->a_turned, l->rank, rows, l->rank, l->k, false, false);
    } else {
        job->kernels->product_nt(low, l->rank, x, l->k, l->a, l->k, NULL, rows, l->rank, l->k, NULL);
    }
    job->kernels->scale(low, l->scale, low, rows * l->rank);
}

static int64_t gv_lora_span(const gv_lora_job *job, int64_t tile, int64_t *first) {
    *first = tile * GV_LORA_ROWS;
    return job->m - *first < GV_LORA_ROWS ? job->m - *first : GV_LORA_ROWS;
}

static void gv_lora_forward_tile(void *context, int64_t tile, int worker) {
    gv_lora_job *job = context;
    const gv_lora *l = job->lora;
    int64_t first, rows = gv_lora_span(job, tile, &first);
    float *low = job->low + first * l->rank, *y = job->y + first * job->y_stride;
    gv_lora_reduce(job, first, rows);
    if (job->m >= GV_LORA_FEW) {
        job->kernels->product_nn(y, job->y_stride, low, l->rank, 1, job->b_turned, l->n, rows, l->n, l->rank, true, false);
        return;
    }
    float *sum = job->own + worker * job->worker;
    job->kernels->product_nt(sum, l->n, low, l->rank, l->b, l->rank, NULL, rows, l->n, l->rank, NULL);
    for (int64_t r = 0; r < rows; r++) job->kernels->add(y + r * job->y_stride, y + r * job->y_stride, sum + r * l->n, l->n);
}

gv_status gv_lora_forward(float *y, int64_t y_stride, const gv_lora *lora, const float *x, int64_t m, float *scratch) {
    if (m == 0) return GV_OK;
    gv_lora_job job = gv_lora_job_of(lora, x, m, scratch);
    job.y = y;
    job.y_stride = y_stride;
    if (m >= GV_LORA_FEW) {
        gv_turn(job.a_turned, lora->a, lora->rank, lora->k);
        gv_turn(job.b_turned, lora->b, lora->n, lora->rank);
    }
    return gv_parallel_for((m + GV_LORA_ROWS - 1) / GV_LORA_ROWS, gv_lora_forward_tile, &job);
}

/* low, dlow and dx of some rows. */
static void gv_lora_rows_tile(void *context, int64_t tile, int worker) {
    gv_lora_job *job = context;
    const gv_lora *l = job->lora;
    int64_t first, rows = gv_lora_span(job, tile, &first);
    float *dlow = job->dlow + first * l->rank, *dx = job->dx != NULL ? job->dx + first * l->k : NULL;
    if (job->da != NULL || job->db != NULL) gv_lora_reduce(job, first, rows);
    job->kernels->product_nn(dlow, l->rank, job->dy + first * job->dy_stride, job->dy_stride, 1, l->b, l->rank, rows, l->rank,
                             l->n, false, false);
    job->kernels->scale(dlow, l->scale, dlow, rows * l->rank);
    if (dx == NULL) return;
    if (job->dropped == NULL) {
        job->kernels->product_nn(dx, l->k, dlow, l->rank, 1, l->a, l->k, rows, l->k, l->rank, true, false);
        return;
    }
    const gv_row_dropout *d = &l->dropout;
    float *part = job->own + worker * job->worker;
    job->kernels->product_nn(part, l->k, dlow, l->rank, 1, l->a, l->k, rows, l->k, l->rank, false, false);
    job->kernels->dropout(part, part, rows, l->k, &d->dropout, d->sample + first, d->position + first);
    job->kernels->add(dx, dx, part, rows * l->k);
}

/* Some columns of A's gradient, or of B's turned over: tiles of those that are wanted, A's first. */
static void gv_lora_gradient_tile(void *context, int64_t tile, int worker) {
    gv_lora_job *job = context;
    const gv_lora *l = job->lora;
    bool of_a = tile < job->a_tiles;
    int64_t first = (of_a ? tile : tile - job->a_tiles) * GV_LORA_COLS, left = (of_a ? l->k : l->n) - first;
    int64_t cols = left < GV_LORA_COLS ? left : GV_LORA_COLS;
    if (of_a) {
        const float *x = job->dropped != NULL ? job->dropped : job->x;
        job->kernels->product_nn(job->da + first, l->k, job->dlow, 1, l->rank, x + first, l->k, l->rank, cols, job->m, true,
                                 false);
        return;
    }
    float *sum = job->own + worker * job->worker, *db = job->db + first * l->rank;
    job->kernels->product_nn(sum, cols, job->low, 1, l->rank, job->dy + first, job->dy_stride, l->rank, cols, job->m, false,
                             false);
    for (int64_t o = 0; o < cols; o++) {
        for (int64_t i = 0; i < l->rank; i++) db[o * l->rank + i] += sum[i * cols + o];
    }
}

gv_status gv_lora_backward(float *dx, float *da, float *db, const gv_lora *lora, const float *dy, int64_t dy_stride,
                           const float *x, int64_t m, float *scratch) {
    if (m == 0 || (dx == NULL && da == NULL && db == NULL)) return GV_OK;
    gv_lora_job job = gv_lora_job_of(lora, x, m, scratch);
    job.dx = dx;
    job.da = da;
    job.db = db;
    job.dy = dy;
    job.dy_stride = dy_stride;
    job.a_tiles = da != NULL ? (lora->k + GV_LORA_COLS - 1) / GV_LORA_COLS : 0;
    if ((da != NULL || db != NULL) && m >= GV_LORA_FEW) gv_turn(job.a_turned, lora->a, lora->rank, lora->k);
    gv_status status = gv_parallel_for((m + GV_LORA_ROWS - 1) / GV_LORA_ROWS, gv_lora_rows_tile, &job);
    int64_t b_tiles = db != NULL ? (lora->n + GV_LORA_COLS - 1) / GV_LORA_COLS : 0;
    if (status != GV_OK || job.a_tiles + b_tiles == 0) return status;
    return gv_parallel_for(job.a_tiles + b_tiles, gv_lora_gradient_tile, &job);
}
