/* pass.h - one forward's inputs, saved activations and results; shared by transformer.c, heads.c and pass.c. */
#ifndef GV_MODEL_PASS_H
#define GV_MODEL_PASS_H

#include "model/parameters.h"
#include "model/workspace.h"
#include "nn/attention.h"
#include "nn/rows.h"

/* A set of rows of the packed batch: all tokens, or those that the last layer is computed for. */
typedef struct {
    int64_t count;
    const int32_t *index;       /* [count] into all tokens; NULL = all of them */
    const int64_t *splits;      /* [B+1] */
    const int32_t *position;    /* [count] */
    const uint32_t *sample;     /* [count] */
    const float *cosine, *sine; /* [count, head_dim / 2], rotary only */
} gv_row_set;

typedef struct {
    float *query, *key, *value;  /* after norm and rotation: [Tq, heads * d], [Tk, kv_heads * d] twice */
    float *query_raw, *key_raw;  /* before the per-head norm (query_key_norm only) */
    float *context;              /* [Tq, heads * d] */
    float *lse;                  /* [heads, Tq] */
    float *probs;                /* [sum q * k * heads] when attentions are kept */
    const int64_t *probs_offset; /* [B] */
    float *sum;                  /* [Tq, H]: residual + output */
} gv_attention_state;

typedef struct {
    gv_attention_state self, cross;
    float *gate, *up; /* [Tq, I] before the activation */
    float *inner;     /* [Tq, I] after it, where nothing is saved: in the place of what the attention needed; else NULL */
    float *sum;       /* [Tq, H]: residual + mlp */
} gv_layer_state;

/* Sites of the dropout streams: layer * 16 + one of these; embeddings and heads count as layer L. */
enum {
    GV_SITE_ATTENTION = 0,
    GV_SITE_OUTPUT,
    GV_SITE_MLP,
    GV_SITE_DOWN,
    GV_SITE_CROSS,
    GV_SITE_CROSS_OUTPUT,
    GV_SITE_EMBEDDING = 0,
    GV_SITE_POOLER,
    GV_SITE_CLASSIFIER,
    GV_SITE_FINAL
};

struct gv_pass {
    gv_model *model;
    uint64_t version;
    gv_arena inputs, results, arena; /* copies of the arguments; what views show; activations, until backward */
    int width;                       /* of the pool, asked once by the thread that runs */
    int64_t tokens, sequences, memory_rows;
    bool save, training, keep_hidden, keep_attention, spent;
    uint32_t seed, step;
    const int32_t *ids, *types;
    gv_row_set all, selected;
    const int64_t *key_counts;
    const uint32_t *samples;
    const float *memory;
    const int64_t *memory_splits;
    gv_row_set memory_set; /* its rows; sample and position for dropout */
    const int32_t *relative_bucket;
    gv_adapter_choice adapters; /* copied */
    uint64_t *adapter_versions; /* [adapters.count] */
    bool exact;                 /* quantised weights count as what they stand for: a backward may follow through adapters */
    float *unpack;              /* scratch for that, while a forward or backward runs */
    bool checkpoint;
    float **layer_inputs; /* [L], with checkpoint; the first layer's is `embedded` */
    gv_cache *cache;      /* while a step over it runs */
    const int64_t *cache_sequences;
    const int32_t *first;    /* [B]: row of a sequence's first token among the selected rows, -1 = none */
    gv_row_set sequence_set; /* one row a sequence */
    gv_row_set head_set;     /* the rows the head works on */
    gv_layer_state *layers;  /* [L] when saved, else all the same */
    float *embedded;         /* [T, H] */
    float **hidden;          /* [L+1], NULL where not kept; [L] is always there */
    float *last;             /* [R, H]: what the head sees, = hidden[L] */
    float *last_raw;         /* before the final norm */
    /* heads; mlm_out: what the decoder multiplies, = last of a causal LM whose logits are not scaled */
    gv_loss_kind loss_kind;
    int64_t logit_cols;
    float *pooler_in, *pooler_before, *pooled, *head_in, *logits, *mlm_before, *mlm_act, *mlm_out, *chunk, *row_loss,
        *row_scale;
    float *mlm_gradient; /* [R, E]: at mlm_out, of a gradient of 1 at the loss; NULL = made in the backward */
    bool wants_logits;
    const int64_t *labels;
    const float *label_values, *class_weights;
    double label_weight; /* sum of the weights of what counts */
    bool has_loss;
    double loss;
};

/* Rows of dropout numbers for `site` of `layer`; p = 0 outside training. */
gv_row_dropout gv_pass_dropout(const gv_pass *pass, int64_t layer, int site, double rate, const gv_row_set *rows);

/* transformer.c ------------------------------------------------------------------------------------------------- */
typedef struct {
    float *ping, *pong, *normed, *gathered, *output, *inner, *scratch;
} gv_forward_temps;
typedef struct {
    float *dx, *dsum, *d_in, *dquery, *dkey, *dvalue, *dcontext, *inner, *dinner, *dgate, *x, *normed, *stats, *scratch, *small,
        *gathered;
    gv_forward_temps again; /* with checkpoint */
} gv_backward_temps;

void gv_layer_state_take(gv_layer_state *out, gv_arena *arena, const gv_pass *pass, bool last);
void gv_forward_temps_take(gv_forward_temps *out, gv_arena *arena, const gv_pass *pass);
void gv_backward_temps_take(gv_backward_temps *out, gv_arena *arena, const gv_pass *pass);

gv_norm gv_norm_of(const gv_model *model, int64_t gamma, int64_t beta, double eps);
gv_weight gv_weight_of(const gv_pass *pass, const gv_model *owner, gv_linear_ids ids, int64_t n, int64_t k);
/* y = x w^T + b [m, n], without adapters. m = 0 does nothing. */
gv_status gv_plain_linear(float *y, const gv_pass *pass, gv_linear_ids ids, int64_t n, int64_t k, const float *x, int64_t m,
                          gv_error *error);
gv_status gv_plain_linear_backward(float *dx, bool accumulate, const gv_pass *pass, gv_linear_ids ids, int64_t n, int64_t k,
                                   const float *dy, const float *x, int64_t m, gv_error *error);
/* The same for the rows of a row set, through the adapters of their sequences. */
gv_status gv_linear(float *y, const gv_pass *pass, int64_t layer, const gv_row_set *rows, gv_linear_ids ids, int64_t n,
                    int64_t k, const float *x, gv_error *error);
/* Weight and bias gradients, and dx unless NULL. */
gv_status gv_linear_backward(float *dx, bool accumulate, const gv_pass *pass, int64_t layer, const gv_row_set *rows,
                             gv_linear_ids ids, int64_t n, int64_t k, const float *dy, const float *x, gv_error *error);

gv_status gv_embed_forward(gv_pass *pass, const gv_forward_temps *temps, gv_error *error);
gv_status gv_embed_backward(gv_pass *pass, float *dx, const gv_backward_temps *temps, gv_error *error);
/* x: [T, H]. *y receives where the output [rows, H] lies. */
gv_status gv_layer_forward(float **y, gv_pass *pass, int64_t layer, float *x, const gv_forward_temps *temps, gv_error *error);
/* dy: [rows, H] gradient at the layer's output; leaves the gradient at its input in temps->dx ([T, H]; may be dy). dprobs:
 * [B] pointers or NULL; dprojection: at query, key, value, or NULL. dmemory is added to, or NULL. */
gv_status gv_layer_backward(gv_pass *pass, int64_t layer, const float *dy, const float *const *dprobs,
                            const float *const *dprojection, float *dmemory, const gv_backward_temps *temps, gv_error *error);

/* heads.c ------------------------------------------------------------------------------------------------------- */
void gv_head_take_results(gv_pass *pass, gv_arena *arena, bool want_logits);
void gv_head_take(gv_pass *pass, gv_arena *arena);
gv_status gv_head_forward(gv_pass *pass, gv_error *error);
/* Writes the gradient at the last hidden state into dlast [R, H]. */
gv_status gv_head_backward(float *dlast, gv_pass *pass, const gv_backward_args *args, gv_error *error);

#endif
