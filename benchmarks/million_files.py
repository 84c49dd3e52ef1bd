"""Opens a manifest, and a folder, of a million files.

    python benchmarks/million_files.py [--files 1000000] [--folder F] [--json]

Makes that many files of their own (no links: each has its inode, 4 KB on the
disk), WAVs of 0.1 s in folders of 1,000, and a manifest with a column of
labels, in a temporary folder (or in F), and deletes them afterwards, which on
some disks takes ten minutes. In between, in fresh processes, it measures until
the first batch has come:

- manifest, cold: the first look at it, with the system's file caches dropped
  where that is permitted; to reach: 60 s;
- manifest, warm: the same in a second process; to reach: 2 s;
- folder, cold and warm: `from_folder` on the same files.

and in each of them the largest resident memory, in all and above the process
with the library loaded (to reach: 300 MB), and what a run needs besides: the
signature and the table of the files. The index that is kept between processes
goes into the temporary folder too. The exit code is 1 where a target is
missed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS = {"manifest, cold": 60, "manifest, warm": 2}
MEGABYTES = 300
EACH = 1000  # files of a folder
BLOCK = 4096


def make_files(folder, count):
    """The files and their table; gives the path of the latter."""
    import io

    import numpy as np
    import soundfile

    room = os.statvfs(folder)
    if room.f_files and room.f_favail < 1.01 * count + 1000:
        sys.exit(f"{folder} has no room for {count:,} files: inodes")
    if room.f_bavail * room.f_frsize < 1.1 * count * BLOCK:
        sys.exit(f"{folder} has no room for {count:,} files: bytes")
    memory = io.BytesIO()
    wave = 0.1 * np.random.default_rng(0).standard_normal(1600)
    soundfile.write(memory, wave, 16000, format="WAV")
    stub = memory.getvalue()
    table = folder / "manifest.csv"
    with open(table, "w") as rows:
        rows.write("file,label,split\n")
        for k in range(count):
            below = f"audio/{k // EACH:05}"
            if k % EACH == 0:
                (folder / below).mkdir(parents=True)
            name = f"{below}/clip_{k:08}.wav"
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(handle, stub)
            os.close(handle)
            rows.write(f"{name},{k % 527},{'test' if k % 10 else 'train'}\n")
    return table


def drop_caches():
    """Whether the system forgot the files."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def memory(key):
    """A line of this process' status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(key)


def child(kind, path):
    """What a process measures that opens the data."""
    import keras_audio_ssl as kas
    from keras_audio_ssl.callbacks.resume import write_contents

    open_data = kas.data.from_folder
    options = {"batch_size": 64}
    if kind == "manifest":
        open_data, options["label"] = kas.data.from_manifest, "label"
    # The peak is to be that of the work, not of the imports.
    Path("/proc/self/clear_refs").write_text("5\n")
    loaded = memory("VmRSS")
    marks, busy = [time.perf_counter()], time.process_time()
    data = open_data(path, 0.05, **options)
    marks.append(time.perf_counter())
    data.batch(0, 0)
    marks.append(time.perf_counter())
    busy = time.process_time() - busy
    peak = memory("VmHWM")
    signature = data.signature()
    marks.append(time.perf_counter())
    with tempfile.TemporaryDirectory() as folder:
        write_contents(Path(folder) / "files.csv", data)
        marks.append(time.perf_counter())
    result = {
        "seconds": marks[2] - marks[0],
        "processor": busy,
        "opening": marks[1] - marks[0],
        "first batch": marks[2] - marks[1],
        "signature": marks[3] - marks[2],
        "files.csv": marks[4] - marks[3],
        "library": loaded,
        "peak": peak,
        "above": peak - loaded,
        "above with tables": memory("VmHWM") - loaded,
        "clips": data.num_clips,
        "files": signature["files"],
    }
    print(json.dumps(result))


def measure(kind, path, cache):
    done = subprocess.run(
        [sys.executable, __file__, "--child", kind, str(path)],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--folder", help="a new one for the files")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    if args.folder:
        os.makedirs(args.folder)
    folder = Path(args.folder or tempfile.mkdtemp())
    try:
        begin = time.perf_counter()
        table = make_files(folder, args.files)
        passed = time.perf_counter() - begin
        print(f"{args.files:,} files made in {passed:.0f} s", file=sys.stderr)
        results = {}
        for kind, path in (("manifest", table), ("folder", folder / "audio")):
            dropped = drop_caches()
            for way in ("cold", "warm"):
                result = measure(kind, path, folder / "cache")
                results[f"{kind}, {way}"] = result
        text = report(results, dropped)
        print(json.dumps(results, indent=1) if args.json else text, flush=True)
    finally:
        shutil.rmtree(folder)
    sys.exit(not all(reached(results)))


def reached(results):
    """Whether each target is."""
    for name, result in results.items():
        if name in SECONDS:
            yield result["seconds"] < SECONDS[name]
        yield result["above with tables"] < MEGABYTES


def report(results, dropped):
    lines = [
        "file caches dropped before each cold start; "
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    ]
    if not dropped:
        lines = ["file caches could not be dropped: not permitted"]
    for name, result in results.items():
        target = SECONDS.get(name)
        aim = "" if target is None else f" (target {target} s)"
        lines += [
            f"{name}: {result['seconds']:.2f} s to the first batch{aim}, "
            f"{result['processor']:.2f} s of a processor",
            f"  opening {result['opening']:.2f} s, first batch "
            f"{result['first batch']:.2f} s; then signature "
            f"{result['signature']:.2f} s, table of the files "
            f"{result['files.csv']:.2f} s",
            f"  memory at most {result['peak']:.0f} MB, "
            f"{result['above']:.0f} MB above the library's "
            f"{result['library']:.0f} MB; with a run's tables "
            f"{result['above with tables']:.0f}"
            f" MB above (target {MEGABYTES} MB)",
        ]
    lines.append("all reached" if all(reached(results)) else "MISSED")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
