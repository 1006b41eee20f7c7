/* workspace.c - a small list of free blocks, best fit. */
#include "model/workspace.h"

#include <pthread.h>

enum { GV_FREE_BLOCKS = 16 };

struct gv_workspaces {
    const gv_allocator *allocator;
    pthread_mutex_t lock;
    int count;
    gv_arena free[GV_FREE_BLOCKS];
};

gv_status gv_workspaces_create(gv_workspaces **out, const gv_allocator *allocator, gv_error *error) {
    gv_workspaces *workspaces = gv_alloc_zero(allocator, sizeof *workspaces);
    *out = workspaces;
    if (workspaces == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a model's workspaces");
    workspaces->allocator = allocator;
    pthread_mutex_init(&workspaces->lock, NULL);
    return GV_OK;
}

void gv_workspaces_free(gv_workspaces *workspaces) {
    if (workspaces == NULL) return;
    for (int i = 0; i < workspaces->count; i++) {
        gv_unmap(workspaces->allocator, workspaces->free[i].base, workspaces->free[i].capacity);
    }
    pthread_mutex_destroy(&workspaces->lock);
    gv_release(workspaces->allocator, workspaces, sizeof *workspaces);
}

gv_status gv_workspaces_borrow(gv_arena *out, gv_workspaces *workspaces, size_t size, gv_error *error) {
    gv_arena stale = {0};
    *out = (gv_arena){0};
    pthread_mutex_lock(&workspaces->lock);
    int best = -1, smallest = -1;
    for (int i = 0; i < workspaces->count; i++) {
        size_t capacity = workspaces->free[i].capacity;
        if (capacity >= size && (best < 0 || capacity < workspaces->free[best].capacity)) best = i;
        if (smallest < 0 || capacity < workspaces->free[smallest].capacity) smallest = i;
    }
    /* A block many times too large belongs to another kind of call (a whole training pass): leave it for that one. */
    if (best >= 0 && workspaces->free[best].capacity / 8 > size + ((size_t)1 << 20)) best = -1;
    if (best >= 0) {
        *out = workspaces->free[best];
        workspaces->free[best] = workspaces->free[--workspaces->count];
    } else if (smallest >= 0 && workspaces->free[smallest].capacity < size) {
        /* It was too small and would stay so: grow by replacing it. */
        stale = workspaces->free[smallest];
        workspaces->free[smallest] = workspaces->free[--workspaces->count];
    }
    pthread_mutex_unlock(&workspaces->lock);
    gv_unmap(workspaces->allocator, stale.base, stale.capacity);
    if (out->base == NULL) {
        /* A quarter more than asked: batches differ a little in length. */
        size_t capacity = size + size / 4 + 4096;
        out->base = gv_map_zero(workspaces->allocator, capacity);
        if (out->base == NULL)
            return gv_fail(error, GV_ERR_MEMORY, "out of memory for a workspace of %zu MB", (size >> 20) + 1);
        gv_advise_huge(workspaces->allocator, out->base, size); /* the rest may never be touched */
        out->capacity = capacity;
    }
    out->used = 0;
    return GV_OK;
}

void gv_workspaces_return(gv_workspaces *workspaces, gv_arena *arena) {
    gv_arena surplus = *arena;
    if (arena->base == NULL) return;
    *arena = (gv_arena){0};
    pthread_mutex_lock(&workspaces->lock);
    if (workspaces->count < GV_FREE_BLOCKS) {
        workspaces->free[workspaces->count++] = surplus;
        surplus = (gv_arena){0};
    }
    pthread_mutex_unlock(&workspaces->lock);
    gv_unmap(workspaces->allocator, surplus.base, surplus.capacity);
}
