"""`spanwell run CMD` is CMD: same exit, signals, arguments, input and environment, plus tracing where it can be."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spanwell.__main__ import boot_folder, python_path
from support.started import BIN, LAUNCHERS, clean, names, python, run, traced

pytestmark = pytest.mark.slow

SPAN = "from opentelemetry import trace\ntrace.get_tracer('app').start_span('work').end()\n"
TRACED = "import sys\nprint(any(type(each).__module__ == 'spanwell._hook' for each in sys.meta_path))\n"


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 3, 255])
def test_the_exit_status_is_the_commands(status: int) -> None:
    assert python(f"raise SystemExit({status})", clean()).code == status


def test_an_uncaught_exception_looks_as_ever() -> None:
    plain = subprocess.run([sys.executable, "-c", "1 / 0"], env=clean(), capture_output=True, text=True, timeout=60)
    assert python("1 / 0", clean()) == (1, "", plain.stderr)


def test_the_process_stays_the_same_and_gets_the_signals() -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [*LAUNCHERS["run"], sys.executable, "-c", code], env=clean(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_arguments_pass_as_they_are() -> None:
    odd = ["--help", "-x", "--", "a b", "", "ä", "$HOME", "*"]
    done = python("import sys; print(ascii(sys.argv[1:]))", clean(), *odd)
    assert done == (0, ascii(odd) + "\n", "")


def test_standard_input_passes() -> None:
    done = python("import sys; print(sys.stdin.read().upper())", clean(), stdin="line\nline two")
    assert done == (0, "LINE\nLINE TWO\n", "")


@pytest.mark.parametrize("dashes", [[], ["--"]])
def test_the_dashes_are_optional(dashes: list[str]) -> None:
    command = [sys.executable, "-m", "spanwell", "run", *dashes, sys.executable, "-c", "print('ran')"]
    assert subprocess.run(command, env=clean(), capture_output=True, text=True, timeout=60).stdout == "ran\n"


def test_the_console_script_runs_commands_from_the_path() -> None:
    command = [str(BIN / "spanwell"), "run", "sh", "-c", "exit 4"]
    assert subprocess.run(command, env=clean(), timeout=60).returncode == 4


def test_an_unknown_command_is_127(tmp_path: Path) -> None:
    done = run(["no-such-command"], clean())
    assert (done.code, done.out) == (127, "")
    assert done.err.count("\n") == 1
    assert "'no-such-command'" in done.err


def test_a_path_entry_that_is_a_file_does_not_change_that(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run(["no-such-command"], clean(PATH=str(tmp_path / "file"))).code == 127


def test_a_command_that_cannot_be_executed_is_126(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    done = run([str(tmp_path / "text")], clean())
    assert done.code == 126
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("dashes", [[], ["--"]])
def test_no_command_is_2_and_says_how(dashes: list[str]) -> None:
    command = [sys.executable, "-m", "spanwell", "run", *dashes]
    done = subprocess.run(command, env=clean(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: spanwell run" in done.stderr


# --- what is traced -----------------------------------------------------------------------------------------------


def test_python_c_is_traced(tmp_path: Path) -> None:
    assert python(SPAN, traced(tmp_path / "t.db")) == (0, "", "")
    assert names(tmp_path / "t.db") == ["work"]


def test_python_m_is_traced(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__main__.py").write_text(SPAN)
    assert run([sys.executable, "-m", "shop"], traced(tmp_path / "t.db"), cwd=tmp_path) == (0, "", "")
    assert names(tmp_path / "t.db") == ["work"]


def test_a_console_script_is_traced(tmp_path: Path) -> None:
    script = tmp_path / "shop"
    script.write_text(f"#!{sys.executable}\n{SPAN}")
    script.chmod(0o755)
    assert run(["shop"], traced(tmp_path / "t.db", PATH=f"{tmp_path}{os.pathsep}{os.defpath}")) == (0, "", "")
    assert names(tmp_path / "t.db") == ["work"]


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_an_isolated_interpreter_is_left_alone(option: str, tmp_path: Path) -> None:
    """It reads no PYTHONPATH or no site: nothing of ours runs, and nothing breaks."""
    done = run([sys.executable, option, "-c", TRACED], traced(tmp_path / "t.db"))
    assert done == (0, "False\n", "")


def test_child_processes_are_traced_too(tmp_path: Path) -> None:
    code = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {SPAN!r}]))"
    assert python(code, traced(tmp_path / "t.db")) == (0, "", "")
    assert names(tmp_path / "t.db") == ["work"]


# --- the environment ----------------------------------------------------------------------------------------------


def test_pythonpath_keeps_the_users_entries_in_order(tmp_path: Path) -> None:
    mine = [str(tmp_path / "a"), str(tmp_path / "b")]
    code = "import os; print(os.environ['PYTHONPATH'])"
    seen = python(code, clean(PYTHONPATH=os.pathsep.join(mine))).out.strip().split(os.pathsep)
    assert seen[1:] == mine
    assert seen[0].endswith("_boot")


def test_sys_path_holds_nothing_of_ours(tmp_path: Path) -> None:
    env = clean(PYTHONPATH=str(tmp_path))
    code = "import sys; print(ascii(sys.path))"
    plain = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert python(code, env).out == plain.stdout


def test_nothing_else_is_put_into_the_environment() -> None:
    """A child may live in another environment, which fails on names it does not know."""
    code = "import os; print(sorted(os.environ))"
    plain = subprocess.run([sys.executable, "-c", code], env=clean(), capture_output=True, text=True, timeout=60)
    assert python(code, clean(PYTHONPATH="x")).out.replace("'PYTHONPATH', ", "") == plain.stdout


def test_a_run_within_a_run_is_one(tmp_path: Path) -> None:
    inner = [*LAUNCHERS["run"], sys.executable, "-c", f"import os; print(os.environ['PYTHONPATH'])\n{SPAN}"]
    done = run(inner, traced(tmp_path / "t.db"))
    assert done.out.count("_boot") == 1, done
    assert names(tmp_path / "t.db") == ["work"]


def test_the_users_own_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.mine = __name__\n")
    code = f"import sys, sitecustomize; print(sys.mine, sitecustomize.__file__)\n{TRACED}"
    done = python(code, clean(PYTHONPATH=str(tmp_path)))
    assert done == (0, f"sitecustomize {tmp_path / 'sitecustomize.py'}\nTrue\n", "")


def _started(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As in the process that the launcher becomes; the launcher itself runs in the user's environment too."""
    env = clean(PYTHONPATH=python_path(str(folder), boot_folder()))
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)


def test_a_users_sitecustomize_that_fails_fails_as_ever(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import no_such_module\n")
    env = clean(PYTHONPATH=str(tmp_path))
    plain = subprocess.run([sys.executable, "-c", ""], env=env, capture_output=True, text=True, timeout=60)
    done = _started("", tmp_path)
    assert "no_such_module" in plain.stderr
    assert (done.returncode, done.stderr) == (plain.returncode, plain.stderr)


def test_our_own_failure_at_start_reaches_neither_the_application_nor_its_sitecustomize(tmp_path: Path) -> None:
    (tmp_path / "spanwell").mkdir()
    (tmp_path / "spanwell" / "__init__.py").write_text("")
    (tmp_path / "spanwell" / "_hook.py").write_text("def Hook(*_):\n    raise RuntimeError('broken start')\n")
    triggers = "ALSO_WATCHED = frozenset()\ndef watched_modules():\n    return set()\n"
    (tmp_path / "spanwell" / "_triggers.py").write_text(triggers)
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.mine = 'ran'\n")
    done = _started("import sys; print(sys.mine)", tmp_path)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert done.stderr.count("\n") == 1
    assert "broken start" in done.stderr


# --- children in other environments -------------------------------------------------------------------------------


def _venv(python: str, folder: Path) -> str:
    """A virtual environment that has nothing installed; the path of its Python."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    return str(folder / "bin" / "python")


def test_a_child_python_without_spanwell_works_silently(tmp_path: Path) -> None:
    other = _venv(sys.executable, tmp_path / "bare")
    child = "import sys; print('spanwell' in sys.modules, 'child')"
    code = f"import subprocess; print(subprocess.run([{other!r}, '-c', {child!r}], capture_output=True, text=True))"
    done = python(code, traced(tmp_path / "t.db"))
    assert "stdout='False child\\n'" in done.out, done
    assert "stderr=''" in done.out
    assert run([other, "-c", child], traced(tmp_path / "t.db")) == (0, "False child\n", "")


def _other_pythons() -> list[str]:
    here = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = [f"python3.{minor}" for minor in range(6, 16) if f"python3.{minor}" != here]
    return [path for name in found if (path := shutil.which(name))]


@pytest.mark.parametrize("other", _other_pythons())
def test_a_child_of_another_python_version_works_silently(other: str) -> None:
    probe = subprocess.run([other, "-c", ""], env=clean(), capture_output=True, timeout=60)
    if probe.returncode != 0:  # a shim for a version that is not there
        return
    assert run([other, "-c", "print('child')"], clean()) == (0, "child\n", "")
