/* wordpiece.c - text to ids: one table look-up per code point, longest match first inside words.
 *
 * Every code point of the basic plane has an entry: an id (an ideograph or punctuation, a word of its own), or a code that says
 * what it does to the word being read. Chinese text is then a run of look-ups and stores. Words of letters and digits are
 * collected normalised and matched greedily against a trie (Devlin et al., arXiv:1810.04805; Wu et al., arXiv:1609.08144).
 */
#include <string.h>

#include "base/memory.h"
#include "text/added.h"
#include "text/normalise.h"
#include "text/text.h"
#include "text/trie.h"

enum {
    /* entries below zero; -(GV_ENTRY_WORD + code) is a word character that becomes `code` */
    GV_ENTRY_REMOVED = -1,
    GV_ENTRY_SPACE = -2,
    GV_ENTRY_SLOW = -3,  /* several codes, or a mark */
    GV_ENTRY_ADDED = -4, /* an added token may start here */
    GV_ENTRY_WORD = 16,
    GV_PLANE = 0x10000
};

struct gv_tokenizer {
    const gv_allocator *allocator;
    gv_tokenizer_options options;
    int32_t *entries;    /* [GV_PLANE] what to do */
    gv_trie pieces;      /* vocabulary, continuing pieces under the prefix */
    uint32_t continuing; /* trie node after the prefix; 0 when no piece has it */
    bool has_continuing;
    gv_added_set added;
};

/* ---- output --------------------------------------------------------------------------------------------------------- */

/* Large buffers are mapped: 2 MB pages, and what is not written costs nothing. */
static const size_t GV_MAPPED_BYTES = (size_t)4 << 20;

static int32_t *gv_column_alloc(const gv_allocator *allocator, int64_t capacity) {
    size_t size = (size_t)capacity * sizeof(int32_t);
    if (size < GV_MAPPED_BYTES) return gv_alloc(allocator, size);
    int32_t *column = gv_map_zero(allocator, size);
    if (column != NULL) gv_advise_huge(allocator, column, size);
    return column;
}

static void gv_column_release(const gv_allocator *allocator, int32_t *column, int64_t capacity) {
    size_t size = (size_t)capacity * sizeof(int32_t);
    if (size >= GV_MAPPED_BYTES) {
        gv_unmap(allocator, column, size);
    } else {
        gv_release(allocator, column, size);
    }
}

void gv_tokens_clear(gv_tokens *tokens) {
    int32_t **columns[] = {&tokens->ids, &tokens->starts, &tokens->ends, &tokens->words};
    for (int i = 0; i < 4; i++) {
        gv_column_release(tokens->allocator, *columns[i], tokens->capacity);
        *columns[i] = NULL;
    }
    tokens->count = tokens->capacity = 0;
}

gv_status gv_tokens_reserve(gv_tokens *tokens, int64_t more, gv_error *error) {
    if (tokens->count + more <= tokens->capacity) return GV_OK;
    int64_t capacity = tokens->capacity + tokens->capacity / 2;
    if (capacity < tokens->count + more) capacity = tokens->count + more + 64;
    gv_tokens bigger = {
        .allocator = tokens->allocator, .offsets = tokens->offsets, .count = tokens->count, .capacity = capacity};
    int32_t **from[] = {&tokens->ids, &tokens->starts, &tokens->ends, &tokens->words};
    int32_t **to[] = {&bigger.ids, &bigger.starts, &bigger.ends, &bigger.words};
    for (int i = 0; i < (tokens->offsets ? 4 : 1); i++) {
        *to[i] = gv_column_alloc(tokens->allocator, capacity);
        if (*to[i] == NULL) {
            gv_tokens_clear(&bigger);
            return gv_fail(error, GV_ERR_MEMORY, "out of memory for %lld tokens", (long long)capacity);
        }
        if (tokens->count > 0) memcpy(*to[i], *from[i], (size_t)tokens->count * sizeof(int32_t));
    }
    gv_tokens_clear(tokens);
    *tokens = bigger;
    return GV_OK;
}

gv_status gv_tokens_push(gv_tokens *tokens, int32_t id, gv_error *error) {
    gv_status status = gv_tokens_reserve(tokens, 1, error);
    if (status != GV_OK) return status;
    tokens->ids[tokens->count] = id;
    if (tokens->offsets) {
        tokens->starts[tokens->count] = tokens->ends[tokens->count] = 0;
        tokens->words[tokens->count] = -1;
    }
    tokens->count++;
    return GV_OK;
}

/* ---- making one --------------------------------------------------------------------------------------------------- */

static int32_t gv_id_of(const gv_tokenizer *t, uint32_t code) {
    const gv_trie_slot *slot = gv_trie_step(&t->pieces, GV_TRIE_ROOT, code);
    return slot != NULL && slot->value >= 0 && t->options.max_word >= 1 ? slot->value : t->options.unknown_id;
}

static int32_t gv_entry_of(const gv_tokenizer *t, uint32_t code) {
    gv_piece piece;
    gv_normalise_code(&piece, &t->options, code);
    switch (piece.kind) {
        case GV_PIECE_REMOVED:
            return GV_ENTRY_REMOVED;
        case GV_PIECE_SPACE:
            return GV_ENTRY_SPACE;
        case GV_PIECE_ALONE:
            return gv_id_of(t, piece.codes[0]);
        case GV_PIECE_WORD:
            if (piece.count == 1) return -(int32_t)(GV_ENTRY_WORD + piece.codes[0]);
            return GV_ENTRY_SLOW;
        default:
            return GV_ENTRY_SLOW;
    }
}

gv_status gv_tokenizer_create(gv_tokenizer **out, const gv_text *vocabulary, int64_t count, const gv_tokenizer_options *options,
                              const gv_allocator *allocator, gv_error *error) {
    gv_status status = GV_OK;
    *out = NULL;
    gv_tokenizer *t = gv_alloc_zero(allocator, sizeof *t);
    if (t == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a tokenizer");
    t->allocator = allocator;
    t->options = *options;
    t->entries = gv_alloc_array(allocator, GV_PLANE, sizeof *t->entries);
    if (t->entries == NULL) {
        status = gv_fail(error, GV_ERR_MEMORY, "out of memory for a tokenizer");
        goto done;
    }
    if ((status = gv_trie_init(&t->pieces, allocator, error)) != GV_OK) goto done;
    if ((status = gv_added_init(&t->added, allocator, error)) != GV_OK) goto done;
    for (int64_t i = 0; i < count; i++) {
        if (vocabulary[i].length == 0) continue;
        if ((status = gv_trie_add(&t->pieces, vocabulary[i], (int32_t)i, allocator, error)) != GV_OK) goto done;
    }
    t->has_continuing = gv_trie_walk(&t->continuing, &t->pieces, options->continuing_prefix);
    for (uint32_t code = 0; code < GV_PLANE; code++) {
        t->entries[code] = gv_uc_is_surrogate(code) ? GV_ENTRY_SLOW : gv_entry_of(t, code);
    }
done:
    if (status != GV_OK) {
        gv_tokenizer_free(t);
    } else {
        *out = t;
    }
    return status;
}

void gv_tokenizer_free(gv_tokenizer *t) {
    if (t == NULL) return;
    gv_release(t->allocator, t->entries, GV_PLANE * sizeof *t->entries);
    gv_trie_clear(&t->pieces, t->allocator);
    gv_added_clear(&t->added, t->allocator);
    gv_release(t->allocator, t, sizeof *t);
}

/* A match in the normal form holds the form's first character that is no space, so a text without any code point that
 * becomes this character has no match. */
static void gv_mark_normalized(gv_tokenizer *t, gv_text form) {
    uint32_t key = ' ';
    for (int64_t i = 0; i < form.length && key == ' '; i++) key = gv_text_at(form, i);
    for (uint32_t code = 0; code < GV_PLANE; code++) {
        gv_piece piece;
        if (gv_uc_is_surrogate(code)) continue;
        gv_normalise_code(&piece, &t->options, code);
        for (int i = 0; i < piece.count; i++) {
            if (piece.codes[i] == key) t->entries[code] = GV_ENTRY_ADDED;
        }
    }
}

gv_status gv_tokenizer_add_token(gv_tokenizer *t, const gv_added_token *token, gv_error *error) {
    gv_status status = GV_OK;
    uint32_t *codes = NULL;
    size_t codes_size = 0;
    gv_normalised normal = {0};
    if (token->text.length == 0) return gv_fail(error, GV_ERR_VALUE, "an added token must not be empty");
    gv_text text = token->text;
    if (token->normalized) {
        codes_size = (size_t)text.length * sizeof *codes;
        codes = gv_alloc(t->allocator, codes_size);
        if (codes == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for an added token");
        for (int64_t i = 0; i < text.length; i++) {
            codes[i] = gv_text_at(text, i);
            if (gv_uc_is_surrogate(codes[i])) status = gv_fail(error, GV_ERR_VALUE, "an added token holds a lone surrogate");
        }
        if (status == GV_OK) status = gv_normalise(&normal, &t->options, codes, text.length, 0, t->allocator, error);
        text = (gv_text){normal.codes, normal.count, 4};
    }
    if (status == GV_OK) status = gv_added_append(&t->added, token, text, t->allocator, error);
    if (status == GV_OK) {
        uint32_t first = gv_text_at(token->text, 0);
        if (!token->normalized && first < GV_PLANE) t->entries[first] = GV_ENTRY_ADDED;
        if (token->normalized && text.length > 0) gv_mark_normalized(t, text);
    }
    gv_normalised_clear(&normal, t->allocator);
    gv_release(t->allocator, codes, codes_size);
    return status;
}

/* ---- encoding ------------------------------------------------------------------------------------------------------- */

enum { GV_WORD_STACK = 256 };

/* The word being read. Beyond max_word characters only its end matters. */
typedef struct {
    uint32_t codes[GV_WORD_STACK];
    int32_t origins[GV_WORD_STACK];
    int64_t length;
    int32_t first, last; /* origins */
    int32_t words;       /* words finished so far */
    int64_t limit;       /* end of the added token before */
    int64_t blocked;     /* end of an added token that was found, whether it counted or not */
    bool whole;          /* neighbours matter in this text: read it by gv_encode_whole */
} gv_word;

static void gv_emit(gv_tokens *out, int32_t id, int64_t start, int64_t end, int32_t word) {
    out->ids[out->count] = id;
    if (out->offsets) {
        out->starts[out->count] = (int32_t)start;
        out->ends[out->count] = (int32_t)end;
        out->words[out->count] = word;
    }
    out->count++;
}

static gv_status gv_finish_word(gv_tokens *out, const gv_tokenizer *t, gv_word *word, gv_error *error) {
    int64_t length = word->length, first = out->count;
    if (length == 0) return GV_OK;
    gv_status status = gv_tokens_reserve(out, length < t->options.max_word ? length : t->options.max_word + 1, error);
    if (status != GV_OK) return status;
    word->length = 0;
    int32_t number = word->words++;
    if (length > t->options.max_word || length > GV_WORD_STACK) {
        gv_emit(out, t->options.unknown_id, word->first, word->last + 1, number);
        return GV_OK;
    }
    for (int64_t start = 0; start < length;) {
        uint32_t node = start == 0 ? GV_TRIE_ROOT : t->continuing;
        int32_t best = -1;
        int64_t end = start;
        if (start == 0 || t->has_continuing) {
            for (int64_t i = start; i < length; i++) {
                const gv_trie_slot *slot = gv_trie_step(&t->pieces, node, word->codes[i]);
                if (slot == NULL) break;
                if (slot->value >= 0) {
                    best = slot->value;
                    end = i + 1;
                }
                node = slot->child;
            }
        }
        if (best < 0) { /* one piece is missing: the whole word is unknown */
            out->count = first;
            gv_emit(out, t->options.unknown_id, word->origins[0], word->origins[length - 1] + 1, number);
            return GV_OK;
        }
        gv_emit(out, best, word->origins[start], word->origins[end - 1] + 1, number);
        start = end;
    }
    return GV_OK;
}

static void gv_word_push(gv_word *word, uint32_t code, int64_t origin) {
    if (word->length < GV_WORD_STACK) {
        word->codes[word->length] = code;
        word->origins[word->length] = (int32_t)origin;
    }
    if (word->length == 0) word->first = (int32_t)origin;
    word->last = (int32_t)origin;
    word->length++;
}

/* One normalised code, whose neighbours are settled. `alone`: an ideograph. */
static gv_status gv_take_code(gv_tokens *out, const gv_tokenizer *t, gv_word *word, uint32_t code, bool alone, int64_t origin,
                              gv_error *error) {
    gv_status status = GV_OK;
    gv_piece_kind kind = gv_code_kind(code);
    if (kind == GV_PIECE_WORD && !alone) {
        gv_word_push(word, code, origin);
        return GV_OK;
    }
    if ((status = gv_finish_word(out, t, word, error)) != GV_OK) return status;
    if (kind == GV_PIECE_SPACE) return GV_OK;
    if ((status = gv_tokens_reserve(out, 1, error)) != GV_OK) return status;
    gv_emit(out, gv_id_of(t, code), origin, origin + 1, word->words++);
    return GV_OK;
}

/* Any code point, with all that may happen. *next: where reading goes on. */
static gv_status gv_take_slow(int64_t *next, gv_tokens *out, const gv_tokenizer *t, gv_word *word, gv_text text, int64_t at,
                              gv_error *error) {
    gv_status status = GV_OK;
    uint32_t code = gv_text_at(text, at);
    gv_piece piece;
    *next = at + 1;
    if (gv_uc_is_surrogate(code) || code >= GV_UC_LIMIT) return gv_refuse_code(code, at, error);
    if (code >= GV_PLANE || t->entries[code] == GV_ENTRY_ADDED) {
        gv_found found;
        if (at >= word->blocked && gv_added_find(&found, &t->added, &t->added.raw, text, at)) {
            word->blocked = found.end;
            if (gv_added_accept(&found, text, word->limit)) {
                if ((status = gv_finish_word(out, t, word, error)) != GV_OK) return status;
                if ((status = gv_tokens_reserve(out, 1, error)) != GV_OK) return status;
                gv_emit(out, found.token->id, found.start, found.end, word->words++);
                word->limit = *next = found.end;
                return GV_OK;
            }
        }
        word->whole = t->added.normalized.edges > 0;
    }
    gv_normalise_code(&piece, &t->options, code);
    if (piece.kind == GV_PIECE_MARK) word->whole = true;
    if (word->whole) return GV_ERR_STATE; /* no failure: the text is read again by gv_encode_whole */
    bool alone = t->options.handle_chinese_chars && (gv_uc_flags(code) & GV_UC_CJK) != 0;
    for (int i = 0; i < piece.count && status == GV_OK; i++)
        status = gv_take_code(out, t, word, piece.codes[i], alone, at, error);
    return status;
}

/* ---- the same by definition: normalise the whole text, then split, then match ---------------------------------------- */

/* Splits normal form [from, to) into words. */
static gv_status gv_whole_words(gv_tokens *out, const gv_tokenizer *t, gv_word *word, const gv_normalised *normal, int64_t from,
                                int64_t to, gv_error *error) {
    gv_status status = GV_OK;
    for (int64_t i = from; i < to && status == GV_OK; i++) {
        gv_piece_kind kind = gv_code_kind(normal->codes[i]);
        if (kind == GV_PIECE_WORD) {
            gv_word_push(word, normal->codes[i], normal->origins[i]);
            continue;
        }
        status = gv_finish_word(out, t, word, error);
        if (status != GV_OK || kind == GV_PIECE_SPACE) continue;
        if ((status = gv_tokens_reserve(out, 1, error)) != GV_OK) break;
        gv_emit(out, gv_id_of(t, normal->codes[i]), normal->origins[i], normal->origins[i] + 1, word->words++);
    }
    return status == GV_OK ? gv_finish_word(out, t, word, error) : status;
}

/* One stretch between added tokens of the raw text; in its normal form the other added tokens are looked for. */
static gv_status gv_whole_piece(gv_tokens *out, const gv_tokenizer *t, gv_word *word, gv_normalised *normal,
                                const uint32_t *source, int64_t from, int64_t to, gv_error *error) {
    gv_status status = gv_normalise(normal, &t->options, source + from, to - from, from, t->allocator, error);
    gv_text text = {normal->codes, normal->count, 4};
    int64_t done = 0;
    for (int64_t i = 0; status == GV_OK && t->added.normalized.edges > 0 && i < text.length;) {
        gv_found found;
        if (!gv_added_find(&found, &t->added, &t->added.normalized, text, i)) {
            i++;
            continue;
        }
        i = found.end;
        if (!gv_added_accept(&found, text, done)) continue;
        if (found.start > done) status = gv_whole_words(out, t, word, normal, done, found.start, error);
        if (status == GV_OK) status = gv_tokens_reserve(out, 1, error);
        if (status != GV_OK) break;
        gv_emit(out, found.token->id, normal->origins[found.start], normal->origins[found.end - 1] + 1, word->words++);
        done = found.end;
    }
    return status == GV_OK ? gv_whole_words(out, t, word, normal, done, normal->count, error) : status;
}

static gv_status gv_encode_whole(gv_tokens *out, const gv_tokenizer *t, gv_text text, gv_error *error) {
    gv_status status = GV_OK;
    gv_normalised normal = {0};
    gv_word word = {.length = 0};
    int64_t done = 0;
    size_t size = (size_t)text.length * sizeof(uint32_t);
    uint32_t *source = gv_alloc(t->allocator, size);
    if (source == NULL)
        return gv_fail(error, GV_ERR_MEMORY, "out of memory for a text of %lld characters", (long long)text.length);
    for (int64_t i = 0; i < text.length && status == GV_OK; i++) {
        source[i] = gv_text_at(text, i);
        if (gv_uc_is_surrogate(source[i]) || source[i] >= GV_UC_LIMIT) status = gv_refuse_code(source[i], i, error);
    }
    for (int64_t i = 0; i < text.length && status == GV_OK;) {
        gv_found found;
        if (!gv_added_find(&found, &t->added, &t->added.raw, text, i)) {
            i++;
            continue;
        }
        i = found.end;
        if (!gv_added_accept(&found, text, done)) continue;
        if (found.start > done) status = gv_whole_piece(out, t, &word, &normal, source, done, found.start, error);
        if (status == GV_OK) status = gv_tokens_reserve(out, 1, error);
        if (status != GV_OK) break;
        gv_emit(out, found.token->id, found.start, found.end, word.words++);
        done = found.end;
    }
    if (status == GV_OK) status = gv_whole_piece(out, t, &word, &normal, source, done, text.length, error);
    gv_release(t->allocator, source, size);
    gv_normalised_clear(&normal, t->allocator);
    return status;
}

/* The loop for one width. *whole: the text must be read again by gv_encode_whole. */
#define GV_DEFINE_ENCODE(name, type)                                                                                   \
    static gv_status name(gv_tokens *out, bool *whole, const gv_tokenizer *t, gv_text text, gv_error *error) {         \
        gv_status status = GV_OK;                                                                                      \
        const type *source = text.data;                                                                                \
        const int32_t *entries = t->entries;                                                                           \
        gv_word word = {.length = 0};                                                                                  \
        for (int64_t at = 0; at < text.length;) {                                                                      \
            /* Every code point gives at most one token until a slow one comes: room for the rest at once. */          \
            int64_t stop = at + 65536 < text.length ? at + 65536 : text.length;                                        \
            if ((status = gv_tokens_reserve(out, stop - at + t->options.max_word + 1, error)) != GV_OK) return status; \
            if (!out->offsets && word.length == 0) {                                                                   \
                int32_t *ids = out->ids + out->count, entry;                                                           \
                int64_t begin = at;                                                                                    \
                while (at < stop && (uint32_t)source[at] < (uint32_t)GV_PLANE && (entry = entries[source[at]]) >= 0) { \
                    *ids++ = entry;                                                                                    \
                    at++;                                                                                              \
                }                                                                                                      \
                out->count += at - begin;                                                                              \
                word.words += (int32_t)(at - begin);                                                                   \
                if (at == stop) continue;                                                                              \
            }                                                                                                          \
            int32_t entry = (uint32_t)source[at] < (uint32_t)GV_PLANE ? entries[source[at]] : GV_ENTRY_SLOW;           \
            if (entry <= -GV_ENTRY_WORD) {                                                                             \
                gv_word_push(&word, (uint32_t)(-entry - GV_ENTRY_WORD), at);                                           \
                at++;                                                                                                  \
            } else if (entry == GV_ENTRY_REMOVED) {                                                                    \
                at++;                                                                                                  \
            } else if (entry == GV_ENTRY_SPACE || entry >= 0) {                                                        \
                if (word.length > 0 && (status = gv_finish_word(out, t, &word, error)) != GV_OK) return status;        \
                if (entry >= 0) gv_emit(out, entry, at, at + 1, word.words++);                                         \
                at++;                                                                                                  \
            } else if ((status = gv_take_slow(&at, out, t, &word, text, at, error)) != GV_OK) {                        \
                *whole = word.whole;                                                                                   \
                return status;                                                                                         \
            }                                                                                                          \
        }                                                                                                              \
        *whole = false;                                                                                                \
        return gv_finish_word(out, t, &word, error);                                                                   \
    }

GV_DEFINE_ENCODE(gv_encode_1, uint8_t)
GV_DEFINE_ENCODE(gv_encode_2, uint16_t)
GV_DEFINE_ENCODE(gv_encode_4, uint32_t)

gv_status gv_tokenizer_encode(gv_tokens *out, const gv_tokenizer *t, gv_text text, gv_error *error) {
    gv_status status;
    bool whole = false;
    int64_t before = out->count;
    if (text.length > INT32_MAX) return gv_fail(error, GV_ERR_VALUE, "a text of more than 2^31 - 1 characters: cut it");
    switch (text.width) {
        case 1:
            status = gv_encode_1(out, &whole, t, text, error);
            break;
        case 2:
            status = gv_encode_2(out, &whole, t, text, error);
            break;
        case 4:
            status = gv_encode_4(out, &whole, t, text, error);
            break;
        default:
            return gv_fail(error, GV_ERR_VALUE, "a character must have 1, 2 or 4 bytes, got %d", text.width);
    }
    if (!whole) return status;
    out->count = before;
    return gv_encode_whole(out, t, text, error);
}
