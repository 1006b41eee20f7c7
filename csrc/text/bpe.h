/* bpe.h - what the files of byte-pair encoding share: the vocabulary, the table of merges, the handle. */
#ifndef GV_TEXT_BPE_H
#define GV_TEXT_BPE_H

#include <pthread.h>

#include "text/added.h"
#include "text/split.h"

enum { GV_BPE_PLANE = 0x10000, GV_BPE_ID_BITS = 20, GV_BPE_MARK = 0x2581 };
#define GV_BPE_NEVER UINT32_MAX

/* One merge: the pair (20 bits each) above its rank (24 bits); all ones = empty. */
typedef struct {
    uint64_t *slots;
    int32_t *made; /* [slots] the id that the merge makes */
    uint64_t mask; /* slots - 1 */
    int shift;     /* 64 - log2(slots) */
    int64_t count;
    uint64_t *filter; /* a bit for the hash of every pair: most pairs that are looked for do not merge */
} gv_pair_table;

enum { GV_FILTER_BITS = 20 };

static inline uint64_t gv_pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << GV_BPE_ID_BITS | (uint32_t)right;
}

static inline uint64_t gv_pair_hash(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return key ^ key >> 32;
}

/* The rank of merging left and right, GV_BPE_NEVER when they do not; *slot says where it stands. */
static inline uint32_t gv_pair_find(uint64_t *slot, const gv_pair_table *table, int32_t left, int32_t right) {
    uint64_t key = gv_pair_key(left, right), hash = key * 0x9E3779B97F4A7C15u, bit = hash >> (64 - GV_FILTER_BITS);
    if (!(table->filter[bit >> 6] >> (bit & 63) & 1)) return GV_BPE_NEVER;
    for (uint64_t at = hash >> table->shift;; at = (at + 1) & table->mask) {
        uint64_t entry = table->slots[at];
        if (entry >> 24 == key) {
            *slot = at;
            return (uint32_t)(entry & 0xFFFFFF);
        }
        if (entry == UINT64_MAX) return GV_BPE_NEVER;
    }
}

/* What a character starts as: an id, and when that holds. */
enum { GV_START_ID = 0xFFFFF, GV_START_NOT_BEHIND_ASCII = 1 << 24, GV_START_RISKY = 1 << 25 };

/* The first bytes of something, at most four, from the highest byte down, and how many bits of them count. */
typedef struct {
    uint32_t bytes;
    uint32_t bits;
} gv_follower;

static inline gv_follower gv_follower_of(const uint8_t *data, int length) {
    uint32_t bytes = 0;
    for (int i = 0; i < 4; i++) bytes = bytes << 8 | (i < length ? data[i] : 0u);
    return (gv_follower){bytes, (uint32_t)length * 8};
}

/* Whether one begins as the other does, as far as both go. */
static inline bool gv_follows(gv_follower a, gv_follower b) {
    uint32_t bits = a.bits < b.bits ? a.bits : b.bits;
    return ((a.bytes ^ b.bytes) >> (32 - bits)) == 0;
}

typedef struct gv_bpe_work gv_bpe_work; /* what one call needs: buffers and the cache of words; see bpe.c */

struct gv_bpe {
    const gv_allocator *allocator;
    gv_bpe_options options;
    uint8_t *bytes;  /* the tokens' bytes, one after the other */
    int64_t *begins; /* [count + 1] */
    int64_t count;
    uint32_t *words; /* hash of the tokens' bytes -> id + 1; words_mask + 1 of them */
    uint64_t words_mask;
    gv_pair_table pairs;
    int32_t byte_ids[256]; /* the token of one byte, or of its fallback; -1 = none */
    int32_t *starts;       /* [GV_BPE_PLANE] the symbol that a character becomes first, with flags; -1 = its bytes one by one */
    uint32_t *risk_begins; /* [GV_BPE_PLANE + 1] into `risks`: what must not follow a character that is risky */
    gv_follower *risks;
    int64_t risk_count;
    uint8_t *classes;  /* [GV_BPE_PLANE] as split.h has them, with GV_CLASS_ADDED */
    bool added_beyond; /* an added token starts beyond the basic plane */
    bool separable;    /* characters: no token holds a mark after something else, so text may be cut there */
    gv_added_set added;
    pthread_mutex_t lock; /* of `free_work` */
    bool has_lock;
    gv_bpe_work *free_work;
};

/* The id of these bytes, or -1. */
int32_t gv_bpe_token_of(const gv_bpe *bpe, const uint8_t *data, int64_t length);
void gv_bpe_work_free(gv_bpe_work *work, const gv_allocator *allocator);

/* UTF-8 of one code point: 1..4 bytes. */
static inline int gv_utf8(uint8_t out[4], uint32_t code) {
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xC0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 63));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xE0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 63));
        out[2] = (uint8_t)(0x80 | (code & 63));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 63));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 63));
    out[3] = (uint8_t)(0x80 | (code & 63));
    return 4;
}

#endif
