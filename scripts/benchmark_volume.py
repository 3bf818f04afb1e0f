"""Seconds of preparing one synthetic MR body, in a process of its own; called by benchmark.py, prints JSON.

python3 scripts/benchmark_volume.py X Y Z     voxels
"""

from __future__ import annotations

import json
import sys
import time

import torch
from benchmark_step import peak_gib

from medgan.data.phantom import make_phantom
from medgan.data.transforms import prepare
from medgan.data.volume import Volume

if __name__ == "__main__":
    x, y, z = map(int, sys.argv[1:])
    phantom = make_phantom(0, (x, y, z), (1.5, 1.5, 2.0))
    volume = Volume(phantom.mr, phantom.affine, None, phantom.mr.shape, None)
    begin = time.perf_counter()
    prepare(volume, spacing_mm=(2.0, 2.0, 2.0), crop_margin_mm=8.0)
    print(json.dumps({"seconds": time.perf_counter() - begin, "peak_gib": peak_gib(torch.device("cpu"))}))
