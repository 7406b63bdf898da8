"""Runs the tests of this folder in this process."""

import sys
from pathlib import Path

import pytest

import dbkit.load  # noqa: F401  # first, as it patches the process

files = [str(file) for file in Path(__file__).parent.glob("[a-z]*.py")]
sys.exit(pytest.main([*files, "--noconftest", "-q", "-p", "no:cacheprovider"]))
