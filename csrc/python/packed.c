/* packed.c - what every tokenizer type does alike: strings in their own width to packed ids and row splits, as NumPy arrays. */
#include <numpy/arrayobject.h>
#include <string.h>

#include "python/bindings.h"

gv_text gv_text_of(PyObject *string) {
    return (gv_text){PyUnicode_DATA(string), (int64_t)PyUnicode_GET_LENGTH(string), (int)PyUnicode_KIND(string)};
}

gv_text *gv_texts_of(PyObject *value, PyObject **held, Py_ssize_t *count, const char *name) {
    if (PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be a sequence of str, got one str", name);
        return NULL;
    }
    PyObject *sequence = PySequence_Tuple(value); /* a copy: another thread may change the list */
    if (sequence == NULL) return NULL;
    *count = PyTuple_GET_SIZE(sequence);
    gv_text *texts = PyMem_Calloc((size_t)*count + 1, sizeof *texts);
    if (texts == NULL) {
        Py_DECREF(sequence);
        return (gv_text *)PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < *count; i++) {
        PyObject *item = PyTuple_GET_ITEM(sequence, i);
        if (!PyUnicode_Check(item)) {
            PyErr_Format(PyExc_TypeError, "%s[%zd] must be str, got %.80s", name, i, Py_TYPE(item)->tp_name);
            PyMem_Free(texts);
            Py_DECREF(sequence);
            return NULL;
        }
        texts[i] = gv_text_of(item);
    }
    *held = sequence;
    return texts;
}

int gv_add_tokens(PyObject *list, gv_add_one add, void *handle) {
    PyObject *sequence =
        PySequence_Fast(list, "added must be a sequence of (text, id, single_word, lstrip, rstrip, normalized)");
    if (sequence == NULL) return -1;
    int result = 0;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(sequence) && result == 0; i++) {
        PyObject *text;
        int id, single_word, left, right, normalized;
        gv_error error = {0};
        if (!PyArg_ParseTuple(PySequence_Fast_GET_ITEM(sequence, i), "Uipppp", &text, &id, &single_word, &left, &right,
                              &normalized)) {
            result = -1;
            break;
        }
        gv_added_token token = {gv_text_of(text), id, single_word != 0, left != 0, right != 0, normalized != 0};
        if (add(handle, &token, &error) != GV_OK) {
            gv_raise(&error);
            result = -1;
        }
    }
    Py_DECREF(sequence);
    return result;
}

static void free_ids(PyObject *capsule) {
    gv_tokens tokens = {0};
    tokens.ids = PyCapsule_GetPointer(capsule, NULL);
    tokens.capacity = (int64_t)(intptr_t)PyCapsule_GetContext(capsule);
    gv_tokens_clear(&tokens);
}

/* Hands the buffer over to an array. Small ones are copied, so that slack is not kept. */
static PyObject *take_array(int32_t **data, int64_t count, int64_t capacity) {
    const npy_intp shape[1] = {(npy_intp)count};
    if (capacity > 4096 && (count > capacity / 2 || count > 1 << 20)) {
        PyObject *capsule = PyCapsule_New(*data, NULL, free_ids);
        if (capsule == NULL || PyCapsule_SetContext(capsule, (void *)(intptr_t)capacity) < 0) {
            Py_XDECREF(capsule);
            return NULL;
        }
        PyObject *array = PyArray_SimpleNewFromData(1, shape, NPY_INT32, *data);
        *data = NULL;
        if (array == NULL) {
            Py_DECREF(capsule);
            return NULL;
        }
        if (PyArray_SetBaseObject((PyArrayObject *)array, capsule) < 0) Py_CLEAR(array);
        return array;
    }
    PyObject *array = PyArray_SimpleNew(1, shape, NPY_INT32);
    if (array != NULL && count > 0) memcpy(PyArray_DATA((PyArrayObject *)array), *data, (size_t)count * sizeof(int32_t));
    return array;
}

static gv_status encode_all(gv_tokens *out, int64_t *splits, gv_encode_one encode, void *handle, const gv_text *texts,
                            Py_ssize_t count, const int32_t *prefix, Py_ssize_t prefixes, const int32_t *suffix,
                            Py_ssize_t suffixes, int64_t most, gv_error *error) {
    gv_status status = GV_OK;
    int64_t expected = 128;
    for (Py_ssize_t i = 0; i < count; i++) {
        int64_t length = most >= 0 && texts[i].length > most ? most : texts[i].length;
        expected += length + (int64_t)(prefixes + suffixes);
    }
    status = gv_tokens_reserve(out, expected, error);
    splits[0] = 0;
    for (Py_ssize_t i = 0; i < count && status == GV_OK; i++) {
        for (Py_ssize_t j = 0; j < prefixes && status == GV_OK; j++) status = gv_tokens_push(out, prefix[j], error);
        int64_t first = out->count;
        if (status == GV_OK) status = encode(out, handle, texts[i], error);
        if (status != GV_OK && error->status == GV_ERR_VALUE && count > 1) {
            char text[sizeof error->text];
            memcpy(text, error->text, sizeof text);
            text[400] = '\0';
            (void)gv_fail(error, status, "texts[%lld]: %s", (long long)i, text);
        }
        if (most >= 0 && out->count - first > most) out->count = first + most;
        for (Py_ssize_t j = 0; j < suffixes && status == GV_OK; j++) status = gv_tokens_push(out, suffix[j], error);
        splits[i + 1] = out->count;
    }
    return status;
}

static int read_ids(int32_t out[8], Py_ssize_t *count, PyObject *value, const char *name) {
    *count = 0;
    if (value == NULL) return 0;
    PyObject *sequence = PySequence_Fast(value, "prefix and suffix must be sequences of ids");
    if (sequence == NULL) return -1;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence);
    if (n > 8) PyErr_Format(PyExc_ValueError, "%s has more than 8 ids", name);
    for (Py_ssize_t i = 0; n <= 8 && i < n; i++) out[i] = (int32_t)PyLong_AsLong(PySequence_Fast_GET_ITEM(sequence, i));
    Py_DECREF(sequence);
    *count = n;
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *gv_encode_texts(PyObject *args, PyObject *kwargs, gv_encode_one encode, void *handle) {
    static char *names[] = {"texts", "prefix", "suffix", "max_length", "offsets", NULL};
    PyObject *list, *prefix_list = NULL, *suffix_list = NULL, *held = NULL, *result = NULL, *splits = NULL, *ids = NULL;
    PyObject *starts = NULL, *ends = NULL, *words = NULL;
    int offsets = 0;
    long long max_length = -1;
    int32_t prefix[8], suffix[8];
    Py_ssize_t count, prefixes, suffixes;
    gv_error error = {0};
    gv_status status;
    gv_tokens tokens = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOLp:encode", names, &list, &prefix_list, &suffix_list, &max_length,
                                     &offsets)) {
        return NULL;
    }
    if (read_ids(prefix, &prefixes, prefix_list, "prefix") < 0 || read_ids(suffix, &suffixes, suffix_list, "suffix") < 0)
        return NULL;
    if (max_length >= 0 && max_length < prefixes + suffixes) {
        return PyErr_Format(PyExc_ValueError, "max_length %lld leaves no room for %zd special tokens", max_length,
                            prefixes + suffixes);
    }
    gv_text *texts = gv_texts_of(list, &held, &count, "texts");
    if (texts == NULL) return NULL;
    tokens.offsets = offsets != 0;
    const npy_intp shape[1] = {count + 1};
    splits = PyArray_SimpleNew(1, shape, NPY_INT64);
    if (splits == NULL) goto done;
    int64_t *split = PyArray_DATA((PyArrayObject *)splits);
    int64_t most = max_length >= 0 ? max_length - prefixes - suffixes : -1;
    Py_BEGIN_ALLOW_THREADS status =
        encode_all(&tokens, split, encode, handle, texts, count, prefix, prefixes, suffix, suffixes, most, &error);
    Py_END_ALLOW_THREADS if (status != GV_OK) {
        gv_raise(&error);
        goto done;
    }
    int64_t capacity = tokens.capacity;
    if (offsets) {
        starts = take_array(&tokens.starts, tokens.count, capacity);
        ends = starts != NULL ? take_array(&tokens.ends, tokens.count, capacity) : NULL;
        words = ends != NULL ? take_array(&tokens.words, tokens.count, capacity) : NULL;
        if (words == NULL) goto done;
    }
    ids = take_array(&tokens.ids, tokens.count, capacity);
    if (ids == NULL) goto done;
    result = offsets ? PyTuple_Pack(5, ids, splits, starts, ends, words) : PyTuple_Pack(2, ids, splits);
done:
    gv_tokens_clear(&tokens);
    PyMem_Free(texts);
    Py_XDECREF(held);
    Py_XDECREF(splits);
    Py_XDECREF(ids);
    Py_XDECREF(starts);
    Py_XDECREF(ends);
    Py_XDECREF(words);
    return result;
}

int gv_add_packed(void) {
    return PyArray_ImportNumPyAPI() < 0 ? -1 : 0;
}
