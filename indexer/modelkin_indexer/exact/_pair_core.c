/* What part_sums.py adds up in numpy, in one pass over a part of two matrices. The interface is documented in compiled.py. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define LANES 8 /* accumulators of each sum; RUN / LANES numbers are added in the precision of products, then in float64 */
#define RUN 1024
#define SUMS 8 /* a, b, aa, bb, ab (centred), dd, |d|, units squared */

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

typedef struct {
    const float *a, *b;
    const void *centre_a, *centre_b; /* of each column, in the precision of products, or NULL where rows are centred */
    Py_ssize_t rows, columns;
    double *channels, *sums;
    uint32_t *counts_a, *counts_b, *counts_d; /* NULL where nothing is counted */
    float smallest_a, step_a, smallest_b, step_b; /* of the stored types, see units.Unit */
    double least;                             /* the unit of zero */
    int64_t equal, within;
} Part;

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef double Doubles __attribute__((vector_size(8 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef int64_t Longs __attribute__((vector_size(8 * LANES)));

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static void count(uint32_t *counts, const float *x, int n) {
    for (int i = 0; i < n; i++) counts[bits_of(x[i]) >> 16]++;
}

/* Numbers that are not negative are in the order of their bits. */
#define LARGER(x, y) ((Floats)(((Ints)(x) & ((Ints)(x) > (Ints)(y))) | ((Ints)(y) & ~((Ints)(x) > (Ints)(y)))))
#define SIZE(x) ((Floats)((Ints)(x) & 0x7FFFFFFF))

static const void *filled_up(void *copy, const void *from, int n, int filled, size_t size) {
    memmove(copy, from, (size_t)n * size);
    memset((char *)copy + (size_t)n * size, 0, (size_t)(filled - n) * size);
    return copy;
}

/* Products and their sums over runs in float32 ... */
#define NAMED(x) x##_single
#define NUMBER float
#define MANY Floats
#define WHOLES Ints
#define WIDENED(x) (x)
#define ABSOLUTE(x) SIZE(x)
#include "_pair_sums.h"

/* ... and all in float64, for tensors that are short or lie far from 0. */
#define NAMED(x) x##_double
#define NUMBER double
#define MANY Doubles
#define WHOLES Longs
#define WIDENED(x) __builtin_convertvector(x, Doubles)
#define ABSOLUTE(x) ((Doubles)((Longs)(x) & 0x7FFFFFFFFFFFFFFF))
#include "_pair_sums.h"

/* add(a, b, centre_a, centre_b, rows, columns, channels, sums, counts_a, counts_b, counts_d, wide, smallest_a, step_a, smallest_b, step_b) */
static PyObject *add(PyObject *self, PyObject *args) {
    Py_buffer a, b, centre_a, centre_b, channels, sums, counts_a, counts_b, counts_d;
    Part part = {0};
    int wide;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*z*z*nnw*w*z*z*z*pffff", &a, &b, &centre_a, &centre_b, &part.rows, &part.columns, &channels, &sums,
                          &counts_a, &counts_b, &counts_d, &wide, &part.smallest_a, &part.step_a, &part.smallest_b, &part.step_b))
        return NULL;
    Py_buffer *all[] = {&a, &b, &centre_a, &centre_b, &channels, &sums, &counts_a, &counts_b, &counts_d}, **counts = all + 6;
    Py_ssize_t numbers = part.rows * part.columns, bins = 65536 * (Py_ssize_t)sizeof(uint32_t), width = wide ? 8 : 4;
    int centred = centre_a.buf != NULL && centre_b.buf != NULL, counted = counts_a.buf != NULL;
    Py_ssize_t wanted = centred ? part.rows : part.columns;
    int fits = part.rows > 0 && part.columns > 0 && a.len == numbers * 4 && b.len == numbers * 4 && channels.len == wanted * 8 &&
               sums.len == SUMS * 8 && (centre_a.buf != NULL) == (centre_b.buf != NULL) &&
               (!centred || (centre_a.len == part.columns * width && centre_b.len == part.columns * width));
    for (int k = 0; k < 3; k++)
        fits = fits && (counts[k]->buf != NULL) == counted && (!counted || (counts[k]->len == bins && !counts[k]->readonly));
    if (fits) {
        float least_a = part.smallest_a * part.step_a, least_b = part.smallest_b * part.step_b;
        part.least = least_a > least_b ? least_a : least_b;
        part.a = a.buf, part.b = b.buf;
        part.centre_a = centre_a.buf, part.centre_b = centre_b.buf;
        part.channels = channels.buf, part.sums = sums.buf;
        part.counts_a = counts_a.buf, part.counts_b = counts_b.buf, part.counts_d = counts_d.buf;
        Py_BEGIN_ALLOW_THREADS
        if (wide)
            add_part_double(&part);
        else
            add_part_single(&part);
        Py_END_ALLOW_THREADS
    }
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) PyBuffer_Release(all[i]);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "buffers do not have the sizes that rows and columns ask for");
        return NULL;
    }
    return Py_BuildValue("LL", (long long)part.equal, (long long)part.within);
}

static PyMethodDef methods[] = {{"add", add, METH_VARARGS, "Sums over a part of two matrices: see compiled.py."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_pair_core", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__pair_core(void) { return PyModule_Create(&module); }
