/* govlm_unigram.h - the part of the C API for SentencePiece's unigram model: normalising, encoding, training. */
#ifndef GOVLM_UNIGRAM_H
#define GOVLM_UNIGRAM_H

#include "govlm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How text is changed before it is cut into pieces: the fields of a .model file's NormalizerSpec. */
typedef struct {
    const uint8_t *charsmap; /* the precompiled rules as they stand in the file; copied; NULL = none */
    int64_t charsmap_size;
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces, whitespace_as_suffix;
} gv_spm_options;

/* Immutable once made. `symbols` are texts that pass unchanged (user-defined pieces). */
typedef struct gv_spm gv_spm;
gv_status gv_spm_create(gv_spm **out, const gv_spm_options *options, const gv_text *symbols, int64_t count,
                        const gv_allocator *allocator, gv_error *error);
void gv_spm_free(gv_spm *spm);

/* Normal form with alignment: codes[i] comes from code point origins[i] of the source, origins[count] is where it ends. Zero it,
 * set `allocator` and `aligned` (origins are kept only then); free with gv_spm_text_clear. */
typedef struct {
    const gv_allocator *allocator;
    bool aligned;
    uint32_t *codes;  /* [count + 1], the last one 0 */
    int32_t *origins; /* [count + 1] or NULL */
    int64_t count, capacity;
} gv_spm_text;
void gv_spm_text_clear(gv_spm_text *text);
/* Replaces what `out` holds. A lone surrogate is refused. */
gv_status gv_spm_normalise(gv_spm_text *out, const gv_spm *spm, gv_text text, gv_error *error);

/* A unigram model (Kudo, arXiv:1804.10959). Immutable once made, so any number of threads may encode with one. */
typedef struct gv_unigram gv_unigram;
typedef enum {
    GV_PIECE_NORMAL = 1,
    GV_PIECE_UNKNOWN,
    GV_PIECE_CONTROL,
    GV_PIECE_USER_DEFINED,
    GV_PIECE_UNUSED,
    GV_PIECE_BYTE
} gv_piece_type; /* a .model file's numbers */
typedef struct {
    gv_spm_options normaliser;
    bool byte_fallback; /* an unknown character becomes the pieces of its UTF-8 bytes */
    bool exact_sums;    /* sums in float64 (HF tokenizers); else rounded to float32 at every piece (sentencepiece) */
} gv_unigram_options;
/* pieces[i] has id i, scores [count] and types [count] (gv_piece_type); exactly one is unknown. */
gv_status gv_unigram_create(gv_unigram **out, const gv_text *pieces, const float *scores, const uint8_t *types, int64_t count,
                            const gv_unigram_options *options, const gv_allocator *allocator, gv_error *error);
void gv_unigram_free(gv_unigram *unigram);
/* Before the first encode. Added tokens are found in the text as it comes, whatever `normalized` says; the stretches between
 * them are texts of their own. */
gv_status gv_unigram_add_token(gv_unigram *unigram, const gv_added_token *token, gv_error *error);
const gv_spm *gv_unigram_normaliser(const gv_unigram *unigram);

/* Memory that one encode after another uses; one a thread. Zero it and set `normal.allocator`; free with
 * gv_unigram_scratch_clear. */
typedef struct {
    gv_spm_text normal;
    uint32_t *symbols; /* [symbol_capacity] */
    int64_t symbol_capacity;
    struct gv_unigram_best *best; /* [best_capacity] */
    int64_t best_capacity;
} gv_unigram_scratch;
void gv_unigram_scratch_clear(gv_unigram_scratch *scratch);
/* Appends the pieces of `text`, no special tokens. `words` counts what a space stands before. */
gv_status gv_unigram_encode(gv_tokens *out, const gv_unigram *unigram, gv_unigram_scratch *scratch, gv_text text,
                            gv_error *error);

/* Training: feed sentences, then build. See unigram_trainer.c for the method. */
typedef struct gv_unigram_trainer gv_unigram_trainer;
gv_status gv_unigram_trainer_create(gv_unigram_trainer **out, const gv_spm_options *options, const gv_allocator *allocator,
                                    gv_error *error);
void gv_unigram_trainer_free(gv_unigram_trainer *trainer);
gv_status gv_unigram_trainer_feed(gv_unigram_trainer *trainer, gv_text sentence, gv_error *error);
typedef struct {
    int64_t vocab_size;        /* pieces to end with, without special ones */
    double character_coverage; /* of all characters of the text, so many become pieces; rarer ones end a piece */
    int64_t seed_size;         /* pieces to begin with */
    int64_t max_piece_length;  /* 1..GV_UNIGRAM_LONGEST code points */
    double shrinking_factor;   /* what a pruning keeps */
    int64_t sub_iterations;    /* of expectation maximisation between prunings */
} gv_unigram_training;
enum { GV_UNIGRAM_LONGEST = 64 };
/* Called with each piece, the best first. */
typedef gv_status (*gv_unigram_emit)(void *context, const uint32_t *codes, int64_t length, double score);
gv_status gv_unigram_trainer_build(gv_unigram_trainer *trainer, const gv_unigram_training *options, gv_unigram_emit emit,
                                   void *context, gv_error *error);

#ifdef __cplusplus
}
#endif
#endif
