"""The namespaces of the public API: ``cx.pp``, ``cx.pb``, ``cx.tl`` and ``cx.pl``."""

from crispyx._namespaces.plotting import _PlottingNamespace
from crispyx._namespaces.preprocessing import _PreprocessingNamespace
from crispyx._namespaces.pseudobulk import _PseudobulkNamespace
from crispyx._namespaces.tools import _ToolsNamespace

__all__ = [
    "_PlottingNamespace",
    "_PreprocessingNamespace",
    "_PseudobulkNamespace",
    "_ToolsNamespace",
]
