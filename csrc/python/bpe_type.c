/* bpe_type.c - govlm._core.BPE and BPETrainer. */
#include <numpy/arrayobject.h>
#include <string.h>

#include "govlm_bpe.h"
#include "python/bindings.h"

typedef struct {
    PyObject_HEAD gv_bpe *bpe;
} gv_bpe_object;

typedef struct {
    PyObject_HEAD gv_bpe_trainer *trainer;
} gv_bpe_trainer_object;

static const char *const SPLITS[] = {"none", "gpt2", "qwen2", "llama3", "digits", NULL};
static const char *const PREPENDS[] = {"never", "always", "missing", "first", NULL};

/* The place of `word` among `words`; -1 with an exception set. */
static int word_of(const char *word, const char *const *words, const char *name) {
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(word, words[i]) == 0) return i;
    }
    PyErr_Format(PyExc_ValueError, "%s must not be '%.80s'", name, word);
    return -1;
}

static gv_bytes *bytes_of(PyObject *sequence, Py_ssize_t *count) {
    *count = PyTuple_GET_SIZE(sequence);
    gv_bytes *tokens = PyMem_Calloc((size_t)*count + 1, sizeof *tokens);
    if (tokens == NULL) return (gv_bytes *)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < *count; i++) {
        PyObject *item = PyTuple_GET_ITEM(sequence, i);
        if (!PyBytes_Check(item)) {
            PyErr_Format(PyExc_TypeError, "tokens[%zd] must be bytes, got %.80s", i, Py_TYPE(item)->tp_name);
            PyMem_Free(tokens);
            return NULL;
        }
        tokens[i] = (gv_bytes){(const uint8_t *)PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item)};
    }
    return tokens;
}

static gv_status add_token(void *bpe, const gv_added_token *token, gv_error *error) {
    return gv_bpe_add_token(bpe, token, error);
}

static gv_status encode_one(gv_tokens *out, void *bpe, gv_text text, gv_error *error) {
    return gv_bpe_encode(out, bpe, text, error);
}

static PyObject *bpe_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"tokens",      "merges",        "ranks",        "split",   "prepend", "characters", "compose",
                            "whole_words", "byte_fallback", "fuse_unknown", "unknown", "added",   NULL};
    PyObject *list, *merges = NULL, *ranks = NULL, *added = NULL, *tuple = NULL;
    const char *split = "gpt2", *prepend = "never";
    int characters = 0, compose = 0, whole = 0, fallback = 0, fuse = 0, unknown = -1;
    gv_bpe_object *self = NULL;
    gv_bytes *tokens = NULL;
    const int32_t *numbers = NULL;
    Py_ssize_t count;
    gv_error error = {0};
    gv_status status;
    bool made = false;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOsspppppiO:BPE", names, &list, &merges, &ranks, &split, &prepend,
                                     &characters, &compose, &whole, &fallback, &fuse, &unknown, &added)) {
        return NULL;
    }
    if (merges == Py_None) merges = NULL;
    if (ranks == Py_None) ranks = NULL;
    if ((merges == NULL) == (ranks == NULL)) return PyErr_Format(PyExc_ValueError, "give merges or ranks");
    int split_kind = word_of(split, SPLITS, "split"), prepend_kind = word_of(prepend, PREPENDS, "prepend");
    if (split_kind < 0 || prepend_kind < 0) return NULL;
    if ((tuple = PySequence_Tuple(list)) == NULL) return NULL;
    if ((tokens = bytes_of(tuple, &count)) == NULL) goto done;
    Py_ssize_t shape[2] = {merges != NULL ? -1 : count, 2};
    numbers = gv_read_array(merges != NULL ? merges : ranks, NPY_INT32, merges != NULL ? 2 : 1, shape,
                            merges != NULL ? "merges" : "ranks");
    if (numbers == NULL) goto done;
    if ((self = (gv_bpe_object *)type->tp_alloc(type, 0)) == NULL) goto done;
    gv_bpe_options options = {.characters = characters != 0,
                              .compose = compose != 0,
                              .whole_words = whole != 0,
                              .byte_fallback = fallback != 0,
                              .fuse_unknown = fuse != 0,
                              .split = (gv_split_kind)split_kind,
                              .prepend = (gv_prepend)prepend_kind,
                              .unknown_id = unknown};
    Py_BEGIN_ALLOW_THREADS status = gv_bpe_create(&self->bpe, tokens, count, &options, NULL, &error);
    if (status == GV_OK) {
        status = merges != NULL ? gv_bpe_set_merges(self->bpe, numbers, shape[0], &error)
                                : gv_bpe_set_ranks(self->bpe, numbers, &error);
    }
    Py_END_ALLOW_THREADS if (status != GV_OK) {
        gv_raise(&error);
        goto done;
    }
    made = added == NULL || gv_add_tokens(added, add_token, self->bpe) == 0;
done:
    if (!made) Py_CLEAR(self);
    PyMem_Free(tokens);
    Py_DECREF(tuple);
    return (PyObject *)self;
}

static void bpe_dealloc(gv_bpe_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    gv_bpe_free(self->bpe);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *bpe_encode(gv_bpe_object *self, PyObject *args, PyObject *kwargs) {
    return gv_encode_texts(args, kwargs, encode_one, self->bpe);
}

static PyMethodDef bpe_methods[] = {
    {"encode", (PyCFunction)(void (*)(void))bpe_encode, METH_VARARGS | METH_KEYWORDS, "Texts to packed ids and row splits."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot bpe_slots[] = {
    {Py_tp_new, bpe_new},
    {Py_tp_dealloc, bpe_dealloc},
    {Py_tp_methods, bpe_methods},
    {Py_tp_doc, "Byte-pair encoding; immutable."},
    {0, NULL},
};

static PyType_Spec bpe_spec = {
    .name = "govlm._core.BPE",
    .basicsize = sizeof(gv_bpe_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = bpe_slots,
};

/* ---- BPETrainer ------------------------------------------------------------------------------------------------------ */

static PyObject *trainer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"split", "compose", NULL};
    const char *split = "gpt2";
    int compose = 0;
    gv_error error = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$sp:BPETrainer", names, &split, &compose)) return NULL;
    int kind = word_of(split, SPLITS, "split");
    if (kind < 0) return NULL;
    gv_bpe_trainer_object *self = (gv_bpe_trainer_object *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    if (gv_bpe_trainer_create(&self->trainer, (gv_split_kind)kind, compose != 0, NULL, &error) != GV_OK) {
        Py_DECREF(self);
        return gv_raise(&error);
    }
    return (PyObject *)self;
}

static void trainer_dealloc(gv_bpe_trainer_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    gv_bpe_trainer_free(self->trainer);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *trainer_feed(gv_bpe_trainer_object *self, PyObject *text) {
    gv_error error = {0};
    if (!PyUnicode_Check(text)) return PyErr_Format(PyExc_TypeError, "text must be str, got %.80s", Py_TYPE(text)->tp_name);
    if (gv_bpe_trainer_feed(self->trainer, gv_text_of(text), &error) != GV_OK) return gv_raise(&error);
    Py_RETURN_NONE;
}

static gv_status append_merge(void *context, int32_t left, int32_t right, int32_t made) {
    PyObject *row = Py_BuildValue("(iii)", (int)left, (int)right, (int)made);
    int failed = row == NULL || PyList_Append(context, row) < 0;
    Py_XDECREF(row);
    return failed ? GV_ERR_MEMORY : GV_OK;
}

static PyObject *trainer_build(gv_bpe_trainer_object *self, PyObject *args) {
    PyObject *alphabet;
    long long merges, frequency;
    gv_error error = {0};
    if (!PyArg_ParseTuple(args, "SLL:build", &alphabet, &merges, &frequency)) return NULL;
    if (PyBytes_GET_SIZE(alphabet) != 256) return PyErr_Format(PyExc_ValueError, "the alphabet must have 256 bytes");
    PyObject *list = PyList_New(0);
    if (list == NULL) return NULL;
    gv_status status = gv_bpe_trainer_build(self->trainer, (const uint8_t *)PyBytes_AS_STRING(alphabet), merges, frequency,
                                            append_merge, list, &error);
    if (status != GV_OK) {
        Py_DECREF(list);
        return PyErr_Occurred() ? NULL : gv_raise(&error);
    }
    return list;
}

static PyMethodDef trainer_methods[] = {
    {"feed", (PyCFunction)trainer_feed, METH_O, "Counts the pieces of a text (whole lines)."},
    {"build", (PyCFunction)trainer_build, METH_VARARGS, "The merges in order: (left, right, made)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot trainer_slots[] = {
    {Py_tp_new, trainer_new},
    {Py_tp_dealloc, trainer_dealloc},
    {Py_tp_methods, trainer_methods},
    {Py_tp_doc, "Counts pieces and merges bytes into a vocabulary."},
    {0, NULL},
};

static PyType_Spec trainer_spec = {
    .name = "govlm._core.BPETrainer",
    .basicsize = sizeof(gv_bpe_trainer_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = trainer_slots,
};

int gv_add_bpe(PyObject *module) {
    if (PyArray_ImportNumPyAPI() < 0) return -1;
    PyType_Spec *specs[] = {&bpe_spec, &trainer_spec};
    for (int i = 0; i < 2; i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, specs[i], NULL);
        if (type == NULL) return -1;
        int result = PyModule_AddType(module, (PyTypeObject *)type);
        Py_DECREF(type);
        if (result < 0) return -1;
    }
    return 0;
}
