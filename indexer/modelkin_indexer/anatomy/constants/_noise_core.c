/* Whether rows are surely no fixed table: what each formula that fixed_tables.looks_fixed tries needs at least, in one go; see noise.py.
   Nothing is decided here: where something is not proven, the formulas themselves are asked. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN (1 + 1e-9) /* sums in another order */
#define FIRST 256         /* numbers of which it is counted how many differ */
#define SLOTS 1024

/* As noise.LIMITS has them. */
typedef struct {
    double largest, same, silence, off, faint, jumps, waves, shortest, fewest_turning, columns, windows, tried, circles, round, smooth, foretold,
        curve, even, steps, neighbours, fewest_neighbours, alike, drawn_out, few_kernels, repeated, fewest_kernels, patterned, relative, absolute;
} Limits;

typedef struct {
    const float *x;
    const int64_t *numbers;
    Py_ssize_t n, m;
    double low, high, size, loudest; /* size: of the largest number; loudest: energy of a row */
    double *energy;
} Rows;

static int equal(double a, double b, const Limits *l) {
    double larger = fmax(fabs(a), fabs(b));
    return fabs(a - b) <= (l->same * larger + 2 * (l->relative * larger + l->absolute)) * MARGIN;
}

/* Extremes and energies. Returns whether all numbers can be used. */
static int looked_over(Rows *r, const Limits *l) {
    r->low = r->high = r->x[0];
    r->loudest = 0;
    for (Py_ssize_t i = 0; i < r->n; i++) {
        double sum = 0;
        for (Py_ssize_t j = 0; j < r->m; j++) {
            double v = r->x[i * r->m + j];
            if (!(fabs(v) <= l->largest)) return 0;
            if (v < r->low) r->low = v;
            if (v > r->high) r->high = v;
            sum += v * v;
        }
        r->energy[i] = sum;
        if (sum > r->loudest) r->loudest = sum;
    }
    r->size = fmax(fabs(r->low), fabs(r->high));
    return 1;
}

/* Neither constant, nor lines that are all the same, nor numbers of one size or of two values. */
static int many_values(const Rows *r, const Limits *l) {
    int rows_differ = r->n < 2, columns_differ = r->m < 2, sizes = 0, written = 0, third = 0;
    double first = 0, one = fabs(r->x[0]);
    for (Py_ssize_t i = 0; i < r->n; i++)
        for (Py_ssize_t j = 0; j < r->m; j++) {
            double v = r->x[i * r->m + j];
            rows_differ |= v != r->x[j];
            columns_differ |= v != r->x[i * r->m];
            sizes |= !equal(fabs(v), one, l);
            third |= v != r->low && v != r->high;
            if (v != 0) {
                if (first == 0) first = v;
                written |= !equal(v, first, l);
            }
            if (rows_differ && columns_differ && sizes && third && written) return 1;
        }
    return 0;
}

/* How many of the first numbers, `step` apart, differ; zeros count for nothing. */
static Py_ssize_t different(const float *x, Py_ssize_t count, Py_ssize_t step) {
    float kept[SLOTS];
    Py_ssize_t found = 0;
    memset(kept, 0, sizeof kept);
    for (Py_ssize_t i = 0; i < count; i++) {
        float v = x[i * step];
        uint32_t bits;
        if (v == 0) continue;
        memcpy(&bits, &v, sizeof bits);
        uint32_t at = bits * 2654435761u >> 22;
        while (kept[at] != 0 && kept[at] != v) at = (at + 1) % SLOTS;
        if (kept[at] == 0) {
            kept[at] = v;
            found++;
        }
    }
    return found;
}

/* Neither a few kernels over and over, nor few values in an order, nor one number nearly everywhere. */
static int no_repeats(const Rows *r, const Limits *l) {
    Py_ssize_t first = r->n < (Py_ssize_t)(4 * l->few_kernels) ? r->n : (Py_ssize_t)(4 * l->few_kernels);
    if (first > FIRST) return 0;
    Py_ssize_t rows = different(r->x, first, r->m);
    if (r->n >= l->fewest_kernels && rows <= l->few_kernels && !(rows == r->n && l->repeated > 1)) return 0;
    if (r->n * r->m >= FIRST && different(r->x, FIRST, 1) <= l->patterned) return 0;
    if (r->m < l->fewest_neighbours) return 0;
    Py_ssize_t same = 0;
    for (Py_ssize_t i = 0; i < r->n; i++)
        for (Py_ssize_t j = 1; j < r->m; j++) same += r->x[i * r->m + j] == r->x[i * r->m + j - 1];
    return same * MARGIN < l->neighbours * (double)(r->n * (r->m - 1));
}

/* What the recurrence of a wave leaves of a line at the least, and how large the line is. Numbers stand `step` apart. */
static void recurrence(const float *x, Py_ssize_t length, Py_ssize_t step, double jumps, double *left, double *size) {
    double own = 0, across = 0, both = 0, sum = 0, most = 0;
    for (Py_ssize_t t = 1; t + 1 < length; t++) {
        double here = x[t * step], beside = (double)x[(t - 1) * step] + x[(t + 1) * step];
        own += here * here;
        across += here * beside;
        both += beside * beside;
    }
    double cosine = own > 0 ? across / own : 0;
    for (Py_ssize_t t = 1; t + 1 < length; t++) {
        double off = (double)x[(t - 1) * step] + x[(t + 1) * step] - cosine * x[t * step];
        off *= off;
        sum += off;
        if (off > most) most = off;
    }
    *left = sum - floor(jumps * (double)(length - 2)) * most;
    *size = both + own;
}

/* Whether more than a few of these lines are surely no waves; the median of their sizes is at most twice their mean. */
static int no_waves(const double *left, const double *size, Py_ssize_t count, double fewest, const Limits *l) {
    double total = 0;
    Py_ssize_t off = 0;
    if (count < fewest) return 1;
    for (Py_ssize_t i = 0; i < count; i++) total += size[i];
    for (Py_ssize_t i = 0; i < count; i++) off += left[i] > l->off * (size[i] + l->faint * 2 * total / (double)count) * MARGIN;
    return (double)off > (1 - l->waves) * (double)count * MARGIN + 1e-9;
}

static int no_plain_waves(const Rows *r, const Limits *l, double *left, double *size) {
    Py_ssize_t live = 0;
    if (r->m < l->shortest) return 1;
    for (Py_ssize_t i = 0; i < r->n; i++)
        if (r->energy[i] > l->silence * r->loudest) {
            recurrence(r->x + i * r->m, r->m, 1, l->jumps, left + live, size + live);
            live++;
        }
    return no_waves(left, size, live, l->fewest_turning, l);
}

/* Columns that are waves from row to row, in windows of rows that follow each other. */
static int no_stepping_waves(const Rows *r, const Limits *l, double *left, double *size) {
    enum { WINDOW = 4 };
    Py_ssize_t windows = 0, tried = 0, none = 0, seen = 0;
    if (r->m < l->columns) return 1;
    for (Py_ssize_t at = 0; at + WINDOW <= r->n; at += WINDOW) windows += r->numbers[at + WINDOW - 1] - r->numbers[at] == WINDOW - 1;
    Py_ssize_t apart = windows / (Py_ssize_t)l->tried > 1 ? windows / (Py_ssize_t)l->tried : 1;
    for (Py_ssize_t at = 0; at + WINDOW <= r->n; at += WINDOW) {
        if (r->numbers[at + WINDOW - 1] - r->numbers[at] != WINDOW - 1 || seen++ % apart) continue;
        const float *x = r->x + at * r->m;
        double loudest = 0;
        Py_ssize_t live = 0;
        for (int take = 0; take < 2; take++)
            for (Py_ssize_t j = 0; j < r->m; j++) {
                double energy = 0;
                for (int row = 0; row < WINDOW; row++) energy += (double)x[row * r->m + j] * x[row * r->m + j];
                if (!take)
                    loudest = fmax(loudest, energy);
                else if (energy > l->silence * loudest) {
                    recurrence(x + j, WINDOW, r->m, l->jumps, left + live, size + live);
                    live++;
                }
            }
        tried++;
        none += no_waves(left, size, live, l->columns, l);
    }
    return !tried || (double)(tried - none) * MARGIN < l->windows / 2 * (double)tried;
}

/* Pairs of a cosine and a sine of one size, told by the first row that is not zeros. */
static int no_circles(const Rows *r, const Limits *l) {
    Py_ssize_t m = r->m, row = 0;
    if (m % 2 || (double)(r->n * m) < 2 * l->circles || (double)m < 2 * l->fewest_turning) return 1;
    while (row < r->n && r->energy[row] == 0) row++;
    if (row == r->n) return 0;
    const float *x = r->x + row * m;
    double largest = 0;
    for (Py_ssize_t j = 0; j < m; j++) largest = fmax(largest, fabs((double)x[j]));
    for (int layout = 0; layout < (m % 4 ? 2 : 3); layout++) {
        double low = INFINITY, high = 0;
        for (Py_ssize_t i = 0; i < m / 2 && (layout == 2 || i < 16); i++) {
            Py_ssize_t a = layout == 0 ? 2 * i : layout == 1 ? i : i + (i >= m / 4 ? m / 4 : 0);
            Py_ssize_t b = a + (layout == 0 ? 1 : layout == 1 ? m / 2 : m / 4);
            double length = sqrt((double)x[a] * x[a] + (double)x[b] * x[b]);
            low = fmin(low, length);
            high = fmax(high, length);
        }
        if (!(high - low > 4 * l->round * largest * MARGIN)) return 0;
    }
    return 1;
}

/* Neither smooth curves, nor even steps, nor lines whose neighbours are nearly alike. */
static int no_curves(const Rows *r, const Limits *l) {
    Py_ssize_t m = r->m, told = 0, stepping = 0, drawn = 0;
    double span = r->high - r->low, error = 3 * (l->relative * r->size + l->absolute);
    double most = (l->foretold * span + error) * MARGIN, slack = (l->same * span + error) * MARGIN;
    double fewest = fmin(8, (double)(m / 2));
    if (m < l->curve) return 0;
    for (Py_ssize_t i = 0; i < r->n; i++) {
        const float *x = r->x + i * m;
        Py_ssize_t even = 0, close = 0; /* close: threes that may be the most common number */
        double sum = 0, apart = 0, spread = 0;
        for (Py_ssize_t j = 3; j + 3 < m; j++) {
            double near = ((double)x[j - 3] + x[j + 3] - 6 * ((double)x[j - 2] + x[j + 2]) + 15 * ((double)x[j - 1] + x[j + 1])) / 20;
            told += fabs(near - x[j]) <= most;
        }
        for (Py_ssize_t j = 2; j < m; j++) {
            double a = x[j - 2], b = x[j - 1], c = x[j];
            even += fabs(c - 2 * b + a) <= slack;
            close += fabs(a - b) <= 2 * slack && fabs(b - c) <= 2 * slack && fabs(a - c) <= 2 * slack;
        }
        for (Py_ssize_t j = 0; j + 1 < m; j++) {
            sum += x[j];
            apart += fabs((double)x[j + 1] - x[j]);
        }
        for (Py_ssize_t j = 0; j + 1 < m; j++) spread += fabs(x[j] - sum / (double)(m - 1));
        stepping += (double)even >= l->even * fewest && (double)even * MARGIN >= l->even * (double)(m - 2 - close);
        drawn += apart < l->alike * spread * MARGIN;
    }
    double count = (double)(r->n * (m - 6));
    return (double)told < l->smooth * fmax(floor(l->curve / 2), 0.5 * count) && (double)stepping * MARGIN < l->steps * (double)r->n &&
           (double)drawn * MARGIN < l->drawn_out * (double)r->n;
}

/* Rows that follow each other are not nearly alike. */
static int no_slow_change(const Rows *r, const Limits *l) {
    Py_ssize_t m = r->m, follow = 0, drawn = 0;
    for (Py_ssize_t i = 0; i + 1 < r->n; i++) {
        if (r->numbers[i + 1] - r->numbers[i] != 1) continue;
        const float *x = r->x + i * m;
        double sum = 0, apart = 0, spread = 0;
        for (Py_ssize_t j = 0; j < m; j++) {
            sum += x[j];
            apart += fabs((double)x[j + m] - x[j]);
        }
        for (Py_ssize_t j = 0; j < m; j++) spread += fabs(x[j] - sum / (double)m);
        follow++;
        drawn += apart < l->alike * spread * MARGIN;
    }
    return !follow || (double)drawn * MARGIN < l->drawn_out * (double)follow;
}

static int is_noise(Rows *r, const Limits *l, double *left, double *size) {
    return looked_over(r, l) && many_values(r, l) && no_repeats(r, l) && no_curves(r, l) && no_slow_change(r, l) && no_circles(r, l) &&
           no_plain_waves(r, l, left, size) && no_stepping_waves(r, l, left, size);
}

/* noise(rows, numbers, limits): rows are singles (n, m), one after the other; numbers n of 64 bits; limits as `Limits`. */
static PyObject *noise(PyObject *self, PyObject *args) {
    Py_buffer rows, numbers, limits;
    int found = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*", &rows, &numbers, &limits)) return NULL;
    Py_ssize_t n = numbers.len / 8, m = n > 0 ? rows.len / 4 / n : 0, most = n > m ? n : m;
    if (n > 0 && m > 0 && rows.len == n * m * 4 && numbers.len == n * 8 && limits.len == (Py_ssize_t)sizeof(Limits)) {
        double *room = malloc(3 * (size_t)most * sizeof *room);
        if (room != NULL) {
            Rows r = {.x = rows.buf, .numbers = numbers.buf, .n = n, .m = m, .energy = room};
            Py_BEGIN_ALLOW_THREADS
            found = is_noise(&r, limits.buf, room + most, room + 2 * most);
            Py_END_ALLOW_THREADS
            free(room);
        }
    }
    PyBuffer_Release(&rows);
    PyBuffer_Release(&numbers);
    PyBuffer_Release(&limits);
    if (found < 0) {
        PyErr_SetString(PyExc_ValueError, "buffers do not have the sizes that rows and numbers ask for");
        return NULL;
    }
    return PyBool_FromLong(found);
}

static PyMethodDef methods[] = {{"noise", noise, METH_VARARGS, "Whether rows are surely no fixed table: see noise.py."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_noise_core", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__noise_core(void) { return PyModule_Create(&module); }
