/* test_unigram.c - unigram pieces without Python: every allocation made to fail in turn, hostile charsmaps, training.
 *
 * Links csrc/text and csrc/base/{status,memory}.c. Exit status 0 and "ok" when all holds. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "govlm_unigram.h"

static gv_text ascii(const char *text) {
    return (gv_text){text, (int64_t)strlen(text), 1};
}

enum { PIECES = 9 };
static const uint32_t SPACE_AB[] = {0x2581, 'a', 'b'};
static const uint32_t FAR[] = {0x1F600, 'a'}; /* beyond the basic plane */
static const float SCORES[PIECES] = {0, 0, -2, -3, -2.5F, -4, -3, 0, -9};
static const uint8_t TYPES[PIECES] = {GV_PIECE_UNKNOWN, GV_PIECE_CONTROL,      GV_PIECE_NORMAL,
                                      GV_PIECE_NORMAL,  GV_PIECE_NORMAL,       GV_PIECE_NORMAL,
                                      GV_PIECE_NORMAL,  GV_PIECE_USER_DEFINED, GV_PIECE_UNUSED};
/* "A" becomes "a b": units of a double array (root with offset 256, a leaf below 'A'), then the replacement. */
static uint8_t charsmap[4 + 4 * 1024 + 4];

static void make_charsmap(void) {
    uint32_t units[1024] = {0};
    units[0] = 256u << 10;                         /* children at 256 ^ label */
    units[256 ^ 'A'] = 512u << 10 | 1u << 8 | 'A'; /* a value at (256 ^ 'A') ^ 512 */
    units[(256 ^ 'A') ^ 512] = 1u << 31;           /* value 0 */
    uint32_t size = sizeof units;
    for (int i = 0; i < 4; i++) charsmap[i] = (uint8_t)(size >> (8 * i));
    for (size_t i = 0; i < 1024; i++)
        for (int k = 0; k < 4; k++) charsmap[4 + 4 * i + k] = (uint8_t)(units[i] >> (8 * k));
    memcpy(charsmap + 4 + size, "a b", 4);
}

static gv_status emit(void *context, const uint32_t *codes, int64_t length, double score) {
    *(double *)context += score * (double)length + codes[0];
    return GV_OK;
}

static void pieces_of(gv_text out[PIECES]) {
    out[0] = ascii("<unk>");
    out[1] = ascii("</s>");
    out[2] = (gv_text){SPACE_AB, 1, 4};
    out[3] = ascii("a");
    out[4] = ascii("b");
    out[5] = (gv_text){SPACE_AB, 3, 4};
    out[6] = (gv_text){FAR, 2, 4};
    out[7] = ascii("[X]");
    out[8] = ascii("ab");
}

/* Everything that the handles can do, with `allocator`; the ids (room for 64) and a sum over the trained pieces. */
static gv_status use(int32_t *ids, int64_t *count, double *sum, const gv_allocator *allocator, gv_error *error) {
    gv_unigram *unigram = NULL;
    gv_unigram_trainer *trainer = NULL;
    gv_unigram_scratch scratch = {.normal = {.allocator = allocator}};
    gv_tokens tokens = {.allocator = allocator, .offsets = true};
    gv_text pieces[PIECES];
    gv_status status;
    pieces_of(pieces);
    gv_unigram_options options = {{charsmap, sizeof charsmap, true, true, true, false}, false, false};
    if ((status = gv_unigram_create(&unigram, pieces, SCORES, TYPES, PIECES, &options, allocator, error)) != GV_OK) goto done;
    gv_added_token end = {ascii("</s>"), 1, false, true, false, false};
    if ((status = gv_unigram_add_token(unigram, &end, error)) != GV_OK) goto done;
    if ((status = gv_unigram_encode(&tokens, unigram, &scratch, ascii("  ab  A zz [X]b </s>a "), error)) != GV_OK) goto done;
    if ((status = gv_unigram_encode(&tokens, unigram, &scratch, (gv_text){FAR, 2, 4}, error)) != GV_OK) goto done;
    *count = tokens.count;
    memcpy(ids, tokens.ids, (size_t)tokens.count * sizeof *ids);
    if ((status = gv_unigram_trainer_create(&trainer, &options.normaliser, allocator, error)) != GV_OK) goto done;
    for (int i = 0; i < 12; i++) {
        const char *line = i % 3 == 0 ? "serve served server" : i % 3 == 1 ? "serving the serfs" : "the reserve";
        if ((status = gv_unigram_trainer_feed(trainer, ascii(line), error)) != GV_OK) goto done;
    }
    gv_unigram_training training = {16, 1.0, 1000, 16, 0.75, 2};
    *sum = 0;
    status = gv_unigram_trainer_build(trainer, &training, emit, sum, error);
done:
    gv_tokens_clear(&tokens);
    gv_unigram_scratch_clear(&scratch);
    gv_unigram_free(unigram);
    gv_unigram_trainer_free(trainer);
    return status;
}

static void test_failing_allocations(void) {
    /* _ab, _, a, _, b, _, unknown, _, [X], b, </s>, _, a, and FAR */
    static const int32_t expected[] = {5, 2, 3, 2, 4, 2, 0, 2, 7, 4, 1, 2, 3, 2, 6};
    int32_t ids[64];
    int64_t count = 0;
    double sum = 0, again = 0;
    gv_error error = {0};
    counter whole = {0};
    gv_allocator allocator = {counter_alloc, counter_release, &whole};
    CHECK(use(ids, &count, &sum, &allocator, &error) == GV_OK);
    CHECK(whole.live == 0 && whole.bytes == 0 && whole.calls > 30 && sum != 0);
    CHECK(count == 15 && memcmp(ids, expected, sizeof expected) == 0);
    CHECK(use(ids, &count, &again, NULL, &error) == GV_OK);
    CHECK(memcmp(&sum, &again, sizeof sum) == 0);
    for (long n = 1; n <= whole.calls; n++) {
        counter failing = {.fail_at = n};
        allocator.self = &failing;
        error = (gv_error){0};
        gv_status status = use(ids, &count, &sum, &allocator, &error);
        if (status != GV_ERR_MEMORY || error.text[0] == '\0' || failing.live != 0) {
            fprintf(stderr, "allocation %ld of %ld: status %d, \"%s\", %ld alive\n", n, whole.calls, status, error.text,
                    failing.live);
            failures++;
        }
    }
}

/* Charsmaps with bytes changed: refused or usable, never more. */
static void test_hostile_charsmaps(void) {
    uint32_t seed = 7;
    static uint8_t changed[sizeof charsmap];
    for (int round = 0; round < 300; round++) {
        gv_spm *spm = NULL;
        gv_spm_text out = {0};
        gv_error error = {0};
        memcpy(changed, charsmap, sizeof charsmap);
        int64_t size = (int64_t)sizeof changed;
        for (int k = 0; k < 1 + round % 5; k++) {
            seed = seed * 1664525u + 1013904223u;
            size_t at = round % 2 == 0 ? (seed >> 8) % 1400 : (seed >> 8) % sizeof changed;
            changed[at] = (uint8_t)(seed >> 24);
        }
        if (round % 7 == 0) size = (int64_t)((seed >> 8) % sizeof changed);
        gv_spm_options options = {changed, size, true, true, true, false};
        gv_status status = gv_spm_create(&spm, &options, NULL, 0, NULL, &error);
        CHECK(status == GV_OK || (status == GV_ERR_FORMAT && error.text[0] != '\0'));
        if (status == GV_OK) CHECK(gv_spm_normalise(&out, spm, ascii(" A B a "), &error) == GV_OK);
        gv_spm_text_clear(&out);
        gv_spm_free(spm);
    }
}

static void test_refusals(void) {
    gv_unigram *unigram = NULL;
    gv_text pieces[PIECES];
    float scores[PIECES];
    gv_error error = {0};
    gv_unigram_options options = {{NULL, 0, true, true, true, false}, false, false};
    pieces_of(pieces);
    memcpy(scores, SCORES, sizeof scores);
    CHECK(gv_unigram_create(&unigram, pieces + 1, SCORES, TYPES + 1, PIECES - 1, &options, NULL, &error) == GV_ERR_VALUE);
    scores[3] = NAN;
    CHECK(gv_unigram_create(&unigram, pieces, scores, TYPES, PIECES, &options, NULL, &error) == GV_ERR_VALUE);
    pieces[4] = ascii("a"); /* twice */
    CHECK(gv_unigram_create(&unigram, pieces, SCORES, TYPES, PIECES, &options, NULL, &error) == GV_ERR_VALUE);
    pieces_of(pieces);
    options.byte_fallback = true; /* without byte pieces */
    CHECK(gv_unigram_create(&unigram, pieces, SCORES, TYPES, PIECES, &options, NULL, &error) == GV_ERR_VALUE);
    CHECK(unigram == NULL);
    gv_unigram_free(NULL);
    gv_spm_free(NULL);
    gv_unigram_trainer_free(NULL);
}

int main(void) {
    make_charsmap();
    test_refusals();
    test_hostile_charsmaps();
    test_failing_allocations();
    if (failures == 0) puts("ok");
    return failures != 0;
}
