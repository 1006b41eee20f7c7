/* cancel_type.c - govlm._core.Cancel: one thread's calls into the core, given up by another thread.
 *
 * While a Cancel is entered, its flag is what the pool polls for that thread, and the object holds itself, so that the flag
 * outlives every call that may look at it. The main thread has Ctrl-C for that (module.c).
 */
#include "base/parallel.h"
#include "python/bindings.h"

typedef struct {
    PyObject_HEAD volatile int flag;
    unsigned long thread; /* that it is entered on; 0 = none */
    const volatile int *previous;
} gv_cancel_object;

static PyObject *cancel_cancel(gv_cancel_object *self, PyObject *unused) {
    (void)unused;
    __atomic_store_n(&self->flag, 1, __ATOMIC_RELAXED);
    Py_RETURN_NONE;
}

static PyObject *cancel_enter(gv_cancel_object *self, PyObject *unused) {
    (void)unused;
    if (self->thread != 0) {
        PyErr_SetString(PyExc_RuntimeError, "Cancel: it is entered already; each call needs its own");
        return NULL;
    }
    if (gv_is_main_thread()) {
        PyErr_SetString(PyExc_RuntimeError, "Cancel: not on the main thread, where Ctrl-C cancels");
        return NULL;
    }
    self->thread = PyThread_get_thread_ident();
    self->previous = gv_parallel_set_cancel(&self->flag);
    Py_INCREF((PyObject *)self); /* until it is left */
    return Py_NewRef((PyObject *)self);
}

static PyObject *cancel_exit(gv_cancel_object *self, PyObject *unused) {
    (void)unused;
    if (self->thread != PyThread_get_thread_ident()) {
        PyErr_SetString(PyExc_RuntimeError, "Cancel: left on another thread than it was entered on");
        return NULL;
    }
    (void)gv_parallel_set_cancel(self->previous);
    self->thread = 0;
    Py_DECREF((PyObject *)self);
    Py_RETURN_FALSE;
}

static PyObject *cancel_cancelled(gv_cancel_object *self, void *closure) {
    (void)closure;
    return PyBool_FromLong(__atomic_load_n(&self->flag, __ATOMIC_RELAXED) != 0);
}

static PyObject *cancel_here(PyObject *unused, PyObject *arguments) {
    (void)unused;
    (void)arguments;
    return PyBool_FromLong(gv_parallel_cancelled());
}

static int cancel_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void cancel_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef cancel_methods[] = {
    {"cancel", (PyCFunction)cancel_cancel, METH_NOARGS, "Gives up what runs within it, and what begins later. Any thread."},
    {"here", (PyCFunction)cancel_here, METH_NOARGS | METH_STATIC, "Whether this thread's calls into the core were given up."},
    {"__enter__", (PyCFunction)cancel_enter, METH_NOARGS, "From here on for this thread's calls."},
    {"__exit__", (PyCFunction)cancel_exit, METH_VARARGS, "No more."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef cancel_getset[] = {
    {"cancelled", (getter)cancel_cancelled, NULL, "Whether cancel() was called.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot cancel_slots[] = {
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, cancel_dealloc},
    {Py_tp_traverse, cancel_traverse},
    {Py_tp_methods, cancel_methods},
    {Py_tp_getset, cancel_getset},
    {Py_tp_doc,
     "`with Cancel() as c:` lets another thread's c.cancel() stop this thread's calls into the core: they raise Cancelled."},
    {0, NULL},
};

static PyType_Spec cancel_spec = {
    .name = "govlm._core.Cancel",
    .basicsize = sizeof(gv_cancel_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = cancel_slots,
};

int gv_add_cancel(PyObject *module, gv_module_state *state) {
    PyObject *cancelled = PyErr_NewExceptionWithDoc(
        "govlm._core.Cancelled", "The call was given up by Cancel.cancel(). No Exception, as asyncio.CancelledError is none.",
        PyExc_BaseException, NULL);
    if (cancelled == NULL || PyModule_AddObject(module, "Cancelled", cancelled) < 0) {
        Py_XDECREF(cancelled);
        return -1;
    }
    state->cancel_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &cancel_spec, NULL);
    return state->cancel_type == NULL ? -1 : PyModule_AddType(module, state->cancel_type);
}
