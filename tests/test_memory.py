"""Memory that runs out and memory that must not grow.

Every allocation of a call fails once: a small library in front of malloc and mmap counts a thread's requests and
refuses the n-th, for n = 1, 2, ... until the call needs no more.  Each time there is a MemoryError or the right result,
no buffer stays in use, no operand gains a reference, and the same call made again is right.  Then limits on address
space, and many calls without growth.
"""

import shutil
import subprocess
import sys
import sysconfig

import pytest
from helpers import HAS_CORE, SCRIPTS, backends, built, output_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as Linux does it")

needs_core = pytest.mark.skipif(not HAS_CORE, reason="needs the compiled core")
needs_shim = pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="tried on x86-64 with glibc only")


@pytest.fixture(params=["cython", "numba"])
def backend(request):
    """Every compiled backend."""
    if why := backends.missing(request.param):
        pytest.skip(why)
    return request.param


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler")
    library = str(tmp_path_factory.mktemp("shim") / "shim.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-w", SCRIPTS / "shim.c", "-o", library], check=True)
    return library


@needs_core
@needs_shim
def test_every_allocation_fails_once(backend, shim):
    assert int(output_of("memory.py", "every_allocation_fails_once", backend, LD_PRELOAD=shim)) >= 4


@needs_core
@needs_shim
def test_small_objects_fail_as_well(shim):
    """Python's own: no allocator of ours stays in force, and dy survives a call that was to write dx there."""
    assert output_of("memory.py", "small_objects_fail", LD_PRELOAD=shim, PYTHONMALLOC="malloc") == "right"


@needs_core
@needs_shim
def test_nothing_can_be_unmapped(shim):
    """The kernel may refuse to split a mapping: a block keeps its length then, and its pages go back all the same."""
    assert output_of("memory.py", "nothing_can_be_unmapped", LD_PRELOAD=shim) == "right"


@needs_core
@needs_shim
def test_every_allocation_of_the_first_team_fails_once(shim):
    """A thread's own memory included; a team in which one fails is smaller, and the process goes on."""
    assert int(output_of("memory.py", "first_team_fails", LD_PRELOAD=shim)) > 4


@needs_core
def test_no_thread_can_be_started(backend):
    """The call runs serially (libgomp would end the process), and the next one with a team again.

    Once in some hundred runs something gives memory back just then, and a thread can be started after all.
    """
    try:
        said = output_of("memory.py", "no_thread_can_be_started", backend)
    except AssertionError:
        said = output_of("memory.py", "no_thread_can_be_started", backend)
    assert said == "right"


def test_limited_address_space():
    """MemoryError when it is used up, and all is well when results are dropped."""
    assert output_of("memory.py", "limited_address_space") == "right"


@needs_core
def test_single_terms_need_no_sums():
    """A full alpha of 2 million elements, with 24 MB of address space; 64 sums for each would take 1 GB."""
    assert output_of("memory.py", "single_terms_need_no_sums") == "right"


def test_calls_do_not_grow(backend):
    """10**6 small calls and 10**3 large ones of many sizes."""
    small = 10**6 if built.driver else 10**4
    assert int(output_of("memory.py", "many_calls", backend, small, 1000)) < 32 << 20
