/* substrings.c - suffixes sorted as far as pieces are long (three-way radix quicksort, Bentley and Sedgewick 1997), then the
 * intervals with a common prefix, as a suffix array gives them (Abouelhoda et al. 2004). */
#include "text/substrings.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/try.h"

typedef struct {
    const uint32_t *codes;
    int64_t depth; /* suffixes are compared this far, or to the end of their sentence */
} gv_suffixes;

/* The code at `depth` of a suffix; 0 from the end of its sentence on (the walk stops there). */
static inline uint32_t gv_suffix_code(const gv_suffixes *s, int32_t suffix, int64_t depth) {
    return s->codes[suffix + depth];
}

static void gv_swap(int32_t *a, int32_t *b) {
    int32_t t = *a;
    *a = *b;
    *b = t;
}

static bool gv_suffix_less(const gv_suffixes *s, int32_t a, int32_t b, int64_t depth) {
    for (; depth < s->depth; depth++) {
        uint32_t x = gv_suffix_code(s, a, depth), y = gv_suffix_code(s, b, depth);
        if (x != y) return x < y;
        if (x == 0) return false;
    }
    return false;
}

/* The larger parts wait on the stack, so it holds few: each part that waits is at least as large as the one that goes on. */
enum { GV_STACK = 4096 };
typedef struct {
    int64_t from, to, depth;
} gv_range;

static gv_status gv_sort_suffixes(const gv_suffixes *s, int32_t *suffixes, int64_t count, gv_range *stack, gv_error *error) {
    int64_t waiting = 1;
    stack[0] = (gv_range){0, count, 0};
    while (waiting > 0) {
        gv_range r = stack[--waiting];
        if (r.to - r.from < 2 || r.depth >= s->depth) continue;
        int32_t *v = suffixes + r.from;
        int64_t n = r.to - r.from;
        if (n <= 12) {
            for (int64_t i = 1; i < n; i++)
                for (int64_t j = i; j > 0 && gv_suffix_less(s, v[j], v[j - 1], r.depth); j--) gv_swap(&v[j], &v[j - 1]);
            continue;
        }
        uint32_t a = gv_suffix_code(s, v[0], r.depth), b = gv_suffix_code(s, v[n / 2], r.depth),
                 c = gv_suffix_code(s, v[n - 1], r.depth);
        uint32_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        int64_t low = 0, high = n;
        for (int64_t i = 0; i < high;) {
            uint32_t code = gv_suffix_code(s, v[i], r.depth);
            if (code < pivot) {
                gv_swap(&v[i++], &v[low++]);
            } else if (code > pivot) {
                gv_swap(&v[i], &v[--high]);
            } else {
                i++;
            }
        }
        gv_range parts[3] = {{r.from, r.from + low, r.depth},
                             {r.from + low, r.from + high, pivot == 0 ? s->depth : r.depth + 1},
                             {r.from + high, r.to, r.depth}};
        for (int i = 0; i < 2; i++) /* largest first onto the stack */
            for (int j = 0; j < 2; j++)
                if (parts[j].to - parts[j].from < parts[j + 1].to - parts[j + 1].from) {
                    gv_range t = parts[j];
                    parts[j] = parts[j + 1];
                    parts[j + 1] = t;
                }
        if (waiting + 3 > GV_STACK) return gv_fail(error, GV_ERR_INTERNAL, "the sort of substrings ran too deep");
        for (int i = 0; i < 3; i++)
            if (parts[i].to - parts[i].from > 1) stack[waiting++] = parts[i];
    }
    return GV_OK;
}

static int gv_by_substring_score(const void *left, const void *right) {
    const gv_substring *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

typedef struct {
    gv_substring *items;
    int64_t count, capacity;
} gv_substring_list;

static gv_status gv_push_substring(gv_substring_list *list, gv_substring item, int64_t most, const gv_allocator *allocator,
                                   gv_error *error) {
    if (list->count == list->capacity && list->count >= 4 * most) { /* keep the best ones only */
        qsort(list->items, (size_t)list->count, sizeof *list->items, gv_by_substring_score);
        list->count = most;
    }
    if (list->count == list->capacity) {
        int64_t capacity = list->capacity * 2 + 1024;
        gv_substring *bigger = gv_alloc_array(allocator, (size_t)capacity, sizeof *bigger);
        if (bigger == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for substrings");
        if (list->count > 0) memcpy(bigger, list->items, (size_t)list->count * sizeof *bigger);
        gv_release(allocator, list->items, (size_t)list->capacity * sizeof *bigger);
        list->items = bigger;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return GV_OK;
}

gv_status gv_substrings(gv_substring **out, int64_t *found, int64_t *capacity, const uint32_t *codes, int64_t count,
                        int64_t longest, int64_t most, gv_substring_filter keep, const gv_allocator *allocator,
                        gv_error *error) {
    gv_status status = GV_OK;
    gv_suffixes s = {codes, longest + 1};
    gv_substring_list list = {0};
    int64_t suffix_count = 0, open = 0;
    const size_t suffixes_size = (size_t)count * sizeof(int32_t) + 1, stack_size = GV_STACK * sizeof(gv_range);
    int32_t *suffixes = gv_alloc(allocator, suffixes_size);
    gv_range *stack = gv_alloc(allocator, stack_size);
    if (suffixes == NULL || stack == NULL)
        GV_TRY(gv_fail(error, GV_ERR_MEMORY, "out of memory for %lld suffixes", (long long)count));
    for (int64_t i = 0; i < count; i++)
        if (codes[i] != 0) suffixes[suffix_count++] = (int32_t)i;
    GV_TRY(gv_sort_suffixes(&s, suffixes, suffix_count, stack, error));
    /* intervals of suffixes with a common prefix: those that are open lie on the stack, depth growing */
    for (int64_t i = 1; i <= suffix_count; i++) {
        int64_t common = 0, left = i - 1;
        while (i < suffix_count && common < s.depth && codes[suffixes[i - 1] + common] != 0 &&
               codes[suffixes[i - 1] + common] == codes[suffixes[i] + common])
            common++;
        while (open > 0 && stack[open - 1].depth > common) {
            gv_range top = stack[--open];
            left = top.from;
            const uint32_t *text = codes + suffixes[left];
            if (top.depth >= 2 && top.depth <= longest && keep(text, top.depth)) {
                gv_substring item = {suffixes[left], (i - left) * top.depth, (int32_t)top.depth};
                GV_TRY(gv_push_substring(&list, item, most, allocator, error));
            }
        }
        if (common > 0 && (open == 0 || stack[open - 1].depth < common)) stack[open++] = (gv_range){left, 0, common};
    }
    if (list.count > 0) qsort(list.items, (size_t)list.count, sizeof *list.items, gv_by_substring_score);
    *out = list.items;
    *found = list.count < most ? list.count : most;
    *capacity = list.capacity;
    list = (gv_substring_list){0};
done:
    gv_release(allocator, list.items, (size_t)list.capacity * sizeof *list.items);
    gv_release(allocator, suffixes, suffixes_size);
    gv_release(allocator, stack, stack_size);
    return status;
}
