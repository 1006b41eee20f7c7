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

/* A run that holds marks which stay: codes[i] of combining classes in canonical order (Unicode Standard Annex 15), where
 * origins keep their places as the reference keeps them. */
void gv_order_marks(uint32_t *codes, uint8_t *added, int64_t count);

#endif
