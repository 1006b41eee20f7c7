/* check.h - what the C tests share: a check that counts, and an allocator that counts and fails once when asked. */
#ifndef GV_TESTS_CHECK_H
#define GV_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "govlm.h"

static int failures;

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                                           \
        }                                                                         \
    } while (0)

/* Fails allocation number `fail_at` (0 = none); `live` and `bytes` are what has not been given back. */
typedef struct {
    long calls, fail_at, live;
    size_t bytes;
} counter;

static void *counter_alloc(void *self, size_t size) {
    counter *c = self;
    if (++c->calls == c->fail_at) return NULL;
    void *pointer = aligned_alloc(64, size);
    if (pointer == NULL) return NULL;
    c->live++;
    c->bytes += size;
    return pointer;
}

static void counter_release(void *self, void *pointer, size_t size) {
    counter *c = self;
    if (pointer == NULL) return;
    c->live--;
    c->bytes -= size;
    free(pointer);
}

#endif
