/* test_generate.c - caches without Python: steps against whole forwards, forks, memory, cancelled and failing steps, nothing left
 * behind, the same bits for any number of threads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "base/rng.h"
#include "check.h"
#include "govlm_generate.h"

typedef struct {
    const char *name;
    const char *words[10]; /* "field", "value", ... */
    const char *numbers;   /* "field=value field=value" */
    bool memory;
} kind;

static const kind kinds[] = {
    {"gpt-2", {"activation", "gelu_tanh", NULL}, "pre_norm=1 embedding_norm=0 final_norm=1 fused_qkv=1 conv1d=1", false},
    {"qwen 3",
     {"norm", "rms", "position", "rotary", "activation", "silu", NULL},
     "pre_norm=1 embedding_norm=0 final_norm=1 gated=1 num_heads=4 num_kv_heads=2 head_dim=18 query_key_norm=1 "
     "attention_bias=0 "
     "output_bias=0 mlp_bias=0",
     false},
    {"t5 decoder",
     {"norm", "rms", "position", "relative", "activation", "gelu_tanh", NULL},
     "pre_norm=1 embedding_norm=0 final_norm=1 attention_bias=0 output_bias=0 mlp_bias=0 attention_scale=1 gated=1 "
     "cross_attention=1 relative_bidirectional=0 relative_buckets=8 relative_max_distance=20",
     true},
};
enum { KINDS = (int)(sizeof kinds / sizeof *kinds), HIDDEN = 16, VOCABULARY = 23, LONGEST = 80, MEMORY = 45, SEQUENCES = 3 };

static const int64_t lengths[SEQUENCES] = {80, 7, 33};
static const int64_t memory_splits[SEQUENCES + 1] = {0, 40, 40, 45}; /* one without any */
static int32_t ids[SEQUENCES][LONGEST];
static float memory_values[MEMORY * HIDDEN];

static float random_value(uint32_t index, uint32_t stream) {
    uint32_t out[4];
    const uint32_t counter[4] = {index, 0, 0, stream}, key[2] = {7, 11};
    gv_philox(out, counter, key);
    return (float)((double)out[0] / 4294967296.0 - 0.5);
}

static gv_status make_model(gv_model **out, const kind *k, const gv_allocator *allocator, gv_error *error) {
    gv_config *config = NULL;
    char text[512], *save = NULL;
    int64_t size;
    *out = NULL;
    gv_status status = gv_config_create(&config, allocator, error);
    if (status != GV_OK) return status;
    (void)snprintf(text, sizeof text,
                   "vocab_size=%d hidden_size=%d num_layers=2 num_heads=2 intermediate_size=20 max_positions=%d causal=1 %s",
                   (int)VOCABULARY, (int)HIDDEN, (int)LONGEST, k->numbers);
    for (char *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        char *equals = strchr(word, '=');
        *equals = '\0';
        CHECK(gv_config_set_number(config, word, atof(equals + 1), error) == GV_OK);
    }
    for (int i = 0; k->words[i] != NULL; i += 2)
        CHECK(gv_config_set_word(config, k->words[i], k->words[i + 1], error) == GV_OK);
    CHECK(gv_config_set_word(config, "head", "lm", error) == GV_OK);
    status = gv_model_create(out, config, allocator, error);
    gv_config_free(config);
    if (status == GV_OK) status = gv_model_make_trainable(*out, error);
    if (status != GV_OK) return status;
    float *flat = gv_model_flat(*out, &size);
    for (int64_t i = 0; i < size; i++) flat[i] = random_value((uint32_t)i, 1) * 1.5f;
    return GV_OK;
}

static void fill_inputs(void) {
    for (int b = 0; b < SEQUENCES; b++) {
        for (int i = 0; i < LONGEST; i++) ids[b][i] = (int32_t)((uint32_t)(i * 7 + b * 5 + i * i) % VOCABULARY);
    }
    for (int i = 0; i < MEMORY * HIDDEN; i++) memory_values[i] = random_value((uint32_t)i, 2);
}

/* [length, VOCABULARY] of one sequence by a whole forward. */
static void whole(float *out, gv_model *model, const kind *k, int b) {
    gv_error error = {0};
    gv_pass *pass = NULL;
    const int64_t splits[2] = {0, lengths[b]};
    const int64_t own[2] = {0, memory_splits[b + 1] - memory_splits[b]};
    gv_forward_args args = {.tokens = lengths[b], .sequences = 1, .input_ids = ids[b], .row_splits = splits, .logits = true};
    if (k->memory) args.memory = memory_values + memory_splits[b] * HIDDEN, args.memory_splits = own;
    CHECK(gv_model_forward(&pass, model, &args, &error) == GV_OK);
    if (pass != NULL) memcpy(out, gv_pass_logits(pass).data, (size_t)(lengths[b] * VOCABULARY) * sizeof(float));
    gv_pass_free(pass);
}

typedef struct {
    gv_cache *cache;
    int64_t sequences[SEQUENCES], done[SEQUENCES];
} state;

static gv_status start(state *s, gv_model *model, const kind *k, bool bits8, int64_t pages, gv_error *error) {
    gv_status status = GV_OK;
    *s = (state){0};
    const gv_cache_options options = {.pages = pages, .bits8 = bits8};
    status = gv_cache_create(&s->cache, model, &options, error);
    for (int b = 0; status == GV_OK && b < SEQUENCES; b++) status = gv_cache_open(&s->sequences[b], s->cache, error);
    if (status == GV_OK && k->memory) {
        status = gv_cache_remember(s->cache, s->sequences, SEQUENCES, memory_values, memory_splits, NULL, error);
    }
    return status;
}

/* One step: counts[b] tokens of each sequence (0 = not in the batch); logits of each one's last into out[b]. */
static gv_status step(float out[SEQUENCES][VOCABULARY], state *s, gv_model *model, const int64_t counts[SEQUENCES],
                      gv_error *error) {
    int32_t tokens[SEQUENCES * LONGEST], rows[SEQUENCES];
    int64_t splits[SEQUENCES + 1] = {0}, which[SEQUENCES], n = 0;
    int place[SEQUENCES];
    gv_pass *pass = NULL;
    for (int b = 0; b < SEQUENCES; b++) {
        if (counts[b] == 0) continue;
        memcpy(tokens + splits[n], ids[b] + s->done[b], (size_t)counts[b] * sizeof *tokens);
        splits[n + 1] = splits[n] + counts[b];
        rows[n] = (int32_t)splits[n + 1] - 1;
        which[n] = s->sequences[b];
        place[n++] = b;
    }
    gv_forward_args args = {.tokens = splits[n],
                            .sequences = n,
                            .input_ids = tokens,
                            .row_splits = splits,
                            .row_count = n,
                            .rows = rows,
                            .cache = s->cache,
                            .cache_sequences = which,
                            .logits = true};
    gv_status status = gv_model_forward(&pass, model, &args, error);
    if (status != GV_OK) return status;
    for (int64_t i = 0; i < n; i++) {
        memcpy(out[place[i]], gv_pass_logits(pass).data + i * VOCABULARY, VOCABULARY * sizeof(float));
        s->done[place[i]] += counts[place[i]];
    }
    gv_pass_free(pass);
    return GV_OK;
}

static float distance(const float *a, const float *b) {
    float most = 0;
    for (int i = 0; i < VOCABULARY; i++) most = fabsf(a[i] - b[i]) > most ? fabsf(a[i] - b[i]) : most;
    return most;
}

static int64_t used(gv_cache *cache) {
    gv_cache_usage use;
    gv_cache_use(&use, cache);
    return use.used;
}

static void close_all(state *s) {
    gv_error error = {0};
    for (int b = 0; b < SEQUENCES; b++) CHECK(gv_cache_close(s->cache, s->sequences[b], &error) == GV_OK);
    CHECK(used(s->cache) == 0);
    gv_cache_free(s->cache);
}

/* Prompts of different lengths, then token by token: the logits of every step. */
static void test_steps(const kind *k, bool bits8, float tolerance) {
    static float expected[SEQUENCES][LONGEST * VOCABULARY];
    float out[SEQUENCES][VOCABULARY];
    const int64_t prompts[SEQUENCES] = {37, 1, 33};
    gv_model *model = NULL;
    gv_error error = {0};
    state s;
    CHECK(make_model(&model, k, NULL, &error) == GV_OK);
    for (int b = 0; b < SEQUENCES; b++) whole(expected[b], model, k, b);
    CHECK(start(&s, model, k, bits8, 0, &error) == GV_OK);
    for (int n = 0; n < 60; n++) {
        int64_t counts[SEQUENCES];
        for (int b = 0; b < SEQUENCES; b++) {
            counts[b] = n == 0 ? prompts[b] : b == 0 && n == 1 ? 40 : 1; /* a second part of a prompt beside single tokens */
            if (s.done[b] + counts[b] > lengths[b]) counts[b] = 0;
        }
        if (counts[0] + counts[1] + counts[2] == 0) break;
        CHECK(step(out, &s, model, counts, &error) == GV_OK);
        for (int b = 0; b < SEQUENCES; b++) {
            if (counts[b] == 0) continue;
            float off = distance(out[b], expected[b] + (s.done[b] - 1) * VOCABULARY);
            if (!(off <= tolerance)) {
                (void)fprintf(stderr, "%s: sequence %d, token %lld: off by %g\n", k->name, b, (long long)s.done[b],
                              (double)off);
                failures++;
            }
        }
    }
    for (int b = 0; b < SEQUENCES; b++) CHECK(s.done[b] == lengths[b]);
    close_all(&s);
    gv_model_free(model);
}

/* A fork goes on as its parent would, and neither sees what the other writes. */
static void test_forks(const kind *k) {
    static float expected[LONGEST * VOCABULARY];
    float out[SEQUENCES][VOCABULARY];
    gv_model *model = NULL;
    gv_error error = {0};
    state s;
    CHECK(make_model(&model, k, NULL, &error) == GV_OK);
    whole(expected, model, k, 0);
    CHECK(start(&s, model, k, false, 0, &error) == GV_OK);
    int64_t before = used(s.cache);
    CHECK(step(out, &s, model, (const int64_t[]){50, 0, 0}, &error) == GV_OK);
    CHECK(used(s.cache) == before + 2);
    state twin = s;
    CHECK(gv_cache_fork(&twin.sequences[0], s.cache, s.sequences[0], 50, &error) == GV_OK);
    int64_t shared = used(s.cache);
    CHECK(step(out, &twin, model, (const int64_t[]){1, 0, 0}, &error) == GV_OK);
    CHECK(distance(out[0], expected + 50 * VOCABULARY) < 1e-4f);
    CHECK(used(s.cache) == shared + 1); /* only the page that was written */
    ids[0][50] ^= 1;                    /* the parent goes another way */
    CHECK(step(out, &s, model, (const int64_t[]){1, 0, 0}, &error) == GV_OK);
    CHECK(distance(out[0], expected + 50 * VOCABULARY) > 1e-3f);
    ids[0][50] ^= 1;
    CHECK(step(out, &twin, model, (const int64_t[]){1, 0, 0}, &error) == GV_OK);
    CHECK(distance(out[0], expected + 51 * VOCABULARY) < 1e-4f);
    CHECK(gv_cache_cut(s.cache, s.sequences[0], 32, &error) == GV_OK); /* back to the first page */
    s.done[0] = 32;
    CHECK(step(out, &s, model, (const int64_t[]){20, 0, 0}, &error) == GV_OK);
    CHECK(distance(out[0], expected + 51 * VOCABULARY) < 1e-4f);
    CHECK(gv_cache_close(s.cache, twin.sequences[0], &error) == GV_OK);
    close_all(&s);
    gv_model_free(model);
}

static void test_same_bits(const kind *k) {
    float reference[SEQUENCES][VOCABULARY], out[SEQUENCES][VOCABULARY];
    gv_error error = {0};
    for (int threads = 1; threads <= 5; threads += 2) {
        gv_model *model = NULL;
        state s;
        CHECK(gv_set_num_threads(threads, &error) == GV_OK);
        CHECK(make_model(&model, k, NULL, &error) == GV_OK);
        CHECK(start(&s, model, k, false, 0, &error) == GV_OK);
        CHECK(step(out, &s, model, (const int64_t[]){60, 2, 30}, &error) == GV_OK);
        CHECK(step(out, &s, model, (const int64_t[]){1, 1, 1}, &error) == GV_OK);
        if (threads == 1) memcpy(reference, out, sizeof out);
        CHECK(memcmp(reference, out, sizeof out) == 0);
        close_all(&s);
        gv_model_free(model);
    }
    CHECK(gv_set_num_threads(2, &error) == GV_OK);
}

/* A step that is cancelled, or finds no page, leaves the cache as it was: the next one gives what it would have given. */
static void test_failed_steps(const kind *k) {
    static float expected[LONGEST * VOCABULARY];
    float out[SEQUENCES][VOCABULARY];
    gv_model *model = NULL;
    gv_error error = {0};
    state s;
    int64_t length;
    volatile int flag = 1;
    CHECK(make_model(&model, k, NULL, &error) == GV_OK);
    whole(expected, model, k, 0);
    int64_t memory_pages = k->memory ? 3 : 0;
    CHECK(start(&s, model, k, false, memory_pages + 3, &error) == GV_OK);
    CHECK(step(out, &s, model, (const int64_t[]){40, 0, 0}, &error) == GV_OK);
    (void)gv_parallel_set_cancel(&flag);
    CHECK(step(out, &s, model, (const int64_t[]){30, 0, 0}, &error) == GV_ERR_CANCELLED);
    (void)gv_parallel_set_cancel(NULL);
    CHECK(gv_cache_length(&length, s.cache, s.sequences[0], &error) == GV_OK && length == 40);
    error = (gv_error){0};
    int64_t held = used(s.cache);
    CHECK(step(out, &s, model, (const int64_t[]){1, 7, 33}, &error) == GV_ERR_MEMORY && strstr(error.text, "full") != NULL);
    CHECK(used(s.cache) <= held);
    CHECK(step(out, &s, model, (const int64_t[]){31, 0, 0}, &error) == GV_OK);
    CHECK(distance(out[0], expected + 70 * VOCABULARY) < 1e-4f);
    close_all(&s);
    gv_model_free(model);
}

static gv_status whole_life(const kind *k, const gv_allocator *allocator, gv_error *error) {
    gv_model *model = NULL;
    state s = {0};
    float out[SEQUENCES][VOCABULARY];
    int64_t fork;
    gv_status status = make_model(&model, k, allocator, error);
    if (status == GV_OK) status = start(&s, model, k, false, 0, error);
    if (status == GV_OK) status = step(out, &s, model, (const int64_t[]){40, 5, 0}, error);
    if (status == GV_OK) status = gv_cache_fork(&fork, s.cache, s.sequences[0], 35, error);
    if (status == GV_OK) status = step(out, &s, model, (const int64_t[]){1, 1, 33}, error);
    gv_cache_free(s.cache);
    gv_model_free(model);
    return status;
}

static void test_allocation_failures(const kind *k) {
    for (long n = 1; n < 1000; n++) {
        counter c = {.fail_at = n};
        const gv_allocator allocator = {counter_alloc, counter_release, &c};
        gv_error error = {0};
        gv_status status = whole_life(k, &allocator, &error);
        CHECK(c.live == 0);
        if (c.calls < n) {
            CHECK(status == GV_OK);
            return;
        }
        CHECK(status == GV_ERR_MEMORY && error.text[0] != '\0');
    }
    (void)fprintf(stderr, "%s: a thousand allocations and still not done\n", k->name);
    failures++;
}

static void test_refusals(void) {
    gv_model *model = NULL, *other = NULL;
    gv_error error = {0};
    gv_pass *pass = NULL;
    state s;
    float out[SEQUENCES][VOCABULARY];
    int64_t length;
    CHECK(make_model(&model, &kinds[0], NULL, &error) == GV_OK);
    CHECK(make_model(&other, &kinds[2], NULL, &error) == GV_OK);
    CHECK(start(&s, model, &kinds[0], false, 0, &error) == GV_OK);
    const int64_t splits[3] = {0, 1, 2}, twice[2] = {s.sequences[0], s.sequences[0]}, none[2] = {s.sequences[0], 99};
    gv_forward_args args = {.tokens = 2,
                            .sequences = 2,
                            .input_ids = ids[0],
                            .row_splits = splits,
                            .cache = s.cache,
                            .cache_sequences = twice,
                            .logits = true};
    CHECK(gv_model_forward(&pass, model, &args, &error) == GV_ERR_VALUE && strstr(error.text, "twice") != NULL);
    args.cache_sequences = none;
    CHECK(gv_model_forward(&pass, model, &args, &error) == GV_ERR_INDEX && strstr(error.text, "99") != NULL);
    args.cache_sequences = s.sequences;
    CHECK(gv_model_forward(&pass, other, &args, &error) == GV_ERR_VALUE && strstr(error.text, "another model") != NULL);
    args.save = true;
    CHECK(gv_model_forward(&pass, model, &args, &error) == GV_ERR_VALUE && strstr(error.text, "save") != NULL);
    args.save = false;
    CHECK(step(out, &s, model, (const int64_t[]){80, 0, 0}, &error) == GV_OK);
    CHECK(step(out, &s, model, (const int64_t[]){1, 0, 0}, &error) == GV_ERR_INDEX && strstr(error.text, "positions") != NULL);
    CHECK(gv_cache_fork(&length, s.cache, s.sequences[0], 81, &error) == GV_ERR_VALUE);
    CHECK(gv_cache_close(s.cache, 77, &error) == GV_ERR_INDEX);
    gv_cache *cache = NULL;
    const gv_cache_options options = {0};
    CHECK(gv_cache_create(&cache, other, &options, &error) == GV_OK);
    CHECK(gv_cache_open(&length, cache, &error) == GV_OK);
    args.cache = cache;
    const int64_t first[2] = {length, length};
    args.cache_sequences = first;
    args.sequences = 1;
    args.tokens = 1;
    CHECK(gv_model_forward(&pass, other, &args, &error) == GV_ERR_STATE && strstr(error.text, "no memory") != NULL);
    gv_cache_free(cache);
    close_all(&s);
    gv_model_free(model);
    gv_model_free(other);
}

int main(void) {
    fill_inputs();
    for (int i = 0; i < KINDS; i++) {
        test_steps(&kinds[i], false, 1e-4f);
        test_steps(&kinds[i], true, 0.5f);
        test_forks(&kinds[i]);
        test_same_bits(&kinds[i]);
        test_failed_steps(&kinds[i]);
        test_allocation_failures(&kinds[i]);
    }
    test_refusals();
    (void)printf("test_generate: %d failures\n", failures);
    return failures != 0;
}
