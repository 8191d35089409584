"""A site's scans: one SQLite file of compressed blocks, made once from MRI and read sub-volume by sub-volume.

`store.open_store` reads a database, `ingest.import_table` makes one, `sampling.PatchSampler` turns one into batches.
"""
