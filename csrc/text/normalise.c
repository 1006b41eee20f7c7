/* normalise.c - clean, space out ideographs, decompose and strip, lower: one code point at a time where its neighbours do not
 * matter, a whole text with alignment where they do. */
#include "text/normalise.h"

#include <string.h>

#include "base/memory.h"

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

void gv_normalised_clear(gv_normalised *out, const gv_allocator *allocator) {
    size_t capacity = (size_t)out->capacity;
    gv_release(allocator, out->codes, capacity * sizeof *out->codes);
    gv_release(allocator, out->origins, capacity * sizeof *out->origins);
    gv_release(allocator, out->classes, capacity);
    gv_release(allocator, out->added, capacity);
    memset(out, 0, sizeof *out);
}

static gv_status gv_normalised_reserve(gv_normalised *out, int64_t more, const gv_allocator *allocator, gv_error *error) {
    if (out->count + more <= out->capacity) return GV_OK;
    size_t wanted = (size_t)(out->count + more) * 3 / 2 + 64;
    size_t count = (size_t)out->count;
    gv_normalised bigger = {.count = out->count, .capacity = (int64_t)wanted};
    bigger.codes = gv_alloc_array(allocator, wanted, sizeof *bigger.codes);
    bigger.origins = gv_alloc_array(allocator, wanted, sizeof *bigger.origins);
    bigger.classes = gv_alloc(allocator, wanted);
    bigger.added = gv_alloc(allocator, wanted);
    if (bigger.codes == NULL || bigger.origins == NULL || bigger.classes == NULL || bigger.added == NULL) {
        gv_normalised_clear(&bigger, allocator);
        return gv_fail(error, GV_ERR_MEMORY, "out of memory while normalising");
    }
    if (count > 0) {
        memcpy(bigger.codes, out->codes, count * sizeof *out->codes);
        memcpy(bigger.origins, out->origins, count * sizeof *out->origins);
        memcpy(bigger.classes, out->classes, count);
        memcpy(bigger.added, out->added, count);
    }
    gv_normalised_clear(out, allocator);
    *out = bigger;
    return GV_OK;
}

static void gv_normalised_push(gv_normalised *out, uint32_t code, int64_t origin, bool added) {
    out->codes[out->count] = code;
    out->origins[out->count] = (int32_t)origin;
    out->classes[out->count] = 0;
    out->added[out->count] = added;
    out->count++;
}

static void gv_insertion_sort(gv_normalised *out, int64_t start, int64_t end) {
    for (int64_t i = start + 1; i < end; i++) {
        uint32_t code = out->codes[i];
        uint8_t class = out->classes[i], added = out->added[i];
        int64_t j = i;
        for (; j > start && out->classes[j - 1] > class; j--) {
            out->codes[j] = out->codes[j - 1];
            out->classes[j] = out->classes[j - 1];
            out->added[j] = out->added[j - 1];
        }
        out->codes[j] = code;
        out->classes[j] = class;
        out->added[j] = added;
    }
}

/* For hostile text: a megabyte of marks must not take quadratic time. */
static gv_status gv_counting_sort(gv_normalised *out, int64_t start, int64_t end, const gv_allocator *allocator,
                                  gv_error *error) {
    size_t length = (size_t)(end - start), places[257] = {0};
    uint32_t *codes = gv_alloc_array(allocator, length, sizeof *codes);
    uint8_t *added = gv_alloc(allocator, length);
    gv_status status = GV_OK;
    if (codes == NULL || added == NULL) {
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory while normalising");
        goto done;
    }
    memcpy(codes, out->codes + start, length * sizeof *codes);
    memcpy(added, out->added + start, length);
    for (size_t i = 0; i < length; i++) places[out->classes[start + (int64_t)i] + 1]++;
    for (int class = 1; class < 256; class ++) places[class + 1] += places[class];
    for (size_t i = 0; i < length; i++) {
        size_t to = places[gv_uc_combining_class(codes[i])]++;
        out->codes[start + (int64_t)to] = codes[i];
        out->added[start + (int64_t)to] = added[i];
    }
done:
    gv_release(allocator, codes, length * sizeof *codes);
    gv_release(allocator, added, length);
    return status;
}

/* Canonical ordering of one run of marks. The i-th part that is not `added` then belongs to the i-th source point of the run,
 * an added part to the one before it, whichever mark ended up where: that is how the reference counts. */
static gv_status gv_order_run(gv_normalised *out, int64_t start, int64_t end, const gv_allocator *allocator, gv_error *error) {
    int64_t kept = 0;
    for (int64_t i = start; i < end; i++) {
        if (!out->added[i]) out->origins[start + kept++] = out->origins[i];
    }
    if (end - start <= 64) {
        gv_insertion_sort(out, start, end);
    } else {
        gv_status status = gv_counting_sort(out, start, end, allocator, error);
        if (status != GV_OK) return status;
    }
    for (int64_t i = end - 1; i >= start; i--) { /* backwards: the list and its targets share the array */
        if (!out->added[i]) {
            out->origins[i] = out->origins[start + --kept];
        } else if (kept > 0) {
            out->origins[i] = out->origins[start + kept - 1];
        } else if (start > 0) {
            out->origins[i] = out->origins[start - 1];
        }
    }
    return GV_OK;
}

static gv_status gv_order(gv_normalised *out, const gv_allocator *allocator, gv_error *error) {
    for (int64_t i = 0; i < out->count;) {
        if (out->classes[i] == 0) {
            i++;
            continue;
        }
        int64_t start = i;
        while (i < out->count && out->classes[i] != 0) i++;
        if (i - start < 2) continue;
        gv_status status = gv_order_run(out, start, i, allocator, error);
        if (status != GV_OK) return status;
    }
    return GV_OK;
}

/* Cleans one code point in place; false = it is dropped. */
static bool gv_clean(uint32_t *code, const gv_tokenizer_options *options) {
    if (!options->clean_text) return true;
    uint32_t flags = gv_uc_flags(*code);
    if (flags & GV_UC_CONTROL) return false;
    if (flags & GV_UC_SPACE) *code = ' ';
    return true;
}

static gv_status gv_lower(gv_normalised *out, const gv_allocator *allocator, gv_error *error) {
    uint32_t parts[GV_UC_MAX_EXPANSION];
    int64_t extra = 0;
    for (int64_t i = 0; i < out->count; i++) extra += gv_uc_lower(parts, out->codes[i]) - 1;
    gv_status status = gv_normalised_reserve(out, extra, allocator, error);
    if (status != GV_OK) return status;
    int64_t to = out->count + extra;
    for (int64_t i = out->count - 1; i >= 0; i--) {
        int count = gv_uc_lower(parts, out->codes[i]);
        int32_t origin = out->origins[i];
        while (count > 0) {
            out->codes[--to] = parts[--count];
            out->origins[to] = origin;
        }
    }
    out->count += extra;
    return GV_OK;
}

gv_status gv_normalise(gv_normalised *out, const gv_tokenizer_options *options, const uint32_t *source, int64_t length,
                       int64_t first, const gv_allocator *allocator, gv_error *error) {
    uint32_t parts[GV_UC_MAX_EXPANSION];
    out->count = 0;
    gv_status status = gv_normalised_reserve(out, length, allocator, error);
    for (int64_t i = 0; status == GV_OK && i < length; i++) {
        uint32_t code = source[i];
        if (!gv_clean(&code, options)) continue;
        status = gv_normalised_reserve(out, GV_UC_MAX_EXPANSION + 2, allocator, error);
        if (status != GV_OK) break;
        bool spaced = options->handle_chinese_chars && (gv_uc_flags(code) & GV_UC_CJK);
        if (spaced) gv_normalised_push(out, ' ', first + i, false);
        int count = 1;
        parts[0] = code;
        if (options->strip_accents) count = gv_uc_decompose(parts, code);
        for (int k = 0; k < count; k++) {
            gv_normalised_push(out, parts[k], first + i, k > 0);
            out->classes[out->count - 1] = (uint8_t)gv_uc_combining_class(parts[k]);
        }
        if (spaced) gv_normalised_push(out, ' ', first + i, false);
    }
    if (status == GV_OK && options->strip_accents) {
        status = gv_order(out, allocator, error);
        int64_t kept = 0;
        for (int64_t i = 0; i < out->count; i++) {
            if (gv_uc_flags(out->codes[i]) & GV_UC_NONSPACING) continue;
            out->codes[kept] = out->codes[i];
            out->origins[kept++] = out->origins[i];
        }
        out->count = kept;
    }
    if (status == GV_OK && options->lowercase) status = gv_lower(out, allocator, error);
    return status;
}
