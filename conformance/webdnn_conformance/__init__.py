"""Conformance: every case of the suites on every backend, in a real engine, judged by the reference and the suites."""

from webdnn_conformance.case import Case, DataSet, Facts

__all__ = ["Case", "DataSet", "Facts"]
