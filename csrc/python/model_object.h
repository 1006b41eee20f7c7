/* model_object.h - the Model object, and array helpers for the files that bind csrc/model. Each including file imports
 * NumPy's API for itself. */
#ifndef GV_PYTHON_MODEL_OBJECT_H
#define GV_PYTHON_MODEL_OBJECT_H

#include <numpy/arrayobject.h>

#include "govlm_generate.h"
#include "python/bindings.h"

typedef struct {
    PyObject_HEAD gv_model *model;
    PyObject *config; /* dict */
    PyObject *bound;  /* dict: the arrays that parameters point into */
    PyObject *base;   /* of an adapter: its model, else NULL */
} gv_model_object;

typedef struct {
    PyObject_HEAD gv_cache *cache;
    gv_model_object *owner;
} gv_cache_object;

/* Index of the parameter called `name` (a str), or -1 with KeyError set. */
int64_t gv_parameter_index(gv_model_object *self, PyObject *name);
/* New array of indices for a sequence of names; None = all. NULL with an exception set; free with PyMem_Free. */
int64_t *gv_parameter_indices(gv_model_object *self, PyObject *names, int64_t *count);

/* A view over C memory that keeps `owner` alive. */
static inline PyObject *gv_array_view(PyObject *owner, int dimensions, const npy_intp *shape, const float *data,
                                      bool writable) {
    PyObject *array = PyArray_SimpleNewFromData(dimensions, shape, NPY_FLOAT32, (void *)(uintptr_t)data);
    if (array == NULL) return NULL;
    if (!writable) PyArray_CLEARFLAGS((PyArrayObject *)array, NPY_ARRAY_WRITEABLE);
    Py_INCREF(owner);
    if (PyArray_SetBaseObject((PyArrayObject *)array, owner) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

/* Checks that `value` is a C-contiguous array of `type` with `dimensions` dimensions; borrowed; NULL with TypeError or
 * ValueError set. `shape` entries >= 0 must match. */
static inline PyArrayObject *gv_want_array(PyObject *value, const char *name, int type, int dimensions, const npy_intp *shape) {
    if (!PyArray_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be a NumPy array, got %.80s", name, Py_TYPE(value)->tp_name);
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)value;
    if (PyArray_TYPE(array) != type || !PyArray_ISNOTSWAPPED(array)) {
        PyArray_Descr *want = PyArray_DescrFromType(type);
        PyErr_Format(PyExc_TypeError, "%s must have dtype %R, got %R", name, (PyObject *)want,
                     (PyObject *)PyArray_DESCR(array));
        Py_XDECREF(want);
        return NULL;
    }
    if (PyArray_NDIM(array) != dimensions) {
        PyErr_Format(PyExc_ValueError, "%s must have %d dimension(s), got %d", name, dimensions, PyArray_NDIM(array));
        return NULL;
    }
    if (!PyArray_IS_C_CONTIGUOUS(array) || !PyArray_ISALIGNED(array)) {
        PyErr_Format(PyExc_ValueError, "%s must be C-contiguous and aligned", name);
        return NULL;
    }
    for (int i = 0; i < dimensions; i++) {
        if (shape[i] >= 0 && PyArray_DIM(array, i) != shape[i]) {
            PyErr_Format(PyExc_ValueError, "%s has size %zd in dimension %d, wanted %zd", name,
                         (Py_ssize_t)PyArray_DIM(array, i), i, (Py_ssize_t)shape[i]);
            return NULL;
        }
    }
    return array;
}

/* The Pass object for a finished forward; takes over `pass`, also when it fails. `adapters`: what must live as long, or NULL. */
PyObject *gv_pass_object_new(PyTypeObject *type, gv_model_object *owner, PyObject *adapters, gv_pass *pass);

/* Adapters that a call names (None or NULL = none) and, of each sequence, which; `held` keeps them alive. 0, or -1 with an exception
 * set. gv_adapters_clear in either case. */
typedef struct {
    gv_adapter_choice choice;
    gv_model **models;
    PyObject *held;
} gv_adapters_read;
int gv_read_adapters(gv_adapters_read *out, PyTypeObject *type, PyObject *adapters, PyObject *adapter_of, int64_t sequences);
void gv_adapters_clear(gv_adapters_read *read);
PyObject *gv_model_adapter(gv_model_object *self, PyObject *args);

#endif
