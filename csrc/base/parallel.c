/* parallel.c - the one thread pool: a list of jobs under one mutex, tiles claimed by an atomic counter.
 *
 * A job lives on its caller's stack. A helper enters it under the mutex (`inside` + 1) and leaves it by lowering
 * `inside`, after which it never looks at the job again; the caller takes the job off the list and waits for `inside` to
 * reach 0. Waiting spins for about as long as a short parallel region takes, then sleeps on a condition variable; where
 * there are more threads than CPUs it sleeps at once, because spinning would keep the awaited thread off its CPU.
 */
#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/cpu.h"

/* libgomp's, which oneDNN uses; declared here because not every compiler ships omp.h. No other file may call them. */
extern void omp_set_num_threads(int count);
extern int omp_get_max_threads(void);

enum { GV_MAX_THREADS = 1024, GV_SPIN_NANOSECONDS = 80000, GV_SPIN_BURST = 32 };

typedef struct gv_job {
    gv_tile_fn fn;
    void *context;
    int64_t tiles;
    const volatile int *cancel;
    int width;   /* helpers with a number below this may enter */
    bool listed; /* guarded by mutex */
    struct gv_job *next, *previous;
    _Alignas(64) _Atomic int64_t claimed;
    _Alignas(64) atomic_int inside; /* helpers inside */
    atomic_int stopped;
} gv_job;

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t work;  /* helpers sleep here */
    pthread_cond_t done;  /* callers sleep here: a job emptied, or a resize ended */
    gv_job *first, *last; /* guarded by mutex */
    int sleepers;         /* helpers asleep on `work` */
    int helpers;          /* threads started */
    int busy;             /* helpers inside a job */
    int callers;          /* jobs on the list or being finished */
    bool resizing, quit;
    pthread_t thread[GV_MAX_THREADS];
    atomic_int threads; /* configured; 0 = not yet read from the environment */
    atomic_int cpus;    /* as seen at start */
    atomic_int pending; /* jobs on the list: what idle helpers spin on */
    atomic_int waiters; /* callers asleep on `done` */
    atomic_int active;  /* callers, readable without the mutex */
} gv_pool;

static gv_pool pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

typedef struct {
    const volatile int *cancel;
    int inside;   /* > 0: this thread is running a tile */
    int worker;   /* its number in that job */
    int promised; /* the last answer of gv_parallel_width to this thread; 0 = never asked */
} gv_thread_state;

static _Thread_local gv_thread_state self;

/* ------------------------------------------------------------------------------------------------ waiting -- */

static inline void gv_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t gv_nanoseconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* More threads want a CPU than there are. */
static bool gv_crowded(void) {
    int threads = atomic_load_explicit(&pool.threads, memory_order_relaxed);
    int active = atomic_load_explicit(&pool.active, memory_order_relaxed);
    return (active > 1 ? threads + active - 1 : threads) > atomic_load_explicit(&pool.cpus, memory_order_relaxed);
}

/* Spins until (*value == 0) is `wanted`; false when the patience ran out. */
static bool gv_spin(atomic_int *value, bool wanted) {
    if ((atomic_load_explicit(value, memory_order_acquire) == 0) == wanted) return true;
    if (gv_crowded()) return false;
    int64_t limit = gv_nanoseconds() + GV_SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < GV_SPIN_BURST; i++) {
            gv_pause();
            if ((atomic_load_explicit(value, memory_order_acquire) == 0) == wanted) return true;
        }
    } while (gv_nanoseconds() < limit);
    return false;
}

/* ---------------------------------------------------------------------------------------------- the threads -- */

static void gv_run_tiles(gv_job *job) {
    while (atomic_load_explicit(&job->stopped, memory_order_relaxed) == 0) {
        if (job->cancel != NULL && __atomic_load_n(job->cancel, __ATOMIC_RELAXED) != 0) {
            atomic_store_explicit(&job->stopped, 1, memory_order_relaxed);
            break;
        }
        int64_t tile = atomic_fetch_add_explicit(&job->claimed, 1, memory_order_relaxed);
        if (tile >= job->tiles) break;
        job->fn(job->context, tile, self.worker);
    }
}

/* The list is changed with the mutex held. */
static void gv_list_job(gv_job *job) {
    job->previous = pool.last;
    *(pool.last != NULL ? &pool.last->next : &pool.first) = job;
    pool.last = job;
    job->listed = true;
    atomic_fetch_add_explicit(&pool.pending, 1, memory_order_release);
}

static void gv_unlist_job(gv_job *job) {
    if (!job->listed) return;
    *(job->previous != NULL ? &job->previous->next : &pool.first) = job->next;
    *(job->next != NULL ? &job->next->previous : &pool.last) = job->previous;
    job->listed = false;
    atomic_fetch_sub_explicit(&pool.pending, 1, memory_order_relaxed);
}

/* Called with the mutex held. Jobs without tiles left go off the list, so that idle helpers spin for the next one instead
 * of taking the list for work. A helper joins only while fewer threads compute than were configured: with many callers each
 * has its own thread already. */
static gv_job *gv_find_job(int worker) {
    bool full = pool.callers + pool.busy >= atomic_load_explicit(&pool.threads, memory_order_relaxed);
    for (gv_job *job = pool.first, *next; job != NULL; job = next) {
        next = job->next;
        if (atomic_load_explicit(&job->claimed, memory_order_relaxed) >= job->tiles ||
            atomic_load_explicit(&job->stopped, memory_order_relaxed) != 0) {
            gv_unlist_job(job);
        } else if (!full && worker < job->width) {
            return job;
        }
    }
    return NULL;
}

static void *gv_helper(void *argument) {
    self.worker = (int)(intptr_t)argument;
    self.inside = 1;
    omp_set_num_threads(1);
    (void)pthread_mutex_lock(&pool.mutex);
    while (!pool.quit) {
        gv_job *job = gv_find_job(self.worker);
        if (job == NULL) {
            bool idle = pool.first == NULL;
            (void)pthread_mutex_unlock(&pool.mutex);
            bool found = idle && gv_spin(&pool.pending, false);
            (void)pthread_mutex_lock(&pool.mutex);
            if (found || pool.quit) continue;
            if (gv_find_job(self.worker) == NULL) {
                pool.sleepers++;
                (void)pthread_cond_wait(&pool.work, &pool.mutex);
                pool.sleepers--;
            }
            continue;
        }
        pool.busy++;
        atomic_fetch_add_explicit(&job->inside, 1, memory_order_relaxed);
        (void)pthread_mutex_unlock(&pool.mutex);
        self.cancel = job->cancel;
        gv_run_tiles(job);
        self.cancel = NULL;
        if (atomic_fetch_sub(&job->inside, 1) == 1 && atomic_load(&pool.waiters) > 0) {
            (void)pthread_mutex_lock(&pool.mutex);
            (void)pthread_cond_broadcast(&pool.done);
        } else {
            (void)pthread_mutex_lock(&pool.mutex);
        }
        pool.busy--;
    }
    (void)pthread_mutex_unlock(&pool.mutex);
    return NULL;
}

static int gv_threads_from_environment(void) {
    const char *names[] = {"GOVLM_NUM_THREADS", "OMP_NUM_THREADS"};
    for (int i = 0; i < 2; i++) {
        const char *text = getenv(names[i]);
        if (text == NULL) continue;
        char *end;
        long count = strtol(text, &end, 10);
        /* OMP_NUM_THREADS may be a list, one number a level */
        if (end != text && (*end == '\0' || *end == ',') && count >= 1) {
            return count > GV_MAX_THREADS ? GV_MAX_THREADS : (int)count;
        }
    }
    int cpus = gv_cpu_count();
    return cpus > GV_MAX_THREADS ? GV_MAX_THREADS : cpus;
}

static void gv_before_fork(void) {
    (void)pthread_mutex_lock(&pool.mutex);
}

static void gv_after_fork_parent(void) {
    (void)pthread_mutex_unlock(&pool.mutex);
}

/* Only the forking thread exists in the child: helpers and the jobs of other threads are gone. */
static void gv_after_fork_child(void) {
    (void)pthread_mutex_init(&pool.mutex, NULL);
    (void)pthread_cond_init(&pool.work, NULL);
    (void)pthread_cond_init(&pool.done, NULL);
    pool.first = pool.last = NULL;
    pool.sleepers = pool.helpers = pool.busy = pool.callers = 0;
    pool.resizing = pool.quit = false;
    atomic_store(&pool.pending, 0);
    atomic_store(&pool.waiters, 0);
    atomic_store(&pool.active, 0);
}

static void gv_pool_start(void) {
    atomic_store(&pool.cpus, gv_cpu_count());
    if (atomic_load(&pool.threads) == 0) atomic_store(&pool.threads, gv_threads_from_environment());
    (void)pthread_atfork(gv_before_fork, gv_after_fork_parent, gv_after_fork_child);
}

/* Called with the mutex held. A thread that the system refuses is done without: the others take its tiles. */
static void gv_start_helpers(void) {
    int wanted = atomic_load_explicit(&pool.threads, memory_order_relaxed) - 1;
    while (pool.helpers < wanted) {
        intptr_t worker = pool.helpers + 1;
        if (pthread_create(&pool.thread[pool.helpers], NULL, gv_helper, (void *)worker) != 0) break;
        pool.helpers++;
    }
}

/* ------------------------------------------------------------------------------------------------- callers -- */

static gv_status gv_run_inline(int64_t tiles, gv_tile_fn fn, void *context) {
    self.inside++;
    int64_t tile = 0;
    while (tile < tiles && !gv_parallel_cancelled()) fn(context, tile++, self.worker);
    self.inside--;
    return tile < tiles ? GV_ERR_CANCELLED : GV_OK;
}

gv_status gv_parallel_for(int64_t tiles, gv_tile_fn fn, void *context) {
    if (gv_parallel_cancelled()) return GV_ERR_CANCELLED;
    if (tiles <= 0) return GV_OK;
    if (self.inside > 0) return gv_run_inline(tiles, fn, context);
    (void)pthread_once(&pool_once, gv_pool_start);

    int before = omp_get_max_threads();
    if (before != 1) omp_set_num_threads(1);
    gv_job job = {.fn = fn, .context = context, .tiles = tiles, .cancel = self.cancel};
    job.width = self.promised > 0 ? self.promised : GV_MAX_THREADS;
    self.worker = 0;

    (void)pthread_mutex_lock(&pool.mutex);
    while (pool.resizing) {
        atomic_fetch_add(&pool.waiters, 1);
        (void)pthread_cond_wait(&pool.done, &pool.mutex);
        atomic_fetch_sub(&pool.waiters, 1);
    }
    pool.callers++;
    atomic_store_explicit(&pool.active, pool.callers, memory_order_relaxed);
    bool shared = tiles > 1 && atomic_load_explicit(&pool.threads, memory_order_relaxed) > 1;
    if (shared) {
        gv_start_helpers();
        gv_list_job(&job);
        if (pool.sleepers > 0) {
            if (tiles == 2) {
                (void)pthread_cond_signal(&pool.work);
            } else {
                (void)pthread_cond_broadcast(&pool.work);
            }
        }
    }
    (void)pthread_mutex_unlock(&pool.mutex);

    self.inside = 1;
    gv_run_tiles(&job);
    self.inside = 0;

    (void)pthread_mutex_lock(&pool.mutex);
    if (shared) {
        gv_unlist_job(&job);
        if (atomic_load_explicit(&job.inside, memory_order_acquire) != 0) {
            (void)pthread_mutex_unlock(&pool.mutex);
            bool done = gv_spin(&job.inside, true);
            (void)pthread_mutex_lock(&pool.mutex);
            if (!done) {
                atomic_fetch_add(&pool.waiters, 1);
                while (atomic_load(&job.inside) != 0) (void)pthread_cond_wait(&pool.done, &pool.mutex);
                atomic_fetch_sub(&pool.waiters, 1);
            }
        }
    }
    pool.callers--;
    atomic_store_explicit(&pool.active, pool.callers, memory_order_relaxed);
    if (pool.first != NULL && pool.sleepers > 0) (void)pthread_cond_broadcast(&pool.work);
    if (pool.resizing && pool.callers == 0) (void)pthread_cond_broadcast(&pool.done);
    (void)pthread_mutex_unlock(&pool.mutex);

    if (before != 1) omp_set_num_threads(before);
    return atomic_load_explicit(&job.stopped, memory_order_relaxed) != 0 ? GV_ERR_CANCELLED : GV_OK;
}

void gv_parallel_alone(gv_tile_fn fn, void *context) {
    int before = omp_get_max_threads();
    if (before != 1) omp_set_num_threads(1);
    fn(context, 0, self.worker);
    if (before != 1) omp_set_num_threads(before);
}

int gv_parallel_width(void) {
    (void)pthread_once(&pool_once, gv_pool_start);
    if (self.inside == 0 || self.promised == 0) self.promised = atomic_load(&pool.threads);
    return self.promised;
}

int gv_num_threads(void) {
    (void)pthread_once(&pool_once, gv_pool_start);
    return atomic_load(&pool.threads);
}

gv_status gv_set_num_threads(int count, gv_error *error) {
    if (count < 1 || count > GV_MAX_THREADS) {
        return gv_fail(error, GV_ERR_VALUE, "the number of threads must be 1..%d, got %d", (int)GV_MAX_THREADS, count);
    }
    if (self.inside > 0) {
        return gv_fail(error, GV_ERR_STATE, "the number of threads cannot change from inside a parallel region");
    }
    (void)pthread_once(&pool_once, gv_pool_start);
    (void)pthread_mutex_lock(&pool.mutex);
    atomic_fetch_add(&pool.waiters, 1);
    while (pool.resizing) (void)pthread_cond_wait(&pool.done, &pool.mutex);
    pool.resizing = true; /* new jobs wait from here on */
    while (pool.callers > 0) (void)pthread_cond_wait(&pool.done, &pool.mutex);
    int stopping = pool.helpers > count - 1 ? pool.helpers : 0;
    if (stopping > 0) {
        /* All leave; those still wanted start again with the next job. */
        pool.quit = true;
        (void)pthread_cond_broadcast(&pool.work);
        (void)pthread_mutex_unlock(&pool.mutex);
        for (int i = 0; i < stopping; i++) (void)pthread_join(pool.thread[i], NULL);
        (void)pthread_mutex_lock(&pool.mutex);
        pool.helpers = 0;
        pool.quit = false;
    }
    atomic_store(&pool.threads, count);
    pool.resizing = false;
    atomic_fetch_sub(&pool.waiters, 1);
    (void)pthread_cond_broadcast(&pool.done);
    (void)pthread_mutex_unlock(&pool.mutex);
    return GV_OK;
}

/* --------------------------------------------------------------------------------------------- cancellation -- */

const volatile int *gv_parallel_set_cancel(const volatile int *flag) {
    const volatile int *previous = self.cancel;
    self.cancel = flag;
    return previous;
}

bool gv_parallel_cancelled(void) {
    return self.cancel != NULL && __atomic_load_n(self.cancel, __ATOMIC_RELAXED) != 0;
}
