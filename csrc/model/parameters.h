/* parameters.h - the model's named arrays: where they lie, their gradients, what has been reached. */
#ifndef GV_MODEL_PARAMETERS_H
#define GV_MODEL_PARAMETERS_H

#include <pthread.h>

#include "kernels/gemm.h"
#include "model/config.h"

/* A gradient's state since the last zero_grad. */
typedef enum {
    GV_GRAD_NONE = 0, /* counts as zero; memory may hold old numbers */
    GV_GRAD_ROWS,     /* an embedding: zero outside the rows flagged in `touched` */
    GV_GRAD_DENSE
} gv_grad_state;

typedef struct {
    char name[64];
    int64_t shape[2];
    int dimensions;
    int64_t size, offset;
    const float *data;
    float *grad;
    bool requires_grad;
    bool embedding;      /* gradient arrives row by row */
    bool linear;         /* the matrix of a linear layer */
    int slices;          /* equal parts along the outputs that are packed apart: 3 in a fused query, key and value, else 1 */
    gv_capture *capture; /* NULL unless the layer's inputs are copied out */
    gv_quantised *quantised; /* [slices], then `data` is NULL; or NULL */
    gv_grad_state state;
    bool dirty;       /* embedding only: memory outside `touched` may be non-zero */
    uint8_t *touched; /* embedding only: [shape[0]], since zero_grad */
} gv_parameter;

/* Indices of one linear layer's parameters; bias -1 = none. */
typedef struct {
    int64_t weight, bias;
} gv_linear_ids;
typedef struct {
    gv_linear_ids query, key, value, output; /* fused: all three of qkv name the one matrix */
    int64_t query_norm, key_norm, norm, norm_bias;
} gv_attention_ids;
typedef struct {
    gv_attention_ids self, cross;
    gv_linear_ids gate, up, down;
    int64_t mlp_norm, mlp_norm_bias;
} gv_layer_ids;

struct gv_workspaces;
typedef struct gv_adapter gv_adapter; /* adapters.h */

struct gv_model {
    const gv_allocator *allocator;
    gv_config config;
    gv_parameter *parameters;
    int64_t parameter_count, parameter_capacity, flat_size;
    gv_layer_ids *layers; /* [L]; shared layers repeat the first one's */
    int64_t word, position, token_type, embedding_norm, embedding_norm_bias, relative_bias, final_norm, final_norm_bias;
    int64_t mlm_norm, mlm_norm_bias, mlm_decoder, mlm_bias;
    gv_linear_ids projection, pooler, classifier, mlm_dense;
    float *flat, *flat_grad;          /* NULL until trainable */
    uint64_t version;                 /* grows whenever weights change */
    pthread_mutex_t lock;             /* backward and optimiser against each other; taken before `weights` */
    pthread_rwlock_t weights;         /* forwards read them; binding, make_trainable and a step replace them, writers first */
    struct gv_workspaces *workspaces; /* NULL of an adapter */
    gv_adapter *adapter;              /* not NULL: an adapter, with parameters but no layers of its own */
};

/* A table with room for `capacity` parameters and nothing else, as an adapter has; cols 0 = a vector. */
gv_status gv_parameters_create(gv_model **out, int64_t capacity, const gv_allocator *allocator, gv_error *error);
int64_t gv_register(gv_model *model, int64_t rows, int64_t cols, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Outputs and inputs of a linear layer's matrix (all slices together). */
void gv_linear_shape(int64_t *n, int64_t *k, const gv_model *model, int64_t index);
bool gv_model_trains(const gv_model *model); /* whether any parameter requires a gradient */

const float *gv_data(const gv_model *model, int64_t index); /* NULL for index -1 */

/* Where a gradient may be written with `beta` 0 or added with `beta` 1. NULL when it needs none. Marks it as reached. */
float *gv_grad_dense(gv_model *model, int64_t index, bool *accumulate);
/* The same, zeroed first when nothing had reached it: for kernels that only add. */
float *gv_grad_added(gv_model *model, int64_t index);
/* An embedding's gradient to add rows to; the caller flags `touched`. */
float *gv_grad_rows(gv_model *model, int64_t index);

gv_status gv_check_bound(const gv_model *model, gv_error *error);

/* quantise.c ------------------------------------------------------------------------------------------------------ */
const gv_quantised *gv_quantised_of(const gv_model *model, int64_t index); /* NULL: not quantised, or index -1 */
/* Back to float32, as the parameter is laid out. */
void gv_dequantise(float *out, const gv_model *model, int64_t index);
void gv_forget_quantised(gv_model *model, int64_t index);

#endif
