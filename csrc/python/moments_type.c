/* moments_type.c - govlm._core.Moments: AdamW's state of one model. */
#include "python/model_object.h"

typedef struct {
    PyObject_HEAD gv_moments *moments;
    gv_model_object *owner;
} gv_moments_object;

static PyObject *moments_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"model", NULL};
    PyObject *model;
    gv_error error = {0};
    gv_module_state *state = PyType_GetModuleState(type);
    if (state == NULL) return NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Moments", names, state->model_type, &model)) return NULL;
    gv_moments_object *self = (gv_moments_object *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->owner = (gv_model_object *)Py_NewRef(model);
    PyObject *done = PyObject_CallMethod(model, "make_trainable", NULL);
    if (done == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    Py_DECREF(done);
    if (gv_moments_create(&self->moments, self->owner->model, &error) != GV_OK) {
        Py_DECREF(self);
        return gv_raise(&error);
    }
    return (PyObject *)self;
}

static int moments_traverse(gv_moments_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->owner);
    return 0;
}

static void moments_dealloc(gv_moments_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    gv_moments_free(self->moments);
    Py_CLEAR(self->owner);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *moments_view(gv_moments_object *self, PyObject *name, float *(*of)(gv_moments *, int64_t)) {
    gv_parameter_info info;
    int64_t index = gv_parameter_index(self->owner, name);
    if (index < 0) return NULL;
    gv_model_parameter(&info, self->owner->model, index);
    const npy_intp shape[2] = {(npy_intp)info.shape[0], (npy_intp)info.shape[1]};
    return gv_array_view((PyObject *)self, info.dimensions, shape, of(self->moments, index), true);
}

static PyObject *moments_first(gv_moments_object *self, PyObject *name) {
    return moments_view(self, name, gv_moments_first);
}
static PyObject *moments_second(gv_moments_object *self, PyObject *name) {
    return moments_view(self, name, gv_moments_second);
}

static PyObject *moments_step_count(gv_moments_object *self, PyObject *name) {
    int64_t index = gv_parameter_index(self->owner, name);
    if (index < 0) return NULL;
    return PyLong_FromLongLong((long long)gv_moments_step(self->moments, index));
}

static PyObject *moments_set_step_count(gv_moments_object *self, PyObject *args) {
    PyObject *name;
    long long step;
    if (!PyArg_ParseTuple(args, "UL:set_step_count", &name, &step)) return NULL;
    int64_t index = gv_parameter_index(self->owner, name);
    if (index < 0) return NULL;
    if (step < 0) return PyErr_Format(PyExc_ValueError, "step must not be negative, got %lld", step);
    gv_moments_set_step(self->moments, index, step);
    Py_RETURN_NONE;
}

static PyObject *moments_adamw(gv_moments_object *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"names", "lr", "beta1", "beta2", "eps", "weight_decay", NULL};
    PyObject *names;
    gv_adamw_group group;
    gv_error error = {0};
    gv_status status;
    int64_t count;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Oddddd:adamw", keywords, &names, &group.lr, &group.beta1, &group.beta2,
                                     &group.eps, &group.weight_decay)) {
        return NULL;
    }
    int64_t *indices = gv_parameter_indices(self->owner, names, &count);
    if (indices == NULL) return NULL;
    Py_BEGIN_ALLOW_THREADS status = gv_moments_adamw(self->moments, indices, count, &group, &error);
    Py_END_ALLOW_THREADS PyMem_Free(indices);
    if (status != GV_OK) return gv_raise(&error);
    Py_RETURN_NONE;
}

static PyMethodDef moments_methods[] = {
    {"first", (PyCFunction)moments_first, METH_O, "First moments of a parameter, as a view."},
    {"second", (PyCFunction)moments_second, METH_O, "Second moments of a parameter, as a view."},
    {"step_count", (PyCFunction)moments_step_count, METH_O, "Steps a parameter has taken."},
    {"set_step_count", (PyCFunction)moments_set_step_count, METH_VARARGS, "Sets it, after the moments were loaded."},
    {"adamw", (PyCFunction)(void (*)(void))moments_adamw, METH_VARARGS | METH_KEYWORDS, "One AdamW step."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot moments_slots[] = {
    {Py_tp_new, moments_new},
    {Py_tp_dealloc, moments_dealloc},
    {Py_tp_traverse, moments_traverse},
    {Py_tp_methods, moments_methods},
    {Py_tp_doc, "AdamW's state for one model."},
    {0, NULL},
};

static PyType_Spec moments_spec = {
    .name = "govlm._core.Moments",
    .basicsize = sizeof(gv_moments_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = moments_slots,
};

int gv_add_moments(PyObject *module, gv_module_state *state) {
    if (PyArray_ImportNumPyAPI() < 0) return -1;
    state->moments_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &moments_spec, NULL);
    return state->moments_type == NULL ? -1 : PyModule_AddType(module, state->moments_type);
}
