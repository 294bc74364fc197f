"""What the data path costs beside its peers: `python benchmarks/data.py [--film FILE] [--trs 300]`.

Every comparison runs both sides in this one call, each measurement in a process of its own: CPU seconds (user and
system) and peak resident memory, which a busy machine distorts less than seconds on the clock. Prints ratios.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from giblet_train.data.film import fetch_film

GRID = (61, 73, 61)
WINDOW_TRS = 96
IMPORTS = "import nibabel, numpy, sys, json, time, resource; from pathlib import Path\n"
REPORT = """
use = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({"cpu_s": use.ru_utime + use.ru_stime, "peak_mib": int(peak.split()[1]) / 1024, **extra}))
"""
GIBLET = """
from giblet_train.data import bold
from giblet_train.data.bold_array import write_bold_array
if sys.argv[3] == "stdlib":
    import gzip
    bold.open_gzip = gzip.open
volumes = bold.read_header(Path(sys.argv[1]), 1.5)
mask = bold.nonzero_voxels(volumes)
write_bold_array(Path(sys.argv[2]), volumes, mask, volumes.n_trs)
from giblet_train.data.standardize import scan_moments
stored = numpy.load(sys.argv[2], mmap_mode="r")
scan_moments(stored, numpy.arange(len(stored)), (len(stored),)).scale()
extra = {"voxels": int(mask.sum())}
"""
NILEARN = """
from nilearn.maskers import NiftiMasker
image = nibabel.load(sys.argv[1])
mask = nibabel.Nifti1Image((numpy.asarray(image.dataobj[..., 0]) != 0).astype("int8"), image.affine)
masked = NiftiMasker(mask_img=mask, standardize="zscore_sample", dtype="float32").fit_transform(image)
numpy.save(sys.argv[2], masked)
extra = {"voxels": masked.shape[1]}
"""
IDLE = {"giblet": "from giblet_train.data import bold_array, standardize\nextra = {}\n"}
IDLE["nilearn"] = "from nilearn.maskers import NiftiMasker\nextra = {}\n"
HELD = """
import pickle
folder = Path(sys.argv[1])
if sys.argv[2] == "nothing":
    held = []
elif sys.argv[2] == "map":
    held = [numpy.load(p, mmap_mode="r") for p in sorted(folder.glob("*.npy"))]
    total = sum(float(row.sum(dtype="float64")) for array in held for row in array)
else:
    held = pickle.loads((folder / "all.pickle").read_bytes())
rollup = Path("/proc/self/smaps_rollup").read_text()
private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous"))
extra = {"private_mib": private / 1024}
"""
SEEK = """
import av
from giblet_train.data.video import read_frames, film_seconds
film, n_trs = Path(sys.argv[1]), int(sys.argv[2])
started = time.process_time()
if sys.argv[3] == "pass":
    read_frames(film, 1.5, n_trs, 2.0, 36, 64, 0.0)
else:
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        for n in range(n_trs * 3):
            wanted = (n + 0.5) * 0.5
            container.seek(int(wanted / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time >= wanted - 0.02:
                    frame.to_ndarray(format="rgb24", width=64, height=36, interpolation="AREA")
                    break
extra = {"work_s": time.process_time() - started}
"""


def run(program: str, *arguments: object) -> dict[str, float]:
    """What a program printed of itself, run in a new process."""
    argv = [sys.executable, "-c", IMPORTS + program + REPORT, *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def write_brain(path: Path, n_trs: int) -> None:
    """A subject in scanner units inside an ellipsoid of about 85,000 voxels, zero outside."""
    import nibabel

    random = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in GRID], indexing="ij"))
    brain = (places**2).sum(axis=0) < 0.68
    volumes = np.zeros((*GRID, n_trs), np.int16)
    volumes[brain] = 1200 + random.normal(0, 40, (int(brain.sum()), n_trs)).astype(np.int16)
    image = nibabel.Nifti1Image(volumes, np.diag([3.0, 3, 3, 1]))
    image.header["pixdim"][4] = 1.5
    nibabel.save(image, path)


def bench_brains(folder: Path, n_trs: int) -> None:
    """One subject read, masked and scaled; and how it grows with TRs."""
    idle = {name: run(program, "", "", "")["peak_mib"] for name, program in IDLE.items()}
    idle_cpu = {name: run(program, "", "", "")["cpu_s"] for name, program in IDLE.items()}
    sizes = (n_trs // 2, n_trs, 2 * n_trs)
    for size in sizes:
        write_brain(folder / f"{size}.nii.gz", size)
    ours = {s: run(GIBLET, folder / f"{s}.nii.gz", folder / "a.npy", "isal") for s in sizes}
    plain = run(GIBLET, folder / f"{n_trs}.nii.gz", folder / "a.npy", "stdlib")
    theirs = run(NILEARN, folder / f"{n_trs}.nii.gz", folder / "b.npy")
    mine = ours[n_trs]
    print(f"read, mask and scale one subject of {n_trs} TRs and {mine['voxels']:.0f} voxels (imports taken off):")
    for name, figures, who in (
        ("giblet", mine, "giblet"),
        ("giblet, no isal", plain, "giblet"),
        ("nilearn", theirs, "nilearn"),
    ):
        cpu, peak = figures["cpu_s"] - idle_cpu[who], figures["peak_mib"] - idle[who]
        print(f"  {name:16} {cpu:6.2f} CPU s  {peak:7.0f} MiB above its imports")
    cpu_ratio = (theirs["cpu_s"] - idle_cpu["nilearn"]) / (mine["cpu_s"] - idle_cpu["giblet"])
    peak_ratio = (theirs["peak_mib"] - idle["nilearn"]) / (mine["peak_mib"] - idle["giblet"])
    print(f"  nilearn / giblet: {cpu_ratio:.1f}x CPU, {peak_ratio:.1f}x memory")
    print(
        "growth with TRs:",
        "; ".join(
            f"{s}: {f['cpu_s'] - idle_cpu['giblet']:.2f} s, {f['peak_mib'] - idle['giblet']:.0f} MiB"
            for s, f in ours.items()
        ),
    )


def bench_ranks(folder: Path, n_trs: int) -> None:
    """Private memory of a process that holds the study: memory maps against a pickle."""
    import pickle

    for n_subjects in (2, 4):
        study = folder / f"ranks-{n_subjects}"
        study.mkdir()
        arrays = [
            np.random.default_rng(s).standard_normal((n_trs, 40_000)).astype(np.float16) for s in range(n_subjects)
        ]
        for s, array in enumerate(arrays):
            np.save(study / f"{s}.npy", array)
        (study / "all.pickle").write_bytes(pickle.dumps(arrays))
        idle, mapped, pickled = (run(HELD, study, how)["private_mib"] for how in ("nothing", "map", "pickle"))
        print(
            f"private memory of a process with {n_subjects} subjects: {mapped - idle:.1f} MiB mapped, "
            f"{pickled - idle:.0f} MiB from a pickle"
        )


def bench_windows(folder: Path, n_trs: int) -> None:
    """Random windows out of the memory map against copying memory of the same size."""
    stored = np.load(folder / "a.npy", mmap_mode="r")
    starts = np.random.default_rng(0).integers(0, len(stored) - WINDOW_TRS, 40)
    out = np.empty((WINDOW_TRS, stored.shape[1]), stored.dtype)
    source = np.ones_like(out)
    best = {"window": np.inf, "memcpy": np.inf}
    for _ in range(7):
        for name in best:
            began = time.process_time()
            for start in starts:
                np.copyto(out, stored[start : start + WINDOW_TRS] if name == "window" else source)
            best[name] = min(best[name], time.process_time() - began)
    rate = out.nbytes * len(starts) / best["window"] / 1e9
    print(f"random windows of {WINDOW_TRS} TRs: {rate:.1f} GB/s, {best['memcpy'] / best['window']:.0%} of memcpy")


def bench_film(film: Path, n_trs: int) -> None:
    """The film's frames in one pass against a seek for each frame."""
    one_pass, seeks = run(SEEK, film, n_trs, "pass")["work_s"], run(SEEK, film, n_trs, "seek")["work_s"]
    print(
        f"film, {n_trs} TRs of 3 frames: {one_pass:.1f} CPU s in one pass, {seeks:.1f} by seeking: "
        f"{seeks / one_pass:.1f}x"
    )


def main() -> None:
    """Run every comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--film", type=Path, help="a film file; without one the demo's, fetched through pip")
    parser.add_argument("--trs", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench_brains(Path(name), options.trs)
        bench_windows(Path(name), options.trs)
        bench_ranks(Path(name), options.trs)
    film = options.film or fetch_film().path
    for n_trs in (20, 100):
        bench_film(film, n_trs)


if __name__ == "__main__":
    main()
