/* test_model.c - whole passes without Python: finite differences through every kind of block, the same bits for any number of
 * threads, a request alone or in a batch, and every allocation made to fail once. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "check.h"
#include "govlm.h"

/* ---- the kinds of block --------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    const char *words[10]; /* "field", "value", ... */
    const char *numbers;   /* "field=value field=value" */
    bool labels, rows, memory;
} kind;

static const kind kinds[] = {
    {"bert", {"head", "sequence", NULL}, "type_vocab_size=2 pooler=1 num_labels=3", true, true, false},
    {"bert, all rows, dropout",
     {"head", "token", "activation", "relu", NULL},
     "type_vocab_size=2 num_labels=3 hidden_dropout=0.2 attention_dropout=0.2 classifier_dropout=0.3",
     true,
     false,
     false},
    {"albert",
     {"head", "mlm", "activation", "gelu_tanh", NULL},
     "embedding_size=6 shared_layers=1 hidden_dropout=0.2 embedding_dropout=0.1 down_dropout=0",
     true,
     true,
     false},
    {"gpt-2",
     {"activation", "gelu_tanh", NULL},
     "pre_norm=1 embedding_norm=0 final_norm=1 causal=1 fused_qkv=1 conv1d=1",
     false,
     false,
     false},
    {"qwen 3",
     {"norm", "rms", "position", "rotary", "activation", "silu", NULL},
     "pre_norm=1 embedding_norm=0 final_norm=1 causal=1 gated=1 num_kv_heads=1 head_dim=6 query_key_norm=1 attention_bias=0 "
     "output_bias=0 mlp_bias=0",
     false,
     false,
     false},
    {"t5 encoder",
     {"norm", "rms", "position", "relative", "activation", "relu", NULL},
     "pre_norm=1 embedding_norm=0 final_norm=1 attention_bias=0 output_bias=0 mlp_bias=0 attention_scale=1 relative_buckets=8 "
     "relative_max_distance=6",
     false,
     false,
     false},
    {"t5 decoder",
     {"norm", "rms", "position", "relative", "activation", "gelu_tanh", NULL},
     "pre_norm=1 embedding_norm=0 final_norm=1 attention_bias=0 output_bias=0 mlp_bias=0 attention_scale=1 gated=1 causal=1 "
     "cross_attention=1 relative_bidirectional=0 relative_buckets=8 relative_max_distance=6 mlp_dropout=0.2",
     false,
     false,
     true},
};
enum { KINDS = (int)(sizeof kinds / sizeof *kinds), HIDDEN = 8, VOCABULARY = 11, TOKENS = 9, SEQUENCES = 3, MEMORY = 7 };

static const int32_t ids[TOKENS] = {1, 5, 3, 10, 2, 2, 7, 0, 4};
static const int32_t types[TOKENS] = {0, 1, 1, 0, 0, 1, 0, 0, 1};
static const int64_t splits[SEQUENCES + 1] = {0, 4, 5, 9};
static const int64_t memory_splits[SEQUENCES + 1] = {0, 2, 4, 7};
static const int32_t first_rows[SEQUENCES] = {0, 4, 5};
static const int64_t labels[TOKENS] = {2, 0, 1, 1, 0, 2, 0, 1, -100};

static gv_status make_model(gv_model **out, const kind *k, const gv_allocator *allocator, gv_error *error) {
    gv_config *config = NULL;
    char text[512], *save = NULL;
    *out = NULL;
    gv_status status = gv_config_create(&config, allocator, error);
    if (status != GV_OK) return status;
    (void)snprintf(text, sizeof text,
                   "vocab_size=%d hidden_size=%d num_layers=2 num_heads=2 intermediate_size=10 max_positions=16 %s",
                   (int)VOCABULARY, (int)HIDDEN, k->numbers);
    for (char *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        char *equals = strchr(word, '=');
        *equals = '\0';
        CHECK(gv_config_set_number(config, word, atof(equals + 1), error) == GV_OK);
    }
    for (int i = 0; k->words[i] != NULL; i += 2)
        CHECK(gv_config_set_word(config, k->words[i], k->words[i + 1], error) == GV_OK);
    status = gv_model_create(out, config, allocator, error);
    gv_config_free(config);
    return status;
}

static float random_value(uint32_t index, uint32_t stream) {
    uint32_t out[4];
    const uint32_t counter[4] = {index, 0, 0, stream}, key[2] = {7, 11};
    gv_philox(out, counter, key);
    return (float)((double)out[0] / 4294967296.0 - 0.5);
}

static gv_status fill_model(gv_model *model, gv_error *error) {
    int64_t size;
    gv_status status = gv_model_make_trainable(model, error);
    if (status != GV_OK) return status;
    float *flat = gv_model_flat(model, &size);
    for (int64_t i = 0; i < size; i++) flat[i] = random_value((uint32_t)i, 1) * 1.2f;
    return GV_OK;
}

static float memory_values[MEMORY * HIDDEN], probe[TOKENS * HIDDEN], probe_middle[TOKENS * HIDDEN];
static float probe_projection[TOKENS * 4 * HIDDEN]; /* as much as any kind's queries, keys or values */

static gv_forward_args arguments(const kind *k) {
    gv_forward_args args = {
        .tokens = TOKENS, .sequences = SEQUENCES, .input_ids = ids, .row_splits = splits, .token_type_ids = types};
    for (int i = 0; i < MEMORY * HIDDEN; i++) memory_values[i] = random_value((uint32_t)i, 2);
    for (int i = 0; i < TOKENS * HIDDEN; i++) {
        probe[i] = random_value((uint32_t)i, 3);
        probe_middle[i] = random_value((uint32_t)i, 4);
    }
    for (int i = 0; i < TOKENS * 4 * HIDDEN; i++) probe_projection[i] = random_value((uint32_t)i, 5);
    if (k->labels) args.labels = labels;
    if (k->rows) {
        args.rows = first_rows;
        args.row_count = SEQUENCES;
    }
    if (k->memory) {
        args.memory = memory_values;
        args.memory_splits = memory_splits;
    }
    args.training = true;
    args.save = true;
    args.hidden_states = true;
    args.seed = 3;
    args.step = 5;
    return args;
}

/* The scalar that is differentiated: the loss, plus random projections of the last and a middle hidden state, and of what
 * attention compares and mixes. */
static double objective(gv_pass *pass) {
    double total = 0;
    if (!gv_pass_loss(&total, pass)) total = 0;
    gv_view last = gv_pass_hidden(pass, 2), middle = gv_pass_hidden(pass, 1);
    for (int64_t i = 0; i < last.shape[0] * last.shape[1]; i++) total += (double)last.data[i] * (double)probe[i];
    for (int64_t i = 0; i < middle.shape[0] * middle.shape[1]; i++) total += (double)middle.data[i] * (double)probe_middle[i];
    for (int64_t layer = 0; layer < 2; layer++) {
        for (int which = GV_QUERY; which <= GV_VALUE; which++) {
            gv_view view = gv_pass_projection(pass, layer, (gv_projection)which);
            CHECK(view.data != NULL && view.shape[0] * view.shape[1] <= TOKENS * 4 * HIDDEN);
            for (int64_t i = 0; i < view.shape[0] * view.shape[1]; i++)
                total += (double)view.data[i] * (double)probe_projection[i];
        }
    }
    return total;
}

static gv_status run(double *value, gv_model *model, const kind *k, float *dmemory, gv_error *error) {
    gv_pass *pass = NULL;
    gv_forward_args args = arguments(k);
    gv_status status = gv_model_forward(&pass, model, &args, error);
    if (status != GV_OK) return status;
    *value = objective(pass);
    if (dmemory != NULL || !k->memory) {
        const float *hidden[3] = {NULL, probe_middle, probe};
        const float *projection[6];
        for (int i = 0; i < 6; i++) projection[i] = probe_projection;
        gv_backward_args back = {
            .has_scale = k->labels, .scale = 1, .hidden = hidden, .projection = projection, .memory = dmemory};
        status = gv_pass_backward(pass, &back, error);
        CHECK(gv_pass_projection(pass, 0, GV_QUERY).data == NULL);
    }
    gv_pass_free(pass);
    return status;
}

static double value_only(gv_model *model, const kind *k) {
    gv_pass *pass = NULL;
    gv_error error = {0};
    gv_forward_args args = arguments(k);
    CHECK(gv_model_forward(&pass, model, &args, &error) == GV_OK);
    double value = pass != NULL ? objective(pass) : 0;
    gv_pass_free(pass);
    return value;
}

static double difference(gv_model *model, const kind *k, float *weight, float h) {
    float old = *weight;
    *weight = old + h;
    double up = value_only(model, k), upper = (double)*weight;
    *weight = old - h;
    double down = value_only(model, k), lower = (double)*weight;
    *weight = old;
    return (up - down) / (upper - lower);
}

static void test_gradients(const kind *k) {
    gv_model *model = NULL;
    gv_error error = {0};
    float dmemory[MEMORY * HIDDEN];
    double value = 0;
    CHECK(make_model(&model, k, NULL, &error) == GV_OK);
    if (model == NULL) {
        (void)fprintf(stderr, "%s: %s\n", k->name, error.text);
        return;
    }
    CHECK(fill_model(model, &error) == GV_OK);
    CHECK(run(&value, model, k, k->memory ? dmemory : NULL, &error) == GV_OK);
    if (error.text[0] != '\0') (void)fprintf(stderr, "%s: %s\n", k->name, error.text);
    int64_t size, checked = 0;
    float *flat = gv_model_flat(model, &size);
    const float h = 4e-3f;
    for (int64_t p = 0; p < gv_model_parameter_count(model); p++) {
        gv_parameter_info info;
        gv_model_parameter(&info, model, p);
        const float *grad = gv_model_gradient(model, p);
        for (int64_t i = 0; i < info.size; i += 1 + info.size / 13) {
            double given = grad != NULL ? (double)grad[i] : 0, numeric = difference(model, k, flat + info.offset + i, h);
            bool agrees = fabs(numeric - given) <= 2e-2 * (1 + fabs(numeric));
            if (!agrees) { /* a kink of ReLU within the step: a step that does not cross it must agree */
                numeric = difference(model, k, flat + info.offset + i, h / 16);
                agrees = fabs(numeric - given) <= 2e-2 * (1 + fabs(numeric));
            }
            if (!agrees) {
                (void)fprintf(stderr, "%s: %s[%lld]: finite difference %g, backward %g\n", k->name, info.name, (long long)i,
                              numeric, given);
                failures++;
            }
            checked++;
        }
    }
    CHECK(checked > 100);
    for (int i = 0; k->memory && i < MEMORY * HIDDEN; i += 5) {
        /* arguments() fills the memory anew: differentiate through a copy of the call */
        gv_pass *pass = NULL;
        gv_forward_args args = arguments(k);
        float old = memory_values[i];
        memory_values[i] = old + h;
        CHECK(gv_model_forward(&pass, model, &args, &error) == GV_OK);
        double up = objective(pass);
        gv_pass_free(pass);
        memory_values[i] = old - h;
        CHECK(gv_model_forward(&pass, model, &args, &error) == GV_OK);
        double down = objective(pass);
        gv_pass_free(pass);
        CHECK(fabs((up - down) / (2 * (double)h) - (double)dmemory[i]) < 2e-2 * (1 + fabs((double)dmemory[i])));
    }
    gv_model_free(model);
}

static void test_same_bits(const kind *k) {
    gv_error error = {0};
    float *reference = NULL;
    for (int threads = 1; threads <= 5; threads += 2) {
        gv_model *model = NULL;
        double value;
        int64_t size;
        float dmemory[MEMORY * HIDDEN];
        CHECK(gv_set_num_threads(threads, &error) == GV_OK);
        CHECK(make_model(&model, k, NULL, &error) == GV_OK);
        CHECK(fill_model(model, &error) == GV_OK);
        CHECK(run(&value, model, k, k->memory ? dmemory : NULL, &error) == GV_OK);
        float *gradient = gv_model_flat_gradient(model, &size);
        if (reference == NULL) {
            reference = malloc((size_t)size * sizeof *reference);
            memcpy(reference, gradient, (size_t)size * sizeof *reference);
        }
        CHECK(memcmp(reference, gradient, (size_t)size * sizeof *reference) == 0);
        gv_model_free(model);
    }
    free(reference);
    CHECK(gv_set_num_threads(2, &error) == GV_OK);
}

static void test_alone_or_in_a_batch(const kind *k) {
    gv_model *model = NULL;
    gv_error error = {0};
    gv_pass *together = NULL, *alone = NULL;
    if (k->memory || k->rows) return;
    CHECK(make_model(&model, k, NULL, &error) == GV_OK);
    CHECK(fill_model(model, &error) == GV_OK);
    gv_forward_args args = arguments(k);
    args.labels = NULL;
    CHECK(gv_model_forward(&together, model, &args, &error) == GV_OK);
    for (int b = 0; b < SEQUENCES; b++) {
        const int64_t own[2] = {0, splits[b + 1] - splits[b]};
        const uint32_t sample[1] = {(uint32_t)b};
        gv_forward_args one = args;
        one.tokens = own[1];
        one.sequences = 1;
        one.input_ids = ids + splits[b];
        one.token_type_ids = types + splits[b];
        one.row_splits = own;
        one.samples = sample;
        CHECK(gv_model_forward(&alone, model, &one, &error) == GV_OK);
        gv_view a = gv_pass_hidden(alone, 2), t = gv_pass_hidden(together, 2);
        for (int64_t i = 0; i < a.shape[0] * a.shape[1]; i++) CHECK(fabsf(a.data[i] - t.data[splits[b] * HIDDEN + i]) < 1e-5f);
        gv_pass_free(alone);
    }
    gv_pass_free(together);
    gv_model_free(model);
}

/* Everything that can run out of memory, run until nothing fails any more. */
static gv_status whole_life(const kind *k, const gv_allocator *allocator, gv_error *error) {
    gv_model *model = NULL;
    gv_moments *moments = NULL;
    double value;
    float dmemory[MEMORY * HIDDEN];
    gv_status status = make_model(&model, k, allocator, error);
    if (status == GV_OK) status = fill_model(model, error);
    if (status == GV_OK) status = gv_moments_create(&moments, model, error);
    if (status == GV_OK) status = run(&value, model, k, k->memory ? dmemory : NULL, error);
    if (status == GV_OK) {
        const gv_adamw_group group = {1e-3, 0.9, 0.999, 1e-8, 0.01};
        int64_t every[256];
        for (int64_t i = 0; i < gv_model_parameter_count(model); i++) every[i] = i;
        double norm;
        status = gv_model_grad_norm(&norm, model, every, gv_model_parameter_count(model), error);
        if (status == GV_OK) status = gv_moments_adamw(moments, every, gv_model_parameter_count(model), &group, error);
    }
    gv_moments_free(moments);
    gv_model_free(model);
    return status;
}

/* ---- adapters ------------------------------------------------------------------------------------------------------- */

enum { ADAPTERS = 2 };
static const int32_t which_adapter[SEQUENCES] = {1, -1, 0};

/* Two beside every matrix of the layers, of rank 2 and 3, random; the model itself is frozen. */
static gv_status make_adapters(gv_model *out[ADAPTERS], gv_model *model, gv_error *error) {
    int64_t targets[64], count = 0;
    gv_status status = GV_OK;
    for (int64_t i = 0; i < gv_model_parameter_count(model); i++) {
        gv_parameter_info info;
        gv_model_parameter(&info, model, i);
        gv_model_set_requires_grad(model, i, false);
        if (strncmp(info.name, "layers.", 7) == 0 && info.dimensions == 2) targets[count++] = i;
    }
    for (int a = 0; a < ADAPTERS && status == GV_OK; a++) {
        const gv_adapter_options options = {
            .targets = targets, .target_count = count, .rank = 2 + a, .scale = 0.7, .dropout = 0.25};
        int64_t size;
        status = gv_adapter_create(&out[a], model, &options, error);
        if (status == GV_OK) status = gv_model_make_trainable(out[a], error);
        if (status != GV_OK) break;
        float *flat = gv_model_flat(out[a], &size);
        for (int64_t i = 0; i < size; i++) flat[i] = random_value((uint32_t)i, (uint32_t)(6 + a));
    }
    return status;
}

static double adapted_objective(gv_pass *pass) {
    double total = 0;
    if (!gv_pass_loss(&total, pass)) total = 0;
    gv_view last = gv_pass_hidden(pass, 2), middle = gv_pass_hidden(pass, 1);
    for (int64_t i = 0; i < last.shape[0] * last.shape[1]; i++) total += (double)last.data[i] * (double)probe[i];
    for (int64_t i = 0; i < middle.shape[0] * middle.shape[1]; i++) total += (double)middle.data[i] * (double)probe_middle[i];
    return total;
}

/* A forward of which each sequence goes its own way; with `dmemory` or without memory, its backward too. */
static gv_status run_adapted(double *value, gv_model *model, gv_model *const adapters[ADAPTERS], const kind *k, bool checkpoint,
                             float *dmemory, gv_error *error) {
    gv_pass *pass = NULL;
    gv_forward_args args = arguments(k);
    args.adapters = (gv_adapter_choice){adapters, ADAPTERS, which_adapter};
    args.checkpoint = checkpoint;
    gv_status status = gv_model_forward(&pass, model, &args, error);
    if (status != GV_OK) return status;
    *value = adapted_objective(pass);
    if (dmemory != NULL) {
        const float *hidden[3] = {NULL, probe_middle, probe};
        gv_backward_args back = {.has_scale = k->labels, .scale = 1, .hidden = hidden, .memory = k->memory ? dmemory : NULL};
        status = gv_pass_backward(pass, &back, error);
    }
    gv_pass_free(pass);
    return status;
}

static void test_adapters(const kind *k) {
    gv_model *model = NULL, *adapters[ADAPTERS] = {NULL, NULL};
    gv_error error = {0};
    float dmemory[MEMORY * HIDDEN], again[MEMORY * HIDDEN], *kept[ADAPTERS];
    double value = 0, same = 0;
    CHECK(make_model(&model, k, NULL, &error) == GV_OK);
    CHECK(fill_model(model, &error) == GV_OK);
    CHECK(make_adapters(adapters, model, &error) == GV_OK);
    CHECK(run_adapted(&value, model, adapters, k, false, dmemory, &error) == GV_OK);
    if (error.text[0] != '\0') (void)fprintf(stderr, "%s: %s\n", k->name, error.text);
    for (int64_t p = 0; p < gv_model_parameter_count(model); p++) CHECK(gv_model_gradient(model, p) == NULL);
    const float h = 4e-3f;
    for (int a = 0; a < ADAPTERS; a++) {
        int64_t size;
        float *flat = gv_model_flat(adapters[a], &size);
        for (int64_t p = 0; p < gv_model_parameter_count(adapters[a]); p++) {
            gv_parameter_info info;
            gv_model_parameter(&info, adapters[a], p);
            const float *grad = gv_model_gradient(adapters[a], p);
            CHECK(grad != NULL);
            for (int64_t i = 0; grad != NULL && i < info.size; i += 1 + info.size / 3) {
                float *weight = flat + info.offset + i, old = *weight;
                bool agrees = false;
                for (float step = h; step >= h / 16 && !agrees; step /= 16) { /* a kink of ReLU: a smaller one */
                    double up = 0, down = 0;
                    *weight = old + step;
                    CHECK(run_adapted(&up, model, adapters, k, false, NULL, &error) == GV_OK);
                    *weight = old - step;
                    CHECK(run_adapted(&down, model, adapters, k, false, NULL, &error) == GV_OK);
                    *weight = old;
                    double numeric = (up - down) / (2 * (double)step);
                    agrees = fabs(numeric - (double)grad[i]) <= 2e-2 * (1 + fabs(numeric));
                    if (!agrees && step < h) {
                        (void)fprintf(stderr, "%s: adapter %d, %s[%lld]: finite difference %g, backward %g\n", k->name, a,
                                      info.name, (long long)i, numeric, (double)grad[i]);
                        failures++;
                    }
                }
            }
        }
        float *gradient = gv_model_flat_gradient(adapters[a], &size);
        kept[a] = malloc((size_t)size * sizeof *kept[a]);
        memcpy(kept[a], gradient, (size_t)size * sizeof *kept[a]);
    }
    for (int threads = 1; threads <= 5; threads += 2) { /* the same bits, with checkpointing too */
        CHECK(gv_set_num_threads(threads, &error) == GV_OK);
        for (int a = 0; a < ADAPTERS; a++) gv_model_zero_grad(adapters[a]);
        CHECK(run_adapted(&same, model, adapters, k, threads != 3, again, &error) == GV_OK);
        CHECK(memcmp(&same, &value, sizeof value) == 0);
        if (k->memory) CHECK(memcmp(again, dmemory, sizeof again) == 0);
        for (int a = 0; a < ADAPTERS; a++) {
            int64_t size;
            const float *gradient = gv_model_flat_gradient(adapters[a], &size);
            CHECK(memcmp(gradient, kept[a], (size_t)size * sizeof *gradient) == 0);
        }
    }
    CHECK(gv_set_num_threads(2, &error) == GV_OK);
    for (int a = 0; a < ADAPTERS; a++) {
        free(kept[a]);
        gv_model_free(adapters[a]);
    }
    gv_model_free(model);
}

static gv_status adapted_life(const kind *k, const gv_allocator *allocator, gv_error *error) {
    gv_model *model = NULL, *adapters[ADAPTERS] = {NULL, NULL};
    gv_moments *moments = NULL;
    double value;
    float dmemory[MEMORY * HIDDEN];
    gv_status status = make_model(&model, k, allocator, error);
    if (status == GV_OK) status = fill_model(model, error);
    if (status == GV_OK) status = make_adapters(adapters, model, error);
    if (status == GV_OK) status = run_adapted(&value, model, adapters, k, true, dmemory, error);
    if (status == GV_OK) status = gv_moments_create(&moments, adapters[0], error);
    gv_moments_free(moments);
    for (int a = 0; a < ADAPTERS; a++) gv_model_free(adapters[a]);
    gv_model_free(model);
    return status;
}

static void test_allocation_failures(const kind *k, gv_status (*life)(const kind *, const gv_allocator *, gv_error *)) {
    for (long n = 1; n < 1000; n++) {
        counter c = {.fail_at = n};
        const gv_allocator allocator = {counter_alloc, counter_release, &c};
        gv_error error = {0};
        gv_status status = life(k, &allocator, &error);
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
    gv_model *model = NULL;
    gv_error error = {0};
    gv_pass *pass = NULL;
    CHECK(make_model(&model, &kinds[0], NULL, &error) == GV_OK);
    gv_forward_args args = arguments(&kinds[0]);
    CHECK(gv_model_forward(&pass, model, &args, &error) == GV_ERR_STATE && strstr(error.text, "no value") != NULL);
    CHECK(fill_model(model, &error) == GV_OK);
    int32_t bad_ids[TOKENS];
    memcpy(bad_ids, ids, sizeof ids);
    bad_ids[3] = VOCABULARY;
    args.input_ids = bad_ids;
    CHECK(gv_model_forward(&pass, model, &args, &error) == GV_ERR_INDEX && strstr(error.text, "input_ids[3]") != NULL);
    args = arguments(&kinds[0]);
    int64_t bad_labels[SEQUENCES] = {0, 3, 0};
    args.labels = bad_labels;
    CHECK(gv_model_forward(&pass, model, &args, &error) == GV_ERR_INDEX && strstr(error.text, "labels[1]") != NULL);
    args = arguments(&kinds[0]);
    CHECK(gv_model_forward(&pass, model, &args, &error) == GV_OK);
    gv_backward_args back = {.has_scale = true, .scale = 1};
    CHECK(gv_pass_backward(pass, &back, &error) == GV_OK);
    CHECK(gv_pass_backward(pass, &back, &error) == GV_ERR_STATE);
    gv_pass_free(pass);
    gv_model_free(model);
}

static void test_nothing(void) {
    for (int i = 0; i < KINDS; i++) {
        gv_model *model = NULL;
        gv_pass *pass = NULL;
        gv_error error = {0};
        const int64_t none[1] = {0}, empty[2] = {0, 0};
        CHECK(make_model(&model, &kinds[i], NULL, &error) == GV_OK);
        CHECK(fill_model(model, &error) == GV_OK);
        gv_forward_args args = {.input_ids = ids, .row_splits = none, .save = true};
        if (kinds[i].memory) args.memory = memory_values, args.memory_splits = none;
        CHECK(gv_model_forward(&pass, model, &args, &error) == GV_OK); /* no sequences */
        gv_pass_free(pass);
        args.sequences = 1;
        args.row_splits = empty;
        if (kinds[i].memory) args.memory_splits = empty;
        CHECK(gv_model_forward(&pass, model, &args, &error) == GV_OK); /* one empty sequence */
        gv_pass_free(pass);
        gv_model_free(model);
    }
}

int main(void) {
    for (int i = 0; i < KINDS; i++) {
        test_gradients(&kinds[i]);
        test_same_bits(&kinds[i]);
        test_alone_or_in_a_batch(&kinds[i]);
        test_allocation_failures(&kinds[i], whole_life);
        test_adapters(&kinds[i]);
        test_allocation_failures(&kinds[i], adapted_life);
    }
    test_refusals();
    test_nothing();
    (void)printf("test_model: %d failures\n", failures);
    return failures != 0;
}
