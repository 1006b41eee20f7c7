/* added.h - added tokens: found in the text before anything else is done to it, the raw ones first, then the normalised. */
#ifndef GV_TEXT_ADDED_H
#define GV_TEXT_ADDED_H

#include "govlm.h"
#include "text/trie.h"

typedef struct {
    int32_t id;
    bool single_word, left_strip, right_strip;
} gv_added;

typedef struct {
    gv_trie raw, normalized; /* of texts; the value is an index into `tokens` */
    gv_added *tokens;
    int64_t count, capacity;
} gv_added_set;

/* An added token as found at [start, end). */
typedef struct {
    const gv_added *token;
    int64_t start, end;
} gv_found;

gv_status gv_added_init(gv_added_set *set, const gv_allocator *allocator, gv_error *error);
void gv_added_clear(gv_added_set *set, const gv_allocator *allocator);

/* Adds `token`, which is looked for as `text`: its own, or the normal form of that (an empty one is never found). */
gv_status gv_added_append(gv_added_set *set, const gv_added_token *token, gv_text text, const gv_allocator *allocator,
                          gv_error *error);

/* The longest token of `trie` that starts at `at`. */
bool gv_added_find(gv_found *found, const gv_added_set *set, const gv_trie *trie, gv_text text, int64_t at);

/* Whether a found token counts, and how far it reaches with the white space that it takes along, down to `limit` (the end of
 * the token before). One that does not count still uses up its text. */
bool gv_added_accept(gv_found *found, gv_text text, int64_t limit);

/* Refuses a lone surrogate or a number beyond Unicode at character `at`. */
gv_status gv_refuse_code(uint32_t code, int64_t at, gv_error *error);

#endif
