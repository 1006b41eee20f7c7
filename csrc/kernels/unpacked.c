/* unpacked.c - products with what a quantised weight stands for, in float32: for training, where the rounding of activations
 * would spoil the gradient. Some outputs at a time are made float32 in the caller's scratch, so that no whole copy of a weight
 * is ever held; with hundreds of rows that costs a few parts in a hundred of the product.
 */
#include "base/parallel.h"
#include "base/try.h"
#include "kernels/gemm.h"

enum {
    GV_UNPACK_TILE = 16,    /* outputs: one panel */
    GV_UNPACK_OUTPUTS = 384 /* whole tiles of gemm.c for two threads */
};

/* Outputs made float32 at once, by shape alone: about 4 MB, which stay in the last cache. */
static int64_t gv_unpack_outputs(int64_t k) {
    int64_t parts = (1 << 20) / (k * GV_UNPACK_OUTPUTS);
    return (parts < 1 ? 1 : parts) * GV_UNPACK_OUTPUTS;
}

int64_t gv_unpack_floats(int64_t k) {
    return gv_unpack_outputs(k) * k;
}

typedef struct {
    float *out;
    const gv_quantised *w;
    int64_t first, count;
} gv_unpack_job;

static void gv_unpack_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    const gv_unpack_job *job = context;
    int64_t begin = tile * GV_UNPACK_TILE, end = begin + GV_UNPACK_TILE < job->count ? begin + GV_UNPACK_TILE : job->count;
    for (int64_t o = begin; o < end; o++) {
        gv_any_row(gv_kernels_get(), job->out + o * job->w->k, 1.0f, job->w, job->first + o, false);
    }
}

/* Outputs [first, first + *count) of `weight` as a weight of its own; *count = 0: there are no more. */
static gv_status gv_unpack(gv_weight *part, int64_t *count, const gv_weight *weight, int64_t first) {
    int64_t most = gv_unpack_outputs(weight->k), left = weight->n - first;
    *count = left < most ? left : most;
    if (*count <= 0) return GV_OK;
    gv_unpack_job job = {weight->unpack, weight->quantised, first, *count};
    *part = (gv_weight){.w = weight->unpack,
                        .bias = weight->bias != NULL ? weight->bias + first : NULL,
                        .n = *count,
                        .k = weight->k,
                        .stride = weight->k};
    return gv_parallel_for((*count + GV_UNPACK_TILE - 1) / GV_UNPACK_TILE, gv_unpack_tile, &job);
}

gv_status gv_unpacked_forward(float *const y[], const int64_t y_stride[], float *const before[], const gv_weight weights[],
                              int count, const float *x, int64_t x_stride, int64_t m, gv_activation activation,
                              gv_error *error) {
    gv_status status = GV_OK;
    for (int i = 0; i < count; i++) {
        gv_weight part;
        int64_t outputs;
        for (int64_t first = 0; first < weights[i].n; first += outputs) {
            GV_TRY(gv_unpack(&part, &outputs, &weights[i], first));
            float *const ys[] = {y[i] + first};
            float *const befores[] = {before != NULL && before[i] != NULL ? before[i] + first : NULL};
            GV_TRY(gv_linear_forward(ys, y_stride + i, befores, &part, 1, x, x_stride, m, activation, error));
        }
    }
done:
    return status;
}

gv_status gv_unpacked_backward_input(float *dx, int64_t dx_stride, const float *const dy[], const int64_t dy_stride[],
                                     const gv_weight weights[], int count, int64_t m, bool accumulate, gv_error *error) {
    gv_status status = GV_OK;
    for (int i = 0; i < count; i++) {
        gv_weight part;
        int64_t outputs;
        for (int64_t first = 0; first < weights[i].n; first += outputs) {
            GV_TRY(gv_unpack(&part, &outputs, &weights[i], first));
            const float *const dys[] = {dy[i] + first};
            bool add = accumulate || i > 0 || first > 0;
            GV_TRY(gv_linear_backward_input(dx, dx_stride, dys, dy_stride + i, &part, 1, m, add, error));
        }
    }
done:
    return status;
}
