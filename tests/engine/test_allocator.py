import subprocess
import sys

CODE = """
import resource, sys
import torch
from structseg_mmseg.engine.allocator import keep_freed_memory
if sys.argv[1] == 'keep':
    keep_freed_memory()
def iteration():
    return [torch.ones(2**24) for _ in range(3)]
for _ in range(3):
    iteration()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    iteration()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_not_faulted_in_again():
    """Blocks of 64 MB; of up to 32 MB glibc learns to keep by itself."""
    faults = {way: int(subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', CODE, way], check=True, capture_output=True,
        text=True).stdout.split()[-1]) for way in ('keep', 'default')}
    assert faults['keep'] < 0.5 * faults['default'], faults
