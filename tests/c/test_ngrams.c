/* test_ngrams.c - n-gram counts against plain counting, weights and logits against their formulas, the support vector machine
 * against its own objective: no step in any direction makes it smaller. Bits for any threads; every allocation failing in turn.
 *
 * Links base, text, kernels and nn. Exit status 0 and "ok" when all holds. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "govlm_ngrams.h"

enum { ROWS = 60, LABELS = 3, BITS = 16 };

static gv_text ascii(const char *text) {
    return (gv_text){text, (int64_t)strlen(text), 1};
}

static gv_sparse view(const gv_sparse_buffer *buffer) {
    return (gv_sparse){buffer->rows, buffer->splits, buffer->indices, buffer->values};
}

static double total(const gv_sparse_buffer *buffer, int64_t row) {
    double sum = 0.0;
    for (int64_t i = buffer->splits[row]; i < buffer->splits[row + 1]; i++) sum += (double)buffer->values[i];
    return sum;
}

static bool same_rows(const gv_sparse_buffer *b, int64_t x, int64_t y) {
    int64_t n = b->splits[x + 1] - b->splits[x];
    return n == b->splits[y + 1] - b->splits[y] &&
           memcmp(b->indices + b->splits[x], b->indices + b->splits[y], (size_t)n * sizeof(int32_t)) == 0 &&
           memcmp(b->values + b->splits[x], b->values + b->splits[y], (size_t)n * sizeof(float)) == 0;
}

static void test_counts(void) {
    static const uint16_t wide[] = {0xFF21, 0x3000, 0xFF42, 0xFF11}; /* full-width A, space, b, 1 */
    static const uint32_t accent[] = {'E', 0x0301, 'a'};
    const gv_text texts[] = {ascii("aab"),   ascii("A b1"), {wide, 4, 2}, ascii(" a \t b1 "),
                             {accent, 3, 4}, ascii("ea"),   ascii("")};
    gv_sparse_buffer b = {0};
    gv_error error = {0};
    gv_ngram_options options = {1, 3, 20};
    CHECK(gv_ngrams_count(&b, &options, texts, 7, &error) == GV_OK && b.rows == 7);
    /* "aab" with begin and end has 5 characters: 3 alone (the ends are none), 4 pairs, 3 triples; 'a' comes twice */
    CHECK(total(&b, 0) == 10.0 && b.splits[1] - b.splits[0] == 9);
    CHECK(same_rows(&b, 1, 2) && same_rows(&b, 1, 3)); /* case, width, white space */
    CHECK(same_rows(&b, 4, 5));                        /* accents */
    CHECK(total(&b, 6) == 1.0);                        /* begin and end side by side */
    for (int64_t row = 0; row < b.rows; row++) {
        for (int64_t i = b.splits[row] + 1; i < b.splits[row + 1]; i++) CHECK(b.indices[i] > b.indices[i - 1]);
    }
    gv_sparse_buffer_clear(&b);
}

/* A long text: sorting by digits. The gram of one character has the bucket that the character alone has. */
static void test_long_text(void) {
    enum { LENGTH = 5000 };
    uint16_t *codes = malloc(LENGTH * sizeof *codes);
    int64_t plain[26] = {0};
    gv_sparse_buffer b = {0}, one = {0};
    gv_error error = {0};
    gv_ngram_options options = {1, 1, 30};
    for (int i = 0; i < LENGTH; i++) {
        codes[i] = (uint16_t)(0x4E00 + i * i % 26);
        plain[i * i % 26]++;
    }
    gv_text text = {codes, LENGTH, 2};
    CHECK(gv_ngrams_count(&b, &options, &text, 1, &error) == GV_OK);
    CHECK(total(&b, 0) == LENGTH);
    for (int c = 0; c < 26; c++) {
        uint16_t code = (uint16_t)(0x4E00 + c);
        gv_text single = {&code, 1, 2};
        CHECK(gv_ngrams_count(&one, &options, &single, 1, &error) == GV_OK);
        double found = 0.0;
        for (int64_t i = 0; i < b.splits[1]; i++) {
            if (b.indices[i] == one.indices[one.count - 1]) found = (double)b.values[i];
        }
        CHECK(found == (double)plain[c]);
    }
    gv_sparse_buffer_clear(&b);
    gv_sparse_buffer_clear(&one);
    free(codes);
}

/* ---- the machine ----------------------------------------------------------------------------------------------------- */

typedef struct {
    gv_sparse_buffer counts;
    int64_t splits[ROWS + 1], features;
    int32_t indices[ROWS * 40], buckets[ROWS * 40];
    float values[ROWS * 40], idf[ROWS * 40];
    int8_t targets[ROWS * LABELS];
    float costs[ROWS];
} data_set;

static int compare(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static gv_sparse weighed(const data_set *d) {
    return (gv_sparse){ROWS, d->splits, d->indices, d->values};
}

/* Texts of three kinds that share letters; what each row is follows from its words. */
static void make_data(data_set *d) {
    static const char *const words[LABELS][4] = {
        {"pass", "port", "visa", "fly"}, {"tax", "form", "pay", "vat"}, {"road", "car", "sign", "fine"}};
    gv_error error = {0};
    gv_ngram_options options = {1, 2, BITS};
    memset(d, 0, sizeof *d);
    for (int row = 0; row < ROWS; row++) {
        char text[32];
        int kind = row % LABELS;
        (void)snprintf(text, sizeof text, "%s %s", words[kind][row / 3 % 4], words[(kind + row / 12) % 3][row / 7 % 4]);
        gv_text one = ascii(text);
        CHECK(gv_ngrams_count(&d->counts, &options, &one, 1, &error) == GV_OK);
        for (int label = 0; label < LABELS; label++) d->targets[row * LABELS + label] = label == kind ? 1 : -1;
        d->costs[row] = row % 2 ? 1.0f : 0.25f;
    }
    CHECK(d->counts.count <= ROWS * 40);
    memcpy(d->buckets, d->counts.indices, (size_t)d->counts.count * sizeof(int32_t));
    qsort(d->buckets, (size_t)d->counts.count, sizeof(int32_t), compare);
    for (int64_t i = 0; i < d->counts.count; i++) {
        if (i % 5 == 4) continue; /* some are not known to the model */
        if (d->features == 0 || d->buckets[d->features - 1] != d->buckets[i]) d->buckets[d->features++] = d->buckets[i];
    }
    for (int64_t f = 0; f < d->features; f++) d->idf[f] = 1.0f + (float)(f % 7) / 3.0f;
    gv_sparse counts = view(&d->counts);
    CHECK(gv_ngrams_weigh(d->splits, d->indices, d->values, &counts, d->buckets, d->idf, d->features, &error) == GV_OK);
}

static void test_weights_of_counts(const data_set *d) {
    for (int64_t row = 0; row < ROWS; row++) {
        double expected[64], length = 0.0;
        int64_t at = d->splits[row], count = 0;
        for (int64_t i = d->counts.splits[row]; i < d->counts.splits[row + 1]; i++) {
            for (int64_t f = 0; f < d->features; f++) {
                if (d->buckets[f] != d->counts.indices[i]) continue;
                CHECK(at + count < d->splits[row + 1] && d->indices[at + count] == f && count < 64);
                expected[count] = (1.0 + log((double)d->counts.values[i])) * (double)d->idf[f];
                length += expected[count] * expected[count];
                count++;
            }
        }
        CHECK(count > 0 && at + count == d->splits[row + 1]);
        for (int64_t i = 0; i < count; i++) CHECK(fabs((double)d->values[at + i] - expected[i] / sqrt(length)) < 1e-6);
    }
}

static double objective(const data_set *d, const double *w, double bias, int label, double c, bool costs) {
    double sum = bias * bias / 2.0;
    for (int64_t f = 0; f < d->features; f++) sum += w[f] * w[f] / 2.0;
    for (int64_t row = 0; row < ROWS; row++) {
        double dot = bias;
        for (int64_t i = d->splits[row]; i < d->splits[row + 1]; i++) dot += w[d->indices[i]] * (double)d->values[i];
        double miss = 1.0 - (double)d->targets[row * LABELS + label] * dot;
        if (miss > 0.0) sum += c * (costs ? (double)d->costs[row] : 1.0) * miss * miss;
    }
    return sum;
}

/* At the optimum of a strictly convex function every derivative is zero. */
static void test_machine(const data_set *d, bool costs) {
    gv_svm_options options = {2.0, 1e-7, 2000, 3};
    size_t features = (size_t)d->features;
    float *weights = malloc(features * LABELS * sizeof *weights), bias[LABELS];
    double *w = malloc(features * sizeof *w);
    gv_error error = {0};
    gv_sparse data = weighed(d);
    CHECK(gv_sparse_svm(weights, bias, &data, d->targets, costs ? d->costs : NULL, d->features, LABELS, &options, NULL,
                        &error) == GV_OK);
    for (int label = 0; label < LABELS; label++) {
        double largest = 0.0, here, b = (double)bias[label];
        for (size_t f = 0; f < features; f++) w[f] = (double)weights[f * LABELS + (size_t)label];
        here = objective(d, w, b, label, options.c, costs);
        CHECK(here > 0.0 && here < 2.0 * ROWS);
        for (size_t f = 0; f <= features; f++) {
            double *place = f < features ? w + f : &b, kept = *place, step = 1e-4;
            *place = kept + step;
            double up = objective(d, w, b, label, options.c, costs);
            *place = kept - step;
            double down = objective(d, w, b, label, options.c, costs);
            *place = kept;
            if (fabs(up - down) / (2.0 * step) > largest) largest = fabs(up - down) / (2.0 * step);
        }
        if (largest > 1e-3) (void)fprintf(stderr, "label %d: derivative %g\n", label, largest);
        CHECK(largest <= 1e-3);
    }
    free(weights);
    free(w);
}

static void test_threads(const data_set *d) {
    gv_svm_options options = {1.0, 1e-3, 200, 0};
    size_t size = (size_t)d->features * LABELS * sizeof(float);
    float *one = malloc(size), *other = malloc(size), bias[2][LABELS], logits[2][ROWS * LABELS];
    gv_error error = {0};
    gv_sparse data = weighed(d);
    int8_t *bytes = malloc((size_t)d->features * LABELS);
    float *scales = malloc((size_t)d->features * sizeof *scales);
    for (int64_t i = 0; i < d->features * LABELS; i++) bytes[i] = (int8_t)(i * 37 % 255 - 127);
    for (int64_t f = 0; f < d->features; f++) scales[f] = 0.001f * (float)(f % 11);
    for (int run = 0; run < 2; run++) {
        CHECK(gv_set_num_threads(run == 0 ? 1 : 3, &error) == GV_OK);
        CHECK(gv_sparse_svm(run == 0 ? one : other, bias[run], &data, d->targets, NULL, d->features, LABELS, &options, NULL,
                            &error) == GV_OK);
        CHECK(gv_sparse_logits(logits[run], &data, bytes, scales, bias[run], 2.5f, d->features, LABELS, &error) == GV_OK);
    }
    CHECK(memcmp(one, other, size) == 0 && memcmp(bias[0], bias[1], sizeof bias[0]) == 0);
    CHECK(memcmp(logits[0], logits[1], sizeof logits[0]) == 0);
    for (int64_t row = 0; row < ROWS; row++) {
        for (int label = 0; label < LABELS; label++) {
            double sum = (double)bias[0][label];
            for (int64_t i = d->splits[row]; i < d->splits[row + 1]; i++) {
                int64_t f = d->indices[i];
                sum += (double)d->values[i] * (double)scales[f] * (double)bytes[f * LABELS + label];
            }
            CHECK(fabs(2.5 * sum - (double)logits[0][row * LABELS + label]) < 1e-5);
        }
    }
    free(one);
    free(other);
    free(bytes);
    free(scales);
}

/* ---- what goes wrong ------------------------------------------------------------------------------------------------ */

static void test_refusals(const data_set *d) {
    static const uint16_t lone[] = {'a', 0xD800};
    gv_text text = {lone, 2, 2};
    gv_sparse_buffer b = {0};
    gv_error error = {0};
    float weights[64 * LABELS], bias[LABELS];
    gv_ngram_options options = {1, 3, 20}, bad[] = {{0, 3, 20}, {2, 1, 20}, {1, 9, 20}, {1, 3, 7}, {1, 3, 31}};
    CHECK(gv_ngrams_count(&b, &options, &text, 1, &error) == GV_ERR_VALUE && strstr(error.text, "D800") != NULL);
    gv_sparse_buffer_clear(&b);
    for (int i = 0; i < 5; i++) CHECK(gv_ngrams_count(&b, &bad[i], &text, 1, &error) == GV_ERR_VALUE);
    gv_svm_options svm = {0.0, 1e-3, 10, 0};
    gv_sparse data = weighed(d);
    CHECK(gv_sparse_svm(weights, bias, &data, d->targets, NULL, d->features, LABELS, &svm, NULL, &error) == GV_ERR_VALUE);
    svm.c = 1.0;
    CHECK(gv_sparse_svm(weights, bias, &data, d->targets, NULL, 1, LABELS, &svm, NULL, &error) == GV_ERR_INDEX);
    CHECK(gv_sparse_logits(weights, &data, NULL, NULL, bias, 1.0f, 1, LABELS, &error) == GV_ERR_INDEX);
    const int64_t falling[] = {0, 2, 1};
    data = (gv_sparse){2, falling, d->indices, d->values};
    CHECK(gv_sparse_logits(weights, &data, NULL, NULL, bias, 1.0f, d->features, LABELS, &error) == GV_ERR_VALUE);
    gv_sparse_buffer_clear(&b);
}

static gv_status use(const data_set *d, float *weights, const gv_allocator *allocator, gv_error *error) {
    static const char *const long_text =
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen";
    const gv_text texts[] = {ascii("a"), ascii(long_text), ascii("b")};
    gv_sparse_buffer b = {.allocator = allocator};
    gv_ngram_options options = {1, 3, 20};
    float bias[LABELS];
    gv_svm_options svm = {1.0, 1e-3, 10, 0};
    gv_sparse data = weighed(d);
    gv_status status = gv_ngrams_count(&b, &options, texts, 2, error);
    if (status == GV_OK) status = gv_ngrams_count(&b, &options, texts + 2, 1, error);
    if (status == GV_OK)
        status = gv_sparse_svm(weights, bias, &data, d->targets, NULL, d->features, LABELS, &svm, allocator, error);
    gv_sparse_buffer_clear(&b);
    return status;
}

static void test_failing_allocations(const data_set *d) {
    float *weights = malloc((size_t)d->features * LABELS * sizeof *weights);
    counter whole = {0};
    gv_allocator allocator = {counter_alloc, counter_release, &whole};
    gv_error error = {0};
    CHECK(use(d, weights, &allocator, &error) == GV_OK && whole.live == 0 && whole.calls > 6);
    for (long n = 1; n <= whole.calls; n++) {
        counter failing = {.fail_at = n};
        allocator.self = &failing;
        error = (gv_error){0};
        gv_status status = use(d, weights, &allocator, &error);
        CHECK(status == GV_ERR_MEMORY && error.text[0] != '\0' && failing.live == 0);
    }
    free(weights);
}

int main(void) {
    data_set *d = malloc(sizeof *d);
    make_data(d);
    test_counts();
    test_long_text();
    test_weights_of_counts(d);
    test_machine(d, false);
    test_machine(d, true);
    test_threads(d);
    test_refusals(d);
    test_failing_allocations(d);
    gv_sparse_buffer_clear(&d->counts);
    free(d);
    if (failures == 0) puts("ok");
    return failures != 0;
}
