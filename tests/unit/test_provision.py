"""The scripts that install a host: what they accept and refuse before they change anything."""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from offerd_cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
COMMON = ROOT / "deploy/provision/common.sh"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ("--no-start", 0),
        ("--insecure", 0),
        ("", 2),
        ("--ip 10.0.0.1", 2),
        ("-- --key a.key --authorized b", 0),
    ],
)
def test_without_keys_nothing_is_started_but_what_is_only_installed_needs_none(
    options: str, status: int
) -> None:
    script = f'. "{COMMON}"; usage() {{ :; }}; parse_options {options}'
    done = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr


@pytest.mark.parametrize(
    ("host", "written"), [("10.0.0.1", "10.0.0.1:5060"), ("2001:db8::1", "[2001:db8::1]:5060")]
)
def test_commands_of_the_host_find_its_master_by_ipv6_too(host: str, written: str) -> None:
    script = f'. "{COMMON}"; at_port {host} 5060'
    done = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == written


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed host's /usr/local/share: installed twice, the first time with a page that no longer exists."""
    place = tmp_path_factory.mktemp("host")
    programs = place / "venv/bin"
    programs.mkdir(parents=True)
    (programs / "offerd").symlink_to(Path(sys.executable).with_name("offerd"))
    old = place / "share/man/man1/offerd-of-old.1"
    old.parent.mkdir(parents=True)
    old.write_text("")
    script = f'. "{COMMON}"; prefix={place}; share_dir={place}/share; install_help; install_help'
    subprocess.run(["sh", "-eu", "-c", script], capture_output=True, check=True)
    return place / "share"


def test_a_host_has_a_manual_page_of_each_command_and_none_of_old(share: Path) -> None:
    pages = {path.name for path in (share / "man/man1").iterdir()}
    assert {"offerd.1", *(f"offerd-{name}.1" for name in COMMANDS)} <= pages
    assert "offerd-of-old.1" not in pages
    if shutil.which("man") is not None:
        found = subprocess.run(
            ["man", "-M", str(share / "man"), "-w", "offerd-run"], capture_output=True, text=True, check=True
        )
        assert Path(found.stdout.strip()) == share / "man/man1/offerd-run.1"


def test_a_new_bash_completes_its_words(share: Path) -> None:
    script = (
        f'. "{share}/bash-completion/completions/offerd"; PATH="{share.parent}/venv/bin:$PATH"; '
        'COMP_WORDS=(offerd frame); COMP_CWORD=1; _offerd_completion offerd; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "frameworks\n"
    assert (share / "zsh/site-functions/_offerd").read_text().startswith("#compdef offerd\n")
    assert (
        "complete --no-files --command offerd"
        in (share / "fish/vendor_completions.d/offerd.fish").read_text()
    )


def test_the_document_says_to_remove_everything_that_is_installed(share: Path) -> None:
    removed = (
        (ROOT / "deploy/README.md").read_text().partition("To remove everything:")[2].partition("```\n\n")[0]
    )
    patterns = [word for word in removed.replace("\\\n", " ").split() if word.startswith("/usr/local/share")]
    files = [f"/usr/local/share/{path.relative_to(share)}" for path in share.rglob("*") if path.is_file()]
    assert len(files) > len(COMMANDS)
    assert [file for file in files if not any(fnmatch.fnmatch(file, each) for each in patterns)] == []


@pytest.mark.parametrize(
    ("addresses", "ip"),
    [("172.18.0.3", "172.18.0.3"), ("172.18.0.3 fd00::3", "172.18.0.3"), ("fd00::3", "fd00::3")],
)
def test_containers_of_the_compose_file_get_one_address_each(tmp_path: Path, addresses: str, ip: str) -> None:
    for name, script in (("hostname", f"echo '{addresses} '"), ("offerd", 'echo "$3"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    lines = (ROOT / "deploy/images/compose.yaml").read_text().splitlines()
    commands = [line.partition("'")[2].rpartition("'")[0] for line in lines if "entrypoint: [sh" in line]
    assert len(commands) == 2
    for command in commands:
        done = subprocess.run(
            ["sh", "-c", command.replace("$$", "$")], env={"PATH": f"{tmp_path}:/usr/bin:/bin", "OFFERD_MASTER": ""},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == f"{ip}\n"
