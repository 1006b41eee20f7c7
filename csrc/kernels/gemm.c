/* gemm.c - matrix products over the thread pool: tiles cut by shape, each one call of dnnl_sgemm on one thread, or of our
 * own kernels where those are faster: few rows that meet weights streaming from memory, and the backward pass, whose tiles
 * oneDNN does not pack (70 of 100 GFLOP/s a core, ours 95).
 */
#include "kernels/gemm.h"

#include <dnnl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/parallel.h"

enum {
    GV_SMALL_ROWS = 257,       /* below: our own kernels throughout */
    GV_TILE_ROWS = 384,        /* of x, or inputs of a weight gradient */
    GV_TILE_COLS = 192,        /* outputs */
    GV_INPUT_COLS = 256,       /* of an input gradient, whose rows are packed once a tile */
    GV_STREAM_FLOATS = 1 << 19 /* a weight gradient of this size bypasses the caches */
};

/* ----------------------------------------------------------------------------------------------------- oneDNN -- */

static pthread_once_t gv_onednn_once = PTHREAD_ONCE_INIT;
static char gv_onednn_text[32];
static char gv_gemm_text[128];

/* oneDNN generates its code at the first product of each kind: here, so that no fork comes in between. */
static void gv_onednn_warm(void *context, int64_t tile, int worker) {
    (void)context;
    (void)tile;
    (void)worker;
    const float one[16 * 16] = {0};
    float two[16 * 16];
    const char *kinds[] = {"NT", "TN", "NN"};
    for (int i = 0; i < 3; i++) {
        (void)dnnl_sgemm(kinds[i][0], kinds[i][1], 16, 16, 16, 1.0f, one, 16, one, 16, 0.0f, two, 16);
    }
}

/* GOVLM_MAX_ISA holds for oneDNN too; that must be said before its first product. */
static void gv_onednn_start(void) {
    gv_isa isa = gv_cpu_isa();
    if (isa == GV_ISA_SCALAR) (void)dnnl_set_max_cpu_isa(dnnl_cpu_isa_sse41);
    if (isa == GV_ISA_AVX2) (void)dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
    gv_parallel_alone(gv_onednn_warm, NULL);
    const dnnl_version_t *version = dnnl_version();
    (void)snprintf(gv_onednn_text, sizeof gv_onednn_text, "%d.%d.%d", version->major, version->minor, version->patch);
    const char *own = gv_kernels_get()->isa;
    (void)snprintf(gv_gemm_text, sizeof gv_gemm_text, "forward: dnnl_sgemm %s (%s) for m >= %d, own (%s) below; backward: own",
                   gv_onednn_text, isa == GV_ISA_SCALAR ? "sse41" : own, (int)GV_SMALL_ROWS, own);
}

const char *gv_onednn_version(void) {
    (void)pthread_once(&gv_onednn_once, gv_onednn_start);
    return gv_onednn_text;
}

const char *gv_gemm_description(void) {
    (void)pthread_once(&gv_onednn_once, gv_onednn_start);
    return gv_gemm_text;
}

/* ------------------------------------------------------------------------------------------------------ tiles -- */

typedef struct {
    int64_t size, count; /* one tile, tiles */
} gv_cut;

/* Nearly equal tiles of at most `most`, multiples of `unit`; one, or an even number, so that two threads end together. */
static gv_cut gv_cut_make(int64_t length, int64_t most, int64_t unit) {
    int64_t count = (length + most - 1) / most;
    if (count > 1) count += count % 2;
    int64_t size = (length + count - 1) / count;
    size = (size + unit - 1) / unit * unit;
    return (gv_cut){.size = size, .count = (length + size - 1) / size};
}

static inline int64_t gv_cut_length(const gv_cut *cut, int64_t tile, int64_t length) {
    int64_t left = length - tile * cut->size;
    return left < cut->size ? left : cut->size;
}

typedef struct {
    const gv_kernels *kernels;
    const gv_weight *weights;
    int count;
    int64_t m;
    gv_cut rows;                  /* of m (of k in the backward pass of weights) */
    gv_cut cols[GV_LINEAR_GROUP]; /* of n_i (of k in the backward pass of inputs, cols[0] only) */
    gv_activation activation;
    float *const *y;
    const int64_t *y_stride;
    float *const *before;
    const float *x;
    int64_t x_stride;
    float *dx;
    int64_t dx_stride;
    const float *const *dy;
    const int64_t *dy_stride;
    float *const *dw;
    float *const *dbias;
    const bool *accumulate;
    bool add;
    bool own;               /* our kernels: few rows, or a backward pass, whose tiles oneDNN does not pack */
    gv_packed_rows *packed; /* [width], or NULL: x as each worker packed it */
    atomic_int failed;      /* first status of oneDNN that was not success */
} gv_linear;

static void gv_sgemm(gv_linear *job, char ta, char tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
                     const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    dnnl_status_t status = dnnl_sgemm(ta, tb, m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
    if (status != dnnl_success) {
        int none = 0;
        (void)atomic_compare_exchange_strong(&job->failed, &none, (int)status);
    }
}

/* Which weight a tile belongs to; *tile becomes its number there. */
static int gv_linear_find(const gv_linear *job, int64_t *tile, int64_t others) {
    int i = 0;
    while (i + 1 < job->count && *tile >= job->cols[i].count * others) *tile -= job->cols[i++].count * others;
    return i;
}

static gv_status gv_linear_run(gv_linear *job, int64_t tiles, gv_tile_fn fn, gv_error *error) {
    if (!job->own) (void)pthread_once(&gv_onednn_once, gv_onednn_start); /* a small process is spared 5 MB */
    gv_status status = gv_parallel_for(tiles, fn, job);
    if (status == GV_ERR_CANCELLED) return gv_fail(error, status, "cancelled");
    int failed = atomic_load(&job->failed);
    if (failed == (int)dnnl_out_of_memory) return gv_fail(error, GV_ERR_MEMORY, "oneDNN ran out of memory in a matrix product");
    if (failed != 0) return gv_fail(error, GV_ERR_INTERNAL, "oneDNN failed in a matrix product (status %d)", failed);
    return status;
}

/* ---------------------------------------------------------------------------------------------------- forward -- */

static void gv_forward_tile(void *context, int64_t tile, int worker) {
    gv_linear *job = context;
    int i = gv_linear_find(job, &tile, job->rows.count);
    const gv_weight *w = &job->weights[i];
    int64_t row = tile % job->rows.count, col = tile / job->rows.count;
    int64_t rows = gv_cut_length(&job->rows, row, job->m), cols = gv_cut_length(&job->cols[i], col, w->n);
    int64_t r = row * job->rows.size, c = col * job->cols[i].size, stride = job->y_stride[i];
    float *y = job->y[i] + r * stride + c;
    const float *x = job->x + r * job->x_stride, *bias = w->bias != NULL ? w->bias + c : NULL;
    if (job->own && !w->transposed) {
        job->kernels->product_nt(y, stride, x, job->x_stride, w->w + c * w->stride, w->stride, bias, rows, cols, w->k,
                                 job->packed != NULL ? &job->packed[worker] : NULL);
    } else if (job->own) {
        job->kernels->product_nn(y, stride, x, job->x_stride, 1, w->w + c, w->stride, rows, cols, w->k, false, false);
        if (bias != NULL) job->kernels->bias_add(y, bias, rows, cols, stride);
    } else {
        const float *part = w->transposed ? w->w + c : w->w + c * w->stride;
        gv_sgemm(job, 'N', w->transposed ? 'N' : 'T', rows, cols, w->k, x, job->x_stride, part, w->stride, 0.0f, y, stride);
        if (bias != NULL) job->kernels->bias_add(y, bias, rows, cols, stride);
    }
    float *before = job->before != NULL && job->before[i] != NULL ? job->before[i] + r * stride + c : NULL;
    if (before == NULL && job->activation == GV_ACT_NONE) return;
    for (int64_t j = 0; j < rows; j++, y += stride) {
        if (before != NULL) memcpy(before + j * stride, y, (size_t)cols * sizeof *y);
        if (job->activation != GV_ACT_NONE) job->kernels->activation(job->activation, y, y, cols);
    }
}

static void gv_capture_rows(gv_capture *to, const float *x, int64_t x_stride, int64_t m, int64_t k) {
    for (int64_t r = 0; r < m && to->count < to->most; r++, to->count++) {
        memcpy(to->rows + to->count * k, x + r * x_stride, (size_t)k * sizeof *x);
    }
}

gv_status gv_linear_forward(float *const y[], const int64_t y_stride[], float *const before[], const gv_weight weights[],
                            int count, const float *x, int64_t x_stride, int64_t m, gv_activation activation, gv_error *error) {
    if (m <= 0) return GV_OK;
    for (int i = 0; i < count; i++) {
        if (weights[i].capture != NULL) gv_capture_rows(weights[i].capture, x, x_stride, m, weights[i].k);
    }
    int alike = 1; /* the first `alike` are of one kind: nearly always all */
    while (alike < count && (weights[alike].quantised != NULL) == (weights[0].quantised != NULL)) alike++;
    if (alike < count) { /* no capture twice: studied models are float32 throughout */
        gv_status first = gv_linear_forward(y, y_stride, before, weights, alike, x, x_stride, m, activation, error);
        if (first != GV_OK) return first;
        return gv_linear_forward(y + alike, y_stride + alike, before != NULL ? before + alike : NULL, weights + alike,
                                 count - alike, x, x_stride, m, activation, error);
    }
    if (weights[0].unpack != NULL && weights[0].quantised != NULL) {
        return gv_unpacked_forward(y, y_stride, before, weights, count, x, x_stride, m, activation, error);
    }
    if (weights[0].quantised != NULL) {
        return gv_quantised_forward(y, y_stride, before, weights, count, x, x_stride, m, activation, error);
    }
    gv_linear job = {.kernels = gv_kernels_get(), .weights = weights, .count = count, .m = m, .activation = activation};
    job.y = y;
    job.y_stride = y_stride;
    job.before = before;
    job.x = x;
    job.x_stride = x_stride;
    job.own = m < GV_SMALL_ROWS;
    job.rows = gv_cut_make(m, job.own ? m : GV_TILE_ROWS, 1);
    int64_t tiles = 0;
    for (int i = 0; i < count; i++) {
        job.cols[i] = gv_cut_make(weights[i].n, GV_TILE_COLS, job.own ? 12 : 16);
        tiles += job.cols[i].count * job.rows.count;
    }
    if (!job.own || m > GV_PACKED_ROWS) return gv_linear_run(&job, tiles, gv_forward_tile, error);
    int64_t width = gv_parallel_width(), floats = gv_packed_floats(weights[0].k);
    size_t size = (size_t)width * ((size_t)floats * sizeof(float) + sizeof *job.packed);
    float *columns = gv_alloc(NULL, size);
    if (columns == NULL) return gv_fail(error, GV_ERR_MEMORY, "no memory for %zu bytes of matrix product scratch", size);
    job.packed = (gv_packed_rows *)(void *)(columns + width * floats);
    for (int64_t i = 0; i < width; i++) job.packed[i] = (gv_packed_rows){columns + i * floats, false};
    gv_status status = gv_linear_run(&job, tiles, gv_forward_tile, error);
    gv_release(NULL, columns, size);
    return status;
}

/* ----------------------------------------------------------------------------------------- gradient of inputs -- */

static void gv_backward_input_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_linear *job = context;
    int64_t row = tile % job->rows.count, col = tile / job->rows.count, k = job->weights[0].k;
    int64_t rows = gv_cut_length(&job->rows, row, job->m), cols = gv_cut_length(&job->cols[0], col, k);
    int64_t r = row * job->rows.size, c = col * job->cols[0].size;
    float *dx = job->dx + r * job->dx_stride + c;
    for (int i = 0; i < job->count; i++) {
        const gv_weight *w = &job->weights[i];
        const float *dy = job->dy[i] + r * job->dy_stride[i], *part = w->transposed ? w->w + c * w->stride : w->w + c;
        bool add = job->add || i > 0;
        if (!w->transposed && job->own) {
            job->kernels->product_nn(dx, job->dx_stride, dy, job->dy_stride[i], 1, part, w->stride, rows, cols, w->n, add,
                                     false);
        } else {
            gv_sgemm(job, 'N', w->transposed ? 'T' : 'N', rows, cols, w->n, dy, job->dy_stride[i], part, w->stride,
                     add ? 1.0f : 0.0f, dx, job->dx_stride);
        }
    }
}

gv_status gv_linear_backward_input(float *dx, int64_t dx_stride, const float *const dy[], const int64_t dy_stride[],
                                   const gv_weight weights[], int count, int64_t m, bool accumulate, gv_error *error) {
    if (m <= 0 || count <= 0) return GV_OK;
    int alike = 1; /* as in the forward */
    while (alike < count && (weights[alike].quantised != NULL) == (weights[0].quantised != NULL)) alike++;
    if (alike < count) {
        gv_status first = gv_linear_backward_input(dx, dx_stride, dy, dy_stride, weights, alike, m, accumulate, error);
        if (first != GV_OK) return first;
        return gv_linear_backward_input(dx, dx_stride, dy + alike, dy_stride + alike, weights + alike, count - alike, m, true,
                                        error);
    }
    if (weights[0].quantised != NULL) {
        return gv_unpacked_backward_input(dx, dx_stride, dy, dy_stride, weights, count, m, accumulate, error);
    }
    gv_linear job = {.kernels = gv_kernels_get(), .weights = weights, .count = count, .m = m, .add = accumulate};
    job.dx = dx;
    job.dx_stride = dx_stride;
    job.dy = dy;
    job.dy_stride = dy_stride;
    job.own = m < GV_SMALL_ROWS || gv_cpu_isa() != GV_ISA_SCALAR;
    job.rows = gv_cut_make(m, GV_TILE_ROWS, 1);
    job.cols[0] = gv_cut_make(weights[0].k, GV_INPUT_COLS, 32);
    return gv_linear_run(&job, job.rows.count * job.cols[0].count, gv_backward_input_tile, error);
}

/* ---------------------------------------------------------------------------------------- gradient of weights -- */

/* dw tile (+)= dy^T x */
static void gv_backward_weight_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    gv_linear *job = context;
    int i = gv_linear_find(job, &tile, job->rows.count);
    const gv_weight *w = &job->weights[i];
    int64_t row = tile % job->rows.count, col = tile / job->rows.count;
    int64_t inputs = gv_cut_length(&job->rows, row, w->k), outputs = gv_cut_length(&job->cols[i], col, w->n);
    int64_t in = row * job->rows.size, out = col * job->cols[i].size, stride = job->dy_stride[i];
    const float *dy = job->dy[i] + out, *x = job->x + in;
    if (job->dw[i] != NULL) {
        float *dw = job->dw[i] + (w->transposed ? in * w->stride + out : out * w->stride + in);
        /* A large gradient is not read again before it has left the caches. */
        bool stream = w->n * w->k >= GV_STREAM_FLOATS, add = job->accumulate[i];
        if (job->own && w->transposed) {
            job->kernels->product_nn(dw, w->stride, x, 1, job->x_stride, dy, stride, inputs, outputs, job->m, add, stream);
        } else if (job->own) {
            job->kernels->product_nn(dw, w->stride, dy, 1, stride, x, job->x_stride, outputs, inputs, job->m, add, stream);
        } else if (w->transposed) {
            gv_sgemm(job, 'T', 'N', inputs, outputs, job->m, x, job->x_stride, dy, stride, add ? 1.0f : 0.0f, dw, w->stride);
        } else {
            gv_sgemm(job, 'T', 'N', outputs, inputs, job->m, dy, stride, x, job->x_stride, add ? 1.0f : 0.0f, dw, w->stride);
        }
    }
    if (row == 0 && job->dbias != NULL && job->dbias[i] != NULL) {
        float *dbias = job->dbias[i] + out;
        if (!job->accumulate[i]) memset(dbias, 0, (size_t)outputs * sizeof *dbias);
        job->kernels->column_sum(dbias, dy, job->m, outputs, job->dy_stride[i]);
    }
}

gv_status gv_linear_backward_weight(float *const dw[], float *const dbias[], const bool accumulate[], const gv_weight weights[],
                                    int count, const float *const dy[], const int64_t dy_stride[], const float *x,
                                    int64_t x_stride, int64_t m, gv_error *error) {
    if (count <= 0) return GV_OK;
    gv_linear job = {.kernels = gv_kernels_get(), .weights = weights, .count = count, .m = m < 0 ? 0 : m};
    job.dw = dw;
    job.dbias = dbias;
    job.accumulate = accumulate;
    job.dy = dy;
    job.dy_stride = dy_stride;
    job.x = x;
    job.x_stride = x_stride;
    job.own = job.m < GV_SMALL_ROWS || gv_cpu_isa() != GV_ISA_SCALAR;
    job.rows = gv_cut_make(weights[0].k, GV_TILE_ROWS, 32);
    int64_t tiles = 0;
    for (int i = 0; i < count; i++) {
        job.cols[i] = gv_cut_make(weights[i].n, GV_TILE_COLS, 12);
        tiles += job.cols[i].count * job.rows.count;
    }
    return gv_linear_run(&job, tiles, gv_backward_weight_tile, error);
}
