/* Included by _pair_core.c, once for each precision of products: NUMBER, MANY of it, WHOLES as wide, and how float32 becomes it. */

static inline double NAMED(total)(const MANY *lanes) {
    double sum = 0;
    for (int k = 0; k < LANES; k++) sum += (*lanes)[k];
    return sum;
}

/* Numbers are taken LANES at a time; what is left of a row is filled up with zeros on both sides, which change no sum. */
FOR_EACH_PROCESSOR
static double NAMED(mean_of)(const float *x, Py_ssize_t n) {
    double sum = 0;
    for (Py_ssize_t start = 0; start < n; start += RUN) {
        Py_ssize_t stop = start + RUN < n ? start + RUN : n, i = start;
        MANY lanes = {0};
        Floats next;
        for (; i + LANES <= stop; i += LANES) {
            memcpy(&next, x + i, sizeof next);
            lanes += WIDENED(next);
        }
        for (; i < stop; i++) sum += x[i];
        sum += NAMED(total)(&lanes);
    }
    return sum / (double)n;
}

/* One run of a row whose centres are given; `products` are centred ones, for the sums by channel. */
FOR_EACH_PROCESSOR
static void NAMED(add_run)(Part *part, const float *a, const float *b, const NUMBER *centre_a, const NUMBER *centre_b, NUMBER *products,
                           NUMBER *distances, int n) {
    MANY sum_a = {0}, sum_b = {0}, sum_aa = {0}, sum_bb = {0}, sum_ab = {0}, sum_dd = {0}, sum_d = {0}, sum_uu = {0};
    WHOLES equal = {0}, within = {0};
    for (int i = 0; i < n; i += LANES) {
        Floats narrow_a, narrow_b;
        MANY first, second;
        memcpy(&narrow_a, a + i, sizeof narrow_a);
        memcpy(&narrow_b, b + i, sizeof narrow_b);
        memcpy(&first, centre_a + i, sizeof first);
        memcpy(&second, centre_b + i, sizeof second);
        MANY x = WIDENED(narrow_a), y = WIDENED(narrow_b), d = ABSOLUTE(y - x), product = (x - first) * (y - second);
        Floats larger = LARGER(SIZE(narrow_a), SIZE(narrow_b)), power = (Floats)((Ints)larger & 0x7F800000);
        Floats least_a = power * 0 + part->smallest_a, least_b = power * 0 + part->smallest_b;
        Floats unit_a = LARGER(power, least_a) * part->step_a, unit_b = LARGER(power, least_b) * part->step_b;
        MANY unit = WIDENED(LARGER(unit_a, unit_b));
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
        within -= d <= unit * (NUMBER)0.5;
    }
    MANY sums[SUMS] = {sum_a, sum_b, sum_aa, sum_bb, sum_ab, sum_dd, sum_d, sum_uu};
    for (int s = 0; s < SUMS; s++) part->sums[s] += NAMED(total)(&sums[s]);
    for (int k = 0; k < LANES; k++) {
        part->equal += equal[k];
        part->within += within[k];
    }
}

static void NAMED(add_part)(Part *part) {
    float copy_a[RUN], copy_b[RUN];
    NUMBER centre_a[RUN], centre_b[RUN], products[RUN], distances[RUN];
    const NUMBER *centres_a = part->centre_a, *centres_b = part->centre_b;
    int by_column = centres_a == NULL;
    for (Py_ssize_t row = 0; row < part->rows; row++) {
        const float *a = part->a + row * part->columns, *b = part->b + row * part->columns;
        NUMBER mean_a = by_column ? (NUMBER)NAMED(mean_of)(a, part->columns) : 0;
        NUMBER mean_b = by_column ? (NUMBER)NAMED(mean_of)(b, part->columns) : 0;
        if (by_column)
            for (int i = 0; i < RUN; i++) centre_a[i] = mean_a, centre_b[i] = mean_b;
        double before = part->sums[4];
        for (Py_ssize_t start = 0; start < part->columns; start += RUN) {
            int n = (int)(part->columns - start < RUN ? part->columns - start : RUN), filled = (n + LANES - 1) / LANES * LANES;
            const float *run_a = a + start, *run_b = b + start;
            const NUMBER *run_centre_a = by_column ? centre_a : centres_a + start, *run_centre_b = by_column ? centre_b : centres_b + start;
            if (filled > n) { /* numbers that are not there stand on their centres, and add nothing to the products */
                run_a = filled_up(copy_a, run_a, n, filled, sizeof *copy_a), run_b = filled_up(copy_b, run_b, n, filled, sizeof *copy_b);
                run_centre_a = filled_up(centre_a, run_centre_a, n, filled, sizeof *centre_a);
                run_centre_b = filled_up(centre_b, run_centre_b, n, filled, sizeof *centre_b);
                part->equal -= filled - n, part->within -= filled - n;
                part->sums[SUMS - 1] -= (filled - n) * part->least * part->least;
            }
            NAMED(add_run)(part, run_a, run_b, run_centre_a, run_centre_b, products, distances, filled);
            if (by_column)
                for (int i = 0; i < n; i++) part->channels[start + i] += products[i];
            if (part->counts_a != NULL) {
                count(part->counts_a, run_a, n);
                count(part->counts_b, run_b, n);
                for (int i = 0; i < n; i++) part->counts_d[bits_of((float)distances[i]) >> 16]++;
            }
        }
        if (by_column)
            part->sums[4] += (double)part->columns * (double)mean_a * mean_b;
        else
            part->channels[row] += part->sums[4] - before;
    }
}

#undef NAMED
#undef NUMBER
#undef MANY
#undef WHOLES
#undef WIDENED
#undef ABSOLUTE
