"""Freed memory goes back to the system, in this process and in those that it starts."""

import subprocess
import sys

_CHURN = """
import os, sys
import numpy as np, psutil, pyarrow as pa
from pipelines.memory import give_back_memory
if sys.argv[1] == "set":
    give_back_memory()
def held():
    return psutil.Process().memory_full_info().uss
pa.table({"a": np.ones(9)}).take(pa.array([1]))  # loads what it needs
before = held()
for size in (2, 4, 8, 16, 31):
    # Freed in another order than taken, with small blocks between: what a heap cannot shrink from.
    blocks = [(np.ones(size << 20, np.uint8), bytes(5000)) for _ in range(64 // size)]
    keep = [small for _, small in blocks]
    pa.table({"a": np.ones(size << 17)}).take(pa.array(np.arange(0, size << 17, 2)))
    del blocks
print(held() - before, os.environ.get("ARROW_DEFAULT_MEMORY_POOL"), pa.default_memory_pool().backend_name)
"""


def test_what_is_freed_is_given_back_and_children_inherit_it() -> None:
    answer = subprocess.run([sys.executable, "-c", _CHURN, "set"], capture_output=True, text=True, check=True)
    grown, inherited, pool = answer.stdout.split()
    assert int(grown) < 20_000_000
    assert (inherited, pool) == ("system", "system")
