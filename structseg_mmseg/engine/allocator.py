"""The C library's allocator, where training runs on a CPU."""
import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> None:
    """Let this process keep what it frees for its next iteration.

    glibc hands large blocks back to the system as soon as they are freed, and the system clears
    every page before it hands it out again, which costs a CPU 6 to 10 percent of an iteration. C
    libraries without these settings are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # the most that fits an int
