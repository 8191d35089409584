"""A disk that fills up, without one."""

import resource
from contextlib import contextmanager


@contextmanager
def small_files(size):
    """Let this process write no file beyond `size` bytes: the rest of a write fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
