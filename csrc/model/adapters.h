/* adapters.h - low-rank adapters beside a model's linear layers. An adapter is a gv_model that holds A and B of each target (and
 * whole matrices of its own for some heads) in its own flat buffers; it runs only as part of a forward of its base.
 */
#ifndef GV_MODEL_ADAPTERS_H
#define GV_MODEL_ADAPTERS_H

#include "model/pass.h"

struct gv_adapter {
    const gv_model *base; /* compared, never followed */
    int64_t rank, base_count;
    float scale;
    double dropout;
    int64_t *a, *b, *whole; /* [base_count]: for the base's parameters, the adapter's own or -1 */
};

void gv_adapter_forget(gv_model *adapter);

/* Checks the adapters that a forward names. */
gv_status gv_check_adapters(const gv_model *model, const gv_adapter_choice *choice, int64_t sequences, gv_error *error);
void gv_adapters_read_lock(const gv_adapter_choice *choice);
void gv_adapters_unlock(const gv_adapter_choice *choice);

/* Whether one of the pass's adapters wants any gradient; whether one adds to, or replaces, this matrix. */
bool gv_adapters_train(const gv_pass *pass);
bool gv_adapts(const gv_pass *pass, int64_t weight);
bool gv_replaces(const gv_pass *pass, int64_t weight);

/* Rows that lie together and have one adapter (NULL = none). Begin with *sequence = 0; false: there are no more. */
typedef struct {
    int64_t first, count;
    gv_model *adapter;
} gv_segment;
bool gv_next_segment(gv_segment *segment, int64_t *sequence, const gv_pass *pass, const gv_row_set *rows);

/* Adds to y [rows, n] what the adapters of the matrix `weight` of `layer` make of x [rows, k]; the weight may be a slice that
 * begins at output `first` of the matrix. */
gv_status gv_adapt(float *y, int64_t y_stride, const gv_pass *pass, int64_t layer, const gv_row_set *rows, int64_t weight,
                   int64_t first, int64_t n, int64_t k, const float *x, gv_error *error);
/* Adds to dx (NULL = not wanted) and to the adapters' gradients. */
gv_status gv_adapt_backward(float *dx, const gv_pass *pass, int64_t layer, const gv_row_set *rows, int64_t weight,
                            int64_t first, int64_t n, int64_t k, const float *dy, int64_t dy_stride, const float *x,
                            gv_error *error);

#endif
