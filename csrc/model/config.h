/* config.h - what a stack of blocks looks like: orthogonal fields, no families. */
#ifndef GV_MODEL_CONFIG_H
#define GV_MODEL_CONFIG_H

#include "kernels/kernels.h"

typedef enum { GV_NORM_LAYER = 0, GV_NORM_RMS } gv_norm_kind;
typedef enum { GV_POSITION_LEARNED = 0, GV_POSITION_ROTARY, GV_POSITION_RELATIVE, GV_POSITION_NONE } gv_position_kind;
typedef enum { GV_HEAD_NONE = 0, GV_HEAD_SEQUENCE, GV_HEAD_TOKEN, GV_HEAD_MLM, GV_HEAD_LM } gv_head_kind;

struct gv_config {
    const gv_allocator *allocator;
    int64_t vocab_size, hidden_size, num_layers, num_heads, num_kv_heads, head_dim, intermediate_size, embedding_size;
    int64_t max_positions, type_vocab_size, num_labels, padding_id, position_padding_id;
    int64_t norm, position, activation, head_activation, head; /* the enums above */
    double norm_eps, head_norm_eps, rope_theta, rope_factor, rope_low, rope_high, rope_original;
    double attention_scale, embedding_scale, logit_scale;
    bool pre_norm, embedding_norm, final_norm, norm_bias;
    int64_t relative_buckets, relative_max_distance;
    bool relative_bidirectional;
    bool causal, query_key_norm, cross_attention;
    bool attention_bias, output_bias, mlp_bias, gated;
    bool fused_qkv, conv1d, shared_layers;
    double hidden_dropout, embedding_dropout, down_dropout, attention_dropout, mlp_dropout, classifier_dropout, pooler_dropout,
        final_dropout;
    bool pooler, tied_decoder;
};

/* Fills what follows from other fields (head_dim, num_kv_heads, …) and refuses what cannot be. */
gv_status gv_config_finish(gv_config *config, gv_error *error);

/* How far a position turns the pair i of a head, 0 <= i < head_dim / 2. rope_factor divides it (1 = as trained); when
 * rope_original is not 0, only where the turns in that many positions are fewer than rope_high, and wholly below rope_low (Llama
 * 3.1's). */
float gv_rotary_inverse(const gv_config *config, int64_t i);

/* Whether the head's logits are over the vocabulary: of a masked or of a causal language model. */
static inline bool gv_speaks(const gv_config *config) {
    return config->head == GV_HEAD_MLM || config->head == GV_HEAD_LM;
}

#endif
