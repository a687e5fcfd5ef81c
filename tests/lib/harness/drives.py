"""What the drives of this machine are, read apart from the code under test."""

import json
import subprocess
from pathlib import Path


def wants_512(folder: Path) -> bool:
    """Whether a folder lies on ext4 on a drive that wants memory aligned to 512 bytes."""
    found = subprocess.run(
        ["findmnt", "--json", "--output", "FSTYPE,MAJ:MIN", "--target", str(folder)],
        capture_output=True,
        check=True,
    )
    (mounted,) = json.loads(found.stdout)["filesystems"]
    device = Path("/sys/dev/block", mounted["maj:min"])
    drive = device.resolve().parent if (device / "partition").exists() else device
    alignment = drive / "queue/dma_alignment"
    return mounted["fstype"] == "ext4" and alignment.exists() and alignment.read_text().strip() == "511"
