"""What the tests of containers need to be seen, also where they were not run."""


def pytest_terminal_summary(terminalreporter):
    """Say loudly how many tests had no engine or no image, and which of the two was missing."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "test_docker.py" in report.nodeid]
    for reason in sorted({report.longrepr[2].removeprefix("Skipped: ") for report in skipped}):
        count = sum(report.longrepr[2].endswith(reason) for report in skipped)
        terminalreporter.write_line(f"##### {count} TESTS WITH REAL CONTAINERS WERE NOT RUN: {reason}. #####", red=True)
