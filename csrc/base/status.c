/* status.c - one way to report a failure. */
#include <stdarg.h>
#include <stdio.h>

#include "govlm.h"

gv_status gv_fail(gv_error *error, gv_status status, const char *format, ...) {
    if (error != NULL) {
        va_list args;
        va_start(args, format);
        error->status = status;
        if (vsnprintf(error->text, sizeof error->text, format, args) < 0) error->text[0] = '\0';
        va_end(args);
    }
    return status;
}
