"""A site's own machine: the scans below one folder, importing them, and what runs have left there; nothing is sent."""
