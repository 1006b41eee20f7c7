/* split.h - classes of characters and the pre-tokenisers of byte-level BPE, written by hand over them. Tables by
 * make_split_tables.py. */
#ifndef GV_TEXT_SPLIT_H
#define GV_TEXT_SPLIT_H

#include "govlm_bpe.h"

enum { GV_SPLIT_BLOCK = 128 };

enum {
    GV_CLASS_LETTER = 1,    /* \p{L} */
    GV_CLASS_NUMBER = 2,    /* \p{N} */
    GV_CLASS_SPACE = 4,     /* \s */
    GV_CLASS_NEWLINE = 8,   /* [\r\n], spaces as well */
    GV_CLASS_UNSTABLE = 16, /* NFC may change it or what stands before it */
    GV_CLASS_MARK = 32,     /* \p{M} */
    GV_CLASS_ADDED = 64,    /* an added token starts with it; this and the next are set by a tokenizer in its own copy */
    GV_CLASS_BAD = 128      /* a surrogate */
};

extern const uint16_t gv_split_first[];
extern const uint8_t gv_split_second[];
extern const int32_t gv_composition_count;
extern const uint32_t gv_compositions[][3]; /* first, second, composed; sorted */

/* `code` below 0x110000. */
static inline uint8_t gv_split_class(uint32_t code) {
    return gv_split_second[gv_split_first[code / GV_SPLIT_BLOCK] * GV_SPLIT_BLOCK + code % GV_SPLIT_BLOCK];
}

/* The end of the piece that starts at `at` < length. codes, classes: [length], the whole stretch between added tokens. */
int64_t gv_split_end(gv_split_kind kind, const uint32_t *codes, const uint8_t *classes, int64_t at, int64_t length);

/* The composed form (NFC) of source[0..length): out->codes with out->origins, each counted from `first`. A composed character
 * has the origin of its first part, as far as marks in order go. Grows `out`; gv_composed_clear frees. No surrogates in the source. */
typedef struct {
    uint32_t *codes;
    int32_t *origins;
    uint8_t *classes; /* combining classes while working */
    int64_t count, capacity;
} gv_composed;
gv_status gv_compose(gv_composed *out, const uint32_t *source, int64_t length, int64_t first, const gv_allocator *allocator,
                     gv_error *error);
void gv_composed_clear(gv_composed *out, const gv_allocator *allocator);

#endif
