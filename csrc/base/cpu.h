/* cpu.h - which instruction set the kernels may use; GOVLM_MAX_ISA=scalar|avx2|avx512 lowers it. */
#ifndef GV_BASE_CPU_H
#define GV_BASE_CPU_H

#include <stdbool.h>

typedef enum { GV_ISA_SCALAR = 0, GV_ISA_AVX2 = 1, GV_ISA_AVX512 = 2 } gv_isa;

/* Detected once, capped by GOVLM_MAX_ISA (an unknown word there is ignored). AVX2 implies FMA and F16C; AVX512 implies
 * F, BW, DQ and VL. */
gv_isa gv_cpu_isa(void);
/* AVX-512 VNNI, as a part of GV_ISA_AVX512 that not every such CPU has. */
bool gv_cpu_vnni(void);
/* Usable CPUs by affinity mask. */
int gv_cpu_count(void);

#endif
