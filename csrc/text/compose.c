/* compose.c - the composed normal form (NFC, UAX #15): decompose, order the marks, compose. */
#include <string.h>

#include "base/memory.h"
#include "text/split.h"
#include "text/unicode.h"

void gv_composed_clear(gv_composed *out, const gv_allocator *allocator) {
    gv_release(allocator, out->codes, (size_t)out->capacity * sizeof *out->codes);
    gv_release(allocator, out->origins, (size_t)out->capacity * sizeof *out->origins);
    gv_release(allocator, out->classes, (size_t)out->capacity);
    *out = (gv_composed){0};
}

static gv_status gv_composed_reserve(gv_composed *out, int64_t capacity, const gv_allocator *allocator, gv_error *error) {
    if (capacity <= out->capacity) return GV_OK;
    gv_composed_clear(out, allocator);
    out->codes = gv_alloc_array(allocator, (size_t)capacity, sizeof *out->codes);
    out->origins = gv_alloc_array(allocator, (size_t)capacity, sizeof *out->origins);
    out->classes = gv_alloc_array(allocator, (size_t)capacity, 1);
    out->capacity = capacity;
    if (out->codes != NULL && out->origins != NULL && out->classes != NULL) return GV_OK;
    gv_composed_clear(out, allocator);
    return gv_fail(error, GV_ERR_MEMORY, "out of memory for a text of %lld characters", (long long)capacity);
}

/* 0: the two do not compose. */
static uint32_t gv_composition(uint32_t first, uint32_t second) {
    if (first >= 0x1100 && first < 0x1113 && second >= 0x1161 && second < 0x1176)
        return 0xAC00 + ((first - 0x1100) * 21 + (second - 0x1161)) * 28;
    if (first >= 0xAC00 && first < 0xD7A4 && (first - 0xAC00) % 28 == 0 && second > 0x11A7 && second < 0x11C3)
        return first + second - 0x11A7;
    int32_t low = 0, high = gv_composition_count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        const uint32_t *row = gv_compositions[middle];
        if (row[0] < first || (row[0] == first && row[1] < second)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < gv_composition_count && gv_compositions[low][0] == first && gv_compositions[low][1] == second
               ? gv_compositions[low][2]
               : 0;
}

/* Sorts marks [from, to) by class, stably: insertion, or by counting where there are so many that this would be slow. */
static gv_status gv_order_marks(gv_composed *out, int64_t from, int64_t to, const gv_allocator *allocator, gv_error *error) {
    if (to - from <= 64) {
        for (int64_t i = from + 1; i < to; i++) {
            uint32_t code = out->codes[i];
            int32_t origin = out->origins[i];
            uint8_t class = out->classes[i];
            int64_t j = i;
            for (; j > from && out->classes[j - 1] > class; j--) {
                out->codes[j] = out->codes[j - 1];
                out->origins[j] = out->origins[j - 1];
                out->classes[j] = out->classes[j - 1];
            }
            out->codes[j] = code;
            out->origins[j] = origin;
            out->classes[j] = class;
        }
        return GV_OK;
    }
    size_t size = (size_t)(to - from) * 9;
    uint8_t *copy = gv_alloc(allocator, size);
    if (copy == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for %lld marks", (long long)(to - from));
    uint32_t *codes = (uint32_t *)(void *)copy;
    int32_t *origins = (int32_t *)(void *)(codes + (to - from));
    uint8_t *classes = (uint8_t *)(void *)(origins + (to - from));
    memcpy(codes, out->codes + from, (size_t)(to - from) * 4);
    memcpy(origins, out->origins + from, (size_t)(to - from) * 4);
    memcpy(classes, out->classes + from, (size_t)(to - from));
    int64_t place[257] = {0};
    for (int64_t i = 0; i < to - from; i++) place[classes[i] + 1]++;
    for (int i = 0; i < 256; i++) place[i + 1] += place[i];
    for (int64_t i = 0; i < to - from; i++) {
        int64_t at = from + place[classes[i]]++;
        out->codes[at] = codes[i];
        out->origins[at] = origins[i];
        out->classes[at] = classes[i];
    }
    gv_release(allocator, copy, size);
    return GV_OK;
}

gv_status gv_compose(gv_composed *out, const uint32_t *source, int64_t length, int64_t first, const gv_allocator *allocator,
                     gv_error *error) {
    uint32_t parts[GV_UC_MAX_EXPANSION];
    int64_t total = 0;
    for (int64_t i = 0; i < length; i++) total += source[i] < 0xC0 ? 1 : gv_uc_decompose(parts, source[i]);
    gv_status status = gv_composed_reserve(out, total + 1, allocator, error);
    out->count = 0;
    if (status != GV_OK) return status;
    for (int64_t i = 0; i < length; i++) {
        int count = gv_uc_decompose(parts, source[i]);
        for (int j = 0; j < count; j++) {
            out->codes[out->count] = parts[j];
            out->origins[out->count] = j > 0; /* for now: 1 = one more than the source had, below 0 = so many fewer */
            out->classes[out->count++] = (uint8_t)gv_uc_combining_class(parts[j]);
        }
    }
    for (int64_t i = 0; i < total && status == GV_OK; i++) {
        int64_t end = i;
        while (end < total && out->classes[end] != 0) end++;
        if (end - i > 1) status = gv_order_marks(out, i, end, allocator, error);
        if (end > i) i = end - 1;
    }
    if (status != GV_OK) return status;
    int64_t kept = 0, starter = -1;
    for (int64_t i = 0; i < total; i++) {
        uint8_t class = out->classes[i];
        /* Blocked when something of no lower class stands between the starter and this one. */
        bool adjacent = starter == kept - 1;
        bool open = starter >= 0 && (adjacent || (out->classes[kept - 1] != 0 && out->classes[kept - 1] < class));
        uint32_t composed = open ? gv_composition(out->codes[starter], out->codes[i]) : 0;
        if (composed != 0) {
            out->codes[starter] = composed;
            out->origins[starter] -= 1 - out->origins[i];
            continue;
        }
        out->codes[kept] = out->codes[i];
        out->origins[kept] = out->origins[i];
        out->classes[kept] = class;
        if (class == 0) starter = kept;
        kept++;
    }
    out->count = kept;
    /* Which source character each comes from is counted, not followed through the ordering of marks: so the reference does. */
    for (int64_t i = 0, at = first; i < kept; i++) {
        int32_t change = out->origins[i];
        out->origins[i] = (int32_t)(change > 0 ? (at > first ? at - 1 : first) : at);
        if (change <= 0) at += 1 - change;
    }
    return GV_OK;
}
