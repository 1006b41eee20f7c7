/* workspace.h - blocks of memory that forwards borrow and give back: after warm-up nothing is allocated. */
#ifndef GV_MODEL_WORKSPACE_H
#define GV_MODEL_WORKSPACE_H

#include "base/memory.h"

typedef struct gv_workspaces gv_workspaces;

gv_status gv_workspaces_create(gv_workspaces **out, const gv_allocator *allocator, gv_error *error);
void gv_workspaces_free(gv_workspaces *workspaces);
/* An arena of at least `size` bytes, contents undefined. Thread-safe. */
gv_status gv_workspaces_borrow(gv_arena *out, gv_workspaces *workspaces, size_t size, gv_error *error);
void gv_workspaces_return(gv_workspaces *workspaces, gv_arena *arena); /* empties *arena; accepts an empty one */

#endif
