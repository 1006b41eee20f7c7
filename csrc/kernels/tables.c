/* tables.c - picks the kernel table. */
#include "kernels/tables.h"

#include <string.h>

#include "base/cpu.h"

const gv_kernels *gv_kernels_for(const char *isa) {
    if (strcmp(isa, "scalar") == 0) return &gv_kernels_scalar;
    return NULL;
}

const gv_kernels *gv_kernels_get(void) {
    return &gv_kernels_scalar;
}

const char *gv_isa_name(void) {
    return gv_kernels_get()->isa;
}
