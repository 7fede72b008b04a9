import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies configs/ and LICENSE into the package, as Detectron2 does; editable installations use configs/ itself."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib, "centernet_d2")
            shutil.copytree("configs", package / "model_zoo" / "configs", dirs_exist_ok=True)
            shutil.copyfile("LICENSE", package / "LICENSE")  # also for the wheel that install-detectron2 makes


# ONNX Runtime 1.25 is the first with deformable convolution on a CPU.
EXPORT = ["onnx>=1.20", "onnxruntime>=1.25", "onnxscript>=0.7"]

# Detectron2 is not on PyPI, so naming it here would make every `pip install` fail: `centernet-d2
# install-detectron2` installs it.
setup(
    name="centernet_d2",
    version="0.1.0",
    description="CenterNet-family detection on Detectron2: objects as points",
    license="Apache-2.0",
    packages=find_packages(include=["centernet_d2", "centernet_d2.*"]),
    package_data={"centernet_d2": ["py.typed", "model_zoo/catalog.toml", "model_zoo/weights/*"]},
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={"console_scripts": ["centernet-d2 = centernet_d2.cli:main"]},
    python_requires=">=3.11",
    install_requires=[
        # Older versions can be made to run code by a file, in spite of weights_only=True.
        "torch>=2.10",
        "torchvision>=0.25",
        "numpy>=1.26",
        "opencv-python-headless>=4.8",
        "Pillow>=10.1",
        "fvcore>=0.1.5.post20221221,<0.1.6",
        "iopath>=0.1.7,<0.1.10",
        "pycocotools>=2.0.7",
        "faster-coco-eval>=1.6",
        # What Detectron2's Python files import.
        "cloudpickle",
        "hydra-core>=1.1",
        "matplotlib>=3.7",
        "omegaconf>=2.1,<2.4",
        "packaging",
        "setuptools<81",  # pkg_resources, in detectron2.model_zoo
        "tabulate",
        "tensorboard",
        "termcolor>=1.1",
        "tqdm>4.29",
        "yacs>=0.1.8",
    ],
    extras_require={
        "safetensors": ["safetensors>=0.4"],
        # MATLAB files: AFLW's published split, 300W's published boxes.
        "faces": ["scipy>=1.11"],
        "tracking": ["motmetrics>=1.4"],
        "export": EXPORT,
        "supervision": ["supervision>=0.25"],
        "sahi": ["sahi>=0.11.36"],
        "dev": ["safetensors", "hypothesis", "motmetrics", "mypy", "pytest", "pytest-xdist", "ruff", *EXPORT],
    },
)
