"""A site's scans: one SQLite file of compressed blocks, made once from MRI and read sub-volume by sub-volume.

`store.opening.open_store` reads a database, `making.ingest.import_scans` makes one, `drawing.sampling.PatchSampler`
turns one into batches.
"""
