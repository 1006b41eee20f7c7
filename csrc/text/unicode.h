/* unicode.h - character facts: two-stage property tables, canonical decomposition, lower case. Tables by make_tables.py. */
#ifndef GV_TEXT_UNICODE_H
#define GV_TEXT_UNICODE_H

#include <stdint.h>

enum { GV_UC_LIMIT = 0x110000, GV_UC_BLOCK = 128, GV_UC_MAX_EXPANSION = 8 };

enum {
    GV_UC_CONTROL = 1,     /* removed by cleaning (NUL, U+FFFD, control, format, private use) */
    GV_UC_SPACE = 2,       /* white space */
    GV_UC_PUNCTUATION = 4, /* a word of its own */
    GV_UC_CJK = 8,         /* an ideograph: a word of its own */
    GV_UC_NONSPACING = 16, /* a mark that accent stripping removes */
    GV_UC_WORD = 32        /* a word character, as regular expressions see it (added tokens with single_word) */
};

extern const uint16_t gv_uc_first[];
extern const uint8_t gv_uc_second[];
extern const uint8_t gv_uc_records[][2];
extern const int32_t gv_uc_decomposition_count, gv_uc_lowercase_count;
extern const uint32_t gv_uc_decomposition_keys[], gv_uc_decomposition_pool[];
extern const uint16_t gv_uc_decomposition_offsets[];
extern const uint32_t gv_uc_lowercase_keys[], gv_uc_lowercase_pool[];
extern const uint16_t gv_uc_lowercase_offsets[];

/* Both take a code point below GV_UC_LIMIT. */
static inline uint32_t gv_uc_flags(uint32_t code) {
    return gv_uc_records[gv_uc_second[gv_uc_first[code / GV_UC_BLOCK] * GV_UC_BLOCK + code % GV_UC_BLOCK]][0];
}
static inline uint32_t gv_uc_combining_class(uint32_t code) {
    return gv_uc_records[gv_uc_second[gv_uc_first[code / GV_UC_BLOCK] * GV_UC_BLOCK + code % GV_UC_BLOCK]][1];
}

static inline int gv_uc_is_surrogate(uint32_t code) {
    return code >= 0xD800 && code < 0xE000;
}

/* The full canonical decomposition / the lower case of one code point: 1..GV_UC_MAX_EXPANSION code points into `out`. */
int gv_uc_decompose(uint32_t out[GV_UC_MAX_EXPANSION], uint32_t code);
int gv_uc_lower(uint32_t out[GV_UC_MAX_EXPANSION], uint32_t code);

#endif
