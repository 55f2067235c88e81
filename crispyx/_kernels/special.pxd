# Gamma functions for positive arguments: recurrence up to 10, then the asymptotic series, whose
# first left-out term is below 1e-15 there. Inlined into the kernels.

from libc.math cimport exp, log


cdef inline double log_gamma(double x) noexcept nogil:
    cdef double product = 1, z
    while x < 10:
        product *= x
        x += 1
    z = 1 / (x * x)
    return (x - 0.5) * log(x) - x + 0.91893853320467274178 - log(product) + (
        1 / 12.0 + z * (-1 / 360.0 + z * (1 / 1260.0 + z * (-1 / 1680.0 + z * (
            1 / 1188.0 + z * (-691 / 360360.0 + z / 156.0)))))
    ) / x


cdef inline double digamma(double x) noexcept nogil:
    cdef double below = 0, z
    while x < 10:
        below += 1 / x
        x += 1
    z = 1 / (x * x)
    return log(x) - 0.5 / x - below - z * (
        1 / 12.0 + z * (-1 / 120.0 + z * (1 / 252.0 + z * (-1 / 240.0 + z * (
            1 / 132.0 + z * (-691 / 32760.0 + z / 12.0)))))
    )


cdef inline double trigamma(double x) noexcept nogil:
    cdef double below = 0, z
    while x < 10:
        below += 1 / (x * x)
        x += 1
    z = 1 / (x * x)
    return below + 0.5 * z + (1 + z * (1 / 6.0 + z * (-1 / 30.0 + z * (1 / 42.0 + z * (
        -1 / 30.0 + z * (5 / 66.0 + z * (-691 / 2730.0 + z * 7 / 6.0))))))) / x


cdef inline double mix(double background, double signal, double* share) noexcept nogil:
    """Return log(exp background + exp signal); ``share`` gets the signal's part of it."""
    cdef double e
    if signal >= background:
        e = exp(background - signal)
        share[0] = 1 / (1 + e)
        return signal + log(1 + e)
    e = exp(signal - background)
    share[0] = e / (1 + e)
    return background + log(1 + e)


cdef inline double log_odds(double probability) noexcept nogil:
    return log(probability) - log(1 - probability)


cdef inline double between(double x, double low, double high) noexcept nogil:
    return low if x < low else high if x > high else x
