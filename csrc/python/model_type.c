/* model_type.c - govlm._core.Model. */
#include <string.h>

#include "python/model_object.h"

int64_t gv_parameter_index(gv_model_object *self, PyObject *name) {
    const char *text = PyUnicode_AsUTF8(name);
    if (text == NULL) return -1;
    int64_t index = gv_model_find(self->model, text);
    if (index < 0) PyErr_Format(PyExc_KeyError, "the model has no parameter \"%.200s\"", text);
    return index;
}

int64_t *gv_parameter_indices(gv_model_object *self, PyObject *names, int64_t *count) {
    int64_t *indices = NULL;
    if (names == NULL || names == Py_None) {
        *count = gv_model_parameter_count(self->model);
        indices = PyMem_Calloc((size_t)*count + 1, sizeof *indices);
        if (indices == NULL) return (int64_t *)PyErr_NoMemory();
        for (int64_t i = 0; i < *count; i++) indices[i] = i;
        return indices;
    }
    PyObject *sequence = PySequence_Fast(names, "names must be a sequence of parameter names");
    if (sequence == NULL) return NULL;
    *count = PySequence_Fast_GET_SIZE(sequence);
    indices = PyMem_Calloc((size_t)*count + 1, sizeof *indices);
    if (indices == NULL) PyErr_NoMemory();
    for (int64_t i = 0; indices != NULL && i < *count; i++) {
        indices[i] = gv_parameter_index(self, PySequence_Fast_GET_ITEM(sequence, i));
        if (indices[i] < 0) {
            PyMem_Free(indices);
            indices = NULL;
        }
    }
    Py_DECREF(sequence);
    return indices;
}

static int read_config(gv_config *config, PyObject *mapping) {
    gv_error error = {0};
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(mapping, &position, &key, &value)) {
        const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : NULL;
        gv_status status;
        if (name == NULL) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "configuration names must be str");
            return -1;
        }
        if (PyUnicode_Check(value)) {
            const char *word = PyUnicode_AsUTF8(value);
            if (word == NULL) return -1;
            status = gv_config_set_word(config, name, word, &error);
        } else {
            double number = PyFloat_AsDouble(value);
            if (number == -1 && PyErr_Occurred()) return -1;
            status = gv_config_set_number(config, name, number, &error);
        }
        if (status != GV_OK) {
            gv_raise(&error);
            return -1;
        }
    }
    return 0;
}

static PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"config", NULL};
    PyObject *mapping, *copy = NULL;
    gv_model_object *self = NULL;
    gv_config *config = NULL;
    gv_error error = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Model", names, &mapping)) return NULL;
    copy = PyDict_New();
    if (copy == NULL || PyDict_Update(copy, mapping) < 0) goto fail;
    if (gv_config_create(&config, NULL, &error) != GV_OK) {
        gv_raise(&error);
        goto fail;
    }
    if (read_config(config, copy) < 0) goto fail;
    self = (gv_model_object *)type->tp_alloc(type, 0);
    if (self == NULL) goto fail;
    if (gv_model_create(&self->model, config, NULL, &error) != GV_OK) {
        gv_raise(&error);
        goto fail;
    }
    self->config = copy;
    copy = NULL;
    self->bound = PyDict_New();
    if (self->bound == NULL) goto fail;
    gv_config_free(config);
    return (PyObject *)self;
fail:
    gv_config_free(config);
    Py_XDECREF(copy);
    Py_XDECREF(self);
    return NULL;
}

static int model_traverse(gv_model_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->config);
    Py_VISIT(self->bound);
    Py_VISIT(self->base);
    return 0;
}

static int model_clear(gv_model_object *self) {
    Py_CLEAR(self->config);
    Py_CLEAR(self->bound);
    return 0;
}

static void model_dealloc(gv_model_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)model_clear(self);
    gv_model_free(self->model);
    Py_CLEAR(self->base);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *model_config(gv_model_object *self, void *closure) {
    (void)closure;
    return PyDict_Copy(self->config);
}

static PyObject *model_trainable(gv_model_object *self, void *closure) {
    (void)closure;
    return PyBool_FromLong(gv_model_is_trainable(self->model));
}

static PyObject *model_version(gv_model_object *self, void *closure) {
    (void)closure;
    return PyLong_FromUnsignedLongLong(gv_model_version(self->model));
}

static PyObject *model_names(gv_model_object *self, PyObject *unused) {
    (void)unused;
    int64_t count = gv_model_parameter_count(self->model);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (int64_t i = 0; list != NULL && i < count; i++) {
        gv_parameter_info info;
        gv_model_parameter(&info, self->model, i);
        PyObject *name = PyUnicode_FromString(info.name);
        if (name == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, (Py_ssize_t)i, name);
        }
    }
    return list;
}

static PyObject *model_shape(gv_model_object *self, PyObject *name) {
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    gv_parameter_info info;
    gv_model_parameter(&info, self->model, index);
    if (info.dimensions == 1) return Py_BuildValue("(L)", (long long)info.shape[0]);
    return Py_BuildValue("(LL)", (long long)info.shape[0], (long long)info.shape[1]);
}

static PyObject *model_bind(gv_model_object *self, PyObject *args) {
    PyObject *name, *value;
    gv_error error = {0};
    gv_parameter_info info;
    if (!PyArg_ParseTuple(args, "UO:bind", &name, &value)) return NULL;
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    gv_model_parameter(&info, self->model, index);
    const npy_intp shape[2] = {(npy_intp)info.shape[0], (npy_intp)info.shape[1]};
    PyArrayObject *array = gv_want_array(value, info.name, NPY_FLOAT32, info.dimensions, shape);
    if (array == NULL) return NULL;
    if (gv_model_bind(self->model, index, PyArray_DATA(array), &error) != GV_OK) return gv_raise(&error);
    if (PyDict_SetItem(self->bound, name, value) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *model_quantised_sizes(gv_model_object *self, PyObject *args) {
    PyObject *name;
    long long group;
    gv_error error = {0};
    gv_quantised_sizes sizes;
    if (!PyArg_ParseTuple(args, "UL:quantised_sizes", &name, &group)) return NULL;
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    if (gv_model_quantised_sizes(&sizes, self->model, index, group, &error) != GV_OK) return gv_raise(&error);
    return Py_BuildValue("(LLLLL)", (long long)sizes.slices, (long long)sizes.panels, (long long)sizes.sums,
                         (long long)sizes.scales, (long long)sizes.smooth);
}

static PyObject *model_bind_quantised(gv_model_object *self, PyObject *args) {
    PyObject *name, *panels, *sums, *scales, *smooth;
    long long group;
    int levels;
    gv_error error = {0};
    gv_quantised_sizes sizes;
    gv_quantised_arrays arrays = {0};
    char text[160];
    if (!PyArg_ParseTuple(args, "UOOOOLi:bind_quantised", &name, &panels, &sums, &scales, &smooth, &group, &levels))
        return NULL;
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    if (gv_model_quantised_sizes(&sizes, self->model, index, group, &error) != GV_OK) return gv_raise(&error);
    const int64_t counts[4] = {sizes.slices * sizes.panels, sizes.slices * sizes.sums, sizes.slices * sizes.scales,
                               sizes.smooth};
    const int types[4] = {NPY_INT8, NPY_INT16, NPY_FLOAT32, NPY_FLOAT32};
    const char *const parts[4] = {"panels", "sums", "scales", "smooth"};
    PyObject *const values[4] = {panels, sums, scales, smooth};
    const void *data[4] = {NULL, NULL, NULL, NULL};
    for (int i = 0; i < 4; i++) {
        if (i == 3 && smooth == Py_None) break;
        const npy_intp shape[1] = {(npy_intp)counts[i]};
        (void)PyOS_snprintf(text, sizeof text, "%.100s.%s", PyUnicode_AsUTF8(name), parts[i]);
        PyArrayObject *array = gv_want_array(values[i], text, types[i], 1, shape);
        if (array == NULL) return NULL;
        data[i] = PyArray_DATA(array);
    }
    arrays.panels = data[0];
    arrays.sums = data[1];
    arrays.scales = data[2];
    arrays.smooth = data[3];
    arrays.group = group;
    arrays.levels = levels;
    if (gv_model_bind_quantised(self->model, index, &arrays, &error) != GV_OK) return gv_raise(&error);
    if (PyDict_SetItem(self->bound, name, args) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *model_blocks_sizes(gv_model_object *self, PyObject *args) {
    PyObject *name;
    int bits, minimum;
    gv_error error = {0};
    gv_blocks_sizes sizes;
    if (!PyArg_ParseTuple(args, "Uip:blocks_sizes", &name, &bits, &minimum)) return NULL;
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    if (gv_model_blocks_sizes(&sizes, self->model, index, bits, minimum != 0, &error) != GV_OK) return gv_raise(&error);
    return Py_BuildValue("(LLLL)", (long long)sizes.slices, (long long)sizes.bytes, (long long)sizes.outputs,
                         (long long)sizes.inputs);
}

static PyObject *model_bind_blocks(gv_model_object *self, PyObject *args) {
    PyObject *name, *data;
    int bits, minimum;
    gv_error error = {0};
    gv_blocks_sizes sizes;
    char text[160];
    if (!PyArg_ParseTuple(args, "UOip:bind_blocks", &name, &data, &bits, &minimum)) return NULL;
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    if (gv_model_blocks_sizes(&sizes, self->model, index, bits, minimum != 0, &error) != GV_OK) return gv_raise(&error);
    const npy_intp shape[1] = {(npy_intp)(sizes.slices * sizes.bytes)};
    (void)PyOS_snprintf(text, sizeof text, "%.100s.blocks", PyUnicode_AsUTF8(name));
    PyArrayObject *array = gv_want_array(data, text, NPY_UINT8, 1, shape);
    if (array == NULL) return NULL;
    if (gv_model_bind_blocks(self->model, index, PyArray_DATA(array), bits, minimum != 0, &error) != GV_OK) {
        return gv_raise(&error);
    }
    if (PyDict_SetItem(self->bound, name, args) < 0) return NULL;
    Py_RETURN_NONE;
}

/* capture(name, array | None) -> rows copied since the call before */
static PyObject *model_capture(gv_model_object *self, PyObject *args) {
    PyObject *name, *value, *key;
    gv_error error = {0};
    float *rows = NULL;
    int64_t most = 0;
    if (!PyArg_ParseTuple(args, "UO:capture", &name, &value)) return NULL;
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    int64_t count = gv_model_captured(self->model, index);
    if (value != Py_None) {
        gv_quantised_sizes sizes;
        if (gv_model_quantised_sizes(&sizes, self->model, index, 8, &error) != GV_OK) return gv_raise(&error);
        const npy_intp shape[2] = {-1, (npy_intp)sizes.smooth};
        PyArrayObject *array = gv_want_array(value, "capture", NPY_FLOAT32, 2, shape);
        if (array == NULL) return NULL;
        rows = PyArray_DATA(array);
        most = PyArray_DIM(array, 0);
    }
    if (gv_model_capture(self->model, index, rows, most, &error) != GV_OK) return gv_raise(&error);
    if ((key = PyUnicode_FromFormat("%U (capture)", name)) == NULL) return NULL;
    int failed = PyDict_SetItem(self->bound, key, value);
    Py_DECREF(key);
    return failed < 0 ? NULL : PyLong_FromLongLong((long long)count);
}

/* What bind_quantised or bind_blocks was given, without the name; None when the parameter is float32. */
static PyObject *model_quantised(gv_model_object *self, PyObject *name) {
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    gv_parameter_info info;
    gv_model_parameter(&info, self->model, index);
    if (!info.quantised) Py_RETURN_NONE;
    PyObject *bound = PyDict_GetItemWithError(self->bound, name);
    if (bound == NULL) return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    return PyTuple_GetSlice(bound, 1, PyTuple_GET_SIZE(bound));
}

static PyObject *model_make_trainable(gv_model_object *self, PyObject *unused) {
    (void)unused;
    gv_error error = {0};
    gv_status status;
    Py_BEGIN_ALLOW_THREADS status = gv_model_make_trainable(self->model, &error);
    Py_END_ALLOW_THREADS if (status != GV_OK) return gv_raise(&error);
    PyDict_Clear(self->bound);
    Py_RETURN_NONE;
}

static PyObject *parameter_view(gv_model_object *self, const gv_parameter_info *info, const float *data) {
    const npy_intp shape[2] = {(npy_intp)info->shape[0], (npy_intp)info->shape[1]};
    return gv_array_view((PyObject *)self, info->dimensions, shape, data, true);
}

static PyObject *model_parameter(gv_model_object *self, PyObject *name) {
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    gv_parameter_info info;
    gv_model_parameter(&info, self->model, index);
    if (gv_model_is_trainable(self->model)) return parameter_view(self, &info, info.data);
    if (info.quantised) {
        npy_intp shape[2] = {(npy_intp)info.shape[0], (npy_intp)info.shape[1]};
        PyObject *values = PyArray_SimpleNew(info.dimensions, shape, NPY_FLOAT32);
        if (values == NULL) return NULL;
        Py_BEGIN_ALLOW_THREADS gv_model_values(PyArray_DATA((PyArrayObject *)values), self->model, index);
        Py_END_ALLOW_THREADS PyArray_CLEARFLAGS((PyArrayObject *)values, NPY_ARRAY_WRITEABLE);
        return values;
    }
    PyObject *bound = PyDict_GetItemWithError(self->bound, name);
    if (bound != NULL) return Py_NewRef(bound);
    if (!PyErr_Occurred()) PyErr_Format(PyExc_RuntimeError, "%s has no value: bind it or make the model trainable", info.name);
    return NULL;
}

static PyObject *model_gradient(gv_model_object *self, PyObject *name) {
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    gv_parameter_info info;
    gv_model_parameter(&info, self->model, index);
    const float *grad = gv_model_gradient(self->model, index);
    if (grad == NULL) Py_RETURN_NONE;
    return parameter_view(self, &info, grad);
}

static PyObject *model_set_requires_grad(gv_model_object *self, PyObject *args) {
    PyObject *name;
    int value;
    if (!PyArg_ParseTuple(args, "Up:set_requires_grad", &name, &value)) return NULL;
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    gv_model_set_requires_grad(self->model, index, value != 0);
    Py_RETURN_NONE;
}

static PyObject *model_requires_grad(gv_model_object *self, PyObject *name) {
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    gv_parameter_info info;
    gv_model_parameter(&info, self->model, index);
    return PyBool_FromLong(info.requires_grad);
}

static PyObject *model_offset(gv_model_object *self, PyObject *name) {
    int64_t index = gv_parameter_index(self, name);
    if (index < 0) return NULL;
    gv_parameter_info info;
    gv_model_parameter(&info, self->model, index);
    return PyLong_FromLongLong((long long)info.offset);
}

static PyObject *model_zero_grad(gv_model_object *self, PyObject *unused) {
    (void)unused;
    Py_BEGIN_ALLOW_THREADS gv_model_zero_grad(self->model);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

static PyObject *flat_view(gv_model_object *self, float *data, int64_t size) {
    const npy_intp shape[1] = {(npy_intp)size};
    if (data == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the model is not trainable yet: call make_trainable() first");
        return NULL;
    }
    return gv_array_view((PyObject *)self, 1, shape, data, true);
}

static PyObject *model_flat_parameters(gv_model_object *self, PyObject *unused) {
    (void)unused;
    int64_t size;
    float *data = gv_model_flat(self->model, &size);
    return flat_view(self, data, size);
}

static PyObject *model_flat_gradient(gv_model_object *self, PyObject *unused) {
    (void)unused;
    int64_t size;
    float *data = gv_model_flat_gradient(self->model, &size);
    return flat_view(self, data, size);
}

static PyObject *model_grad_norm(gv_model_object *self, PyObject *args) {
    PyObject *names = Py_None;
    gv_error error = {0};
    gv_status status;
    int64_t count;
    double norm = 0;
    if (!PyArg_ParseTuple(args, "|O:grad_norm", &names)) return NULL;
    int64_t *indices = gv_parameter_indices(self, names, &count);
    if (indices == NULL) return NULL;
    GV_WITHOUT_GIL(status, gv_model_grad_norm(&norm, self->model, indices, count, &error));
    PyMem_Free(indices);
    if (status != GV_OK) return gv_raise(&error);
    return PyFloat_FromDouble(norm);
}

static PyObject *model_scale_grad(gv_model_object *self, PyObject *args) {
    PyObject *names = Py_None;
    gv_error error = {0};
    gv_status status;
    int64_t count;
    double factor;
    if (!PyArg_ParseTuple(args, "d|O:scale_grad", &factor, &names)) return NULL;
    int64_t *indices = gv_parameter_indices(self, names, &count);
    if (indices == NULL) return NULL;
    GV_WITHOUT_GIL(status, gv_model_scale_grad(self->model, (float)factor, indices, count, &error));
    PyMem_Free(indices);
    if (status != GV_OK) return gv_raise(&error);
    Py_RETURN_NONE;
}

static PyObject *model_first_nonfinite(gv_model_object *self, PyObject *unused) {
    (void)unused;
    char name[160];
    Py_BEGIN_ALLOW_THREADS gv_model_first_nonfinite(name, sizeof name, self->model);
    Py_END_ALLOW_THREADS if (name[0] == '\0') Py_RETURN_NONE;
    return PyUnicode_FromString(name);
}

/* ---- forward ------------------------------------------------------------------------------------------------------ */

/* One optional one-dimensional argument. 0 fine, -1 exception set. */
static int read_vector(const void **out, PyObject *value, const char *name, int type, int64_t size) {
    const npy_intp shape[1] = {(npy_intp)size};
    *out = NULL;
    if (value == NULL || value == Py_None) return 0;
    PyArrayObject *array = gv_want_array(value, name, type, 1, shape);
    if (array == NULL) return -1;
    *out = PyArray_DATA(array);
    return 0;
}

static int read_labels(gv_forward_args *args, gv_model_object *self, PyObject *labels, const char *loss) {
    args->loss = GV_LOSS_SINGLE_LABEL;
    if (strcmp(loss, "multi_label") == 0) {
        args->loss = GV_LOSS_MULTI_LABEL;
    } else if (strcmp(loss, "regression") == 0) {
        args->loss = GV_LOSS_REGRESSION;
    } else if (strcmp(loss, "single_label") != 0) {
        PyErr_Format(PyExc_ValueError, "loss must be \"single_label\", \"multi_label\" or \"regression\", got \"%.60s\"", loss);
        return -1;
    }
    if (labels == Py_None) return 0;
    PyObject *head = PyDict_GetItemString(self->config, "head"), *width = PyDict_GetItemString(self->config, "num_labels");
    bool sequence = head != NULL && PyUnicode_Check(head) && PyUnicode_CompareWithASCIIString(head, "sequence") == 0;
    if (args->loss != GV_LOSS_SINGLE_LABEL) {
        const npy_intp shape[2] = {(npy_intp)args->sequences, width != NULL ? (npy_intp)PyLong_AsLong(width) : 0};
        PyArrayObject *array = gv_want_array(labels, "labels", NPY_FLOAT32, 2, shape);
        if (array == NULL) return -1;
        args->label_values = PyArray_DATA(array);
        return 0;
    }
    int64_t count = sequence ? args->sequences : args->rows != NULL ? args->row_count : args->tokens;
    return read_vector((const void **)&args->labels, labels, "labels", NPY_INT64, count);
}

static PyObject *model_forward(gv_model_object *self, PyObject *positional, PyObject *kwargs) {
    static char *names[] = {"input_ids", "row_splits", "position_ids",  "token_type_ids", "key_counts",
                            "rows",      "memory",     "memory_splits", "hidden_states",  "attentions",
                            "labels",    "loss",       "class_weights", "logits",         "training",
                            "save",      "seed",       "step",          "samples",        "cache",
                            "sequences", "checkpoint", "adapters",      "adapter_of",     NULL};
    PyObject *ids, *splits, *positions = Py_None, *types = Py_None, *key_counts = Py_None, *rows = Py_None, *memory = Py_None;
    PyObject *memory_splits = Py_None, *labels = Py_None, *class_weights = Py_None, *samples = Py_None, *cache = Py_None,
             *sequences = Py_None, *adapters = Py_None, *adapter_of = Py_None;
    int hidden_states = 0, attentions = 0, logits = 1, training = 0, save = 1, checkpoint = 0;
    unsigned long seed = 0, step = 0;
    const char *loss = "single_label";
    const npy_intp any[2] = {-1, -1};
    gv_forward_args args = {0};
    gv_adapters_read read;
    gv_error error = {0};
    gv_status status;
    gv_pass *pass = NULL;
    if (!PyArg_ParseTupleAndKeywords(positional, kwargs, "OO|OO$OOOOppOsOpppkkOOOpOO:forward", names, &ids, &splits, &positions,
                                     &types, &key_counts, &rows, &memory, &memory_splits, &hidden_states, &attentions, &labels,
                                     &loss, &class_weights, &logits, &training, &save, &seed, &step, &samples, &cache,
                                     &sequences, &checkpoint, &adapters, &adapter_of)) {
        return NULL;
    }
    PyArrayObject *array = gv_want_array(ids, "input_ids", NPY_INT32, 1, any);
    if (array == NULL) return NULL;
    args.tokens = PyArray_DIM(array, 0);
    args.input_ids = PyArray_DATA(array);
    if ((array = gv_want_array(splits, "row_splits", NPY_INT64, 1, any)) == NULL) return NULL;
    if (PyArray_DIM(array, 0) < 1) return PyErr_Format(PyExc_ValueError, "row_splits must have at least one entry, 0");
    args.sequences = PyArray_DIM(array, 0) - 1;
    args.row_splits = PyArray_DATA(array);
    if (args.tokens > INT32_MAX)
        return PyErr_Format(PyExc_ValueError, "input_ids has more than 2^31 - 1 tokens: split the batch");
    if (rows != Py_None) {
        if ((array = gv_want_array(rows, "rows", NPY_INT32, 1, any)) == NULL) return NULL;
        args.row_count = PyArray_DIM(array, 0);
        args.rows = PyArray_DATA(array);
    }
    if (read_vector((const void **)&args.position_ids, positions, "position_ids", NPY_INT32, args.tokens) < 0) return NULL;
    if (read_vector((const void **)&args.token_type_ids, types, "token_type_ids", NPY_INT32, args.tokens) < 0) return NULL;
    if (read_vector((const void **)&args.key_counts, key_counts, "key_counts", NPY_INT64, args.sequences) < 0) return NULL;
    if (read_vector((const void **)&args.samples, samples, "samples", NPY_UINT32, args.sequences) < 0) return NULL;
    gv_module_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (cache != Py_None) {
        if (!PyObject_TypeCheck(cache, state->cache_type))
            return PyErr_Format(PyExc_TypeError, "cache must be a Cache, got %.80s", Py_TYPE(cache)->tp_name);
        if (sequences == Py_None) return PyErr_Format(PyExc_ValueError, "cache needs sequences");
        if (read_vector((const void **)&args.cache_sequences, sequences, "sequences", NPY_INT64, args.sequences) < 0)
            return NULL;
        args.cache = ((gv_cache_object *)cache)->cache;
    }
    if (read_vector((const void **)&args.memory_splits, memory_splits, "memory_splits", NPY_INT64, args.sequences + 1) < 0)
        return NULL;
    PyObject *width = PyDict_GetItemString(self->config, "num_labels");
    int64_t label_count = width != NULL ? PyLong_AsLong(width) : -1;
    if (read_vector((const void **)&args.class_weights, class_weights, "class_weights", NPY_FLOAT32, label_count) < 0)
        return NULL;
    if (memory != Py_None) {
        PyObject *hidden = PyDict_GetItemString(self->config, "hidden_size");
        if (args.memory_splits == NULL) return PyErr_Format(PyExc_ValueError, "memory needs memory_splits");
        const npy_intp shape[2] = {(npy_intp)args.memory_splits[args.sequences],
                                   hidden != NULL ? (npy_intp)PyLong_AsLong(hidden) : -1};
        if ((array = gv_want_array(memory, "memory", NPY_FLOAT32, 2, shape)) == NULL) return NULL;
        args.memory = PyArray_DATA(array);
    }
    if (read_labels(&args, self, labels, loss) < 0) return NULL;
    if (PyErr_Occurred()) return NULL;
    args.hidden_states = hidden_states != 0;
    args.attentions = attentions != 0;
    args.logits = logits != 0;
    args.training = training != 0;
    args.save = save != 0;
    args.checkpoint = checkpoint != 0;
    args.seed = (uint32_t)seed;
    args.step = (uint32_t)step;
    if (gv_read_adapters(&read, Py_TYPE(self), adapters, adapter_of, args.sequences) < 0) return NULL;
    args.adapters = read.choice;
    GV_WITHOUT_GIL(status, gv_model_forward(&pass, self->model, &args, &error));
    PyObject *made = status != GV_OK ? gv_raise(&error) : gv_pass_object_new(state->pass_type, self, read.held, pass);
    gv_adapters_clear(&read);
    return made;
}

static PyMethodDef model_methods[] = {
    {"names", (PyCFunction)model_names, METH_NOARGS, "Parameter names in flat order."},
    {"shape", (PyCFunction)model_shape, METH_O, "Shape of a parameter."},
    {"bind", (PyCFunction)model_bind, METH_VARARGS, "Uses an array (kept alive, not copied) as a parameter."},
    {"quantised_sizes", (PyCFunction)model_quantised_sizes, METH_VARARGS,
     "(slices, panels, sums, scales, smooth): elements that bind_quantised wants for a group."},
    {"bind_quantised", (PyCFunction)model_bind_quantised, METH_VARARGS, "Uses packed 8-bit arrays (kept alive, not copied)."},
    {"capture", (PyCFunction)model_capture, METH_VARARGS,
     "Copies a layer's inputs into an array in every forward; None ends it."},
    {"blocks_sizes", (PyCFunction)model_blocks_sizes, METH_VARARGS,
     "(slices, bytes, outputs, inputs): what bind_blocks wants, of one slice."},
    {"bind_blocks", (PyCFunction)model_bind_blocks, METH_VARARGS, "Uses packed blocks of 32 (kept alive, not copied)."},
    {"quantised", (PyCFunction)model_quantised, METH_O, "What bind_quantised or bind_blocks was given, or None."},
    {"make_trainable", (PyCFunction)model_make_trainable, METH_NOARGS,
     "Moves the weights into one flat buffer with gradients."},
    {"parameter", (PyCFunction)model_parameter, METH_O, "A parameter's values, as a view."},
    {"gradient", (PyCFunction)model_gradient, METH_O, "A parameter's gradient as a view, or None."},
    {"set_requires_grad", (PyCFunction)model_set_requires_grad, METH_VARARGS, "Freezes or unfreezes a parameter."},
    {"requires_grad", (PyCFunction)model_requires_grad, METH_O, "Whether a parameter gets a gradient."},
    {"offset", (PyCFunction)model_offset, METH_O, "A parameter's place in the flat buffers, in floats."},
    {"adapter", (PyCFunction)gv_model_adapter, METH_VARARGS, "A low-rank adapter beside some of the model's matrices."},
    {"zero_grad", (PyCFunction)model_zero_grad, METH_NOARGS, "Forgets all gradients."},
    {"flat_parameters", (PyCFunction)model_flat_parameters, METH_NOARGS, "All weights, one view."},
    {"flat_gradient", (PyCFunction)model_flat_gradient, METH_NOARGS, "All gradients, one dense view."},
    {"grad_norm", (PyCFunction)model_grad_norm, METH_VARARGS, "2-norm over gradients."},
    {"scale_grad", (PyCFunction)model_scale_grad, METH_VARARGS, "Multiplies gradients by a factor."},
    {"first_nonfinite", (PyCFunction)model_first_nonfinite, METH_NOARGS, "First parameter or gradient with a NaN or infinity."},
    {"forward", (PyCFunction)(void (*)(void))model_forward, METH_VARARGS | METH_KEYWORDS,
     "One forward over a packed batch -> Pass."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef model_getset[] = {
    {"config", (getter)model_config, NULL, "The configuration it was made with.", NULL},
    {"trainable", (getter)model_trainable, NULL, "Whether make_trainable has run.", NULL},
    {"version", (getter)model_version, NULL, "Grows whenever bind or an optimiser changes the weights.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot model_slots[] = {
    {Py_tp_new, model_new},
    {Py_tp_dealloc, model_dealloc},
    {Py_tp_traverse, model_traverse},
    {Py_tp_clear, model_clear},
    {Py_tp_methods, model_methods},
    {Py_tp_getset, model_getset},
    {Py_tp_doc, "One stack of transformer blocks with its embeddings and at most one head."},
    {0, NULL},
};

static PyType_Spec model_spec = {
    .name = "govlm._core.Model",
    .basicsize = sizeof(gv_model_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = model_slots,
};

int gv_add_model(PyObject *module, gv_module_state *state) {
    if (PyArray_ImportNumPyAPI() < 0) return -1;
    state->model_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &model_spec, NULL);
    return state->model_type == NULL ? -1 : PyModule_AddType(module, state->model_type);
}
