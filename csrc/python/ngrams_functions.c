/* ngrams_functions.c - n-gram counts, their weights, the support vector machines and their logits, over NumPy arrays. */
#include <numpy/arrayobject.h>
#include <string.h>

#include "govlm_ngrams.h"
#include "python/bindings.h"

/* A sparse matrix read from a tuple (indices, values, row_splits); the arrays stay borrowed from the tuple. */
static int read_sparse(gv_sparse *out, PyObject *value, const char *name) {
    static const int types[] = {NPY_INT32, NPY_FLOAT32, NPY_INT64};
    PyArrayObject *arrays[3];
    if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) != 3) {
        PyErr_Format(PyExc_TypeError, "%s must be a tuple of indices, values and row_splits", name);
        return -1;
    }
    for (int i = 0; i < 3; i++) {
        PyObject *item = PyTuple_GET_ITEM(value, i);
        arrays[i] = (PyArrayObject *)item;
        if (!PyArray_Check(item) || PyArray_TYPE(arrays[i]) != types[i] || PyArray_NDIM(arrays[i]) != 1 ||
            !PyArray_ISCARRAY_RO(arrays[i])) {
            PyErr_Format(PyExc_TypeError, "%s: indices must be int32, values float32, row_splits int64, each contiguous", name);
            return -1;
        }
    }
    npy_intp count = PyArray_DIM(arrays[0], 0), splits = PyArray_DIM(arrays[2], 0);
    out->indices = PyArray_DATA(arrays[0]);
    out->values = PyArray_DATA(arrays[1]);
    out->splits = PyArray_DATA(arrays[2]);
    out->rows = (int64_t)splits - 1;
    if (splits < 1 || PyArray_DIM(arrays[1], 0) != count || out->splits[splits - 1] != (int64_t)count) {
        PyErr_Format(PyExc_ValueError, "%s: row_splits do not end at the number of entries", name);
        return -1;
    }
    return 0;
}

void *gv_read_array(PyObject *value, int type, int dimensions, Py_ssize_t *shape, const char *name) {
    PyArrayObject *array = (PyArrayObject *)value;
    if (!PyArray_Check(value) || PyArray_TYPE(array) != type || PyArray_NDIM(array) != dimensions ||
        !PyArray_ISCARRAY_RO(array)) {
        return PyErr_Format(PyExc_TypeError, "%s has the wrong type or number of dimensions, or is not contiguous", name);
    }
    for (int i = 0; i < dimensions; i++) {
        if (shape[i] >= 0 && PyArray_DIM(array, i) != shape[i]) {
            return PyErr_Format(PyExc_ValueError, "%s has %zd in dimension %d, %zd are needed", name,
                                (Py_ssize_t)PyArray_DIM(array, i), i, (Py_ssize_t)shape[i]);
        }
        shape[i] = PyArray_DIM(array, i);
    }
    return PyArray_DATA(array);
}

/* The tuple of the three arrays; takes over the references. */
static PyObject *pack_sparse(PyObject *indices, PyObject *values, PyObject *splits) {
    PyObject *result = NULL;
    if (indices != NULL && values != NULL && splits != NULL) result = PyTuple_Pack(3, indices, values, splits);
    Py_XDECREF(indices);
    Py_XDECREF(values);
    Py_XDECREF(splits);
    return result;
}

static PyObject *copy_array(const void *data, int64_t count, int type) {
    const npy_intp shape[1] = {(npy_intp)count};
    PyObject *array = PyArray_SimpleNew(1, shape, type);
    if (array != NULL && count > 0) {
        memcpy(PyArray_DATA((PyArrayObject *)array), data, (size_t)PyArray_NBYTES((PyArrayObject *)array));
    }
    return array;
}

static PyObject *core_ngram_counts(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"texts", "shortest", "longest", "bits", NULL};
    PyObject *list, *held = NULL, *result = NULL;
    Py_ssize_t count;
    gv_ngram_options options;
    gv_sparse_buffer buffer = {0};
    gv_error error = {0};
    gv_status status;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Oiii:ngram_counts", names, &list, &options.shortest, &options.longest,
                                     &options.bits)) {
        return NULL;
    }
    gv_text *texts = gv_texts_of(list, &held, &count, "texts");
    if (texts == NULL) return NULL;
    Py_BEGIN_ALLOW_THREADS status = gv_ngrams_count(&buffer, &options, texts, count, &error);
    Py_END_ALLOW_THREADS if (status != GV_OK) {
        gv_raise(&error);
    }
    else {
        result = pack_sparse(copy_array(buffer.indices, buffer.count, NPY_INT32),
                             copy_array(buffer.values, buffer.count, NPY_FLOAT32),
                             copy_array(buffer.splits, buffer.rows + 1, NPY_INT64));
    }
    gv_sparse_buffer_clear(&buffer);
    PyMem_Free(texts);
    Py_DECREF(held);
    return result;
}

static PyObject *core_ngram_weigh(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"counts", "buckets", "idf", NULL};
    PyObject *counts, *buckets_array, *idf_array, *result = NULL;
    npy_intp features[1] = {-1};
    gv_sparse data;
    gv_error error = {0};
    gv_status status;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:ngram_weigh", names, &counts, &buckets_array, &idf_array)) return NULL;
    if (read_sparse(&data, counts, "counts") < 0) return NULL;
    const int32_t *buckets = gv_read_array(buckets_array, NPY_INT32, 1, features, "buckets");
    const float *idf = buckets != NULL ? gv_read_array(idf_array, NPY_FLOAT32, 1, features, "idf") : NULL;
    if (idf == NULL) return NULL;
    int64_t most = data.splits[data.rows];
    int32_t *indices = PyMem_Malloc((size_t)most * sizeof *indices + 1);
    float *values = PyMem_Malloc((size_t)most * sizeof *values + 1);
    int64_t *splits = PyMem_Malloc((size_t)(data.rows + 1) * sizeof *splits);
    if (indices == NULL || values == NULL || splits == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS status = gv_ngrams_weigh(splits, indices, values, &data, buckets, idf, (int64_t)features[0], &error);
    Py_END_ALLOW_THREADS if (status != GV_OK) {
        gv_raise(&error);
        goto done;
    }
    int64_t count = splits[data.rows];
    result = pack_sparse(copy_array(indices, count, NPY_INT32), copy_array(values, count, NPY_FLOAT32),
                         copy_array(splits, data.rows + 1, NPY_INT64));
done:
    PyMem_Free(indices);
    PyMem_Free(values);
    PyMem_Free(splits);
    return result;
}

static PyObject *core_sparse_svm(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"data", "targets", "features", "costs", "c", "tolerance", "most", "seed", NULL};
    PyObject *data_tuple, *targets_array, *costs_array = Py_None, *weights = NULL, *bias = NULL, *result = NULL;
    Py_ssize_t features;
    gv_svm_options options = {1.0, 1e-3, 200, 0};
    unsigned int seed = 0;
    gv_sparse data;
    gv_error error = {0};
    gv_status status;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOn|$OddiI:sparse_svm", names, &data_tuple, &targets_array, &features,
                                     &costs_array, &options.c, &options.tolerance, &options.most, &seed)) {
        return NULL;
    }
    options.seed = (uint32_t)seed;
    if (read_sparse(&data, data_tuple, "data") < 0) return NULL;
    npy_intp shape[2] = {(npy_intp)data.rows, -1};
    const int8_t *targets = gv_read_array(targets_array, NPY_INT8, 2, shape, "targets");
    if (targets == NULL) return NULL;
    const float *costs = NULL;
    if (costs_array != Py_None && (costs = gv_read_array(costs_array, NPY_FLOAT32, 1, shape, "costs")) == NULL) return NULL;
    if (features < 0) return PyErr_Format(PyExc_ValueError, "features must be 0 or more, not %zd", features);
    const npy_intp weight_shape[2] = {(npy_intp)features, shape[1]};
    weights = PyArray_SimpleNew(2, weight_shape, NPY_FLOAT32);
    bias = PyArray_SimpleNew(1, weight_shape + 1, NPY_FLOAT32);
    if (weights == NULL || bias == NULL) goto done;
    GV_WITHOUT_GIL(status, gv_sparse_svm(PyArray_DATA((PyArrayObject *)weights), PyArray_DATA((PyArrayObject *)bias), &data,
                                         targets, costs, (int64_t)features, (int64_t)shape[1], &options, NULL, &error));
    if (status != GV_OK) {
        gv_raise(&error);
        goto done;
    }
    result = PyTuple_Pack(2, weights, bias);
done:
    Py_XDECREF(weights);
    Py_XDECREF(bias);
    return result;
}

static PyObject *core_sparse_logits(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"data", "weights", "scales", "bias", "factor", NULL};
    PyObject *data_tuple, *weights_array, *scales_array, *bias_array;
    float factor;
    npy_intp shape[2] = {-1, -1};
    gv_sparse data;
    gv_error error = {0};
    gv_status status;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOf:sparse_logits", names, &data_tuple, &weights_array, &scales_array,
                                     &bias_array, &factor)) {
        return NULL;
    }
    if (read_sparse(&data, data_tuple, "data") < 0) return NULL;
    const int8_t *weights = gv_read_array(weights_array, NPY_INT8, 2, shape, "weights");
    const float *scales = weights != NULL ? gv_read_array(scales_array, NPY_FLOAT32, 1, shape, "scales") : NULL;
    const float *bias = scales != NULL ? gv_read_array(bias_array, NPY_FLOAT32, 1, shape + 1, "bias") : NULL;
    if (bias == NULL) return NULL;
    const npy_intp out_shape[2] = {(npy_intp)data.rows, shape[1]};
    PyObject *out = PyArray_SimpleNew(2, out_shape, NPY_FLOAT32);
    if (out == NULL) return NULL;
    GV_WITHOUT_GIL(status, gv_sparse_logits(PyArray_DATA((PyArrayObject *)out), &data, weights, scales, bias, factor,
                                            (int64_t)shape[0], (int64_t)shape[1], &error));
    if (status != GV_OK) {
        Py_DECREF(out);
        return gv_raise(&error);
    }
    return out;
}

#define GV_KEYWORDS METH_VARARGS | METH_KEYWORDS
static PyMethodDef ngram_methods[] = {
    {"ngram_counts", (PyCFunction)(void (*)(void))core_ngram_counts, GV_KEYWORDS, "Hashed character n-grams of texts."},
    {"ngram_weigh", (PyCFunction)(void (*)(void))core_ngram_weigh, GV_KEYWORDS, "Counts to weighed rows of length 1."},
    {"sparse_svm", (PyCFunction)(void (*)(void))core_sparse_svm, GV_KEYWORDS, "One support vector machine a label."},
    {"sparse_logits", (PyCFunction)(void (*)(void))core_sparse_logits, GV_KEYWORDS, "Logits of a linear model in 8 bits."},
    {NULL, NULL, 0, NULL},
};

int gv_add_ngrams(PyObject *module) {
    if (PyArray_ImportNumPyAPI() < 0) return -1;
    return PyModule_AddFunctions(module, ngram_methods);
}
