/* cache.h - pages of keys and values, and a step over them; shared by cache.c, decode.c, pass.c and transformer.c. */
#ifndef GV_MODEL_CACHE_H
#define GV_MODEL_CACHE_H

#include <pthread.h>

#include "govlm_generate.h"
#include "model/pass.h"

/* A list of pages with room for more. A page is page_bytes of [layers][key, value][kv heads]; its count of holders lies in front
 * of it. */
typedef struct {
    char **pages;
    int64_t count, capacity;
} gv_page_list;

typedef struct {
    bool open;
    int64_t length;        /* tokens */
    int64_t memory_length; /* -1 = nothing remembered */
    gv_page_list self, memory;
} gv_cache_sequence;

struct gv_cache {
    gv_model *model;
    const gv_allocator *allocator;
    uint64_t version; /* of the weights that made what it holds */
    bool bits8;
    int64_t most, used, page_bytes, head_bytes;
    gv_cache_sequence *sequences;
    int64_t sequence_capacity, open;
    gv_page_list free;
    pthread_mutex_t lock; /* taken after the model's `weights` */
};

/* Under the cache's lock. */
gv_status gv_cache_fresh(gv_cache *cache, gv_error *error); /* refuses keys and values of weights that have changed */
gv_status gv_cache_find(gv_cache_sequence **out, const gv_cache *cache, int64_t sequence, gv_error *error);
/* Room behind the tokens of each sequence for its new ones, none of it shared. Nothing changes when it fails. */
gv_status gv_cache_reserve(gv_cache *cache, const int64_t *sequences, const int64_t *splits, int64_t count, gv_error *error);
gv_status gv_cache_reserve_memory(gv_cache *cache, gv_cache_sequence *sequence, int64_t rows, gv_error *error);
void gv_cache_forget_memory(gv_cache *cache, gv_cache_sequence *sequence);

/* Bytes from the start of a page to the keys (value: values) of a layer's kv head. */
static inline int64_t gv_page_offset(const gv_cache *cache, int64_t layer, bool value, int64_t head) {
    return ((layer * 2 + (value ? 1 : 0)) * cache->model->config.num_kv_heads + head) * cache->head_bytes;
}

/* decode.c: what gv_attention_forward is without a cache. Writes the new keys and values of `s` into the pages first, unless
 * `cross`. */
int64_t gv_decode_scratch(const gv_pass *pass);
gv_status gv_decode_attend(gv_pass *pass, int64_t layer, const gv_attention_state *s, const gv_row_set *rows, bool cross,
                           float *scratch);

#endif
