/* double_array.h - a trie of pieces over numbered code points, one cell of 16 bytes a step (Aoe 1989). */
#ifndef GV_TEXT_DOUBLE_ARRAY_H
#define GV_TEXT_DOUBLE_ARRAY_H

#include "govlm.h"
#include "text/trie.h"

enum { GV_DOUBLE_NONE = -1, GV_DOUBLE_ID = 0x3FFFFFFF, GV_DOUBLE_FLAG = 0x40000000, GV_DOUBLE_PLANE = 0x10000 };

/* The child by symbol s of a node with base b (b > 0, unique) is cells[b + s], when its check is b. */
typedef struct {
    uint32_t check;
    uint32_t base; /* 0 = no children */
    float score;
    int32_t id; /* of the piece that ends here, perhaps with GV_DOUBLE_FLAG; GV_DOUBLE_NONE = no piece does */
} gv_double_cell;

/* The children of the root, by symbol. */
typedef struct {
    uint32_t base;
    float score;
    int32_t id;
    uint32_t flag;
} gv_double_first;

typedef struct {
    gv_double_cell *cells;  /* [capacity] */
    gv_double_first *first; /* [alphabet] */
    uint32_t *symbols;      /* [GV_DOUBLE_PLANE]; 0 = in no piece */
    gv_trie astral;         /* symbols of code points beyond the plane */
    int64_t capacity, alphabet, longest;
} gv_double_array;

/* The pieces ids[0..count) of pieces[], with their scores. A piece that stands there twice is refused. */
gv_status gv_double_array_build(gv_double_array *out, const gv_text *pieces, const int32_t *ids, int64_t count,
                                const float *scores, const gv_allocator *allocator, gv_error *error);
void gv_double_array_clear(gv_double_array *array, const gv_allocator *allocator);
/* Sets the flag of a piece that is there. */
void gv_double_array_flag(gv_double_array *array, gv_text piece);

static inline uint32_t gv_double_array_symbol(const gv_double_array *array, uint32_t code) {
    if (code < (uint32_t)GV_DOUBLE_PLANE) return array->symbols[code];
    const gv_trie_slot *slot = gv_trie_step(&array->astral, GV_TRIE_ROOT, code);
    return slot != NULL ? (uint32_t)slot->value : 0;
}

#endif
