"""Federated against pooled, single sites, a U-Net and the earlier prototype, on the OASIS-25 people.

Real T1 scans with manual labels. Run, in an environment with the extras `benchmarks` and `figures`::

    python -m benchmarks.oasis --data FOLDER [--work FOLDER] [--spacing 2] [--seeds 3] [--effects none contrast ...]

FOLDER holds `subjects.csv` and the scans it names (the data set's own README says its licence; nothing of it is
shipped). Sites and split are those of subjects.csv: four sites of four training people and one for validation, and five
test people, 18 to 83 years old. The four sites are one scanner's people divided up, so "multi-site" here is simulated.

MONAI 1.6 asks for torch 2.8 or newer and brings no other torch; with an older MONAI install it with `--no-deps`.
"""
