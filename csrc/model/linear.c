/* linear.c - one linear layer of a pass, forwards and backwards: the base's weight, or an adapter's own in its place, and what
 * low-rank adapters add.
 */
#include <string.h>

#include "base/try.h"
#include "model/adapters.h"

gv_weight gv_weight_of(const gv_pass *pass, const gv_model *owner, gv_linear_ids ids, int64_t n, int64_t k) {
    bool transposed = owner->config.conv1d && ids.weight >= 0 && owner->parameters[ids.weight].shape[0] == k &&
                      strncmp(owner->parameters[ids.weight].name, "layers.", 7) == 0;
    const gv_quantised *quantised = gv_quantised_of(owner, ids.weight);
    return (gv_weight){gv_data(owner, ids.weight),
                       gv_data(owner, ids.bias),
                       n,
                       k,
                       transposed ? n : k,
                       transposed,
                       quantised,
                       ids.weight >= 0 ? owner->parameters[ids.weight].capture : NULL,
                       quantised != NULL ? pass->unpack : NULL};
}

static gv_status gv_owned_linear(float *y, const gv_pass *pass, const gv_model *owner, gv_linear_ids ids, int64_t n, int64_t k,
                                 const float *x, int64_t m, gv_error *error) {
    if (m == 0) return GV_OK;
    gv_weight weight = gv_weight_of(pass, owner, ids, n, k);
    float *const ys[] = {y}, *const before[] = {NULL};
    return gv_linear_forward(ys, &n, before, &weight, 1, x, k, m, GV_ACT_NONE, error);
}

static gv_status gv_owned_linear_backward(float *dx, bool accumulate, const gv_pass *pass, gv_model *owner, gv_linear_ids ids,
                                          int64_t n, int64_t k, const float *dy, const float *x, int64_t m, gv_error *error) {
    gv_status status = GV_OK;
    if (m == 0) return GV_OK;
    gv_weight weight = gv_weight_of(pass, owner, ids, n, k);
    bool add_weight, add_bias;
    float *dw = gv_grad_dense(owner, ids.weight, &add_weight);
    float *db = gv_grad_dense(owner, ids.bias, &add_bias);
    float *const dws[] = {dw}, *const no_bias[] = {NULL}, *const dbs[] = {db};
    const float *const dys[] = {dy};
    if (dw != NULL) {
        /* weight and bias are reached together except when one of them is frozen */
        float *const *biases = db != NULL && add_bias == add_weight ? dbs : no_bias;
        status = gv_linear_backward_weight(dws, biases, &add_weight, &weight, 1, dys, &n, x, k, m, error);
        if (biases == dbs) db = NULL;
    }
    if (status == GV_OK && db != NULL) {
        if (!add_bias) memset(db, 0, (size_t)n * sizeof(float));
        gv_kernels_get()->column_sum(db, dy, m, n, n);
    }
    if (status == GV_OK && dx != NULL) status = gv_linear_backward_input(dx, k, dys, &n, &weight, 1, m, accumulate, error);
    return status;
}

gv_status gv_plain_linear(float *y, const gv_pass *pass, gv_linear_ids ids, int64_t n, int64_t k, const float *x, int64_t m,
                          gv_error *error) {
    return gv_owned_linear(y, pass, pass->model, ids, n, k, x, m, error);
}

gv_status gv_plain_linear_backward(float *dx, bool accumulate, const gv_pass *pass, gv_linear_ids ids, int64_t n, int64_t k,
                                   const float *dy, const float *x, int64_t m, gv_error *error) {
    return gv_owned_linear_backward(dx, accumulate, pass, pass->model, ids, n, k, dy, x, m, error);
}

/* Who holds the matrix for a segment of rows: an adapter with one of its own, else the base. */
static gv_model *gv_owner_of(const gv_pass *pass, const gv_segment *at, gv_linear_ids *ids) {
    const gv_adapter *table = at->adapter != NULL ? at->adapter->adapter : NULL;
    if (table == NULL || table->whole[ids->weight] < 0) return pass->model;
    ids->bias = ids->bias < 0 ? -1 : table->whole[ids->bias];
    ids->weight = table->whole[ids->weight];
    return at->adapter;
}

gv_status gv_linear(float *y, const gv_pass *pass, int64_t layer, const gv_row_set *rows, gv_linear_ids ids, int64_t n,
                    int64_t k, const float *x, gv_error *error) {
    gv_status status = GV_OK;
    if (gv_replaces(pass, ids.weight)) {
        gv_segment at;
        for (int64_t b = 0; gv_next_segment(&at, &b, pass, rows);) {
            gv_linear_ids there = ids;
            const gv_model *owner = gv_owner_of(pass, &at, &there);
            GV_TRY(gv_owned_linear(y + at.first * n, pass, owner, there, n, k, x + at.first * k, at.count, error));
        }
    } else {
        GV_TRY(gv_plain_linear(y, pass, ids, n, k, x, rows->count, error));
    }
    GV_TRY(gv_adapt(y, n, pass, layer, rows, ids.weight, 0, n, k, x, error));
done:
    return status;
}

gv_status gv_linear_backward(float *dx, bool accumulate, const gv_pass *pass, int64_t layer, const gv_row_set *rows,
                             gv_linear_ids ids, int64_t n, int64_t k, const float *dy, const float *x, gv_error *error) {
    gv_status status = GV_OK;
    if (gv_replaces(pass, ids.weight)) {
        gv_segment at;
        for (int64_t b = 0; gv_next_segment(&at, &b, pass, rows);) {
            gv_linear_ids there = ids;
            gv_model *owner = gv_owner_of(pass, &at, &there);
            GV_TRY(gv_owned_linear_backward(dx != NULL ? dx + at.first * k : NULL, accumulate, pass, owner, there, n, k,
                                            dy + at.first * n, x + at.first * k, at.count, error));
        }
    } else {
        GV_TRY(gv_plain_linear_backward(dx, accumulate, pass, ids, n, k, dy, x, rows->count, error));
    }
    GV_TRY(gv_adapt_backward(dx, pass, layer, rows, ids.weight, 0, n, k, dy, n, x, error));
done:
    return status;
}
