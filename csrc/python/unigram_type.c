/* unigram_type.c - govlm._core.Unigram: SentencePiece's normalisation and unigram model. */
#include <numpy/arrayobject.h>

#include "govlm_unigram.h"
#include "python/bindings.h"

typedef struct {
    PyObject_HEAD gv_unigram *unigram;
} gv_unigram_object;

static int read_options(gv_spm_options *out, PyObject *charsmap, int dummy, int remove, int escape, int suffix) {
    *out = (gv_spm_options){NULL, 0, dummy != 0, remove != 0, escape != 0, suffix != 0};
    if (charsmap == NULL) return 0;
    if (!PyBytes_Check(charsmap)) {
        PyErr_Format(PyExc_TypeError, "charsmap must be bytes, got %.80s", Py_TYPE(charsmap)->tp_name);
        return -1;
    }
    out->charsmap = (const uint8_t *)PyBytes_AS_STRING(charsmap);
    out->charsmap_size = PyBytes_GET_SIZE(charsmap);
    return 0;
}

static gv_status add_token(void *unigram, const gv_added_token *token, gv_error *error) {
    return gv_unigram_add_token(unigram, token, error);
}

static PyObject *unigram_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"pieces",
                            "scores",
                            "types",
                            "charsmap",
                            "add_dummy_prefix",
                            "remove_extra_whitespaces",
                            "escape_whitespaces",
                            "whitespace_as_suffix",
                            "byte_fallback",
                            "exact_sums",
                            "added",
                            NULL};
    PyObject *list, *scores_array, *types_array, *charsmap = NULL, *added = NULL, *held = NULL;
    int dummy = 1, remove = 1, escape = 1, suffix = 0, fallback = 0, exact = 0;
    Py_ssize_t count;
    gv_error error = {0};
    gv_unigram_options options = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$OppppppO:Unigram", names, &list, &scores_array, &types_array,
                                     &charsmap, &dummy, &remove, &escape, &suffix, &fallback, &exact, &added)) {
        return NULL;
    }
    if (read_options(&options.normaliser, charsmap, dummy, remove, escape, suffix) < 0) return NULL;
    options.byte_fallback = fallback != 0;
    options.exact_sums = exact != 0;
    gv_text *pieces = gv_texts_of(list, &held, &count, "pieces");
    if (pieces == NULL) return NULL;
    Py_ssize_t shape[1] = {count};
    gv_unigram_object *self = NULL;
    const float *scores = gv_read_array(scores_array, NPY_FLOAT32, 1, shape, "scores");
    const uint8_t *types = scores != NULL ? gv_read_array(types_array, NPY_UINT8, 1, shape, "types") : NULL;
    if (types != NULL) self = (gv_unigram_object *)type->tp_alloc(type, 0);
    if (self != NULL && gv_unigram_create(&self->unigram, pieces, scores, types, count, &options, NULL, &error) != GV_OK) {
        gv_raise(&error);
        Py_CLEAR(self);
    }
    if (self != NULL && added != NULL && gv_add_tokens(added, add_token, self->unigram) < 0) Py_CLEAR(self);
    PyMem_Free(pieces);
    Py_DECREF(held);
    return (PyObject *)self;
}

static void unigram_dealloc(gv_unigram_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    gv_unigram_free(self->unigram);
    type->tp_free(self);
    Py_DECREF(type);
}

typedef struct {
    const gv_unigram *unigram;
    gv_unigram_scratch *scratch; /* of this call: the texts come one after another */
} gv_unigram_call;

static gv_status encode_one(gv_tokens *out, void *handle, gv_text text, gv_error *error) {
    const gv_unigram_call *call = handle;
    return gv_unigram_encode(out, call->unigram, call->scratch, text, error);
}

static PyObject *unigram_encode(gv_unigram_object *self, PyObject *args, PyObject *kwargs) {
    gv_unigram_scratch scratch = {0};
    gv_unigram_call call = {self->unigram, &scratch};
    PyObject *result = gv_encode_texts(args, kwargs, encode_one, &call);
    gv_unigram_scratch_clear(&scratch);
    return result;
}

static PyObject *unigram_normalize(gv_unigram_object *self, PyObject *text) {
    gv_error error = {0};
    gv_spm_text normal = {0};
    PyObject *result = NULL;
    if (!PyUnicode_Check(text)) return PyErr_Format(PyExc_TypeError, "text must be str, got %.80s", Py_TYPE(text)->tp_name);
    if (gv_spm_normalise(&normal, gv_unigram_normaliser(self->unigram), gv_text_of(text), &error) != GV_OK) {
        gv_raise(&error);
    } else {
        result = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, normal.codes, (Py_ssize_t)normal.count);
    }
    gv_spm_text_clear(&normal);
    return result;
}

static PyMethodDef unigram_methods[] = {
    {"encode", (PyCFunction)(void (*)(void))unigram_encode, METH_VARARGS | METH_KEYWORDS,
     "Texts to packed ids and row splits."},
    {"normalize", (PyCFunction)unigram_normalize, METH_O, "The text as it is cut into pieces."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot unigram_slots[] = {
    {Py_tp_new, unigram_new},
    {Py_tp_dealloc, unigram_dealloc},
    {Py_tp_methods, unigram_methods},
    {Py_tp_doc, "A SentencePiece unigram model; immutable."},
    {0, NULL},
};

static PyType_Spec unigram_spec = {
    .name = "govlm._core.Unigram",
    .basicsize = sizeof(gv_unigram_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = unigram_slots,
};

/* ---- UnigramTrainer ------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD gv_unigram_trainer *trainer;
} gv_unigram_trainer_object;

static PyObject *trainer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"charsmap", "add_dummy_prefix", "remove_extra_whitespaces", NULL};
    PyObject *charsmap = NULL;
    int dummy = 1, remove = 1;
    gv_error error = {0};
    gv_spm_options options;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$Opp:UnigramTrainer", names, &charsmap, &dummy, &remove)) return NULL;
    if (read_options(&options, charsmap, dummy, remove, 1, 0) < 0) return NULL;
    gv_unigram_trainer_object *self = (gv_unigram_trainer_object *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    if (gv_unigram_trainer_create(&self->trainer, &options, NULL, &error) != GV_OK) {
        Py_DECREF(self);
        return gv_raise(&error);
    }
    return (PyObject *)self;
}

static void trainer_dealloc(gv_unigram_trainer_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    gv_unigram_trainer_free(self->trainer);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *trainer_feed(gv_unigram_trainer_object *self, PyObject *text) {
    gv_error error = {0};
    if (!PyUnicode_Check(text)) return PyErr_Format(PyExc_TypeError, "text must be str, got %.80s", Py_TYPE(text)->tp_name);
    if (gv_unigram_trainer_feed(self->trainer, gv_text_of(text), &error) != GV_OK) return gv_raise(&error);
    Py_RETURN_NONE;
}

static gv_status append_piece(void *context, const uint32_t *codes, int64_t length, double score) {
    PyObject *row = NULL, *text = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, codes, (Py_ssize_t)length);
    if (text != NULL) row = Py_BuildValue("(Nd)", text, score);
    int failed = row == NULL || PyList_Append(context, row) < 0;
    Py_XDECREF(row);
    return failed ? GV_ERR_MEMORY : GV_OK;
}

static PyObject *trainer_build(gv_unigram_trainer_object *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"vocab_size",       "character_coverage", "seed_size", "max_piece_length",
                            "shrinking_factor", "sub_iterations",     NULL};
    long long size, seeds = 1000000, longest = 16, iterations = 2;
    double coverage = 0.9995, factor = 0.75;
    gv_error error = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "L|$dLLdL:build", names, &size, &coverage, &seeds, &longest, &factor,
                                     &iterations)) {
        return NULL;
    }
    gv_unigram_training options = {size, coverage, seeds, longest, factor, iterations};
    PyObject *list = PyList_New(0);
    if (list == NULL) return NULL;
    if (gv_unigram_trainer_build(self->trainer, &options, append_piece, list, &error) != GV_OK) {
        Py_DECREF(list);
        return PyErr_Occurred() ? NULL : gv_raise(&error);
    }
    return list;
}

static PyMethodDef trainer_methods[] = {
    {"feed", (PyCFunction)trainer_feed, METH_O, "One sentence to train on."},
    {"build", (PyCFunction)(void (*)(void))trainer_build, METH_VARARGS | METH_KEYWORDS, "The pieces with their scores."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot trainer_slots[] = {
    {Py_tp_new, trainer_new},
    {Py_tp_dealloc, trainer_dealloc},
    {Py_tp_methods, trainer_methods},
    {Py_tp_doc, "Trains a unigram vocabulary."},
    {0, NULL},
};

static PyType_Spec trainer_spec = {
    .name = "govlm._core.UnigramTrainer",
    .basicsize = sizeof(gv_unigram_trainer_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = trainer_slots,
};

int gv_add_unigram(PyObject *module) {
    PyType_Spec *specs[] = {&unigram_spec, &trainer_spec};
    for (int i = 0; i < 2; i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, specs[i], NULL);
        int result = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
        Py_XDECREF(type);
        if (result < 0) return -1;
    }
    return 0;
}
