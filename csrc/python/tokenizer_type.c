/* tokenizer_type.c - govlm._core.WordPiece and WordPieceTrainer. Strings are read in their own width, without the GIL. */
#include "python/bindings.h"

typedef struct {
    PyObject_HEAD gv_tokenizer *tokenizer;
} gv_tokenizer_object;

typedef struct {
    PyObject_HEAD gv_trainer *trainer;
} gv_trainer_object;

/* ---- WordPiece ------------------------------------------------------------------------------------------------------ */

static gv_status add_one(void *tokenizer, const gv_added_token *token, gv_error *error) {
    return gv_tokenizer_add_token(tokenizer, token, error);
}

static PyObject *tokenizer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"vocabulary",           "unknown_id", "lowercase",         "strip_accents", "clean_text",
                            "handle_chinese_chars", "max_word",   "continuing_prefix", "added",         NULL};
    PyObject *vocabulary, *prefix = NULL, *added = NULL, *held = NULL;
    int unknown, lowercase = 1, strip = 1, clean = 1, chinese = 1;
    long max_word = 100;
    Py_ssize_t count;
    gv_error error = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Oi|$pppplUO:WordPiece", names, &vocabulary, &unknown, &lowercase, &strip,
                                     &clean, &chinese, &max_word, &prefix, &added)) {
        return NULL;
    }
    if (max_word < 0 || max_word > 256) return PyErr_Format(PyExc_ValueError, "max_word must be 0..256, got %ld", max_word);
    gv_text *texts = gv_texts_of(vocabulary, &held, &count, "vocabulary");
    if (texts == NULL) return NULL;
    static const uint8_t hashes[2] = {'#', '#'};
    gv_tokenizer_options options = {.clean_text = clean != 0,
                                    .handle_chinese_chars = chinese != 0,
                                    .strip_accents = strip != 0,
                                    .lowercase = lowercase != 0,
                                    .max_word = max_word,
                                    .unknown_id = unknown,
                                    .continuing_prefix = prefix != NULL ? gv_text_of(prefix) : (gv_text){hashes, 2, 1}};
    gv_tokenizer_object *self = (gv_tokenizer_object *)type->tp_alloc(type, 0);
    gv_status status =
        self == NULL ? GV_ERR_MEMORY : gv_tokenizer_create(&self->tokenizer, texts, count, &options, NULL, &error);
    PyMem_Free(texts);
    Py_DECREF(held);
    if (self == NULL) return NULL;
    if (status != GV_OK) gv_raise(&error);
    if (status != GV_OK || (added != NULL && gv_add_tokens(added, add_one, self->tokenizer) < 0)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void tokenizer_dealloc(gv_tokenizer_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    gv_tokenizer_free(self->tokenizer);
    type->tp_free(self);
    Py_DECREF(type);
}

static gv_status encode_one(gv_tokens *out, void *tokenizer, gv_text text, gv_error *error) {
    return gv_tokenizer_encode(out, tokenizer, text, error);
}

static PyObject *tokenizer_encode(gv_tokenizer_object *self, PyObject *args, PyObject *kwargs) {
    return gv_encode_texts(args, kwargs, encode_one, self->tokenizer);
}

static PyMethodDef tokenizer_methods[] = {
    {"encode", (PyCFunction)(void (*)(void))tokenizer_encode, METH_VARARGS | METH_KEYWORDS,
     "Texts to packed ids and row splits."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot tokenizer_slots[] = {
    {Py_tp_new, tokenizer_new},
    {Py_tp_dealloc, tokenizer_dealloc},
    {Py_tp_methods, tokenizer_methods},
    {Py_tp_doc, "WordPiece with BERT's normalisation; immutable."},
    {0, NULL},
};

static PyType_Spec tokenizer_spec = {
    .name = "govlm._core.WordPiece",
    .basicsize = sizeof(gv_tokenizer_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = tokenizer_slots,
};

/* ---- WordPieceTrainer ------------------------------------------------------------------------------------------------ */

static PyObject *trainer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"lowercase", "strip_accents", "clean_text", "handle_chinese_chars", NULL};
    int lowercase = 1, strip = 1, clean = 1, chinese = 1;
    gv_error error = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$pppp:WordPieceTrainer", names, &lowercase, &strip, &clean, &chinese))
        return NULL;
    gv_tokenizer_options options = {.clean_text = clean != 0,
                                    .handle_chinese_chars = chinese != 0,
                                    .strip_accents = strip != 0,
                                    .lowercase = lowercase != 0,
                                    .max_word = 100};
    gv_trainer_object *self = (gv_trainer_object *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    if (gv_trainer_create(&self->trainer, &options, NULL, &error) != GV_OK) {
        Py_DECREF(self);
        return gv_raise(&error);
    }
    return (PyObject *)self;
}

static void trainer_dealloc(gv_trainer_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    gv_trainer_free(self->trainer);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *trainer_feed(gv_trainer_object *self, PyObject *text) {
    gv_error error = {0};
    if (!PyUnicode_Check(text)) return PyErr_Format(PyExc_TypeError, "text must be str, got %.80s", Py_TYPE(text)->tp_name);
    if (gv_trainer_feed(self->trainer, gv_text_of(text), &error) != GV_OK) return gv_raise(&error);
    Py_RETURN_NONE;
}

static gv_status append_entry(void *context, const uint32_t *codes, int64_t length, bool continuing) {
    PyObject *list = context, *text = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, codes, (Py_ssize_t)length), *whole = text;
    if (text != NULL && continuing) {
        whole = PyUnicode_FromFormat("##%U", text);
        Py_DECREF(text);
    }
    int failed = whole == NULL || PyList_Append(list, whole) < 0;
    Py_XDECREF(whole);
    return failed ? GV_ERR_MEMORY : GV_OK;
}

static PyObject *trainer_build(gv_trainer_object *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"vocab_size", "min_frequency", "limit_alphabet", NULL};
    long long size, frequency = 2, alphabet = -1;
    gv_error error = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "L|LL:build", names, &size, &frequency, &alphabet)) return NULL;
    gv_trainer_options options = {size, frequency, alphabet};
    PyObject *list = PyList_New(0);
    if (list == NULL) return NULL;
    gv_status status = gv_trainer_build(self->trainer, &options, append_entry, list, &error);
    if (status != GV_OK) {
        Py_DECREF(list);
        return PyErr_Occurred() ? NULL : gv_raise(&error);
    }
    return list;
}

static PyMethodDef trainer_methods[] = {
    {"feed", (PyCFunction)trainer_feed, METH_O, "Counts the words of a text (whole lines)."},
    {"build", (PyCFunction)(void (*)(void))trainer_build, METH_VARARGS | METH_KEYWORDS,
     "The vocabulary, without special tokens."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot trainer_slots[] = {
    {Py_tp_new, trainer_new},
    {Py_tp_dealloc, trainer_dealloc},
    {Py_tp_methods, trainer_methods},
    {Py_tp_doc, "Counts words and merges pieces into a WordPiece vocabulary."},
    {0, NULL},
};

static PyType_Spec trainer_spec = {
    .name = "govlm._core.WordPieceTrainer",
    .basicsize = sizeof(gv_trainer_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = trainer_slots,
};

int gv_add_tokenizer(PyObject *module, gv_module_state *state) {
    state->tokenizer_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &tokenizer_spec, NULL);
    if (state->tokenizer_type == NULL || PyModule_AddType(module, state->tokenizer_type) < 0) return -1;
    PyObject *trainer = PyType_FromModuleAndSpec(module, &trainer_spec, NULL);
    if (trainer == NULL) return -1;
    int result = PyModule_AddType(module, (PyTypeObject *)trainer);
    Py_DECREF(trainer);
    return result;
}
