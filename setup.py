"""Compile the Cython kernels; everything else about the package stands in pyproject.toml.

``CRISPYX_DEBUG=1`` builds with bounds checks and debug symbols instead of full optimisation,
``CRISPYX_SANITIZE=address,undefined`` (or ``thread``) with the sanitizers of the compiler; the
targets ``check-bounds``, ``check-address`` and ``check-threads`` of the Makefile do so beside the
tree and run the tests of the kernels.
OpenMP is used when a small program with it compiles, links and runs; without it the same kernels
run on one thread and give the same numbers.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("CRISPYX_DEBUG", "0") not in ("", "0")
SANITIZE = os.environ.get("CRISPYX_SANITIZE", "")
OPENMP_PROGRAM = """
#include <omp.h>
int main(void) { int n = 0;
#pragma omp parallel reduction(+:n)
n += 1;
return n >= 1 ? 0 : 1; }
"""
# -ffp-contract=off: a fused multiply-add on one machine and not on another would change numbers.
COMPILE_ARGS = ["-O1", "-g"] if DEBUG or SANITIZE else ["-O3"]
LINK_ARGS = []
if SANITIZE:
    LINK_ARGS = [f"-fsanitize={SANITIZE}"]
    COMPILE_ARGS += [*LINK_ARGS, "-fno-omit-frame-pointer"]
COMPILE_ARGS += ["-ffp-contract=off", "-fno-math-errno", "-Wno-unused-function"]


def openmp_flags(compiler):
    """Return (compile, link) flags of the first OpenMP variant that works, else empty lists."""
    variants = [(["-fopenmp"], ["-fopenmp"])]
    if sys.platform == "darwin":
        variants = [(["-Xpreprocessor", "-fopenmp"], ["-lomp"]), *variants]
    for compile_flags, link_flags in variants:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(OPENMP_PROGRAM)
            try:
                objects = compiler.compile(
                    [str(source)], output_dir=folder, extra_postargs=compile_flags
                )
                program = str(Path(folder, "probe"))
                compiler.link_executable(objects, program, extra_postargs=link_flags)
                if subprocess.run([program], check=False).returncode == 0:
                    return compile_flags, link_flags
            except Exception as error:  # noqa: BLE001 - each compiler has exceptions of its own
                print(f"OpenMP probe {compile_flags}: {error}", file=sys.stderr)
    print("OpenMP not found: kernels are built for one thread", file=sys.stderr)
    return [], []


class BuildKernels(build_ext):
    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def build_extensions(self):
        compile_flags, link_flags = openmp_flags(self.compiler)
        for extension in self.extensions:
            extension.extra_compile_args += COMPILE_ARGS + compile_flags
            extension.extra_link_args += link_flags + LINK_ARGS
        super().build_extensions()


kernels = [
    Extension(
        f"crispyx._kernels.{path.stem}",
        [path.as_posix()],
        include_dirs=["crispyx/_kernels"],
        depends=["setup.py"],
    )
    for path in sorted(Path("crispyx/_kernels").glob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        kernels,
        # Directives are part of the C code, which is not made anew when they change.
        build_dir="build/cython-checked" if DEBUG else "build/cython",
        compiler_directives={
            "language_level": "3",
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
    cmdclass={"build_ext": BuildKernels},
)
