"""What is kept: the scan database's file, its blocks and records, opening, migration, and the prototype's table."""
