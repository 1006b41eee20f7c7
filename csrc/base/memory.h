/* memory.h - every allocation of the core goes through here, so that a test can make any of them fail. */
#ifndef GV_BASE_MEMORY_H
#define GV_BASE_MEMORY_H

#include "govlm.h"

/* `allocator` NULL means the default (aligned malloc). Memory is aligned to 64 bytes, contents undefined. Size 0 gives a
 * valid pointer. Returns NULL on failure; the caller reports GV_ERR_MEMORY. */
void *gv_alloc(const gv_allocator *allocator, size_t size);
void *gv_alloc_zero(const gv_allocator *allocator, size_t size);
/* count * size with overflow check: NULL on overflow. */
void *gv_alloc_array(const gv_allocator *allocator, size_t count, size_t size);
void gv_release(const gv_allocator *allocator, void *pointer, size_t size);

/* Large anonymous memory that reads as zero and costs nothing until touched, in 4 KB pages. Goes through the allocator when one
 * is given. */
void *gv_map_zero(const gv_allocator *allocator, size_t size);
/* Asks for 2 MB pages where [pointer, pointer + size) of such memory fills them: streaming through 4 KB pages costs a TLB miss
 * every 1,024 floats. Not for sparse data (embedding gradients), nor for what may never be touched. */
void gv_advise_huge(const gv_allocator *allocator, void *pointer, size_t size);
/* Makes a part of such memory read as zero again and gives its whole pages back to the system. */
void gv_zero_pages(const gv_allocator *allocator, void *pointer, size_t size);
void gv_unmap(const gv_allocator *allocator, void *pointer, size_t size);

/* An arena: one block, handed out in 64-byte aligned pieces, released at once. `gv_arena_plan` mode (base == NULL)
 * only counts, so that the same code sizes and then carves. */
typedef struct {
    char *base;
    size_t used;
    size_t capacity;
} gv_arena;

/* Returns NULL while planning and when the arena is full; `used` grows in every case. */
void *gv_arena_take(gv_arena *arena, size_t size);
static inline float *gv_arena_floats(gv_arena *arena, int64_t count) {
    return gv_arena_take(arena, (size_t)count * sizeof(float));
}

#endif
