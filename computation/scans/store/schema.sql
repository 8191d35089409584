-- The scan database: one SQLite file a site, schema version 2.
--
-- The file is written once (writer.py), vacuumed, and from then on only read, immutable, even from a read-only mount.
-- PRAGMA application_id is 0x4D4E6574 ("MNet") and PRAGMA user_version the schema version; schema.py checks both.
-- Nothing in it is pickled: numbers are SQL numbers, small structures are JSON text, voxels are compressed blocks.

-- Facts about the whole file; every value is JSON:
--   label_set, label_names, label_colours   the classes; a label voxel's value is an index into label_names
--   normalisation                           "quantile", "min-max", "z-score" or "none"; see normalise.py
--   block_side                              side of the cubic blocks in voxels; blocks at the upper edges are smaller
--   split                                   how the subjects were divided: fractions and seed, or "given"
--   provenance                              versions and parameters of the import; never an absolute path
--   skipped                                 the rows that the import left out, with the reason
--
-- Version 1 had no column `notes`, only the codec ``zstd``, and a block's CRC-32 started from 0; it is still read.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- A person is in exactly one part of the split: the schema makes anything else impossible to write.
CREATE TABLE subjects (
    subject TEXT PRIMARY KEY,
    split   TEXT NOT NULL CHECK (split IN ('train', 'valid', 'test'))
) WITHOUT ROWID;

-- One row per session of a subject.
CREATE TABLE scans (
    scan    INTEGER PRIMARY KEY,
    subject TEXT NOT NULL REFERENCES subjects (subject),
    session TEXT NOT NULL,
    shape   TEXT NOT NULL,  -- JSON [i, j, k], voxels
    affine  TEXT NOT NULL,  -- JSON 4 x 4, voxel indices to RAS+ millimetres
    low     REAL NOT NULL,  -- normalised = (value - low) / (high - low), value in the image's own units
    high    REAL NOT NULL,
    native  TEXT NOT NULL,  -- JSON: shape, affine, form codes and units of the source, to carry a prediction back
    source  TEXT NOT NULL,  -- JSON: SHA-256 of each source file
    notes   TEXT NOT NULL,  -- JSON: cut, the share of the head outside the grid; warnings, what the import found odd;
                            -- stripped, whether all outside the brain is 0 (missing or null: not known)
    sha256  TEXT NOT NULL,  -- over the columns above and every voxel; see fingerprint.py
    UNIQUE (subject, session)
);

-- The voxel arrays of a scan: its image and, when it has one, its label map on the same grid.
CREATE TABLE volumes (
    scan       INTEGER NOT NULL REFERENCES scans (scan),
    kind       TEXT NOT NULL CHECK (kind IN ('image', 'label')),
    dtype      TEXT NOT NULL,     -- NumPy name of the stored voxels, little-endian
    slope      REAL NOT NULL,     -- value = stored * slope, so that a stored zero is always zero
    codec      TEXT NOT NULL,     -- how a block is filtered and compressed; see filters.py
    first      INTEGER NOT NULL,  -- key of the volume's first block; the others follow in C order
    foreground BLOB NOT NULL,     -- little-endian uint32 per block: how many of its voxels are not zero
    PRIMARY KEY (scan, kind)
) WITHOUT ROWID;

-- The blocks of all volumes. An all-zero block holds no bytes.
CREATE TABLE blocks (
    block INTEGER PRIMARY KEY,
    crc32 INTEGER NOT NULL,  -- CRC-32 of "<scan>/<kind>/<number in the volume>" and data, checked before decompression
    data  BLOB NOT NULL
);
