"""The package among other people's tools and machines: what imports, reloads, freezes or introspects it, what it leaves
alone in a process, and how it reads the limits that a system sets.

Most of it is asked in a fresh interpreter, because an import happens once.
"""

import importlib.util
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import types
import typing
from pathlib import Path

import pytest
from helpers import SANITIZED, SCRIPTS, built, clean_environment, cpu, output_of, python, tables

import fastact

PACKAGE = Path(fastact.__file__).parent

# ---- tools that look at packages ------------------------------------------------------------------


@pytest.mark.parametrize("name", fastact.__all__)
def test_type_hints_resolve(name):
    """Every public function and class has an annotation for each parameter, and each can be evaluated."""
    public = getattr(fastact, name)
    function = public.__init__ if inspect.isclass(public) else public
    if isinstance(function, types.WrapperDescriptorType):  # compiled: it shows its names, and mypy its types
        assert inspect.signature(public).parameters.keys() in ({"n"}, {"name"})
        return
    hints = typing.get_type_hints(function)
    assert set(inspect.signature(function).parameters) - {"self"} <= set(hints)
    assert "return" in hints or inspect.isclass(public)


def test_every_module_can_be_imported_and_prints_nothing():
    done = python("imports.py", "every_module")
    assert done.returncode == 0, done.stderr
    assert not done.stderr and done.stdout.count("\n") == 1, "the script's own line"
    walked = {module.name for module in pkgutil.walk_packages(fastact.__path__, "fastact.")}
    for library in ("jax", "onnx", "sklearn", "torch"):  # adapters
        if importlib.util.find_spec(library) is None:
            walked -= {name for name in walked if name.startswith(f"fastact.{library}")}
    walked -= {f"fastact._cython.{level}" for level in set(tables.LEVELS) - set(built.levels())}  # they refuse
    assert walked <= set(done.stdout.split()) and "fastact.__main__" in walked


@pytest.mark.skipif("cython" not in fastact.available_backends(), reason="the Cython variant was not built")
def test_kernels_above_the_cpus_level_refuse_to_be_imported():
    """With a sentence, before a module of theirs is met: its first instruction could end the process."""
    lines = output_of("imports.py", "kernels_above_the_level").splitlines()
    for level, line in zip(list(tables.LEVELS)[1:], lines, strict=True):
        assert f"level {level}" in line
        assert tables.LEVELS[level].known_as in line


def test_reloading():
    """Of the package and of every module that is Python; settings and results stay right."""
    assert output_of("imports.py", "reloaded") == "right"


def test_imported_again_after_it_was_thrown_out():
    """As test runners and notebooks do: it works, or says what to do."""
    assert output_of("imports.py", "thrown_out_and_imported_again") == "0.0 2.0"


@pytest.mark.parametrize("flags", [["-OO"], ["-W", "error"], ["-I"], ["-X", "dev"], ["-b", "-b"]], ids=" ".join)
def test_interpreters_flags(flags, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import fastact; print(fastact.relu([-1.0, 2.0]))"
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], env=clean_environment(), cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["[0.", "2.]"], "")


def test_lazy_import():
    """importlib.util.LazyLoader, which defers what a package does until its first use."""
    assert output_of("imports.py", "lazy") == "0.0 2.0"


def test_doctest_collection_and_pydoc(tmp_path):
    """pytest --doctest-modules on the installed package (adapters where their library is), pydoc of public names."""
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", tmp_path]
    options += ["--doctest-modules", "--doctest-ignore-import-errors"]  # of adapters without the library they are for
    done = python("-m", "pytest", *options, "--pyargs", "fastact")
    assert done.returncode == 0, done.stdout[-2000:]
    assert re.search(r"\d+ passed", done.stdout)
    signatures = output_of("imports.py", "pages_of_pydoc", *fastact.__all__).splitlines()
    for name, line in zip(fastact.__all__, signatures, strict=True):
        assert name in line
        assert "more" not in re.findall(r"\w+", line), "the hidden parameter shows"


def test_from_a_zip_archive(tmp_path):
    """No compiled module can be loaded from one: Numba or NumPy serves."""
    archive = shutil.make_archive(str(tmp_path / "package"), "zip", PACKAGE.parent, "fastact")
    done = python("-I", SCRIPTS / "imports.py", "from_a_zip_archive", archive)
    assert done.stdout.split() == ["0.0", "2.0", "-0.25", "2.0", fastact.__version__], done.stderr


def test_pyinstaller_is_told_what_cannot_be_seen():
    """Modules that are imported by name, or by a compiled module, are in no bytecode: the hooks have all of them.

    An adapter has a hook of its own: a program without the adapter must not get the library that it is for.
    """
    hidden = {}
    for hook in (PACKAGE / "_freeze").glob("hook-*.py"):
        names = {"__file__": str(hook)}
        exec(compile(hook.read_text(), hook, "exec"), names)  # as PyInstaller runs it
        hidden[hook.stem] = set(names["hiddenimports"])
    # The modules of adapters, but for compiled ones, stand in import statements.
    adapters = ("fastact.jax", "fastact.onnx", "fastact.sklearn", "fastact.torch")
    assert not any(name.startswith(adapters) for name in hidden["hook-fastact"])
    for module in pkgutil.walk_packages(fastact.__path__, "fastact."):
        told = any(module.name in names for names in hidden.values())
        compiled = not module.module_finder.find_spec(module.name).origin.endswith(".py")
        seen = module.name.startswith(adapters) and not compiled
        assert told or seen or "_freeze" in module.name, module.name


# ---- what an import leaves alone ------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"},
        {"GOMP_CPU_AFFINITY": "0"},
        {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "active", "OMP_DISPLAY_ENV": "true"},
        {"FASTACT_NUM_THREADS": "1", "FASTACT_BUFFER_LIMIT": "0", "FASTACT_BACKEND": "numpy"},
        {"FASTACT_SIMD": "generic"} if fastact.config()["simd"]["built"] else {},
        {"MALLOC_ARENA_MAX": "1", "PYTHONMALLOC": "malloc"},
    ],
    ids=lambda v: ",".join(v) or "none",
)
def test_an_import_changes_nothing_about_the_process(variables):
    done = python("imports.py", "what_the_import_changes", **variables)
    assert done.stdout.strip() == "{}", done.stdout + done.stderr
    assert not done.stderr


@pytest.mark.skipif(SANITIZED, reason="a sanitizer takes twice the time")
def test_an_import_is_quick():
    """Beyond NumPy, in processor time: 15 ms were asked for, and 9 ms is what it takes on an idle machine."""
    assert min(float(output_of("imports.py", "time_of_the_import")) for _ in range(5)) < 0.060


# ---- limits that a system sets --------------------------------------------------------------------


def system(tmp_path, groups, mounts, files):
    """A root folder with these files of /proc and control groups."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("\n".join(groups) + "\n")
    (tmp_path / "proc/self/mountinfo").write_text("\n".join(mounts) + "\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


V2 = "30 23 0:26 {} {} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 23 0:27 {} {} rw,nosuid - cgroup cgroup rw,{}"
GIB = 1 << 30


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "quota", "memory"),
    [
        pytest.param([], [], {}, 0, 8 * GIB, id="no control groups"),
        pytest.param(
            ["0::/a/b"],
            [V2.format("/", "/sys/fs/cgroup")],
            {"sys/fs/cgroup/a/b/cpu.max": "max 100000", "sys/fs/cgroup/a/b/memory.max": "max"},
            0,
            8 * GIB,
            id="version 2 without limits",
        ),
        pytest.param(
            ["0::/a/b"],
            [V2.format("/", "/sys/fs/cgroup")],
            {"sys/fs/cgroup/a/b/cpu.max": "150000 100000", "sys/fs/cgroup/a/b/memory.max": str(GIB)},
            2,
            GIB,
            id="version 2, its own group",
        ),
        pytest.param(
            ["0::/a/b/c"],
            [V2.format("/", "/sys/fs/cgroup")],
            {
                "sys/fs/cgroup/a/cpu.max": "300000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
                "sys/fs/cgroup/a/b/c/cpu.max": "500000 100000",
                "sys/fs/cgroup/a/memory.max": str(2 * GIB),
                "sys/fs/cgroup/a/b/c/memory.max": str(4 * GIB),
            },
            3,
            2 * GIB,
            id="version 2, an ancestor's is the least",
        ),
        pytest.param(
            ["12:cpu,cpuacct:/job/1", "4:memory:/job/1", "1:name=systemd:/", "0::/"],
            [
                V1.format("/", "/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"),
                V1.format("/", "/sys/fs/cgroup/memory", "memory"),
            ],
            {
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/job/1/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/job/1/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(3 * GIB),
                "sys/fs/cgroup/memory/job/1/memory.limit_in_bytes": "9223372036854771712",
            },
            1,
            3 * GIB,
            id="version 1, an ancestor's",
        ),
        pytest.param(
            ["4:cpu:/docker/abc", "0::/docker/abc"],
            [V1.format("/docker/abc", "/sys/fs/cgroup/cpu", "cpu"), V2.format("/docker/abc", "/sys/fs/cgroup/unified")],
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/unified/memory.max": str(GIB),
            },
            4,
            GIB,
            id="a container that sees its own part, both versions",
        ),
        pytest.param(
            ["0::/../../host/name"],
            [V2.format("/", "/mnt/strange\\040place")],
            {"mnt/strange place/cpu.max": "200000 100000"},
            2,
            8 * GIB,
            id="a path outside of its namespace, a mount point with a blank",
        ),
        pytest.param(
            ["", "nonsense", "0::/a:b"],
            ["35 23 0:26 / /mnt rw - tmpfs  rw", "", "short - line", V2.format("/", "/sys/fs/cgroup")],
            {"sys/fs/cgroup/a:b/cpu.max": "100000 100000"},
            1,
            8 * GIB,
            id="an empty source, lines of other forms, a colon in the path",
        ),
        pytest.param(
            ["0::/a"],
            [V2.format("/", "/sys/fs/cgroup")],
            {"sys/fs/cgroup/a/cpu.max": "nonsense", "sys/fs/cgroup/a/memory.max": ""},
            0,
            8 * GIB,
            id="files that say nothing",
        ),
    ],
)
def test_control_groups(tmp_path, groups, mounts, files, quota, memory):
    root = system(tmp_path, groups, mounts, files)
    assert cpu.read_quota(root) == quota
    assert cpu.read_memory(8 * GIB, root) == memory


def test_a_quota_bounds_the_processors(monkeypatch):
    monkeypatch.setattr(cpu, "read_quota", lambda: 1)
    monkeypatch.setattr(cpu, "_quota", (float("-inf"), 0))
    assert cpu.processors() == 1
    monkeypatch.setattr(cpu, "read_quota", lambda: 1000)
    assert cpu.processors() == 1, "it is read once a second"
    monkeypatch.setattr(cpu, "_quota", (float("-inf"), 0))
    assert cpu.processors() > 1 or cpu.processors() == len(os.sched_getaffinity(0))
