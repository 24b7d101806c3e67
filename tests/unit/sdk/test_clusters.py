"""The store of credentials: its contents, which files are believed, and what `resolve` finds in it and the environment."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from offerd.credentials.keys import Keys, new_key, public_of, read_public, read_secret
from offerd.errors import BadInput, NoKey
from offerd.masters import clusters as c
from offerd.masters.clusters import Cluster, Clusters, Connection, Store, own_store, resolve

MASTER = "m" * 40


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home without a store, and no store of the system."""
    for name in ("OFFERD_CONFIG", "XDG_CONFIG_HOME", "OFFERD_MASTER", "OFFERD_KEY", "OFFERD_MASTER_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(c, "SYSTEM_DIRECTORY", str(tmp_path / "etc"))


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """A secret key of ours."""
    return read_secret(new_key("own", tmp_path)[0])


# -- the store ----------------------------------------------------------------------------------------------------------


def test_only_its_owner_may_read_a_store_of_an_account(secret: str) -> None:
    store = own_store()
    store.add(Cluster("prod", "10.0.0.1", MASTER), secret)
    directory = Path(store.directory)
    assert directory == Path(os.environ["HOME"], ".config", "offerd")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (directory, *directory.rglob("*"))}
    assert modes == {
        "offerd": 0o700, "clusters.toml": 0o600, "keys": 0o700, "prod.key": 0o600, "lock": 0o600,
    }  # fmt: skip


def test_the_systems_store_is_readable_by_all_but_for_its_keys(secret: str) -> None:
    store = Store(c.SYSTEM_DIRECTORY)
    store.add(Cluster("prod", "10.0.0.1", MASTER), secret)
    modes = [
        (Path(store.directory) / name).stat().st_mode & 0o777
        for name in (".", "clusters.toml", "keys", "keys/prod.key")
    ]
    assert modes == [0o755, 0o644, 0o700, 0o600]


def test_what_is_written_is_read_again() -> None:
    store = own_store()
    first = Cluster("prod", "zk://a,b/offerd", MASTER, "prod.key")
    second = Cluster("a.b-c_d", "10.0.0.1:5060", key='/odd "pläce\\x')
    store.add(first)
    assert store.add(second) == store.read()
    assert store.read() == Clusters("prod", {"prod": first, "a.b-c_d": second})


def test_a_cluster_is_used_replaced_and_removed_with_its_key(secret: str) -> None:
    store = own_store()
    store.add(Cluster("one", "a"), secret)
    store.add(Cluster("two", "b"), secret)
    store.use("two")
    assert store.read().current == "two"
    store.add(Cluster("one", "c"))
    assert store.read().known["one"].master == "c"
    store.remove("two")
    assert (store.read().current, list(store.read().known)) == ("", ["one"])
    assert not Path(store.directory, "keys", "two.key").exists()
    for order in (store.use, store.remove):
        with pytest.raises(BadInput, match=r"no cluster 'two' in .*; known: one"):
            order("two")


def test_removing_a_cluster_leaves_a_key_alone_that_lies_elsewhere(tmp_path: Path) -> None:
    key, _ = new_key("alice", tmp_path)
    store = own_store()
    store.add(Cluster("one", "a", MASTER, str(key)))
    store.remove("one")
    assert key.exists()


def test_clusters_on_this_host_get_names_of_their_own_and_are_gone_with_their_directory(
    tmp_path: Path,
) -> None:
    store, bases = own_store(), [tmp_path / name for name in "abc"]
    for base in bases:
        base.mkdir()
    local = [Cluster("local", f"127.0.0.1:{5060 + n}", base=str(base)) for n, base in enumerate(bases)]
    assert [store.add_local(each) for each in local[:2]] == ["local", "local-2"]
    assert store.read().current == "local"
    bases[0].rmdir()
    assert (store.read().current, list(store.read().known)) == ("", ["local-2"])
    assert store.add_local(local[2]) == "local"
    assert "local-2" in Path(store.directory, "clusters.toml").read_text()
    store.forget_local(str(bases[1]))
    store.forget_local(str(bases[1]))
    assert list(store.read().known) == ["local"]


@pytest.mark.root
def test_a_directory_of_somebody_else_in_place_of_a_gone_cluster_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    store = own_store()
    store.add_local(Cluster("local", "a", base=str(tmp_path / "base")))
    os.chown(tmp_path / "base", 65534, -1)
    assert store.read().known == {}


def add_many(directory: str, first: int) -> None:
    for number in range(first, first + 20):
        Store(directory).add(Cluster(f"c{number}", "a"))


def test_two_writers_at_the_same_time_lose_nothing() -> None:
    directory = own_store().directory
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=add_many, args=(directory, first)) for first in (0, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(Store(directory).read().known) == 40
    assert sorted(path.name for path in Path(directory).iterdir()) == ["clusters.toml", "keys", "lock"]


@pytest.mark.parametrize(
    "text",
    [
        "nonsense", "current = 5", "cluster = 5", "[cluster]\na = 5", "\xff",
        '[cluster.a]\nmaster_key = "x"', "[cluster.a]\nmaster = 5", '[cluster."a b"]\nmaster = "a"',
        '[cluster.a]\nmaster = "a"\nmaster_key = "short"', '[cluster.a]\nmaster = "a"\nsecret = "x"',
    ],
)  # fmt: skip
def test_a_damaged_store_is_refused_in_one_line_and_not_written_over(text: str) -> None:
    store = own_store()
    store.add(Cluster("one", "a"))
    path = Path(store.directory, "clusters.toml")
    path.write_bytes(text.encode("latin-1"))
    for order in (store.read, lambda: store.add(Cluster("two", "b")), resolve):
        with pytest.raises(BadInput, match=str(path)) as caught:
            order()
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == text.encode("latin-1")


@pytest.mark.parametrize("what", [".", "clusters.toml"])
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_store_that_others_may_write_is_refused(what: str, mode: int) -> None:
    store = own_store()
    store.add(Cluster("one", "a"))
    (Path(store.directory) / what).chmod(mode)
    with pytest.raises(BadInput, match=r"others may write .*chmod go-w"):
        resolve("a")


@pytest.mark.parametrize("name", ["../a", "a b", "", "x" * 41, 'a"]\n[b'])
def test_no_name_can_write_other_entries(name: str) -> None:
    with pytest.raises(BadInput, match="is not a valid name"):
        own_store().add(Cluster(name, "a"))
    with pytest.raises(BadInput, match="control characters"):
        own_store().add(Cluster("a", "b\n[cluster.c]"))


def test_a_place_that_cannot_be_written_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OFFERD_CONFIG", str(tmp_path / "file" / "store"))
    with pytest.raises(BadInput, match=r"cannot write the store .* OFFERD_CONFIG may name"):
        own_store().add(Cluster("a", "b"))


# -- resolve ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_any_setting_no_cluster_is_found(nothing: str | None, secret: str) -> None:
    """Another account of this host may listen where a master would."""
    with pytest.raises(
        NoKey, match=r"no key for any cluster here: run one with `offerd local`, .*join NAME HOST:PORT TOKEN"
    ):
        resolve(nothing)
    own_store().add(Cluster("prod", "10.0.0.1", MASTER), secret)
    own_store().add(Cluster("lab", "10.0.0.2"))
    own_store().use("lab")
    own_store().remove("lab")
    with pytest.raises(NoKey, match=r"choose one with `offerd cluster use NAME`, of prod$"):
        resolve(nothing)


def test_who_has_said_that_no_key_is_needed_finds_this_host() -> None:
    assert resolve(default="127.0.0.1:5060") == Connection("tcp://127.0.0.1:5060", None, "")
    assert resolve("zk://a/p") == Connection("zk://a:2181/p", None, "")


def test_without_an_address_it_is_the_current_cluster_with_its_keys(secret: str) -> None:
    own_store().add(Cluster("prod", "10.0.0.1", MASTER), secret)
    own_store().add(Cluster("lab", "127.0.0.1:5060"))
    assert resolve() == Connection("tcp://10.0.0.1:5060", Keys(secret, MASTER), "prod")
    own_store().use("lab")
    assert resolve() == Connection("tcp://127.0.0.1:5060", None, "lab")


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.1:5060", "tcp://10.0.0.1:5060", "prod"])
def test_an_address_or_a_name_finds_its_keys(monkeypatch: pytest.MonkeyPatch, secret: str, text: str) -> None:
    own_store().add(Cluster("lab", "a"))
    own_store().add(Cluster("prod", "10.0.0.1", MASTER), secret)
    expected = Connection("tcp://10.0.0.1:5060", Keys(secret, MASTER), "prod")
    assert resolve(text) == expected
    monkeypatch.setenv("OFFERD_MASTER", text)
    assert resolve() == expected
    assert resolve("a") == Connection("tcp://a:5060", None, "lab")
    assert resolve(expected) is expected


def test_this_host_is_found_by_its_address_where_nothing_is_current(secret: str) -> None:
    own_store().add(Cluster("here", "localhost:5060", MASTER), secret)
    own_store().add(Cluster("zoo", "zk://b,a/p", MASTER), secret)
    own_store().add(Cluster("other", "a"))
    own_store().use("other")
    own_store().remove("other")
    assert resolve().name == "here"
    assert resolve("zk://b:2181,a:2181/p").name == "zoo"


def test_of_several_at_one_address_the_current_counts_else_the_last() -> None:
    for name in ("one", "two", "three"):
        own_store().add(Cluster(name, "a"))
    own_store().use("two")
    assert resolve("a").name == "two"
    own_store().remove("two")
    assert resolve("a").name == "three"


def test_the_accounts_store_comes_before_the_systems_and_a_named_one_before_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Store(c.SYSTEM_DIRECTORY).add(Cluster("system", "a"))
    assert resolve().name == resolve("a").name == "system"
    own_store().add(Cluster("mine", "a"))
    assert resolve().name == resolve("a").name == "mine"
    assert resolve("system").name == "system"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert resolve().name == "system"
    monkeypatch.setenv("OFFERD_CONFIG", str(tmp_path / "named"))
    with pytest.raises(NoKey, match="no key for any cluster here"):
        resolve()


def test_keys_of_the_environment_win_and_are_completed_from_the_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secret: str
) -> None:
    own_store().add(Cluster("prod", "a", MASTER), secret)
    (tmp_path / "other").mkdir()
    file, public = new_key("alice", tmp_path / "other")
    other = read_secret(file)
    monkeypatch.setenv("OFFERD_KEY", str(file))
    assert resolve("a").keys == Keys(other, MASTER)
    with pytest.raises(BadInput, match="OFFERD_MASTER_KEY"):
        resolve("b")
    monkeypatch.setenv("OFFERD_MASTER_KEY", str(public))
    for place in ("a", "b", "a:5060", "b:5060"):
        assert resolve(place).keys == Keys(other, read_public(str(public)))
    monkeypatch.delenv("OFFERD_KEY")
    assert resolve("a").keys == Keys(secret, public_of(other))
    with pytest.raises(BadInput, match="OFFERD_KEY"):
        resolve("b")


def test_a_cluster_with_keys_but_none_of_ours_is_said_at_once(secret: str) -> None:
    own_store().add(Cluster("prod", "a", MASTER))
    with pytest.raises(NoKey, match=r"no key for the cluster prod at a here: .*add prod a "):
        resolve()
    own_store().add(Cluster("prod", "a", MASTER), secret)
    Path(own_store().directory, "keys", "prod.key").unlink()
    with pytest.raises(NoKey, match=r"no key for the cluster prod at a here: .*add prod a "):
        resolve("a")
