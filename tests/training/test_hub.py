"""Models from the hub, with a local server standing in for it; the hub's address is read when Python starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.fake_model import write_model, write_safetensors
from harness.hub import Hub

MODEL = "someone/tiny-sdxl"
DOWNLOAD = """
import json, sys
from launcher.errors import LauncherError
from launcher.model_files import COMPONENTS
from launcher.train.hub import download
told = []
try:
    components = COMPONENTS if sys.argv[2] == "pipeline" else ()
    folder = download(sys.argv[1], lambda *numbers: told.append(numbers), components)
    print(json.dumps({"folder": str(folder), "told": told}))
except LauncherError as error:
    print(json.dumps({"error": str(error), "exit_code": int(error.exit_code), "told": told}))
"""


@pytest.fixture
def hub(tmp_path):
    """Has one model, with files that nobody needs, and one VAE."""
    folder = write_model(tmp_path / "origin")
    # Large enough that it comes in several pieces.
    write_safetensors(folder / "unet/model.safetensors", {"w": [6000, 1000]})
    write_safetensors(folder / "vae/model.safetensors", {"w": [3, 3]})
    (folder / "README.md").write_text("# nobody trains on this")
    (folder / "unet/model.fp16.safetensors").write_bytes(bytes(1000))
    (folder / "unet/model.bin").write_bytes(bytes(1000))
    (folder / "unet/model.onnx").write_bytes(bytes(1000))
    (folder / "all-in-one.safetensors").write_bytes(bytes(1000))
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker/model.safetensors").write_bytes(bytes(1000))
    with Hub() as hub:
        hub.models = {MODEL: folder, "someone/vae": folder / "vae"}
        yield hub


@pytest.fixture
def download(hub, tmp_path):
    def run(model: str = MODEL, kind: str = "pipeline", **environment: str) -> dict:
        command = [sys.executable, "-c", DOWNLOAD, model, kind]
        own = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache"), **environment}
        done = subprocess.run(
            command, env={**os.environ, **own}, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return run


def content_of(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def test_a_model_comes_with_what_training_needs_and_tells_how_far_it_is(hub, download):
    got = download()
    origin = content_of(hub.models[MODEL])
    unneeded = {
        "README.md",
        "unet/model.fp16.safetensors",
        "unet/model.bin",
        "unet/model.onnx",
        "all-in-one.safetensors",
        "safety_checker/model.safetensors",
    }
    wanted = {name: content for name, content in origin.items() if name not in unneeded}
    assert content_of(got["folder"]) == wanted
    total = sum(map(len, wanted.values()))
    assert got["told"][-1] == [total, total]
    done = [done for done, _ in got["told"]]
    assert done == sorted(done)
    # A second time nothing is transferred.
    hub.transfers.clear()
    assert download()["folder"] == got["folder"]
    assert hub.transfers == []
    # A VAE is found at the top of its repository.
    vae = download("someone/vae", "vae")
    assert content_of(vae["folder"]) == content_of(hub.models["someone/vae"])
    # Without a network, what came whole is used.
    assert download(HF_HUB_OFFLINE="1")["folder"] == got["folder"]
    assert download("someone/vae", "vae", HF_HUB_OFFLINE="1")["folder"] == vae["folder"]
    assert download(HF_ENDPOINT="http://127.0.0.1:9")["folder"] == got["folder"]


def test_a_transfer_that_breaks_off_is_taken_up_where_it_broke(hub, download):
    hub.cut_once = {"unet/model.safetensors"}
    got = download()
    assert (
        content_of(got["folder"])["unet/model.safetensors"] == content_of(hub.models[MODEL])["unet/model.safetensors"]
    )
    whole, rest = [asked for name, asked in hub.transfers if name == "unet/model.safetensors"]
    assert not whole
    assert rest.startswith("bytes=")
    assert rest != "bytes=0-"
    total = got["told"][-1][1]
    assert got["told"][-1] == [total, total]


def test_a_download_that_fails_keeps_what_came_and_goes_on_later(hub, download):
    hub.unavailable = {"vae/model.safetensors"}
    failed = download()
    assert failed["exit_code"] == 3
    assert MODEL in failed["error"]
    assert "start again" in failed["error"]
    offline = download(HF_HUB_OFFLINE="1")
    assert offline["exit_code"] == 3  # what came is not whole
    came = {name for name, _ in hub.transfers} - hub.unavailable
    assert came
    hub.unavailable = set()
    hub.transfers.clear()
    got = download()
    assert "vae/model.safetensors" in content_of(got["folder"])
    assert came.isdisjoint(name for name, _ in hub.transfers)
    total = got["told"][-1][1]
    assert got["told"][-1] == [total, total]


def test_what_cannot_be_brought_is_refused_in_words(hub, download):
    missing = download("someone/nothing")
    assert missing["exit_code"] == 2
    assert "someone/nothing is neither a folder or file here nor a model on the hub" in missing["error"]
    assert download("no/such/thing")["exit_code"] == 2
    hub.gated = {MODEL}
    gated = download()
    assert gated["exit_code"] == 2
    assert "licence" in gated["error"]
    unreachable = download(HF_ENDPOINT="http://127.0.0.1:9")
    assert unreachable["exit_code"] == 3
    assert MODEL in unreachable["error"]
    assert "\n" not in unreachable["error"]


def test_a_model_larger_than_the_disk_is_refused_before_anything_is_transferred(hub, download, tmp_path):
    hub.sizes = {"unet/model.safetensors": 2**60}
    refused = download()
    assert refused["exit_code"] == 3
    assert f"{MODEL} needs {2**30:.1f} GiB more in {tmp_path / 'cache'}" in refused["error"]
    assert hub.transfers == []
