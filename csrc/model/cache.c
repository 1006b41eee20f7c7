/* cache.c - pages of keys and values: who holds them, copies on writing, and what is given back. */
#include "model/cache.h"

#include <string.h>

#include "base/memory.h"
#include "base/try.h"

enum { GV_PAGE_HEAD = 64 }; /* bytes in front of a page, so that it stays aligned */

static int64_t *gv_holders(char *page) {
    return (int64_t *)(void *)(page - GV_PAGE_HEAD);
}

static gv_status gv_list_grow(gv_page_list *list, const gv_allocator *allocator, int64_t need, gv_error *error) {
    if (need <= list->capacity) return GV_OK;
    int64_t capacity = need > 2 * list->capacity ? need : 2 * list->capacity;
    char **grown = gv_alloc_array(allocator, (size_t)capacity, sizeof *grown);
    if (grown == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a cache's list of pages");
    if (list->count > 0) memcpy(grown, list->pages, (size_t)list->count * sizeof *grown);
    gv_release(allocator, list->pages, (size_t)list->capacity * sizeof *grown);
    list->pages = grown;
    list->capacity = capacity;
    return GV_OK;
}

static void gv_list_free(gv_page_list *list, const gv_allocator *allocator) {
    gv_release(allocator, list->pages, (size_t)list->capacity * sizeof *list->pages);
    *list = (gv_page_list){0};
}

/* Room in the list of free pages is made together with every page, so that giving one back never fails. */
static gv_status gv_page_take(char **out, gv_cache *cache, gv_error *error) {
    if (cache->most > 0 && cache->used >= cache->most) {
        return gv_fail(error, GV_ERR_MEMORY, "the cache is full: all of its %lld pages of %d tokens are in use",
                       (long long)cache->most, (int)GV_PAGE_ROWS);
    }
    if (cache->free.count > 0) {
        *out = cache->free.pages[--cache->free.count];
    } else {
        gv_status status = gv_list_grow(&cache->free, cache->allocator, cache->used + 1, error);
        if (status != GV_OK) return status;
        char *block = gv_alloc(cache->allocator, (size_t)(cache->page_bytes + GV_PAGE_HEAD));
        if (block == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a page of %d tokens", (int)GV_PAGE_ROWS);
        *out = block + GV_PAGE_HEAD;
    }
    *gv_holders(*out) = 1;
    cache->used++;
    return GV_OK;
}

static void gv_page_drop(gv_cache *cache, char *page) {
    if (--*gv_holders(page) > 0) return;
    cache->used--;
    cache->free.pages[cache->free.count++] = page;
}

/* Keeps the first `count` pages. */
static void gv_list_cut(gv_cache *cache, gv_page_list *list, int64_t count) {
    while (list->count > count) gv_page_drop(cache, list->pages[--list->count]);
}

static gv_status gv_list_share(gv_page_list *to, gv_cache *cache, const gv_page_list *from, int64_t count, gv_error *error) {
    gv_status status = gv_list_grow(to, cache->allocator, count, error);
    if (status != GV_OK) return status;
    for (int64_t i = 0; i < count; i++) {
        to->pages[i] = from->pages[i];
        ++*gv_holders(from->pages[i]);
    }
    to->count = count;
    return GV_OK;
}

/* Pages for `tokens`; those from `written` on are this list's own afterwards. */
static gv_status gv_list_reserve(gv_page_list *list, gv_cache *cache, int64_t tokens, int64_t written, gv_error *error) {
    gv_status status = GV_OK;
    int64_t need = (tokens + GV_PAGE_ROWS - 1) / GV_PAGE_ROWS;
    GV_TRY(gv_list_grow(list, cache->allocator, need, error));
    for (int64_t i = written / GV_PAGE_ROWS; i < list->count && i < need; i++) {
        char *old = list->pages[i];
        if (*gv_holders(old) == 1) continue;
        GV_TRY(gv_page_take(&list->pages[i], cache, error));
        memcpy(list->pages[i], old, (size_t)cache->page_bytes);
        gv_page_drop(cache, old);
    }
    while (list->count < need) {
        GV_TRY(gv_page_take(&list->pages[list->count], cache, error));
        list->count++;
    }
done:
    return status;
}

gv_status gv_cache_create(gv_cache **out, gv_model *model, const gv_cache_options *options, gv_error *error) {
    const gv_config *c = &model->config;
    *out = NULL;
    if (!c->causal)
        return gv_fail(error, GV_ERR_VALUE, "a cache needs a causal model: only there do old tokens not see new ones");
    if (options->pages < 0) return gv_fail(error, GV_ERR_VALUE, "a cache cannot hold %lld pages", (long long)options->pages);
    gv_cache *cache = gv_alloc_zero(model->allocator, sizeof *cache);
    if (cache == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a cache");
    cache->model = model;
    cache->allocator = model->allocator;
    cache->version = model->version;
    cache->bits8 = options->bits8;
    cache->most = options->pages;
    cache->head_bytes = gv_page_bytes(c->head_dim, options->bits8);
    cache->page_bytes = (c->num_layers * 2 * c->num_kv_heads * cache->head_bytes + 63) / 64 * 64;
    pthread_mutex_init(&cache->lock, NULL);
    *out = cache;
    return GV_OK;
}

void gv_cache_free(gv_cache *cache) {
    if (cache == NULL) return;
    for (int64_t i = 0; i < cache->sequence_capacity; i++) {
        gv_list_cut(cache, &cache->sequences[i].self, 0);
        gv_list_cut(cache, &cache->sequences[i].memory, 0);
        gv_list_free(&cache->sequences[i].self, cache->allocator);
        gv_list_free(&cache->sequences[i].memory, cache->allocator);
    }
    for (int64_t i = 0; i < cache->free.count; i++) {
        gv_release(cache->allocator, cache->free.pages[i] - GV_PAGE_HEAD, (size_t)(cache->page_bytes + GV_PAGE_HEAD));
    }
    gv_list_free(&cache->free, cache->allocator);
    gv_release(cache->allocator, cache->sequences, (size_t)cache->sequence_capacity * sizeof *cache->sequences);
    pthread_mutex_destroy(&cache->lock);
    gv_release(cache->allocator, cache, sizeof *cache);
}

gv_status gv_cache_find(gv_cache_sequence **out, const gv_cache *cache, int64_t sequence, gv_error *error) {
    *out = NULL;
    if (sequence < 0 || sequence >= cache->sequence_capacity || !cache->sequences[sequence].open) {
        return gv_fail(error, GV_ERR_INDEX, "the cache has no open sequence %lld", (long long)sequence);
    }
    *out = &cache->sequences[sequence];
    return GV_OK;
}

gv_status gv_cache_fresh(gv_cache *cache, gv_error *error) {
    if (cache->used == 0) cache->version = cache->model->version;
    if (cache->version == cache->model->version) return GV_OK;
    return gv_fail(error, GV_ERR_STATE, "the weights changed since the cache's keys and values were made: close its sequences");
}

/* A free place; its lists keep what room they had. */
static gv_status gv_cache_place(int64_t *out, gv_cache *cache, gv_error *error) {
    for (int64_t i = 0; i < cache->sequence_capacity; i++) {
        if (cache->sequences[i].open) continue;
        *out = i;
        return GV_OK;
    }
    int64_t old = cache->sequence_capacity, capacity = old == 0 ? 8 : 2 * old;
    gv_cache_sequence *grown = gv_alloc_array(cache->allocator, (size_t)capacity, sizeof *grown);
    if (grown == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a cache's sequences");
    if (old > 0) memcpy(grown, cache->sequences, (size_t)old * sizeof *grown);
    memset(grown + old, 0, (size_t)(capacity - old) * sizeof *grown);
    gv_release(cache->allocator, cache->sequences, (size_t)old * sizeof *grown);
    cache->sequences = grown;
    cache->sequence_capacity = capacity;
    *out = old;
    return GV_OK;
}

static void gv_cache_begin(gv_cache *cache, int64_t sequence) {
    gv_cache_sequence *s = &cache->sequences[sequence];
    s->open = true;
    s->length = 0;
    s->memory_length = -1;
    cache->open++;
}

static void gv_cache_end(gv_cache *cache, gv_cache_sequence *s) {
    gv_list_cut(cache, &s->self, 0);
    gv_list_cut(cache, &s->memory, 0);
    s->open = false;
    cache->open--;
}

gv_status gv_cache_open(int64_t *sequence, gv_cache *cache, gv_error *error) {
    pthread_mutex_lock(&cache->lock);
    gv_status status = gv_cache_place(sequence, cache, error);
    if (status == GV_OK) gv_cache_begin(cache, *sequence);
    pthread_mutex_unlock(&cache->lock);
    return status;
}

static gv_status gv_check_tokens(const gv_cache_sequence *s, int64_t tokens, gv_error *error) {
    if (tokens >= 0 && tokens <= s->length) return GV_OK;
    return gv_fail(error, GV_ERR_VALUE, "the sequence has %lld tokens, not %lld", (long long)s->length, (long long)tokens);
}

gv_status gv_cache_fork(int64_t *sequence, gv_cache *cache, int64_t parent, int64_t tokens, gv_error *error) {
    gv_status status = GV_OK;
    gv_cache_sequence *from, *to = NULL;
    gv_error local = {0};
    if (error == NULL) error = &local;
    pthread_mutex_lock(&cache->lock);
    GV_TRY(gv_cache_find(&from, cache, parent, error));
    GV_TRY(gv_check_tokens(from, tokens, error));
    GV_TRY(gv_cache_place(sequence, cache, error));
    gv_cache_begin(cache, *sequence);
    from = &cache->sequences[parent]; /* the table may have moved */
    to = &cache->sequences[*sequence];
    GV_TRY(gv_list_share(&to->self, cache, &from->self, (tokens + GV_PAGE_ROWS - 1) / GV_PAGE_ROWS, error));
    GV_TRY(gv_list_share(&to->memory, cache, &from->memory, from->memory.count, error));
    to->length = tokens;
    to->memory_length = from->memory_length;
done:
    if (status != GV_OK && to != NULL) gv_cache_end(cache, to);
    pthread_mutex_unlock(&cache->lock);
    return status;
}

gv_status gv_cache_cut(gv_cache *cache, int64_t sequence, int64_t tokens, gv_error *error) {
    gv_cache_sequence *s;
    pthread_mutex_lock(&cache->lock);
    gv_status status = gv_cache_find(&s, cache, sequence, error);
    if (status == GV_OK) status = gv_check_tokens(s, tokens, error);
    if (status == GV_OK) {
        gv_list_cut(cache, &s->self, (tokens + GV_PAGE_ROWS - 1) / GV_PAGE_ROWS);
        s->length = tokens;
    }
    pthread_mutex_unlock(&cache->lock);
    return status;
}

gv_status gv_cache_close(gv_cache *cache, int64_t sequence, gv_error *error) {
    gv_cache_sequence *s;
    pthread_mutex_lock(&cache->lock);
    gv_status status = gv_cache_find(&s, cache, sequence, error);
    if (status == GV_OK) gv_cache_end(cache, s);
    pthread_mutex_unlock(&cache->lock);
    return status;
}

gv_status gv_cache_length(int64_t *tokens, gv_cache *cache, int64_t sequence, gv_error *error) {
    gv_cache_sequence *s;
    pthread_mutex_lock(&cache->lock);
    gv_status status = gv_cache_find(&s, cache, sequence, error);
    if (status == GV_OK) *tokens = s->length;
    pthread_mutex_unlock(&cache->lock);
    return status;
}

void gv_cache_use(gv_cache_usage *out, gv_cache *cache) {
    pthread_mutex_lock(&cache->lock);
    *out = (gv_cache_usage){cache->open, cache->used, cache->free.count, cache->most, cache->page_bytes, GV_PAGE_ROWS};
    pthread_mutex_unlock(&cache->lock);
}

gv_status gv_cache_reserve(gv_cache *cache, const int64_t *sequences, const int64_t *splits, int64_t count, gv_error *error) {
    gv_status status = GV_OK;
    int64_t b = 0;
    for (; b < count && status == GV_OK; b++) {
        gv_cache_sequence *s = &cache->sequences[sequences[b]];
        status = gv_list_reserve(&s->self, cache, s->length + splits[b + 1] - splits[b], s->length, error);
    }
    for (int64_t i = 0; status != GV_OK && i < b; i++) {
        gv_cache_sequence *s = &cache->sequences[sequences[i]];
        gv_list_cut(cache, &s->self, (s->length + GV_PAGE_ROWS - 1) / GV_PAGE_ROWS);
    }
    return status;
}

void gv_cache_forget_memory(gv_cache *cache, gv_cache_sequence *sequence) {
    gv_list_cut(cache, &sequence->memory, 0);
    sequence->memory_length = -1;
}

gv_status gv_cache_reserve_memory(gv_cache *cache, gv_cache_sequence *sequence, int64_t rows, gv_error *error) {
    gv_cache_forget_memory(cache, sequence);
    gv_status status = gv_list_reserve(&sequence->memory, cache, rows, 0, error);
    if (status != GV_OK) gv_cache_forget_memory(cache, sequence);
    return status;
}
