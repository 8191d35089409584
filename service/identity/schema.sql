CREATE TABLE accounts (
  sub TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  key TEXT NOT NULL UNIQUE,      -- the name as it is compared
  roles TEXT NOT NULL,           -- words with blanks between them
  password TEXT NOT NULL,        -- Argon2id; empty where only site credentials are used
  disabled INTEGER NOT NULL,
  made INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
  id TEXT PRIMARY KEY,
  sub TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
  refresh TEXT NOT NULL UNIQUE,  -- SHA-256 of the token
  made INTEGER NOT NULL,
  until INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_sub ON sessions (sub);
CREATE INDEX sessions_until ON sessions (until);

CREATE TABLE accesses (
  token TEXT PRIMARY KEY,        -- SHA-256 of the token
  session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
  until INTEGER NOT NULL
) STRICT;
CREATE INDEX accesses_session ON accesses (session);
CREATE INDEX accesses_until ON accesses (until);

CREATE TABLE credentials (
  id TEXT PRIMARY KEY,
  sub TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
  label TEXT NOT NULL,
  token TEXT NOT NULL UNIQUE,    -- SHA-256 of the token
  made INTEGER NOT NULL,
  revoked INTEGER NOT NULL
) STRICT;
CREATE INDEX credentials_sub ON credentials (sub);

CREATE TABLE attempts (
  key TEXT PRIMARY KEY,          -- SHA-256 of what was tried: a password can be typed where the name belongs
  failures INTEGER NOT NULL,
  last INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_last ON attempts (last);
