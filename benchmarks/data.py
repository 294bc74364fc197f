"""Cost of the data path next to its peers: `python benchmarks/data.py [--film FILE] [--trs 300] [--peers FOLDER]`.

Every comparison runs both sides in this one call, each measurement in its own process: CPU seconds (user and
system) and peak resident memory, which a busy machine distorts less than wall time. Prints ratios.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from giblet_train.data.simulation.demo_film import demo_shot_list, fetch_film

GRID = (61, 73, 61)
WINDOW_TRS = 96
FILM_TRS = 30
IMPORTS = """
import nibabel, numpy, sys, json, time, resource, threading
from pathlib import Path
def own_kib():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0])
most_own = [own_kib()]
def sample():
    while True:
        most_own[0] = max(most_own[0], own_kib())
        time.sleep(0.01)
threading.Thread(target=sample, daemon=True).start()
"""
REPORT = """
use = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
memory = {"peak_mib": int(peak.split()[1]) / 1024, "peak_own_mib": max(most_own[0], own_kib()) / 1024}
print(json.dumps({"cpu_s": use.ru_utime + use.ru_stime, **memory, **extra}))
"""
GIBLET = """
from giblet_train.data import bold
from giblet_train.data.store.bold_array import write_bold_array
if sys.argv[3] == "stdlib":
    import gzip
    bold.open_gzip = gzip.open
volumes = bold.read_header(Path(sys.argv[1]), 1.5)
mask = bold.nonzero_voxels(volumes)
write_bold_array(Path(sys.argv[2]), volumes, mask, volumes.n_trs)
from giblet_train.data.preprocessing.standardize import scan_moments
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
FRAMES = """
import av
from giblet_train.data.stimulus.video import read_frames
film, n_trs, per_tr, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
wanted_s = [(n + 0.5) * 1.5 / per_tr for n in range(n_trs * per_tr)]
if how == "opencv":
    sys.path.insert(0, sys.argv[5])
    import cv2
    cv2.setNumThreads(1)
started = time.process_time()
if how == "giblet":
    read_frames(film, 1.5, n_trs, per_tr / 1.5, 36, 64, 0.0)
elif how == "PyAV":
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        for wanted in wanted_s:
            container.seek(int(wanted / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time >= wanted - 0.02:
                    frame.to_ndarray(format="rgb24", width=64, height=36, interpolation="AREA")
                    break
else:
    capture = cv2.VideoCapture(str(film))
    rate = capture.get(cv2.CAP_PROP_FPS)
    for wanted in wanted_s:
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(wanted * rate))
        frame = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
        cv2.resize(frame, (64, 36), interpolation=cv2.INTER_AREA)
extra = {"work_s": time.process_time() - started}
"""
PREPARE = """
from giblet_train.schema.config_loader import from_mapping
from giblet_train.data.preprocessing.split_data import prepare_split
from giblet_train.data.store.prepare import Request
from giblet_train.training.load_split import load_split
data = {"data_dir": "study", "video": "film.mp4", "annotations": "annotations.csv"}
data["bold"] = "bold/sub-{subject:02d}.nii.gz"
config = from_mapping({"name": "full", "data": data, "split": {"usable_trs": int(sys.argv[2])}}).config
split = load_split(config, Path(sys.argv[1]), lambda sentence, share: None)
extra = {"voxels": split.n_voxels, "subjects": len(split.subjects)}
"""
LAB_WIDTH, LAB_HEIGHT, LAB_HZ = 640, 360, 25
"""The format of the lab's film."""


def run(program: str, *arguments: object) -> dict[str, float]:
    """Run a program in a new process and return the figures it prints about itself."""
    argv = [sys.executable, "-c", IMPORTS + program + REPORT, *map(str, arguments)]
    process = subprocess.run(argv, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return figures


def write_brain(path: Path, n_trs: int) -> None:
    """Write a subject in scanner units: an ellipsoid of about 85,000 voxels, zero outside."""
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
    """Measure reading, masking and scaling of one subject, and its growth with TRs."""
    before = {name: run(program, "", "", "") for name, program in IDLE.items()}
    idle, idle_own, idle_cpu = (
        {name: figures[key] for name, figures in before.items()} for key in ("peak_mib", "peak_own_mib", "cpu_s")
    )
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
        own = figures["peak_own_mib"] - idle_own[who]
        print(f"  {name:16} {cpu:6.2f} CPU s  {peak:7.0f} MiB above its imports, {own:.0f} without pages of files")
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
    """Measure the private memory of a process that holds the study: memory maps against a pickle."""
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
        idle, mapped_mib, pickled_mib = (run(HELD, study, how)["private_mib"] for how in ("nothing", "map", "pickle"))
        print(
            f"private memory of a process with {n_subjects} subjects: {mapped_mib - idle:.1f} MiB mapped, "
            f"{pickled_mib - idle:.0f} MiB from a pickle"
        )


def bench_windows(folder: Path, n_trs: int) -> None:
    """Compare reading random windows of the memory map with copying memory of the same size."""
    bold_TV = np.load(folder / "a.npy", mmap_mode="r")
    starts = np.random.default_rng(0).integers(0, len(bold_TV) - WINDOW_TRS, 40)
    out = np.empty((WINDOW_TRS, bold_TV.shape[1]), bold_TV.dtype)
    source = np.ones_like(out)
    best = {"window": np.inf, "memcpy": np.inf}
    for _ in range(7):
        for name in best:
            began = time.process_time()
            for start in starts:
                np.copyto(out, bold_TV[start : start + WINDOW_TRS] if name == "window" else source)
            best[name] = min(best[name], time.process_time() - began)
    rate = out.nbytes * len(starts) / best["window"] / 1e9
    print(f"random windows of {WINDOW_TRS} TRs: {rate:.1f} GB/s, {best['memcpy'] / best['window']:.0%} of memcpy")


def bench_film(film: Path, n_trs: int, peers: Path | None, name: str) -> None:
    """Compare reading the film's frames in one pass with a seek per frame, by PyAV and by OpenCV (the lab's reader)."""
    how_often = keyframe_s(film)
    for per_tr in (3, 10):
        readers = ("giblet", "PyAV", *(("opencv",) if peers else ()))
        cpu_s = {who: run(FRAMES, film, n_trs, per_tr, who, peers or "")["work_s"] for who in readers}
        ratios = ", ".join(f"by {who} {cpu_s[who]:.1f} ({cpu_s[who] / cpu_s['giblet']:.1f}x)" for who in readers[1:])
        print(
            f"{name}, {n_trs} TRs of {per_tr} frames, a key frame each {how_often:.1f} s: one pass "
            f"{cpu_s['giblet']:.2f} CPU s; a seek for each frame {ratios}"
        )


def keyframe_s(film: Path) -> float:
    """Return the mean seconds between the frames that a seek can begin at."""
    import av

    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        keys = [p.pts * stream.time_base for p in container.demux(stream) if p.size and p.is_keyframe]
    return float((keys[-1] - keys[0]) / max(1, len(keys) - 1))


def in_the_labs_format(film: Path, to: Path, seconds: float) -> Path:
    """Write the film's beginning in the lab's format: 640x360, 25 frames a second, H.264."""
    import av

    with av.open(str(film)) as source, av.open(str(to), "w") as target:
        video = target.add_stream("libx264", rate=LAB_HZ, options={"preset": "veryfast"})
        video.width, video.height, video.pix_fmt = LAB_WIDTH, LAB_HEIGHT, "yuv420p"
        n_written = 0
        for frame in source.decode(source.streams.video[0]):
            if frame.time > seconds:
                break
            small = frame.reformat(LAB_WIDTH, LAB_HEIGHT, "yuv420p")
            while n_written / LAB_HZ <= frame.time:
                small.pts, small.time_base = n_written, Fraction(1, LAB_HZ)
                target.mux(video.encode(small))
                n_written += 1
        target.mux(video.encode(None))
    return to


def bench_study(folder: Path, film: Path, n_trs: int) -> None:
    """Measure preparing a whole full-size study, from files to split, and its growth with subjects.

    One subject's file serves as every subject's: the cost of reading does not depend on the values.
    """
    study = folder / "study"
    (study / "bold").mkdir(parents=True)
    (study / "film.mp4").symlink_to(film)
    shots = demo_shot_list()
    rows = [f"{s.start_s},{s.end_s},a scene,{n},here" for n, s in enumerate(shots)]
    (study / "annotations.csv").write_text("\n".join(["start_s,end_s,detail,names_all,location", *rows]))
    idle = run(IDLE["giblet"], "", "", "")
    for n_subjects in (1, 5, 17):
        for n in range(1, n_subjects + 1):
            path = study / "bold" / f"sub-{n:02d}.nii.gz"
            if not path.exists():
                path.symlink_to(folder / f"{n_trs}.nii.gz")
        figures = run(PREPARE, folder, n_trs)
        print(
            f"a study of {n_subjects} subjects, {n_trs} TRs, {figures['voxels']:.0f} voxels made ready: "
            f"{figures['cpu_s'] - idle['cpu_s']:.1f} CPU s, {figures['peak_mib'] / 1024:.2f} GiB at most, "
            f"{figures['peak_own_mib'] / 1024:.2f} without pages of files"
        )
        shutil.rmtree(folder / "stores")


def main() -> None:
    """Run every comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--film", type=Path, help="a film file; without one the demo's, fetched through pip")
    parser.add_argument("--trs", type=int, default=300)
    parser.add_argument("--peers", type=Path, help="a folder into which opencv-python-headless was installed")
    options = parser.parse_args()
    film = options.film or fetch_film().path
    with tempfile.TemporaryDirectory() as name:
        bench_brains(Path(name), options.trs)
        bench_windows(Path(name), options.trs)
        bench_ranks(Path(name), options.trs)
        bench_study(Path(name), film, options.trs)
        bench_film(film, FILM_TRS, options.peers, "the film as it is")
        lab = in_the_labs_format(film, Path(name) / "lab.mp4", FILM_TRS * 1.5 + 3.0)
        bench_film(lab, FILM_TRS, options.peers, "the film in the lab's format")


if __name__ == "__main__":
    main()
