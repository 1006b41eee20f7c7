/* try.h - one way out of a function that fails half-way. */
#ifndef GV_BASE_TRY_H
#define GV_BASE_TRY_H

#include "govlm.h"

/* In a function with `status`, `error` and a label `done`: leaves on failure. A pool that was cancelled leaves no message. */
#define GV_TRY(expression)                                                     \
    do {                                                                       \
        status = (expression);                                                 \
        if (status != GV_OK) {                                                 \
            if (error->text[0] == '\0') gv_fail(error, status, "interrupted"); \
            goto done;                                                         \
        }                                                                      \
    } while (0)

#endif
