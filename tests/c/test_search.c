/* test_search.c - the features of names against plain counting, at every length around the words of 64 bits; refusals; every
 * allocation failing in turn.
 *
 * Links base and text. Exit status 0 and "ok" when all holds. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "govlm_search.h"

enum { NAMES = 40, LONGEST = 300, ALPHABET = 25, BITS = 10 };

typedef struct {
    int64_t splits[NAMES + 1];
    int32_t symbols[NAMES * LONGEST], query[GV_NAME_LONGEST];
    float weight[ALPHABET], pair_weight[1 << BITS];
} data_set;

static uint32_t next(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void make_data(data_set *d) {
    uint32_t state = 7;
    d->splits[0] = 0;
    for (int i = 0; i < NAMES; i++) {
        int length = i == 0 ? 0 : (int)(next(&state) % LONGEST);
        d->splits[i + 1] = d->splits[i] + length;
        for (int j = 0; j < length; j++) d->symbols[d->splits[i] + j] = (int32_t)(next(&state) % ALPHABET);
    }
    for (int i = 0; i < ALPHABET; i++) d->weight[i] = i == 0 ? 0.0f : 0.5f + (float)(next(&state) % 100) / 25.0f;
    for (int i = 0; i < 1 << BITS; i++) d->pair_weight[i] = 0.5f + (float)(next(&state) % 100) / 25.0f;
    for (int i = 0; i < GV_NAME_LONGEST; i++) d->query[i] = (int32_t)(next(&state) % (ALPHABET + 3)); /* three are in no name */
}

static gv_names names_of(const data_set *d) {
    return (gv_names){NAMES, ALPHABET, d->splits, d->symbols, d->weight, d->pair_weight, BITS};
}

/* Symbols of `text` that are no break, into `out`; returns how many. */
static int64_t letters(int32_t *out, const int32_t *text, int64_t length) {
    int64_t count = 0;
    for (int64_t i = 0; i < length; i++) {
        if (text[i] != 0) out[count++] = text[i];
    }
    return count;
}

static int64_t subsequence(const int32_t *a, int64_t m, const int32_t *b, int64_t n) {
    int64_t row[LONGEST + 1] = {0};
    for (int64_t i = 0; i < m; i++) {
        int64_t before = 0;
        for (int64_t j = 1; j <= n; j++) {
            int64_t here = row[j];
            row[j] = a[i] == b[j - 1] ? before + 1 : row[j] > row[j - 1] ? row[j] : row[j - 1];
            before = here;
        }
    }
    return row[n];
}

/* Weight of the bag x, and of what x and y have in common; keys below 0 do not count. */
static void bags(double *whole, double *common, const int32_t *x, int64_t m, const int32_t *y, int64_t n, const float *weight,
                 int32_t known, float strange) {
    bool taken[LONGEST] = {false};
    *whole = *common = 0.0;
    for (int64_t i = 0; i < m; i++) {
        if (x[i] < 0) continue;
        double w = x[i] < known ? (double)weight[x[i]] : (double)strange;
        *whole += w;
        for (int64_t j = 0; j < n; j++) {
            if (!taken[j] && y[j] == x[i]) {
                taken[j] = true;
                *common += w;
                break;
            }
        }
    }
}

static double ratio(double a, double b) {
    return b > 0.0 ? a / b : 0.0;
}

static void test_features(const data_set *d) {
    const gv_names names = names_of(d);
    const float strange = 4.0f;
    gv_error error = {0};
    for (int64_t length = 0; length <= GV_NAME_LONGEST; length += length > 60 && length < 68 ? 1 : 4) {
        float out[NAMES][GV_NAME_FEATURES];
        int32_t q[GV_NAME_LONGEST], pairs_q[GV_NAME_LONGEST];
        CHECK(gv_name_features(&out[0][0], &names, d->query, length, strange, NULL, NAMES, NULL, &error) == GV_OK);
        int64_t m = letters(q, d->query, length);
        CHECK(gv_name_pairs(pairs_q, d->query, length, BITS, &error) == GV_OK);
        for (int i = 0; i < NAMES; i++) {
            const int32_t *name = d->symbols + d->splits[i];
            int64_t size = d->splits[i + 1] - d->splits[i];
            int32_t n[LONGEST], pairs_n[LONGEST];
            int64_t count = letters(n, name, size);
            CHECK(gv_name_pairs(pairs_n, name, size, BITS, &error) == GV_OK);
            int64_t edges_q = length > 0 ? length - 1 : 0, edges_n = size > 0 ? size - 1 : 0;
            double of_q, of_n, common, pair_q, pair_n, pairs, unused;
            bags(&of_q, &common, q, m, n, count, d->weight, ALPHABET, strange);
            bags(&of_n, &unused, n, count, q, m, d->weight, ALPHABET, strange);
            bags(&pair_q, &pairs, pairs_q, edges_q, pairs_n, edges_n, d->pair_weight, 1 << BITS, 0.0f);
            bags(&pair_n, &unused, pairs_n, edges_n, pairs_q, edges_q, d->pair_weight, 1 << BITS, 0.0f);
            double order = (double)subsequence(q, m, n, count);
            const double expected[GV_NAME_FEATURES] = {ratio(common, of_q),     ratio(common, of_n),
                                                       ratio(pairs, pair_q),    ratio(pairs, pair_n),
                                                       ratio(order, (double)m), ratio(order, (double)count)};
            for (int f = 0; f < GV_NAME_FEATURES; f++) CHECK(fabs((double)out[i][f] - expected[f]) < 1e-4);
        }
        const int32_t which[] = {3, 1};
        float some[2][GV_NAME_FEATURES];
        CHECK(gv_name_features(&some[0][0], &names, d->query, length, strange, which, 2, NULL, &error) == GV_OK);
        CHECK(memcmp(some[0], out[3], sizeof some[0]) == 0 && memcmp(some[1], out[1], sizeof some[1]) == 0);
    }
}

static void test_refusals(const data_set *d) {
    gv_names names = names_of(d);
    const int32_t outside = NAMES, negative = -1;
    float out[NAMES * GV_NAME_FEATURES];
    gv_error error = {0};
    CHECK(gv_name_features(out, &names, d->query, GV_NAME_LONGEST + 1, 1.0f, NULL, NAMES, NULL, &error) == GV_ERR_VALUE);
    CHECK(gv_name_features(out, &names, d->query, 4, 1.0f, &outside, 1, NULL, &error) == GV_ERR_INDEX);
    CHECK(gv_name_features(out, &names, &negative, 1, 1.0f, NULL, NAMES, NULL, &error) == GV_ERR_INDEX);
    names.pair_bits = 20;
    CHECK(gv_name_features(out, &names, d->query, 4, 1.0f, NULL, NAMES, NULL, &error) == GV_ERR_VALUE && error.text[0] != '\0');
    counter failing = {.fail_at = 1};
    gv_allocator allocator = {counter_alloc, counter_release, &failing};
    names.pair_bits = BITS;
    CHECK(gv_name_features(out, &names, d->query, 4, 1.0f, NULL, NAMES, &allocator, &error) == GV_ERR_MEMORY);
    CHECK(failing.live == 0);
}

int main(void) {
    static data_set d;
    make_data(&d);
    test_features(&d);
    test_refusals(&d);
    if (failures == 0) puts("ok");
    return failures != 0;
}
