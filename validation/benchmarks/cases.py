"""Which operations are compared with which tools, on which inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from validation.benchmarks.screens import PAIR, STREAMED

# The calls that crispat's authors published: compared with, not run.
PUBLISHED = "published"
# A screen too large for the others.
ALONE = "alone"
WITHOUT_PROCESS = (PUBLISHED, ALONE)
ALL_PEERS = (
    "crispyx",
    "illico",
    "pdex",
    "scanpy",
    "pydeseq2",
    "crispat",
    "kaichi",
    *WITHOUT_PROCESS,
)
RULES = ("umi", "max", "ratio", "quantiles")
MIXTURES = (
    "poisson_gauss",
    "gauss",
    "poisson",
    "neg_binomial",
    "binomial",
    "beta2",
    "beta3",
)
MODELS = (*RULES, *MIXTURES)
# crispat calls at another posterior, or predicts at another exposure than it fits.
CRISPAT_RULE: Mapping[str, Mapping[str, Any]] = {
    "poisson_gauss": {"min_confidence": 0.5},
    "gauss": {"min_confidence": 0.5},
    "neg_binomial": {"exposure": "crispat"},
    "poisson": {"exposure": "crispat"},
    "binomial": {"min_confidence": 0.5},
}
# `max` was published for cells with 3 UMIs or more.
PUBLISHED_RULE = {**CRISPAT_RULE, "max": {"umi_threshold": 3}}
# Guides that crispat gets to fit in a minute or two: seconds a guide, or a minute.
CRISPAT_GUIDES = {"poisson_gauss": "schraivogel-12"} | dict.fromkeys(
    ("poisson", "neg_binomial", "binomial"), "schraivogel-2"
)
Identity = tuple[str, str, str, str, int]
EXPRESSION_THREADS, GUIDE_THREADS = 2, 1


@dataclass(frozen=True)
class Case:
    """One operation on one input, for one peer.

    Attributes
    ----------
    name : str
        Operation and input in words.
    operation : str
        Key of the adapters.
    data : str
        Screen or guide set.
    file : str
        Key of ``Screen.files``; ``"guides"`` for guide counts.
    peer : str
        The other tool.
    threads : int
        Threads of both.
    parameters : mapping
        Parameters of the job beyond columns and labels.
    slow : bool
        The peer takes minutes: run only when asked for.
    """

    name: str
    operation: str
    data: str
    file: str
    peer: str
    threads: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False

    @property
    def identity(self) -> Identity:
        """What is compared, however often."""
        return self.operation, self.name, self.data, self.peer, self.threads


# Arguments of the negative binomial test that both versions of crispyx document.
EACH = {"both": {"size_factor_scope": "per_comparison", "dispersion_scope": "per_comparison"}}
# PyDESeq2's own size factors rest on genes that all cells express: both sides get total counts.
REPEATED = {"ours": {"preset": "pydeseq2"}, "total_size_factors": True}
LOG, RAW = {"is_log1p": True}, {"is_log1p": False}
# Name, file, parameters and peers of every case on expression.
EXPRESSION: Mapping[str, tuple[tuple[str, str, Mapping[str, Any], tuple[str, ...]], ...]] = {
    "wilcoxon": (
        ("log CSR", "log_csr", LOG, ("crispyx", "illico", "pdex", "scanpy")),
        ("log CSC", "log_csc", LOG, ("crispyx", "illico")),
        ("counts CSR", "counts", RAW, ("illico",)),
    ),
    "t-test": (("log CSR", "log_csr", LOG, ("crispyx", "scanpy")),),
    "nb-glm": (
        ("whole screen, counts CSR", "counts", {}, ("crispyx",)),
        ("each comparison, counts CSR", "counts", EACH, ("crispyx",)),
    ),
    "qc": (("counts CSR", "counts", {}, ("crispyx", "scanpy")),),
    "normalize": (("counts CSR", "counts", {}, ("crispyx", "scanpy")),),
    "convert": (("CSR to CSC", "log_csr", {}, ("crispyx", "scanpy")),),
    "pseudobulk": (("sums, counts CSR", "counts", {}, ("crispyx", "scanpy")),),
    "pca": (("50 components, log CSR", "log_csr", {}, ("crispyx", "scanpy")),),
}
OPERATIONS = (*EXPRESSION, "guides")
# These take from a minute to hours.
SLOW = {
    ("S", "wilcoxon", "scanpy"),
    ("M", "wilcoxon", "pdex"),
    ("M", "wilcoxon", "scanpy"),
    ("S", "nb-glm", "crispyx"),
    ("M", "nb-glm", "crispyx"),
}
SLOW_MODELS = {"neg_binomial"}


# What crispyx does alone, in bounded memory, on a screen too large for the others.
LIMITED = {"memory_limit_gb": 4}
LARGE: Mapping[tuple[str, str], tuple[tuple[str, Mapping[str, Any]], ...]] = {
    ("L", "wilcoxon"): (("log CSR, within 4 GB", LOG | {"ours": LIMITED}),),
    ("K562", "nb-glm"): (
        ("documented default, within 4 GB", {"ours": LIMITED}),
        ("calibrated, within 4 GB", {"ours": LIMITED | {"preset": "calibrated"}}),
    ),
}


def expression_cases(operation: str, screen: str, threads: int | None = None) -> Iterator[Case]:
    """Yield the cases of an operation on one screen."""
    if screen in STREAMED:
        used = threads or EXPRESSION_THREADS
        for name, parameters in LARGE.get((screen, operation), ()):
            file = STREAMED[screen]
            yield Case(f"{operation}, {name}", operation, screen, file, ALONE, used, parameters)
        return
    for name, file, parameters, peers in EXPRESSION[operation]:
        for peer in peers:
            yield Case(
                name=f"{operation}, {name}",
                operation=operation,
                data=screen,
                file=file,
                peer=peer,
                threads=threads or EXPRESSION_THREADS,
                parameters=parameters,
                slow=(screen, operation, peer) in SLOW,
            )


def pair_case(threads: int | None = None) -> Case:
    """Return one perturbation against the control, beside PyDESeq2."""
    used = threads or EXPRESSION_THREADS
    name = "one comparison, PyDESeq2's estimates"
    return Case(name, "nb-glm", PAIR, "counts", "pydeseq2", used, REPEATED)


def guide_cases(threads: int | None = None) -> Iterator[Case]:
    """Yield every model against kaichi and crispat, and against crispat's published calls."""
    for model in MODELS:
        for data in ("schraivogel", "simulated-2000"):
            slow = model in SLOW_MODELS and data != "schraivogel"
            yield _guide_case(model, data, "kaichi", threads, slow)
        data = CRISPAT_GUIDES.get(model, "schraivogel")
        yield _guide_case(model, data, "crispat", threads, data == "schraivogel-2")
        yield _guide_case(model, "schraivogel", PUBLISHED, threads, slow=False)


def _guide_case(model: str, data: str, peer: str, threads: int | None, slow: bool) -> Case:
    rule = {"kaichi": {}, PUBLISHED: PUBLISHED_RULE}.get(peer, CRISPAT_RULE).get(model, {})
    return Case(
        name=model,
        operation="guides",
        data=data,
        file="guides",
        peer=peer,
        threads=threads or GUIDE_THREADS,
        parameters={"model": model, "ours": dict(rule)},
        slow=slow,
    )


def cases(operation: str, screens: tuple[str, ...], threads: int | None = None) -> Iterator[Case]:
    """Yield the cases of an operation, or of ``"all"``."""
    for chosen in OPERATIONS if operation == "all" else (operation,):
        if chosen == "guides":
            yield from guide_cases(threads)
        else:
            for screen in screens:
                yield from expression_cases(chosen, screen, threads)
        if chosen == "nb-glm":
            yield pair_case(threads)
