/* rows.c - see rows.h. One job struct, one tile size, one function a layer. */
#include "nn/rows.h"

#include <string.h>

#include "base/parallel.h"

enum { GV_ROW_TILE_FLOATS = 1 << 14, GV_COLUMN_TILE = 64 };

typedef struct {
    float *y, *sum, *dgate, *dgamma, *dbeta, *stats;
    const float *x, *residual, *dy, *gate;
    const gv_norm *norm;
    const gv_row_dropout *dropout;
    gv_activation kind;
    int64_t rows, cols, tile_rows;
} gv_rows_job;

static bool gv_drops(const gv_row_dropout *dropout) {
    return dropout != NULL && dropout->dropout.p > 0;
}

static gv_status gv_run_rows(gv_tile_fn fn, gv_rows_job *job) {
    if (job->rows == 0 || job->cols == 0) return GV_OK;
    job->tile_rows = GV_ROW_TILE_FLOATS / job->cols;
    if (job->tile_rows < 1) job->tile_rows = 1;
    return gv_parallel_for((job->rows + job->tile_rows - 1) / job->tile_rows, fn, job);
}

static int64_t gv_tile_span(const gv_rows_job *job, int64_t tile, int64_t *first) {
    *first = tile * job->tile_rows;
    return job->rows - *first < job->tile_rows ? job->rows - *first : job->tile_rows;
}

static void gv_drop(float *y, const float *x, const gv_row_dropout *d, int64_t first, int64_t rows, int64_t cols) {
    gv_kernels_get()->dropout(y, x, rows, cols, &d->dropout, d->sample + first, d->position + first);
}

static void gv_norm_rows(float *y, float *mean, float *rstd, const float *x, const gv_norm *norm, int64_t rows, int64_t cols) {
    const gv_kernels *k = gv_kernels_get();
    if (norm->rms) {
        k->rms_norm(y, rstd, x, norm->gamma, rows, cols, norm->eps);
    } else {
        k->layer_norm(y, mean, rstd, x, norm->gamma, norm->beta, rows, cols, norm->eps);
    }
}

static void gv_residual_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_rows_job *job = context;
    const gv_kernels *k = gv_kernels_get();
    int64_t first, rows = gv_tile_span(job, tile, &first), at = first * job->cols, n = rows * job->cols;
    float *sum = (job->sum != NULL ? job->sum : job->y) + at;
    const float *a = job->x + at;
    if (gv_drops(job->dropout)) {
        gv_drop(sum, a, job->dropout, first, rows, job->cols);
        a = sum;
    }
    if (job->residual != NULL) {
        k->add(sum, a, job->residual + at, n);
    } else if (a != sum) {
        memcpy(sum, a, (size_t)n * sizeof(float));
    }
    if (job->norm != NULL) gv_norm_rows(job->y + at, NULL, NULL, sum, job->norm, rows, job->cols);
}

gv_status gv_residual_norm(float *sum, float *y, const float *a, const float *residual, const gv_norm *norm,
                           const gv_row_dropout *dropout, int64_t rows, int64_t cols) {
    gv_rows_job job = {
        .sum = sum, .y = y, .x = a, .residual = residual, .norm = norm, .dropout = dropout, .rows = rows, .cols = cols};
    return gv_run_rows(gv_residual_tile, &job);
}

static void gv_norm_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_rows_job *job = context;
    int64_t first, rows = gv_tile_span(job, tile, &first), at = first * job->cols;
    gv_norm_rows(job->y + at, NULL, NULL, job->x + at, job->norm, rows, job->cols);
}

gv_status gv_norm_forward(float *y, const float *x, const gv_norm *norm, int64_t rows, int64_t cols) {
    gv_rows_job job = {.y = y, .x = x, .norm = norm, .rows = rows, .cols = cols};
    return gv_run_rows(gv_norm_tile, &job);
}

/* The statistics come from the forward kernel, whose output lands in a scratch row that nobody reads. */
static void gv_norm_stats_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_rows_job *job = context;
    int64_t first, rows = gv_tile_span(job, tile, &first), at = first * job->cols;
    float *mean = job->stats + first, *rstd = job->stats + job->rows + first;
    float discard[4096];
    for (int64_t r = 0; r < rows; r++) {
        if (job->cols <= 4096) {
            gv_norm_rows(discard, job->norm->rms ? NULL : mean + r, rstd + r, job->x + at + r * job->cols, job->norm, 1,
                         job->cols);
        } else {
            const float *x = job->x + at + r * job->cols;
            double total = 0, squares = 0;
            for (int64_t c = 0; c < job->cols; c++) total += x[c];
            double center = job->norm->rms ? 0 : total / (double)job->cols;
            for (int64_t c = 0; c < job->cols; c++) squares += (x[c] - center) * (x[c] - center);
            mean[r] = (float)center;
            rstd[r] = (float)(1 / __builtin_sqrt(squares / (double)job->cols + (double)job->norm->eps));
        }
    }
}

static void gv_norm_backward_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_rows_job *job = context;
    const gv_kernels *k = gv_kernels_get();
    int64_t first, rows = gv_tile_span(job, tile, &first), at = first * job->cols;
    const float *mean = job->stats + first, *rstd = job->stats + job->rows + first;
    if (job->norm->rms) {
        k->rms_norm_backward(job->y + at, job->dy + at, job->x + at, rstd, job->norm->gamma, rows, job->cols);
    } else {
        k->layer_norm_backward(job->y + at, job->dy + at, job->x + at, mean, rstd, job->norm->gamma, rows, job->cols);
    }
}

static void gv_norm_columns_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_rows_job *job = context;
    int64_t c = tile * GV_COLUMN_TILE;
    int64_t cols = job->cols - c < GV_COLUMN_TILE ? job->cols - c : GV_COLUMN_TILE;
    gv_kernels_get()->norm_param_backward(job->dgamma + c, job->dbeta != NULL ? job->dbeta + c : NULL, job->dy + c, job->x + c,
                                          job->norm->rms ? NULL : job->stats, job->stats + job->rows, job->rows, cols,
                                          job->cols);
}

gv_status gv_norm_backward(float *dx, float *dgamma, float *dbeta, const float *dy, const float *x, const gv_norm *norm,
                           int64_t rows, int64_t cols, float *stats) {
    gv_rows_job job = {
        .y = dx, .dy = dy, .x = x, .norm = norm, .dgamma = dgamma, .dbeta = dbeta, .stats = stats, .rows = rows, .cols = cols};
    gv_status status = gv_run_rows(gv_norm_stats_tile, &job);
    if (status == GV_OK && dgamma != NULL && rows > 0) {
        status = gv_parallel_for((cols + GV_COLUMN_TILE - 1) / GV_COLUMN_TILE, gv_norm_columns_tile, &job);
    }
    if (status == GV_OK && dgamma == NULL && dbeta != NULL) gv_kernels_get()->column_sum(dbeta, dy, rows, cols, cols);
    if (status == GV_OK) status = gv_run_rows(gv_norm_backward_tile, &job);
    return status;
}

static void gv_dropout_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_rows_job *job = context;
    int64_t first, rows = gv_tile_span(job, tile, &first), at = first * job->cols;
    gv_drop(job->y + at, job->x + at, job->dropout, first, rows, job->cols);
}

gv_status gv_dropout_rows(float *y, const float *x, const gv_row_dropout *dropout, int64_t rows, int64_t cols) {
    gv_rows_job job = {.y = y, .x = x, .dropout = dropout, .rows = rows, .cols = cols};
    if (gv_drops(dropout)) return gv_run_rows(gv_dropout_tile, &job);
    if (y != x) memcpy(y, x, (size_t)(rows * cols) * sizeof(float));
    return GV_OK;
}

static void gv_add_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_rows_job *job = context;
    int64_t first, rows = gv_tile_span(job, tile, &first), at = first * job->cols;
    gv_kernels_get()->add(job->y + at, job->y + at, job->x + at, rows * job->cols);
}

gv_status gv_add_rows(float *y, const float *x, int64_t rows, int64_t cols) {
    gv_rows_job job = {.y = y, .x = x, .rows = rows, .cols = cols};
    return gv_run_rows(gv_add_tile, &job);
}

static void gv_activate_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_rows_job *job = context;
    const gv_kernels *k = gv_kernels_get();
    int64_t first, rows = gv_tile_span(job, tile, &first), at = first * job->cols, n = rows * job->cols;
    if (job->gate != NULL) {
        k->gated(job->kind, job->y + at, job->gate + at, job->x + at, n);
    } else {
        k->activation(job->kind, job->y + at, job->x + at, n);
    }
    if (gv_drops(job->dropout)) gv_drop(job->y + at, job->y + at, job->dropout, first, rows, job->cols);
}

gv_status gv_activate_rows(float *y, const float *gate, const float *up, gv_activation kind, const gv_row_dropout *dropout,
                           int64_t rows, int64_t cols) {
    gv_rows_job job = {.y = y, .gate = gate, .x = up, .kind = kind, .dropout = dropout, .rows = rows, .cols = cols};
    return gv_run_rows(gv_activate_tile, &job);
}

static void gv_activate_backward_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_rows_job *job = context;
    const gv_kernels *k = gv_kernels_get();
    int64_t first, rows = gv_tile_span(job, tile, &first), at = first * job->cols, n = rows * job->cols;
    if (gv_drops(job->dropout)) gv_drop(job->y + at, job->y + at, job->dropout, first, rows, job->cols);
    if (job->gate == NULL) {
        k->activation_backward(job->kind, job->y + at, job->y + at, job->x + at, n);
        return;
    }
    /* gated_backward reads dy after it has written dup for the same element only when they differ: go row by row. */
    float dy[512];
    for (int64_t i = 0; i < n; i += 512) {
        int64_t m = n - i < 512 ? n - i : 512;
        memcpy(dy, job->y + at + i, (size_t)m * sizeof(float));
        k->gated_backward(job->kind, job->dgate + at + i, job->y + at + i, dy, job->gate + at + i, job->x + at + i, m);
    }
}

gv_status gv_activate_rows_backward(float *dy, float *dgate, const float *gate, const float *up, gv_activation kind,
                                    const gv_row_dropout *dropout, int64_t rows, int64_t cols) {
    gv_rows_job job = {
        .y = dy, .dgate = dgate, .gate = gate, .x = up, .kind = kind, .dropout = dropout, .rows = rows, .cols = cols};
    return gv_run_rows(gv_activate_backward_tile, &job);
}

void gv_gather_rows(float *y, const float *x, const int32_t *index, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++) memcpy(y + r * cols, x + index[r] * cols, (size_t)cols * sizeof(float));
}

void gv_scatter_rows(float *y, const float *x, const int32_t *index, int64_t rows, int64_t cols) {
    const gv_kernels *k = gv_kernels_get();
    for (int64_t r = 0; r < rows; r++) k->add(y + index[r] * cols, y + index[r] * cols, x + r * cols, cols);
}
