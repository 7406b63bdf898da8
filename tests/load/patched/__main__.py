"""Runs the tests of this folder in this process."""

import sys
from pathlib import Path

import pytest

import dbkit.load  # noqa: F401  # first, as it patches the process

files = [str(file) for file in Path(__file__).parent.glob("[a-z]*.py")]
arguments = [*files, "--noconftest", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]
del sys.argv[1:]  # Locust would read them
sys.exit(pytest.main(arguments))
