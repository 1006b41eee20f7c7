/* unicode.c - mappings of one code point to several. */
#include "text/unicode.h"

static int gv_uc_map(uint32_t *out, uint32_t code, const uint32_t *keys, int32_t count, const uint16_t *offsets,
                     const uint32_t *pool) {
    int32_t low = 0, high = count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (keys[middle] < code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == count || keys[low] != code) {
        out[0] = code;
        return 1;
    }
    int length = offsets[low + 1] - offsets[low];
    for (int i = 0; i < length; i++) out[i] = pool[offsets[low] + i];
    return length;
}

int gv_uc_decompose(uint32_t out[GV_UC_MAX_EXPANSION], uint32_t code) {
    if (code >= 0xAC00 && code < 0xD7A4) { /* Hangul syllables follow a rule: lead, vowel, tail */
        uint32_t index = code - 0xAC00;
        out[0] = 0x1100 + index / 588;
        out[1] = 0x1161 + index % 588 / 28;
        out[2] = 0x11A7 + index % 28;
        return index % 28 == 0 ? 2 : 3;
    }
    return gv_uc_map(out, code, gv_uc_decomposition_keys, gv_uc_decomposition_count, gv_uc_decomposition_offsets,
                     gv_uc_decomposition_pool);
}

int gv_uc_lower(uint32_t out[GV_UC_MAX_EXPANSION], uint32_t code) {
    return gv_uc_map(out, code, gv_uc_lowercase_keys, gv_uc_lowercase_count, gv_uc_lowercase_offsets, gv_uc_lowercase_pool);
}
