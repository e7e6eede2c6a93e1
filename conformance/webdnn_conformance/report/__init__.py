"""The results of a run as files: JSON, JUnit XML, the ONNX backend scoreboard's form, and a page for people."""

from webdnn_conformance.report.page import refuse_foreign, write_html
from webdnn_conformance.report.records import write_json
from webdnn_conformance.report.xml import write_junit, write_scoreboard

__all__ = ["refuse_foreign", "write_html", "write_json", "write_junit", "write_scoreboard"]
