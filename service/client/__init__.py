"""A site over HTTPS: the same handler as on COINSTAC, with a journal of its own; nothing that comes is believed."""
