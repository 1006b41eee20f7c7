/* cache_type.c - govlm._core.Cache: keys and values of sequences that grow. */
#include "python/model_object.h"

static PyObject *cache_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"model", "pages", "bits", NULL};
    PyObject *model;
    long long pages = 0;
    int bits = 32;
    gv_error error = {0};
    gv_module_state *state = PyType_GetModuleState(type);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|$Li:Cache", names, state->model_type, &model, &pages, &bits))
        return NULL;
    if (bits != 32 && bits != 8) return PyErr_Format(PyExc_ValueError, "a cache holds 32 or 8 bits a number, not %d", bits);
    gv_cache_object *self = (gv_cache_object *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->owner = (gv_model_object *)Py_NewRef(model);
    const gv_cache_options options = {.pages = pages, .bits8 = bits == 8};
    if (gv_cache_create(&self->cache, self->owner->model, &options, &error) != GV_OK) {
        Py_DECREF(self);
        return gv_raise(&error);
    }
    return (PyObject *)self;
}

static int cache_traverse(gv_cache_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->owner);
    return 0;
}

static void cache_dealloc(gv_cache_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    gv_cache_free(self->cache);
    Py_CLEAR(self->owner);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *cache_open(gv_cache_object *self, PyObject *unused) {
    (void)unused;
    gv_error error = {0};
    gv_status status;
    int64_t sequence;
    Py_BEGIN_ALLOW_THREADS status = gv_cache_open(&sequence, self->cache, &error);
    Py_END_ALLOW_THREADS if (status != GV_OK) return gv_raise(&error);
    return PyLong_FromLongLong((long long)sequence);
}

static PyObject *cache_fork(gv_cache_object *self, PyObject *args) {
    long long parent, tokens = -1;
    gv_error error = {0};
    gv_status status;
    int64_t sequence, length;
    if (!PyArg_ParseTuple(args, "L|L:fork", &parent, &tokens)) return NULL;
    Py_BEGIN_ALLOW_THREADS status = gv_cache_length(&length, self->cache, parent, &error);
    if (status == GV_OK) status = gv_cache_fork(&sequence, self->cache, parent, tokens < 0 ? length : tokens, &error);
    Py_END_ALLOW_THREADS if (status != GV_OK) return gv_raise(&error);
    return PyLong_FromLongLong((long long)sequence);
}

static PyObject *cache_cut(gv_cache_object *self, PyObject *args) {
    long long sequence, tokens;
    gv_error error = {0};
    gv_status status;
    if (!PyArg_ParseTuple(args, "LL:cut", &sequence, &tokens)) return NULL;
    Py_BEGIN_ALLOW_THREADS status = gv_cache_cut(self->cache, sequence, tokens, &error);
    Py_END_ALLOW_THREADS if (status != GV_OK) return gv_raise(&error);
    Py_RETURN_NONE;
}

static PyObject *cache_close(gv_cache_object *self, PyObject *argument) {
    long long sequence = PyLong_AsLongLong(argument);
    gv_error error = {0};
    gv_status status;
    if (sequence == -1 && PyErr_Occurred()) return NULL;
    Py_BEGIN_ALLOW_THREADS status = gv_cache_close(self->cache, sequence, &error);
    Py_END_ALLOW_THREADS if (status != GV_OK) return gv_raise(&error);
    Py_RETURN_NONE;
}

static PyObject *cache_length(gv_cache_object *self, PyObject *argument) {
    long long sequence = PyLong_AsLongLong(argument);
    gv_error error = {0};
    gv_status status;
    int64_t tokens;
    if (sequence == -1 && PyErr_Occurred()) return NULL;
    Py_BEGIN_ALLOW_THREADS status = gv_cache_length(&tokens, self->cache, sequence, &error);
    Py_END_ALLOW_THREADS if (status != GV_OK) return gv_raise(&error);
    return PyLong_FromLongLong((long long)tokens);
}

static PyObject *cache_remember(gv_cache_object *self, PyObject *args) {
    PyObject *sequences, *memory, *splits, *adapters = NULL, *adapter_of = NULL;
    gv_adapters_read read;
    gv_error error = {0};
    gv_status status;
    const npy_intp any[1] = {-1};
    if (!PyArg_ParseTuple(args, "OOO|OO:remember", &sequences, &memory, &splits, &adapters, &adapter_of)) return NULL;
    PyArrayObject *which = gv_want_array(sequences, "sequences", NPY_INT64, 1, any);
    if (which == NULL) return NULL;
    int64_t count = PyArray_DIM(which, 0);
    const npy_intp ends[1] = {(npy_intp)count + 1};
    PyArrayObject *cuts = gv_want_array(splits, "memory_splits", NPY_INT64, 1, ends);
    if (cuts == NULL) return NULL;
    PyObject *hidden = PyDict_GetItemString(self->owner->config, "hidden_size");
    const int64_t *offsets = PyArray_DATA(cuts);
    const npy_intp shape[2] = {(npy_intp)offsets[count], hidden != NULL ? (npy_intp)PyLong_AsLong(hidden) : -1};
    PyArrayObject *rows = gv_want_array(memory, "memory", NPY_FLOAT32, 2, shape);
    if (rows == NULL) return NULL;
    if (gv_read_adapters(&read, Py_TYPE(self->owner), adapters, adapter_of, count) < 0) return NULL;
    GV_WITHOUT_GIL(
        status, gv_cache_remember(self->cache, PyArray_DATA(which), count, PyArray_DATA(rows), offsets, &read.choice, &error));
    gv_adapters_clear(&read);
    if (status != GV_OK) return gv_raise(&error);
    Py_RETURN_NONE;
}

static PyObject *cache_usage(gv_cache_object *self, PyObject *unused) {
    (void)unused;
    gv_cache_usage use;
    Py_BEGIN_ALLOW_THREADS gv_cache_use(&use, self->cache);
    Py_END_ALLOW_THREADS return Py_BuildValue("{s:L,s:L,s:L,s:L,s:L,s:L}", "sequences", (long long)use.sequences, "used",
                                              (long long)use.used, "free", (long long)use.free, "most", (long long)use.most,
                                              "page_bytes", (long long)use.page_bytes, "page_tokens",
                                              (long long)use.page_tokens);
}

static PyMethodDef cache_methods[] = {
    {"open", (PyCFunction)cache_open, METH_NOARGS, "A new sequence without tokens."},
    {"fork", (PyCFunction)cache_fork, METH_VARARGS, "A new sequence that begins as another."},
    {"cut", (PyCFunction)cache_cut, METH_VARARGS, "Forgets a sequence's last tokens."},
    {"close", (PyCFunction)cache_close, METH_O, "Gives a sequence's pages back."},
    {"length", (PyCFunction)cache_length, METH_O, "Tokens of a sequence."},
    {"remember", (PyCFunction)cache_remember, METH_VARARGS, "What the cross attention of sequences looks at."},
    {"usage", (PyCFunction)cache_usage, METH_NOARGS, "Sequences and pages, in numbers."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot cache_slots[] = {
    {Py_tp_new, cache_new},
    {Py_tp_dealloc, cache_dealloc},
    {Py_tp_traverse, cache_traverse},
    {Py_tp_methods, cache_methods},
    {Py_tp_doc, "Keys and values of a causal model's sequences, in pages that forks share."},
    {0, NULL},
};

static PyType_Spec cache_spec = {
    .name = "govlm._core.Cache",
    .basicsize = sizeof(gv_cache_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = cache_slots,
};

int gv_add_cache(PyObject *module, gv_module_state *state) {
    if (PyArray_ImportNumPyAPI() < 0) return -1;
    state->cache_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &cache_spec, NULL);
    return state->cache_type == NULL ? -1 : PyModule_AddType(module, state->cache_type);
}
