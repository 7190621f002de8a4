"""The comparison as its users run it: options, what happens to a contestant that fails, the report, two saved runs.

Each test is a run of pytest in a process of its own, on one small workload.  The page is read as text, and where there
is a Chromium it is opened in it without a network.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import PLUGINS, ROOT, SCRIPTS, pytest_environment, run_pytest

import fastact
from bench.checks import unit
from bench.contestants import CONTESTANTS

pytest.importorskip("pytest_benchmark")
pytestmark = pytest.mark.skipif("cython" not in fastact.available_backends(), reason="tried with the Cython variant")
SMALL = ("--workload", "mobilefacenet_128x28", "--contestant", "limit,fastact_cython,numpy")


BAD_INPUT = [
    (("--contestant", "nobody"), ("unknown contestant 'nobody'", "fastact_cython", "onednn", "textbook_numba")),
    (("--workload", "nothing"), ("unknown workload 'nothing'", "arcface_r50_stem", "Conv-TasNet", "signs")),
    (("--baseline", "nobody"), ("unknown baseline 'nobody'", "numpy", "torch")),
    (("--quick", "--full"), ("exclude each other",)),
    (("--shape", "4,4", "--workload", "models"), ("--shape takes the place",)),
    (("--contestant", ""), ("unknown contestant ''", "fastact_cython")),
    (("--contestant", "limit,numpy", "--baseline", "fastact_cython"), ("not among --contestant limit,numpy",)),
    (("--report=README.md",), ("README.md is no folder to write to",)),
    (("--report=",), ("a folder's name is missing",)),
    (("--threads", "0"), ("this process may use 1 to",)),
    (("--threads", "99999"), ("this process may use 1 to",)),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """What pytest answers to each bad input: all of them in one process; what is let through is not run."""
    answers = tmp_path_factory.mktemp("refused") / "answers.json"
    command = [sys.executable, SCRIPTS / "refused.py", answers, *("\t".join(words) for words, _ in BAD_INPUT)]
    subprocess.run(command, cwd=ROOT, env=pytest_environment() | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    return json.loads(answers.read_text())


@pytest.mark.parametrize("number", range(len(BAD_INPUT)))
def test_bad_input_is_refused_before_the_run(number, refusals):
    status, said = refusals[number]
    assert status == pytest.ExitCode.USAGE_ERROR
    assert all(word in said for word in BAD_INPUT[number][1]), said


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_floats(dtype):
    """Checked, timed, and with the error of each one's dalpha; who cannot do it has no row."""
    pytest.importorskip("ml_dtypes")
    done = run_pytest("--quick", "--dtype", dtype, "--workload", "mobilefacenet_128x28,accuracy", "--contestant",
                      "limit,fastact_cython,fastact_numba,numpy")  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"prelu_backward, {dtype}" in done.stdout
    timed, errors = done.stdout.split("Error of dalpha in ulp")
    assert ("  numpy " in timed) == (dtype == "float16")
    ours = re.search("fastact cython (.*)", errors)[1].split()
    assert len(ours) == 6 and all(error.endswith("*") for error in ours[2::3])  # at most half a unit in 16 bits


def test_a_unit_in_the_last_place():
    values = np.array([1.0, 1.5, 2.0, 1e-3, 1e-7, 60000.0, 0.0])
    for dtype in ("float16", "float32", "float64"):
        np.testing.assert_array_equal(unit(values.astype(dtype), dtype), np.spacing(values.astype(dtype)))
    np.testing.assert_array_equal(unit(np.array([1.0, 1e-40, 0.0]), "bfloat16"), [2.0**-7, 2.0**-133, 2.0**-133])


def test_report_and_saved_run(tmp_path):
    """Tables, a page that loads nothing from anywhere, plots as files, and figures in the saved run."""
    saved = tmp_path / "run.json"
    done = run_pytest(f"--report={tmp_path}/page", "--quick", *SMALL, f"--benchmark-json={saved}",
                      "--benchmark-save=run", f"--benchmark-storage={tmp_path}/storage")  # fmt: skip
    assert done.returncode == 0, done.stdout
    for word in ("prelu_backward, float32", "fastact cython", "limit", "+-", "x np", " left  "):
        assert word in done.stdout
    assert "\x1b" not in done.stdout  # piped: plain
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("<svg") == len(list((tmp_path / "page").glob("*.svg"))) >= 4
    assert len(list((tmp_path / "page").glob("*.png"))) == page.count("<svg")
    for outside in ("src=", "<link", "@import", "url(http"):
        assert outside not in page
    assert page.count("<table>") == (tmp_path / "page" / "tables.md").read_text().count("\n## ") >= 5
    if browser := shutil.which("chromium") or shutil.which("google-chrome"):
        address = (tmp_path / "page" / "index.html").as_uri()
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", address]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        assert shown.count("</svg>") == page.count("<svg")
        assert "fastact cython" in shown and "</table>" in shown
    (autosaved,) = (tmp_path / "storage").rglob("*.json")
    assert all(len(b["stats"]["data"]) >= 3 for b in json.loads(autosaved.read_text())["benchmarks"])
    info = {b["name"]: b["extra_info"] for b in json.loads(saved.read_text())["benchmarks"]}
    ours = info["test_operation[prelu-mobilefacenet_128x28-fastact_cython-fresh-all-float32]"]
    assert ours["speedup_over_numpy"] > 1
    assert ours["spread"] >= 0


@pytest.mark.parametrize(
    ("arguments", "variables"), [((), {"FASTACT_NUM_THREADS": "1"}), (("--threads", "1"), {"FASTACT_NUM_THREADS": "2"})]
)
def test_everything_says_the_same_number_of_threads(arguments, variables, tmp_path):
    """Header, tables and saved run, on a machine of several processors."""
    saved = tmp_path / "run.json"
    done = run_pytest(*arguments, "--quick", "--workload", "gtcrn_stream", "--contestant", "fastact_cython,numpy",
                      f"--benchmark-json={saved}", **variables)  # fmt: skip
    assert set(re.findall(r"(\d+) threads?\b", done.stdout)) == {"1"}, done.stdout
    run = json.loads(saved.read_text())
    assert run["machine_info"]["fastact"]["threads"]["bound"] == 1
    assert {benchmark["extra_info"]["threads"] for benchmark in run["benchmarks"]} == {1}


@pytest.mark.parametrize("name", CONTESTANTS)
def test_a_contestants_session_leaves_everything_as_it_was(name):
    """Also where the user has set something."""
    if why := CONTESTANTS[name].missing():
        pytest.skip(why)
    with contextlib.ExitStack() as stack:
        for set_it, value in ((fastact.set_backend, "numpy"), (fastact.set_num_threads, 1)):
            set_it(value)
            stack.callback(set_it, None)
        with CONTESTANTS[name].session(1, "float32"):
            pass
        assert (fastact.get_backend(), fastact.get_num_threads()) == ("numpy", 1)


def test_who_fails_is_shown_and_stops_nobody():
    arguments = ("--quick", "--workload", "gtcrn_stream", "--contestant", "limit,fastact_cython,numpy")
    done = run_pytest(*arguments, "-p", "failing", "-k", "not prelu_backward", PYTHONPATH=PLUGINS)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "numpy in relu gtcrn_stream float32 all fresh: WrongResult: " in done.stdout
    assert "numpy in relu_backward gtcrn_stream float32 all fresh: OSError: the disk is on fire" in done.stdout
    assert "numpy in prelu gtcrn_stream float32 all fresh: RuntimeError: out of paper" in done.stdout
    assert "3 failed, 3 passed" in done.stdout  # ours; the limit of so few elements is no time to speak of
    assert "fastact cython" in done.stdout.split("fastact benchmarks")[1]


def test_the_limit_alone():
    """A heat without anybody to win it, as where all others failed."""
    done = run_pytest("--quick", "--workload", "mobilefacenet_128x28", "--contestant", "limit")
    assert done.returncode == 0, done.stdout
    assert "x limit" in done.stdout


def test_an_interrupted_run_keeps_what_is_done(tmp_path):
    saved = tmp_path / "run.json"
    done = run_pytest("--quick", *SMALL, "-p", "interrupted", f"--benchmark-json={saved}", PYTHONPATH=PLUGINS)
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert "The run ended early" in done.stdout
    assert "fastact cython" in done.stdout.split("fastact benchmarks")[1]
    assert len(json.loads(saved.read_text())["benchmarks"]) >= 4


def compare(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "bench.compare", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def saved_run(path, factor, peers, drift=1.0, rounds=9, kinds=(1.0,)):
    """A run of one comparison group; all times are multiplied by the drift.

    Those of fastact are multiplied by a factor as well, and its rounds are of these kinds in turn.
    """
    benchmarks = []
    for name, time, own in (("numpy", 1e-3, (1.0,)), ("limit", 9e-5, (1.0,)), ("fastact_cython", 1e-4 * factor, kinds)):
        data = [time * drift * own[i % len(own)] * (1 + i / 1000) for i in range(rounds)]
        case = {"name": f"test_operation[relu-a-{name}-fresh-all-float32]", "group": "relu a float32 all fresh"}
        benchmarks.append(case | {"stats": {"rounds": rounds, "data": data}})
    path.write_text(json.dumps({"machine_info": {"peers": {"torch": peers}}, "benchmarks": benchmarks}))
    return path


def test_two_saved_runs(tmp_path):
    """What got slower beyond the noise is told, with what else changed."""
    before, same = saved_run(tmp_path / "before.json", 1.0, "2"), saved_run(tmp_path / "same.json", 1.05, "2")
    after = saved_run(tmp_path / "after.json", 1.2, "3")
    assert compare(before, same).returncode == 0
    assert compare(before, same, "--floor", "4").returncode == 1
    done = compare(before, after)
    assert done.returncode == 1
    assert "SLOWER" in done.stdout and "1.20" in done.stdout and "peers torch: 2 -> 3" in done.stdout
    assert "1 slower, 0 faster" in done.stdout
    assert "faster" in compare(after, before).stdout
    assert compare(before, saved_run(tmp_path / "slow.json", 1.0, "2", drift=1.5)).returncode == 0
    few = compare(before, saved_run(tmp_path / "quick.json", 2.0, "2", rounds=3))
    assert few.returncode == 0 and "3 were not judged" in few.stdout
    assert compare(before, after, "--floor", "nan").returncode == 2
    for rule in ("a low quantile", "three standard errors", "fewer than five rounds", "exit status"):
        assert rule in " ".join(compare("--help").stdout.split())


def test_rounds_of_two_kinds(tmp_path):
    """Half of the rounds take twice the time: neither their share is a change, nor is a real change hidden."""
    half, more, other = (1.0, 2.0), (1.0, 2.0, 1.0, 2.0, 2.0), (2.0, 1.0)
    before = saved_run(tmp_path / "before.json", 1.0, "2", kinds=half, rounds=15)
    assert compare(before, saved_run(tmp_path / "more.json", 1.0, "2", kinds=more, rounds=15)).returncode == 0
    assert compare(before, saved_run(tmp_path / "slower.json", 1.25, "2", kinds=other, rounds=15)).returncode == 1


def test_a_change_must_show_in_every_further_run(tmp_path):
    before, after = saved_run(tmp_path / "before.json", 1.0, "2"), saved_run(tmp_path / "after.json", 1.3, "2")
    assert compare(before, after, after).returncode == 1
    for factor in (1.05, 1.0, 0.7):
        done = compare(before, after, saved_run(tmp_path / "again.json", factor, "2"))
        assert done.returncode == 0 and "0 slower, 0 faster" in done.stdout


def test_quartiles_stand_for_rounds_that_were_not_saved(tmp_path):
    """As in a file of plain --benchmark-save."""
    files = [saved_run(tmp_path / f"{factor}.json", factor, "2") for factor in (1.0, 1.3)]
    for file in files:
        run = json.loads(file.read_text())
        for benchmark in run["benchmarks"]:
            first = benchmark["stats"].pop("data")[0]
            benchmark["stats"] |= {"q1": first, "median": first, "iqr": first / 100}
        file.write_text(json.dumps(run))
    assert compare(files[0], files[0]).returncode == 0
    assert compare(*files).returncode == 1


@pytest.mark.parametrize("text", [None, "", "<html>", "[]", '{"machine_info": {}, "benchmarks": [{"name": 1}]}',
                                  '{"machine_info": {}, "benchmarks": []}'])  # fmt: skip
def test_what_is_no_saved_run_has_its_own_status(text, tmp_path):
    """1 is for those who got slower."""
    file = tmp_path / "run.json"
    if text is not None:
        file.write_text(text)
    done = compare(saved_run(tmp_path / "before.json", 1.0, "2"), file)
    assert done.returncode == 2 and ("no saved run" in done.stderr or "no case in common" in done.stderr)
