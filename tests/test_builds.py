"""Builds of which a part fails, installs of both kinds, and flags from outside.

Whatever fails, the install goes through, what was built serves, and show_config() has the compiler's words.  A copy of
the checkout is really installed, in environments of their own.  Most builds run a compiler that is a shell script: it
refuses some modules, and for the others hands out what was built here, so that a build takes seconds.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest
from copies import ROOT, build, copy_to
from helpers import SCRIPTS, built, tables

import fastact

PACKAGE = Path(fastact.__file__).parent
needs_cython = pytest.mark.skipif("cython" not in fastact.available_backends(), reason="nothing was compiled here")


def environment(folder: Path) -> Path:
    """A virtual environment with everything that this one has installed, but not the package itself; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    # A path in a .pth file is searched, but the .pth files that lie there (an editable install's) are not read.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def install(python: Path, source: Path, *options: str, **variables: str) -> subprocess.CompletedProcess:
    """`pip install` of a copy into an environment."""
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", str(python), "install"]
    command += ["--no-deps", "--no-build-isolation", *options, str(source)]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)


def run(python: Path, script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run a script in a folder, which comes first on the path as with `python -c`: the script is standard input."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("FASTACT_", "PYTHONPATH"))} | variables
    text = (SCRIPTS / script).read_text()
    return subprocess.run([str(python), "-"], input=text, env=env, cwd=folder, capture_output=True, text=True)


def config_of(python: Path, folder: Path, **variables: str) -> dict:
    """What config() says there."""
    done = run(python, "report.py", folder, **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=["editable", "plain"])
def without_compiler(request, tmp_path_factory):
    """(Python, clone): the package installed where there is no C compiler.  The clone is called as the package is."""
    clone = copy_to(tmp_path_factory.mktemp("above") / "fastact", keep_c=True)
    python = environment(tmp_path_factory.mktemp("env") / "env")
    done = install(python, clone, *(["-e"] if request.param == "editable" else []), CC="no-such-compiler")
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(clone.rglob("*.so"))
    return python, clone


def test_numba_serves_and_the_config_says_what_is_missing(without_compiler):
    python, clone = without_compiler
    config = config_of(python, clone.parent.parent)
    assert config["backend"] == "numba"
    assert config["backends"]["numba"] == "available"
    for name in ("driver", "buffers", "contexts", "front", "generic.f32", "generic.f64", "generic.int"):
        assert "no-such-compiler" in config["missing_modules"][f"fastact._cython.{name}"]
        assert name in config["backends"]["cython"]
    assert "no-such-compiler" in config["backends"]["cython"]
    assert "one thread" in config["threads"]["driver"]


def test_every_folder_is_good_to_run_in(without_compiler, tmp_path):
    """Above the clone too, where a folder of the package's name lies in the way."""
    python, clone = without_compiler
    for folder in (clone.parent, clone.parent.parent, tmp_path):
        command = [python, "-c", "import fastact; print(*fastact.relu([-1.0, 2.0], backend='numpy'), fastact.__file__)"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.stdout.startswith("0.0 2.0 ") and "__init__.py" in done.stdout, done.stderr
    (clone.parent / "script.py").write_text("import fastact; print(*fastact.relu([-1.0, 2.0]))")
    done = subprocess.run([python, "script.py"], cwd=clone.parent, capture_output=True, text=True)
    assert done.stdout.split() == ["0.0", "2.0"], done.stderr


def test_asking_for_cython_names_the_cause(without_compiler, tmp_path):
    python, _ = without_compiler
    for arguments, variables in (("backend='cython'", {}), ("", {"FASTACT_BACKEND": "cython"})):
        command = [python, "-c", f"import fastact; fastact.relu([1.0], {arguments})"]
        done = subprocess.run(command, env=os.environ | variables, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode != 0
        assert "RuntimeError: the backend 'cython' is not available" in done.stderr
        assert "no-such-compiler" in done.stderr


def test_a_checkout_that_was_not_built_says_so(tmp_path):
    """Imported from a clone's own folder, with nothing built there."""
    clone = copy_to(tmp_path / "clone")
    config = config_of(Path(sys.executable), clone, PYTHONPATH=str(clone))
    assert str(clone) in config["file"]
    assert "pip install -e ." in config["backends"]["cython"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy with the C files of this checkout, where it has some."""
    return copy_to(tmp_path_factory.mktemp("partial") / "fastact", keep_c=True)


def partial(clone: Path, refused: str, said: str = "omp.h: No such file or directory", **variables: str):
    """The build of a copy by scripts/compiler.sh."""
    env = (
        os.environ
        | {"CC": str(SCRIPTS / "compiler.sh"), "BUILT": str(PACKAGE), "REFUSED": refused, "SAID": said}
        | variables
    )
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    return subprocess.run(command, cwd=clone, env=env, capture_output=True, text=True)


BEST = built.levels()[-1] if built.levels() else "generic"
PARTS = {
    "nothing": ("", "cython"),
    "driver": ("driver", "numba"),
    "fast path": ("front", "numba"),
    "buffers": ("buffers", "numba"),
    "public text": ("fastact/ops.c", "cython"),
    "one kind of kernels": (f"{BEST}/f64", "numba"),
    "the CPU's level": (f"-march=x86-64-{BEST}", "numba"),
    "all kernels": ("f32 f64", "numba"),
}
OFTEN = ("nothing", "driver", "public text", "the CPU's level")


@needs_cython
@pytest.mark.skipif(BEST == "generic", reason="this CPU has no levels")
@pytest.mark.parametrize("part", [p if p in OFTEN else pytest.param(p, marks=pytest.mark.full) for p in PARTS])
def test_a_part_that_fails(clone, part):
    """The others are built; Cython serves only if it is whole and its level is this CPU's."""
    refused, backend = PARTS[part]
    said = "bad value for the -march= switch" if "march" in refused else "omp.h: No such file or directory"
    done = partial(clone, refused, said)
    assert done.returncode == 0, done.stderr[-3000:]
    config = config_of(Path(sys.executable), clone, PYTHONPATH=str(clone))
    assert str(clone) in config["file"]
    assert config["backend"] == backend
    assert bool(config["missing_modules"]) == bool(refused)
    for reason in config["missing_modules"].values():  # the fast path is built without the driver, and misses it
        assert said in reason or "does not import: ModuleNotFoundError" in reason
    for word in refused.split():
        parts = [*Path(word).with_suffix("").parts[-2:]] if "march" not in word else [BEST, "f32"]
        assert any(all(p in name for p in parts) for name in config["missing_modules"]), word
    assert [name for name, state in config["backends"].items() if state == "available"]
    whole_but_slow = part in ("one kind of kernels", "the CPU's level")
    assert (config["backends"]["cython"] == "available") == (backend == "cython" or whole_but_slow)
    assert len(config["warnings"]) == whole_but_slow, config["warnings"]
    if whole_but_slow:
        assert BEST in config["warnings"][0]
        assert BEST not in config["simd"]["built"]


@needs_cython
@pytest.mark.parametrize("module", ["ops", "driver", "front", f"{BEST}/f32"])
def test_a_module_that_does_not_load(clone, module):
    """A truncated file, a library that is not there: as if it had not been built, and the reason is kept."""
    assert partial(clone, "").returncode == 0
    (file,) = (clone / "fastact" / "_cython").glob(f"{module}.*.so")
    file.write_bytes(file.read_bytes()[:100])  # cut further down, it ends the process in the loader
    config = config_of(Path(sys.executable), clone, PYTHONPATH=str(clone))
    assert config["backend"] == ("cython" if module == "ops" else "numba")
    name = f"fastact._cython.{module.replace('/', '.')}"
    assert "ImportError" in config["missing_modules"][name] or "file too short" in config["missing_modules"][name]


def test_words_of_a_command_that_are_left_out():
    """With the option that they belong to; a linker's words are its own."""
    names: dict = {"__name__": "setup", "__file__": str(ROOT / "setup.py")}
    source = (ROOT / "setup.py").read_text().split("\nNOT_POSSIBLE")[0]
    exec(compile(source, "setup.py", "exec"), names)
    command = ["cc", "-O2", "-Xlinker", "-O1", "-Xclang", "-ffast-math", "-pipe", "-Ofast", "-fPIC", "-Xclang", "-g"]
    assert names["without_flags"](command) == ["cc", "-Xlinker", "-O1", "-pipe", "-fPIC", "-Xclang", "-g"]


@needs_cython
def test_the_reason_of_a_failed_link(clone):
    """The linker says it before the compiler says that there was an error."""
    linker = clone.parent / "ld"
    linker.write_text(
        "#!/bin/sh\necho '/usr/bin/ld: cannot find -lnothere' >&2\necho 'collect2: error: exit 1' >&2\nexit 1\n"
    )
    linker.chmod(0o755)
    assert partial(clone, "", LDSHARED=str(linker)).returncode == 0
    report = json.loads((clone / "fastact/_cython/build.json").read_text())
    assert all("cannot find -lnothere" in reason for reason in report.values())


@needs_cython
def test_what_an_earlier_build_left_is_taken_away(clone):
    """A module that now fails must not be served from an older build, whose tables may be others."""
    assert partial(clone, "").returncode == 0
    assert list(clone.glob("fastact/_cython/driver*.so"))
    assert partial(clone, "driver").returncode == 0
    assert not list(clone.glob("fastact/_cython/driver*.so"))
    assert partial(clone, "").returncode == 0
    assert not (clone / "fastact/_cython/build.json").exists()


@needs_cython
def test_the_switch_turns_a_failed_module_into_a_failed_build(clone):
    assert partial(clone, "v2/int", FASTACT_REQUIRE_EXTENSIONS="1").returncode != 0
    assert partial(clone, "v2/int", FASTACT_REQUIRE_EXTENSIONS="0").returncode == 0
    assert partial(clone, "", FASTACT_REQUIRE_EXTENSIONS="1").returncode == 0


def test_no_cython_to_build_with(tmp_path):
    """The build's own tools may be missing as well (--no-build-isolation)."""
    clone = copy_to(tmp_path / "clone")
    (clone / "Cython.py").write_text("raise ImportError('no Cython here')")
    done = subprocess.run(
        [sys.executable, "-P", "setup.py", "-q", "build_ext", "--inplace"],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(clone)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    config = config_of(Path(sys.executable), clone, PYTHONPATH=str(clone))
    assert "no Cython here" in config["backends"]["cython"]


HOSTILE = (
    "-Ofast -ffast-math -funsafe-math-optimizations -ffinite-math-only -fassociative-math -fno-signed-zeros "
    "-freciprocal-math -fsingle-precision-constant -march=native -mfma -mavx2 -mfpmath=387 -ffp-contract=fast "
    "-frounding-math -fexcess-precision=fast -fcx-limited-range"
)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A source distribution, unpacked and built with flags from outside; and its files before that.

    With -O0, which takes a third of the time and gives the same results.
    """
    above = tmp_path_factory.mktemp("sdist")
    clone = copy_to(above / "clone", levels=("generic",))
    setup = clone / "setup.py"
    setup.write_text(setup.read_text().replace('"-O3"', '"-O0"'))
    for arguments in (["sdist", "--formats=tar"], ["clean"]):
        subprocess.run([sys.executable, "setup.py", "-q", *arguments], cwd=clone, check=True, capture_output=True)
    (archive,) = clone.glob("dist/*.tar")
    with tarfile.open(archive) as tar:
        tar.extractall(above, filter="data")
    folder = above / archive.stem
    before = sources(folder)
    build(folder, CFLAGS=HOSTILE, LDFLAGS="-Ofast -ffast-math", FASTACT_REQUIRE_EXTENSIONS="1")
    return folder, before


def sources(folder):
    """The files that no build wrote."""
    files = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return {file for file in files if file.parts[0] != "build" and file.suffix != ".so"}


@pytest.mark.full
@needs_cython
def test_a_source_distribution_has_what_a_build_needs(unpacked):
    """It builds, and what the build writes lies in its build folder, beside the modules themselves."""
    folder, before = unpacked
    assert sources(folder) == before
    assert config_of(Path(sys.executable), folder, PYTHONPATH=str(folder))["simd"]["built"] == ["generic"]


@pytest.mark.full
@needs_cython
def test_flags_from_outside_change_nothing(unpacked, tmp_path):
    """Neither a bit of a result nor the process's floating-point mode, at compiling or at linking."""
    theirs, ours = (
        run(Path(sys.executable), "bits.py", tmp_path, FASTACT_SIMD="generic",
            PYTHONPATH=os.pathsep.join((str(where), str(ROOT / "tests"))))
        for where in (unpacked[0], PACKAGE.parent)
    )  # fmt: skip
    assert theirs.stdout.startswith("True "), theirs.stdout[:80] + theirs.stderr
    assert theirs.stdout == ours.stdout


@needs_cython
@pytest.mark.parametrize("flag", ["-ffast-math", "-mfpmath=387"])
def test_a_flag_that_gets_through_ends_the_build(flag):
    """exact.h refuses it, whoever smuggles it in."""
    command = ["gcc", flag, "-fsyntax-only", "-x", "c", str(PACKAGE / "_cython" / "exact.h")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "changes results" in done.stderr


@needs_cython
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction cpuid is x86's")
def test_cpuid_says_what_the_compilers_builtin_says(tmp_path):
    """cpu.h has a way of its own for compilers without the builtin, which no build here takes."""
    names = {feature for level in tables.LEVELS.values() if level.machine == "x86_64" for feature in level.features}
    (tmp_path / "tables.h").write_text("#define FA_LEVELS(LEVEL, HAS)\n")
    both = "".join(f'CHECK("{name}")' for name in names)
    source = tmp_path / "both.c"
    source.write_text(
        '#include <stdio.h>\n#include "cpu.h"\n'
        '#define CHECK(f) printf("%s %d %d\\n", f, fa_has(f), !!__builtin_cpu_supports(f));\n'
        f"int main(void) {{ fa_cpu_level(); {both} return 0; }}\n"
    )
    options = ["-DFASTACT_PLAIN_CPUID", f"-I{PACKAGE / '_cython'}", f"-I{tmp_path}", "-o", tmp_path / "both"]
    subprocess.run(["gcc", source, *options], check=True)
    lines = subprocess.run([tmp_path / "both"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line.split()[0] for line in lines} == names
    assert all(len(set(line.split()[1:])) == 1 for line in lines), lines


@needs_cython
@pytest.mark.skipif(not shutil.which("x86_64-w64-mingw32-gcc"), reason="needs MinGW (gcc-mingw-w64-x86-64)")
def test_the_win32_way(tmp_path):
    """system.h and what stands on it compile for Windows, and work under Wine where it is installed."""
    folders = [f"-I{folder}" for folder in (PACKAGE / "_cython", PACKAGE, ROOT / "build" / "generated")]
    program = tmp_path / "win32.exe"
    options = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-O2", "-DFASTACT_PLAIN_CPUID", *folders]
    subprocess.run(["x86_64-w64-mingw32-gcc", *options, SCRIPTS / "win32.c", "-o", program], check=True)
    wine = shutil.which("wine64", path=os.environ["PATH"] + ":/usr/lib/wine")
    if wine:
        quiet = os.environ | {"WINEPREFIX": str(tmp_path / "prefix"), "WINEDEBUG": "-all"}
        done = subprocess.run([wine, program], env=quiet, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout.strip()) == (0, built.CPU_LEVEL), done.stdout + done.stderr


@pytest.mark.parametrize("without_compiler", ["plain"], indirect=True)
def test_doctests_run_uncompiled(without_compiler, tmp_path):
    done = run(
        without_compiler[0], "doctests.py", tmp_path, FASTACT_BACKEND="numpy"
    )  # no kernels are compiled for them
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > 15


@pytest.mark.full
@needs_cython
def test_the_example_for_cython(clone, tmp_path):
    """examples/cython_user is built against an installed wheel, which has the header and the declarations."""
    wheels = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "wheel", "--no-deps"]
    wheels += ["--no-build-isolation", "-w", str(tmp_path), str(clone)]
    env = os.environ | {"CC": str(SCRIPTS / "compiler.sh"), "BUILT": str(PACKAGE), "REFUSED": ""}
    subprocess.run(wheels, env=env, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    python = environment(tmp_path / "env")
    example = tmp_path / "cython_user"
    shutil.copytree(ROOT / "examples" / "cython_user", example)
    for source in (wheel, example):
        done = install(python, source)
        assert done.returncode == 0, done.stderr[-3000:]
    done = run(python, "cython_user.py", tmp_path)
    assert done.stdout.split() == ["same", "bits"], done.stderr
