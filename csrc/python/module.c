/* module.c - govlm._core: multi-phase initialisation, information, errors, Ctrl-C. */
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/parallel.h"
#include "kernels/gemm.h"
#include "python/bindings.h"

/* Looked up: gv_raise's callers have no module at hand. */
static PyObject *gv_raise_cancelled(const char *text) {
    PyObject *module = PyImport_ImportModule("govlm._core");
    PyObject *type = module ? PyObject_GetAttrString(module, "Cancelled") : NULL;
    if (type != NULL) PyErr_SetString(type, text);
    Py_XDECREF(type);
    Py_XDECREF(module);
    return NULL;
}

PyObject *gv_raise(const gv_error *error) {
    PyObject *type = PyExc_RuntimeError;
    switch (error->status) {
        case GV_ERR_MEMORY:
            type = PyExc_MemoryError;
            break;
        case GV_ERR_VALUE:
        case GV_ERR_FORMAT:
            type = PyExc_ValueError;
            break;
        case GV_ERR_TYPE:
            type = PyExc_TypeError;
            break;
        case GV_ERR_INDEX:
            type = PyExc_IndexError;
            break;
        case GV_ERR_IO:
            type = PyExc_OSError;
            break;
        case GV_ERR_CANCELLED:
            if (!gv_is_main_thread()) return gv_raise_cancelled(error->text);
            if (PyErr_CheckSignals() != 0) return NULL; /* the user's own handler decided */
            type = PyExc_KeyboardInterrupt;
            break;
        default:
            break;
    }
    PyErr_SetString(type, error->text);
    return NULL;
}

/* Python's own handler only sets a flag that needs the GIL to be read; a long C call must see the signal itself. The
 * handler is installed for the time of one call and chains to the one it replaced, so Python still raises. */
static volatile int gv_interrupt_flag;
static struct sigaction gv_python_action;
static volatile int gv_interrupt_depth;

static void gv_on_interrupt(int number) {
    gv_interrupt_flag = 1;
    if (gv_python_action.sa_handler != SIG_DFL && gv_python_action.sa_handler != SIG_IGN) gv_python_action.sa_handler(number);
}

bool gv_is_main_thread(void) {
    static pthread_t main_thread;
    static bool known;
    if (!known) {
        /* The import that loads this module may run elsewhere; ask Python once, with the GIL held. */
        PyObject *threading = PyImport_ImportModule("threading");
        PyObject *thread = threading ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
        PyObject *ident = thread ? PyObject_GetAttrString(thread, "ident") : NULL;
        if (ident != NULL && PyLong_Check(ident)) {
            main_thread = (pthread_t)PyLong_AsUnsignedLong(ident);
            known = true;
        }
        Py_XDECREF(ident);
        Py_XDECREF(thread);
        Py_XDECREF(threading);
        PyErr_Clear();
    }
    return known && pthread_equal(main_thread, pthread_self());
}

const volatile int *gv_interrupt_begin(void) {
    if (!gv_is_main_thread()) return NULL;
    if (gv_interrupt_depth++ == 0) {
        struct sigaction current, mine;
        sigaction(SIGINT, NULL, &current);
        if ((current.sa_flags & SA_SIGINFO) == 0 && current.sa_handler != SIG_DFL && current.sa_handler != SIG_IGN) {
            gv_python_action = current;
            memset(&mine, 0, sizeof mine);
            mine.sa_handler = gv_on_interrupt;
            mine.sa_flags = current.sa_flags;
            mine.sa_mask = current.sa_mask;
            gv_interrupt_flag = 0;
            sigaction(SIGINT, &mine, NULL);
        }
    }
    return gv_parallel_set_cancel(&gv_interrupt_flag);
}

void gv_interrupt_end(const volatile int *previous) {
    if (!gv_is_main_thread()) return;
    gv_parallel_set_cancel(previous);
    if (--gv_interrupt_depth == 0 && gv_python_action.sa_handler != NULL) {
        struct sigaction current;
        sigaction(SIGINT, NULL, &current);
        if (current.sa_handler == gv_on_interrupt) sigaction(SIGINT, &gv_python_action, NULL);
    }
}

static PyObject *core_num_threads(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromLong(gv_num_threads());
}

static PyObject *core_set_num_threads(PyObject *module, PyObject *argument) {
    (void)module;
    gv_error error = {0};
    gv_status status;
    long count = PyLong_AsLong(argument);
    if (count == -1 && PyErr_Occurred()) return NULL;
    if (count < 1 || count > 1024) return PyErr_Format(PyExc_ValueError, "num_threads must be 1..1024, got %ld", count);
    Py_BEGIN_ALLOW_THREADS status = gv_set_num_threads((int)count, &error);
    Py_END_ALLOW_THREADS if (status != GV_OK) return gv_raise(&error);
    Py_RETURN_NONE;
}

static PyObject *core_info(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return Py_BuildValue("{s:s,s:s,s:s,s:s,s:i}", "kernels", gv_isa_name(), "cpu_features", gv_cpu_features(), "onednn",
                         gv_onednn_version(), "matmul", gv_gemm_description(), "threads", gv_num_threads());
}

static PyMethodDef module_methods[] = {
    {"num_threads", core_num_threads, METH_NOARGS, "Number of threads the pool uses."},
    {"set_num_threads", core_set_num_threads, METH_O, "Sets the number of threads (1..1024)."},
    {"info", core_info, METH_NOARGS, "Kernels, CPU features, oneDNN version, matmul implementations, threads."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module) {
    gv_module_state *state = PyModule_GetState(module);
    memset(state, 0, sizeof *state);
    if (gv_add_adapters() < 0 || gv_add_packed() < 0) return -1;
    if (gv_add_tokenizer(module, state) < 0) return -1;
    if (gv_add_bpe(module) < 0) return -1;
    if (gv_add_model(module, state) < 0) return -1;
    if (gv_add_pass(module, state) < 0) return -1;
    if (gv_add_moments(module, state) < 0) return -1;
    if (gv_add_cancel(module, state) < 0) return -1;
    if (gv_add_cache(module, state) < 0) return -1;
    if (gv_add_ngrams(module) < 0) return -1;
    if (gv_add_search(module) < 0) return -1;
    if (gv_add_unigram(module) < 0) return -1;
    return 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    gv_module_state *state = PyModule_GetState(module);
    if (state == NULL) return 0;
    Py_VISIT(state->tokenizer_type);
    Py_VISIT(state->model_type);
    Py_VISIT(state->pass_type);
    Py_VISIT(state->moments_type);
    Py_VISIT(state->cancel_type);
    Py_VISIT(state->cache_type);
    return 0;
}

static int module_clear(PyObject *module) {
    gv_module_state *state = PyModule_GetState(module);
    if (state == NULL) return 0;
    Py_CLEAR(state->tokenizer_type);
    Py_CLEAR(state->model_type);
    Py_CLEAR(state->pass_type);
    Py_CLEAR(state->moments_type);
    Py_CLEAR(state->cancel_type);
    Py_CLEAR(state->cache_type);
    return 0;
}

static void module_free(void *module) {
    (void)module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, /* NumPy's own limit */
#endif
    {0, NULL},
};

struct PyModuleDef gv_module_definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "govlm._core",
    .m_doc = "The native core of govlm.",
    .m_size = sizeof(gv_module_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void) {
    return PyModuleDef_Init(&gv_module_definition);
}
