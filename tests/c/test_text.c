/* test_text.c - the tokenizer without Python: every allocation made to fail in turn, marks, added tokens, training.
 *
 * Links csrc/text and csrc/base/{status,memory}.c. Exit status 0 and "ok" when all holds. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "govlm.h"

static gv_text ascii(const char *text) {
    return (gv_text){text, (int64_t)strlen(text), 1};
}

static const uint16_t HALL[] = {0x653F, 0x52A1};                                    /* two ideographs */
static const uint32_t MARKS[] = {'a', 0x302E, 0x0301, 0x0323, ' ', 0x653F, 0x302F}; /* marks that change places */
static const char *const VOCABULARY[] = {"[UNK]", "a", "ser", "##vice", "##s", "[M]", "!", ""};

static gv_status emit(void *context, const uint32_t *codes, int64_t length, bool continuing) {
    (void)continuing;
    *(int64_t *)context += length > 0 && codes[0] != 0;
    return GV_OK;
}

/* Everything that the handles can do, with `allocator`. Writes what came out into `ids` (room for 64). */
static gv_status use(int32_t *ids, int64_t *count, int64_t *entries, const gv_allocator *allocator, gv_error *error) {
    gv_tokenizer *tokenizer = NULL;
    gv_trainer *trainer = NULL;
    gv_tokens tokens = {.allocator = allocator, .offsets = true};
    gv_text vocabulary[9];
    gv_status status;
    for (int i = 0; i < 8; i++) vocabulary[i] = ascii(VOCABULARY[i]);
    vocabulary[8] = (gv_text){HALL, 1, 2};
    gv_tokenizer_options options = {true, true, true, true, 100, ascii("##"), 0};
    if ((status = gv_tokenizer_create(&tokenizer, vocabulary, 9, &options, allocator, error)) != GV_OK) goto done;
    gv_added_token raw = {ascii("[M]"), 5, false, true, true, false}, normal = {{HALL, 2, 2}, 20, false, false, false, true};
    if ((status = gv_tokenizer_add_token(tokenizer, &raw, error)) != GV_OK) goto done;
    if ((status = gv_tokenizer_encode(&tokens, tokenizer, ascii("Services  [M] a! zzz"), error)) != GV_OK) goto done;
    if ((status = gv_tokenizer_encode(&tokens, tokenizer, (gv_text){MARKS, 7, 4}, error)) != GV_OK) goto done;
    if ((status = gv_tokenizer_add_token(tokenizer, &normal, error)) != GV_OK) goto done;
    if ((status = gv_tokenizer_encode(&tokens, tokenizer, (gv_text){HALL, 2, 2}, error)) != GV_OK) goto done;
    if ((status = gv_tokens_push(&tokens, 7, error)) != GV_OK) goto done;
    *count = tokens.count;
    memcpy(ids, tokens.ids, (size_t)tokens.count * sizeof *ids);
    if ((status = gv_trainer_create(&trainer, &options, allocator, error)) != GV_OK) goto done;
    for (int i = 0; i < 4; i++) {
        if ((status = gv_trainer_feed(trainer, ascii("serve served server serves serving\n"), error)) != GV_OK) goto done;
        if ((status = gv_trainer_feed(trainer, (gv_text){HALL, 2, 2}, error)) != GV_OK) goto done;
    }
    gv_trainer_options training = {30, 2, -1};
    *entries = 0;
    status = gv_trainer_build(trainer, &training, emit, entries, error);
done:
    gv_tokens_clear(&tokens);
    gv_tokenizer_free(tokenizer);
    gv_trainer_free(trainer);
    return status;
}

static void test_failing_allocations(void) {
    int32_t expected[64], ids[64];
    int64_t expected_count = 0, count = 0, expected_entries = 0, entries = 0;
    gv_error error = {0};
    counter whole = {0};
    gv_allocator allocator = {counter_alloc, counter_release, &whole};
    CHECK(use(expected, &expected_count, &expected_entries, &allocator, &error) == GV_OK);
    CHECK(whole.live == 0 && whole.calls > 10 && expected_count > 8 && expected_entries > 5);
    CHECK(use(ids, &count, &entries, NULL, &error) == GV_OK);
    CHECK(count == expected_count && entries == expected_entries && memcmp(ids, expected, (size_t)count * sizeof *ids) == 0);
    for (long n = 1; n <= whole.calls; n++) {
        counter failing = {.fail_at = n};
        allocator.self = &failing;
        error = (gv_error){0};
        gv_status status = use(ids, &count, &entries, &allocator, &error);
        if (status != GV_ERR_MEMORY || error.text[0] == '\0' || failing.live != 0) {
            fprintf(stderr, "allocation %ld of %ld: status %d, \"%s\", %ld alive\n", n, whole.calls, status, error.text,
                    failing.live);
            failures++;
        }
    }
}

static void test_pieces(void) {
    static const int32_t expected[] = {2, 3, 4, 5, 1, 6, 0, 0, 8, 0, 20, 7};
    int32_t ids[64];
    int64_t count = 0, entries = 0;
    gv_error error = {0};
    CHECK(use(ids, &count, &entries, NULL, &error) == GV_OK);
    CHECK(count == (int64_t)(sizeof expected / sizeof *expected));
    for (int64_t i = 0; i < count && i < 12; i++) {
        if (ids[i] != expected[i]) fprintf(stderr, "token %lld is %d\n", (long long)i, ids[i]);
        CHECK(ids[i] == expected[i]);
    }
}

static void test_refusals(void) {
    static const uint16_t lone[] = {'a', 0xD800};
    static const uint32_t beyond[] = {0x110000};
    gv_text one = ascii("a");
    gv_tokenizer *tokenizer = NULL;
    gv_tokens tokens = {0};
    gv_error error = {0};
    gv_tokenizer_options options = {true, true, true, true, 100, ascii("##"), 0};
    CHECK(gv_tokenizer_create(&tokenizer, &one, 1, &options, NULL, &error) == GV_OK);
    CHECK(gv_tokenizer_encode(&tokens, tokenizer, (gv_text){lone, 2, 2}, &error) != GV_OK &&
          strstr(error.text, "D800") != NULL);
    CHECK(gv_tokenizer_encode(&tokens, tokenizer, (gv_text){beyond, 1, 4}, &error) != GV_OK);
    CHECK(gv_tokenizer_encode(&tokens, tokenizer, (gv_text){beyond, 1, 3}, &error) != GV_OK);
    CHECK(gv_tokenizer_encode(&tokens, tokenizer, (gv_text){NULL, 0, 1}, &error) == GV_OK);
    gv_tokens_clear(&tokens);
    gv_tokenizer_free(tokenizer);
    gv_tokenizer_free(NULL);
    gv_trainer_free(NULL);
}

int main(void) {
    test_pieces();
    test_refusals();
    test_failing_allocations();
    if (failures == 0) puts("ok");
    return failures != 0;
}
