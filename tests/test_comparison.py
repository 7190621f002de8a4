"""The comparison as its users run it: options, what happens to a contestant that fails, the report, saved runs.

Each test is a run of pytest in a process of its own, on one small workload.  The page is read as text, and where there
is a Chromium it is opened in it without a network.
"""

import contextlib
import csv
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
from bench import results, tables  # they need pandas, which comes with it

pytestmark = pytest.mark.skipif("cython" not in fastact.available_backends(), reason="tried with the Cython variant")
SMALL = ("--workload", "mobilefacenet_128x28", "--contestant", "copy_add,fastact_cython,numpy")


BAD_INPUT = [
    (("--contestant", "nobody"), ("unknown contestant 'nobody'", "fastact_cython", "onednn", "textbook_numba")),
    (("--workload", "nothing"), ("unknown workload 'nothing'", "arcface_r50_stem", "Conv-TasNet", "signs")),
    (("--baseline", "nobody"), ("unknown baseline 'nobody'", "numpy", "torch")),
    (("--quick", "--full"), ("exclude each other",)),
    (("--shape", "4,4", "--workload", "models"), ("--shape and --model take the place",)),
    (("--figures", "nothing"), ("unknown row of figures 'nothing'", "memory", "off_plain")),
    (("--form", "sideways"), ("unknown form 'sideways'", "in_place")),
    (("--model", "README.md"), ("--model README.md", "JSONDecodeError")),
    (("--contestants-from", "none.py"), ("--contestants-from", "none.py")),
    (("--contestants-from", "setup.py"), ("--contestants-from", "setup.py")),
    (("--contestants-from", "bench/thresholds.py"), ("needs a list CONTESTANTS",)),
    (("--contestant", ""), ("unknown contestant ''", "fastact_cython")),
    (("--contestant", "copy_add,numpy", "--baseline", "fastact_cython"), ("not among --contestant copy_add,numpy",)),
    (("--report=README.md",), ("README.md is no folder to write to",)),
    (("--csv=none/all.csv",), ("--csv=none/all.csv cannot be written",)),
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
                      "copy_add,fastact_cython,fastact_numba,numpy")  # fmt: skip
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


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run: its folder, and what it printed.  The page is in page/, the file is run.json."""
    folder = tmp_path_factory.mktemp("run")
    done = run_pytest(f"--report={folder}/page", "--quick", *SMALL, f"--benchmark-json={folder}/run.json",
                      f"--csv={folder}/all.csv", "--benchmark-save=run",
                      f"--benchmark-storage={folder}/storage")  # fmt: skip
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


def test_a_run_shows_tables(run):
    for word in ("prelu_backward, float32", "fastact cython", "copy / add", "+-", "x np", " left  ", "saved run: "):
        assert word in run[1]
    assert "\x1b" not in run[1]  # piped: plain


def bench(*arguments):
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_everything_is_shown_from_the_file_again(run, tmp_path):
    """The same tables and plots, the page with no address outside, as a CSV file, and with another baseline."""
    folder, printed = run
    shown = bench("show", folder / "run.json", f"--csv={tmp_path}/all.csv")
    assert shown.returncode == 0, shown.stderr
    tables = printed.split("fastact benchmarks")[1].split("===")[1].split("Times are medians")[0].strip()
    assert tables in shown.stdout
    assert (
        len((tmp_path / "all.csv").read_text().splitlines()) == len((folder / "all.csv").read_text().splitlines()) > 9
    )
    assert bench("show", folder / "run.json", f"--report={tmp_path}").returncode == 0
    for page in (folder / "page", tmp_path):
        text = (page / "index.html").read_text()
        assert text.count("<svg") == len(list(page.glob("*.svg"))) == len(list(page.glob("*.png"))) >= 4
        assert not any(outside in text for outside in ("src=", "<link", "@import", "url(http"))
        assert text.count("<table") == (page / "tables.md").read_text().count("\n## ") >= 5
    assert {p.name for p in tmp_path.glob("*.svg")} == {p.name for p in (folder / "page").glob("*.svg")}
    other = bench("show", folder / "run.json", "--baseline", "fastact_cython")
    assert "x cython" in other.stdout and "x np" not in other.stdout
    assert bench("show", folder / "run.json", "--baseline", "nobody").returncode == 2


@pytest.mark.skipif(not (shutil.which("chromium") or shutil.which("google-chrome")), reason="needs Chromium")
def test_the_page_opens_without_a_network(run, tmp_path):
    page = run[0] / "page" / "index.html"
    command = [shutil.which("chromium") or shutil.which("google-chrome"), "--headless", "--no-sandbox"]
    command += ["--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--host-resolver-rules=MAP * ~NOTFOUND"]
    shown = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120).stdout
    assert shown.count("</svg>") == page.read_text().count("<svg")
    assert "fastact cython" in shown and "</table>" in shown


def test_what_a_file_says(run):
    """Every key is documented, the speed-up has its baseline beside it, and the run says what it depends on."""
    saved = json.loads((run[0] / "run.json").read_text())
    documented = (ROOT / "docs" / "benchmarks.md").read_text()
    for benchmark in saved["benchmarks"]:
        assert len(benchmark["stats"]["data"]) >= 3
        assert all(f"`{key}`" in documented for key in benchmark["extra_info"])
    info = {(b["extra_info"]["case"], b["extra_info"]["contestant"]): b["extra_info"] for b in saved["benchmarks"]}
    ours = info["prelu mobilefacenet_128x28 float32 all new", "fastact_cython"]
    assert ours["speedup"] > 1 and ours["baseline"] == "numpy" and ours["spread"] >= 0
    assert all(f"`{key}`" in documented for key in saved["fastact"])
    assert saved["fastact"]["format"] == 2 and saved["fastact"]["missing_cases"] == 0
    (autosaved,) = (run[0] / "storage").rglob("*.json")
    assert all(len(b["stats"]["data"]) >= 3 for b in json.loads(autosaved.read_text())["benchmarks"])


def test_a_file_of_a_later_format_is_refused(run, tmp_path):
    saved = json.loads((run[0] / "run.json").read_text())
    saved["fastact"]["format"] = 99
    (tmp_path / "later.json").write_text(json.dumps(saved))
    done = bench("show", tmp_path / "later.json")
    assert done.returncode == 2 and "format 99" in done.stderr


def test_a_plot_over_runs(run, tmp_path):
    done = bench("history", run[0] / "run.json", run[0] / "run.json", "--out", tmp_path / "history.png")
    assert done.returncode == 0 and (tmp_path / "history.png").stat().st_size > 10_000


MINE = """
import numpy as np
from bench.contestants import Contestant

class Mine(Contestant):
    name = "mine"
    dtypes = ("float32",)

    def relu(self, task, out):
        return lambda: np.where(task.x > 0, task.x, np.float32(0))

CONTESTANTS = [Mine()]
"""


@pytest.mark.full
def test_contestants_shapes_and_models_of_the_users_own(tmp_path):
    """The file of docs/benchmarks.md; two shapes; a model."""
    (tmp_path / "my.py").write_text(MINE)
    assert MINE.strip() in (ROOT / "docs" / "benchmarks.md").read_text()
    arguments = ("--quick", f"--contestants-from={tmp_path}/my.py", "--contestant", "fastact_cython,mine")
    done = run_pytest(
        *arguments, "--shape", "2,8,4", "--shape", "3x5", "--baseline", "mine", "-k", "relu and not prelu"
    )
    assert done.returncode == 0, done.stdout
    assert "2x8x4 (2,8,4), 8 alphas on axis 1" in done.stdout and "3x5 (3,5)" in done.stdout
    assert re.search(r"^  mine ", done.stdout, re.M)
    layers = [{"shape": [1, 8, 4, 4]}, {"shape": [1, 8, 4, 4], "alpha": "full"}, {"shape": [1, 30], "alpha": "shared"}]
    (tmp_path / "layers.json").write_text(json.dumps({"name": "net", "layers": layers}))
    done = run_pytest("--quick", f"--model={tmp_path}/layers.json", "--shape", "3x5", "--contestant",
                      "fastact_cython,numpy")  # fmt: skip
    assert done.returncode == 0, done.stdout
    for heading in (
        "net.1x8x4x4.channel.1 (1,8,4,4), 8 alphas on axis 1",
        "net.1x8x4x4.full.1 (1,8,4,4), 128 alphas, one an element",
        "net.1x30 (1,30), shared alpha",
        "3x5 (3,5), 5 alphas on axis 1",
    ):
        assert done.stdout.count(heading) == 4  # a table for each operation


def test_a_call_in_company_is_compared_with_others_there():
    """And a contestant has one line, there and alone."""
    named = {"torch_enabled": 3.0, "torch": 4.0, "torch_enabled alone": 1.0, "torch alone": 2.0}
    facts = {"part": "company", "case": "one", "operation": "prelu", "workload": "w", "host": "torch", "unit": "s"}
    frame = results.table(facts | {"contestant": name, "times": [s] * 5} for name, s in named.items())
    assert dict(zip(frame.contestant, frame.won, strict=True)) == {name: "enabled" in name for name in named}
    (shown,) = tables.company_tables(frame)
    assert shown.frame.to_dict("index") == {
        "torch": {"w alone": "2 s", "w there": "4 s"},
        "torch, fastact enabled": {"w alone": "1 s*", "w there": "3 s*"},
    }


def test_a_missed_target_is_not_marked_as_the_fastest():
    facts = {"part": "small", "case": "one", "unit": "s"}
    target = {"name": "ours", "baselines": ["numpy"], "most": 1.3, "kind": "", "scale": 1.0, "mean": None}
    frame = results.table(
        facts | {"contestant": name, "times": [s] * 5, "targets": [target] if name == "ours" else None}
        for name, s in (("ours", 2.0), ("numpy", 1.0))
    )
    found = list(tables.target_tables(results.lines(frame)))
    assert found[0].frame.ratio.tolist() == ["2.000#"]
    assert list(tables.legend(found, "numpy")) == ["#: the target is missed."]


def test_another_baseline_is_in_the_file_of_all_results_too(run, tmp_path):
    bench("show", run[0] / "run.json", "--baseline", "fastact_cython", f"--csv={tmp_path}/all.csv")
    lines = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    ours = [line for line in lines if line["contestant"] == "fastact_cython"]
    assert ours and all((line["baseline"], line["speedup"]) == ("fastact_cython", "1.0") for line in ours)


@pytest.mark.full
def test_results_over_their_operands():
    done = run_pytest("--quick", "--workload", "gtcrn_stream", "--form", "in_place", "--contestant",
                      "fastact_cython,fastact_numba,numpy")  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "in_place time" in done.stdout and "10 passed" in done.stdout  # NumPy can do relu and its backward so


@pytest.mark.full
def test_networks_of_pytorch_run_in_onnx_runtime():
    """Conv-TasNet is exported; only networks are in a run that asks for them."""
    for name in ("torch", "onnxruntime", "onnx"):
        pytest.importorskip(name)
    chosen = ("--check", "--full", "--workload", "networks")
    done = run_pytest(*chosen, "-k", "convtasnet and onnxruntime", "bench")
    assert not done.returncode, done.stdout
    assert "2 passed, 30 deselected" in done.stdout


def test_a_run_that_only_checks():
    """The worst error of each contestant; nothing is timed."""
    done = run_pytest("--check", "--workload", "gtcrn_stream", "--contestant", "fastact_cython,numpy", "bench")
    assert done.returncode == 0, done.stdout
    shown = done.stdout.split("the worst errors")[1]
    ours, numpys = (next(line for line in shown.splitlines() if line.strip().startswith(name)) for name in
                    ("fastact cython", "numpy"))  # fmt: skip
    assert re.findall(r"dalpha ([\d.]+)", ours) and float(re.findall(r"dalpha ([\d.]+)", ours)[0]) <= 0.5
    assert float(re.findall(r"dalpha ([\d.e+]+)", numpys)[0]) > 0.5
    assert "fastact benchmarks" not in done.stdout


@pytest.mark.full
def test_figures_have_targets(tmp_path):
    done = run_pytest(
        "--quick", "--figures", "small", "-k", "relu_backward_16", f"--benchmark-json={tmp_path}/run.json"
    )
    assert done.returncode == 0, done.stdout
    assert "Summary of the targets" in done.stdout and "fastact out relu_backward / fastact" in done.stdout
    shown = bench("show", tmp_path / "run.json", "--targets").stdout
    assert "fastact / numpy" in shown and re.search(r"\b1\.3 .*numba out / njit out", shown)


@pytest.mark.full
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
    arguments = ("--quick", "--workload", "gtcrn_stream", "--contestant", "copy_add,fastact_cython,numpy")
    done = run_pytest(*arguments, "-p", "failing", "-k", "not prelu_backward", PYTHONPATH=PLUGINS)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "numpy in relu gtcrn_stream float32 all new: WrongResult: 528 of 528 elements" in done.stdout
    assert re.search(r"first at \(0, 0, 0, 0\): \S+ instead of \S+", done.stdout)
    assert "numpy in relu_backward gtcrn_stream float32 all new: OSError: the disk is on fire" in done.stdout
    assert "numpy in prelu gtcrn_stream float32 all new: RuntimeError: out of paper" in done.stdout
    assert "3 failed, 3 passed" in done.stdout  # ours; the copy of so few elements takes no time to speak of
    assert "fastact cython" in done.stdout.split("fastact benchmarks")[1]


def test_the_bandwidth_bound_alone():
    """A group without anybody to win it, as where all others failed."""
    done = run_pytest("--quick", "--workload", "mobilefacenet_128x28", "--contestant", "copy_add")
    assert done.returncode == 0, done.stdout
    assert "x copy_add" in done.stdout


def test_an_interrupted_run_keeps_what_is_done(tmp_path):
    saved = tmp_path / "run.json"
    done = run_pytest("--quick", *SMALL, "-p", "interrupted", f"--benchmark-json={saved}", PYTHONPATH=PLUGINS)
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert "The run ended early" in done.stdout
    assert "fastact cython" in done.stdout.split("fastact benchmarks")[1]
    assert len(json.loads(saved.read_text())["benchmarks"]) >= 4
    shown = bench("show", saved)
    assert shown.returncode == 0 and "The run ended early" in shown.stdout and "fastact cython" in shown.stdout


def compare(*arguments):
    return bench("compare", *arguments)


def saved_run(path, factor, peers, drift=1.0, rounds=9, kinds=(1.0,)):
    """A run of one comparison group; all times are multiplied by the drift.

    Those of fastact are multiplied by a factor as well, and its rounds are of these kinds in turn.
    """
    benchmarks = []
    for name, time, own in (
        ("numpy", 1e-3, (1.0,)),
        ("copy_add", 9e-5, (1.0,)),
        ("fastact_cython", 1e-4 * factor, kinds),
    ):
        data = [time * drift * own[i % len(own)] * (1 + i / 1000) for i in range(rounds)]
        case = {"name": f"test_group[relu a, {name}]", "group": "relu a"}
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
            benchmark["stats"] |= {"q1": first * 0.995, "median": first, "q3": first * 1.005}
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
