"""readings.bin: what is kept of a run's machine, over one launch and several."""

import math

import pytest

from harness.samples import gpu_sample, machine_sample
from launcher.runs.readings import ReadingsFile, read_header, read_rows


@pytest.fixture
def path(tmp_path):
    return tmp_path / "readings.bin"


def rows(path) -> list[dict[str, float]]:
    names = read_header(path).columns
    return [dict(zip(names, row, strict=True)) for row in read_rows(path, len(names))]


def test_what_was_kept_is_read_back_by_name(path):
    file = ReadingsFile(path)
    for second in range(3):
        file.append(machine_sample(1000.0 + second, gpu_sample(used_mib=9000 + second), gpu_sample(1)))
    header = read_header(path)
    assert (header.began, header.host_total_mib, header.folders) == (1000.0, 64000, ("/run",))
    assert [(gpu.index, gpu.uuid, gpu.total_mib) for gpu in header.gpus] == [
        (0, "GPU-00-beef", 24564),
        (1, "GPU-11-beef", 24564),
    ]
    found = rows(path)
    assert [row["seconds"] for row in found] == [0, 1, 2]
    assert [row["gpu.0.used_mib"] for row in found] == [9000, 9001, 9002]
    assert (found[0]["gpu.1.power_w"], found[0]["host.load"], found[0]["disk.0.written_mib_s"]) == (412, 1.5, 12.5)
    assert math.isnan(found[0]["run.pinned_mib"]) and math.isnan(found[0]["disk.0.read_mib_s"])


def test_a_reader_goes_on_from_the_row_it_has(path):
    file = ReadingsFile(path)
    for second in range(5):
        file.append(machine_sample(second))
    columns = len(read_header(path).columns)
    assert [row[0] for row in read_rows(path, columns, row=3)] == [3, 4]
    assert list(read_rows(path, columns, row=5)) == []
    assert list(read_rows(path.parent / "none", columns)) == []
    assert read_header(path.parent / "none") is None


def test_a_day_of_a_gpu_takes_some_five_megabytes(path):
    file = ReadingsFile(path)
    for second in range(100):
        file.append(machine_sample(second, gpu_sample()))
    header = len(path.read_bytes().split(b"\n", 1)[0]) + 1
    assert (path.stat().st_size - header) / 100 * 86_400 < 5.5e6


def test_a_launch_that_looks_at_the_same_goes_on(path):
    for second in (0, 3600):
        ReadingsFile(path).append(machine_sample(second, gpu_sample()))
    assert [row["seconds"] for row in rows(path)] == [0, 3600]


def test_a_launch_on_other_gpus_keeps_what_was_shown_of_the_first(path):
    ReadingsFile(path).append(machine_sample(0, gpu_sample(0)))
    columns = len(read_header(path).columns)
    ReadingsFile(path).append(machine_sample(60, gpu_sample(1, used_mib=5000), folders=("/run", "/nvme")))
    assert [gpu.index for gpu in read_header(path).gpus] == [0, 1]
    assert read_header(path).folders == ("/run", "/nvme")
    before, after = rows(path)
    assert (before["gpu.0.used_mib"], after["gpu.1.used_mib"], after["seconds"]) == (9000, 5000, 60)
    assert math.isnan(before["gpu.1.used_mib"]) and math.isnan(after["gpu.0.used_mib"])
    assert (before["disk.0.free_mib"], after["disk.1.free_mib"]) == (500_000, 500_000)
    assert math.isnan(before["disk.1.free_mib"])
    assert list(read_rows(path, columns)) == []  # whoever has the old header must not take one figure for another


def test_a_gpu_that_is_seen_later_gets_its_columns_then(path):
    file = ReadingsFile(path)
    file.append(machine_sample(0))
    file.append(machine_sample(1, gpu_sample()))
    file.append(machine_sample(2))
    used = [row["gpu.0.used_mib"] for row in rows(path)]
    assert used[1] == 9000 and math.isnan(used[0]) and math.isnan(used[2])


def test_a_gpu_that_was_lost_keeps_its_name_and_total(path):
    ReadingsFile(path).append(machine_sample(0, gpu_sample()))
    lost = gpu_sample(total_mib=math.nan, used_mib=math.nan, lost="it has fallen off the bus")
    nameless = gpu_sample(1, uuid="", lost="it has fallen off the bus")
    ReadingsFile(path).append(machine_sample(1, lost, nameless))
    (gpu,) = read_header(path).gpus
    assert gpu.total_mib == 24564
    assert len(rows(path)) == 2


def test_half_a_row_that_a_death_left_is_not_taken_for_figures(path):
    ReadingsFile(path).append(machine_sample(0, gpu_sample()))
    with path.open("ab") as file:
        file.write(b"\0" * 9)
    assert [row["seconds"] for row in rows(path)] == [0]
    ReadingsFile(path).append(machine_sample(1, gpu_sample()))
    assert [row["seconds"] for row in rows(path)] == [0, 1]


def test_a_file_that_is_none_is_begun_anew(path):
    for content in (b"", b"\n", b"{}\n", b"\x00\xff", b'{"gpus": 1}\n'):
        path.write_bytes(content)
        assert read_header(path) is None and list(read_rows(path, 8)) == []
    ReadingsFile(path).append(machine_sample(0))
    assert len(rows(path)) == 1


def test_a_disk_that_refuses_costs_the_row_and_not_the_run(path):
    file = ReadingsFile(path)
    file.append(machine_sample(0))
    kept = path.rename(path.parent / "kept")
    path.symlink_to("/dev/full")
    file.append(machine_sample(1))
    kept.replace(path)
    file.append(machine_sample(2))
    assert [row["seconds"] for row in rows(path)] == [0, 2]
