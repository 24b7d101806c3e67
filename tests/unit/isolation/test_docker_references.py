"""Which images a slave may run, by any of their names."""

from __future__ import annotations

import pytest

from offerd_isolation.docker.references import complete, is_allowed

DIGEST = f"sha256:{'ab' * 32}"
OTHER = f"sha256:{'cd' * 32}"


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("team/tool", "docker.io/team/tool:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest"),
        ("index.docker.io/team/tool:1", "docker.io/team/tool:1"),
        ("localhost/tool", "localhost/tool:latest"),
        ("localhost:5000/tool:1", "localhost:5000/tool:1"),
        ("registry.example/a/b/c", "registry.example/a/b/c:latest"),
        (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}"),
        (f"debian:12@{DIGEST}", f"docker.io/library/debian:12@{DIGEST}"),
        (DIGEST, DIGEST),
        ("3f1a2b", "docker.io/library/3f1a2b:latest"),
    ],
)
def test_a_short_name_is_completed_as_the_engine_does_it(name: str, full: str) -> None:
    assert complete(name) == full
    assert complete(full) == full


@pytest.mark.parametrize(
    ("name", "pattern", "allowed"),
    [
        ("debian:12", "debian:12", True),
        ("docker.io/library/debian:12", "debian:12", True),
        ("debian:13", "debian:12", False),
        ("debian", "debian:12", False),
        ("debian", "debian", True),
        ("debian:13", "debian", True),
        ("debian:12", "debian:1*", True),
        ("debian2:12", "debian", False),
        ("evil.example/debian:12", "debian:12", False),
        ("evil.example/library/debian:12", "debian", False),
        ("registry.example/a/b:1", "registry.example/*", True),
        ("registry.example.evil/a", "registry.example/*", False),
        ("registry.example:5000/a", "registry.example/*", False),
        ("team/tool:3", "team/*", True),
        ("registry.example/team/tool", "team/*", False),
        (f"debian@{DIGEST}", "debian", True),
        (f"debian:12@{DIGEST}", "debian:12", False),
        (f"debian@{DIGEST}", f"debian@{DIGEST}", True),
        (f"debian:99@{DIGEST}", f"debian:12@{DIGEST}", True),
        (f"debian@{OTHER}", f"debian@{DIGEST}", False),
        ("debian:12", f"debian@{DIGEST}", False),
        (DIGEST, "debian", False),
        (DIGEST, DIGEST, True),
        (OTHER, DIGEST, False),
        ("anything.example/at/all:1", "*", True),
        (DIGEST, "*", True),
    ],
)
def test_a_pattern_allows_only_the_images_that_it_names(name: str, pattern: str, allowed: bool) -> None:
    assert is_allowed(name, "", [pattern]) is allowed
    assert is_allowed(name, "", ["no/such", pattern]) is allowed


def test_without_patterns_only_the_slaves_own_image_is_allowed() -> None:
    assert is_allowed("docker.io/library/debian:12", "debian:12", ())
    assert not is_allowed("debian:13", "debian:12", ())
    assert not is_allowed(f"debian:12@{DIGEST}", "debian:12", ())
    assert not is_allowed("debian", "", ())
