"""Nodes as Docker containers: one for each site and one for the centre, shut in as far as the protocol allows."""
