"""CloudMesh: a requester finds providers through a bootstrap node, and one of these leads the others' learning."""
