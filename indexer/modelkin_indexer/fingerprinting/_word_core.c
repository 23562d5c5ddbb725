/* Sums of words over rows and columns in one pass, and BF16 decoded in the same: what word_sums.py does in numpy. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

FOR_EACH_PROCESSOR
static void add_halves(const uint16_t *restrict words, uint32_t *restrict singles, uint16_t *restrict by_row, uint16_t *restrict by_column,
                       Py_ssize_t rows, Py_ssize_t columns) {
    for (Py_ssize_t row = 0; row < rows; row++, words += columns, singles += columns) {
        uint16_t sum = 0;
        for (Py_ssize_t i = 0; i < columns; i++) {
            uint16_t word = words[i];
            singles[i] = (uint32_t)word << 16;
            by_column[i] = (uint16_t)(by_column[i] + word);
            sum = (uint16_t)(sum + word);
        }
        by_row[row] = sum;
    }
}

FOR_EACH_PROCESSOR
static void add_wholes(const uint32_t *restrict words, uint32_t *restrict by_row, uint32_t *restrict by_column, Py_ssize_t rows,
                       Py_ssize_t columns) {
    for (Py_ssize_t row = 0; row < rows; row++, words += columns) {
        uint32_t sum = 0;
        for (Py_ssize_t i = 0; i < columns; i++) {
            by_column[i] += words[i];
            sum += words[i];
        }
        by_row[row] = sum;
    }
}

/* add(words, singles or None, by_row, by_column): by_row is written, by_column added to; BF16 words become the bits of `singles`. */
static PyObject *add(PyObject *self, PyObject *args) {
    Py_buffer words, singles, by_row, by_column;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*z*w*w*", &words, &singles, &by_row, &by_column)) return NULL;
    int halves = singles.buf != NULL;
    Py_ssize_t width = halves ? 2 : 4, rows = by_row.len / width, columns = by_column.len / width;
    int fits = by_row.len == rows * width && by_column.len == columns * width && words.len == rows * columns * width &&
               (!halves || (!singles.readonly && singles.len == 2 * words.len));
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        if (halves)
            add_halves(words.buf, singles.buf, by_row.buf, by_column.buf, rows, columns);
        else
            add_wholes(words.buf, by_row.buf, by_column.buf, rows, columns);
        Py_END_ALLOW_THREADS
    }
    Py_buffer *all[] = {&words, &singles, &by_row, &by_column};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) PyBuffer_Release(all[i]);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "buffers do not have the sizes that rows and columns ask for");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"add", add, METH_VARARGS, "Sums of words over rows and columns: see word_sums.py."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_word_core", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__word_core(void) { return PyModule_Create(&module); }
