/* normalise.h - BERT's normalisation of code points: clean, space out ideographs, decompose and strip accents, lower. */
#ifndef GV_TEXT_NORMALISE_H
#define GV_TEXT_NORMALISE_H

#include "govlm.h"
#include "text/unicode.h"

/* What one code point becomes, when its neighbours do not matter. */
typedef enum {
    GV_PIECE_REMOVED = 0,
    GV_PIECE_SPACE,
    GV_PIECE_ALONE, /* codes[0] is a word of its own: punctuation or an ideograph */
    GV_PIECE_WORD,  /* codes[0..count) belong to a word */
    GV_PIECE_MIXED, /* several codes, some of which stand alone: handle each by gv_code_kind */
    GV_PIECE_MARK   /* a mark that stays and that canonical ordering may move */
} gv_piece_kind;

enum { GV_PIECE_MAX = 24 };

typedef struct {
    gv_piece_kind kind;
    int count;
    uint32_t codes[GV_PIECE_MAX];
} gv_piece;

void gv_normalise_code(gv_piece *out, const gv_tokenizer_options *options, uint32_t code);
/* REMOVED never; how a code that is already normalised behaves. */
gv_piece_kind gv_code_kind(uint32_t code);

/* Normalised text with alignment: `codes[i]` comes from code point `origins[i]` of the source. Owned; grows as needed. */
typedef struct {
    uint32_t *codes;
    int32_t *origins;
    uint8_t *classes; /* combining classes, while decomposing */
    uint8_t *added;   /* 1 = a later part of a decomposition, while decomposing */
    int64_t count;
    int64_t capacity;
} gv_normalised;

void gv_normalised_clear(gv_normalised *out, const gv_allocator *allocator);

/* Replaces what `out` holds by the normal form of source[0..length), step by step as the definition has it: this is what
 * gv_normalise_code is short for. `first` is added to the origins. The source holds no surrogates. */
gv_status gv_normalise(gv_normalised *out, const gv_tokenizer_options *options, const uint32_t *source, int64_t length,
                       int64_t first, const gv_allocator *allocator, gv_error *error);

#endif
