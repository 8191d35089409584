"""The API under /v1: thin routes over the cases, and the document that describes them."""
