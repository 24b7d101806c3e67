"""`offerd simulate`: what it prints, what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from offerd_cli.exit_statuses import EXIT_BAD_INPUT
from offerd_cli.main import main
from offerd_simulator.experiments import EXPERIMENTS


def output(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["simulate", *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_help_names_every_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = output(capsys, "--help")
    assert status == 0
    assert all(name in out for name in EXPERIMENTS)


def test_tables_stand_beside_the_papers_figures_and_plots_in_the_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, err = output(capsys, "scale", "--slaves", "50,100", "--plots", str(tmp_path / "plots"))
    assert (status, err) == (0, "")
    assert "paper: probe, s" in out
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["scale.png", "scale.svg"]
    assert not any(line.endswith(" ") and "─" in line for line in out.splitlines())


def test_programs_get_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = output(capsys, "scale", "--slaves", "50", "--json", "--seed", "5")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert (document["experiment"], document["seed"]) == ("scale", 5)
    (row,) = document["tables"]["scale"]
    assert row["slaves"] == 50
    assert set(row["probe_s"]) == {"mean", "half_width"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["tabel2"], "there is no experiment 'tabel2'; there are: table2"),
        (["scale", "--slaves", "many"], "'many' is not a number"),
        (["scale", "--slaves", "0"], "'0' is not a number from 1"),
        (["table2", "--slaves", "5"], "--slaves is for the experiment scale"),
        (["table2", "--seed", "x"], "not a valid integer"),
        ([], "Missing argument 'EXPERIMENT'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = output(capsys, *words)
    assert (status, out) == (EXIT_BAD_INPUT, "")
    assert text in err
    assert err.count("\n") == 1


def test_a_missing_plotting_library_is_noticed_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, err = output(capsys, "macro", "--plots", str(tmp_path / "plots"))
    assert (status, out) == (EXIT_BAD_INPUT, "")
    assert "pip install matplotlib" in err
    assert not (tmp_path / "plots").exists()


def test_a_folder_that_is_a_file_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("")
    status, _, err = output(capsys, "scale", "--plots", str(tmp_path / "plots"))
    assert status == EXIT_BAD_INPUT
    assert "is a file" in err
