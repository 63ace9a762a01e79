"""ImageNet's 1.28 million samples in bounded memory: a list of that length, and a set of that many rows.

The limit is the kernel's (RLIMIT_DATA): an allocation beyond it fails. Pages of memory-mapped files, which the kernel takes
back when it needs them, do not count.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COUNT = 1_281_167
LIMIT_GIB = 4

OWN = """
import resource
resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_GIB * 2**30, LIMIT_GIB * 2**30))

def own_gib():
    lines = open("/proc/self/status").read().splitlines()
    return round(sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))) / 2**20, 2)
"""

LISTING = """
import json, sys
from pathlib import Path
import numpy as np
from gat.data.folder import FolderSource, frozen_folder
from gat.data.claims import Claims, part_count

count, folder = int(sys.argv[1]), Path(sys.argv[2])
labels = np.arange(count) * 1000 // count
names = [f"n{label:08d}/n{label:08d}_{i:06d}.JPEG" for i, label in enumerate(labels)]
FolderSource(Path("/photos"), [f"n{i:08d}" for i in range(1000)], labels, names).freeze(folder / "files.feather")
source = frozen_folder(folder / "files.feather", Path("/photos"))
claimed = sum(len(rows) for rows in Claims(folder, list(range(part_count(count))), len(source), 256))
print(json.dumps({"count": len(source), "last": source.files[-1], "claimed": claimed, "gib": own_gib()}))
"""

READING = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import torch
from gat.data.loader import StreamingLoader, open_loader
from gat.data.order import TrainingOrder
from gat.data.parts import PartInfo, info_file, part_file
from gat.data.prepared import PreparedSet
from tests.data_helpers import loader_config
from tests.prepared import write_prepared

count, folder = int(sys.argv[1]), Path(sys.argv[2])
moments = np.arange(4096, dtype=np.float32)[:, None, None, None] * np.ones((1, 8, 32, 32), np.float32)
images = np.broadcast_to(np.uint8(7), (4096, 8, 8, 3))
one = write_prepared(folder / "one", moments.astype(np.float16), images, np.arange(4096) % 1000)
(info,) = one.manifest.parts
(folder / "set").mkdir()
rest = count % 4096
last = write_prepared(folder / "last", moments[:rest].astype(np.float16), images[:rest], np.arange(rest) % 1000)
parts = [replace(info, number=number) for number in range(count // 4096)]
for part in parts:
    os.link(part_file(folder / "one", 0), part_file(folder / "set", part.number))
os.link(part_file(folder / "last", 0), part_file(folder / "set", len(parts)))
parts.append(replace(last.manifest.parts[0], number=len(parts)))
labels = np.arange(count) % 4096 % 1000
np.save(folder / "set" / "labels.npy", labels)
import hashlib
digest = hashlib.sha256(labels.tobytes()).hexdigest()
replace(one.manifest, count=count, parts=parts, labels_sha256=digest).write(folder / "set")
del moments, one, last

data = PreparedSet(folder / "set")
order = TrainingOrder(len(data), 256, seed=0)
loader = open_loader(data, order, slice(None), torch.device("cpu"), loader_config(), images=False)
steps = [0, 1, 2, order.steps_per_epoch - 1, order.steps_per_epoch]
right = all(
    torch.equal(batch.moments[:, 0, 0, 0].float(), (torch.from_numpy(order.rows(step)) % 4096).half().float())
    and batch.labels.tolist() == (order.rows(step) % 4096 % 1000).tolist()
    for step in steps
    for batch in [loader.batch(step)]
)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
kind = isinstance(loader, StreamingLoader)
print(json.dumps({"count": len(data), "streams": kind, "right": right, "bytes": data.bytes, "gib": own_gib()}))
"""


def facts_of(script: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", OWN.replace("LIMIT_GIB", str(LIMIT_GIB)) + script, str(COUNT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    print(facts)  # noqa: T201 - shown with -s: the README's figures
    return facts


@pytest.mark.slow
def test_listing_and_claiming(tmp_path: Path) -> None:
    facts = facts_of(LISTING, tmp_path)
    assert facts["count"] == facts["claimed"] == COUNT
    assert facts["last"] == f"n00000999/n00000999_{COUNT - 1:06d}.JPEG"


@pytest.mark.slow
def test_opening_and_reading(tmp_path: Path) -> None:
    """21 GB of moments: 312 parts are links to one file."""
    facts = facts_of(READING, tmp_path)
    assert (facts["count"], facts["streams"], facts["right"]) == (COUNT, True, True)
    assert facts["bytes"] > 20e9
