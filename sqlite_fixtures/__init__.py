"""Demo data: scan databases made from a template."""
