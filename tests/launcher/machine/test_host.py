"""Host memory and cores, as far as a container lets them be used."""

import os
import resource

import psutil
import pytest

from launcher.machine.host import lockable_mib, physical_share, read_host

MIB = 2**20
WHOLE = psutil.virtual_memory().total // MIB


def cgroup(folder, files: dict[str, object]):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{content}\n")
    return folder


V2 = ("memory.max", "memory.current", "memory.stat", "inactive_file")
V1 = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file")


def test_without_a_container_it_is_the_whole_machine(tmp_path):
    host = read_host(tmp_path)
    assert host.total_mib == WHOLE
    assert 0 < host.available_mib <= WHOLE
    assert 1 <= host.cores <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("limit", "used", "stat", "cache"), [V2, V1], ids=["v2", "v1"])
def test_a_container_has_its_limit_and_what_is_left_of_it(tmp_path, limit, used, stat, cache):
    host = read_host(cgroup(tmp_path, {limit: 300 * MIB, used: 100 * MIB}))
    assert (host.total_mib, host.available_mib) == (300, 200)


@pytest.mark.parametrize(("limit", "used", "stat", "cache"), [V2, V1], ids=["v2", "v1"])
def test_files_that_were_read_do_not_count_as_used(tmp_path, limit, used, stat, cache):
    files = {limit: 300 * MIB, used: 290 * MIB, stat: f"anon {90 * MIB}\n{cache} {190 * MIB}\nslab 5"}
    assert read_host(cgroup(tmp_path, files)).available_mib == 200


@pytest.mark.parametrize("content", ["", "nonsense", "inactive_file", "inactive_file much", "anon 5"])
def test_statistics_of_another_form_are_left_out(tmp_path, content):
    files = {"memory.max": 300 * MIB, "memory.current": 100 * MIB, "memory.stat": content}
    assert read_host(cgroup(tmp_path, files)).available_mib == 200


def test_more_in_use_than_allowed_leaves_nothing(tmp_path):
    host = read_host(cgroup(tmp_path, {"memory.max": 300 * MIB, "memory.current": 400 * MIB}))
    assert host.available_mib == 0


@pytest.mark.parametrize(
    "files",
    [
        {"memory.max": "max", "memory.current": 5 * MIB},
        {"memory/memory.limit_in_bytes": 9223372036854771712, "memory/memory.usage_in_bytes": 5 * MIB},
        {"memory.max": 2**60, "memory.current": 5 * MIB},
        {"memory.max": 300 * MIB},
        {"memory.max": "", "memory.current": ""},
    ],
)
def test_no_limit_or_one_above_the_machines_memory_is_none(tmp_path, files):
    assert read_host(cgroup(tmp_path, files)).total_mib == WHOLE


def test_no_limit_by_version_2_leaves_version_1_to_be_asked(tmp_path):
    files = {"memory.max": "max", "memory.current": 0, V1[0]: 300 * MIB, V1[1]: 0}
    assert read_host(cgroup(tmp_path, files)).total_mib == 300


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "100000 100000"},
        {"cpu.max": "150000 100000"},
        {"cpu.max": "20000 100000"},
        {"cpu/cpu.cfs_quota_us": 100000, "cpu/cpu.cfs_period_us": 100000},
        {"cpu.max": "max 100000", "cpu/cpu.cfs_quota_us": 50000, "cpu/cpu.cfs_period_us": 100000},
    ],
)
def test_a_quota_of_cores_is_whole_ones_and_at_least_one(tmp_path, files):
    assert read_host(cgroup(tmp_path, files)).cores == 1


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "max 100000"},
        {"cpu.max": "99000000 100000"},
        {"cpu.max": "100000"},
        {"cpu.max": "1 0"},
        {"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000},
        {"cpu/cpu.cfs_quota_us": 100000},
    ],
)
def test_no_quota_leaves_the_machines_cores(tmp_path, files):
    assert read_host(cgroup(tmp_path, files)).cores == read_host(tmp_path / "none").cores


@pytest.mark.parametrize(
    ("usable", "logical", "physical", "cores"),
    [(16, 16, 8, 8), (4, 16, 8, 2), (1, 16, 8, 1), (8, 8, 8, 8), (64, 64, None, 64), (2, 64, None, 2)],
)
def test_two_threads_of_a_core_are_one_and_where_nobody_knows_each_counts(usable, logical, physical, cores):
    assert physical_share(usable, logical, physical) == cores


def test_a_process_bound_to_one_core_has_one(tmp_path):
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert read_host(tmp_path).cores == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("capabilities", "limit", "lockable"),
    [
        ("0000000000000000", 64 * MIB, 64),
        ("0000000000000000", resource.RLIM_INFINITY, None),
        ("0000000000004000", 64 * MIB, None),  # CAP_IPC_LOCK
        ("00000000a80435fb", 8 * MIB, 8),  # root in Docker
    ],
)
def test_what_may_be_locked_is_limited_but_for_who_may_lock_all(tmp_path, monkeypatch, capabilities, limit, lockable):
    status = tmp_path / "status"
    status.write_text(f"Name:\tpython\nCapEff:\t{capabilities}\n")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert lockable_mib(status) == lockable
