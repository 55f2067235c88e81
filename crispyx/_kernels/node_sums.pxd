# Sums of the negative binomial likelihood over the cells of a group, zeros included.
#
# All of them are sums of smooth functions of the cell's log size factor, so they are taken at a few
# Chebyshev nodes: w[j] weighs node j for the cells, v[j] for the counts. Cells whose fitted mean is
# held at min_mu are left out of w and v and enter as so many equal cells. Inlined into the kernels.

# The loops over nodes and counts stand in node_sums.h, where compilers turn them into vector
# instructions; no step of them can be rounded in two ways.

from libc.math cimport exp, log, log1p
from libc.string cimport memcpy, memset

ctypedef fused value_t:
    float
    double

ctypedef long long int64

cdef extern from "node_sums.h":
    void log1p_nodes "crispyx_log1p_nodes"(
        const double* s, double scale, double* large, double* share, int n
    ) noexcept nogil
    void score_nodes "crispyx_score_nodes"(
        const double* s, const double* w, const double* v, double scale, double alpha, int n,
        double* out
    ) noexcept nogil
    void information_nodes "crispyx_information_nodes"(
        const double* s, const double* w, double scale, double alpha, int n, double* out
    ) noexcept nogil
    double likelihood_nodes "crispyx_likelihood_nodes"(
        const double* s, const double* log_s, const double* w, const double* v, double scale,
        double r, int n
    ) noexcept nogil
    void slope_nodes "crispyx_slope_nodes"(
        const double* s, const double* w, const double* v, double scale, double r, int n,
        double* out
    ) noexcept nogil
    void slopes_of_tail "crispyx_tail_slopes"(
        const double* tail, Py_ssize_t n, double alpha, double* out
    ) noexcept nogil
    double weigh_floats "crispyx_weigh_float"(
        const float* y, const int* ranks, Py_ssize_t n, Py_ssize_t cut, const double* rows,
        int n_nodes, double* v
    ) noexcept nogil
    double weigh_doubles "crispyx_weigh_double"(
        const double* y, const int* ranks, Py_ssize_t n, Py_ssize_t cut, const double* rows,
        int n_nodes, double* v
    ) noexcept nogil
    double total_of_floats "crispyx_total_float"(const float* y, Py_ssize_t n) noexcept nogil
    double total_of_doubles "crispyx_total_double"(const double* y, Py_ssize_t n) noexcept nogil
    double move_floats "crispyx_move_float"(
        const float* y, const int* ranks, Py_ssize_t n, int low, int high, double sign,
        const double* rows, int n_nodes, double* v
    ) noexcept nogil
    double move_doubles "crispyx_move_double"(
        const double* y, const int* ranks, Py_ssize_t n, int low, int high, double sign,
        const double* rows, int n_nodes, double* v
    ) noexcept nogil
    double logs_of_floats "crispyx_logs_float"(
        const float* y, const int* ranks, Py_ssize_t n, const double* s, double times
    ) noexcept nogil
    double logs_of_doubles "crispyx_logs_double"(
        const double* y, const int* ranks, Py_ssize_t n, const double* s, double times
    ) noexcept nogil
    void moments_of_floats "crispyx_moments_float"(
        const float* y, const int* ranks, Py_ssize_t n, const double* s, Py_ssize_t n_cells,
        double* mean, double* squares
    ) noexcept nogil
    void moments_of_doubles "crispyx_moments_double"(
        const double* y, const int* ranks, Py_ssize_t n, const double* s, Py_ssize_t n_cells,
        double* mean, double* squares
    ) noexcept nogil
    int largest_of_floats "crispyx_largest_float"(const float* y, Py_ssize_t n) noexcept nogil
    int largest_of_doubles "crispyx_largest_double"(const double* y, Py_ssize_t n) noexcept nogil
    int64 floats_above "crispyx_above_float"(
        const float* y, Py_ssize_t n, int level
    ) noexcept nogil
    int64 doubles_above "crispyx_above_double"(
        const double* y, Py_ssize_t n, int level
    ) noexcept nogil


cdef enum:
    STRIDE = 8  # ranks between two stored suffix sums
    LANES = 64  # places whose logarithms are taken at once
    FEW_LEVELS = 16  # largest counts below it are counted level by level

cdef struct Table:  # the arrays of all groups, group after group
    const int64* cell_ptr        # (n_groups + 1,)
    const int64* suffix_ptr      # (n_groups + 1,)
    const double* size_factors   # (n_members,)
    const double* rows           # (n_members, n_nodes)
    const double* suffix         # (n_suffixes, n_nodes)
    const double* node_s         # (n_groups, n_nodes)
    const double* node_log       # (n_groups, n_nodes)
    const double* prefix_log     # (n_members + n_groups,)
    Py_ssize_t n_nodes

cdef struct Group:
    Py_ssize_t n
    Py_ssize_t n_nodes
    const double* size_factors  # (n,), rising
    const double* rows          # (n, n_nodes), Lagrange basis at each cell
    const double* suffix        # (ceil(n / STRIDE) + 1, n_nodes), rows summed from every 8th cell on
    const double* prefix_log    # (n + 1,), log size factors summed before each cell
    const double* node_s        # (n_nodes,), size factors at the nodes
    const double* node_log      # (n_nodes,), their logs

cdef struct Arm:
    Group group
    double* w          # (n_nodes,)
    double* v          # (n_nodes,)
    Py_ssize_t cut     # cells before it are clamped
    double y_below     # counts in clamped cells
    double y_above
    double min_mu

cdef struct Slopes:
    double first
    double second


cdef inline Group group_of(const Table* table, Py_ssize_t k) noexcept nogil:
    """Return group ``k`` of the table."""
    cdef Group group
    cdef Py_ssize_t n_nodes = table.n_nodes
    group.n = table.cell_ptr[k + 1] - table.cell_ptr[k]
    group.n_nodes = n_nodes
    group.size_factors = table.size_factors + table.cell_ptr[k]
    group.rows = table.rows + table.cell_ptr[k] * n_nodes
    group.suffix = table.suffix + table.suffix_ptr[k] * n_nodes
    group.prefix_log = table.prefix_log + table.cell_ptr[k] + k
    group.node_s = table.node_s + k * n_nodes
    group.node_log = table.node_log + k * n_nodes
    return group


cdef inline Py_ssize_t n_clamped(const Group* group, double eta, double min_mu) noexcept nogil:
    """Return how many cells have a mean below ``min_mu``."""
    cdef Py_ssize_t low = 0, high = group.n, middle
    cdef double scale = exp(eta)
    if high > 0 and group.size_factors[high - 1] * scale < min_mu:
        return high  # most genes of single cells
    while low < high:
        middle = (low + high) // 2
        if group.size_factors[middle] * scale < min_mu:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline void weigh_cells(Arm* arm, Py_ssize_t cut) noexcept nogil:
    """Set ``w`` for the cells from ``cut`` on."""
    cdef Py_ssize_t n_nodes = arm.group.n_nodes, i, j
    cdef Py_ssize_t block = (cut + STRIDE - 1) // STRIDE
    memcpy(arm.w, &arm.group.suffix[block * n_nodes], n_nodes * sizeof(double))
    for i in range(cut, min(block * STRIDE, arm.group.n)):
        for j in range(n_nodes):
            arm.w[j] += arm.group.rows[i * n_nodes + j]
    arm.cut = cut


cdef inline void weigh_counts(Arm* arm, const value_t* y, const int* ranks,
                              Py_ssize_t n) noexcept nogil:
    """Set ``v`` and the totals for the non-zeros of a run, given ``cut``."""
    cdef int n_nodes = <int> arm.group.n_nodes
    cdef double total
    memset(arm.v, 0, n_nodes * sizeof(double))
    arm.y_above = 0
    if value_t is float:
        total = total_of_floats(y, n)
        if arm.cut < arm.group.n:
            arm.y_above = weigh_floats(y, ranks, n, arm.cut, arm.group.rows, n_nodes, arm.v)
    else:
        total = total_of_doubles(y, n)
        if arm.cut < arm.group.n:
            arm.y_above = weigh_doubles(y, ranks, n, arm.cut, arm.group.rows, n_nodes, arm.v)
    arm.y_below = total - arm.y_above


cdef inline void move_clamp(Arm* arm, const value_t* y, const int* ranks, Py_ssize_t n,
                            double eta) noexcept nogil:
    """Clamp the cells whose mean at ``eta`` is too small; counts that cross it change sides."""
    cdef Py_ssize_t before = arm.cut, cut = n_clamped(&arm.group, eta, arm.min_mu)
    cdef int low = <int> min(cut, before), high = <int> max(cut, before)
    cdef int n_nodes = <int> arm.group.n_nodes
    cdef double sign = 1 if cut < before else -1, moved
    if cut == before:
        return
    weigh_cells(arm, cut)
    if value_t is float:
        moved = move_floats(y, ranks, n, low, high, sign, arm.group.rows, n_nodes, arm.v)
    else:
        moved = move_doubles(y, ranks, n, low, high, sign, arm.group.rows, n_nodes, arm.v)
    arm.y_above += moved
    arm.y_below -= moved


cdef inline double total_size(const Arm* arm) noexcept nogil:
    """Return the sum of the size factors."""
    cdef double total = 0
    cdef Py_ssize_t j
    for j in range(arm.group.n_nodes):
        total += arm.w[j] * arm.group.node_s[j]
    return total


cdef inline double normalized_logs(const Group* group, const value_t* y, const int* ranks,
                                   Py_ssize_t n, double times) noexcept nogil:
    """Return the sum of log(1 + times y / s)."""
    if value_t is float:
        return logs_of_floats(y, ranks, n, group.size_factors, times)
    else:
        return logs_of_doubles(y, ranks, n, group.size_factors, times)


cdef inline void moments_of_run(const value_t* y, const int* ranks, Py_ssize_t n,
                                const double* size_factors, Py_ssize_t n_cells, double* mean,
                                double* squares) noexcept nogil:
    """Set the mean of y / s and the squares about it."""
    if value_t is float:
        moments_of_floats(y, ranks, n, size_factors, n_cells, mean, squares)
    else:
        moments_of_doubles(y, ranks, n, size_factors, n_cells, mean, squares)


cdef inline Slopes score(const Arm* arm, double eta, double alpha) noexcept nogil:
    """Return score and observed information in eta of the cells that are not clamped."""
    return score_at(arm, exp(eta), alpha)


cdef inline Slopes score_at(const Arm* arm, double scale, double alpha) noexcept nogil:
    """Return the same, given the exponential of eta."""
    cdef Slopes out
    cdef double[2] sums
    out.first = out.second = 0
    if arm.cut < arm.group.n:
        score_nodes(arm.group.node_s, arm.w, arm.v, scale, alpha, <int> arm.group.n_nodes, sums)
        out.first, out.second = sums[0], sums[1]
    return out


cdef inline void information(const Arm* arm, double eta, double alpha, double* w,
                             double* w1, double* w2) noexcept nogil:
    """Set the expected information of the cells in ``w`` and its two derivatives in eta."""
    cdef double[3] sums
    w[0] = w1[0] = w2[0] = 0
    if arm.cut < arm.group.n:
        information_nodes(arm.group.node_s, arm.w, exp(eta), alpha, <int> arm.group.n_nodes, sums)
        w[0], w1[0], w2[0] = sums[0], sums[1], sums[2]


cdef inline double kernel_loglikelihood(const Arm* arm, double eta, double alpha) noexcept nogil:
    """Return sum y log mu - (y + 1 / alpha) log(1 + alpha mu), clamped cells included."""
    cdef double total = 0, spread
    if arm.cut < arm.group.n:
        total = likelihood_nodes(arm.group.node_s, arm.group.node_log, arm.w, arm.v,
                                 alpha * exp(eta), 1 / alpha, <int> arm.group.n_nodes)
    total += arm.y_above * eta
    if arm.cut > 0:
        spread = log1p(alpha * arm.min_mu)
        total += arm.y_below * (log(arm.min_mu) - spread) - arm.cut * (spread / alpha)
    return total


cdef inline Slopes dispersion_slopes(const Arm* arm, double eta, double alpha) noexcept nogil:
    """Return the derivatives in log alpha of minus the log-likelihood, but for the terms of the
    counts alone, plus half the log of the information.
    """
    cdef Slopes out
    cdef double r = 1 / alpha, v, large, w, p, clamped = arm.min_mu
    cdef double f = 0, f1 = 0, f2 = 0, first = 0, second = 0
    cdef double[5] sums
    if arm.cut < arm.group.n:
        slope_nodes(arm.group.node_s, arm.w, arm.v, alpha * exp(eta), r, <int> arm.group.n_nodes,
                    sums)
        f, f1, f2, first, second = sums[0], sums[1], sums[2], sums[3], sums[4]
    if arm.cut > 0:
        log1p_nodes(&clamped, alpha, &large, &v, 1)
        w, p = <double> arm.cut, v * (1 - v)
        f += w * v
        f1 += w * p
        f2 += w * p * (1 - 2 * v)
        first += w * ((large - v) * r) - arm.y_below * v
        second += w * ((large - 2 * v + p) * r) + arm.y_below * p
    out.first = 0.5 * (f1 / f - 1) - first
    out.second = 0.5 * (f2 / f - (f1 / f) * (f1 / f)) + second
    return out


cdef inline Slopes tail_slopes(const double* tail, Py_ssize_t n_tail,
                               double alpha) noexcept nogil:
    """Return the derivatives in log alpha of sum over j of tail[j] log(1 + j alpha).

    ``tail[j]`` is the number of cells with a count above j.
    """
    cdef Slopes out
    cdef double[2] sums
    slopes_of_tail(tail, n_tail, alpha, sums)
    out.first, out.second = sums[0], sums[1]
    return out


cdef inline double tail_loglikelihood(const double* tail, Py_ssize_t n_tail,
                                      double alpha) noexcept nogil:
    """Return the sum over cells of log((1 + alpha) .. (1 + (y - 1) alpha)) - log y!."""
    cdef double total = 0
    cdef double[LANES] places
    cdef double[LANES] spread
    cdef double[LANES] factorial
    cdef double[LANES] ignored
    cdef Py_ssize_t first = 1, j, n
    while first < n_tail:
        n = min(<Py_ssize_t> LANES, n_tail - first)
        for j in range(n):
            places[j] = first + j
        log1p_nodes(places, alpha, spread, ignored, <int> n)
        log1p_nodes(places, 1, factorial, ignored, <int> n)
        for j in range(n):
            total += tail[first + j] * (spread[j] - factorial[j])
        first += LANES
    return total


cdef inline Py_ssize_t tail_length(const value_t* y, Py_ssize_t n) noexcept nogil:
    """Return one more than the largest count."""
    if value_t is float:
        return largest_of_floats(y, n) + 1
    else:
        return largest_of_doubles(y, n) + 1


cdef inline void add_tail(double* tail, const value_t* y, Py_ssize_t n,
                          Py_ssize_t n_tail) noexcept nogil:
    """Add a run to ``tail`` (2 * n_tail,), of which the second half is zero and stays so.

    The tail is longer than every count of the run. Many levels are counted each at its place, and
    summed from the top.
    """
    cdef Py_ssize_t i, j
    cdef double above = 0, here
    if n_tail <= FEW_LEVELS:
        for j in range(n_tail):
            if value_t is float:
                tail[j] += floats_above(y, n, <int> j)
            else:
                tail[j] += doubles_above(y, n, <int> j)
        return
    for i in range(n):
        tail[n_tail + <Py_ssize_t> y[i]] += 1
    for j in range(n_tail - 1, -1, -1):
        here = tail[n_tail + j]
        tail[n_tail + j] = 0
        tail[j] += above
        above += here
