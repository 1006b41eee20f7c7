/* test_memory.c - allocator, lazily touched mappings, arena, error messages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "check.h"

static void test_alloc(const gv_allocator *allocator) {
    const size_t sizes[] = {0, 1, 63, 64, 65, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *p = gv_alloc(allocator, sizes[i]);
        CHECK(p != NULL && (uintptr_t)p % 64 == 0);
        memset(p, 7, sizes[i]);
        gv_release(allocator, p, sizes[i]);
        p = gv_alloc_zero(allocator, sizes[i]);
        CHECK(p != NULL);
        for (size_t j = 0; p != NULL && j < sizes[i]; j++) CHECK(p[j] == 0);
        gv_release(allocator, p, sizes[i]);
    }
    CHECK(gv_alloc_array(allocator, SIZE_MAX / 2, 3) == NULL);
    CHECK(gv_alloc(allocator, SIZE_MAX) == NULL);
    float *array = gv_alloc_array(allocator, 10, sizeof *array);
    CHECK(array != NULL);
    gv_release(allocator, array, 10 * sizeof *array);
    gv_release(allocator, NULL, 10);
    for (int huge = 0; huge < 2; huge++) {
        unsigned char *map = gv_map_zero(allocator, 3000000);
        CHECK(map != NULL && (uintptr_t)map % 64 == 0);
        if (map != NULL && huge != 0) gv_advise_huge(allocator, map, 3000000);
        for (size_t j = 0; map != NULL && j < 3000000; j += 997) CHECK(map[j] == 0);
        if (map != NULL) map[2999999] = 1;
        gv_unmap(allocator, map, 3000000);
    }
    CHECK(gv_map_zero(allocator, SIZE_MAX) == NULL);
    gv_unmap(allocator, NULL, 5);
}

static void test_arena(void) {
    gv_arena plan = {0};
    CHECK(gv_arena_take(&plan, 10) == NULL && gv_arena_take(&plan, 100) == NULL);
    CHECK(plan.used == 64 + 128);
    gv_arena arena = {.base = gv_alloc(NULL, plan.used), .capacity = plan.used};
    char *first = gv_arena_take(&arena, 10), *second = gv_arena_take(&arena, 100);
    CHECK(first == arena.base && second == arena.base + 64);
    CHECK(gv_arena_take(&arena, 1) == NULL);
    gv_release(NULL, arena.base, plan.used);
}

int main(void) {
    test_alloc(NULL);
    counter c = {0};
    const gv_allocator allocator = {.alloc = counter_alloc, .release = counter_release, .self = &c};
    test_alloc(&allocator);
    CHECK(c.live == 0 && c.bytes == 0 && c.calls > 0);
    c = (counter){.fail_at = 1};
    CHECK(gv_alloc_zero(&allocator, 10) == NULL && c.live == 0);
    c = (counter){.fail_at = 1};
    CHECK(gv_map_zero(&allocator, 10) == NULL && c.live == 0);
    test_arena();

    gv_error error = {0};
    CHECK(gv_fail(&error, GV_ERR_VALUE, "row %d of %s", 3, "x") == GV_ERR_VALUE);
    CHECK(error.status == GV_ERR_VALUE && strcmp(error.text, "row 3 of x") == 0);
    CHECK(gv_fail(NULL, GV_ERR_IO, "nobody reads this") == GV_ERR_IO);
    char *wide = malloc(2000);
    memset(wide, 'a', 1999);
    wide[1999] = '\0';
    (void)gv_fail(&error, GV_ERR_IO, "%s", wide);
    CHECK(strlen(error.text) == sizeof error.text - 1);
    free(wide);
    (void)printf("%s\n", failures == 0 ? "ok" : "FAILED");
    return failures == 0 ? 0 : 1;
}
