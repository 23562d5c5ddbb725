/* What part_sums.py adds up in numpy, in one pass over a part of two matrices. The interface is documented in compiled.py. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define LANES 8 /* accumulators of each sum; RUN / LANES numbers are added in float32, then in float64 */
#define RUN 1024
#define SUMS 8 /* a, b, aa, bb, ab (centred), dd, |d|, units squared */

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

typedef struct {
    const float *a, *b, *centre_a, *centre_b; /* centres: of each column, or NULL where rows are centred */
    Py_ssize_t rows, columns;
    double *channels, *sums;
    uint32_t *counts_a, *counts_b, *counts_d;
    float smallest_a, step_a, smallest_b, step_b; /* of the stored types, see units.Unit */
    double least;                             /* the unit of zero */
    int64_t equal, within;
} Part;

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Numbers that are not negative are in the order of their bits. */
#define LARGER(x, y) ((Floats)(((Ints)(x) & ((Ints)(x) > (Ints)(y))) | ((Ints)(y) & ~((Ints)(x) > (Ints)(y)))))
#define SIZE(x) ((Floats)((Ints)(x) & 0x7FFFFFFF))

static inline double total(const Floats *lanes) {
    double sum = 0;
    for (int k = 0; k < LANES; k++) sum += (*lanes)[k];
    return sum;
}

/* Numbers are taken LANES at a time; what is left of a row is filled up with zeros on both sides, which change no sum. */
FOR_EACH_PROCESSOR
static double mean_of(const float *x, Py_ssize_t n) {
    double sum = 0;
    for (Py_ssize_t start = 0; start < n; start += RUN) {
        Py_ssize_t stop = start + RUN < n ? start + RUN : n, i = start;
        Floats lanes = {0}, next;
        for (; i + LANES <= stop; i += LANES) {
            memcpy(&next, x + i, sizeof next);
            lanes += next;
        }
        for (; i < stop; i++) sum += x[i];
        sum += total(&lanes);
    }
    return sum / (double)n;
}

/* One run of a row whose centres are given; `products` are centred ones, for the sums by channel. */
FOR_EACH_PROCESSOR
static void add_run(Part *part, const float *a, const float *b, const float *centre_a, const float *centre_b, float *products,
                    float *distances, int n) {
    Floats sum_a = {0}, sum_b = {0}, sum_aa = {0}, sum_bb = {0}, sum_ab = {0}, sum_dd = {0}, sum_d = {0}, sum_uu = {0};
    Ints equal = {0}, within = {0};
    for (int i = 0; i < n; i += LANES) {
        Floats x, y, first, second;
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        memcpy(&first, centre_a + i, sizeof first);
        memcpy(&second, centre_b + i, sizeof second);
        Floats d = SIZE(y - x), product = (x - first) * (y - second);
        Floats larger = LARGER(SIZE(x), SIZE(y)), power = (Floats)((Ints)larger & 0x7F800000);
        Floats least_a = power * 0 + part->smallest_a, least_b = power * 0 + part->smallest_b;
        Floats unit_a = LARGER(power, least_a) * part->step_a, unit_b = LARGER(power, least_b) * part->step_b;
        Floats unit = LARGER(unit_a, unit_b);
        memcpy(products + i, &product, sizeof product);
        memcpy(distances + i, &d, sizeof d);
        sum_a += x;
        sum_b += y;
        sum_aa += x * x;
        sum_bb += y * y;
        sum_ab += product;
        sum_dd += d * d;
        sum_d += d;
        sum_uu += unit * unit;
        equal -= d == 0;
        within -= d <= unit * 0.5f;
    }
    Floats sums[SUMS] = {sum_a, sum_b, sum_aa, sum_bb, sum_ab, sum_dd, sum_d, sum_uu};
    for (int s = 0; s < SUMS; s++) part->sums[s] += total(&sums[s]);
    for (int k = 0; k < LANES; k++) {
        part->equal += equal[k];
        part->within += within[k];
    }
}

static void count(uint32_t *counts, const float *x, int n) {
    for (int i = 0; i < n; i++) counts[bits_of(x[i]) >> 16]++;
}

static const float *filled_up(float *copy, const float *from, int n, int filled) {
    memmove(copy, from, (size_t)n * sizeof *copy);
    for (int i = n; i < filled; i++) copy[i] = 0;
    return copy;
}

static void add_part(Part *part) {
    float copy_a[RUN], copy_b[RUN], centre_a[RUN], centre_b[RUN], products[RUN], distances[RUN];
    int by_column = part->centre_a == NULL;
    for (Py_ssize_t row = 0; row < part->rows; row++) {
        const float *a = part->a + row * part->columns, *b = part->b + row * part->columns;
        float mean_a = by_column ? (float)mean_of(a, part->columns) : 0, mean_b = by_column ? (float)mean_of(b, part->columns) : 0;
        if (by_column)
            for (int i = 0; i < RUN; i++) centre_a[i] = mean_a, centre_b[i] = mean_b;
        double before = part->sums[4];
        for (Py_ssize_t start = 0; start < part->columns; start += RUN) {
            int n = (int)(part->columns - start < RUN ? part->columns - start : RUN), filled = (n + LANES - 1) / LANES * LANES;
            const float *run_a = a + start, *run_b = b + start;
            const float *run_centre_a = by_column ? centre_a : part->centre_a + start, *run_centre_b = by_column ? centre_b : part->centre_b + start;
            if (filled > n) { /* numbers that are not there stand on their centres, and add nothing to the products */
                run_a = filled_up(copy_a, run_a, n, filled), run_b = filled_up(copy_b, run_b, n, filled);
                run_centre_a = filled_up(centre_a, run_centre_a, n, filled), run_centre_b = filled_up(centre_b, run_centre_b, n, filled);
                part->equal -= filled - n, part->within -= filled - n;
                part->sums[SUMS - 1] -= (filled - n) * part->least * part->least;
            }
            add_run(part, run_a, run_b, run_centre_a, run_centre_b, products, distances, filled);
            if (by_column)
                for (int i = 0; i < n; i++) part->channels[start + i] += products[i];
            count(part->counts_a, run_a, n);
            count(part->counts_b, run_b, n);
            count(part->counts_d, distances, n);
        }
        if (by_column)
            part->sums[4] += (double)part->columns * mean_a * mean_b;
        else
            part->channels[row] += part->sums[4] - before;
    }
}

/* add(a, b, centre_a, centre_b, rows, columns, channels, sums, counts_a, counts_b, counts_d, smallest_a, step_a, smallest_b, step_b) */
static PyObject *add(PyObject *self, PyObject *args) {
    Py_buffer a, b, centre_a, centre_b, channels, sums, counts_a, counts_b, counts_d;
    Part part = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*z*z*nnw*w*w*w*w*ffff", &a, &b, &centre_a, &centre_b, &part.rows, &part.columns, &channels, &sums,
                          &counts_a, &counts_b, &counts_d, &part.smallest_a, &part.step_a, &part.smallest_b, &part.step_b))
        return NULL;
    Py_ssize_t numbers = part.rows * part.columns, bins = 65536 * (Py_ssize_t)sizeof(uint32_t);
    int centred = centre_a.buf != NULL && centre_b.buf != NULL;
    Py_ssize_t wanted = centred ? part.rows : part.columns;
    int fits = part.rows > 0 && part.columns > 0 && a.len == numbers * 4 && b.len == numbers * 4 && channels.len == wanted * 8 &&
               sums.len == SUMS * 8 && counts_a.len == bins && counts_b.len == bins && counts_d.len == bins &&
               (centre_a.buf != NULL) == (centre_b.buf != NULL) &&
               (!centred || (centre_a.len == part.columns * 4 && centre_b.len == part.columns * 4));
    if (fits) {
        float least_a = part.smallest_a * part.step_a, least_b = part.smallest_b * part.step_b;
        part.least = least_a > least_b ? least_a : least_b;
        part.a = a.buf, part.b = b.buf;
        part.centre_a = centred ? centre_a.buf : NULL, part.centre_b = centred ? centre_b.buf : NULL;
        part.channels = channels.buf, part.sums = sums.buf;
        part.counts_a = counts_a.buf, part.counts_b = counts_b.buf, part.counts_d = counts_d.buf;
        Py_BEGIN_ALLOW_THREADS
        add_part(&part);
        Py_END_ALLOW_THREADS
    }
    Py_buffer *all[] = {&a, &b, &centre_a, &centre_b, &channels, &sums, &counts_a, &counts_b, &counts_d};
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
