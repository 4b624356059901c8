"""How a process ends: all of Python's own end is kept, what C++ does after it is left out."""

import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

# A handler that C runs at exit and that kills the process: what a thread of a native library may do to it.
CRASHES_AT_EXIT = """
    import ctypes
    libc = ctypes.CDLL(None)
    libc.on_exit(ctypes.cast(libc.abort, ctypes.c_void_p), None)
"""


def ended(code: str) -> subprocess.CompletedProcess[str]:
    """A process that ran some code after which a plain exit would crash."""
    program = textwrap.dedent(CRASHES_AT_EXIT) + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=170)


def test_a_plain_exit_crashes_and_leaving_does_not() -> None:
    assert ended("print('done')").returncode < 0
    left = ended("from pipelines.exits import leave; print('done'); leave(3)")
    assert (left.returncode, left.stdout) == (3, "done\n")


def test_what_python_does_at_its_end_is_done(tmp_path: Path) -> None:
    left = ended(
        f"""
        import atexit, tempfile, threading, time, weakref
        from concurrent.futures import ThreadPoolExecutor
        from pipelines.exits import leave
        atexit.register(print, "registered")
        folder = tempfile.TemporaryDirectory(dir={str(tmp_path)!r})
        file = open({str(tmp_path / "late")!r}, "w")
        def late():
            time.sleep(0.2)
            file.write("late")
            file.close()
        threading.Thread(target=late).start()
        pool = ThreadPoolExecutor(1)
        pool.submit(time.sleep, 0.1)
        leave(0)
        """
    )
    assert (left.returncode, left.stdout) == (0, "registered\n"), left.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["late"], "the temporary folder is gone"
    assert (tmp_path / "late").read_text() == "late"


def test_output_that_is_lost_is_told_by_the_status() -> None:
    left = ended("import sys; from pipelines.exits import leave; print('x'); sys.stdout.close(); leave(0)")
    assert left.returncode == 120


def test_the_command_line_leaves_so_once_ray_is_loaded() -> None:
    told = ended(
        """
        import sys
        from pipelines.__main__ import command
        assert "ray" in sys.modules
        sys.argv = ["dcgan", "no-such-command"]
        command()
        """
    )
    assert told.returncode == 2
    assert "No such command" in told.stderr


def test_that_is_what_dcgan_runs() -> None:
    (script,) = entry_points(group="console_scripts", name="dcgan")
    assert script.value == "pipelines.__main__:command"
