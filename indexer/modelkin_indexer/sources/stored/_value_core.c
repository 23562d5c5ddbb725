/* Stored numbers decoded, and sums of their words over rows and columns, in one pass: what values.py and word_sums.py do in numpy. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <string.h>

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

/* Sign-extended, shifted and masked bits of narrow floats are singles that are too small by a power of two. Returns the largest `special`. */
#define WIDEN(NAME, TYPE)                                                                                                               \
    FOR_EACH_PROCESSOR                                                                                                                  \
    static int NAME(const TYPE *restrict narrow, float *restrict singles, Py_ssize_t n, TYPE special, int shift, uint32_t keep,          \
                    float scale, float factor) {                                                                                        \
        TYPE largest = 0;                                                                                                               \
        for (Py_ssize_t i = 0; i < n; i++) {                                                                                            \
            TYPE marked = narrow[i] & special;                                                                                          \
            uint32_t bits = (uint32_t)(int32_t)narrow[i] << shift & keep;                                                               \
            float single;                                                                                                               \
            memcpy(&single, &bits, sizeof single);                                                                                      \
            singles[i] = single * scale * factor;                                                                                       \
            largest = marked > largest ? marked : largest;                                                                              \
        }                                                                                                                               \
        return largest;                                                                                                                 \
    }
WIDEN(widen_bytes, int8_t)
WIDEN(widen_halves, int16_t)

/* widen(narrow, singles, special, shift, keep, scale, factors or None): whether all numbers are finite; nothing useful is in `singles`
   where not. Numbers fall into as many groups of one length as there are factors, which they are multiplied by. */
static PyObject *widen(PyObject *self, PyObject *args) {
    Py_buffer narrow, singles, factors;
    const float one = 1;
    int special, shift, largest = 0;
    unsigned int keep;
    float scale;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*w*iiIfz*", &narrow, &singles, &special, &shift, &keep, &scale, &factors)) return NULL;
    Py_ssize_t n = singles.len / 4;
    Py_ssize_t groups = factors.buf != NULL ? factors.len / 4 : 1, size = groups > 0 ? n / groups : 0;
    const float *factor = factors.buf != NULL ? factors.buf : &one;
    int width = special > 127 ? 2 : 1, fits = singles.len == n * 4 && narrow.len == n * width && shift >= 0 && shift < 32;
    fits = fits && groups * size == n && (factors.buf == NULL || factors.len == groups * 4);
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t group = 0, at = 0; group < groups; group++, at += size) {
            float *to = (float *)singles.buf + at;
            int found = width == 1 ? widen_bytes((int8_t *)narrow.buf + at, to, size, (int8_t)special, shift, keep, scale, factor[group])
                                   : widen_halves((int16_t *)narrow.buf + at, to, size, (int16_t)special, shift, keep, scale, factor[group]);
            largest = found > largest ? found : largest;
        }
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&narrow);
    PyBuffer_Release(&singles);
    PyBuffer_Release(&factors);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "buffers do not have the sizes that one number each asks for");
        return NULL;
    }
    return PyBool_FromLong(largest != special);
}

static PyMethodDef methods[] = {{"add", add, METH_VARARGS, "Sums of words over rows and columns: see word_sums.py."},
                                {"widen", widen, METH_VARARGS, "Narrow floats as singles: see values.py."},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_value_core", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__value_core(void) { return PyModule_Create(&module); }
