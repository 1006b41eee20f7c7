/* govlm_generate.h - the part of the C API for generation: keys and values of sequences that grow token by token.
 *
 * A cache holds them in pages of 32 tokens, counted by reference: a fork shares its parent's pages and copies the one that it
 * writes into (Kwon et al., arXiv:2309.06180). gv_model_forward with a cache is a step: it takes the NEW tokens of any
 * number of sequences, first prompts and single tokens side by side. Steps and the calls below may come from any thread; a
 * cache runs one at a time.
 */
#ifndef GOVLM_GENERATE_H
#define GOVLM_GENERATE_H

#include "govlm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int64_t pages; /* the most it may hold; 0 = as many as memory allows */
    bool bits8;    /* keys and values in 8 bits, a scale a token and head; else float32 */
} gv_cache_options;

/* Of a causal model, which it must not outlive. Nothing is allocated until tokens come. */
gv_status gv_cache_create(gv_cache **out, gv_model *model, const gv_cache_options *options, gv_error *error);
void gv_cache_free(gv_cache *cache);

/* A sequence without tokens, by a number of its own. */
gv_status gv_cache_open(int64_t *sequence, gv_cache *cache, gv_error *error);
/* One that begins with the first `tokens` (0 .. its length) of `parent`, and sees the same memory. */
gv_status gv_cache_fork(int64_t *sequence, gv_cache *cache, int64_t parent, int64_t tokens, gv_error *error);
gv_status gv_cache_cut(gv_cache *cache, int64_t sequence, int64_t tokens, gv_error *error); /* forgets what follows them */
gv_status gv_cache_close(gv_cache *cache, int64_t sequence, gv_error *error);
gv_status gv_cache_length(int64_t *tokens, gv_cache *cache, int64_t sequence, gv_error *error);

/* What the cross attention of sequences[b] looks at from now on: memory rows memory_splits[b] .. [b + 1], [.., H]. adapters: NULL,
 * or those of the sequences; the steps that follow must name the same ones. */
gv_status gv_cache_remember(gv_cache *cache, const int64_t *sequences, int64_t count, const float *memory,
                            const int64_t *memory_splits, const gv_adapter_choice *adapters, gv_error *error);

typedef struct {
    int64_t sequences;  /* open */
    int64_t used, free; /* pages that sequences hold; pages kept for the next */
    int64_t most;       /* as asked; 0 = no limit */
    int64_t page_bytes, page_tokens;
} gv_cache_usage;
void gv_cache_use(gv_cache_usage *out, gv_cache *cache);

#ifdef __cplusplus
}
#endif

#endif
