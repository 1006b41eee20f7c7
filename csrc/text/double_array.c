/* double_array.c - building the double array: nodes with many children first, each at the first place where all of them fit. */
#include "text/double_array.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/try.h"
#include "text/text.h"

enum { GV_DOUBLE_TRIES = 128 }; /* places tried for a node before it goes to the end: bounds the time for any vocabulary */

typedef struct {
    uint32_t parent, symbol, child;
    int32_t value;
} gv_edge;

typedef struct {
    gv_double_array *array;
    const gv_allocator *allocator;
    gv_trie trie;
    gv_edge *edges; /* [edge_count] by parent, then symbol */
    int64_t edge_count;
    int64_t *splits;          /* [nodes + 1]: the edges of a node */
    uint32_t *order;          /* [nodes] by number of children, most first */
    uint32_t *bases;          /* [nodes] */
    int64_t *next, *previous; /* [capacity] the free cells in order; -1 ends */
    uint8_t *used;            /* [capacity] the place is some node's base */
    int64_t capacity, head, tail, nodes;
    int64_t top; /* no cell from here on is taken */
    int64_t last_count,
        cursor; /* children of the last node; the free cell to go on from for one with as many, -1 = the first */
} gv_builder;

static void gv_builder_clear(gv_builder *b) {
    const gv_allocator *a = b->allocator;
    gv_trie_clear(&b->trie, a);
    gv_release(a, b->edges, (size_t)b->edge_count * sizeof *b->edges);
    gv_release(a, b->splits, (size_t)(b->nodes + 1) * sizeof *b->splits);
    gv_release(a, b->order, (size_t)b->nodes * sizeof *b->order);
    gv_release(a, b->bases, (size_t)b->nodes * sizeof *b->bases);
    gv_release(a, b->next, (size_t)b->capacity * sizeof *b->next);
    gv_release(a, b->previous, (size_t)b->capacity * sizeof *b->previous);
    gv_release(a, b->used, (size_t)b->capacity);
}

void gv_double_array_clear(gv_double_array *array, const gv_allocator *allocator) {
    gv_release(allocator, array->cells, (size_t)array->capacity * sizeof *array->cells);
    gv_release(allocator, array->first, (size_t)array->alphabet * sizeof *array->first);
    gv_release(allocator, array->symbols, GV_DOUBLE_PLANE * sizeof *array->symbols);
    gv_trie_clear(&array->astral, allocator);
    memset(array, 0, sizeof *array);
}

static gv_status gv_no_memory(gv_error *error) {
    return gv_fail(error, GV_ERR_MEMORY, "out of memory for a vocabulary");
}

/* ---- symbols -------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t code;
    int64_t count; /* edges below the root */
} gv_code_count;

static int gv_by_count(const void *left, const void *right) {
    const gv_code_count *a = left, *b = right;
    if (a->count != b->count) return a->count > b->count ? -1 : 1;
    return a->code < b->code ? -1 : a->code > b->code;
}
static int gv_by_code(const void *left, const void *right) {
    const gv_code_count *a = left, *b = right;
    return a->code < b->code ? -1 : a->code > b->code;
}

/* Numbers the code points of all edges, the one with the most edges first, so that cells of one node lie close. */
static gv_status gv_number_codes(gv_builder *b, gv_error *error) {
    gv_status status = GV_OK;
    int64_t count = 0, kinds = 0;
    const size_t size = (size_t)b->trie.edges * sizeof(gv_code_count) + 1;
    gv_double_array *array = b->array;
    gv_code_count *codes = gv_alloc(b->allocator, size);
    array->symbols = gv_alloc_zero(b->allocator, GV_DOUBLE_PLANE * sizeof *array->symbols);
    if (codes == NULL || array->symbols == NULL) GV_TRY(gv_no_memory(error));
    for (uint64_t i = 0; i <= b->trie.mask; i++) {
        uint64_t key = b->trie.slots[i].key;
        if (key != 0) codes[count++] = (gv_code_count){(uint32_t)(key - 1) & 0x1FFFFF, (key - 1) >> 21 != GV_TRIE_ROOT};
    }
    qsort(codes, (size_t)count, sizeof *codes, gv_by_code);
    for (int64_t i = 0; i < count; i++) {
        if (kinds > 0 && codes[kinds - 1].code == codes[i].code) {
            codes[kinds - 1].count += codes[i].count;
        } else {
            codes[kinds++] = codes[i];
        }
    }
    qsort(codes, (size_t)kinds, sizeof *codes, gv_by_count);
    GV_TRY(gv_trie_init(&array->astral, b->allocator, error));
    for (int64_t i = 0; i < kinds; i++) {
        if (codes[i].code < (uint32_t)GV_DOUBLE_PLANE) {
            array->symbols[codes[i].code] = (uint32_t)i + 1;
        } else {
            GV_TRY(gv_trie_add(&array->astral, (gv_text){&codes[i].code, 1, 4}, (int32_t)i + 1, b->allocator, error));
        }
    }
    array->first = gv_alloc_zero(b->allocator, (size_t)(kinds + 1) * sizeof *array->first);
    if (array->first == NULL) GV_TRY(gv_no_memory(error));
    array->alphabet = kinds + 1;
    for (int64_t i = 0; i <= kinds; i++) array->first[i].id = GV_DOUBLE_NONE;
done:
    gv_release(b->allocator, codes, size);
    return status;
}

/* ---- nodes ---------------------------------------------------------------------------------------------------------- */

static int gv_by_parent(const void *left, const void *right) {
    const gv_edge *a = left, *b = right;
    if (a->parent != b->parent) return a->parent < b->parent ? -1 : 1;
    return a->symbol < b->symbol ? -1 : a->symbol > b->symbol;
}

static gv_status gv_list_edges(gv_builder *b, gv_error *error) {
    const gv_allocator *a = b->allocator;
    b->nodes = b->trie.nodes;
    b->edges = gv_alloc_array(a, b->trie.edges, sizeof *b->edges);
    b->splits = gv_alloc_zero(a, (size_t)(b->nodes + 1) * sizeof *b->splits);
    b->order = gv_alloc_array(a, (size_t)b->nodes, sizeof *b->order);
    b->bases = gv_alloc_zero(a, (size_t)b->nodes * sizeof *b->bases);
    if (b->edges == NULL || b->splits == NULL || b->order == NULL || b->bases == NULL) return gv_no_memory(error);
    b->edge_count = 0;
    for (uint64_t i = 0; i <= b->trie.mask; i++) {
        const gv_trie_slot *slot = &b->trie.slots[i];
        if (slot->key == 0) continue;
        uint32_t parent = (uint32_t)((slot->key - 1) >> 21), code = (uint32_t)(slot->key - 1) & 0x1FFFFF;
        b->edges[b->edge_count++] = (gv_edge){parent, gv_double_array_symbol(b->array, code), slot->child, slot->value};
        b->splits[parent + 1]++;
    }
    qsort(b->edges, (size_t)b->edge_count, sizeof *b->edges, gv_by_parent);
    for (int64_t i = 0; i < b->nodes; i++) b->splits[i + 1] += b->splits[i];
    return GV_OK;
}

/* order = all nodes, those with the most children first: a counting sort. */
static gv_status gv_order_nodes(gv_builder *b, gv_error *error) {
    int64_t most = 0;
    for (int64_t i = 0; i < b->nodes; i++) {
        int64_t n = b->splits[i + 1] - b->splits[i];
        if (n > most) most = n;
    }
    const size_t size = (size_t)(most + 2) * sizeof(int64_t);
    int64_t *places = gv_alloc_zero(b->allocator, size);
    if (places == NULL) return gv_no_memory(error);
    for (int64_t i = 0; i < b->nodes; i++) places[most - (b->splits[i + 1] - b->splits[i]) + 1]++;
    for (int64_t i = 0; i <= most; i++) places[i + 1] += places[i];
    for (int64_t i = 0; i < b->nodes; i++) b->order[places[most - (b->splits[i + 1] - b->splits[i])]++] = (uint32_t)i;
    gv_release(b->allocator, places, size);
    return GV_OK;
}

/* Makes room for cells [0, needed) and hangs the new ones behind the free ones. */
static gv_status gv_cells_reserve(gv_builder *b, int64_t needed, gv_error *error) {
    const gv_allocator *a = b->allocator;
    if (needed <= b->capacity) return GV_OK;
    int64_t capacity = needed + needed / 4 + 1024, old = b->capacity;
    if (capacity >= (int64_t)1 << 31) return gv_fail(error, GV_ERR_VALUE, "a vocabulary too large for its trie");
    gv_double_cell *cells = gv_alloc_zero(a, (size_t)capacity * sizeof *cells);
    int64_t *next = gv_alloc_array(a, (size_t)capacity, sizeof *next);
    int64_t *previous = gv_alloc_array(a, (size_t)capacity, sizeof *previous);
    uint8_t *used = gv_alloc_zero(a, (size_t)capacity);
    if (cells == NULL || next == NULL || previous == NULL || used == NULL) {
        gv_release(a, cells, (size_t)capacity * sizeof *cells);
        gv_release(a, next, (size_t)capacity * sizeof *next);
        gv_release(a, previous, (size_t)capacity * sizeof *previous);
        gv_release(a, used, (size_t)capacity);
        return gv_no_memory(error);
    }
    if (old > 0) {
        memcpy(cells, b->array->cells, (size_t)old * sizeof *cells);
        memcpy(next, b->next, (size_t)old * sizeof *next);
        memcpy(previous, b->previous, (size_t)old * sizeof *previous);
        memcpy(used, b->used, (size_t)old);
    }
    gv_release(a, b->array->cells, (size_t)old * sizeof *cells);
    gv_release(a, b->next, (size_t)old * sizeof *next);
    gv_release(a, b->previous, (size_t)old * sizeof *previous);
    gv_release(a, b->used, (size_t)old);
    b->array->cells = cells;
    b->array->capacity = b->capacity = capacity;
    b->next = next;
    b->previous = previous;
    b->used = used;
    for (int64_t i = old; i < capacity; i++) {
        cells[i].id = GV_DOUBLE_NONE;
        next[i] = i + 1 < capacity ? i + 1 : -1;
        previous[i] = i > old ? i - 1 : b->tail;
    }
    if (b->tail >= 0) next[b->tail] = old;
    if (b->head < 0) b->head = old;
    b->tail = capacity - 1;
    return GV_OK;
}

static bool gv_fits(const gv_builder *b, int64_t base, const gv_edge *edges, int64_t count) {
    if (base < 1 || b->used[base]) return false;
    for (int64_t i = 0; i < count; i++)
        if (b->array->cells[base + edges[i].symbol].check != 0) return false;
    return true;
}

static void gv_take_cell(gv_builder *b, int64_t at) {
    int64_t next = b->next[at], previous = b->previous[at];
    if (previous >= 0) b->next[previous] = next;
    if (next >= 0) b->previous[next] = previous;
    if (b->head == at) b->head = next;
    if (b->tail == at) b->tail = previous;
}

static gv_status gv_place_node(gv_builder *b, uint32_t node, gv_error *error) {
    const gv_edge *edges = b->edges + b->splits[node];
    const int64_t count = b->splits[node + 1] - b->splits[node], low = edges[0].symbol, alphabet = b->array->alphabet;
    int64_t base = -1, tries = 0, at = count == b->last_count && b->cursor >= 0 ? b->cursor : b->head;
    for (; at >= 0 && tries < GV_DOUBLE_TRIES && at - low + alphabet < b->capacity; at = b->next[at], tries++) {
        if (gv_fits(b, at - low, edges, count)) {
            base = at - low;
            break;
        }
    }
    if (base < 0) { /* behind everything */
        base = b->top > low ? b->top - low : 1;
        gv_status status;
        do {
            if ((status = gv_cells_reserve(b, base + alphabet + 2, error)) != GV_OK) return status;
        } while (b->used[base] && base++ >= 0);
    }
    b->used[base] = 1;
    b->last_count = count;
    b->cursor = -1;
    b->bases[node] = (uint32_t)base;
    for (int64_t i = 0; i < count; i++) {
        b->array->cells[base + edges[i].symbol].check = (uint32_t)base;
        int64_t cell = base + edges[i].symbol;
        if (i == 0) b->cursor = b->next[cell]; /* what was passed over will hardly fit the next node of this size */
        if (cell == b->cursor) b->cursor = b->next[cell];
        gv_take_cell(b, cell);
        if (cell >= b->top) b->top = cell + 1;
    }
    return GV_OK;
}

gv_status gv_double_array_build(gv_double_array *out, const gv_text *pieces, const int32_t *ids, int64_t count,
                                const float *scores, const gv_allocator *allocator, gv_error *error) {
    gv_status status = GV_OK;
    int64_t found = 0;
    gv_builder b = {.array = out, .allocator = allocator, .head = -1, .tail = -1};
    memset(out, 0, sizeof *out);
    GV_TRY(gv_trie_init(&b.trie, allocator, error));
    for (int64_t i = 0; i < count; i++) {
        gv_text piece = pieces[ids[i]];
        if (piece.length > out->longest) out->longest = piece.length;
        GV_TRY(gv_trie_add(&b.trie, piece, ids[i], allocator, error));
        if (b.trie.nodes > 1u << 28) GV_TRY(gv_fail(error, GV_ERR_VALUE, "a vocabulary too large for its trie"));
    }
    for (uint64_t i = 0; i <= b.trie.mask; i++) found += b.trie.slots[i].key != 0 && b.trie.slots[i].value >= 0;
    if (found != count)
        GV_TRY(gv_fail(error, GV_ERR_VALUE, "%lld pieces stand in the vocabulary more than once", (long long)(count - found)));
    GV_TRY(gv_number_codes(&b, error));
    GV_TRY(gv_list_edges(&b, error));
    GV_TRY(gv_order_nodes(&b, error));
    GV_TRY(gv_cells_reserve(&b, b.edge_count + b.edge_count / 4 + out->alphabet + 2, error));
    for (int64_t i = 0; i < b.nodes; i++) {
        uint32_t node = b.order[i];
        if (node == GV_TRIE_ROOT || b.splits[node + 1] == b.splits[node]) continue;
        GV_TRY(gv_place_node(&b, node, error));
    }
    for (int64_t i = 0; i < b.edge_count; i++) {
        const gv_edge *edge = &b.edges[i];
        float score = edge->value >= 0 ? scores[edge->value] : 0.0F;
        uint32_t base = b.bases[edge->child];
        if (edge->parent == GV_TRIE_ROOT) {
            out->first[edge->symbol] = (gv_double_first){base, score, edge->value, 0};
        } else {
            uint32_t own = b.bases[edge->parent];
            out->cells[own + edge->symbol] = (gv_double_cell){own, base, score, edge->value};
        }
    }
done:
    if (status != GV_OK) gv_double_array_clear(out, allocator);
    gv_builder_clear(&b);
    return status;
}

void gv_double_array_flag(gv_double_array *array, gv_text piece) {
    gv_double_first *first = &array->first[gv_double_array_symbol(array, gv_text_at(piece, 0))];
    if (piece.length == 1) first->flag = 1;
    uint32_t node = first->base;
    for (int64_t i = 1; i < piece.length; i++) {
        gv_double_cell *cell = &array->cells[node + gv_double_array_symbol(array, gv_text_at(piece, i))];
        if (i + 1 == piece.length) cell->id |= GV_DOUBLE_FLAG;
        node = cell->base;
    }
}
