"""Builds the native kernels into the package where a C++ compiler exists; without one it installs all the same."""

import importlib.util
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = Path("computation/model/native")


class BuildKernels(build_ext):
    """Runs the package's own build script, which compiles one object per instruction set."""

    def run(self) -> None:
        """Compile into the build folder, or beside the sources for an editable install."""
        build = _script()
        in_place = self.inplace or getattr(self, "editable_mode", False)
        try:
            build.build(NATIVE.resolve() if in_place else Path(self.build_lib).resolve() / NATIVE)
        except build.BuildError as error:
            self.warn(f"the native kernels are left out, PyTorch will compute: {error}")

    def get_outputs(self) -> list[str]:
        """Name no files: the library may be missing, and the build folder is copied as a whole."""
        return []

    def get_output_mapping(self) -> dict[str, str]:
        """Name no files, as above."""
        return {}


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_kernels", NATIVE / "build.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(NATIVE / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup(
    ext_modules=[Extension("computation.model.native.kernels", sorted(map(str, NATIVE.glob("*.cpp"))))],
    cmdclass={"build_ext": BuildKernels},
)
