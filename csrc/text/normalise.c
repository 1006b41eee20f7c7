/* normalise.c - one code point at a time; marks in canonical order where it shows. */
#include "text/normalise.h"

#include <string.h>

gv_piece_kind gv_code_kind(uint32_t code) {
    uint32_t flags = gv_uc_flags(code);
    if (flags & GV_UC_SPACE) return GV_PIECE_SPACE;
    if (flags & GV_UC_PUNCTUATION) return GV_PIECE_ALONE;
    return GV_PIECE_WORD;
}

void gv_normalise_code(gv_piece *out, const gv_tokenizer_options *options, uint32_t code) {
    uint32_t flags = gv_uc_flags(code), parts[GV_UC_MAX_EXPANSION], lower[GV_UC_MAX_EXPANSION];
    int count = 1;
    out->kind = GV_PIECE_REMOVED;
    out->count = 0;
    if (options->clean_text) {
        if (flags & GV_UC_CONTROL) return;
        if (flags & GV_UC_SPACE) code = ' ';
    }
    bool alone = options->handle_chinese_chars && (flags & GV_UC_CJK) != 0, mark = false;
    parts[0] = code;
    if (options->strip_accents) count = gv_uc_decompose(parts, code);
    for (int i = 0; i < count; i++) {
        if (options->strip_accents) {
            if (gv_uc_flags(parts[i]) & GV_UC_NONSPACING) continue;
            if (gv_uc_combining_class(parts[i]) != 0) mark = true;
        }
        int lowered = 1;
        lower[0] = parts[i];
        if (options->lowercase) lowered = gv_uc_lower(lower, parts[i]);
        for (int j = 0; j < lowered && out->count < GV_PIECE_MAX; j++) out->codes[out->count++] = lower[j];
    }
    if (out->count == 0) return;
    int words = 0, spaces = 0;
    for (int i = 0; i < out->count; i++) {
        gv_piece_kind kind = gv_code_kind(out->codes[i]);
        words += kind == GV_PIECE_WORD;
        spaces += kind == GV_PIECE_SPACE;
    }
    if (mark) {
        out->kind = GV_PIECE_MARK;
    } else if (out->count == 1 && spaces == 1) {
        out->kind = GV_PIECE_SPACE;
    } else if (out->count == 1 && (alone || words == 0)) {
        out->kind = GV_PIECE_ALONE;
    } else if (words == out->count && !alone) {
        out->kind = GV_PIECE_WORD;
    } else {
        out->kind = GV_PIECE_MIXED;
    }
}

void gv_order_marks(uint32_t *codes, uint8_t *added, int64_t count) {
    for (int64_t start = 0; start < count;) {
        if (gv_uc_combining_class(codes[start]) == 0) {
            start++;
            continue;
        }
        int64_t end = start;
        while (end < count && gv_uc_combining_class(codes[end]) != 0) end++;
        /* Stable, and linear in a hostile run of a million marks: one pass per class that occurs. */
        int64_t placed = start;
        for (uint32_t class = 1; class < 256 && placed < end; class++) {
            for (int64_t i = placed; i < end; i++) {
                uint32_t code = codes[i];
                uint8_t flag = added[i];
                if (gv_uc_combining_class(code) != class) continue;
                if (i > placed) {
                    memmove(codes + placed + 1, codes + placed, (size_t)(i - placed) * sizeof *codes);
                    memmove(added + placed + 1, added + placed, (size_t)(i - placed));
                    codes[placed] = code;
                    added[placed] = flag;
                }
                placed++;
            }
        }
        start = end;
    }
}
