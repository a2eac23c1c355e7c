"""On import, takes from the start of a training what needs longest there; nothing else changes.

mmengine has yapf format the same config five times, and looks through all objects of the process
for garbage with each data set: half and a quarter of the time of a training of some iterations.
"""
import functools
import gc

from yapf.yapflib import yapf_api

FORMATTED = {}
format_code = yapf_api.FormatCode


@functools.wraps(format_code)
def format_once(text, *args, **kwargs):
    key = text, repr((args, kwargs))
    if key not in FORMATTED:
        FORMATTED[key] = format_code(text, *args, **kwargs)
    return FORMATTED[key]


yapf_api.FormatCode = format_once
gc.collect()
gc.freeze()  # what is imported by now is no garbage
