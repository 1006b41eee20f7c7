/* added.c - added tokens in two tries: of raw and of normalised text. */
#include "text/added.h"

#include <string.h>

#include "base/memory.h"
#include "text/text.h"
#include "text/unicode.h"

gv_status gv_added_init(gv_added_set *set, const gv_allocator *allocator, gv_error *error) {
    gv_status status = gv_trie_init(&set->raw, allocator, error);
    return status == GV_OK ? gv_trie_init(&set->normalized, allocator, error) : status;
}

void gv_added_clear(gv_added_set *set, const gv_allocator *allocator) {
    gv_trie_clear(&set->raw, allocator);
    gv_trie_clear(&set->normalized, allocator);
    gv_release(allocator, set->tokens, (size_t)set->capacity * sizeof *set->tokens);
    *set = (gv_added_set){0};
}

gv_status gv_added_append(gv_added_set *set, const gv_added_token *token, gv_text text, const gv_allocator *allocator,
                          gv_error *error) {
    gv_status status = GV_OK;
    if (token->text.length == 0) return gv_fail(error, GV_ERR_VALUE, "an added token must not be empty");
    if (set->count == set->capacity) {
        int64_t capacity = set->capacity * 2 + 16;
        gv_added *bigger = gv_alloc_array(allocator, (size_t)capacity, sizeof *bigger);
        if (bigger == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for an added token");
        if (set->count > 0) memcpy(bigger, set->tokens, (size_t)set->count * sizeof *bigger);
        gv_release(allocator, set->tokens, (size_t)set->capacity * sizeof *bigger);
        set->tokens = bigger;
        set->capacity = capacity;
    }
    if (text.length > 0) {
        gv_trie *trie = token->normalized ? &set->normalized : &set->raw;
        status = gv_trie_add(trie, text, (int32_t)set->count, allocator, error);
    }
    if (status != GV_OK) return status;
    set->tokens[set->count++] = (gv_added){token->id, token->single_word, token->left_strip, token->right_strip};
    return GV_OK;
}

bool gv_added_find(gv_found *found, const gv_added_set *set, const gv_trie *trie, gv_text text, int64_t at) {
    uint32_t node = GV_TRIE_ROOT;
    found->token = NULL;
    for (int64_t i = at; i < text.length; i++) {
        const gv_trie_slot *slot = gv_trie_step(trie, node, gv_text_at(text, i));
        if (slot == NULL) break;
        if (slot->value >= 0) *found = (gv_found){&set->tokens[slot->value], at, i + 1};
        node = slot->child;
    }
    return found->token != NULL;
}

static uint32_t gv_flags_at(gv_text text, int64_t index) {
    if (index < 0 || index >= text.length) return 0;
    uint32_t code = gv_text_at(text, index);
    return code < GV_UC_LIMIT ? gv_uc_flags(code) : 0;
}

bool gv_added_accept(gv_found *found, gv_text text, int64_t limit) {
    if (found->token->single_word) {
        if ((gv_flags_at(text, found->start - 1) | gv_flags_at(text, found->end)) & GV_UC_WORD) return false;
    }
    if (found->token->left_strip) {
        while (found->start > limit && (gv_flags_at(text, found->start - 1) & GV_UC_SPACE)) found->start--;
        if (found->start < limit) found->start = limit;
    }
    if (found->token->right_strip) {
        while (gv_flags_at(text, found->end) & GV_UC_SPACE) found->end++;
    }
    return true;
}

gv_status gv_refuse_code(uint32_t code, int64_t at, gv_error *error) {
    if (gv_uc_is_surrogate(code)) {
        return gv_fail(error, GV_ERR_VALUE, "text holds a lone surrogate U+%04X at character %lld: it is no Unicode text",
                       (unsigned)code, (long long)at);
    }
    return gv_fail(error, GV_ERR_VALUE, "text holds %u, which is no code point", (unsigned)code);
}
