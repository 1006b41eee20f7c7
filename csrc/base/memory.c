/* memory.c - allocator, lazily touched mappings, arena. */
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GV_ALIGNMENT = 64 };
static const size_t GV_HUGE_PAGE = (size_t)2 << 20, GV_PAGE = 4096;

static size_t gv_round_up(size_t size, size_t unit) {
    return (size + unit - 1) / unit * unit;
}

void *gv_alloc(const gv_allocator *allocator, size_t size) {
    if (size > SIZE_MAX - GV_ALIGNMENT) return NULL;
    size_t rounded = gv_round_up(size == 0 ? 1 : size, GV_ALIGNMENT);
    if (allocator != NULL) return allocator->alloc(allocator->self, rounded);
    return aligned_alloc(GV_ALIGNMENT, rounded);
}

void *gv_alloc_zero(const gv_allocator *allocator, size_t size) {
    void *pointer = gv_alloc(allocator, size);
    if (pointer != NULL) memset(pointer, 0, size);
    return pointer;
}

void *gv_alloc_array(const gv_allocator *allocator, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) return NULL;
    return gv_alloc(allocator, total);
}

void gv_release(const gv_allocator *allocator, void *pointer, size_t size) {
    if (pointer == NULL) return;
    if (allocator != NULL) {
        allocator->release(allocator->self, pointer, gv_round_up(size == 0 ? 1 : size, GV_ALIGNMENT));
    } else {
        free(pointer);
    }
}

void *gv_map_zero(const gv_allocator *allocator, size_t size) {
    if (allocator != NULL) return gv_alloc_zero(allocator, size);
    if (size > SIZE_MAX - 2 * GV_HUGE_PAGE) return NULL;
    size_t rounded = gv_round_up(size == 0 ? 1 : size, GV_HUGE_PAGE);
    void *pointer = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pointer == MAP_FAILED) return NULL;
#ifdef MADV_NOHUGEPAGE
    (void)madvise(pointer, rounded, MADV_NOHUGEPAGE);
#endif
    return pointer;
}

void gv_advise_huge(const gv_allocator *allocator, void *pointer, size_t size) {
#ifdef MADV_HUGEPAGE
    if (allocator != NULL) return;
    uintptr_t begin = gv_round_up((uintptr_t)pointer, GV_HUGE_PAGE);
    uintptr_t end = ((uintptr_t)pointer + size) / GV_HUGE_PAGE * GV_HUGE_PAGE;
    if (end > begin) (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#else
    (void)allocator;
    (void)pointer;
    (void)size;
#endif
}

void gv_zero_pages(const gv_allocator *allocator, void *pointer, size_t size) {
    uintptr_t begin = (uintptr_t)pointer, end = begin + size;
    uintptr_t first = gv_round_up(begin, GV_PAGE), last = end / GV_PAGE * GV_PAGE;
    if (allocator != NULL || first >= last || madvise((void *)first, last - first, MADV_DONTNEED) != 0) {
        memset(pointer, 0, size);
        return;
    }
    memset(pointer, 0, first - begin);
    memset((void *)last, 0, end - last);
}

void gv_unmap(const gv_allocator *allocator, void *pointer, size_t size) {
    if (pointer == NULL) return;
    if (allocator != NULL) {
        gv_release(allocator, pointer, size);
    } else {
        (void)munmap(pointer, gv_round_up(size == 0 ? 1 : size, GV_HUGE_PAGE));
    }
}

void *gv_arena_take(gv_arena *arena, size_t size) {
    size_t rounded = gv_round_up(size, GV_ALIGNMENT);
    size_t offset = arena->used;
    arena->used += rounded;
    if (arena->base == NULL || arena->used > arena->capacity) return NULL;
    return arena->base + offset;
}
