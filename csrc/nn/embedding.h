/* embedding.h - word + position + token type rows, and their row-sparse gradients. */
#ifndef GV_NN_EMBEDDING_H
#define GV_NN_EMBEDDING_H

#include "kernels/kernels.h"

/* A table of rows of `cols`, float32 or quantised; both NULL = none. */
typedef struct {
    const float *rows;
    const gv_quantised *quantised;
} gv_table;

/* y[t] = scale * word[ids[t]] + position[positions[t]] + type[types[t]]; an empty table is left out, NULL types mean 0. y: [T, E] */
gv_status gv_embedding_forward(float *y, gv_table word, gv_table position, gv_table type, const int32_t *ids,
                               const int32_t *positions, const int32_t *types, float scale, int64_t tokens, int64_t cols);
/* table[index[t]] += scale * dy[t], in token order; index NULL = 0; rows with index `skip` are left out.
 * touched (NULL = the table is dense): [rows of the table], flags what is reached; a row that was not is written from zero. */
gv_status gv_embedding_backward(float *table, uint8_t *touched, const float *dy, const int32_t *index, float scale,
                                int64_t skip, int64_t tokens, int64_t cols);

#endif
