/* govlm.h - the whole C API of govlm: opaque handles, option structs, gv_status.
 *
 * Conventions: out-parameters come first; every fallible function returns a gv_status and fills the caller's
 * gv_error; sizes are int64_t or size_t; a NULL allocator means malloc. Handles are freed by their _free function,
 * which accepts NULL. Nothing here prints, exits or keeps global state beyond the thread pool and the kernel table.
 */
#ifndef GOVLM_H
#define GOVLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------ common -- */

typedef enum {
    GV_OK = 0,
    GV_ERR_MEMORY,    /* an allocation failed                     -> MemoryError       */
    GV_ERR_VALUE,     /* an argument has a wrong value or shape   -> ValueError        */
    GV_ERR_TYPE,      /* an argument has a wrong type             -> TypeError         */
    GV_ERR_INDEX,     /* an index is out of range                 -> IndexError        */
    GV_ERR_STATE,     /* the handle is not in a state for this    -> RuntimeError      */
    GV_ERR_IO,        /* a file could not be read or written      -> OSError           */
    GV_ERR_FORMAT,    /* a file or text is malformed              -> ValueError        */
    GV_ERR_CANCELLED, /* the caller asked to stop                 -> KeyboardInterrupt */
    GV_ERR_INTERNAL   /* a library underneath failed              -> RuntimeError      */
} gv_status;

typedef struct {
    gv_status status;
    char text[512]; /* UTF-8, NUL-terminated; empty when status is GV_OK */
} gv_error;

/* Records `status` and the printf-style message in `error` (may be NULL) and returns `status`. */
gv_status gv_fail(gv_error *error, gv_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The caller's memory source. `alloc` returns memory aligned to 64 bytes, or NULL; `release` accepts NULL. */
typedef struct {
    void *(*alloc)(void *self, size_t size);
    void (*release)(void *self, void *pointer, size_t size);
    void *self;
} gv_allocator;

/* Threads. The pool is process-wide, started at first use, rebuilt in a forked child. */
int gv_num_threads(void);
gv_status gv_set_num_threads(int count, gv_error *error); /* 1..1024; waits for running work */

/* Names for `govlm info`: the ISA of the kernel table in use ("scalar", "avx2", "avx512"), the CPU's features as a
 * comma-separated list, oneDNN's version ("3.2.0"). All static strings. */
const char *gv_isa_name(void);
const char *gv_cpu_features(void);
const char *gv_onednn_version(void);

/* --------------------------------------------------------------------------------------------- tokenizer -- */
/* (csrc/text) */

/* ------------------------------------------------------------------------------------------------- model -- */
/* (csrc/model) */

#ifdef __cplusplus
}
#endif
#endif
