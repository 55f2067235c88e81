"""Reading, copying and normalizing .h5ad files block by block (``crispyx.data``)."""

from crispyx._io.paths import resolve_data_path, resolve_output_path
from crispyx._jobs.labels import resolve_control_label
from crispyx.data.ondisk import AnnData, load_obs, load_var, read_backed, read_h5ad_ondisk

__all__ = [
    "AnnData",
    "load_obs",
    "load_var",
    "read_backed",
    "read_h5ad_ondisk",
    "resolve_control_label",
    "resolve_data_path",
    "resolve_output_path",
]
