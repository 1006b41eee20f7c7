/* search_functions.c - the scan over dense vectors and the features of names, over NumPy arrays. */
#include <numpy/arrayobject.h>

#include "govlm_search.h"
#include "python/bindings.h"

static PyObject *core_dense_scores(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"vectors", "panels", "sums", "scales", "count", "group", "levels", NULL};
    PyObject *vectors_array, *panels_array, *sums_array, *scales_array;
    Py_ssize_t count;
    gv_dense_rows rows = {0};
    gv_error error = {0};
    gv_status status;
    long long group;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOnLi:dense_scores", names, &vectors_array, &panels_array, &sums_array,
                                     &scales_array, &count, &group, &rows.levels)) {
        return NULL;
    }
    npy_intp shape[2] = {-1, -1};
    const float *vectors = gv_read_array(vectors_array, NPY_FLOAT32, 2, shape, "vectors");
    if (vectors == NULL) return NULL;
    if (count < 0 || group < 8 || group > 256 || group % 8 != 0 || rows.levels < 1 || rows.levels > 255) {
        return PyErr_Format(PyExc_ValueError, "count, group or levels out of range");
    }
    npy_intp padded = (npy_intp)(count + 15) / 16 * 16, depth = (shape[1] + 7) / 8 * 8, groups = (shape[1] + group - 1) / group;
    npy_intp sizes[3] = {padded * depth, padded * groups, padded};
    rows.panels = gv_read_array(panels_array, NPY_INT8, 1, &sizes[0], "panels");
    rows.sums = rows.panels != NULL ? gv_read_array(sums_array, NPY_INT16, 1, &sizes[1], "sums") : NULL;
    rows.scales = rows.sums != NULL ? gv_read_array(scales_array, NPY_FLOAT32, 1, &sizes[2], "scales") : NULL;
    if (rows.scales == NULL) return NULL;
    rows.n = (int64_t)count;
    rows.k = (int64_t)shape[1];
    rows.group = (int64_t)group;
    const npy_intp out_shape[2] = {shape[0], (npy_intp)count};
    PyObject *out = PyArray_SimpleNew(2, out_shape, NPY_FLOAT32);
    if (out == NULL) return NULL;
    GV_WITHOUT_GIL(status, gv_dense_scores(PyArray_DATA((PyArrayObject *)out), &rows, vectors, (int64_t)shape[0], &error));
    if (status != GV_OK) {
        Py_DECREF(out);
        return gv_raise(&error);
    }
    return out;
}

static PyObject *core_name_pairs(PyObject *module, PyObject *args) {
    PyObject *symbols_array;
    int bits;
    npy_intp count = -1;
    gv_error error = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "Oi:name_pairs", &symbols_array, &bits)) return NULL;
    const int32_t *symbols = gv_read_array(symbols_array, NPY_INT32, 1, &count, "symbols");
    if (symbols == NULL) return NULL;
    const npy_intp shape[1] = {count > 0 ? count - 1 : 0};
    PyObject *out = PyArray_SimpleNew(1, shape, NPY_INT32);
    if (out == NULL) return NULL;
    if (gv_name_pairs(PyArray_DATA((PyArrayObject *)out), symbols, (int64_t)count, bits, &error) != GV_OK) {
        Py_DECREF(out);
        return gv_raise(&error);
    }
    return out;
}

/* 0 when splits begin at 0, do not fall and end at the number of symbols, and every symbol is in the alphabet. */
static int check_names(const gv_names *names, npy_intp symbols) {
    bool good = names->splits[0] == 0 && names->splits[names->count] == (int64_t)symbols;
    for (int64_t i = 0; good && i < names->count; i++) good = names->splits[i] <= names->splits[i + 1];
    for (npy_intp i = 0; good && i < symbols; i++) good = names->symbols[i] >= 0 && names->symbols[i] < names->alphabet;
    if (!good) PyErr_SetString(PyExc_ValueError, "splits or symbols out of range");
    return good ? 0 : -1;
}

static PyObject *core_name_features(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *keys[] = {"query", "symbols", "splits", "weight", "pair_weight", "strange", "which", NULL};
    PyObject *query_array, *symbols_array, *splits_array, *weight_array, *pair_array, *which_array = Py_None;
    float strange;
    npy_intp length = -1, symbols = -1, splits = -1, alphabet = -1, buckets = -1, chosen = -1;
    gv_names names = {0};
    gv_error error = {0};
    gv_status status;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOf|O:name_features", keys, &query_array, &symbols_array, &splits_array,
                                     &weight_array, &pair_array, &strange, &which_array)) {
        return NULL;
    }
    const int32_t *query = gv_read_array(query_array, NPY_INT32, 1, &length, "query"), *which = NULL;
    if (query == NULL || (names.symbols = gv_read_array(symbols_array, NPY_INT32, 1, &symbols, "symbols")) == NULL ||
        (names.splits = gv_read_array(splits_array, NPY_INT64, 1, &splits, "splits")) == NULL ||
        (names.weight = gv_read_array(weight_array, NPY_FLOAT32, 1, &alphabet, "weight")) == NULL ||
        (names.pair_weight = gv_read_array(pair_array, NPY_FLOAT32, 1, &buckets, "pair_weight")) == NULL) {
        return NULL;
    }
    if (which_array != Py_None && (which = gv_read_array(which_array, NPY_INT32, 1, &chosen, "which")) == NULL) return NULL;
    while (names.pair_bits < 16 && (npy_intp)1 << names.pair_bits < buckets) names.pair_bits++;
    if (splits < 1 || alphabet < 1 || (npy_intp)1 << names.pair_bits != buckets) {
        return PyErr_Format(PyExc_ValueError, "splits and weight may not be empty; pair_weight has 2^8 to 2^16 entries");
    }
    names.count = (int64_t)splits - 1;
    names.alphabet = (int64_t)alphabet;
    if (check_names(&names, symbols) < 0) return NULL;
    const npy_intp shape[2] = {which != NULL ? chosen : (npy_intp)names.count, GV_NAME_FEATURES};
    PyObject *out = PyArray_SimpleNew(2, shape, NPY_FLOAT32);
    if (out == NULL) return NULL;
    Py_BEGIN_ALLOW_THREADS status = gv_name_features(PyArray_DATA((PyArrayObject *)out), &names, query, (int64_t)length,
                                                     strange, which, (int64_t)shape[0], NULL, &error);
    Py_END_ALLOW_THREADS if (status != GV_OK) {
        Py_DECREF(out);
        return gv_raise(&error);
    }
    return out;
}

static PyMethodDef search_methods[] = {
    {"dense_scores", (PyCFunction)(void (*)(void))core_dense_scores, METH_VARARGS | METH_KEYWORDS,
     "Inner products of vectors with packed ones."},
    {"name_pairs", core_name_pairs, METH_VARARGS, "The bucket of each two symbols in a row; -1 beside a break."},
    {"name_features", (PyCFunction)(void (*)(void))core_name_features, METH_VARARGS | METH_KEYWORDS,
     "How well names fit a query."},
    {NULL, NULL, 0, NULL},
};

int gv_add_search(PyObject *module) {
    if (PyArray_ImportNumPyAPI() < 0) return -1;
    return PyModule_AddFunctions(module, search_methods);
}
