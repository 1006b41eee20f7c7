/* embedding.c - see embedding.h. */
#include "nn/embedding.h"

#include <string.h>

#include "base/parallel.h"

enum { GV_TOKEN_TILE = 32, GV_COLUMN_TILE = 64 };

typedef struct {
    float *y;
    const float *dy;
    gv_table word, position, type;
    const int32_t *ids, *positions, *types;
    float scale;
    int64_t tokens, cols, skip;
    bool has_position, has_type;
} gv_embedding_job;

/* y += row, or y = factor * row */
static void gv_table_row(const gv_kernels *k, float *y, const gv_table *table, int64_t row, float factor, bool add,
                         int64_t cols) {
    if (table->quantised != NULL) {
        gv_any_row(k, y, factor, table->quantised, row, add);
    } else if (add) {
        k->add(y, y, table->rows + row * cols, cols);
    } else {
        k->scale(y, factor, table->rows + row * cols, cols);
    }
}

static void gv_embedding_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    const gv_embedding_job *job = context;
    const gv_kernels *k = gv_kernels_get();
    int64_t end = (tile + 1) * GV_TOKEN_TILE < job->tokens ? (tile + 1) * GV_TOKEN_TILE : job->tokens;
    for (int64_t t = tile * GV_TOKEN_TILE; t < end; t++) {
        float *y = job->y + t * job->cols;
        gv_table_row(k, y, &job->word, job->ids[t], job->scale, false, job->cols);
        if (job->has_type) gv_table_row(k, y, &job->type, job->types != NULL ? job->types[t] : 0, 1.0f, true, job->cols);
        if (job->has_position) gv_table_row(k, y, &job->position, job->positions[t], 1.0f, true, job->cols);
    }
}

gv_status gv_embedding_forward(float *y, gv_table word, gv_table position, gv_table type, const int32_t *ids,
                               const int32_t *positions, const int32_t *types, float scale, int64_t tokens, int64_t cols) {
    gv_embedding_job job = {.y = y,
                            .word = word,
                            .position = position,
                            .type = type,
                            .ids = ids,
                            .positions = positions,
                            .types = types,
                            .scale = scale,
                            .tokens = tokens,
                            .cols = cols,
                            .has_position = position.rows != NULL || position.quantised != NULL,
                            .has_type = type.rows != NULL || type.quantised != NULL};
    return gv_parallel_for((tokens + GV_TOKEN_TILE - 1) / GV_TOKEN_TILE, gv_embedding_tile, &job);
}

/* A tile owns a range of columns of the whole table, so tokens that share a row add in order. */
static void gv_embedding_backward_tile(void *context, int64_t tile, int worker) {
    (void)worker;
    const gv_embedding_job *job = context;
    const gv_kernels *k = gv_kernels_get();
    int64_t c = tile * GV_COLUMN_TILE;
    int64_t cols = job->cols - c < GV_COLUMN_TILE ? job->cols - c : GV_COLUMN_TILE;
    for (int64_t t = 0; t < job->tokens; t++) {
        int64_t row = job->ids != NULL ? job->ids[t] : 0;
        if (row != job->skip) k->axpy(job->y + row * job->cols + c, job->scale, job->dy + t * job->cols + c, cols);
    }
}

gv_status gv_embedding_backward(float *table, uint8_t *touched, const float *dy, const int32_t *index, float scale,
                                int64_t skip, int64_t tokens, int64_t cols) {
    gv_embedding_job job = {.y = table, .dy = dy, .ids = index, .scale = scale, .skip = skip, .tokens = tokens, .cols = cols};
    if (tokens == 0) return GV_OK;
    for (int64_t t = 0; touched != NULL && t < tokens; t++) {
        int64_t row = index != NULL ? index[t] : 0;
        if (row == skip || touched[row]) continue;
        touched[row] = 1;
        /* Zero already, but its pages may not exist: adding would first read them in and then copy them. */
        memset(table + row * cols, 0, (size_t)cols * sizeof(float));
    }
    return gv_parallel_for((cols + GV_COLUMN_TILE - 1) / GV_COLUMN_TILE, gv_embedding_backward_tile, &job);
}
