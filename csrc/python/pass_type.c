/* pass_type.c - govlm._core.Pass: one forward's results and its backward. */
#include "python/model_object.h"

typedef struct {
    PyObject_HEAD gv_pass *pass;
    gv_model_object *owner;
    PyObject *adapters; /* tuple, or NULL */
} gv_pass_object;

PyObject *gv_pass_object_new(PyTypeObject *type, gv_model_object *owner, PyObject *adapters, gv_pass *pass) {
    gv_pass_object *self = (gv_pass_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        gv_pass_free(pass);
        return NULL;
    }
    self->pass = pass;
    self->owner = (gv_model_object *)Py_NewRef((PyObject *)owner);
    self->adapters = Py_XNewRef(adapters);
    return (PyObject *)self;
}

static int pass_traverse(gv_pass_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->owner);
    Py_VISIT(self->adapters);
    return 0;
}

/* No tp_clear: the pass needs its model until it is freed; a cycle is broken at the model's dictionaries. */
static void pass_dealloc(gv_pass_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    gv_pass_free(self->pass);
    Py_CLEAR(self->owner);
    Py_CLEAR(self->adapters);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *view_or_none(gv_pass_object *self, gv_view view, int dimensions) {
    const npy_intp shape[3] = {(npy_intp)view.shape[0], (npy_intp)view.shape[1], (npy_intp)view.shape[2]};
    if (view.data == NULL) Py_RETURN_NONE;
    return gv_array_view((PyObject *)self, dimensions, shape, view.data, true);
}

static PyObject *pass_loss(gv_pass_object *self, void *closure) {
    (void)closure;
    double loss;
    if (!gv_pass_loss(&loss, self->pass)) Py_RETURN_NONE;
    return PyFloat_FromDouble(loss);
}

static PyObject *pass_logits(gv_pass_object *self, void *closure) {
    (void)closure;
    return view_or_none(self, gv_pass_logits(self->pass), 2);
}

static PyObject *pass_pooled(gv_pass_object *self, void *closure) {
    (void)closure;
    return view_or_none(self, gv_pass_pooled(self->pass), 2);
}

static PyObject *pass_hidden(gv_pass_object *self, PyObject *argument) {
    long long layer = PyLong_AsLongLong(argument), layers = gv_pass_layers(self->pass);
    if (layer == -1 && PyErr_Occurred()) return NULL;
    if (layer < 0) layer += layers + 1;
    if (layer < 0 || layer > layers)
        return PyErr_Format(PyExc_IndexError, "hidden state %R of a model with %lld layers", argument, layers);
    gv_view view = gv_pass_hidden(self->pass, layer);
    if (view.data == NULL)
        return PyErr_Format(PyExc_RuntimeError, "hidden state %lld was not kept: pass hidden_states=True", layer);
    return view_or_none(self, view, 2);
}

static PyObject *attention_view(gv_pass_object *self, PyObject *args, bool cross) {
    long long layer, sequence;
    if (!PyArg_ParseTuple(args, "LL", &layer, &sequence)) return NULL;
    if (layer < 0 || layer >= gv_pass_layers(self->pass))
        return PyErr_Format(PyExc_IndexError, "there is no layer %lld", layer);
    if (sequence < 0 || sequence >= gv_pass_sequences(self->pass))
        return PyErr_Format(PyExc_IndexError, "there is no sequence %lld", sequence);
    gv_view view = gv_pass_attention(self->pass, layer, sequence, cross);
    if (view.data == NULL) return PyErr_Format(PyExc_RuntimeError, "attentions were not kept: pass attentions=True");
    return view_or_none(self, view, 3);
}

static PyObject *pass_attention(gv_pass_object *self, PyObject *args) {
    return attention_view(self, args, false);
}
static PyObject *pass_cross_attention(gv_pass_object *self, PyObject *args) {
    return attention_view(self, args, true);
}

static const char *const projection_names[3] = {"query", "key", "value"};

static int projection_of(gv_pass_object *self, long long *layer, PyObject *key, const char *name) {
    *layer += *layer < 0 ? gv_pass_layers(self->pass) : 0;
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, projection_names[i]) == 0 && *layer >= 0 && *layer < gv_pass_layers(self->pass)) return i;
    }
    PyErr_Format(PyExc_IndexError, "projection: there is no %R; it is (layer, \"query\", \"key\" or \"value\")", key);
    return -1;
}

/* A copy: the activations go with the backward. */
static PyObject *pass_projection(gv_pass_object *self, PyObject *args) {
    long long layer;
    const char *name;
    if (!PyArg_ParseTuple(args, "Ls", &layer, &name)) return NULL;
    int which = projection_of(self, &layer, args, name);
    if (which < 0) return NULL;
    gv_view view = gv_pass_projection(self->pass, layer, (gv_projection)which);
    if (view.data == NULL)
        return PyErr_Format(PyExc_RuntimeError, "the projections are not there (save=False, or backward was called)");
    const npy_intp shape[2] = {(npy_intp)view.shape[0], (npy_intp)view.shape[1]};
    PyObject *copy = PyArray_SimpleNew(2, shape, NPY_FLOAT32);
    if (copy == NULL) return NULL;
    memcpy(PyArray_DATA((PyArrayObject *)copy), view.data, (size_t)(shape[0] * shape[1]) * sizeof(float));
    return copy;
}

static PyObject *pass_first_nonfinite(gv_pass_object *self, PyObject *unused) {
    (void)unused;
    char name[160];
    Py_BEGIN_ALLOW_THREADS gv_pass_first_nonfinite(name, sizeof name, self->pass);
    Py_END_ALLOW_THREADS if (name[0] == '\0') Py_RETURN_NONE;
    return PyUnicode_FromString(name);
}

/* ---- backward ------------------------------------------------------------------------------------------------------ */

static int want_like(const float **out, PyObject *value, const char *name, gv_view view, int dimensions) {
    const npy_intp shape[3] = {(npy_intp)view.shape[0], (npy_intp)view.shape[1], (npy_intp)view.shape[2]};
    *out = NULL;
    if (value == NULL || value == Py_None) return 0;
    if (view.data == NULL) {
        PyErr_Format(PyExc_RuntimeError, "a gradient at %s was given, but this forward has none", name);
        return -1;
    }
    PyArrayObject *array = gv_want_array(value, name, NPY_FLOAT32, dimensions, shape);
    if (array == NULL) return -1;
    *out = PyArray_DATA(array);
    return 0;
}

static int read_hidden(const float **out, gv_pass_object *self, PyObject *mapping) {
    PyObject *key, *value;
    Py_ssize_t position = 0;
    long long layers = gv_pass_layers(self->pass);
    while (PyDict_Next(mapping, &position, &key, &value)) {
        long long layer = PyLong_AsLongLong(key);
        if (layer == -1 && PyErr_Occurred()) return -1;
        if (layer < 0) layer += layers + 1;
        if (layer < 0 || layer > layers) {
            PyErr_Format(PyExc_IndexError, "hidden: there is no layer %R", key);
            return -1;
        }
        gv_view view = gv_pass_hidden(self->pass, layer);
        view.data = out[layer] == NULL ? (const float *)self : NULL; /* only the shape matters; a layer twice is refused */
        if (want_like(&out[layer], value, "hidden", view, 2) < 0) return -1;
    }
    return 0;
}

static int read_attention(const float **out, gv_pass_object *self, PyObject *mapping) {
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(mapping, &position, &key, &value)) {
        long long layer, sequence;
        if (!PyTuple_Check(key) || !PyArg_ParseTuple(key, "LL", &layer, &sequence)) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "attention: keys must be (layer, sequence)");
            return -1;
        }
        if (layer < 0 || layer >= gv_pass_layers(self->pass) || sequence < 0 || sequence >= gv_pass_sequences(self->pass)) {
            PyErr_Format(PyExc_IndexError, "attention: there is no (layer, sequence) %R", key);
            return -1;
        }
        gv_view view = gv_pass_attention(self->pass, layer, sequence, false);
        if (want_like(&out[layer * gv_pass_sequences(self->pass) + sequence], value, "attention", view, 3) < 0) return -1;
    }
    return 0;
}

static int read_projection(const float **out, gv_pass_object *self, PyObject *mapping) {
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(mapping, &position, &key, &value)) {
        long long layer;
        const char *name;
        if (!PyTuple_Check(key) || !PyArg_ParseTuple(key, "Ls", &layer, &name)) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "projection: keys must be (layer, name)");
            return -1;
        }
        int which = projection_of(self, &layer, key, name);
        if (which < 0) return -1;
        gv_view view = gv_pass_projection(self->pass, layer, (gv_projection)which);
        if (want_like(&out[layer * 3 + which], value, "projection", view, 2) < 0) return -1;
    }
    return 0;
}

static PyObject *pass_backward(gv_pass_object *self, PyObject *positional, PyObject *kwargs) {
    static char *names[] = {"scale", "logits", "pooled", "hidden", "attention", "projection", "memory", NULL};
    PyObject *scale = Py_None, *logits = Py_None, *pooled = Py_None, *hidden = Py_None, *attention = Py_None, *memory = Py_None,
             *projection = Py_None;
    PyObject *hidden_dict = NULL, *attention_dict = NULL, *projection_dict = NULL, *result = NULL;
    const float **hidden_list = NULL, **attention_list = NULL, **projection_list = NULL;
    gv_backward_args args = {0};
    gv_error error = {0};
    gv_status status;
    size_t layers = (size_t)gv_pass_layers(self->pass), sequences = (size_t)gv_pass_sequences(self->pass);
    if (!PyArg_ParseTupleAndKeywords(positional, kwargs, "|O$OOOOOO:backward", names, &scale, &logits, &pooled, &hidden,
                                     &attention, &projection, &memory)) {
        return NULL;
    }
    if (scale != Py_None) {
        args.has_scale = true;
        args.scale = PyFloat_AsDouble(scale);
        if (args.scale == -1 && PyErr_Occurred()) return NULL;
    }
    if (want_like(&args.logits, logits, "logits", gv_pass_logits(self->pass), 2) < 0) return NULL;
    if (want_like(&args.pooled, pooled, "pooled", gv_pass_pooled(self->pass), 2) < 0) return NULL;
    if (hidden != Py_None) {
        hidden_dict = PyDict_New();
        hidden_list = PyMem_Calloc(layers + 1, sizeof *hidden_list);
        if (hidden_dict == NULL || PyDict_Update(hidden_dict, hidden) < 0) goto done;
        if (hidden_list == NULL) {
            PyErr_NoMemory();
            goto done;
        }
        if (read_hidden(hidden_list, self, hidden_dict) < 0) goto done;
        args.hidden = hidden_list;
    }
    if (attention != Py_None) {
        attention_dict = PyDict_New();
        attention_list = PyMem_Calloc(layers * sequences + 1, sizeof *attention_list);
        if (attention_dict == NULL || PyDict_Update(attention_dict, attention) < 0) goto done;
        if (attention_list == NULL) {
            PyErr_NoMemory();
            goto done;
        }
        if (read_attention(attention_list, self, attention_dict) < 0) goto done;
        args.attention = attention_list;
    }
    if (projection != Py_None) {
        projection_dict = PyDict_New();
        projection_list = PyMem_Calloc(layers * 3 + 1, sizeof *projection_list);
        if (projection_dict == NULL || PyDict_Update(projection_dict, projection) < 0) goto done;
        if (projection_list == NULL) {
            PyErr_NoMemory();
            goto done;
        }
        if (read_projection(projection_list, self, projection_dict) < 0) goto done;
        args.projection = projection_list;
    }
    int wants_memory = PyObject_IsTrue(memory);
    if (wants_memory < 0) goto done;
    if (wants_memory) {
        gv_view view = gv_pass_memory(self->pass);
        const npy_intp shape[2] = {(npy_intp)view.shape[0], (npy_intp)view.shape[1]};
        if (view.data == NULL) {
            PyErr_SetString(PyExc_RuntimeError, "memory: this forward had no memory");
            goto done;
        }
        result = PyArray_SimpleNew(2, shape, NPY_FLOAT32);
        if (result == NULL) goto done;
        args.memory = PyArray_DATA((PyArrayObject *)result);
    }
    GV_WITHOUT_GIL(status, gv_pass_backward(self->pass, &args, &error));
    if (status != GV_OK) {
        Py_CLEAR(result);
        gv_raise(&error);
    } else if (result == NULL) {
        result = Py_NewRef(Py_None);
    }
done:
    PyMem_Free(hidden_list);
    PyMem_Free(attention_list);
    PyMem_Free(projection_list);
    Py_XDECREF(projection_dict);
    Py_XDECREF(hidden_dict);
    Py_XDECREF(attention_dict);
    return result;
}

static PyMethodDef pass_methods[] = {
    {"hidden", (PyCFunction)pass_hidden, METH_O, "Output of a layer (0 = embeddings)."},
    {"attention", (PyCFunction)pass_attention, METH_VARARGS, "Attention probabilities of (layer, sequence)."},
    {"cross_attention", (PyCFunction)pass_cross_attention, METH_VARARGS, "Cross-attention probabilities of (layer, sequence)."},
    {"projection", (PyCFunction)pass_projection, METH_VARARGS, "A copy of a layer's queries, keys or values."},
    {"backward", (PyCFunction)(void (*)(void))pass_backward, METH_VARARGS | METH_KEYWORDS, "Adds to the model's gradients."},
    {"first_nonfinite", (PyCFunction)pass_first_nonfinite, METH_NOARGS, "First activation with a NaN or infinity."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef pass_getset[] = {
    {"loss", (getter)pass_loss, NULL, "The loss, or None without labels.", NULL},
    {"logits", (getter)pass_logits, NULL, "The head's logits, or None.", NULL},
    {"pooled", (getter)pass_pooled, NULL, "The pooler's output, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot pass_slots[] = {
    {Py_tp_dealloc, pass_dealloc},
    {Py_tp_traverse, pass_traverse},
    {Py_tp_methods, pass_methods},
    {Py_tp_getset, pass_getset},
    {Py_tp_doc, "One forward; owns its workspace."},
    {0, NULL},
};

static PyType_Spec pass_spec = {
    .name = "govlm._core.Pass",
    .basicsize = sizeof(gv_pass_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = pass_slots,
};

int gv_add_pass(PyObject *module, gv_module_state *state) {
    if (PyArray_ImportNumPyAPI() < 0) return -1;
    state->pass_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &pass_spec, NULL);
    return state->pass_type == NULL ? -1 : PyModule_AddType(module, state->pass_type);
}
