/* ngrams.c - character n-grams of a text, hashed into buckets and counted.
 *
 * Hashing in place of a dictionary (Weinberger et al., arXiv:0902.2206): what a model knows is then a list of bucket numbers.
 * Begin and end of the text are characters of their own, so that what a short request starts with is seen.
 */
#include <string.h>

#include "base/memory.h"
#include "govlm_ngrams.h"
#include "text/normalise.h"
#include "text/text.h"

enum { GV_GRAM_LONGEST = 8, GV_GRAM_BEGIN = GV_UC_LIMIT, GV_GRAM_END, GV_INSERTION = 48 };

void gv_sparse_buffer_clear(gv_sparse_buffer *buffer) {
    gv_release(buffer->allocator, buffer->splits, (size_t)buffer->row_capacity * sizeof *buffer->splits);
    gv_release(buffer->allocator, buffer->indices, (size_t)buffer->capacity * sizeof *buffer->indices);
    gv_release(buffer->allocator, buffer->values, (size_t)buffer->capacity * sizeof *buffer->values);
    *buffer = (gv_sparse_buffer){.allocator = buffer->allocator};
}

/* Room for one more row and `more` more entries. */
static gv_status gv_sparse_reserve(gv_sparse_buffer *buffer, int64_t rows, int64_t more, gv_error *error) {
    const gv_allocator *allocator = buffer->allocator;
    if (buffer->rows + rows + 1 > buffer->row_capacity) {
        int64_t capacity = buffer->row_capacity + buffer->row_capacity / 2;
        if (capacity < buffer->rows + rows + 1) capacity = buffer->rows + rows + 1;
        int64_t *splits = gv_alloc_array(allocator, (size_t)capacity, sizeof *splits);
        if (splits == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for n-grams");
        splits[0] = 0;
        if (buffer->splits != NULL) memcpy(splits, buffer->splits, (size_t)(buffer->rows + 1) * sizeof *splits);
        gv_release(allocator, buffer->splits, (size_t)buffer->row_capacity * sizeof *splits);
        buffer->splits = splits;
        buffer->row_capacity = capacity;
    }
    if (buffer->count + more > buffer->capacity) {
        int64_t capacity = buffer->capacity + buffer->capacity / 2 + 64;
        if (capacity < buffer->count + more) capacity = buffer->count + more;
        int32_t *indices = gv_alloc_array(allocator, (size_t)capacity, sizeof *indices);
        float *values = gv_alloc_array(allocator, (size_t)capacity, sizeof *values);
        if (indices == NULL || values == NULL) {
            gv_release(allocator, indices, (size_t)capacity * sizeof *indices);
            gv_release(allocator, values, (size_t)capacity * sizeof *values);
            return gv_fail(error, GV_ERR_MEMORY, "out of memory for n-grams");
        }
        if (buffer->count > 0) {
            memcpy(indices, buffer->indices, (size_t)buffer->count * sizeof *indices);
            memcpy(values, buffer->values, (size_t)buffer->count * sizeof *values);
        }
        gv_release(allocator, buffer->indices, (size_t)buffer->capacity * sizeof *indices);
        gv_release(allocator, buffer->values, (size_t)buffer->capacity * sizeof *values);
        buffer->indices = indices;
        buffer->values = values;
        buffer->capacity = capacity;
    }
    return GV_OK;
}

/* ---- characters ----------------------------------------------------------------------------------------------------- */

/* Scratch of one call: the text as it is hashed, and its buckets twice (sorting goes to and fro). */
typedef struct {
    uint32_t *codes, *buckets, *spare;
    int64_t code_capacity, bucket_capacity;
} gv_gram_scratch;

static void gv_gram_scratch_clear(gv_gram_scratch *s, const gv_allocator *allocator) {
    gv_release(allocator, s->codes, (size_t)s->code_capacity * sizeof *s->codes);
    gv_release(allocator, s->buckets, (size_t)s->bucket_capacity * sizeof *s->buckets);
    gv_release(allocator, s->spare, (size_t)s->bucket_capacity * sizeof *s->spare);
}

static gv_status gv_grow(uint32_t **array, int64_t *capacity, int64_t wanted, int64_t kept, const gv_allocator *allocator,
                         gv_error *error) {
    uint32_t *bigger = gv_alloc_array(allocator, (size_t)wanted, sizeof *bigger);
    if (bigger == NULL) return gv_fail(error, GV_ERR_MEMORY, "out of memory for n-grams");
    if (kept > 0) memcpy(bigger, *array, (size_t)kept * sizeof *bigger);
    gv_release(allocator, *array, (size_t)*capacity * sizeof *bigger);
    *array = bigger;
    *capacity = wanted;
    return GV_OK;
}

/* Full-width ASCII and the ideographic space, as compatibility normalisation has them. */
static uint32_t gv_fold_width(uint32_t code) {
    if (code >= 0xFF01 && code <= 0xFF5E) return code - 0xFF01 + 0x21;
    return code == 0x3000 ? ' ' : code;
}

/* The text as it is hashed: begin, characters, end. */
static gv_status gv_gram_codes(gv_gram_scratch *s, int64_t *count, gv_text text, const gv_allocator *allocator,
                               gv_error *error) {
    static const gv_tokenizer_options options = {.clean_text = true, .strip_accents = true, .lowercase = true};
    gv_status status = GV_OK;
    int64_t n = 0;
    bool space = false;
    gv_piece piece;
    if (text.length + 2 > s->code_capacity) {
        status = gv_grow(&s->codes, &s->code_capacity, text.length + text.length / 4 + 64, 0, allocator, error);
        if (status != GV_OK) return status;
    }
    s->codes[n++] = GV_GRAM_BEGIN;
    for (int64_t i = 0; i < text.length; i++) {
        uint32_t code = gv_text_at(text, i);
        if (gv_uc_is_surrogate(code) || code >= GV_UC_LIMIT) {
            return gv_fail(error, GV_ERR_VALUE, "text holds U+%04X at character %lld: it is no Unicode text", (unsigned)code,
                           (long long)i);
        }
        if (code >= 0x4E00 && code < 0xA000) { /* the common ideographs: nothing happens to them */
            piece.count = 1;
            piece.codes[0] = code;
        } else {
            gv_normalise_code(&piece, &options, gv_fold_width(code));
        }
        if (n + 2 * piece.count + 2 > s->code_capacity) {
            status = gv_grow(&s->codes, &s->code_capacity, s->code_capacity * 2 + 2 * GV_PIECE_MAX, n, allocator, error);
            if (status != GV_OK) return status;
        }
        for (int j = 0; j < piece.count; j++) {
            if (piece.codes[j] == ' ') {
                space = n > 1;
                continue;
            }
            if (space) s->codes[n++] = ' ';
            space = false;
            s->codes[n++] = piece.codes[j];
        }
    }
    s->codes[n++] = GV_GRAM_END;
    *count = n;
    return GV_OK;
}

/* ---- buckets -------------------------------------------------------------------------------------------------------- */

static int64_t gv_gram_buckets(uint32_t *out, const uint32_t *codes, int64_t length, const gv_ngram_options *options) {
    int64_t n = 0;
    for (int64_t i = 0; i < length; i++) {
        uint64_t hash = 0xCBF29CE484222325u;
        for (int j = 0; j < options->longest && i + j < length; j++) {
            hash = (hash ^ codes[i + j]) * 0x9E3779B97F4A7C15u;
            hash ^= hash >> 29;
            if (j + 1 < options->shortest || (j == 0 && codes[i] >= GV_UC_LIMIT)) continue;
            out[n++] = (uint32_t)((hash * 0xD6E8FEB86659FD93u) >> (64 - options->bits));
        }
    }
    return n;
}

/* Ascending; `spare` has room for as many. Few by insertion, many by digits of eight bits. Returns where the result lies. */
static uint32_t *gv_sort_buckets(uint32_t *buckets, uint32_t *spare, int64_t count, int bits) {
    if (count <= GV_INSERTION) {
        for (int64_t i = 1; i < count; i++) {
            uint32_t bucket = buckets[i];
            int64_t j = i;
            for (; j > 0 && buckets[j - 1] > bucket; j--) buckets[j] = buckets[j - 1];
            buckets[j] = bucket;
        }
        return buckets;
    }
    for (int shift = 0; shift < bits; shift += 8) {
        int64_t places[257] = {0};
        for (int64_t i = 0; i < count; i++) places[((buckets[i] >> shift) & 255) + 1]++;
        for (int digit = 0; digit < 256; digit++) places[digit + 1] += places[digit];
        for (int64_t i = 0; i < count; i++) spare[places[(buckets[i] >> shift) & 255]++] = buckets[i];
        uint32_t *sorted = spare;
        spare = buckets;
        buckets = sorted;
    }
    return buckets;
}

gv_status gv_ngrams_count(gv_sparse_buffer *out, const gv_ngram_options *options, const gv_text *texts, int64_t count,
                          gv_error *error) {
    const gv_allocator *allocator = out->allocator;
    gv_gram_scratch s = {0};
    gv_status status = GV_OK;
    if (options->shortest < 1 || options->longest < options->shortest || options->longest > GV_GRAM_LONGEST) {
        return gv_fail(error, GV_ERR_VALUE, "n-grams must have 1 <= shortest <= longest <= %d, not %d and %d", GV_GRAM_LONGEST,
                       options->shortest, options->longest);
    }
    if (options->bits < 8 || options->bits > 30) {
        return gv_fail(error, GV_ERR_VALUE, "bits must be 8..30, not %d", options->bits);
    }
    if ((status = gv_sparse_reserve(out, count, 0, error)) != GV_OK) return status;
    for (int64_t row = 0; row < count; row++) {
        int64_t length = 0;
        if ((status = gv_gram_codes(&s, &length, texts[row], allocator, error)) != GV_OK) goto done;
        int64_t most = length * (options->longest - options->shortest + 1);
        if (most > s.bucket_capacity) {
            int64_t capacity = s.bucket_capacity;
            if ((status = gv_grow(&s.buckets, &capacity, most + most / 2, 0, allocator, error)) != GV_OK) goto done;
            if ((status = gv_grow(&s.spare, &s.bucket_capacity, most + most / 2, 0, allocator, error)) != GV_OK) {
                gv_release(allocator, s.buckets, (size_t)capacity * sizeof *s.buckets);
                s.buckets = NULL;
                goto done;
            }
        }
        int64_t found = gv_gram_buckets(s.buckets, s.codes, length, options);
        const uint32_t *sorted = gv_sort_buckets(s.buckets, s.spare, found, options->bits);
        if ((status = gv_sparse_reserve(out, 0, found, error)) != GV_OK) goto done;
        for (int64_t i = 0; i < found;) {
            int64_t first = i;
            while (i < found && sorted[i] == sorted[first]) i++;
            out->indices[out->count] = (int32_t)sorted[first];
            out->values[out->count++] = (float)(i - first);
        }
        out->splits[++out->rows] = out->count;
    }
done:
    if (status == GV_ERR_VALUE && count > 1) {
        char text[sizeof error->text];
        memcpy(text, error->text, sizeof text);
        text[400] = '\0';
        (void)gv_fail(error, status, "texts[%lld]: %s", (long long)out->rows, text);
    }
    gv_gram_scratch_clear(&s, allocator);
    return status;
}
