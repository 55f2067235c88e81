"""How many cells or genes fit into memory at a time, by fixed formulas of the size of a data set.

They are for loops of your own; the operations of this package plan with what they really use. GB
are 1e9 bytes. Examples printed elsewhere that contradict the text beside them are not followed.
"""

from __future__ import annotations

import logging
from typing import Literal

from crispyx._run.budget import GB, available_memory
from crispyx.data.arguments import positive, whole
from crispyx.errors import InputError

BYTES = 8  # of a float64 value
COVARIANCE_GENES = 20_000  # above, genes x genes takes more than 3.2 GB
RESULT_TABLES = 7  # float64 tables perturbations x genes that a test fills
RESULT_BYTES = 64 << 20  # of these tables for one chunk

PCA_METHODS = ("auto", "sparse_cov", "incremental")

_log = logging.getLogger("crispyx.data")


def calculate_optimal_chunk_size(
    n_obs: int,
    n_vars: int,
    available_memory_gb: float | None = None,
    safety_factor: float = 8.0,
    min_chunk: int = 512,
    max_chunk: int = 4096,
) -> int:
    r"""Return how many cells to hold at a time.

    .. math::  \text{memory} / (8 \cdot n_{vars} \cdot \text{safety})

    rounded down and brought between ``min_chunk`` and ``max_chunk``.

    Parameters
    ----------
    n_obs, n_vars : int
        Cells and genes. The number of cells bounds nothing: the last chunk may be short.
    available_memory_gb : float or None
        Memory in GB; None takes what is free, container limits included.
    safety_factor : float
        Dense copies of a chunk that must fit.
    min_chunk, max_chunk : int
        Bounds of the answer.

    Returns
    -------
    int
        Cells of a chunk.

    Raises
    ------
    ValueError
        An argument that is not above 0; bounds the wrong way round.

    Examples
    --------
    >>> calculate_optimal_chunk_size(100000, 20000, available_memory_gb=32)
    4096
    >>> calculate_optimal_chunk_size(100000, 20000, available_memory_gb=1)
    781
    """
    memory = _memory(available_memory_gb)
    _sizes(n_obs=n_obs, n_vars=n_vars)
    per_cell = BYTES * n_vars * positive("safety_factor", safety_factor)
    return _between(memory / per_cell, min_chunk, max_chunk)


def calculate_optimal_gene_chunk_size(
    n_obs: int,
    n_vars: int,
    n_groups: int | None = None,
    available_memory_gb: float | None = None,
    safety_factor: float = 8.0,
    memory_fraction: float = 0.5,
    min_chunk: int = 32,
    max_chunk: int = 512,
) -> int:
    r"""Return how many genes to hold at a time, all cells of each.

    .. math::  \text{memory} \cdot \text{fraction} / (8 \cdot n_{obs} \cdot \text{safety})

    rounded down. With ``n_groups``, the result tables of a chunk (seven of float64) must also fit
    into 64 MiB, and the answer is a multiple of 32.

    Parameters
    ----------
    n_obs, n_vars : int
        Cells and genes.
    n_groups : int or None
        Perturbations.
    available_memory_gb : float or None
        Memory in GB; None takes what is free, container limits included.
    safety_factor : float
        Dense copies of a chunk that must fit.
    memory_fraction : float
        Part of the memory to use.
    min_chunk, max_chunk : int
        Bounds of the answer.

    Returns
    -------
    int
        Genes of a chunk.

    Raises
    ------
    ValueError
        An argument that is not above 0; bounds the wrong way round.

    Examples
    --------
    >>> calculate_optimal_gene_chunk_size(100000, 20000, available_memory_gb=32)
    512
    >>> calculate_optimal_gene_chunk_size(4000000, 38000, n_groups=18000, available_memory_gb=128)
    64
    """
    memory = _memory(available_memory_gb) * _fraction(memory_fraction)
    _sizes(n_obs=n_obs, n_vars=n_vars)
    genes = memory / (BYTES * n_obs * positive("safety_factor", safety_factor))
    if n_groups is not None:
        whole("n_groups", n_groups, 1)
        genes = min(genes, RESULT_BYTES / (BYTES * RESULT_TABLES * n_groups))
        genes = genes // 32 * 32
    return _between(genes, min_chunk, max_chunk)


def calculate_wilcoxon_chunk_size(
    n_obs: int,
    n_vars: int,
    *,
    available_memory_gb: float | None = None,
    min_chunk: int = 32,
    max_chunk: int = 4096,
) -> int:
    r"""Return how many genes a rank-sum test over dense columns can hold at a time.

    .. math::  0.15 \cdot \text{memory} / (12 \cdot n_{obs})

    rounded down. (Values of 4 bytes, 8 more for the ranks: 12 bytes a cell. The 4,067 and 1,378
    that are printed for the examples elsewhere do not follow from this formula.)

    Parameters
    ----------
    n_obs : int
        Cells.
    n_vars : int
        Genes; noted in the log only.
    available_memory_gb : float or None
        Memory in GB; None takes what is free, container limits included.
    min_chunk, max_chunk : int
        Bounds of the answer.

    Returns
    -------
    int
        Genes of a chunk.

    Raises
    ------
    ValueError
        An argument that is not above 0; bounds the wrong way round.

    Examples
    --------
    >>> calculate_wilcoxon_chunk_size(396458, 32373, available_memory_gb=128)
    4035
    >>> calculate_wilcoxon_chunk_size(1161864, 33165, available_memory_gb=128)
    1377
    """
    memory = _memory(available_memory_gb)
    _sizes(n_obs=n_obs, n_vars=n_vars)
    chunk = _between(0.15 * memory / (12 * n_obs), min_chunk, max_chunk)
    _log.info("rank-sum test: %d of %d genes at a time", min(chunk, n_vars), n_vars)
    return chunk


def calculate_nb_glm_chunk_size(
    n_obs: int,
    n_vars: int,
    n_groups: int | None = None,
    available_memory_gb: float | None = None,
    memory_limit_gb: float | None = None,
    safety_factor: float = 8.0,
    memory_fraction: float = 0.5,
    min_chunk: int = 32,
    max_chunk: int = 256,
) -> int:
    r"""Return how many genes a negative binomial fit over dense columns can hold at a time.

    .. math::
        \frac{\text{memory} \cdot \text{fraction}}
        {\text{safety} \cdot (46\, n_{obs} + 1024\, n_{groups})}

    rounded down: counts, means, weights, residuals and working responses of a cell take 46 bytes,
    coefficients and tables of a perturbation a kilobyte.

    Parameters
    ----------
    n_obs, n_vars : int
        Cells and genes.
    n_groups : int or None
        Perturbations; None counts one.
    available_memory_gb : float or None
        Memory in GB; None takes what is free, container limits included.
    memory_limit_gb : float or None
        A limit below that.
    safety_factor : float
        Copies that must fit.
    memory_fraction : float
        Part of the memory to use.
    min_chunk, max_chunk : int
        Bounds of the answer.

    Returns
    -------
    int
        Genes of a chunk.

    Raises
    ------
    ValueError
        An argument that is not above 0; bounds the wrong way round.

    Examples
    --------
    >>> calculate_nb_glm_chunk_size(100000, 20000, n_groups=100, available_memory_gb=128)
    256
    >>> calculate_nb_glm_chunk_size(1200000, 36000, n_groups=500, available_memory_gb=128)
    143
    """
    memory = _memory(available_memory_gb)
    if memory_limit_gb is not None:
        memory = min(memory, positive("memory_limit_gb", memory_limit_gb) * GB)
    _sizes(n_obs=n_obs, n_vars=n_vars)
    groups = 1 if n_groups is None else whole("n_groups", n_groups, 1)
    per_gene = positive("safety_factor", safety_factor) * (46 * n_obs + 1024 * groups)
    return _between(memory * _fraction(memory_fraction) / per_gene, min_chunk, max_chunk)


def calculate_pca_chunk_size(
    n_obs: int,
    n_vars: int,
    n_comps: int = 50,
    available_memory_gb: float | None = None,
    method: Literal["auto", "sparse_cov", "incremental"] = "auto",
    memory_fraction: float = 0.5,
    min_chunk: int = 256,
    max_chunk: int = 4096,
) -> tuple[int, str]:
    r"""Return how many cells a principal component analysis can hold at a time, and its method.

    ``sparse_cov`` keeps the covariance of the genes in memory; ``auto`` takes it for up to 20,000
    genes when it fits. The chunk is the largest power of two below

    .. math::  (\text{memory} \cdot \text{fraction} - \text{kept}) / (8 \cdot n_{vars} \cdot s)

    with s = 64 and the covariance kept for ``sparse_cov``, s = 32 and ``n_comps`` vectors of genes
    kept for ``incremental``.

    Parameters
    ----------
    n_obs, n_vars : int
        Cells and genes.
    n_comps : int
        Components.
    available_memory_gb : float or None
        Memory in GB; None takes what is free, container limits included.
    method : {"auto", "sparse_cov", "incremental"}
        The method, or the choice.
    memory_fraction : float
        Part of the memory to use.
    min_chunk, max_chunk : int
        Bounds of the answer.

    Returns
    -------
    tuple (int, str)
        Cells of a chunk, and ``"sparse_cov"`` or ``"incremental"``.

    Raises
    ------
    ValueError
        Another method; an argument that is not above 0; bounds the wrong way round.

    Examples
    --------
    >>> calculate_pca_chunk_size(100000, 8000, available_memory_gb=32)
    (2048, 'sparse_cov')
    >>> calculate_pca_chunk_size(100000, 50000, available_memory_gb=32)
    (1024, 'incremental')
    """
    if method not in PCA_METHODS:
        raise InputError(f"method is {method!r}; choose one of {PCA_METHODS}")
    memory = _memory(available_memory_gb) * _fraction(memory_fraction)
    _sizes(n_obs=n_obs, n_vars=n_vars, n_comps=n_comps)
    covariance = BYTES * n_vars**2
    chosen: str = method
    if method == "auto":
        fits = n_vars <= COVARIANCE_GENES and covariance <= memory
        chosen = "sparse_cov" if fits else "incremental"
    kept, copies = (covariance, 64) if chosen == "sparse_cov" else (BYTES * n_vars * n_comps, 32)
    cells = max(1, int((memory - kept) / (BYTES * n_vars * copies)))
    return _between(1 << (cells.bit_length() - 1), min_chunk, max_chunk), chosen


def _memory(available_memory_gb: float | None) -> float:
    if available_memory_gb is None:
        return available_memory()
    return positive("available_memory_gb", available_memory_gb) * GB


def _fraction(memory_fraction: float) -> float:
    fraction = positive("memory_fraction", memory_fraction)
    if fraction > 1:
        raise InputError(f"memory_fraction is {memory_fraction!r}; give a number up to 1")
    return fraction


def _sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        whole(name, value, 1)


def _between(chunk: float, least: int, most: int) -> int:
    if whole("min_chunk", least, 1) > whole("max_chunk", most, 1):
        raise InputError(f"min_chunk={least} is above max_chunk={most}")
    return int(min(max(chunk, least), most))
