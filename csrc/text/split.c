/* split.c - where pieces end, as the regular expressions of GPT-2, Qwen2 and Llama 3 have it.
 *
 *   GPT-2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *   Qwen2    (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 *   Llama 3  the same with \p{N}{1,3}
 *   digits   every numeral alone, then GPT-2 between them (SmolLM)
 *
 * The alternatives are tried in order, as an engine with backtracking does.
 */
#include "text/split.h"

enum { GV_CLASS_WORDLIKE = GV_CLASS_LETTER | GV_CLASS_NUMBER | GV_CLASS_SPACE };

static int64_t gv_run(const uint8_t *classes, int64_t at, int64_t length, uint8_t bit) {
    while (at < length && (classes[at] & bit)) at++;
    return at;
}

/* The end of a run of what is neither letter, number nor space. */
static int64_t gv_run_other(const uint8_t *classes, int64_t at, int64_t length) {
    while (at < length && !(classes[at] & GV_CLASS_WORDLIKE)) at++;
    return at;
}

/* 's 't 're 've 'm 'll 'd at `at`; 0 when there is none. `fold`: in either case (the long s is an s then). */
static int64_t gv_contraction(const uint32_t *codes, int64_t at, int64_t length, bool fold) {
    uint32_t pair[2] = {0, 0};
    if (codes[at] != '\'') return 0;
    for (int i = 0; i < 2 && at + 1 + i < length; i++) {
        uint32_t code = codes[at + 1 + i];
        if (fold && code >= 'A' && code <= 'Z') code += 'a' - 'A';
        if (fold && code == 0x17F) code = 's';
        pair[i] = code;
    }
    if (pair[0] == 's' || pair[0] == 't' || pair[0] == 'm' || pair[0] == 'd') return at + 2;
    if ((pair[0] == 'r' && pair[1] == 'e') || (pair[0] == 'v' && pair[1] == 'e') || (pair[0] == 'l' && pair[1] == 'l'))
        return at + 3;
    return 0;
}

/* \s+(?!\S)|\s+ : white space keeps its last character for the word that follows. */
static int64_t gv_spaces(const uint8_t *classes, int64_t at, int64_t length) {
    int64_t end = gv_run(classes, at, length, GV_CLASS_SPACE);
    return end < length && end - at > 1 ? end - 1 : end;
}

static int64_t gv_split_gpt2(const uint32_t *codes, const uint8_t *classes, int64_t at, int64_t length) {
    int64_t end = gv_contraction(codes, at, length, false);
    if (end > 0) return end;
    int64_t start = codes[at] == ' ' && at + 1 < length && !(classes[at + 1] & GV_CLASS_SPACE) ? at + 1 : at;
    if (classes[start] & GV_CLASS_LETTER) return gv_run(classes, start, length, GV_CLASS_LETTER);
    if (classes[start] & GV_CLASS_NUMBER) return gv_run(classes, start, length, GV_CLASS_NUMBER);
    if (classes[start] & GV_CLASS_SPACE) return gv_spaces(classes, start, length);
    return gv_run_other(classes, start, length);
}

static int64_t gv_split_qwen2(const uint32_t *codes, const uint8_t *classes, int64_t at, int64_t length, int64_t digits) {
    uint8_t class = classes[at];
    if (class & GV_CLASS_LETTER) return gv_run(classes, at + 1, length, GV_CLASS_LETTER);
    if (class & GV_CLASS_NUMBER) {
        int64_t end = at + 1, limit = at + digits < length ? at + digits : length;
        while (end < limit && (classes[end] & GV_CLASS_NUMBER)) end++;
        return end;
    }
    int64_t end = gv_contraction(codes, at, length, true);
    if (end > 0) return end;
    if (!(class & GV_CLASS_NEWLINE) && at + 1 < length && (classes[at + 1] & GV_CLASS_LETTER))
        return gv_run(classes, at + 1, length, GV_CLASS_LETTER);
    bool lead = codes[at] == ' ' && at + 1 < length && !(classes[at + 1] & GV_CLASS_WORDLIKE);
    if (lead || !(class & GV_CLASS_SPACE)) {
        end = gv_run_other(classes, lead ? at + 1 : at, length);
        return gv_run(classes, end, length, GV_CLASS_NEWLINE);
    }
    end = gv_run(classes, at, length, GV_CLASS_SPACE);
    for (int64_t i = end; i > at; i--) { /* \s*[\r\n]+ gives back what follows the last line break */
        if (classes[i - 1] & GV_CLASS_NEWLINE) return i;
    }
    return end < length && end - at > 1 ? end - 1 : end;
}

int64_t gv_split_end(gv_split_kind kind, const uint32_t *codes, const uint8_t *classes, int64_t at, int64_t length) {
    switch (kind) {
        case GV_SPLIT_GPT2:
            return gv_split_gpt2(codes, classes, at, length);
        case GV_SPLIT_QWEN2:
            return gv_split_qwen2(codes, classes, at, length, 1);
        case GV_SPLIT_LLAMA3:
            return gv_split_qwen2(codes, classes, at, length, 3);
        case GV_SPLIT_DIGITS: {
            if (classes[at] & GV_CLASS_NUMBER) return at + 1;
            /* The expression sees a stretch without numerals only: that it ends there matters to white space. */
            int64_t end = gv_split_gpt2(codes, classes, at, length), number = at;
            while (number <= end && number < length && !(classes[number] & GV_CLASS_NUMBER)) number++;
            return number <= end && number < length ? gv_split_gpt2(codes, classes, at, number) : end;
        }
        default:
            return length;
    }
}
