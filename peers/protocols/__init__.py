"""How peers come to one model: a small generator each, its paper and its equation on top."""
