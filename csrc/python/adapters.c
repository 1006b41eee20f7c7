/* adapters.c - adapters as arguments: Model.adapter makes one, forward and remember choose among several. */
#include <string.h>

#include "python/model_object.h"

void gv_adapters_clear(gv_adapters_read *read) {
    PyMem_Free(read->models);
    Py_CLEAR(read->held);
    *read = (gv_adapters_read){0};
}

int gv_read_adapters(gv_adapters_read *out, PyTypeObject *type, PyObject *adapters, PyObject *adapter_of, int64_t sequences) {
    *out = (gv_adapters_read){0};
    if (adapters == NULL || adapters == Py_None) {
        if (adapter_of == NULL || adapter_of == Py_None) return 0;
        PyErr_SetString(PyExc_ValueError, "adapter_of needs adapters");
        return -1;
    }
    out->held = PySequence_Tuple(adapters);
    if (out->held == NULL) return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(out->held);
    out->models = PyMem_Calloc((size_t)count + 1, sizeof *out->models);
    if (out->models == NULL) {
        PyErr_NoMemory();
        goto fail;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(out->held, i);
        if (!PyObject_TypeCheck(item, type)) {
            PyErr_Format(PyExc_TypeError, "adapters[%zd] must be a Model that Model.adapter made, got %.80s", i,
                         Py_TYPE(item)->tp_name);
            goto fail;
        }
        out->models[i] = ((gv_model_object *)item)->model;
    }
    out->choice = (gv_adapter_choice){out->models, (int64_t)count, NULL};
    if (adapter_of != NULL && adapter_of != Py_None) {
        const npy_intp shape[1] = {(npy_intp)sequences};
        PyArrayObject *array = gv_want_array(adapter_of, "adapter_of", NPY_INT32, 1, shape);
        if (array == NULL) goto fail;
        out->choice.which = PyArray_DATA(array);
    }
    return 0;
fail:
    gv_adapters_clear(out);
    return -1;
}

/* adapter(rank, scale, dropout, targets, whole) -> Model */
PyObject *gv_model_adapter(gv_model_object *self, PyObject *args) {
    long long rank;
    PyObject *targets, *whole, *config = NULL;
    gv_adapter_options options = {0};
    gv_error error = {0};
    gv_model_object *made = NULL;
    int64_t *target_list = NULL, *whole_list = NULL;
    if (!PyArg_ParseTuple(args, "LddOO:adapter", &rank, &options.scale, &options.dropout, &targets, &whole)) return NULL;
    options.rank = rank;
    target_list = gv_parameter_indices(self, targets, &options.target_count);
    if (target_list == NULL) goto done;
    whole_list = gv_parameter_indices(self, whole, &options.whole_count);
    if (whole_list == NULL) goto done;
    options.targets = target_list;
    options.whole = whole_list;
    config = Py_BuildValue("{s:L,s:d,s:d}", "rank", rank, "scale", options.scale, "dropout", options.dropout);
    if (config == NULL) goto done;
    PyTypeObject *type = Py_TYPE(self);
    made = (gv_model_object *)type->tp_alloc(type, 0);
    if (made == NULL) goto done;
    made->base = Py_NewRef((PyObject *)self);
    made->config = Py_NewRef(config);
    made->bound = PyDict_New();
    if (made->bound == NULL) {
        Py_CLEAR(made);
    } else if (gv_adapter_create(&made->model, self->model, &options, &error) != GV_OK) {
        Py_CLEAR(made);
        gv_raise(&error);
    }
done:
    Py_XDECREF(config);
    PyMem_Free(target_list);
    PyMem_Free(whole_list);
    return (PyObject *)made;
}

int gv_add_adapters(void) {
    return PyArray_ImportNumPyAPI();
}
