/* parallel.h - the one thread pool.
 *
 * A job is `tiles` independent pieces numbered 0..tiles-1. Tiles are cut by shape, never by thread count, and each tile
 * is computed by one thread in one order, so results have the same bits for any number of threads. The calling thread
 * works too. Calls from several threads share the pool through one queue. A child of fork() gets a fresh pool.
 */
#ifndef GV_BASE_PARALLEL_H
#define GV_BASE_PARALLEL_H

#include "govlm.h"

/* `worker` is in 0..gv_parallel_width()-1 and unique among the threads inside one job: index scratch memory with it. */
typedef void (*gv_tile_fn)(void *context, int64_t tile, int worker);

/* Runs all tiles and returns when they are done. Returns GV_ERR_CANCELLED when the calling thread's cancel flag (below)
 * was raised: the remaining tiles were then not run. A job inside a tile runs on that thread alone. */
gv_status gv_parallel_for(int64_t tiles, gv_tile_fn fn, void *context);

/* Runs one tile on the calling thread, without the pool, with other libraries kept to this thread as inside any tile. */
void gv_parallel_alone(gv_tile_fn fn, void *context);

/* The largest number of threads a job may use: size scratch by it. It is also a promise to the calling thread: until that
 * thread asks again, its jobs use no more, whatever gv_set_num_threads does meanwhile. So ask once at the start of a pass,
 * on the thread that runs the pass, and let the scratch hold at least that many. */
int gv_parallel_width(void);

/* Cancellation for the calling thread's jobs: the pool looks at *flag between tiles (a signal handler or another thread
 * sets it). NULL (the default) means never. Returns the previous pointer. */
const volatile int *gv_parallel_set_cancel(const volatile int *flag);
bool gv_parallel_cancelled(void);

#endif
