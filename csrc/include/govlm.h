/* govlm.h - the whole C API of govlm: opaque handles, option structs, gv_status.
 *
 * Conventions: out-parameters come first; every fallible function returns a gv_status and fills the caller's
 * gv_error; sizes are int64_t or size_t; a NULL allocator means malloc. Handles are freed by their _free function,
 * which accepts NULL. Nothing here prints, exits or keeps global state beyond the thread pool and the kernel table.
 */
#ifndef GOVLM_H
#define GOVLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------ common -- */

typedef enum {
    GV_OK = 0,
    GV_ERR_MEMORY,    /* an allocation failed                     -> MemoryError       */
    GV_ERR_VALUE,     /* an argument has a wrong value or shape   -> ValueError        */
    GV_ERR_TYPE,      /* an argument has a wrong type             -> TypeError         */
    GV_ERR_INDEX,     /* an index is out of range                 -> IndexError        */
    GV_ERR_STATE,     /* the handle is not in a state for this    -> RuntimeError      */
    GV_ERR_IO,        /* a file could not be read or written      -> OSError           */
    GV_ERR_FORMAT,    /* a file or text is malformed              -> ValueError        */
    GV_ERR_CANCELLED, /* the caller asked to stop                 -> KeyboardInterrupt */
    GV_ERR_INTERNAL   /* a library underneath failed              -> RuntimeError      */
} gv_status;

typedef struct {
    gv_status status;
    char text[512]; /* UTF-8, NUL-terminated; empty when status is GV_OK */
} gv_error;

/* Records `status` and the printf-style message in `error` (may be NULL) and returns `status`. */
gv_status gv_fail(gv_error *error, gv_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The caller's memory source. `alloc` returns memory aligned to 64 bytes, or NULL; `release` accepts NULL. */
typedef struct {
    void *(*alloc)(void *self, size_t size);
    void (*release)(void *self, void *pointer, size_t size);
    void *self;
} gv_allocator;

/* Threads. The pool is process-wide, started at first use, rebuilt in a forked child. */
int gv_num_threads(void);
gv_status gv_set_num_threads(int count, gv_error *error); /* 1..1024; waits for running work */

/* Names for `govlm info`: the ISA of the kernel table in use ("scalar", "avx2", "avx512"), the CPU's features as a
 * comma-separated list, oneDNN's version ("3.2.0"). All static strings. */
const char *gv_isa_name(void);
const char *gv_cpu_features(void);
const char *gv_onednn_version(void);

/* --------------------------------------------------------------------------------------------- tokenizer -- */

/* A string of code points in its own width (1, 2 or 4 bytes each), as CPython holds it. Not owned. */
typedef struct {
    const void *data;
    int64_t length;
    int width;
} gv_text;

/* WordPiece with BERT's normalisation. Immutable once made (gv_tokenizer_add_token comes before the first encode), so any
 * number of threads may encode with one. */
typedef struct gv_tokenizer gv_tokenizer;
typedef struct {
    bool clean_text, handle_chinese_chars, strip_accents, lowercase;
    int64_t max_word;          /* longer words become unknown_id; BERT: 100 */
    gv_text continuing_prefix; /* "##" */
    int32_t unknown_id;
} gv_tokenizer_options;

/* vocabulary[i] has id i; an empty entry has none. */
gv_status gv_tokenizer_create(gv_tokenizer **out, const gv_text *vocabulary, int64_t count, const gv_tokenizer_options *options,
                              const gv_allocator *allocator, gv_error *error);
void gv_tokenizer_free(gv_tokenizer *tokenizer);

/* A token found in the text before anything else is done to it. `normalized` matches on normalised characters. */
typedef struct {
    gv_text text;
    int32_t id;
    bool single_word, left_strip, right_strip, normalized;
} gv_added_token;
gv_status gv_tokenizer_add_token(gv_tokenizer *tokenizer, const gv_added_token *token, gv_error *error);

/* Growing output; `starts`, `ends` (code points of the source) and `words` only when `offsets`. Zero it, set `offsets` and
 * `allocator`; free with gv_tokens_clear. */
typedef struct {
    const gv_allocator *allocator;
    bool offsets;
    int32_t *ids, *starts, *ends, *words;
    int64_t count, capacity;
} gv_tokens;
void gv_tokens_clear(gv_tokens *tokens);
gv_status gv_tokens_reserve(gv_tokens *tokens, int64_t more, gv_error *error); /* room for so many more, at once */
gv_status gv_tokens_push(gv_tokens *tokens, int32_t id, gv_error *error);      /* offsets (0, 0), word -1 */
/* Appends the tokens of `text`, no special tokens. A lone surrogate is refused. */
gv_status gv_tokenizer_encode(gv_tokens *out, const gv_tokenizer *tokenizer, gv_text text, gv_error *error);

/* WordPiece training: feed text in blocks, then build. See trainer.c for the method. */
typedef struct gv_trainer gv_trainer;
gv_status gv_trainer_create(gv_trainer **out, const gv_tokenizer_options *options, const gv_allocator *allocator,
                            gv_error *error);
void gv_trainer_free(gv_trainer *trainer);
gv_status gv_trainer_feed(gv_trainer *trainer, gv_text text, gv_error *error); /* whole lines */
typedef struct {
    int64_t vocab_size; /* without the special tokens */
    int64_t min_frequency, limit_alphabet;
} gv_trainer_options;
/* Called with code points and length of each entry in order; `continuing` entries are written with the prefix. */
typedef gv_status (*gv_trainer_emit)(void *context, const uint32_t *codes, int64_t length, bool continuing);
gv_status gv_trainer_build(gv_trainer *trainer, const gv_trainer_options *options, gv_trainer_emit emit, void *context,
                           gv_error *error);

/* ------------------------------------------------------------------------------------------------- model -- */
/* One stack of transformer blocks with its embeddings and at most one head. The fields of a configuration, their defaults
 * and the names of the parameters are listed in govlm/_core.pyi (class Model); config.c and parameters.c hold them here.
 * T tokens in the packed batch, B sequences, R selected rows, H hidden size, L layers. */

typedef struct gv_model gv_model;
typedef struct gv_pass gv_pass;       /* one forward: its workspace, until freed */
typedef struct gv_moments gv_moments; /* AdamW's state of one model */
typedef struct gv_config gv_config;
typedef struct gv_cache gv_cache; /* keys and values of growing sequences: govlm_generate.h */

gv_status gv_config_create(gv_config **out, const gv_allocator *allocator, gv_error *error); /* all defaults */
void gv_config_free(gv_config *config);
/* Numbers and switches take gv_config_set_number, words gv_config_set_word; an unknown name or value is refused. */
gv_status gv_config_set_number(gv_config *config, const char *name, double value, gv_error *error);
gv_status gv_config_set_word(gv_config *config, const char *name, const char *value, gv_error *error);

gv_status gv_model_create(gv_model **out, const gv_config *config, const gv_allocator *allocator, gv_error *error);
void gv_model_free(gv_model *model);

int64_t gv_model_parameter_count(const gv_model *model);
typedef struct {
    const char *name; /* owned by the model */
    int64_t shape[2];
    int dimensions;
    int64_t size, offset; /* floats; offset in the flat buffer */
    const float *data;    /* NULL while nothing is bound */
    bool requires_grad;
    bool quantised; /* then `data` is NULL */
} gv_parameter_info;
void gv_model_parameter(gv_parameter_info *out, const gv_model *model, int64_t index);
int64_t gv_model_find(const gv_model *model, const char *name); /* -1: no such parameter */

/* Uses `data` (not copied; the caller keeps it alive) until made trainable. */
gv_status gv_model_bind(gv_model *model, int64_t index, const float *data, gv_error *error);
/* A matrix or an embedding in 8 bits, packed as kernels/kernels.h lays down for gv_quantised: `slices` parts one after another,
 * each of `sizes` elements. Arrays are not copied. The folder format around it is govlm/train/quantise.py's. */
typedef struct {
    int64_t slices, panels, sums, scales, smooth; /* bytes; int16; float; float (one for all slices) */
} gv_quantised_sizes;
gv_status gv_model_quantised_sizes(gv_quantised_sizes *out, const gv_model *model, int64_t index, int64_t group,
                                   gv_error *error);
typedef struct {
    const int8_t *panels;
    const int16_t *sums;
    const float *scales, *smooth; /* smooth may be NULL */
    int64_t group;
    int levels;
} gv_quantised_arrays;
gv_status gv_model_bind_quantised(gv_model *model, int64_t index, const gv_quantised_arrays *arrays, gv_error *error);
/* The same in blocks of 32 inputs, of 4, 8 or 32 bits: `slices` parts of `bytes` one after another, as kernels/kernels.h lays down
 * for gv_blocks. */
typedef struct {
    int64_t slices, bytes, outputs, inputs; /* bytes, outputs and inputs of one slice */
} gv_blocks_sizes;
gv_status gv_model_blocks_sizes(gv_blocks_sizes *out, const gv_model *model, int64_t index, int bits, bool minimum,
                                gv_error *error);
gv_status gv_model_bind_blocks(gv_model *model, int64_t index, const uint8_t *data, int bits, bool minimum, gv_error *error);
/* Copies the inputs of the layer with this matrix, in every forward from now on, to rows[most, inputs] until it is full; rows
 * NULL ends it. For studying a model: one forward at a time. */
gv_status gv_model_capture(gv_model *model, int64_t index, float *rows, int64_t most, gv_error *error);
int64_t gv_model_captured(const gv_model *model, int64_t index); /* rows copied so far */
/* The parameter's values in float32, [size]; it must have some. */
void gv_model_values(float *out, gv_model *model, int64_t index);
/* One flat buffer for the weights, one (touched lazily) for the gradient. Idempotent. */
gv_status gv_model_make_trainable(gv_model *model, gv_error *error);
bool gv_model_is_trainable(const gv_model *model);
float *gv_model_flat(gv_model *model, int64_t *size);          /* NULL before make_trainable */
float *gv_model_flat_gradient(gv_model *model, int64_t *size); /* dense: unreached parts zeroed and marked as reached */
/* NULL when no backward has reached it since gv_model_zero_grad. */
float *gv_model_gradient(gv_model *model, int64_t index);
void gv_model_set_requires_grad(gv_model *model, int64_t index, bool value);
void gv_model_zero_grad(gv_model *model);
/* Grows whenever gv_model_bind or an optimiser changes the weights. */
uint64_t gv_model_version(const gv_model *model);
/* Over the reached gradients of indices[0..count-1]. */
gv_status gv_model_grad_norm(double *out, gv_model *model, const int64_t *indices, int64_t count, gv_error *error);
gv_status gv_model_scale_grad(gv_model *model, float factor, const int64_t *indices, int64_t count, gv_error *error);
/* Name of the first non-finite parameter or gradient into `out` (at least 128 bytes), or "". */
void gv_model_first_nonfinite(char *out, size_t size, gv_model *model);

/* A low-rank adapter beside linear layers of `base` (Hu et al., arXiv:2106.09685), y += scale * (dropout(x) A^T) B^T: a gv_model
 * that holds "<layer>.lora_A.weight" [rank, in] and "<layer>.lora_B.weight" [out, rank] of every target, and copies of its own of
 * `whole` parameters (of a pooler or classifier), under their names. It is bound, trained and stepped like any other, and runs
 * only where a forward of its base chooses it. */
typedef struct {
    const int64_t *targets, *whole; /* the base's parameters: matrices of linear layers; those replaced */
    int64_t target_count, whole_count;
    int64_t rank;
    double scale, dropout;
} gv_adapter_options;
gv_status gv_adapter_create(gv_model **out, const gv_model *base, const gv_adapter_options *options, gv_error *error);
/* Which sequence of a batch goes through which adapter. */
typedef struct {
    gv_model *const *adapters; /* [count], each once */
    int64_t count;
    const int32_t *which; /* [B]: one of them, -1 = none; NULL = the first for all */
} gv_adapter_choice;

typedef enum { GV_LOSS_SINGLE_LABEL = 0, GV_LOSS_MULTI_LABEL, GV_LOSS_REGRESSION } gv_loss_kind;

typedef struct {
    int64_t tokens, sequences;
    const int32_t *input_ids;      /* [T] */
    const int64_t *row_splits;     /* [B+1] */
    const int32_t *position_ids;   /* [T] or NULL = 0.. per sequence */
    const int32_t *token_type_ids; /* [T] or NULL = 0 */
    const int64_t *key_counts;     /* [B] or NULL = all */
    int64_t row_count;             /* R when rows is not NULL */
    const int32_t *rows;           /* [R] ascending, or NULL = all */
    const float *memory;           /* [memory_splits[B], H] or NULL */
    const int64_t *memory_splits;  /* [B+1] */
    const int64_t *labels;         /* [B] or [R]; -100 = ignored; or NULL */
    const float *label_values;     /* [B, num_labels] for multi-label and regression, or NULL */
    const float *class_weights;    /* [num_labels] or NULL */
    const uint32_t *samples;       /* [B] or NULL = 0.. */
    gv_cache *cache; /* or NULL. With it the tokens follow those that cache_sequences hold, which they join when the */
    const int64_t *cache_sequences; /* forward succeeds; [B], each once; no save, training, attentions, memory, positions */
    gv_loss_kind loss;
    bool hidden_states, attentions, logits, training, save;
    bool checkpoint; /* save every layer's input only; the backward runs each layer once more. The same bits */
    uint32_t seed, step;
    gv_adapter_choice adapters; /* must outlive the pass */
} gv_forward_args;

/* Everything is copied in; `out` lives until gv_pass_free and must not outlive the model. Several may be alive. */
gv_status gv_model_forward(gv_pass **out, gv_model *model, const gv_forward_args *args, gv_error *error);
void gv_pass_free(gv_pass *pass);

typedef struct {
    const float *data; /* NULL = not there */
    int64_t shape[3];
} gv_view;
bool gv_pass_loss(double *out, const gv_pass *pass);
gv_view gv_pass_logits(const gv_pass *pass);
gv_view gv_pass_pooled(const gv_pass *pass);
gv_view gv_pass_hidden(const gv_pass *pass, int64_t layer); /* 0..L */
gv_view gv_pass_attention(const gv_pass *pass, int64_t layer, int64_t sequence, bool cross);
/* What self-attention compares and mixes, after norms and rotation: [T, heads * d] ([R, …] for the last layer's queries),
 * keys and values [T, kv_heads * d]. There while the forward is saved and not yet walked back. */
typedef enum { GV_QUERY = 0, GV_KEY, GV_VALUE } gv_projection;
gv_view gv_pass_projection(const gv_pass *pass, int64_t layer, gv_projection which);
gv_view gv_pass_memory(const gv_pass *pass); /* [Tm, H], as given */
int64_t gv_pass_layers(const gv_pass *pass);
int64_t gv_pass_sequences(const gv_pass *pass);
void gv_pass_first_nonfinite(char *out, size_t size, const gv_pass *pass);

typedef struct {
    bool has_scale;
    double scale;                   /* gradient at the loss */
    const float *logits;            /* as gv_pass_logits, or NULL */
    const float *pooled;            /* as gv_pass_pooled, or NULL */
    const float *const *hidden;     /* [L+1] of arrays or NULL; the array of pointers may be NULL */
    const float *const *attention;  /* [L * B], self-attention, or NULL */
    const float *const *projection; /* [L * 3] as gv_pass_projection, or NULL */
    float *memory;                  /* [Tm, H] receives the gradient at the memory, or NULL */
} gv_backward_args;
/* Adds to the model's gradients. Once per pass. */
gv_status gv_pass_backward(gv_pass *pass, const gv_backward_args *args, gv_error *error);

gv_status gv_moments_create(gv_moments **out, gv_model *model, gv_error *error); /* must not outlive the model */
void gv_moments_free(gv_moments *moments);
float *gv_moments_first(gv_moments *moments, int64_t index);
float *gv_moments_second(gv_moments *moments, int64_t index);
int64_t gv_moments_step(const gv_moments *moments, int64_t index);
/* Also marks the moments as set from outside (a loaded checkpoint). */
void gv_moments_set_step(gv_moments *moments, int64_t index, int64_t step);
typedef struct {
    double lr, beta1, beta2, eps, weight_decay;
} gv_adamw_group;
gv_status gv_moments_adamw(gv_moments *moments, const int64_t *indices, int64_t count, const gv_adamw_group *group,
                           gv_error *error);

#ifdef __cplusplus
}
#endif
#endif
