/* trie.c - building the trie. */
#include "text/trie.h"

#include "base/memory.h"
#include "text/text.h"

enum { GV_TRIE_FIRST_SLOTS = 256 };

gv_status gv_trie_init(gv_trie *trie, const gv_allocator *allocator, gv_error *error) {
    trie->slots = gv_alloc_zero(allocator, GV_TRIE_FIRST_SLOTS * sizeof *trie->slots);
    if (trie->slots == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a vocabulary");
    trie->mask = GV_TRIE_FIRST_SLOTS - 1;
    trie->nodes = 1;
    trie->edges = 0;
    return GV_OK;
}

void gv_trie_clear(gv_trie *trie, const gv_allocator *allocator) {
    if (trie->slots != NULL) gv_release(allocator, trie->slots, (size_t)(trie->mask + 1) * sizeof *trie->slots);
    trie->slots = NULL;
}

static gv_trie_slot *gv_trie_place(gv_trie_slot *slots, uint64_t mask, uint64_t key) {
    uint64_t at = gv_trie_hash(key);
    while (slots[at & mask].key != 0 && slots[at & mask].key != key) at++;
    return &slots[at & mask];
}

static gv_status gv_trie_grow(gv_trie *trie, const gv_allocator *allocator, gv_error *error) {
    uint64_t count = (trie->mask + 1) * 2;
    gv_trie_slot *slots = gv_alloc_zero(allocator, (size_t)count * sizeof *slots);
    if (slots == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a vocabulary");
    for (uint64_t i = 0; i <= trie->mask; i++) {
        if (trie->slots[i].key != 0) *gv_trie_place(slots, count - 1, trie->slots[i].key) = trie->slots[i];
    }
    gv_trie_clear(trie, allocator);
    trie->slots = slots;
    trie->mask = count - 1;
    return GV_OK;
}

gv_status gv_trie_add(gv_trie *trie, gv_text text, int32_t value, const gv_allocator *allocator, gv_error *error) {
    uint32_t node = GV_TRIE_ROOT;
    for (int64_t i = 0; i < text.length; i++) {
        if ((uint64_t)(trie->edges + 1) * 2 > trie->mask) {
            gv_status status = gv_trie_grow(trie, allocator, error);
            if (status != GV_OK) return status;
        }
        uint64_t key = gv_trie_key(node, gv_text_at(text, i));
        gv_trie_slot *slot = gv_trie_place(trie->slots, trie->mask, key);
        if (slot->key == 0) {
            *slot = (gv_trie_slot){.key = key, .child = trie->nodes++, .value = -1};
            trie->edges++;
        }
        if (i + 1 == text.length) slot->value = value;
        node = slot->child;
    }
    return GV_OK;
}

bool gv_trie_walk(uint32_t *node, const gv_trie *trie, gv_text text) {
    *node = GV_TRIE_ROOT;
    for (int64_t i = 0; i < text.length; i++) {
        const gv_trie_slot *slot = gv_trie_step(trie, *node, gv_text_at(text, i));
        if (slot == NULL) return false;
        *node = slot->child;
    }
    return true;
}
