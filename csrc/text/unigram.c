/* unigram.c - text to pieces: the best path through all pieces that fit, by Viterbi's algorithm (Kudo, arXiv:1804.10959).
 *
 * The pieces stand in a double array over symbols, the numbered code points of the vocabulary: one cell of 16 bytes answers
 * whether a piece goes on, its id and its score. The first code point has a table of its own. A place that no piece reaches
 * across lies on every path: the path so far is written out there, so that what the search writes to stays in the cache.
 *
 * Sums are those of the peers, bit for bit, since pieces of equal score are common: sentencepiece adds in float32, HF
 * tokenizers in float64.
 */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/try.h"
#include "govlm_unigram.h"
#include "text/added.h"
#include "text/double_array.h"
#include "text/text.h"
#include "text/unicode.h"

enum { GV_UNIGRAM_PLANE = 0x10000 };
static const uint32_t GV_UNIGRAM_SPACE = 0x2581;

struct gv_unigram_best {
    double score; /* of the best path that ends here; -inf = none yet */
    int32_t id;
    int32_t start; /* where its last piece begins */
};

struct gv_unigram {
    const gv_allocator *allocator;
    gv_spm *spm;
    gv_double_array pieces;
    gv_added_set added;
    uint32_t added_first[GV_UNIGRAM_PLANE / 32]; /* bits: an added token begins with the code point */
    double *user_scores;                         /* [count] of user-defined pieces, or NULL when there are none */
    int64_t count;
    int32_t unknown_id;
    double unknown_score;
    bool byte_fallback, exact_sums;
    int32_t bytes[256]; /* ids of the byte pieces */
};

/* ---- making one ----------------------------------------------------------------------------------------------------- */

void gv_unigram_free(gv_unigram *unigram) {
    if (unigram == NULL) return;
    gv_spm_free(unigram->spm);
    gv_double_array_clear(&unigram->pieces, unigram->allocator);
    gv_added_clear(&unigram->added, unigram->allocator);
    if (unigram->user_scores != NULL)
        gv_release(unigram->allocator, unigram->user_scores, (size_t)unigram->count * sizeof *unigram->user_scores);
    gv_release(unigram->allocator, unigram, sizeof *unigram);
}

const gv_spm *gv_unigram_normaliser(const gv_unigram *unigram) {
    return unigram->spm;
}

static int gv_utf8(uint8_t out[4], uint32_t code) {
    int count = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = count - 1; i > 0; i--, code >>= 6) out[i] = (uint8_t)(0x80 | (code & 0x3F));
    static const uint8_t lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (uint8_t)(lead[count] | code);
    return count;
}

static int64_t gv_utf8_length(gv_text text) {
    int64_t length = 0;
    for (int64_t i = 0; i < text.length; i++) {
        uint8_t bytes[4];
        length += gv_utf8(bytes, gv_text_at(text, i));
    }
    return length;
}

/* "<0xE4>" -> 0xE4, anything else -> -1. */
static int gv_byte_of(gv_text piece) {
    int value = 0;
    static const char frame[] = "<0x..>";
    if (piece.length != 6) return -1;
    for (int i = 0; i < 6; i++) {
        uint32_t code = gv_text_at(piece, i);
        if (frame[i] != '.') {
            if (code != (uint32_t)frame[i]) return -1;
        } else if ((code >= '0' && code <= '9') || (code >= 'A' && code <= 'F')) {
            value = value * 16 + (int)(code <= '9' ? code - '0' : code - 'A' + 10);
        } else {
            return -1;
        }
    }
    return value;
}

/* Scores of unknown and user-defined pieces, byte pieces, and what is wrong with any of them. */
static gv_status gv_survey(gv_unigram *u, int64_t *symbols, const gv_text *pieces, const float *scores, const uint8_t *types,
                           gv_error *error) {
    float least = 3.402823466e+38F;
    int found = 0;
    u->unknown_id = -1;
    for (int i = 0; i < 256; i++) u->bytes[i] = -1;
    for (int64_t i = 0; i < u->count; i++) {
        if (pieces[i].length < 1) return gv_fail(error, GV_ERR_VALUE, "piece %lld is empty", (long long)i);
        if (!isfinite(scores[i]))
            return gv_fail(error, GV_ERR_VALUE, "piece %lld has a score that is not finite", (long long)i);
        switch (types[i]) {
            case GV_PIECE_NORMAL:
                if (scores[i] < least) least = scores[i];
                break;
            case GV_PIECE_UNKNOWN:
                if (u->unknown_id >= 0)
                    return gv_fail(error, GV_ERR_VALUE, "pieces %d and %lld are both unknown", (int)u->unknown_id,
                                   (long long)i);
                u->unknown_id = (int32_t)i;
                break;
            case GV_PIECE_USER_DEFINED:
                ++*symbols;
                break;
            case GV_PIECE_BYTE: {
                int byte = gv_byte_of(pieces[i]);
                if (byte < 0)
                    return gv_fail(error, GV_ERR_VALUE, "piece %lld is of type byte but does not name one", (long long)i);
                if (u->bytes[byte] < 0) found++;
                u->bytes[byte] = (int32_t)i;
                break;
            }
            case GV_PIECE_CONTROL:
            case GV_PIECE_UNUSED:
                break;
            default:
                return gv_fail(error, GV_ERR_VALUE, "piece %lld has type %d, which is not known", (long long)i, types[i]);
        }
    }
    if (u->unknown_id < 0) return gv_fail(error, GV_ERR_VALUE, "no piece is of type unknown");
    if (u->byte_fallback && found < 256)
        return gv_fail(error, GV_ERR_VALUE, "byte_fallback needs 256 byte pieces, %d are there", found);
    u->unknown_score = u->exact_sums ? (double)least - 10.0 : (double)(least - 10.0F);
    if (*symbols == 0) return GV_OK;
    u->user_scores = gv_alloc_zero(u->allocator, (size_t)u->count * sizeof *u->user_scores);
    if (u->user_scores == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a vocabulary");
    for (int64_t i = 0; i < u->count; i++) {
        if (types[i] != GV_PIECE_USER_DEFINED) continue;
        u->user_scores[i] = (double)(float)(0.1 * (double)(gv_utf8_length(pieces[i]) - 1)); /* as sentencepiece */
    }
    return GV_OK;
}

gv_status gv_unigram_create(gv_unigram **out, const gv_text *pieces, const float *scores, const uint8_t *types, int64_t count,
                            const gv_unigram_options *options, const gv_allocator *allocator, gv_error *error) {
    gv_status status = GV_OK;
    gv_text *symbols = NULL;
    int32_t *ids = NULL;
    int64_t symbol_count = 0, filled = 0;
    size_t symbols_size = 0, ids_size = (size_t)count * sizeof *ids + 1;
    *out = NULL;
    if (count < 1 || count > 1 << 24) return gv_fail(error, GV_ERR_VALUE, "a vocabulary must have 1..2^24 pieces");
    gv_unigram *u = gv_alloc_zero(allocator, sizeof *u);
    if (u == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a vocabulary");
    u->allocator = allocator;
    u->count = count;
    u->byte_fallback = options->byte_fallback;
    u->exact_sums = options->exact_sums;
    GV_TRY(gv_added_init(&u->added, allocator, error));
    GV_TRY(gv_survey(u, &symbol_count, pieces, scores, types, error));
    symbols_size = (size_t)symbol_count * sizeof *symbols + 1;
    symbols = gv_alloc(allocator, symbols_size);
    ids = gv_alloc(allocator, ids_size);
    if (symbols == NULL || ids == NULL) GV_TRY(gv_fail(error, GV_ERR_MEMORY, "out of memory for a vocabulary"));
    symbol_count = 0;
    for (int64_t i = 0; i < count; i++) {
        if (types[i] == GV_PIECE_USER_DEFINED) symbols[symbol_count++] = pieces[i];
        /* HF tokenizers puts every piece into the trie, but those of this program are added tokens and found before */
        if (types[i] == GV_PIECE_NORMAL || types[i] == GV_PIECE_USER_DEFINED) ids[filled++] = (int32_t)i;
    }
    GV_TRY(gv_spm_create(&u->spm, &options->normaliser, symbols, symbol_count, allocator, error));
    GV_TRY(gv_double_array_build(&u->pieces, pieces, ids, filled, scores, allocator, error));
    if (u->user_scores != NULL) {
        for (int64_t i = 0; i < count; i++)
            if (types[i] == GV_PIECE_USER_DEFINED) gv_double_array_flag(&u->pieces, pieces[i]);
    }
    *out = u;
    u = NULL;
done:
    gv_release(allocator, symbols, symbols_size);
    gv_release(allocator, ids, ids_size);
    gv_unigram_free(u);
    return status;
}

gv_status gv_unigram_add_token(gv_unigram *unigram, const gv_added_token *token, gv_error *error) {
    gv_added_token raw = *token; /* all are looked for in the text as it comes */
    raw.normalized = false;
    uint32_t code = raw.text.length > 0 ? gv_text_at(raw.text, 0) : 0;
    if (code < (uint32_t)GV_UNIGRAM_PLANE) unigram->added_first[code >> 5] |= 1u << (code & 31);
    return gv_added_append(&unigram->added, &raw, raw.text, unigram->allocator, error);
}

/* ---- encoding ------------------------------------------------------------------------------------------------------- */

void gv_unigram_scratch_clear(gv_unigram_scratch *scratch) {
    const gv_allocator *allocator = scratch->normal.allocator;
    gv_release(allocator, scratch->symbols, (size_t)scratch->symbol_capacity * sizeof *scratch->symbols);
    gv_release(allocator, scratch->best, (size_t)scratch->best_capacity * sizeof *scratch->best);
    gv_spm_text_clear(&scratch->normal);
    scratch->symbols = NULL;
    scratch->best = NULL;
    scratch->symbol_capacity = scratch->best_capacity = 0;
}

/* Room for `needed` places; new ones have no path. */
static gv_status gv_best_reserve(gv_unigram_scratch *s, int64_t needed, gv_error *error) {
    if (needed <= s->best_capacity) return GV_OK;
    const gv_allocator *allocator = s->normal.allocator;
    int64_t capacity = needed + needed / 2 + 256;
    struct gv_unigram_best *bigger = gv_alloc_array(allocator, (size_t)capacity, sizeof *bigger);
    if (bigger == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for a text of %lld characters", (long long)needed);
    if (s->best_capacity > 0) memcpy(bigger, s->best, (size_t)s->best_capacity * sizeof *bigger);
    for (int64_t i = s->best_capacity; i < capacity; i++) bigger[i] = (struct gv_unigram_best){-INFINITY, -1, 0};
    gv_release(allocator, s->best, (size_t)s->best_capacity * sizeof *bigger);
    s->best = bigger;
    s->best_capacity = capacity;
    return GV_OK;
}

/* The normal form's code points as symbols, and one 0 behind them. */
static gv_status gv_number(gv_unigram_scratch *s, const gv_double_array *pieces, gv_error *error) {
    int64_t count = s->normal.count;
    if (count + 1 > s->symbol_capacity) {
        const gv_allocator *allocator = s->normal.allocator;
        gv_release(allocator, s->symbols, (size_t)s->symbol_capacity * sizeof *s->symbols);
        s->symbol_capacity = 0;
        s->symbols = gv_alloc_array(allocator, (size_t)(count + count / 4 + 64), sizeof *s->symbols);
        if (s->symbols == NULL)
            return gv_fail(error, GV_ERR_MEMORY, "out of memory for a text of %lld characters", (long long)count);
        s->symbol_capacity = count + count / 4 + 64;
    }
    for (int64_t i = 0; i < count; i++) s->symbols[i] = gv_double_array_symbol(pieces, s->normal.codes[i]);
    s->symbols[count] = 0;
    return GV_OK;
}

typedef struct {
    int64_t origin; /* where the stretch that is read begins in the text */
    int32_t words;  /* begun so far */
    bool unknown;   /* the last token written is unknown */
} gv_unigram_state;

static inline void gv_put(gv_tokens *out, int32_t id, int32_t start, int32_t end, int32_t word) {
    out->ids[out->count] = id;
    if (out->offsets) {
        out->starts[out->count] = start;
        out->ends[out->count] = end;
        out->words[out->count] = word;
    }
    out->count++;
}

/* Writes one piece, codes [from, to) of the normal form. */
static void gv_write_piece(gv_tokens *out, const gv_unigram *u, gv_unigram_state *state, const gv_spm_text *normal, int32_t id,
                           int64_t from, int64_t to) {
    int32_t start = 0, end = 0;
    if (out->offsets) {
        start = (int32_t)(state->origin + normal->origins[from]);
        end = (int32_t)(state->origin + normal->origins[to]);
        if (normal->codes[from] == GV_UNIGRAM_SPACE) state->words++;
    }
    int32_t word = state->words > 0 ? state->words - 1 : 0;
    if (id != u->unknown_id) {
        gv_put(out, id, start, end, word);
        state->unknown = false;
    } else if (u->byte_fallback) {
        uint8_t bytes[4];
        int count = gv_utf8(bytes, normal->codes[from]);
        for (int i = 0; i < count; i++) gv_put(out, u->bytes[bytes[i]], start, i + 1 < count ? start : end, word);
    } else if (state->unknown) { /* a run of unknown pieces is one */
        if (out->offsets) out->ends[out->count - 1] = end;
    } else {
        gv_put(out, id, start, end, word);
        state->unknown = true;
    }
}

/* Writes the best path over places 0..last of `best`, which begin at code `base`. */
static gv_status gv_write_path(gv_tokens *out, const gv_unigram *u, gv_unigram_state *state, gv_unigram_scratch *s,
                               int64_t base, int64_t last, gv_error *error) {
    struct gv_unigram_best *best = s->best;
    int64_t most = u->byte_fallback ? last * 4 : last, at = last, next = 0;
    if (out->count + most > out->capacity) {
        gv_status status = gv_tokens_reserve(out, most + 256, error);
        if (status != GV_OK) return status;
    }
    /* turn the links round: best[i].id and start of a piece move to where it begins, start becoming its end */
    int32_t id = 0, end = -1;
    while (at > 0) {
        int32_t begin = best[at].start, own = best[at].id;
        best[at].id = id;
        best[at].start = end;
        id = own;
        end = (int32_t)at;
        at = begin;
    }
    best[0].id = id;
    best[0].start = end;
    while (next < last) {
        int64_t to = best[next].start;
        gv_write_piece(out, u, state, &s->normal, best[next].id, base + next, base + to);
        next = to;
    }
    return GV_OK;
}

/* `sum` in the precision of the search, `own` the piece's score: is the path through this piece the best one yet? */
static inline void gv_relax(struct gv_unigram_best *best, double sum, double own, int32_t id, int64_t start, bool exact) {
    double score = exact ? sum + own : (double)(float)(sum + own);
    bool better = score > best->score;
    best->score = better ? score : best->score;
    best->id = better ? id : best->id;
    best->start = better ? (int32_t)start : best->start;
}

/* Long texts: sentencepiece brings sums beyond 100,000 back to 0, so that float32 keeps telling pieces apart. */
static void gv_rebase(struct gv_unigram_best *from, const struct gv_unigram_best *to) {
    const float offset = (float)from->score;
    for (; from <= to; from++) from->score = (double)((float)from->score - offset);
}

static inline gv_status gv_search(gv_tokens *out, const gv_unigram *u, gv_unigram_state *state, gv_unigram_scratch *s,
                                  bool exact, gv_error *error) {
    gv_status status = GV_OK;
    const gv_double_array *pieces = &u->pieces;
    const gv_double_cell *cells = pieces->cells;
    const uint32_t *symbols = s->symbols;
    const int64_t count = s->normal.count, longest = pieces->longest + 1;
    int64_t base = 0, reach = 0; /* the code that best[0] stands before; the farthest place that a piece ends at */
    GV_TRY(gv_best_reserve(s, longest + 1, error));
    s->best[0].score = 0;
    for (int64_t i = 0; i < count; i++) {
        if (i == reach && i > base) {
            GV_TRY(gv_write_path(out, u, state, s, base, i - base, error));
            s->best[0].score = s->best[i - base].score;
            for (int64_t k = 1; k <= i - base; k++) s->best[k].score = -INFINITY;
            base = i;
        }
        if (i - base + longest >= s->best_capacity) GV_TRY(gv_best_reserve(s, i - base + longest + 1, error));
        struct gv_unigram_best *here = s->best + (i - base);
        if (!exact && fabs(here->score) > 100000.0) gv_rebase(here, s->best + (reach > i ? reach - base : i - base));
        const double sum = here->score;
        const gv_double_first *first = &pieces->first[symbols[i]];
        if (first->id >= 0) {
            double own = first->flag ? u->user_scores[first->id] : (double)first->score;
            gv_relax(here + 1, sum, own, first->id, i - base, exact);
        } else {
            gv_relax(here + 1, sum, u->unknown_score, u->unknown_id, i - base, exact);
        }
        int64_t j = i + 1;
        uint32_t node = first->base;
        while (node != 0) {
            const gv_double_cell *cell = &cells[node + symbols[j]];
            if (cell->check != node) break;
            j++;
            if (cell->id != GV_DOUBLE_NONE) {
                int32_t id = cell->id & GV_DOUBLE_ID;
                double own = (cell->id & GV_DOUBLE_FLAG) != 0 ? u->user_scores[id] : (double)cell->score;
                gv_relax(here + (j - i), sum, own, id, i - base, exact);
                if (j > reach) reach = j;
            }
            node = cell->base;
        }
        if (i + 1 > reach) reach = i + 1;
    }
    if (count > base) {
        GV_TRY(gv_write_path(out, u, state, s, base, count - base, error));
    }
done:
    for (int64_t k = 1; k <= reach - base && k < s->best_capacity; k++) s->best[k].score = -INFINITY;
    return status;
}

/* A stretch without added tokens: text[from, to). */
static gv_status gv_stretch(gv_tokens *out, const gv_unigram *u, gv_unigram_state *state, gv_unigram_scratch *s, gv_text text,
                            int64_t from, int64_t to, gv_error *error) {
    gv_status status;
    gv_text part = {(const char *)text.data + from * text.width, to - from, text.width};
    state->origin = from;
    status = gv_spm_normalise(&s->normal, u->spm, part, error);
    if (status == GV_OK) status = gv_number(s, &u->pieces, error);
    if (status != GV_OK) return status;
    state->unknown = false;
    return u->exact_sums ? gv_search(out, u, state, s, true, error) : gv_search(out, u, state, s, false, error);
}

/* The first place from `at` on where an added token may begin. */
#define GV_DEFINE_SKIP(name, type)                                                                                \
    static int64_t name(const gv_unigram *u, gv_text text, int64_t at) {                                          \
        const type *source = text.data;                                                                           \
        for (; at < text.length; at++) {                                                                          \
            uint32_t code = source[at];                                                                           \
            if (code >= (uint32_t)GV_UNIGRAM_PLANE || (u->added_first[code >> 5] >> (code & 31) & 1) != 0) break; \
        }                                                                                                         \
        return at;                                                                                                \
    }

GV_DEFINE_SKIP(gv_skip_1, uint8_t)
GV_DEFINE_SKIP(gv_skip_2, uint16_t)
GV_DEFINE_SKIP(gv_skip_4, uint32_t)

gv_status gv_unigram_encode(gv_tokens *out, const gv_unigram *u, gv_unigram_scratch *scratch, gv_text text, gv_error *error) {
    gv_status status = GV_OK;
    gv_unigram_state state = {0};
    int64_t done = 0;
    if (text.length > INT32_MAX) return gv_fail(error, GV_ERR_VALUE, "a text of more than 2^31 - 1 characters: cut it");
    if (scratch->normal.aligned != out->offsets) {
        gv_spm_text_clear(&scratch->normal);
        scratch->normal.aligned = out->offsets;
    }
    for (int64_t i = 0; u->added.count > 0 && i < text.length;) {
        gv_found found;
        i = text.width == 1 ? gv_skip_1(u, text, i) : text.width == 2 ? gv_skip_2(u, text, i) : gv_skip_4(u, text, i);
        if (i == text.length) break;
        if (!gv_added_find(&found, &u->added, &u->added.raw, text, i)) {
            i++;
            continue;
        }
        i = found.end;
        if (!gv_added_accept(&found, text, done)) continue;
        if (found.start > done) GV_TRY(gv_stretch(out, u, &state, scratch, text, done, found.start, error));
        GV_TRY(gv_tokens_reserve(out, 1, error));
        gv_put(out, found.token->id, (int32_t)found.start, (int32_t)found.end, state.words++);
        done = i = found.end;
    }
    if (done < text.length) GV_TRY(gv_stretch(out, u, &state, scratch, text, done, text.length, error));
done:
    return status;
}
