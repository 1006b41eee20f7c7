/* tables.c - picks the kernel table. */
#include "kernels/tables.h"

#include <string.h>

#include "base/cpu.h"

const gv_kernels *gv_kernels_for(const char *isa) {
    gv_isa best = gv_cpu_isa();
    (void)best;
    if (strcmp(isa, "scalar") == 0) return &gv_kernels_scalar;
#if defined(__x86_64__)
    if (strcmp(isa, "avx2") == 0 && best >= GV_ISA_AVX2) return &gv_kernels_avx2;
    if (strcmp(isa, "avx512") == 0 && best >= GV_ISA_AVX512) return &gv_kernels_avx512;
#endif
    return NULL;
}

const gv_kernels *gv_kernels_get(void) {
#if defined(__x86_64__)
    if (gv_cpu_isa() >= GV_ISA_AVX512) return &gv_kernels_avx512;
    if (gv_cpu_isa() >= GV_ISA_AVX2) return &gv_kernels_avx2;
#endif
    return &gv_kernels_scalar;
}

const char *gv_isa_name(void) {
    return gv_kernels_get()->isa;
}
