/* test_bpe.c - byte-pair encoding without Python: ids, offsets, training, and every allocation that may fail. */
#include <string.h>

#include "check.h"
#include "govlm_bpe.h"

enum { TOKENS = 260 };

static gv_bytes tokens[TOKENS];
static uint8_t singles[256];

static void make_tokens(void) {
    for (int i = 0; i < 256; i++) {
        singles[i] = (uint8_t)i;
        tokens[i] = (gv_bytes){&singles[i], 1};
    }
    tokens[256] = (gv_bytes){(const uint8_t *)"ab", 2};
    tokens[257] = (gv_bytes){(const uint8_t *)"abc", 3};
    tokens[258] = (gv_bytes){(const uint8_t *)"\xE6\x94", 2};
    tokens[259] = (gv_bytes){(const uint8_t *)"\xE6\x94\xBF", 3}; /* U+653F */
}

static gv_status make(gv_bpe **out, bool ranked, const gv_allocator *allocator, gv_error *error) {
    static const int32_t pairs[] = {'a', 'b', 256, 'c', 0xE6, 0x94, 258, 0xBF};
    int32_t ranks[TOKENS];
    gv_bpe_options options = {.compose = true, .split = GV_SPLIT_QWEN2, .unknown_id = -1};
    static const uint8_t name[] = {'<', 'x', '>'};
    gv_added_token added = {{name, 3, 1}, 300, false, false, false, false};
    gv_status status = gv_bpe_create(out, tokens, TOKENS, &options, allocator, error);
    for (int i = 0; i < TOKENS; i++) ranks[i] = i;
    if (status == GV_OK) {
        status = ranked ? gv_bpe_set_ranks(*out, ranks, error) : gv_bpe_set_merges(*out, pairs, 4, error);
    }
    if (status == GV_OK) status = gv_bpe_add_token(*out, &added, error);
    if (status != GV_OK) {
        gv_bpe_free(*out);
        *out = NULL;
    }
    return status;
}

static void test_ids(bool ranked) {
    static const uint16_t text[] = {'a', 'b', 'c', 0x653F, ' ', 'a', 'b', '<', 'x', '>', 'e', 0x301};
    static const int32_t wanted[] = {257, 259, ' ', 256, 300, 0xC3, 0xA9};
    static const int32_t ends[] = {3, 4, 5, 7, 10, 11, 11};
    gv_error error = {0};
    gv_bpe *bpe = NULL;
    CHECK(make(&bpe, ranked, NULL, &error) == GV_OK);
    for (int offsets = 0; offsets < 2 && bpe != NULL; offsets++) {
        gv_tokens out = {.offsets = offsets != 0};
        CHECK(gv_bpe_encode(&out, bpe, (gv_text){text, 12, 2}, &error) == GV_OK);
        CHECK(out.count == 7 && memcmp(out.ids, wanted, sizeof wanted) == 0);
        if (offsets) CHECK(memcmp(out.ends, ends, sizeof ends) == 0);
        gv_tokens_clear(&out);
    }
    static const uint16_t bad[] = {0xDC80};
    gv_tokens out = {0};
    CHECK(gv_bpe_encode(&out, bpe, (gv_text){bad, 1, 2}, &error) == GV_ERR_VALUE);
    gv_tokens_clear(&out);
    gv_bpe_free(bpe);
}

static gv_status count_merges(void *context, int32_t left, int32_t right, int32_t made) {
    int32_t *seen = context;
    if (seen[0] == 0) CHECK(left == 'a' && right == 'b' && made == 256);
    if (seen[0] == 1) CHECK(left == 256 && right == 'c' && made == 257);
    seen[0]++;
    return GV_OK;
}

static gv_status train(int32_t *merges, const gv_allocator *allocator, gv_error *error) {
    static const uint8_t text[] = "abc abc abd\nab abc\n";
    uint8_t alphabet[256];
    gv_bpe_trainer *trainer = NULL;
    for (int i = 0; i < 256; i++) alphabet[i] = (uint8_t)i;
    gv_status status = gv_bpe_trainer_create(&trainer, GV_SPLIT_GPT2, true, allocator, error);
    if (status == GV_OK) status = gv_bpe_trainer_feed(trainer, (gv_text){text, (int64_t)sizeof text - 1, 1}, error);
    if (status == GV_OK) status = gv_bpe_trainer_build(trainer, alphabet, 10, 2, count_merges, merges, error);
    gv_bpe_trainer_free(trainer);
    return status;
}

/* Fails one allocation after the other; everything must be given back and the failure said. */
static void test_allocation_failures(void) {
    static const uint16_t text[] = {'a', 'b', 'c', 0x653F, 'e', 0x301, '<', 'x', '>'};
    for (long fail = 1; fail < 400; fail++) {
        counter c = {.fail_at = fail};
        gv_allocator allocator = {counter_alloc, counter_release, &c};
        gv_error error = {0};
        gv_bpe *bpe = NULL;
        gv_tokens out = {.allocator = &allocator, .offsets = true};
        gv_status status = make(&bpe, fail % 2 == 0, &allocator, &error);
        if (status == GV_OK) status = gv_bpe_encode(&out, bpe, (gv_text){text, 9, 2}, &error);
        int32_t merges = 0;
        if (status == GV_OK) status = train(&merges, &allocator, &error);
        gv_tokens_clear(&out);
        gv_bpe_free(bpe);
        CHECK(c.live == 0 && c.bytes == 0);
        if (c.calls < fail) {
            CHECK(status == GV_OK);
            return;
        }
        CHECK(status == GV_ERR_MEMORY && error.text[0] != '\0');
    }
    CHECK(false);
}

int main(void) {
    gv_error error = {0};
    int32_t merges = 0;
    make_tokens();
    test_ids(false);
    test_ids(true);
    CHECK(train(&merges, NULL, &error) == GV_OK && merges >= 2);
    test_allocation_failures();
    if (failures == 0) (void)printf("ok\n");
    return failures == 0 ? 0 : 1;
}
