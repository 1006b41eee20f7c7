/* text.h - reading a string in its own width. */
#ifndef GV_TEXT_TEXT_H
#define GV_TEXT_TEXT_H

#include "govlm.h"

static inline uint32_t gv_text_at(gv_text text, int64_t index) {
    switch (text.width) {
        case 1:
            return ((const uint8_t *)text.data)[index];
        case 2:
            return ((const uint16_t *)text.data)[index];
        default:
            return ((const uint32_t *)text.data)[index];
    }
}

#endif
