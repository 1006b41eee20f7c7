/* trie.h - a trie of code points in one open-addressing hash table: the vocabulary, and the added tokens. */
#ifndef GV_TEXT_TRIE_H
#define GV_TEXT_TRIE_H

#include "govlm.h"

enum { GV_TRIE_ROOT = 0 };

/* An edge: `key` = parent << 21 | code point, plus one so that 0 means empty; `value` belongs to the child, -1 = none. */
typedef struct {
    uint64_t key;
    uint32_t child;
    int32_t value;
} gv_trie_slot;

typedef struct {
    gv_trie_slot *slots; /* mask + 1 of them */
    uint64_t mask;
    uint32_t nodes;
    uint32_t edges;
} gv_trie;

/* An empty trie; freed with the same allocator. */
gv_status gv_trie_init(gv_trie *trie, const gv_allocator *allocator, gv_error *error);
void gv_trie_clear(gv_trie *trie, const gv_allocator *allocator);

/* Adds `text` (not empty) with `value` >= 0; a later value of the same text replaces the earlier. */
gv_status gv_trie_add(gv_trie *trie, gv_text text, int32_t value, const gv_allocator *allocator, gv_error *error);

static inline uint64_t gv_trie_key(uint32_t node, uint32_t code) {
    return ((uint64_t)node << 21 | code) + 1;
}

static inline uint64_t gv_trie_hash(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return key ^ key >> 29;
}

/* The edge from `node` by `code`, or NULL. */
static inline const gv_trie_slot *gv_trie_step(const gv_trie *trie, uint32_t node, uint32_t code) {
    uint64_t key = gv_trie_key(node, code);
    for (uint64_t at = gv_trie_hash(key);; at++) {
        const gv_trie_slot *slot = &trie->slots[at & trie->mask];
        if (slot->key == key) return slot;
        if (slot->key == 0) return NULL;
    }
}

/* The node that `text` leads to (the root for an empty text); false when there is none. */
bool gv_trie_walk(uint32_t *node, const gv_trie *trie, gv_text text);

#endif
