"""Citewell answers questions from your own documents and proves every sentence with a checked citation.

Importing this package reads no environment, opens no socket and loads no model; `engine.build` does.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("citewell")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0"
