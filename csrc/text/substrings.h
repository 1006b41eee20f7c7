/* substrings.h - the substrings of a text that occur at least twice and can go on in more than one way, with their counts. */
#ifndef GV_TEXT_SUBSTRINGS_H
#define GV_TEXT_SUBSTRINGS_H

#include "govlm.h"

typedef struct {
    int64_t offset, score; /* score: occurrences times length */
    int32_t length;
} gv_substring;

/* codes [count], 0 ends a sentence. Lists substrings of 2..longest codes without a 0 that `keep` accepts, at most `most` of
 * them (those with the highest scores), best first. *out is freed with gv_release of *capacity elements. */
typedef bool (*gv_substring_filter)(const uint32_t *codes, int64_t length);
gv_status gv_substrings(gv_substring **out, int64_t *found, int64_t *capacity, const uint32_t *codes, int64_t count,
                        int64_t longest, int64_t most, gv_substring_filter keep, const gv_allocator *allocator,
                        gv_error *error);

#endif
