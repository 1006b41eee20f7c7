/* unigram_trainer.c - a unigram vocabulary: all frequent substrings, then expectation maximisation and pruning in turn.
 *
 * The method is that of Kudo (arXiv:1804.10959) as sentencepiece has it: pieces begin as the substrings with the highest count
 * times length; EM with a sparse prior (digamma of the expected counts); a pruning keeps the pieces whose loss would cost the
 * text's likelihood most, by what their text would be cut into without them. One thread, one order: the same text gives the
 * same bits. Sums over paths are kept near 1 by a factor a character, which every path has alike.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/try.h"
#include "govlm_unigram.h"
#include "text/double_array.h"
#include "text/substrings.h"
#include "text/unicode.h"

enum { GV_WORD_LONGEST = 256, GV_SCRIPT_COMMON = 1 };
static const uint32_t GV_TRAIN_SPACE = 0x2581;
static const double GV_DROPPED = 0.5; /* expected occurrences below which a piece is gone */

typedef struct {
    int64_t offset; /* in the codes */
    int32_t length;
    double score; /* log probability */
} gv_train_piece;

typedef struct {
    const uint32_t *codes;
    int64_t length, count;
} gv_train_word;

typedef struct {
    int32_t end, id; /* id -1: a character without a piece */
} gv_train_edge;

struct gv_unigram_trainer {
    const gv_allocator *allocator;
    gv_spm *spm;
    gv_spm_text normal;
    uint32_t *codes; /* sentences, each with a 0 behind it */
    int64_t count, capacity;
};

/* What a build works with. */
typedef struct {
    const gv_allocator *allocator;
    const uint32_t *codes;
    gv_train_piece *pieces; /* [count] of piece_capacity */
    int64_t count, piece_capacity;
    gv_train_word *words;
    int64_t word_count, word_capacity;
    gv_double_array trie;
    gv_text *texts; /* [piece_capacity] scratch for making the trie */
    int32_t *ids;
    float *scores;
    double *weights;  /* [piece_capacity] probability times the factor of its length */
    double *expected; /* [piece_capacity] */
    double unknown_score, unknown_weight, per_character;
    uint32_t symbols[GV_WORD_LONGEST + 1];
    gv_train_edge edges[GV_WORD_LONGEST * (GV_UNIGRAM_LONGEST + 1)];
    int32_t first[GV_WORD_LONGEST + 1]; /* edges of a place */
    double alpha[GV_WORD_LONGEST + 1], beta[GV_WORD_LONGEST + 1];
    int32_t path[GV_WORD_LONGEST];
} gv_training;

static gv_status gv_train_memory(gv_error *error) {
    return gv_fail(error, GV_ERR_MEMORY, "out of memory for training a vocabulary");
}

/* ---- text ------------------------------------------------------------------------------------------------------------ */

void gv_unigram_trainer_free(gv_unigram_trainer *t) {
    if (t == NULL) return;
    gv_spm_free(t->spm);
    gv_spm_text_clear(&t->normal);
    gv_release(t->allocator, t->codes, (size_t)t->capacity * sizeof *t->codes);
    gv_release(t->allocator, t, sizeof *t);
}

gv_status gv_unigram_trainer_create(gv_unigram_trainer **out, const gv_spm_options *options, const gv_allocator *allocator,
                                    gv_error *error) {
    *out = NULL;
    gv_unigram_trainer *t = gv_alloc_zero(allocator, sizeof *t);
    if (t == NULL) return gv_train_memory(error);
    t->allocator = t->normal.allocator = allocator;
    gv_status status = gv_spm_create(&t->spm, options, NULL, 0, allocator, error);
    if (status != GV_OK) {
        gv_unigram_trainer_free(t);
        return status;
    }
    *out = t;
    return GV_OK;
}

gv_status gv_unigram_trainer_feed(gv_unigram_trainer *t, gv_text sentence, gv_error *error) {
    gv_status status = gv_spm_normalise(&t->normal, t->spm, sentence, error);
    if (status != GV_OK || t->normal.count == 0) return status;
    int64_t needed = t->count + t->normal.count + 1;
    if (needed > INT32_MAX)
        return gv_fail(error, GV_ERR_VALUE, "more than 2^31 - 1 characters of text to train on: take a sample");
    if (needed > t->capacity) {
        int64_t capacity = needed + t->capacity / 2 + 4096;
        uint32_t *bigger = gv_alloc_array(t->allocator, (size_t)capacity, sizeof *bigger);
        if (bigger == NULL) return gv_train_memory(error);
        if (t->count > 0) memcpy(bigger, t->codes, (size_t)t->count * sizeof *bigger);
        gv_release(t->allocator, t->codes, (size_t)t->capacity * sizeof *bigger);
        t->codes = bigger;
        t->capacity = capacity;
    }
    memcpy(t->codes + t->count, t->normal.codes, (size_t)t->normal.count * sizeof *t->codes);
    t->count = needed;
    t->codes[needed - 1] = 0;
    return GV_OK;
}

/* ---- which substrings may be pieces ---------------------------------------------------------------------------------- */

/* Close to sentencepiece's scripts: kana counts as Han, digits and punctuation are common; others by blocks. */
static uint32_t gv_script(uint32_t c) {
    if (c < 0xC0) return (c | 32) - 'a' < 26 || c == 0xAA || c == 0xBA ? 2 : GV_SCRIPT_COMMON;
    if (c < 0x250) return c == 0xD7 || c == 0xF7 ? GV_SCRIPT_COMMON : 2;
    if (c >= 0x1E00 && c < 0x1F00) return 2;
    if ((c >= 0x3041 && c < 0x3100 && c != 0x30FB) || c == 0x3005 || c == 0x3007 || (c >= 0x31F0 && c < 0x3200)) return 6;
    if ((c >= 0x3400 && c < 0x4DC0) || (c >= 0x4E00 && c < 0xA000) || (c >= 0xF900 && c < 0xFB00) || c >= 0x20000) return 6;
    if (c >= 0x370 && c < 0x400) return 3;
    if (c >= 0x400 && c < 0x530) return 4;
    if ((c >= 0xAC00 && c < 0xD7A4) || (c >= 0x1100 && c < 0x1200)) return 5;
    return c >= 0x530 && c < 0x1E00 ? 16 + (c >> 7) : GV_SCRIPT_COMMON;
}

static bool gv_may_be_piece(const uint32_t *codes, int64_t length) {
    uint32_t script = 0;
    for (int64_t i = 0; i < length; i++) {
        if (codes[i] == GV_TRAIN_SPACE) {
            if (i > 0) return false;
            continue;
        }
        uint32_t own = gv_script(codes[i]);
        if (script != 0 && own != script) return false;
        script = own;
    }
    return true;
}

/* ---- seeds ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t code;
    int64_t count, first;
} gv_character;

static int gv_by_frequency(const void *left, const void *right) {
    const gv_character *a = left, *b = right;
    if (a->count != b->count) return a->count > b->count ? -1 : 1;
    return a->code < b->code ? -1 : a->code > b->code;
}

/* Counts characters; those beyond the coverage are overwritten by 0 in `codes`. *kept: how many remain, the most frequent first. */
static gv_status gv_characters(gv_character **out, int64_t *kept, uint32_t *codes, int64_t count, double coverage,
                               const gv_allocator *allocator, gv_error *error) {
    const size_t size = (size_t)GV_UC_LIMIT * sizeof(gv_character);
    int64_t total = 0, kinds = 0, sum = 0, n = 0;
    gv_character *all = gv_alloc_zero(allocator, size);
    uint8_t *keep = gv_alloc_zero(allocator, GV_UC_LIMIT);
    *out = all;
    if (all == NULL || keep == NULL) {
        gv_release(allocator, keep, GV_UC_LIMIT);
        return gv_train_memory(error);
    }
    for (int64_t i = count - 1; i >= 0; i--) {
        if (codes[i] == 0) continue;
        all[codes[i]] = (gv_character){codes[i], all[codes[i]].count + 1, i};
        total++;
    }
    for (int64_t i = 0; i < GV_UC_LIMIT; i++)
        if (all[i].count > 0) all[kinds++] = all[i];
    qsort(all, (size_t)kinds, sizeof *all, gv_by_frequency);
    for (; n < kinds && (double)sum < coverage * (double)total; n++) {
        sum += all[n].count;
        keep[all[n].code] = 1;
    }
    for (int64_t i = 0; i < count; i++)
        if (!keep[codes[i]]) codes[i] = 0;
    *kept = n;
    gv_release(allocator, keep, GV_UC_LIMIT);
    return GV_OK;
}

static gv_status gv_make_seeds(gv_training *t, const gv_character *characters, int64_t kinds, int64_t count,
                               const gv_unigram_training *options, gv_error *error) {
    gv_status status = GV_OK;
    gv_substring *found = NULL;
    int64_t founds = 0, capacity = 0;
    double sum = 0;
    GV_TRY(gv_substrings(&found, &founds, &capacity, t->codes, count, options->max_piece_length, options->seed_size,
                         gv_may_be_piece, t->allocator, error));
    t->piece_capacity = kinds + founds + 1;
    const size_t n = (size_t)t->piece_capacity;
    t->pieces = gv_alloc_array(t->allocator, n, sizeof *t->pieces);
    t->texts = gv_alloc_array(t->allocator, n, sizeof *t->texts);
    t->ids = gv_alloc_array(t->allocator, n, sizeof *t->ids);
    t->scores = gv_alloc_array(t->allocator, n, sizeof *t->scores);
    t->weights = gv_alloc_array(t->allocator, n, sizeof *t->weights);
    t->expected = gv_alloc_array(t->allocator, n, sizeof *t->expected);
    if (!t->pieces || !t->texts || !t->ids || !t->scores || !t->weights || !t->expected) GV_TRY(gv_train_memory(error));
    for (int64_t i = 0; i < kinds; i++)
        t->pieces[t->count++] = (gv_train_piece){characters[i].first, 1, (double)characters[i].count};
    for (int64_t i = 0; i < founds; i++)
        t->pieces[t->count++] = (gv_train_piece){found[i].offset, found[i].length, (double)found[i].score};
    for (int64_t i = 0; i < t->count; i++) sum += t->pieces[i].score;
    for (int64_t i = 0; i < t->count; i++) t->pieces[i].score = log(t->pieces[i].score) - log(sum);
done:
    gv_release(t->allocator, found, (size_t)capacity * sizeof *found);
    return status;
}

/* ---- words ----------------------------------------------------------------------------------------------------------- */

static int gv_by_text(const void *left, const void *right) {
    const gv_train_word *a = left, *b = right;
    for (int64_t i = 0; i < a->length && i < b->length; i++)
        if (a->codes[i] != b->codes[i]) return a->codes[i] < b->codes[i] ? -1 : 1;
    return a->length < b->length ? -1 : a->length > b->length;
}

/* Words begin at a space or a sentence; equal ones are counted. */
static gv_status gv_make_words(gv_training *t, int64_t count, gv_error *error) {
    for (int pass = 0; pass < 2; pass++) {
        int64_t begin = 0, n = 0;
        for (int64_t i = 0; i < count; i++) {
            bool cut = t->codes[i] == 0 || t->codes[i] == GV_TRAIN_SPACE || i - begin == GV_WORD_LONGEST;
            if (cut && i > begin) {
                if (pass == 1) t->words[n] = (gv_train_word){t->codes + begin, i - begin, 1};
                n++;
            }
            if (cut) begin = t->codes[i] == 0 ? i + 1 : i;
        }
        if (pass == 0) {
            t->words = gv_alloc_array(t->allocator, (size_t)n + 1, sizeof *t->words);
            if (t->words == NULL) return gv_train_memory(error);
            t->word_capacity = n + 1;
        } else if (n > 0) {
            qsort(t->words, (size_t)n, sizeof *t->words, gv_by_text);
            t->word_count = 1;
            for (int64_t i = 1; i < n; i++) {
                if (gv_by_text(&t->words[i], &t->words[t->word_count - 1]) == 0) {
                    t->words[t->word_count - 1].count++;
                } else {
                    t->words[t->word_count++] = t->words[i];
                }
            }
        }
    }
    return GV_OK;
}

/* ---- lattices -------------------------------------------------------------------------------------------------------- */

static gv_status gv_make_trie(gv_training *t, gv_error *error) {
    gv_double_array_clear(&t->trie, t->allocator);
    for (int64_t i = 0; i < t->count; i++) {
        t->texts[i] = (gv_text){t->codes + t->pieces[i].offset, t->pieces[i].length, 4};
        t->ids[i] = (int32_t)i;
        t->scores[i] = 0;
    }
    return gv_double_array_build(&t->trie, t->texts, t->ids, t->count, t->scores, t->allocator, error);
}

/* Weights from scores; a dropped piece has the score -inf. */
static void gv_weigh(gv_training *t) {
    double least = 0;
    for (int64_t i = 0; i < t->count; i++) {
        double score = t->pieces[i].score;
        if (score > -INFINITY && score < least) least = score;
        t->weights[i] = exp(score + t->per_character * t->pieces[i].length);
    }
    t->unknown_score = least - 10;
    t->unknown_weight = exp(t->unknown_score + t->per_character);
}

/* All edges of the lattice of codes[0, length), length at most GV_WORD_LONGEST; by the place that they begin at. */
static void gv_lattice(gv_training *t, const uint32_t *codes, int64_t length) {
    int32_t count = 0;
    for (int64_t i = 0; i < length; i++) t->symbols[i] = gv_double_array_symbol(&t->trie, codes[i]);
    t->symbols[length] = 0;
    for (int64_t i = 0; i < length; i++) {
        t->first[i] = count;
        const gv_double_first *first = &t->trie.first[t->symbols[i]];
        bool single = first->id >= 0 && t->weights[first->id] > 0;
        t->edges[count++] = (gv_train_edge){(int32_t)i + 1, single ? first->id : -1};
        uint32_t node = first->base;
        for (int64_t j = i + 1; node != 0; j++) {
            const gv_double_cell *cell = &t->trie.cells[node + t->symbols[j]];
            if (cell->check != node) break;
            if (cell->id >= 0 && t->weights[cell->id] > 0) t->edges[count++] = (gv_train_edge){(int32_t)j + 1, cell->id};
            node = cell->base;
        }
    }
    t->first[length] = count;
}

/* Adds the expected occurrences of each piece in the word; its log likelihood. A sum that leaves float64 halves the word. */
static double gv_expect(gv_training *t, const uint32_t *codes, int64_t length, double count) {
    gv_lattice(t, codes, length);
    for (int64_t i = 0; i <= length; i++) t->alpha[i] = t->beta[i] = 0;
    t->alpha[0] = t->beta[length] = 1;
    for (int64_t i = 0; i < length; i++)
        for (int32_t e = t->first[i]; e < t->first[i + 1]; e++) {
            int32_t id = t->edges[e].id;
            t->alpha[t->edges[e].end] += t->alpha[i] * (id >= 0 ? t->weights[id] : t->unknown_weight);
        }
    const double z = t->alpha[length];
    if (!(z > 1e-250 && z < 1e250) && length > 1)
        return gv_expect(t, codes, length / 2, count) + gv_expect(t, codes + length / 2, length - length / 2, count);
    for (int64_t i = length - 1; i >= 0; i--) {
        const double before = t->alpha[i] * (count / z);
        double sum = 0;
        for (int32_t e = t->first[i]; e < t->first[i + 1]; e++) {
            int32_t id = t->edges[e].id;
            double through = (id >= 0 ? t->weights[id] : t->unknown_weight) * t->beta[t->edges[e].end];
            sum += through;
            if (id >= 0) t->expected[id] += before * through;
        }
        t->beta[i] = sum;
    }
    return (log(z) - t->per_character * (double)length) * count;
}

/* The best path over codes[0, length) without piece `without`: ids into t->path in order; how many. *score: its sum. */
static int64_t gv_best_path(double *score, gv_training *t, const uint32_t *codes, int64_t length, int32_t without) {
    int32_t back[GV_WORD_LONGEST + 1], id_at[GV_WORD_LONGEST + 1];
    gv_lattice(t, codes, length);
    for (int64_t i = 1; i <= length; i++) t->alpha[i] = -INFINITY;
    t->alpha[0] = 0;
    for (int64_t i = 0; i < length; i++)
        for (int32_t e = t->first[i]; e < t->first[i + 1]; e++) {
            int32_t id = t->edges[e].id, end = t->edges[e].end;
            if (id == without && id >= 0) continue;
            double sum = t->alpha[i] + (id >= 0 ? t->pieces[id].score : t->unknown_score);
            if (sum > t->alpha[end]) {
                t->alpha[end] = sum;
                back[end] = (int32_t)i;
                id_at[end] = id;
            }
        }
    *score = t->alpha[length];
    if (!(*score > -INFINITY)) return 0;
    int64_t n = 0;
    for (int64_t at = length; at > 0; at = back[at]) t->path[n++] = id_at[at];
    for (int64_t i = 0; i < n / 2; i++) {
        int32_t id = t->path[i];
        t->path[i] = t->path[n - 1 - i];
        t->path[n - 1 - i] = id;
    }
    return n;
}

/* ---- expectation maximisation, pruning --------------------------------------------------------------------------------- */

static double gv_digamma(double x) {
    double result = 0;
    for (; x < 7; x++) result -= 1 / x;
    x -= 0.5;
    const double xx = 1 / x, xx2 = xx * xx, xx4 = xx2 * xx2;
    return result + log(x) + (1.0 / 24.0) * xx2 - (7.0 / 960.0) * xx4 + (31.0 / 8064.0) * xx4 * xx2 -
           (127.0 / 30720.0) * xx4 * xx4;
}

static void gv_iterate(gv_training *t) {
    double likelihood = 0, characters = 0, sum = 0;
    gv_weigh(t);
    memset(t->expected, 0, (size_t)t->count * sizeof *t->expected);
    for (int64_t i = 0; i < t->word_count; i++) {
        const gv_train_word *w = &t->words[i];
        likelihood += gv_expect(t, w->codes, w->length, (double)w->count);
        characters += (double)w->length * (double)w->count;
    }
    t->per_character = -likelihood / characters;
    for (int64_t i = 0; i < t->count; i++)
        if (t->expected[i] >= GV_DROPPED) sum += t->expected[i];
    for (int64_t i = 0; i < t->count; i++)
        t->pieces[i].score = t->expected[i] >= GV_DROPPED ? gv_digamma(t->expected[i]) - gv_digamma(sum) : -INFINITY;
    gv_weigh(t);
}

static int64_t gv_alive(const gv_training *t) {
    int64_t alive = 0;
    for (int64_t i = 0; i < t->count; i++) alive += t->pieces[i].score > -INFINITY;
    return alive;
}

typedef struct {
    double loss;
    int64_t index;
} gv_candidate;

static int gv_by_loss(const void *left, const void *right) {
    const gv_candidate *a = left, *b = right;
    if (a->loss != b->loss) return a->loss > b->loss ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* Keeps `size` pieces: those that cannot be written otherwise, then those that would be missed most. The trie is made anew. */
static gv_status gv_prune(gv_training *t, int64_t size, gv_error *error) {
    gv_status status = GV_OK;
    double sum = 0, words = 0, score;
    int64_t candidates = 0, kept = 0;
    const size_t bytes = (size_t)t->count * sizeof(gv_candidate) + 1;
    gv_candidate *list = gv_alloc(t->allocator, bytes);
    double *frequency = t->expected;
    if (list == NULL) GV_TRY(gv_train_memory(error));
    memset(frequency, 0, (size_t)t->count * sizeof *frequency);
    for (int64_t i = 0; i < t->word_count; i++) {
        const gv_train_word *w = &t->words[i];
        int64_t n = gv_best_path(&score, t, w->codes, w->length, -1);
        for (int64_t k = 0; k < n; k++)
            if (t->path[k] >= 0) frequency[t->path[k]] += (double)w->count;
        words += (double)w->count;
    }
    for (int64_t i = 0; i < t->count; i++) sum += frequency[i];
    for (int64_t i = 0; i < t->count; i++) {
        const gv_train_piece *piece = &t->pieces[i];
        if (!(piece->score > -INFINITY) || frequency[i] <= 0) continue;
        double loss = INFINITY; /* no other way to write it */
        int64_t n = gv_best_path(&score, t, t->codes + piece->offset, piece->length, (int32_t)i);
        bool other = n > 0;
        for (int64_t k = 0; k < n; k++) other = other && t->path[k] >= 0;
        if (other && score > piece->score) continue; /* the best path does not use it even here */
        if (other) {
            double without = 0, total = log(sum + frequency[i] * (double)(n - 1));
            for (int64_t k = 0; k < n; k++) without += log(frequency[t->path[k]] + frequency[i]) - total;
            loss = frequency[i] / words * (log(frequency[i]) - log(sum) - without);
        }
        list[candidates++] = (gv_candidate){loss, i};
    }
    if (candidates > 0) qsort(list, (size_t)candidates, sizeof *list, gv_by_loss);
    for (int64_t i = 0; i < t->count; i++) t->ids[i] = 0;
    for (int64_t i = 0; i < candidates && (i < size || list[i].loss == INFINITY); i++) t->ids[list[i].index] = 1;
    for (int64_t i = 0; i < t->count; i++)
        if (t->ids[i]) t->pieces[kept++] = t->pieces[i];
    t->count = kept;
    if (kept == 0) GV_TRY(gv_fail(error, GV_ERR_VALUE, "too little text to train on: no piece occurs often enough"));
    GV_TRY(gv_make_trie(t, error));
    gv_weigh(t);
done:
    gv_release(t->allocator, list, bytes);
    return status;
}

/* ---- the vocabulary ---------------------------------------------------------------------------------------------------- */

typedef struct {
    const uint32_t *codes;
    int64_t length;
    double score;
} gv_final;

static int gv_by_score(const void *left, const void *right) {
    const gv_final *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    gv_train_word x = {a->codes, a->length, 0}, y = {b->codes, b->length, 0};
    return gv_by_text(&x, &y);
}

/* Every character, with a low score where EM dropped it, and the best pieces. */
static gv_status gv_finish(gv_training *t, const gv_character *characters, int64_t kinds, int64_t size, gv_unigram_emit emit,
                           void *context, gv_error *error) {
    gv_status status = GV_OK;
    int64_t n = 0, chosen = 0;
    double penalty = 0;
    const size_t bytes = (size_t)(t->count + kinds) * sizeof(gv_final) + 1;
    gv_final *list = gv_alloc(t->allocator, bytes);
    if (list == NULL) GV_TRY(gv_train_memory(error));
    for (int64_t i = 0; i < kinds; i++) {
        int32_t id = t->trie.first[gv_double_array_symbol(&t->trie, characters[i].code)].id;
        double score = id >= 0 ? t->pieces[id].score : -INFINITY;
        if (!(score > -INFINITY)) {
            score = t->unknown_score + 10 + penalty; /* the lowest score; the order keeps frequent ones ahead */
            penalty += 0.0001;
        }
        list[n++] = (gv_final){t->codes + characters[i].first, 1, score};
    }
    chosen = n;
    for (int64_t i = 0; i < t->count; i++)
        if (t->pieces[i].length > 1 && t->pieces[i].score > -INFINITY)
            list[n++] = (gv_final){t->codes + t->pieces[i].offset, t->pieces[i].length, t->pieces[i].score};
    if (n > chosen) qsort(list + chosen, (size_t)(n - chosen), sizeof *list, gv_by_score);
    if (n > size) n = size > chosen ? size : chosen;
    if (n > 0) qsort(list, (size_t)n, sizeof *list, gv_by_score);
    for (int64_t i = 0; i < n; i++) GV_TRY(emit(context, list[i].codes, list[i].length, list[i].score));
done:
    gv_release(t->allocator, list, bytes);
    return status;
}

static void gv_training_free(gv_training *t) {
    if (t == NULL) return;
    const gv_allocator *a = t->allocator;
    const size_t n = (size_t)t->piece_capacity;
    gv_release(a, t->pieces, n * sizeof *t->pieces);
    gv_release(a, t->texts, n * sizeof *t->texts);
    gv_release(a, t->ids, n * sizeof *t->ids);
    gv_release(a, t->scores, n * sizeof *t->scores);
    gv_release(a, t->weights, n * sizeof *t->weights);
    gv_release(a, t->expected, n * sizeof *t->expected);
    gv_release(a, t->words, (size_t)t->word_capacity * sizeof *t->words);
    gv_double_array_clear(&t->trie, a);
    gv_release(a, t, sizeof *t);
}

gv_status gv_unigram_trainer_build(gv_unigram_trainer *trainer, const gv_unigram_training *options, gv_unigram_emit emit,
                                   void *context, gv_error *error) {
    gv_status status = GV_OK;
    gv_character *characters = NULL;
    int64_t kinds = 0, desired = options->vocab_size + options->vocab_size / 10;
    gv_training *t = NULL;
    if (options->vocab_size < 1 || options->seed_size < 1 || options->sub_iterations < 1 ||
        !(options->character_coverage > 0) || options->character_coverage > 1 || !(options->shrinking_factor > 0) ||
        !(options->shrinking_factor < 1) || options->max_piece_length < 1 || options->max_piece_length > GV_UNIGRAM_LONGEST)
        return gv_fail(error, GV_ERR_VALUE, "a setting of the training is out of range");
    if (trainer->count == 0) return gv_fail(error, GV_ERR_VALUE, "no text was fed, so there is nothing to train on");
    t = gv_alloc_zero(trainer->allocator, sizeof *t);
    if (t == NULL) GV_TRY(gv_train_memory(error));
    t->allocator = trainer->allocator;
    t->codes = trainer->codes;
    t->per_character = 3.5; /* nats, until the first likelihood is known */
    GV_TRY(
        gv_characters(&characters, &kinds, trainer->codes, trainer->count, options->character_coverage, t->allocator, error));
    if (kinds > options->vocab_size)
        GV_TRY(
            gv_fail(error, GV_ERR_VALUE,
                    "the text has %lld characters to cover, more than vocab_size %lld: raise it, or lower character_coverage",
                    (long long)kinds, (long long)options->vocab_size));
    GV_TRY(gv_make_seeds(t, characters, kinds, trainer->count, options, error));
    GV_TRY(gv_make_words(t, trainer->count, error));
    GV_TRY(gv_make_trie(t, error));
    for (;;) {
        for (int64_t i = 0; i < options->sub_iterations; i++) gv_iterate(t);
        int64_t alive = gv_alive(t), before = t->count, size = (int64_t)((double)alive * options->shrinking_factor);
        if (alive <= desired) break;
        GV_TRY(gv_prune(t, size > desired ? size : desired, error));
        if (t->count >= before) break; /* nothing can go */
    }
    GV_TRY(gv_finish(t, characters, kinds, options->vocab_size, emit, context, error));
done:
    gv_release(trainer->allocator, characters, (size_t)GV_UC_LIMIT * sizeof *characters);
    gv_training_free(t);
    return status;
}
