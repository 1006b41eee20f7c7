#include "python/bindings.h"
int gv_add_tokenizer(PyObject *module, gv_module_state *state) { (void)module; (void)state; return 0; }
