"""Write the report of everything that was run."""

from pipeline.core.params import load
from pipeline.report.page import write_report
from stages import run


def report() -> None:
    """Write data/report/index.html, one file that opens in any browser."""
    write_report(load())


if __name__ == "__main__":
    run(report)
