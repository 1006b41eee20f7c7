/* bindings.h - what the files of csrc/python share: module state, status -> exception, and the cancel scope. */
#ifndef GV_PYTHON_BINDINGS_H
#define GV_PYTHON_BINDINGS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "govlm.h"

typedef struct {
    PyTypeObject *tokenizer_type;
    PyTypeObject *model_type;
    PyTypeObject *pass_type;
    PyTypeObject *moments_type;
    PyTypeObject *cancel_type;
    PyTypeObject *cache_type;
} gv_module_state;

extern struct PyModuleDef gv_module_definition;

/* Raises the exception that gv_status documents, with error->text; returns NULL. */
PyObject *gv_raise(const gv_error *error);

int gv_add_packed(void);   /* what gv_encode_texts needs; 0 or -1 with an exception set */
int gv_add_adapters(void); /* what gv_read_adapters needs */
/* Each adds its types and functions to the module; 0 or -1 with an exception set. */
int gv_add_tokenizer(PyObject *module, gv_module_state *state);
int gv_add_bpe(PyObject *module);
int gv_add_model(PyObject *module, gv_module_state *state);
int gv_add_pass(PyObject *module, gv_module_state *state);
int gv_add_moments(PyObject *module, gv_module_state *state);
int gv_add_cancel(PyObject *module, gv_module_state *state);
int gv_add_cache(PyObject *module, gv_module_state *state);
int gv_add_ngrams(PyObject *module);
int gv_add_search(PyObject *module);
int gv_add_unigram(PyObject *module);

/* A str in its own width; borrowed from it. */
gv_text gv_text_of(PyObject *string);

/* The strings of a list or tuple, in their own width; `held` (new reference) keeps them alive, PyMem_Free frees the array. NULL
 * with an exception set. */
gv_text *gv_texts_of(PyObject *value, PyObject **held, Py_ssize_t *count, const char *name);

/* The method `encode(texts, *, prefix=(), suffix=(), max_length=-1, offsets=False)` of a tokenizer type: `encode` appends the
 * tokens of one text, and runs without the GIL. See WordPiece.encode in govlm/_core.pyi for what is returned. */
typedef gv_status (*gv_encode_one)(gv_tokens *out, void *handle, gv_text text, gv_error *error);
PyObject *gv_encode_texts(PyObject *args, PyObject *kwargs, gv_encode_one encode, void *handle);
/* Adds (text, id, single_word, lstrip, rstrip, normalized) of a sequence, each by `add`; 0, or -1 with an exception set. */
typedef gv_status (*gv_add_one)(void *handle, const gv_added_token *token, gv_error *error);
int gv_add_tokens(PyObject *list, gv_add_one add, void *handle);

/* A contiguous array of this NumPy type and shape (shape[i] < 0 = any, filled in); NULL with an exception
 * set. The caller's file has imported NumPy's API. */
void *gv_read_array(PyObject *value, int type, int dimensions, Py_ssize_t *shape, const char *name);

/* Runs `expression` (a gv_status) without the GIL, with Ctrl-C cancelling the pool's jobs of this thread. On
 * cancellation gv_raise raises the pending signal as KeyboardInterrupt; on other threads, Cancelled. */
#define GV_WITHOUT_GIL(status, expression)                       \
    do {                                                         \
        const volatile int *gv_previous_ = gv_interrupt_begin(); \
        Py_BEGIN_ALLOW_THREADS(status) = (expression);           \
        Py_END_ALLOW_THREADS gv_interrupt_end(gv_previous_);     \
    } while (0)

bool gv_is_main_thread(void); /* with the GIL held */

/* On the main thread: catches SIGINT into a flag that the pool polls. Elsewhere: nothing. */
const volatile int *gv_interrupt_begin(void);
void gv_interrupt_end(const volatile int *previous);

#endif
