/* bpe_trainer.c - a byte-level BPE vocabulary from text: count pieces, then merge the most frequent pair of symbols, over and over
 * (Sennrich et al., arXiv:1508.07909). Equal counts are taken in the order of the symbols, as Hugging Face's trainer does.
 *
 * Every pair knows its count and the words where it occurred. A heap holds each pair with a count that was right once; counts only
 * fall, so the top is put back with its present count until it is right. Memory grows with the distinct pieces, not with the text.
 */
#include <string.h>

#include "base/memory.h"
#include "base/try.h"
#include "text/bpe.h"
#include "text/text.h"
#include "text/unicode.h"

typedef struct {
    const gv_allocator *allocator;
    char *data;
    size_t size;
    int64_t used, capacity; /* of an item in bytes; in items */
} gv_column;

typedef struct {
    int64_t begin, length, count; /* symbols[begin..begin + length) */
    uint64_t hash;
} gv_piece_count;

typedef struct {
    uint64_t key; /* left << 32 | right, plus one; 0 = empty */
    int64_t count;
    int64_t places;  /* the first of a list of cells, -1 = none */
    int64_t touched; /* the merge that last made it more frequent */
} gv_pair_count;

typedef struct {
    int64_t word, next;
} gv_cell;

typedef struct {
    int64_t count;
    uint64_t key;
} gv_candidate;

struct gv_bpe_trainer {
    const gv_allocator *allocator;
    gv_split_kind split;
    bool compose;
    gv_column codes, classes; /* of the line being read */
    gv_composed composed;
    gv_column symbols, pieces; /* int32_t; gv_piece_count */
    int64_t *table;            /* piece + 1 by hash */
    uint64_t mask;
    gv_pair_count *pairs;
    uint64_t pairs_mask;
    int64_t pairs_used;
    gv_column cells, heap, touched; /* gv_cell; gv_candidate; keys */
    gv_column names, name_begins;   /* the bytes of each symbol */
    int32_t *by_name;               /* symbol + 1 by hash of its bytes */
    uint64_t by_name_mask;
};

static gv_status gv_column_add(gv_column *c, const void *items, int64_t count, gv_error *error) {
    if (c->used + count > c->capacity) {
        int64_t capacity = (c->used + count) * 3 / 2 + 256;
        char *bigger = gv_alloc_array(c->allocator, (size_t)capacity, c->size);
        if (bigger == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory while training a vocabulary");
        if (c->used > 0) memcpy(bigger, c->data, (size_t)c->used * c->size);
        gv_release(c->allocator, c->data, (size_t)c->capacity * c->size);
        c->data = bigger;
        c->capacity = capacity;
    }
    if (items != NULL) memcpy(c->data + (size_t)c->used * c->size, items, (size_t)count * c->size);
    c->used += count;
    return GV_OK;
}

static void gv_column_clear(gv_column *c) {
    gv_release(c->allocator, c->data, (size_t)c->capacity * c->size);
    c->data = NULL;
    c->used = c->capacity = 0;
}

#define GV_ITEMS(column, type) ((type *)(void *)(column).data)

gv_status gv_bpe_trainer_create(gv_bpe_trainer **out, gv_split_kind split, bool compose, const gv_allocator *allocator,
                                gv_error *error) {
    *out = NULL;
    gv_bpe_trainer *t = gv_alloc_zero(allocator, sizeof *t);
    if (t == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a trainer");
    t->allocator = allocator;
    t->split = split;
    t->compose = compose;
    gv_column *columns[] = {&t->codes, &t->classes, &t->symbols, &t->pieces,     &t->cells,
                            &t->heap,  &t->touched, &t->names,   &t->name_begins};
    size_t sizes[] = {4, 1, 4, sizeof(gv_piece_count), sizeof(gv_cell), sizeof(gv_candidate), 8, 1, 8};
    for (int i = 0; i < 9; i++) *columns[i] = (gv_column){.allocator = allocator, .size = sizes[i]};
    t->mask = 0xFFFF;
    t->table = gv_alloc_zero(allocator, (t->mask + 1) * sizeof *t->table);
    if (t->table == NULL) {
        gv_bpe_trainer_free(t);
        return gv_fail(error, GV_ERR_MEMORY, "out of memory for a trainer");
    }
    *out = t;
    return GV_OK;
}

static void gv_build_clear(gv_bpe_trainer *t) {
    gv_column *columns[] = {&t->cells, &t->heap, &t->touched, &t->names, &t->name_begins};
    for (int i = 0; i < 5; i++) gv_column_clear(columns[i]);
    gv_release(t->allocator, t->pairs, (t->pairs_mask + 1) * sizeof *t->pairs);
    gv_release(t->allocator, t->by_name, (t->by_name_mask + 1) * sizeof *t->by_name);
    t->pairs = NULL;
    t->by_name = NULL;
    t->pairs_mask = t->by_name_mask = 0;
    t->pairs_used = 0;
}

void gv_bpe_trainer_free(gv_bpe_trainer *t) {
    if (t == NULL) return;
    gv_build_clear(t);
    gv_column *columns[] = {&t->codes, &t->classes, &t->symbols, &t->pieces};
    for (int i = 0; i < 4; i++) gv_column_clear(columns[i]);
    gv_composed_clear(&t->composed, t->allocator);
    gv_release(t->allocator, t->table, (t->mask + 1) * sizeof *t->table);
    gv_release(t->allocator, t, sizeof *t);
}

/* ---- counting pieces ------------------------------------------------------------------------------------------------- */

static uint64_t gv_mix(uint64_t hash) {
    hash *= 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}

static gv_status gv_grow_pieces(gv_bpe_trainer *t, gv_error *error) {
    uint64_t mask = t->mask * 2 + 1;
    int64_t *table = gv_alloc_zero(t->allocator, (mask + 1) * sizeof *table);
    if (table == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory while counting words");
    for (int64_t i = 0; i < t->pieces.used; i++) {
        uint64_t at = GV_ITEMS(t->pieces, gv_piece_count)[i].hash & mask;
        while (table[at] != 0) at = (at + 1) & mask;
        table[at] = i + 1;
    }
    gv_release(t->allocator, t->table, (t->mask + 1) * sizeof *t->table);
    t->table = table;
    t->mask = mask;
    return GV_OK;
}

/* Counts one piece; its bytes are written behind the symbols and stay there when it is new. */
static gv_status gv_count_piece(gv_bpe_trainer *t, const uint32_t *codes, int64_t length, gv_error *error) {
    gv_status status = GV_OK;
    int64_t begin = t->symbols.used, size = 0;
    uint64_t hash = 0;
    uint8_t utf8[4];
    GV_TRY(gv_column_add(&t->symbols, NULL, 4 * length, error));
    int32_t *symbols = GV_ITEMS(t->symbols, int32_t) + begin;
    for (int64_t i = 0; i < length; i++) {
        int bytes = gv_utf8(utf8, codes[i]);
        for (int j = 0; j < bytes; j++) symbols[size++] = utf8[j];
        hash = gv_mix(hash ^ codes[i]);
    }
    t->symbols.used = begin + size;
    if ((t->pieces.used + 1) * 2 > (int64_t)t->mask) GV_TRY(gv_grow_pieces(t, error));
    uint64_t at = hash & t->mask;
    for (; t->table[at] != 0; at = (at + 1) & t->mask) {
        gv_piece_count *piece = &GV_ITEMS(t->pieces, gv_piece_count)[t->table[at] - 1];
        const int32_t *other = GV_ITEMS(t->symbols, int32_t) + piece->begin;
        if (piece->hash == hash && piece->length == size && memcmp(other, symbols, (size_t)size * sizeof *symbols) == 0) {
            piece->count++;
            t->symbols.used = begin;
            return GV_OK;
        }
    }
    gv_piece_count piece = {begin, size, 1, hash};
    GV_TRY(gv_column_add(&t->pieces, &piece, 1, error));
    t->table[at] = t->pieces.used;
done:
    return status;
}

static gv_status gv_feed_line(gv_bpe_trainer *t, gv_text text, int64_t from, int64_t to, gv_error *error) {
    gv_status status = GV_OK;
    bool unstable = false;
    t->codes.used = t->classes.used = 0;
    GV_TRY(gv_column_add(&t->codes, NULL, to - from, error));
    uint32_t *codes = GV_ITEMS(t->codes, uint32_t);
    int64_t length = to - from;
    for (int64_t i = 0; i < length; i++) {
        codes[i] = gv_text_at(text, from + i);
        if (gv_uc_is_surrogate(codes[i]) || codes[i] >= GV_UC_LIMIT) return gv_refuse_code(codes[i], from + i, error);
        unstable = unstable || gv_split_class(codes[i]) & GV_CLASS_UNSTABLE;
    }
    if (t->compose && unstable) {
        GV_TRY(gv_compose(&t->composed, codes, length, 0, t->allocator, error));
        codes = t->composed.codes;
        length = t->composed.count;
    }
    GV_TRY(gv_column_add(&t->classes, NULL, length, error));
    uint8_t *classes = GV_ITEMS(t->classes, uint8_t);
    for (int64_t i = 0; i < length; i++) classes[i] = gv_split_class(codes[i]);
    for (int64_t at = 0; at < length;) {
        int64_t end = gv_split_end(t->split, codes, classes, at, length);
        GV_TRY(gv_count_piece(t, codes + at, end - at, error));
        at = end;
    }
done:
    return status;
}

gv_status gv_bpe_trainer_feed(gv_bpe_trainer *t, gv_text text, gv_error *error) {
    gv_status status = GV_OK;
    for (int64_t from = 0; from < text.length && status == GV_OK;) {
        int64_t to = from;
        while (to < text.length && gv_text_at(text, to) != '\n') to++;
        if (to < text.length) to++;
        status = gv_feed_line(t, text, from, to, error);
        from = to;
    }
    return status;
}

/* ---- pairs ----------------------------------------------------------------------------------------------------------- */

static gv_pair_count *gv_pair_place(gv_pair_count *pairs, uint64_t mask, uint64_t key) {
    uint64_t at = gv_mix(gv_mix(key)) & mask;
    while (pairs[at].key != 0 && pairs[at].key != key) at = (at + 1) & mask;
    return &pairs[at];
}

static uint64_t gv_key_of(int32_t left, int32_t right) {
    return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
}

/* Adds `change` to a pair's count and, when it is more, `word` to its places. touched: the list of those that became more in merge
 * number `step` (NULL: none is kept). */
static gv_status gv_pair_change(gv_bpe_trainer *t, int32_t left, int32_t right, int64_t change, int64_t word, int64_t step,
                                gv_error *error) {
    gv_status status = GV_OK;
    uint64_t key = gv_key_of(left, right);
    if ((uint64_t)(t->pairs_used + 1) * 2 > t->pairs_mask) {
        uint64_t mask = t->pairs_mask * 2 + 1;
        gv_pair_count *bigger = gv_alloc_zero(t->allocator, (mask + 1) * sizeof *bigger);
        if (bigger == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory while counting pairs");
        for (uint64_t i = 0; i <= t->pairs_mask; i++) {
            if (t->pairs[i].key != 0) *gv_pair_place(bigger, mask, t->pairs[i].key) = t->pairs[i];
        }
        gv_release(t->allocator, t->pairs, (t->pairs_mask + 1) * sizeof *bigger);
        t->pairs = bigger;
        t->pairs_mask = mask;
    }
    gv_pair_count *pair = gv_pair_place(t->pairs, t->pairs_mask, key);
    if (pair->key == 0) {
        *pair = (gv_pair_count){key, 0, -1, -1};
        t->pairs_used++;
    }
    pair->count += change;
    if (change <= 0) return GV_OK;
    if (pair->places < 0 || GV_ITEMS(t->cells, gv_cell)[pair->places].word != word) {
        gv_cell cell = {word, pair->places};
        GV_TRY(gv_column_add(&t->cells, &cell, 1, error));
        pair->places = t->cells.used - 1;
    }
    if (pair->touched != step) {
        pair->touched = step;
        GV_TRY(gv_column_add(&t->touched, &key, 1, error));
    }
done:
    return status;
}

static bool gv_goes_first(const gv_candidate *a, const gv_candidate *b) {
    return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static gv_status gv_candidate_push(gv_bpe_trainer *t, gv_candidate value, gv_error *error) {
    gv_status status = gv_column_add(&t->heap, &value, 1, error);
    if (status != GV_OK) return status;
    gv_candidate *heap = GV_ITEMS(t->heap, gv_candidate);
    int64_t at = t->heap.used - 1;
    for (; at > 0 && gv_goes_first(&value, &heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = value;
    return GV_OK;
}

static gv_candidate gv_candidate_pop(gv_bpe_trainer *t) {
    gv_candidate *heap = GV_ITEMS(t->heap, gv_candidate), top = heap[0], last = heap[--t->heap.used];
    int64_t at = 0, count = t->heap.used;
    for (int64_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && gv_goes_first(&heap[child + 1], &heap[child])) child++;
        if (!gv_goes_first(&heap[child], &last)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

/* The pairs that merge number `step` made more frequent go into the heap. */
static gv_status gv_push_touched(gv_bpe_trainer *t, gv_error *error) {
    gv_status status = GV_OK;
    for (int64_t i = 0; i < t->touched.used && status == GV_OK; i++) {
        uint64_t key = GV_ITEMS(t->touched, uint64_t)[i];
        int64_t count = gv_pair_place(t->pairs, t->pairs_mask, key)->count;
        if (count > 0) status = gv_candidate_push(t, (gv_candidate){count, key}, error);
    }
    t->touched.used = 0;
    return status;
}

/* ---- symbols --------------------------------------------------------------------------------------------------------- */

/* The symbol with these bytes, made when there is none. */
static gv_status gv_symbol_of(int32_t *out, gv_bpe_trainer *t, int32_t left, int32_t right, gv_error *error) {
    gv_status status = GV_OK;
    int64_t count = t->name_begins.used - 1, begin = t->names.used;
    int32_t sides[2] = {left, right};
    for (int i = 0; i < 2; i++) {
        if (sides[i] < 0) continue;
        int64_t from = GV_ITEMS(t->name_begins, int64_t)[sides[i]], to = GV_ITEMS(t->name_begins, int64_t)[sides[i] + 1];
        GV_TRY(gv_column_add(&t->names, NULL, to - from, error));
        memcpy(t->names.data + t->names.used - (to - from), t->names.data + from, (size_t)(to - from));
    }
    int64_t length = t->names.used - begin;
    uint64_t hash = (uint64_t)length;
    for (int64_t i = 0; i < length; i++) hash = gv_mix(hash ^ (uint8_t)t->names.data[begin + i]);
    uint64_t at = hash & t->by_name_mask;
    for (; t->by_name[at] != 0; at = (at + 1) & t->by_name_mask) {
        int64_t from = GV_ITEMS(t->name_begins, int64_t)[t->by_name[at] - 1];
        int64_t to = GV_ITEMS(t->name_begins, int64_t)[t->by_name[at]];
        if (to - from == length && memcmp(t->names.data + from, t->names.data + begin, (size_t)length) == 0) {
            t->names.used = begin;
            *out = t->by_name[at] - 1;
            return GV_OK;
        }
    }
    GV_TRY(gv_column_add(&t->name_begins, &t->names.used, 1, error));
    t->by_name[at] = (int32_t)count + 1;
    *out = (int32_t)count;
done:
    return status;
}

/* Merges left and right to `made` in one word and reports what that does to its other pairs. */
static gv_status gv_merge_word(gv_bpe_trainer *t, int64_t word, int32_t left, int32_t right, int32_t made, int64_t step,
                               gv_error *error) {
    gv_status status = GV_OK;
    gv_piece_count *piece = &GV_ITEMS(t->pieces, gv_piece_count)[word];
    int32_t *symbols = GV_ITEMS(t->symbols, int32_t) + piece->begin;
    int64_t kept = 0, length = piece->length, count = piece->count;
    for (int64_t i = 0; i < length; i++) {
        if (i + 1 >= length || symbols[i] != left || symbols[i + 1] != right) {
            symbols[kept++] = symbols[i];
            continue;
        }
        if (kept > 0) {
            GV_TRY(gv_pair_change(t, symbols[kept - 1], left, -count, word, step, error));
            GV_TRY(gv_pair_change(t, symbols[kept - 1], made, count, word, step, error));
        }
        if (i + 2 < length) {
            GV_TRY(gv_pair_change(t, right, symbols[i + 2], -count, word, step, error));
            GV_TRY(gv_pair_change(t, made, symbols[i + 2], count, word, step, error));
        }
        symbols[kept++] = made;
        i++;
    }
    piece->length = kept;
done:
    return status;
}

static gv_status gv_build_init(gv_bpe_trainer *t, const uint8_t alphabet[256], int64_t symbols, gv_error *error) {
    gv_status status = GV_OK;
    int32_t symbol_of[256];
    int64_t zero = 0;
    gv_build_clear(t);
    t->pairs_mask = 0xFFFF;
    t->by_name_mask = 0xFFF;
    while (t->by_name_mask < (uint64_t)(symbols + 256) * 2) t->by_name_mask = t->by_name_mask * 2 + 1;
    t->pairs = gv_alloc_zero(t->allocator, (t->pairs_mask + 1) * sizeof *t->pairs);
    t->by_name = gv_alloc_zero(t->allocator, (t->by_name_mask + 1) * sizeof *t->by_name);
    if (t->pairs == NULL || t->by_name == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a vocabulary");
    GV_TRY(gv_column_add(&t->name_begins, &zero, 1, error));
    for (int i = 0; i < 256; i++) symbol_of[i] = -1;
    for (int32_t i = 0; i < 256; i++) {
        if (symbol_of[alphabet[i]] >= 0) return gv_fail(error, GV_ERR_VALUE, "the alphabet has byte %d twice", alphabet[i]);
        symbol_of[alphabet[i]] = i;
        GV_TRY(gv_column_add(&t->names, &alphabet[i], 1, error));
        GV_TRY(gv_column_add(&t->name_begins, &t->names.used, 1, error));
        uint64_t at = gv_mix(1 ^ (uint64_t)alphabet[i]) & t->by_name_mask;
        while (t->by_name[at] != 0) at = (at + 1) & t->by_name_mask;
        t->by_name[at] = i + 1;
    }
    for (int64_t i = 0; i < t->symbols.used; i++) {
        int32_t *symbol = &GV_ITEMS(t->symbols, int32_t)[i];
        *symbol = symbol_of[*symbol];
    }
    for (int64_t word = 0; word < t->pieces.used; word++) {
        gv_piece_count piece = GV_ITEMS(t->pieces, gv_piece_count)[word];
        for (int64_t i = 0; i + 1 < piece.length; i++) {
            const int32_t *at = GV_ITEMS(t->symbols, int32_t) + piece.begin + i;
            GV_TRY(gv_pair_change(t, at[0], at[1], piece.count, word, 0, error));
        }
    }
    status = gv_push_touched(t, error);
done:
    return status;
}

gv_status gv_bpe_trainer_build(gv_bpe_trainer *t, const uint8_t alphabet[256], int64_t symbols, int64_t min_frequency,
                               gv_bpe_emit emit, void *context, gv_error *error) {
    gv_status status = GV_OK;
    if (t->table == NULL) return gv_fail(error, GV_ERR_STATE, "a vocabulary is built once");
    if (symbols < 0 || symbols > 1 << 24) return gv_fail(error, GV_ERR_VALUE, "%lld merges are too many", (long long)symbols);
    gv_release(t->allocator, t->table, (t->mask + 1) * sizeof *t->table); /* the pieces are merged in place from here on */
    t->table = NULL;
    GV_TRY(gv_build_init(t, alphabet, symbols, error));
    for (int64_t step = 1; t->name_begins.used - 1 - 256 < symbols && t->heap.used > 0; step++) {
        gv_candidate top = gv_candidate_pop(t);
        gv_pair_count *pair = gv_pair_place(t->pairs, t->pairs_mask, top.key);
        if (pair->count != top.count) {
            if (pair->count > 0) GV_TRY(gv_candidate_push(t, (gv_candidate){pair->count, top.key}, error));
            continue;
        }
        if (top.count < 1 || top.count < min_frequency) break;
        int32_t left = (int32_t)((top.key - 1) >> 32), right = (int32_t)((top.key - 1) & 0xFFFFFFFF), made;
        int64_t place = pair->places;
        GV_TRY(gv_symbol_of(&made, t, left, right, error));
        if ((status = emit(context, left, right, made)) != GV_OK) {
            if (error->status == GV_OK) (void)gv_fail(error, status, "the merge could not be handed over");
            goto done;
        }
        pair->places = -1;
        while (place >= 0) {
            gv_cell cell = GV_ITEMS(t->cells, gv_cell)[place];
            GV_TRY(gv_merge_word(t, cell.word, left, right, made, step, error));
            place = cell.next;
        }
        GV_TRY(gv_push_touched(t, error));
    }
done:
    gv_build_clear(t);
    return status;
}
