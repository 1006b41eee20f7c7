/* govlm_bpe.h - byte-pair encoding: over bytes (GPT-2, Qwen, Llama 3) and over characters (SentencePiece), and its training.
 *
 * Sennrich et al., arXiv:1508.07909; over bytes: Radford et al., 2019. Ids are those of Hugging Face's tokenizers, tiktoken's and
 * SentencePiece's. Once made (merges or ranks set, added tokens added) a gv_bpe is immutable: any number of threads may encode.
 */
#ifndef GOVLM_BPE_H
#define GOVLM_BPE_H

#include "govlm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gv_bpe gv_bpe;

typedef enum { GV_SPLIT_NONE = 0, GV_SPLIT_GPT2, GV_SPLIT_QWEN2, GV_SPLIT_LLAMA3, GV_SPLIT_DIGITS } gv_split_kind;

/* Where a space, or the mark U+2581 that stands for it, goes before a stretch of text (never before an empty one). */
typedef enum {
    GV_PREPEND_NEVER = 0,
    GV_PREPEND_ALWAYS,  /* even before a space */
    GV_PREPEND_MISSING, /* unless one is there */
    GV_PREPEND_FIRST    /* the same, at the start of the text only */
} gv_prepend;

typedef struct {
    bool characters;    /* the symbols are characters, spaces written U+2581; else bytes */
    bool compose;       /* NFC first */
    bool whole_words;   /* a piece that is in the vocabulary is taken as it is, whatever the merges say */
    bool byte_fallback; /* characters: an unknown one becomes the tokens <0x00>..<0xFF> */
    bool fuse_unknown;  /* unknown ones in a row are one */
    gv_split_kind split;
    gv_prepend prepend;
    int32_t unknown_id; /* -1: what is not in the vocabulary is left out */
} gv_bpe_options;

typedef struct {
    const uint8_t *data;
    int64_t length;
} gv_bytes;

/* tokens[i], the bytes of id i (empty: no text gives it), are copied. At most 2^20 of them. */
gv_status gv_bpe_create(gv_bpe **out, const gv_bytes *tokens, int64_t count, const gv_bpe_options *options,
                        const gv_allocator *allocator, gv_error *error);
void gv_bpe_free(gv_bpe *bpe);
/* One of the two, once. pairs [count, 2] of ids in order of rank, each giving the token of both bytes together; or ranks [tokens]:
 * any two that make token i merge at ranks[i], lowest first (negative: never). */
gv_status gv_bpe_set_merges(gv_bpe *bpe, const int32_t *pairs, int64_t count, gv_error *error);
gv_status gv_bpe_set_ranks(gv_bpe *bpe, const int32_t *ranks, gv_error *error);
gv_status gv_bpe_add_token(gv_bpe *bpe, const gv_added_token *token, gv_error *error);
/* Appends the tokens of `text`, no special tokens. A lone surrogate is refused. */
gv_status gv_bpe_encode(gv_tokens *out, const gv_bpe *bpe, gv_text text, gv_error *error);

/* Training over bytes: feed text, then build. A text is read line by line, each with its line break. */
typedef struct gv_bpe_trainer gv_bpe_trainer;
gv_status gv_bpe_trainer_create(gv_bpe_trainer **out, gv_split_kind split, bool compose, const gv_allocator *allocator,
                                gv_error *error);
void gv_bpe_trainer_free(gv_bpe_trainer *trainer);
gv_status gv_bpe_trainer_feed(gv_bpe_trainer *trainer, gv_text text, gv_error *error);
/* Symbol s < 256 is the byte alphabet[s]; the order decides between pairs that are as frequent. Each merge, in order, is told to
 * emit(context, left, right, made) until `symbols` new ones are made or no pair occurs min_frequency times (at least once). */
typedef gv_status (*gv_bpe_emit)(void *context, int32_t left, int32_t right, int32_t made);
gv_status gv_bpe_trainer_build(gv_bpe_trainer *trainer, const uint8_t alphabet[256], int64_t symbols, int64_t min_frequency,
                               gv_bpe_emit emit, void *context, gv_error *error);

#ifdef __cplusplus
}
#endif

#endif
