"""How a database is made: images found, read and conformed, their labels mapped, people split, scans written."""
