"""Packaging of flow-operator.

The sources stand under ``operator/``, which is a source root and not a package: a package of
that name would shadow the standard library's ``operator`` module.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"$',
    (HERE / "operator/flow_operator/__init__.py").read_text(encoding="utf-8"),
    re.MULTILINE,
).group(1)

TEST = [
    "docker>=7.1,<8",
    "honcho>=2,<3",  # what was imported is run under the original, too
    "hypothesis>=6.100,<7",
    "import-linter>=2.1,<3",
    "openapi-spec-validator>=0.7.1,<1",
    "promql-parser>=0.5,<1",
    "pytest>=8.2,<10",
    "pytest-timeout>=2.3,<3",
    "pytest-xdist>=3.6,<4",
    "trustme>=1.1,<2",
    "schemathesis>=4.20,<5",
    "selenium>=4.25,<5",
    "supervisor>=4.3,<5",
]

setup(
    name="flow-operator",
    version=VERSION,
    description="Runs data flows declaratively: drains, supervises, adopts, tells what it sees.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"": "operator"},
    packages=find_packages(where="operator"),
    package_data={"flow_operator": ["py.typed", "api/viewer/*", "web/*"]},
    install_requires=[
        "bottle>=0.13,<0.14",
        "click>=8.1,<9",
        "httpx>=0.27,<0.29",
        "jsonschema>=4.21,<5",
        "msgspec>=0.19,<1",
        "prometheus-client>=0.23,<1",
        "pyyaml>=6.0.1,<7",
        "rich>=13.7,<16",
        "structlog>=24.1,<27",
        "tenacity>=9.0,<10",
        "waitress>=3.0.1,<4",
        "watchdog>=4.0,<8",
    ],
    extras_require={
        "bench": ["matplotlib>=3.8,<4"],
        "container": ["docker>=7.1,<8", "requests>=2.31,<3"],
        "kubernetes": ["kubernetes>=30"],
        "test": TEST,
        "dev": [
            *TEST,
            "mypy>=1.11,<3",
            "ruff>=0.6,<1",
            "types-docker>=7.1",
            "types-PyYAML>=6.0.12",
            "types-jsonschema>=4.21",
            "uv>=0.5,<1",
        ],
    },
    entry_points={
        "console_scripts": [
            "flowd = flow_operator.flowd:main",
            "flowctl = flow_operator.flowctl.main:main",
            "flowd-health = flow_operator.shim.health:main",
            "flowd-init = flow_operator.shim.init:main",
        ]
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
)
