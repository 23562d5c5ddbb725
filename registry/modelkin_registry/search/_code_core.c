/* The nearest of many sign codes, by the number of bits that differ: what near_codes.py hands over. Looks at every code. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORDS 4 /* of a code, 64 bits each */
#define BITS (64 * WORDS)
#define BLOCK 256 /* codes held against all queries before the next are read */

#if defined(__GNUC__) && defined(__x86_64__)
#define SEVERAL_PROCESSORS /* what counts the ones of eight words at once, or of one, where the processor can */
#endif

#if defined(__GNUC__)
#define ALIGNED __attribute__((aligned(64))) /* so that eight words are read from one line of the cache */
#define ONES(x) ((uint64_t)__builtin_popcountll(x))
#else
#define ALIGNED
static uint64_t ONES(uint64_t x) {
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    return ((x + (x >> 4) & 0x0F0F0F0F0F0F0F0Fu) * 0x0101010101010101u) >> 56;
}
#endif

typedef struct {
    int64_t position;
    int64_t distance;
} Near;

/* What is kept of one query: all codes as near as the k-th, and some that were so before nearer ones came. */
typedef struct {
    Near *kept;
    Py_ssize_t count, room;
    Py_ssize_t within;           /* of them no further than `limit` */
    Py_ssize_t at[BITS + 1];     /* of them at each distance up to `limit` */
    int limit;
} Found;

static void transposed(const uint8_t *codes, uint64_t columns[WORDS][BLOCK], int n) {
    for (int i = 0; i < n; i++)
        for (int word = 0; word < WORDS; word++) memcpy(&columns[word][i], codes + (i * WORDS + word) * 8, 8);
}

/* Bits in which codes of a block differ from a query, and the least of these numbers: few blocks have one that is near enough. */
#define DISTANCES(NAME)                                                                                                                  \
    static uint64_t NAME(const uint64_t columns[restrict WORDS][BLOCK], const uint64_t *restrict query, uint64_t *restrict found) {      \
        uint64_t q0 = query[0], q1 = query[1], q2 = query[2], q3 = query[3], least = BITS;                                               \
        for (int i = 0; i < BLOCK; i++) {                                                                                                \
            uint64_t d = ONES(columns[0][i] ^ q0) + ONES(columns[1][i] ^ q1) + ONES(columns[2][i] ^ q2) + ONES(columns[3][i] ^ q3);      \
            found[i] = d;                                                                                                                \
            least = d < least ? d : least;                                                                                               \
        }                                                                                                                                \
        return least;                                                                                                                    \
    }

DISTANCES(plain_distances)
#ifdef SEVERAL_PROCESSORS
__attribute__((target("popcnt"))) DISTANCES(counted_distances)
__attribute__((target("avx512f,avx512vl,avx512bw,avx512vpopcntdq"))) DISTANCES(wide_distances)
#endif

typedef uint64_t Distances(const uint64_t columns[restrict WORDS][BLOCK], const uint64_t *restrict query, uint64_t *restrict found);

static Distances *fastest(void) {
#ifdef SEVERAL_PROCESSORS
    if (__builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        return wide_distances;
    if (__builtin_cpu_supports("popcnt")) return counted_distances;
#endif
    return plain_distances;
}

static int keep(Found *found, int64_t position, int distance, Py_ssize_t k) {
    if (found->count == found->room) {
        Py_ssize_t left = 0;
        for (Py_ssize_t i = 0; i < found->count; i++)
            if (found->kept[i].distance <= found->limit) found->kept[left++] = found->kept[i];
        found->count = left;
        if (left > found->room / 2) {
            Near *larger = realloc(found->kept, (size_t)found->room * 2 * sizeof(Near));
            if (larger == NULL) return -1;
            found->kept = larger;
            found->room *= 2;
        }
    }
    found->kept[found->count++] = (Near){position, distance};
    found->at[distance]++;
    found->within++;
    while (found->limit > 0 && found->within - found->at[found->limit] >= k) found->within -= found->at[found->limit--];
    return 0;
}

static int looked_at(const uint8_t *codes, Py_ssize_t count, const uint64_t *queries, Py_ssize_t asked, Py_ssize_t k, const uint8_t *chosen,
                     Found *found) {
    ALIGNED uint64_t columns[WORDS][BLOCK], distance[BLOCK];
    Distances *distances = fastest();
    memset(columns, 0, sizeof columns);
    for (Py_ssize_t start = 0; start < count; start += BLOCK) {
        int n = count - start < BLOCK ? (int)(count - start) : BLOCK;
        transposed(codes + start * WORDS * 8, columns, n);
        for (Py_ssize_t q = 0; q < asked; q++) {
            if (distances((const uint64_t(*)[BLOCK])columns, queries + q * WORDS, distance) > (uint64_t)found[q].limit) continue;
            for (int i = 0; i < n; i++)
                if (distance[i] <= (uint64_t)found[q].limit && (chosen == NULL || chosen[start + i]))
                    if (keep(&found[q], start + i, (int)distance[i], k) < 0) return -1;
        }
    }
    return 0;
}

/* Three columns as bytes: queries, positions and distances, all int64. */
static PyObject *told(const Found *found, Py_ssize_t asked) {
    Py_ssize_t total = 0, row = 0;
    for (Py_ssize_t q = 0; q < asked; q++) total += found[q].within;
    PyObject *columns[3] = {NULL, NULL, NULL}, *result = NULL;
    for (int i = 0; i < 3; i++) columns[i] = PyBytes_FromStringAndSize(NULL, total * 8);
    if (columns[0] != NULL && columns[1] != NULL && columns[2] != NULL) {
        int64_t *values[3];
        for (int i = 0; i < 3; i++) values[i] = (int64_t *)PyBytes_AsString(columns[i]);
        for (Py_ssize_t q = 0; q < asked; q++)
            for (Py_ssize_t i = 0; i < found[q].count; i++) {
                if (found[q].kept[i].distance > found[q].limit) continue;
                values[0][row] = q;
                values[1][row] = found[q].kept[i].position;
                values[2][row++] = found[q].kept[i].distance;
            }
        result = PyTuple_Pack(3, columns[0], columns[1], columns[2]);
    }
    for (int i = 0; i < 3; i++) Py_XDECREF(columns[i]);
    return result;
}

/* nearest(codes, queries, k, chosen or None): codes of 32 bytes each; `chosen` has a byte a code, 0 for those that are passed over. */
static PyObject *nearest(PyObject *self, PyObject *args) {
    Py_buffer codes, queries, chosen;
    Py_ssize_t k;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*nz*", &codes, &queries, &k, &chosen)) return NULL;
    Py_ssize_t count = codes.len / (WORDS * 8), asked = queries.len / (WORDS * 8);
    int fits = k > 0 && codes.len == count * WORDS * 8 && queries.len == asked * WORDS * 8 && (chosen.buf == NULL || chosen.len == count);
    int failed = 0;
    PyObject *result = NULL;
    if (fits) {
        Found *found = calloc((size_t)(asked ? asked : 1), sizeof(Found));
        uint64_t *words = malloc((size_t)(asked ? asked : 1) * WORDS * 8);
        failed = found == NULL || words == NULL;
        for (Py_ssize_t q = 0; !failed && q < asked; q++) {
            found[q].limit = BITS;
            found[q].room = 1024;
            found[q].kept = malloc((size_t)found[q].room * sizeof(Near));
            failed = found[q].kept == NULL;
        }
        if (!failed) {
            memcpy(words, queries.buf, (size_t)queries.len);
            Py_BEGIN_ALLOW_THREADS
            failed = looked_at(codes.buf, count, words, asked, k, chosen.buf, found) < 0;
            Py_END_ALLOW_THREADS
        }
        if (!failed) result = told(found, asked);
        for (Py_ssize_t q = 0; found != NULL && q < asked; q++) free(found[q].kept);
        free(found);
        free(words);
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&queries);
    if (chosen.buf != NULL) PyBuffer_Release(&chosen);
    if (!fits) PyErr_SetString(PyExc_ValueError, "buffers do not have the sizes of whole codes");
    if (failed) PyErr_NoMemory();
    return result;
}

static PyMethodDef methods[] = {
    {"nearest", nearest, METH_VARARGS, "Positions and distances of all codes that are as near to a query as the k-th nearest."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_code_core", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__code_core(void) { return PyModule_Create(&module); }
