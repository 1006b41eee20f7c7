/* config.c - a configuration by name: one table of fields, their kinds and defaults. */
#include "model/config.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

typedef enum { GV_FIELD_SIZE, GV_FIELD_SWITCH, GV_FIELD_REAL, GV_FIELD_WORD } gv_field_kind;

typedef struct {
    const char *name;
    gv_field_kind kind;
    size_t offset;
    double initial;           /* -1 in a size = follows from other fields */
    const char *const *words; /* NULL-terminated; the value is the index */
} gv_field;

static const char *const gv_norm_words[] = {"layer", "rms", NULL};
static const char *const gv_position_words[] = {"learned", "rotary", "relative", "none", NULL};
static const char *const gv_head_words[] = {"none", "sequence", "token", "mlm", "lm", NULL};
/* In the order of gv_activation. */
static const char *const gv_activation_words[] = {"none", "gelu", "gelu_tanh", "relu", "silu", "tanh", NULL};

#define GV_SIZE(field, initial) \
    { #field, GV_FIELD_SIZE, offsetof(struct gv_config, field), initial, NULL }
#define GV_SWITCH(field, initial) \
    { #field, GV_FIELD_SWITCH, offsetof(struct gv_config, field), initial, NULL }
#define GV_REAL(field, initial) \
    { #field, GV_FIELD_REAL, offsetof(struct gv_config, field), initial, NULL }
#define GV_WORD(field, initial, words) \
    { #field, GV_FIELD_WORD, offsetof(struct gv_config, field), initial, words }

static const gv_field gv_fields[] = {
    GV_SIZE(vocab_size, 0),
    GV_SIZE(hidden_size, 0),
    GV_SIZE(num_layers, 0),
    GV_SIZE(num_heads, 0),
    GV_SIZE(num_kv_heads, -1),
    GV_SIZE(head_dim, -1),
    GV_SIZE(intermediate_size, 0),
    GV_SIZE(embedding_size, -1),
    GV_SIZE(max_positions, 0),
    GV_SIZE(type_vocab_size, 0),
    GV_SIZE(num_labels, 0),
    GV_SIZE(padding_id, -1),
    GV_SIZE(position_padding_id, -1),
    GV_WORD(norm, GV_NORM_LAYER, gv_norm_words),
    GV_WORD(position, GV_POSITION_LEARNED, gv_position_words),
    GV_WORD(activation, GV_ACT_GELU_ERF, gv_activation_words),
    GV_WORD(head_activation, GV_ACT_GELU_ERF, gv_activation_words),
    GV_WORD(head, GV_HEAD_NONE, gv_head_words),
    GV_REAL(norm_eps, 1e-12),
    GV_REAL(head_norm_eps, -1),
    GV_REAL(rope_theta, 10000.0),
    GV_REAL(rope_factor, 1),
    GV_REAL(rope_low, 0),
    GV_REAL(rope_high, 0),
    GV_REAL(rope_original, 0),
    GV_REAL(attention_scale, -1),
    GV_REAL(embedding_scale, 1),
    GV_REAL(logit_scale, 1),
    GV_SWITCH(pre_norm, 0),
    GV_SWITCH(embedding_norm, 1),
    GV_SWITCH(final_norm, 0),
    GV_SWITCH(norm_bias, 1),
    GV_SIZE(relative_buckets, 32),
    GV_SIZE(relative_max_distance, 128),
    GV_SWITCH(relative_bidirectional, 1),
    GV_SWITCH(causal, 0),
    GV_SWITCH(query_key_norm, 0),
    GV_SWITCH(cross_attention, 0),
    GV_SWITCH(attention_bias, 1),
    GV_SWITCH(output_bias, 1),
    GV_SWITCH(mlp_bias, 1),
    GV_SWITCH(gated, 0),
    GV_SWITCH(fused_qkv, 0),
    GV_SWITCH(conv1d, 0),
    GV_SWITCH(shared_layers, 0),
    GV_REAL(hidden_dropout, 0),
    GV_REAL(attention_dropout, 0),
    GV_REAL(mlp_dropout, 0),
    GV_REAL(embedding_dropout, -1),
    GV_REAL(down_dropout, -1),
    GV_REAL(classifier_dropout, 0),
    GV_REAL(pooler_dropout, 0),
    GV_REAL(final_dropout, 0),
    GV_SWITCH(pooler, 0),
    GV_SWITCH(tied_decoder, 1),
};
enum { GV_FIELD_COUNT = (int)(sizeof gv_fields / sizeof gv_fields[0]) };

static const gv_field *gv_find_field(const char *name) {
    for (int i = 0; i < GV_FIELD_COUNT; i++) {
        if (strcmp(gv_fields[i].name, name) == 0) return &gv_fields[i];
    }
    return NULL;
}

static void gv_store(gv_config *config, const gv_field *field, double value) {
    char *target = (char *)config + field->offset;
    switch (field->kind) {
        case GV_FIELD_SIZE:
        case GV_FIELD_WORD:
            *(int64_t *)(void *)target = (int64_t)value;
            break;
        case GV_FIELD_SWITCH:
            *(bool *)target = value != 0;
            break;
        case GV_FIELD_REAL:
            *(double *)(void *)target = value;
            break;
    }
}

gv_status gv_config_create(gv_config **out, const gv_allocator *allocator, gv_error *error) {
    gv_config *config = gv_alloc_zero(allocator, sizeof *config);
    *out = config;
    if (config == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a configuration");
    config->allocator = allocator;
    for (int i = 0; i < GV_FIELD_COUNT; i++) gv_store(config, &gv_fields[i], gv_fields[i].initial);
    return GV_OK;
}

void gv_config_free(gv_config *config) {
    if (config != NULL) gv_release(config->allocator, config, sizeof *config);
}

gv_status gv_config_set_number(gv_config *config, const char *name, double value, gv_error *error) {
    const gv_field *field = gv_find_field(name);
    if (field == NULL) return gv_fail(error, GV_ERR_VALUE, "model configuration: unknown field %.60s", name);
    if (field->kind == GV_FIELD_WORD)
        return gv_fail(error, GV_ERR_TYPE, "model configuration: %s wants a word, got a number", name);
    if (!isfinite(value)) return gv_fail(error, GV_ERR_VALUE, "model configuration: %s is not finite", name);
    if (field->kind == GV_FIELD_SIZE && (value != floor(value) || value < -1 || value > 1e12)) {
        return gv_fail(error, GV_ERR_VALUE, "model configuration: %s must be a whole number, got %g", name, value);
    }
    if (field->kind == GV_FIELD_SWITCH && value != 0 && value != 1) {
        return gv_fail(error, GV_ERR_VALUE, "model configuration: %s must be true or false, got %g", name, value);
    }
    gv_store(config, field, value);
    return GV_OK;
}

gv_status gv_config_set_word(gv_config *config, const char *name, const char *value, gv_error *error) {
    const gv_field *field = gv_find_field(name);
    if (field == NULL) return gv_fail(error, GV_ERR_VALUE, "model configuration: unknown field %.60s", name);
    if (field->kind != GV_FIELD_WORD)
        return gv_fail(error, GV_ERR_TYPE, "model configuration: %s wants a number, got \"%.60s\"", name, value);
    for (int i = 0; field->words[i] != NULL; i++) {
        if (strcmp(field->words[i], value) == 0) {
            gv_store(config, field, i);
            return GV_OK;
        }
    }
    return gv_fail(error, GV_ERR_VALUE, "model configuration: %s does not know \"%.60s\"", name, value);
}

static gv_status gv_need_positive(const char *name, int64_t value, gv_error *error) {
    if (value >= 1) return GV_OK;
    return gv_fail(error, GV_ERR_VALUE, "model configuration: %s must be at least 1, got %lld", name, (long long)value);
}

/* In float32, as the reference. */
float gv_rotary_inverse(const gv_config *config, int64_t i) {
    float inverse = (float)(1.0 / pow(config->rope_theta, (double)(2 * i) / (double)config->head_dim));
    float scaled = inverse / (float)config->rope_factor;
    if (config->rope_original <= 0) return scaled;
    double turns = config->rope_original * (double)inverse / (2 * 3.14159265358979323846);
    if (turns < config->rope_low) return scaled;
    if (turns > config->rope_high) return inverse;
    double smooth = (turns - config->rope_low) / (config->rope_high - config->rope_low);
    return (float)((1 - smooth) * (double)scaled + smooth * (double)inverse);
}

gv_status gv_config_finish(gv_config *config, gv_error *error) {
    gv_status status = GV_OK;
    if ((status = gv_need_positive("vocab_size", config->vocab_size, error)) != GV_OK) return status;
    if ((status = gv_need_positive("hidden_size", config->hidden_size, error)) != GV_OK) return status;
    if ((status = gv_need_positive("num_heads", config->num_heads, error)) != GV_OK) return status;
    if ((status = gv_need_positive("intermediate_size", config->intermediate_size, error)) != GV_OK) return status;
    if (config->num_layers < 0) return gv_fail(error, GV_ERR_VALUE, "model configuration: num_layers is negative");
    if (config->num_kv_heads <= 0) config->num_kv_heads = config->num_heads;
    if (config->num_heads % config->num_kv_heads != 0) {
        return gv_fail(error, GV_ERR_VALUE, "model configuration: num_heads %lld is no multiple of num_kv_heads %lld",
                       (long long)config->num_heads, (long long)config->num_kv_heads);
    }
    if (config->head_dim <= 0) {
        if (config->hidden_size % config->num_heads != 0) {
            return gv_fail(error, GV_ERR_VALUE, "model configuration: hidden_size %lld is no multiple of num_heads %lld",
                           (long long)config->hidden_size, (long long)config->num_heads);
        }
        config->head_dim = config->hidden_size / config->num_heads;
    }
    if (config->position == GV_POSITION_ROTARY && config->head_dim % 2 != 0) {
        return gv_fail(error, GV_ERR_VALUE, "model configuration: rotary positions need an even head_dim, got %lld",
                       (long long)config->head_dim);
    }
    if (!(config->rope_factor > 0) || (config->rope_original > 0 && !(config->rope_low < config->rope_high))) {
        return gv_fail(error, GV_ERR_VALUE, "model configuration: rope_factor must be positive and rope_low below rope_high");
    }
    if (config->fused_qkv && config->num_kv_heads != config->num_heads) {
        return gv_fail(error, GV_ERR_VALUE, "model configuration: fused_qkv needs num_kv_heads = num_heads");
    }
    if (config->position == GV_POSITION_LEARNED) {
        if ((status = gv_need_positive("max_positions", config->max_positions, error)) != GV_OK) return status;
    }
    if (config->position == GV_POSITION_RELATIVE && (config->relative_buckets < 4 || config->relative_max_distance < 2)) {
        return gv_fail(error, GV_ERR_VALUE,
                       "model configuration: relative_buckets must be at least 4 and relative_max_distance 2");
    }
    if (config->embedding_size <= 0) config->embedding_size = config->hidden_size;
    if (config->head_norm_eps < 0) config->head_norm_eps = config->norm_eps;
    if (config->attention_scale < 0) config->attention_scale = 1.0 / sqrt((double)config->head_dim);
    if (config->head == GV_HEAD_SEQUENCE || config->head == GV_HEAD_TOKEN) {
        if ((status = gv_need_positive("num_labels", config->num_labels, error)) != GV_OK) return status;
    }
    if (config->head == GV_HEAD_LM && config->embedding_size != config->hidden_size) {
        return gv_fail(error, GV_ERR_VALUE, "model configuration: a language model's embedding_size must be its hidden_size");
    }
    if (config->norm == GV_NORM_RMS) config->norm_bias = false;
    if (config->embedding_dropout < 0) config->embedding_dropout = config->hidden_dropout;
    if (config->down_dropout < 0) config->down_dropout = config->hidden_dropout;
    const double rates[] = {config->hidden_dropout, config->embedding_dropout, config->attention_dropout,
                            config->mlp_dropout,    config->down_dropout,      config->classifier_dropout,
                            config->pooler_dropout, config->final_dropout};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        if (rates[i] < 0 || rates[i] >= 1) {
            return gv_fail(error, GV_ERR_VALUE, "model configuration: dropout rates must be in [0, 1), got %g", rates[i]);
        }
    }
    return GV_OK;
}
