/* trainer.c - a WordPiece vocabulary from text: count words, then merge the most frequent pair of pieces until the vocabulary is
 * full, as the usual WordPiece trainers do (byte-pair merges over pieces with a continuation mark; Sennrich et al.,
 * arXiv:1508.07909). Memory grows with the distinct words, not with the text. Deterministic: equal counts are taken in the
 * order of their code points.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/normalise.h"
#include "text/text.h"

typedef struct {
    uint32_t hash, length;
    int64_t offset; /* into the pool of code points */
    int64_t count;
} gv_counted_word;

typedef struct {
    uint32_t left, right;
    int64_t count;
} gv_pair;

/* A piece of the vocabulary: code points in the pool of pieces. */
typedef struct {
    int64_t offset, count;
    uint32_t length;
    bool continuing, dropped;
} gv_vocabulary_piece;

typedef struct {
    const gv_allocator *allocator;
    char *data;
    size_t size, used, capacity; /* of an item; in items */
} gv_list;

struct gv_trainer {
    const gv_allocator *allocator;
    gv_tokenizer_options options;
    gv_list codes;   /* uint32_t: all distinct words */
    gv_list words;   /* gv_counted_word */
    uint32_t *table; /* word index + 1, open addressing */
    size_t table_size;
    uint32_t word[128];
    int64_t word_length;
};

static gv_status gv_list_append(gv_list *list, const void *items, size_t count, gv_error *error) {
    if (list->used + count > list->capacity) {
        size_t capacity = (list->used + count) * 3 / 2 + 256;
        char *bigger = gv_alloc_array(list->allocator, capacity, list->size);
        if (bigger == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory while training a vocabulary");
        if (list->used > 0) memcpy(bigger, list->data, list->used * list->size);
        gv_release(list->allocator, list->data, list->capacity * list->size);
        list->data = bigger;
        list->capacity = capacity;
    }
    memcpy(list->data + list->used * list->size, items, count * list->size);
    list->used += count;
    return GV_OK;
}

static void gv_list_clear(gv_list *list) {
    gv_release(list->allocator, list->data, list->capacity * list->size);
    list->data = NULL;
    list->used = list->capacity = 0;
}

gv_status gv_trainer_create(gv_trainer **out, const gv_tokenizer_options *options, const gv_allocator *allocator,
                            gv_error *error) {
    gv_trainer *t = gv_alloc_zero(allocator, sizeof *t);
    *out = NULL;
    if (t == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a vocabulary trainer");
    t->allocator = allocator;
    t->options = *options;
    t->codes = (gv_list){.allocator = allocator, .size = sizeof(uint32_t)};
    t->words = (gv_list){.allocator = allocator, .size = sizeof(gv_counted_word)};
    t->table_size = 1 << 12;
    t->table = gv_alloc_zero(allocator, t->table_size * sizeof *t->table);
    if (t->table == NULL) {
        gv_trainer_free(t);
        return gv_fail(error, GV_ERR_MEMORY, "out of memory for a vocabulary trainer");
    }
    *out = t;
    return GV_OK;
}

void gv_trainer_free(gv_trainer *t) {
    if (t == NULL) return;
    gv_list_clear(&t->codes);
    gv_list_clear(&t->words);
    gv_release(t->allocator, t->table, t->table_size * sizeof *t->table);
    gv_release(t->allocator, t, sizeof *t);
}

/* ---- counting ------------------------------------------------------------------------------------------------------- */

static uint32_t gv_hash_codes(const uint32_t *codes, int64_t length) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (int64_t i = 0; i < length; i++) hash = (hash ^ codes[i]) * 0x100000001B3u;
    return (uint32_t)(hash ^ hash >> 32);
}

static gv_status gv_grow_table(gv_trainer *t, gv_error *error) {
    size_t size = t->table_size * 2;
    uint32_t *table = gv_alloc_zero(t->allocator, size * sizeof *table);
    if (table == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory while counting words");
    const gv_counted_word *words = (const gv_counted_word *)(void *)t->words.data;
    for (size_t i = 0; i < t->words.used; i++) {
        size_t at = words[i].hash & (size - 1);
        while (table[at] != 0) at = (at + 1) & (size - 1);
        table[at] = (uint32_t)i + 1;
    }
    gv_release(t->allocator, t->table, t->table_size * sizeof *t->table);
    t->table = table;
    t->table_size = size;
    return GV_OK;
}

static gv_status gv_count_word(gv_trainer *t, const uint32_t *codes, int64_t length, gv_error *error) {
    gv_status status = GV_OK;
    if ((t->words.used + 1) * 2 > t->table_size && (status = gv_grow_table(t, error)) != GV_OK) return status;
    uint32_t hash = gv_hash_codes(codes, length);
    gv_counted_word *words = (gv_counted_word *)(void *)t->words.data;
    const uint32_t *pool = (const uint32_t *)(void *)t->codes.data;
    size_t at = hash & (t->table_size - 1);
    for (; t->table[at] != 0; at = (at + 1) & (t->table_size - 1)) {
        gv_counted_word *word = &words[t->table[at] - 1];
        if (word->hash == hash && word->length == (uint32_t)length &&
            memcmp(pool + word->offset, codes, (size_t)length * sizeof *codes) == 0) {
            word->count++;
            return GV_OK;
        }
    }
    gv_counted_word word = {hash, (uint32_t)length, (int64_t)t->codes.used, 1};
    if ((status = gv_list_append(&t->codes, codes, (size_t)length, error)) != GV_OK) return status;
    if ((status = gv_list_append(&t->words, &word, 1, error)) != GV_OK) return status;
    t->table[at] = (uint32_t)t->words.used;
    return GV_OK;
}

static gv_status gv_end_word(gv_trainer *t, gv_error *error) {
    int64_t length = t->word_length;
    t->word_length = 0;
    if (length == 0 || length > t->options.max_word || length > 128) return GV_OK;
    return gv_count_word(t, t->word, length, error);
}

gv_status gv_trainer_feed(gv_trainer *t, gv_text text, gv_error *error) {
    gv_status status = GV_OK;
    for (int64_t i = 0; i < text.length && status == GV_OK; i++) {
        uint32_t code = gv_text_at(text, i);
        gv_piece piece;
        if (gv_uc_is_surrogate(code)) return gv_fail(error, GV_ERR_VALUE, "text holds a lone surrogate U+%04X", (unsigned)code);
        gv_normalise_code(&piece, &t->options, code);
        bool ideograph = t->options.handle_chinese_chars && (gv_uc_flags(code) & GV_UC_CJK) != 0;
        if (piece.kind == GV_PIECE_SPACE) status = gv_end_word(t, error);
        for (int j = 0; j < piece.count && piece.kind != GV_PIECE_SPACE && status == GV_OK; j++) {
            gv_piece_kind kind = gv_code_kind(piece.codes[j]);
            if (kind == GV_PIECE_WORD && !ideograph) {
                if (t->word_length < 128) t->word[t->word_length] = piece.codes[j];
                t->word_length++;
                continue;
            }
            status = gv_end_word(t, error);
            if (kind != GV_PIECE_SPACE && status == GV_OK) status = gv_count_word(t, &piece.codes[j], 1, error);
        }
    }
    return status == GV_OK ? gv_end_word(t, error) : status;
}

/* ---- merging -------------------------------------------------------------------------------------------------------- */

typedef struct {
    gv_trainer *trainer;
    gv_list pieces;    /* gv_vocabulary_piece */
    gv_list codes;     /* uint32_t: the pieces' code points */
    uint32_t *symbols; /* all words, as pieces; merged places become GV_GONE */
    gv_list pairs;     /* gv_pair, one per distinct pair ever seen */
    uint32_t *table;   /* pair index + 1 */
    size_t table_size;
    gv_list heap; /* gv_pair: count and identity, stale entries checked when they come up */
} gv_merger;

#define GV_GONE UINT32_MAX

static gv_vocabulary_piece *gv_piece_at(const gv_merger *m, uint32_t index) {
    return (gv_vocabulary_piece *)(void *)m->pieces.data + index;
}

static int gv_compare_pieces(const gv_merger *m, uint32_t a, uint32_t b) {
    const gv_vocabulary_piece *p = gv_piece_at(m, a), *q = gv_piece_at(m, b);
    const uint32_t *codes = (const uint32_t *)(void *)m->codes.data;
    for (uint32_t i = 0; i < p->length && i < q->length; i++) {
        uint32_t x = codes[p->offset + i], y = codes[q->offset + i];
        if (x != y) return x < y ? -1 : 1;
    }
    if (p->length != q->length) return p->length < q->length ? -1 : 1;
    return (int)p->continuing - (int)q->continuing;
}

/* Does a come before b? More frequent first, then by text. */
static bool gv_pair_before(const gv_merger *m, const gv_pair *a, const gv_pair *b) {
    if (a->count != b->count) return a->count > b->count;
    int order = gv_compare_pieces(m, a->left, b->left);
    if (order == 0) order = gv_compare_pieces(m, a->right, b->right);
    return order < 0;
}

static gv_status gv_heap_push(gv_merger *m, gv_pair pair, gv_error *error) {
    gv_status status = gv_list_append(&m->heap, &pair, 1, error);
    if (status != GV_OK) return status;
    gv_pair *heap = (gv_pair *)(void *)m->heap.data;
    size_t at = m->heap.used - 1;
    while (at > 0 && gv_pair_before(m, &heap[at], &heap[(at - 1) / 2])) {
        gv_pair swap = heap[at];
        heap[at] = heap[(at - 1) / 2];
        heap[(at - 1) / 2] = swap;
        at = (at - 1) / 2;
    }
    return GV_OK;
}

static gv_pair gv_heap_pop(gv_merger *m) {
    gv_pair *heap = (gv_pair *)(void *)m->heap.data, top = heap[0];
    heap[0] = heap[--m->heap.used];
    for (size_t at = 0;;) {
        size_t best = at, left = 2 * at + 1;
        for (size_t child = left; child < left + 2 && child < m->heap.used; child++) {
            if (gv_pair_before(m, &heap[child], &heap[best])) best = child;
        }
        if (best == at) return top;
        gv_pair swap = heap[at];
        heap[at] = heap[best];
        heap[best] = swap;
        at = best;
    }
}

static gv_status gv_find_pair(size_t *out, gv_merger *m, uint32_t left, uint32_t right, gv_error *error) {
    if ((m->pairs.used + 1) * 2 > m->table_size) {
        size_t size = m->table_size * 2;
        uint32_t *table = gv_alloc_zero(m->trainer->allocator, size * sizeof *table);
        if (table == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory while merging pieces");
        const gv_pair *pairs = (const gv_pair *)(void *)m->pairs.data;
        for (size_t i = 0; i < m->pairs.used; i++) {
            const uint32_t key[2] = {pairs[i].left, pairs[i].right};
            size_t at = gv_hash_codes(key, 2) & (size - 1);
            while (table[at] != 0) at = (at + 1) & (size - 1);
            table[at] = (uint32_t)i + 1;
        }
        gv_release(m->trainer->allocator, m->table, m->table_size * sizeof *m->table);
        m->table = table;
        m->table_size = size;
    }
    const uint32_t key[2] = {left, right};
    const gv_pair *pairs = (const gv_pair *)(void *)m->pairs.data;
    size_t at = gv_hash_codes(key, 2) & (m->table_size - 1);
    for (; m->table[at] != 0; at = (at + 1) & (m->table_size - 1)) {
        const gv_pair *pair = &pairs[m->table[at] - 1];
        if (pair->left == left && pair->right == right) {
            *out = m->table[at] - 1;
            return GV_OK;
        }
    }
    const gv_pair fresh = {left, right, 0};
    gv_status status = gv_list_append(&m->pairs, &fresh, 1, error);
    if (status != GV_OK) return status;
    m->table[at] = (uint32_t)m->pairs.used;
    *out = m->pairs.used - 1;
    return GV_OK;
}

static gv_status gv_count_pair(gv_merger *m, uint32_t left, uint32_t right, int64_t by, gv_error *error) {
    size_t index;
    gv_status status = gv_find_pair(&index, m, left, right, error);
    if (status != GV_OK) return status;
    gv_pair *pair = (gv_pair *)(void *)m->pairs.data + index;
    pair->count += by;
    return GV_OK;
}

/* The alphabet: every character alone, and inside words its continuing form; most frequent first. */
typedef struct {
    uint32_t code;
    bool continuing;
    int64_t count;
} gv_letter;

static int gv_compare_letters(const void *x, const void *y) {
    const gv_letter *a = x, *b = y;
    if (a->count != b->count) return a->count > b->count ? -1 : 1;
    if (a->code != b->code) return a->code < b->code ? -1 : 1;
    return (int)a->continuing - (int)b->continuing;
}

static gv_status gv_make_alphabet(gv_merger *m, uint32_t *letter_index, const gv_trainer_options *options, gv_error *error) {
    const gv_trainer *t = m->trainer;
    const gv_counted_word *words = (const gv_counted_word *)(void *)t->words.data;
    const uint32_t *pool = (const uint32_t *)(void *)t->codes.data;
    gv_status status = GV_OK;
    size_t used = 0, table_bytes = (size_t)2 * GV_UC_LIMIT * sizeof(int64_t);
    int64_t *counts = gv_alloc_zero(t->allocator, table_bytes);
    gv_letter *letters = NULL;
    size_t letters_bytes = 0;
    if (counts == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for an alphabet");
    for (size_t w = 0; w < t->words.used; w++) {
        for (uint32_t i = 0; i < words[w].length; i++) counts[2 * pool[words[w].offset + i] + (i > 0)] += words[w].count;
    }
    for (size_t i = 0; i < (size_t)2 * GV_UC_LIMIT; i++) used += counts[i] > 0;
    letters_bytes = (used + 1) * sizeof *letters;
    letters = gv_alloc(t->allocator, letters_bytes);
    if (letters == NULL) {
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory for an alphabet");
        goto done;
    }
    used = 0;
    for (uint32_t i = 0; i < 2 * GV_UC_LIMIT; i++) {
        if (counts[i] > 0) letters[used++] = (gv_letter){i / 2, i % 2 != 0, counts[i]};
    }
    qsort(letters, used, sizeof *letters, gv_compare_letters);
    size_t most =
        options->limit_alphabet >= 0 && (size_t)options->limit_alphabet < used ? (size_t)options->limit_alphabet : used;
    if ((int64_t)most > options->vocab_size) most = (size_t)options->vocab_size;
    for (size_t i = 0; i < most && status == GV_OK; i++) {
        gv_vocabulary_piece piece = {(int64_t)m->codes.used, letters[i].count, 1, letters[i].continuing, false};
        letter_index[2 * letters[i].code + letters[i].continuing] = (uint32_t)m->pieces.used + 1;
        status = gv_list_append(&m->codes, &letters[i].code, 1, error);
        if (status == GV_OK) status = gv_list_append(&m->pieces, &piece, 1, error);
    }
done:
    gv_release(t->allocator, letters, letters_bytes);
    gv_release(t->allocator, counts, table_bytes);
    return status;
}

/* Replaces left+right by `merged` in every word and keeps the pair counts right. `changed` collects pairs that grew. */
static gv_status gv_merge_words(gv_merger *m, uint32_t left, uint32_t right, uint32_t merged, gv_list *changed,
                                gv_error *error) {
    gv_status status = GV_OK;
    const gv_counted_word *words = (const gv_counted_word *)(void *)m->trainer->words.data;
    for (size_t w = 0; w < m->trainer->words.used; w++) {
        uint32_t *s = m->symbols + words[w].offset, length = words[w].length;
        int64_t count = words[w].count;
        uint32_t previous = GV_GONE; /* index of the symbol before */
        for (uint32_t i = 0; i < length && status == GV_OK;) {
            uint32_t next = i + 1;
            while (next < length && s[next] == GV_GONE) next++;
            if (s[i] == GV_GONE || s[i] != left || next >= length || s[next] != right) {
                if (s[i] != GV_GONE) previous = i;
                i = next;
                continue;
            }
            uint32_t after = next + 1;
            while (after < length && s[after] == GV_GONE) after++;
            if (previous != GV_GONE) {
                const gv_pair grown = {s[previous], merged, 0};
                status = gv_count_pair(m, s[previous], left, -count, error);
                if (status == GV_OK) status = gv_count_pair(m, grown.left, merged, count, error);
                if (status == GV_OK) status = gv_list_append(changed, &grown, 1, error);
            }
            if (after < length && status == GV_OK) {
                const gv_pair grown = {merged, s[after], 0};
                status = gv_count_pair(m, right, s[after], -count, error);
                if (status == GV_OK) status = gv_count_pair(m, merged, grown.right, count, error);
                if (status == GV_OK) status = gv_list_append(changed, &grown, 1, error);
            }
            s[i] = merged;
            s[next] = GV_GONE;
            previous = i;
            i = after;
        }
    }
    return status;
}

static gv_status gv_run_merges(gv_merger *m, const gv_trainer_options *options, gv_error *error) {
    gv_status status = GV_OK;
    gv_list changed = {.allocator = m->trainer->allocator, .size = sizeof(gv_pair)};
    for (size_t i = 0; i < m->pairs.used && status == GV_OK; i++) {
        gv_pair pair = ((const gv_pair *)(void *)m->pairs.data)[i];
        status = gv_heap_push(m, pair, error);
    }
    while (status == GV_OK && m->heap.used > 0 && (int64_t)m->pieces.used < options->vocab_size) {
        gv_pair top = gv_heap_pop(m);
        size_t index;
        if ((status = gv_find_pair(&index, m, top.left, top.right, error)) != GV_OK) break;
        int64_t count = ((const gv_pair *)(void *)m->pairs.data)[index].count;
        if (count != top.count) { /* stale: put it back where it belongs now */
            top.count = count;
            if (count > 0) status = gv_heap_push(m, top, error);
            continue;
        }
        if (count < options->min_frequency || count < 1) break;
        gv_vocabulary_piece l = *gv_piece_at(m, top.left), r = *gv_piece_at(m, top.right);
        gv_vocabulary_piece piece = {(int64_t)m->codes.used, count, l.length + r.length, l.continuing, false};
        uint32_t whole[256];
        if (piece.length > 256) continue;
        memcpy(whole, (uint32_t *)(void *)m->codes.data + l.offset, l.length * sizeof *whole);
        memcpy(whole + l.length, (uint32_t *)(void *)m->codes.data + r.offset, r.length * sizeof *whole);
        if ((status = gv_list_append(&m->codes, whole, piece.length, error)) != GV_OK) break;
        if ((status = gv_list_append(&m->pieces, &piece, 1, error)) != GV_OK) break;
        uint32_t merged = (uint32_t)m->pieces.used - 1;
        /* Two ways to merge can spell the same piece; the second adds nothing to the vocabulary. */
        for (uint32_t i = 0; i < merged; i++) {
            gv_vocabulary_piece *other = gv_piece_at(m, i);
            if (other->length == piece.length && gv_compare_pieces(m, i, merged) == 0) gv_piece_at(m, merged)->dropped = true;
        }
        changed.used = 0;
        if ((status = gv_merge_words(m, top.left, top.right, merged, &changed, error)) != GV_OK) break;
        ((gv_pair *)(void *)m->pairs.data)[index].count = 0;
        for (size_t i = 0; i < changed.used && status == GV_OK; i++) {
            gv_pair grown = ((const gv_pair *)(void *)changed.data)[i];
            if ((status = gv_find_pair(&index, m, grown.left, grown.right, error)) != GV_OK) break;
            grown.count = ((const gv_pair *)(void *)m->pairs.data)[index].count;
            if (grown.count > 0) status = gv_heap_push(m, grown, error);
        }
    }
    gv_list_clear(&changed);
    return status;
}

gv_status gv_trainer_build(gv_trainer *t, const gv_trainer_options *options, gv_trainer_emit emit, void *context,
                           gv_error *error) {
    gv_status status = GV_OK;
    gv_merger m = {.trainer = t};
    size_t index_bytes = (size_t)2 * GV_UC_LIMIT * sizeof(uint32_t), symbol_bytes = (t->codes.used + 1) * sizeof(uint32_t);
    if (options->vocab_size < 1) return gv_fail(error, GV_ERR_VALUE, "vocab_size leaves no room beyond the special tokens");
    m.pieces = (gv_list){.allocator = t->allocator, .size = sizeof(gv_vocabulary_piece)};
    m.codes = (gv_list){.allocator = t->allocator, .size = sizeof(uint32_t)};
    m.pairs = m.heap = (gv_list){.allocator = t->allocator, .size = sizeof(gv_pair)};
    m.table_size = 1 << 12;
    m.table = gv_alloc_zero(t->allocator, m.table_size * sizeof *m.table);
    m.symbols = gv_alloc(t->allocator, symbol_bytes);
    uint32_t *letter_index = gv_alloc_zero(t->allocator, index_bytes);
    if (m.table == NULL || m.symbols == NULL || letter_index == NULL) {
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory while training a vocabulary");
        goto done;
    }
    if ((status = gv_make_alphabet(&m, letter_index, options, error)) != GV_OK) goto done;
    const gv_counted_word *words = (const gv_counted_word *)(void *)t->words.data;
    const uint32_t *pool = (const uint32_t *)(void *)t->codes.data;
    for (size_t w = 0; w < t->words.used && status == GV_OK; w++) {
        uint32_t *symbols = m.symbols + words[w].offset;
        bool complete = true;
        for (uint32_t i = 0; i < words[w].length; i++) {
            uint32_t letter = letter_index[2 * pool[words[w].offset + i] + (i > 0)];
            complete = complete && letter != 0;
            symbols[i] = letter - 1;
        }
        /* A word with a letter outside the alphabet will be unknown: it teaches nothing. */
        for (uint32_t i = 0; !complete && i < words[w].length; i++) symbols[i] = GV_GONE;
        for (uint32_t i = 1; complete && i < words[w].length && status == GV_OK; i++) {
            status = gv_count_pair(&m, symbols[i - 1], symbols[i], words[w].count, error);
        }
    }
    if (status == GV_OK) status = gv_run_merges(&m, options, error);
    for (size_t i = 0; i < m.pieces.used && status == GV_OK; i++) {
        const gv_vocabulary_piece *piece = gv_piece_at(&m, (uint32_t)i);
        if (piece->dropped) continue;
        status = emit(context, (const uint32_t *)(void *)m.codes.data + piece->offset, piece->length, piece->continuing);
    }
done:
    gv_release(t->allocator, letter_index, index_bytes);
    gv_release(t->allocator, m.symbols, symbol_bytes);
    gv_release(t->allocator, m.table, m.table_size * sizeof *m.table);
    gv_list_clear(&m.pieces);
    gv_list_clear(&m.codes);
    gv_list_clear(&m.pairs);
    gv_list_clear(&m.heap);
    return status;
}
