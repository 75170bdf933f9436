"""Packaging of kdbench."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

EXTRAS = {
    "dev": [
        "pytest>=7",
        "pytest-cov>=4",
        "pytest-xdist>=3",
        "hypothesis>=6",
        "ruff>=0.4",
        "mypy>=1.8",
        "onnx>=1.15",
        "onnxruntime>=1.17",
        "onnxscript>=0.1",
        "optuna>=3.2",
        "setuptools>=64",
        "shtab>=1.6",
        "types-PyYAML",
        "types-tabulate",
    ],
    "docs": ["mkdocs-material>=9.5", "mkdocstrings-python>=1.10"],
    "completion": ["shtab>=1.6"],
    "ray": ["ray[default]>=2.9"],
    "slurm": ["submitit>=1.5"],
    "datasets": ["datasets>=2.14"],
    "onnx": ["onnx>=1.15", "onnxscript>=0.1", "onnxruntime>=1.17"],
    "sweep": ["optuna>=3.2"],
    "tensorboard": ["tensorboard>=2.12"],
    "trackers": ["wandb>=0.20", "mlflow-skinny>=2.9"],
}


class BuildWithConfigs(build_py):
    """Puts the configurations and grids of the source tree into the package, where ``kdbench.paths`` finds them."""

    def run(self):
        """Build, then copy; an editable installation uses the source tree's own."""
        super().run()
        if not self.editable_mode:
            here = Path(__file__).resolve().parent
            shutil.copytree(here / "configs", Path(self.build_lib) / "kdbench" / "configs", dirs_exist_ok=True)


setup(
    name="kdbench",
    version="0.1.0",
    description="Knowledge distillation methods, compared under equal conditions",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["kdbench", "kdbench.*"]),
    package_data={
        "kdbench": [
            "catalogue.json",
            "bench/paper/*.csv",
            "bench/methods/costs.json",
            "scaffold/templates/*",
            "bench/pictures/templates/*",
            "py.typed",
        ]
    },
    cmdclass={"build_py": BuildWithConfigs},
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "timm>=1.0.15",
        "yacs>=0.1.8",
        "numpy>=1.26",
        "scipy>=1.11",
        "pandas>=2.1",
        "tabulate>=0.9",
        "pillow>=9.4",
        "filelock>=3.12",
        "scikit-learn>=1.3",
        "matplotlib>=3.7",
        "rich>=13",
        "safetensors>=0.4",
        "PyYAML>=6",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["kdbench = kdbench.cli.main:main"]},
)
