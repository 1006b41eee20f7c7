/* test_parallel.c - the thread pool: every tile once, many callers, nesting, cancelling, resizing, forking. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/parallel.h"

static atomic_int failures;

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            atomic_fetch_add(&failures, 1);                                       \
        }                                                                         \
    } while (0)

enum { TILES = 1000, CALLERS = 8, ROUNDS = 200 };

typedef struct {
    int visits[TILES];
    atomic_int in_use[1024]; /* by worker: a number may be held by one thread at a time */
    atomic_int clashes;
    int width;
    int work;
} counts;

static void count_tile(void *context, int64_t tile, int worker) {
    counts *c = context;
    if (worker < 0 || worker >= c->width) {
        atomic_fetch_add(&c->clashes, 1);
        return;
    }
    if (atomic_fetch_add(&c->in_use[worker], 1) != 0) atomic_fetch_add(&c->clashes, 1);
    volatile double sink = 1.0;
    for (int i = 0; i < c->work; i++) sink = sink * 1.000001;
    c->visits[tile]++;
    atomic_fetch_sub(&c->in_use[worker], 1);
}

static void run_on(counts *c, int64_t tiles, int work) {
    memset(c, 0, sizeof *c);
    c->width = gv_parallel_width();
    c->work = work;
    CHECK(gv_parallel_for(tiles, count_tile, c) == GV_OK);
    for (int64_t i = 0; i < TILES; i++) CHECK(c->visits[i] == (i < tiles));
    CHECK(atomic_load(&c->clashes) == 0);
}

static void run_once(int64_t tiles, int work) {
    counts *c = malloc(sizeof *c);
    if (c == NULL) exit(2);
    run_on(c, tiles, work);
    free(c);
}

static void test_every_tile_once(void) {
    const int64_t sizes[] = {0, 1, 2, 3, 7, 64, TILES};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (int round = 0; round < 20; round++) run_once(sizes[s], round * 50);
    }
}

static void *one_caller(void *argument) {
    (void)argument;
    for (int round = 0; round < ROUNDS; round++) run_once(1 + (round * 37) % 200, round % 64);
    return NULL;
}

static void test_many_callers(void) {
    pthread_t thread[CALLERS];
    for (int i = 0; i < CALLERS; i++) CHECK(pthread_create(&thread[i], NULL, one_caller, NULL) == 0);
    for (int i = 0; i < CALLERS; i++) CHECK(pthread_join(thread[i], NULL) == 0);
}

typedef struct {
    atomic_int inner;
    atomic_int wrong_worker;
    int outer_worker[64];
} nest;

typedef struct {
    nest *all;
    int worker;
    pthread_t thread;
} nest_inner;

static void inner_tile(void *context, int64_t tile, int worker) {
    (void)tile;
    nest_inner *in = context;
    if (worker != in->worker || !pthread_equal(in->thread, pthread_self())) atomic_fetch_add(&in->all->wrong_worker, 1);
    atomic_fetch_add(&in->all->inner, 1);
}

static void outer_tile(void *context, int64_t tile, int worker) {
    (void)tile;
    nest_inner in = {.all = context, .worker = worker, .thread = pthread_self()};
    if (gv_parallel_for(10, inner_tile, &in) != GV_OK) atomic_fetch_add(&in.all->wrong_worker, 1);
}

static void test_nested(void) {
    nest *n = calloc(1, sizeof *n);
    CHECK(gv_parallel_for(64, outer_tile, n) == GV_OK);
    CHECK(atomic_load(&n->inner) == 640);
    CHECK(atomic_load(&n->wrong_worker) == 0);
    free(n);
}

typedef struct {
    volatile int flag;
    atomic_int ran;
} cancel_state;

static void cancelling_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    cancel_state *c = context;
    atomic_fetch_add(&c->ran, 1);
    if (tile == 5) __atomic_store_n(&c->flag, 1, __ATOMIC_RELAXED);
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static void cancelling_outer(void *context, int64_t tile, int worker) {
    (void)tile;
    (void)worker;
    (void)gv_parallel_for(1000, cancelling_tile, context);
}

static void test_cancel(void) {
    cancel_state *c = calloc(1, sizeof *c);
    CHECK(gv_parallel_set_cancel(&c->flag) == NULL);
    CHECK(!gv_parallel_cancelled());
    CHECK(gv_parallel_for(100000, cancelling_tile, c) == GV_ERR_CANCELLED);
    int ran = atomic_load(&c->ran);
    CHECK(ran >= 6 && ran < 100000);
    CHECK(gv_parallel_cancelled());
    CHECK(gv_parallel_for(10, cancelling_tile, c) == GV_ERR_CANCELLED);
    CHECK(atomic_load(&c->ran) == ran); /* raised before: nothing runs */
    __atomic_store_n(&c->flag, 0, __ATOMIC_RELAXED);
    CHECK(gv_parallel_for(4, cancelling_tile, c) == GV_OK);
    /* inside a tile as well */
    atomic_store(&c->ran, 0);
    CHECK(gv_parallel_for(4, cancelling_outer, c) == GV_ERR_CANCELLED);
    CHECK(atomic_load(&c->ran) < 4000);
    CHECK(gv_parallel_set_cancel(NULL) == &c->flag);
    CHECK(gv_parallel_for(4, cancelling_tile, c) == GV_OK);
    free(c);
}

/* The flag of one caller is not another's. */
static void *cancelled_caller(void *argument) {
    volatile int *flag = argument;
    gv_parallel_set_cancel(flag);
    CHECK(gv_parallel_for(10, cancelling_tile, NULL) == GV_ERR_CANCELLED);
    return NULL;
}

static void test_cancel_is_per_thread(void) {
    volatile int flag = 1;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, cancelled_caller, (void *)(uintptr_t)&flag) == 0);
    run_once(100, 100);
    CHECK(pthread_join(thread, NULL) == 0);
}

static atomic_int stop_resizing;

static void *resizer(void *argument) {
    (void)argument;
    gv_error error;
    for (int i = 0; atomic_load(&stop_resizing) == 0; i++) {
        CHECK(gv_set_num_threads(1 + i % 5, &error) == GV_OK);
        nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
    }
    return NULL;
}

static void test_resize(void) {
    gv_error error = {0};
    CHECK(gv_set_num_threads(0, &error) == GV_ERR_VALUE && error.status == GV_ERR_VALUE && error.text[0] != '\0');
    CHECK(gv_set_num_threads(1025, &error) == GV_ERR_VALUE);
    pthread_t one, two, thread[2];
    atomic_store(&stop_resizing, 0);
    CHECK(pthread_create(&one, NULL, resizer, NULL) == 0);
    CHECK(pthread_create(&two, NULL, resizer, NULL) == 0);
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&thread[i], NULL, one_caller, NULL) == 0);
    for (int i = 0; i < 2; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    atomic_store(&stop_resizing, 1);
    CHECK(pthread_join(one, NULL) == 0);
    CHECK(pthread_join(two, NULL) == 0);
    CHECK(gv_set_num_threads(1, &error) == GV_OK && gv_num_threads() == 1 && gv_parallel_width() == 1);
    run_once(50, 10);
    CHECK(gv_set_num_threads(4, &error) == GV_OK && gv_num_threads() == 4);
    /* the width promised to this thread holds until it asks again */
    counts *c = calloc(1, sizeof *c);
    c->width = 1;
    c->work = 2000;
    CHECK(gv_parallel_for(TILES, count_tile, c) == GV_OK);
    CHECK(atomic_load(&c->clashes) == 0);
    free(c);
    CHECK(gv_parallel_width() == 4);
    run_once(TILES, 1000);
}

/* The thread sanitizer (WITHOUT_FORK) does not support new threads in a child of a threaded process: in one run of fifty, on
 * a loaded machine, a child hung in its runtime. The plain and the address builds fork. */
#if !defined(WITHOUT_FORK)
/* A child must work, and must not hang: its exit status says so, a signal after 20 s says no. It allocates nothing: the
 * address sanitizer's allocator, unlike the C library's, can be left locked by a thread that the child does not have. */
static void fork_once(void) {
    static counts in_child;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(20);
        atomic_store(&failures, 0);
        for (int i = 0; i < 20; i++) run_on(&in_child, 300, 100);
        _exit(atomic_load(&failures) == 0 ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_fork(void) {
    fork_once();
    pthread_t thread[3];
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&thread[i], NULL, one_caller, NULL) == 0);
    for (int i = 0; i < 10; i++) fork_once();
    for (int i = 0; i < 3; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    run_once(TILES, 100);
}
#endif

static void nothing(void *context, int64_t tile, int worker) {
    (void)context;
    (void)tile;
    (void)worker;
}

static void speed(void) {
    struct timespec a, b;
    const int rounds = 20000;
    for (int i = 0; i < 1000; i++) (void)gv_parallel_for(2, nothing, NULL);
    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < rounds; i++) (void)gv_parallel_for(2, nothing, NULL);
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    (void)printf("empty region, 2 tiles, %d threads: %.2f us\n", gv_num_threads(), 1e6 * seconds / rounds);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--speed") == 0) {
        speed();
        return 0;
    }
    test_every_tile_once();
    test_nested();
    test_cancel();
    test_cancel_is_per_thread();
    test_many_callers();
#if !defined(WITHOUT_FORK)
    test_fork();
#endif
    test_resize();
    test_many_callers();
    (void)printf("%s\n", atomic_load(&failures) == 0 ? "ok" : "FAILED");
    return atomic_load(&failures) == 0 ? 0 : 1;
}
