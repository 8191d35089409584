"""A consortium on one machine: the containers' own processes, COINSTAC's own protocol, and nothing else."""
