"""The self-contained page that each site and the centre get at the end of a run."""

from computation.report.data import Prediction, ReportData, Scores
from computation.report.page import write_centre_report, write_site_report

__all__ = ["Prediction", "ReportData", "Scores", "write_centre_report", "write_site_report"]
