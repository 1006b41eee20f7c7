/* cpu.c - instruction sets by CPUID and XGETBV, CPUs by affinity mask. */
#include "base/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "govlm.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static pthread_once_t gv_cpu_once = PTHREAD_ONCE_INIT;
static gv_isa gv_cpu_best = GV_ISA_SCALAR;
static bool gv_cpu_has_vnni;
static char gv_cpu_text[256];

static void gv_feature(const char *name, bool present) {
    if (!present) return;
    size_t used = strlen(gv_cpu_text), more = strlen(name) + 1;
    if (used + more + 1 > sizeof gv_cpu_text) return;
    if (used > 0) gv_cpu_text[used++] = ',';
    memcpy(gv_cpu_text + used, name, more);
}

#if defined(__x86_64__)
static void gv_cpu_detect_x86(void) {
    unsigned a, b, c, d, b7 = 0, c7 = 0, a71 = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    unsigned state_low = 0, state_high = 0;
    /* The operating system must save the wide registers, whatever the CPU says. */
    if ((c >> 27) & 1u) __asm__ volatile("xgetbv" : "=a"(state_low), "=d"(state_high) : "c"(0));
    bool ymm = (state_low & 0x6u) == 0x6u, zmm = (state_low & 0xE6u) == 0xE6u;
    unsigned unused_a, unused_d;
    if (__get_cpuid_count(7, 0, &unused_a, &b7, &c7, &unused_d)) {
        unsigned unused_b, unused_c;
        if (!__get_cpuid_count(7, 1, &a71, &unused_b, &unused_c, &unused_d)) a71 = 0;
    }
    bool sse42 = (c >> 20) & 1u, avx = ymm && ((c >> 28) & 1u), fma = avx && ((c >> 12) & 1u), f16c = avx && ((c >> 29) & 1u);
    bool avx2 = avx && ((b7 >> 5) & 1u);
    bool f = zmm && ((b7 >> 16) & 1u), dq = zmm && ((b7 >> 17) & 1u), bw = zmm && ((b7 >> 30) & 1u), vl = zmm && (b7 >> 31);
    bool vnni = zmm && ((c7 >> 11) & 1u), bf16 = zmm && ((a71 >> 5) & 1u), avx_vnni = avx2 && ((a71 >> 4) & 1u);
    gv_feature("sse4_2", sse42);
    gv_feature("avx", avx);
    gv_feature("f16c", f16c);
    gv_feature("fma", fma);
    gv_feature("avx2", avx2);
    gv_feature("avx_vnni", avx_vnni);
    gv_feature("avx512f", f);
    gv_feature("avx512dq", dq);
    gv_feature("avx512bw", bw);
    gv_feature("avx512vl", vl);
    gv_feature("avx512_vnni", vnni);
    gv_feature("avx512_bf16", bf16);
    if (avx2 && fma && f16c) gv_cpu_best = GV_ISA_AVX2;
    if (gv_cpu_best == GV_ISA_AVX2 && f && dq && bw && vl) gv_cpu_best = GV_ISA_AVX512;
    gv_cpu_has_vnni = gv_cpu_best == GV_ISA_AVX512 && vnni;
}
#endif

static void gv_cpu_detect(void) {
#if defined(__x86_64__)
    gv_cpu_detect_x86();
#elif defined(__aarch64__)
    gv_feature("aarch64", true);
#endif
    if (gv_cpu_text[0] == '\0') gv_feature("baseline", true);
    gv_isa most = GV_ISA_AVX512;
    const char *word = getenv("GOVLM_MAX_ISA");
    if (word != NULL && strcmp(word, "scalar") == 0) most = GV_ISA_SCALAR;
    if (word != NULL && strcmp(word, "avx2") == 0) most = GV_ISA_AVX2;
    if (gv_cpu_best > most) gv_cpu_best = most;
}

gv_isa gv_cpu_isa(void) {
    (void)pthread_once(&gv_cpu_once, gv_cpu_detect);
    return gv_cpu_best;
}

bool gv_cpu_vnni(void) {
    (void)pthread_once(&gv_cpu_once, gv_cpu_detect);
    return gv_cpu_has_vnni;
}

const char *gv_cpu_features(void) {
    (void)pthread_once(&gv_cpu_once, gv_cpu_detect);
    return gv_cpu_text;
}

int gv_cpu_count(void) {
#if defined(__linux__)
    /* Machines with more than 1,024 CPUs need a larger set than cpu_set_t. */
    for (int most = 1024; most <= 65536; most *= 8) {
        cpu_set_t *set = CPU_ALLOC((size_t)most);
        if (set == NULL) break;
        size_t size = CPU_ALLOC_SIZE((size_t)most);
        int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (count > 0) return count;
    }
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online < 1 ? 1 : online > 65536 ? 65536 : (int)online;
}
