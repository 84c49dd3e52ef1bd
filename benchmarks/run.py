"""Measures the library against plain PyTorch, everything in one run.

    python benchmarks/run.py [CASE ...] [--rounds 5] [--json FILE]

Cases: steps of each method, log-mel, embedding, and the input pipeline. Each
contender (a backend here, or the peer in `peers.py`) has a process of its own
and waits while another works; they take turns for some rounds, so that a busy
moment of the machine hits them alike. All have the settings of memory that
the command line gives itself, the peer too (`GLIBC_TUNABLES=` has them off).
Printed is the time of a step (the shortest over the rounds), examples per
second, and the ratio of the times to the peer's: below 1 is faster than the
peer. In brackets the smallest and largest ratio of a round: where they lie
far apart, the machine was busy.
"""

import argparse
import importlib
import json
import os
import platform
import runpy
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

# PyTorch heeds these and XLA does not; `taskset` holds all contenders alike.
ONE_SIDED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

# Read, not imported: the peer's process is to be plain PyTorch.
MEMORY = runpy.run_path(str(HERE.parent / "keras_audio_ssl/cli/memory.py"))

BACKENDS = ("jax", "tensorflow", "torch")

# name: what is counted, how many a step has, target of the best backend and
# of the worst (None: no target), extra contenders by name.
XLA = {"tensorflow+xla": ("tensorflow", {"jit_compile": True})}
CASES = {
    "log_mel": ("clips", 64, 0.6, 1.5, {}),
    "byol_a": ("clips", 64, 0.85, 1.3, XLA),
    "byol_a_from_waveforms": ("clips", 64, None, None, XLA),
    "cola": ("clips", 32, 1.15, {"torch": 1.5, "jax": 4.0}, {}),
    "cola_cnn": ("clips", 32, None, None, XLA),
    "apc": ("utterances", 16, 0.7, 1.4, {}),
    "tera": ("utterances", 4, 0.7, 1.1, {}),
    "mockingjay": ("utterances", 4, 0.7, 1.1, {}),
    "audio_albert": ("utterances", 4, 0.7, 1.1, {}),
    "dapc": ("utterances", 32, 1.0, 1.5, {}),
    "npc": ("utterances", 8, 1.0, 1.5, {}),
    "mpc": ("utterances", 8, None, None, {}),
    "mam": ("utterances", 8, None, None, {}),
    "fonseca": ("clips", 16, 1.0, 1.5, {}),
    "fonseca_vgg": ("clips", 16, 1.0, 1.5, {}),
    "clar": ("clips", 8, 1.0, 1.5, {}),
    "joint": ("clips", 64, 1.0, 1.5, XLA),
    "audio2vec_cbow": ("clips", 32, 0.9, 1.5, {}),
    "audio2vec_skipgram": ("clips", 32, 0.9, 1.5, {}),
    "speech2vec_cbow": ("words", 256, 0.9, 1.5, {}),
    "speech2vec_skipgram": ("words", 256, 0.9, 1.5, {}),
    "temporal_gap": ("clips", 32, 0.9, 1.5, {}),
    "permutations": ("clips", 32, 0.9, 1.5, {}),
    "lim": ("utterances", 16, 1.0, 1.5, {}),
    "multi_format": ("clips", 4, 1.0, 1.5, {}),
    "embedding": (
        "times real time",
        64,
        1 / 1.1,
        None,
        {
            "torch, one by one": ("torch", {"batched": False}),
            "jax, one by one": ("jax", {"batched": False}),
            "jax, .embed": ("jax", {"function": "embed_method"}),
            "torch, .embed": ("torch", {"function": "embed_method"}),
        },
    ),
}
# What else a case's functions take, on both sides.
OPTIONS = {
    "audio2vec_cbow": {"function": "audio2vec", "task": "cbow"},
    "audio2vec_skipgram": {"function": "audio2vec", "task": "skipgram"},
    "speech2vec_cbow": {"function": "speech2vec", "task": "cbow"},
    "speech2vec_skipgram": {"function": "speech2vec", "task": "skipgram"},
    "cola_cnn": {"function": "cola", "encoder": "cnn"},
    "fonseca_vgg": {"function": "fonseca", "encoder": "vgg"},
    "mockingjay": {"function": "tera", "method": "Mockingjay"},
    "audio_albert": {"function": "tera", "method": "AudioALBERT"},
}
PEERS = {"embedding": {"peer": {"batched": False}, "peer, batched": {
    "batched": True}}}  # fmt: skip


class Contender:
    """A process that runs some steps when told to."""

    def __init__(self, side, case, options, backend):
        environment = {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONWARNINGS": "ignore",
            "GLIBC_TUNABLES": MEMORY["tunables"](backend),
            **os.environ,
            "KERAS_BACKEND": backend,
        }
        for name in ONE_SIDED:
            environment.pop(name, None)
        options = {"function": case, **OPTIONS.get(case, {}), **options}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", side, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.first = self._answer()
        self.times: list[float] = []
        # Long enough that the start of `fit` counts for little.
        once = self.run(1)
        self.steps = max(2, min(100, round(3.0 / once)))
        self.times = []

    def run(self, steps=None):
        """Seconds a step."""
        steps = steps or self.steps
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        self.times.append(self._answer() / steps)
        return self.times[-1]

    def _answer(self):
        line = self.process.stdout.readline()
        while line and not line.startswith("seconds "):
            line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} died")
        return float(line.split()[1])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def work(side, options):
    """The process of a contender."""
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    function = getattr(importlib.import_module(side), options.pop("function"))
    begin = time.perf_counter()
    run = function(**options)
    if side == "peers":
        step = run

        def run(n):
            for _ in range(n):
                result = step()
            if result.is_cuda:
                result.cpu()

    run(1)
    print("seconds", time.perf_counter() - begin, flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        run(int(line))
        print("seconds", time.perf_counter() - begin, flush=True)


def duel(case, backends, rounds):
    """Times of all contenders of a case, a list of rounds each."""
    specs = {
        name: ("peers", options, "torch")
        for name, options in PEERS.get(case, {"peer": {}}).items()
    }
    specs.update({b: ("ours", {}, b) for b in backends})
    for name, (backend, options) in CASES[case][4].items():
        if backend in backends:
            specs[name] = ("ours", options, backend)
    contenders = {}
    try:
        for name, (side, options, backend) in specs.items():
            contenders[name] = Contender(side, case, options, backend)
        for _ in range(rounds):
            for contender in contenders.values():
                time.sleep(0.3)
                contender.run()
    finally:
        for contender in contenders.values():
            contender.close()
    return {
        name: {"first": c.first, "times": c.times}
        for name, c in contenders.items()
    }


def report(case, results):
    """Prints a case's rows and its verdict."""
    unit, examples, best, worst, _ = CASES[case]
    peers = [n for n in results if n.startswith("peer")]
    peer = min(peers, key=lambda n: min(results[n]["times"]))
    theirs = results[peer]["times"]
    ratios = {}
    for name, result in results.items():
        times = result["times"]
        ratios[name] = min(times) / min(theirs)
        rounds = [a / b for a, b in zip(times, theirs, strict=True)]
        print(
            f"  {name:<20} {1e3 * min(times):9.1f} ms "
            f"{examples / min(times):9.1f} {unit}/s   "
            f"{ratios[name]:5.2f} [{min(rounds):.2f}, {max(rounds):.2f}]   "
            f"first step after {result['first']:.1f} s",
            flush=True,
        )
    ours = {n: r for n, r in ratios.items() if not n.startswith("peer")}
    if best is not None:
        name = min(ours, key=lambda n: ours[n])
        said = "reached" if ours[name] <= best else "MISSED"
        print(f"  best {ours[name]:.2f} ({name}), at most {best:.2f}: {said}")
    if worst is not None:
        bounds = (
            worst if isinstance(worst, dict) else dict.fromkeys(BACKENDS, worst)
        )
        for name, bound in bounds.items():
            if name in ours:
                said = "reached" if ours[name] <= bound else "MISSED"
                print(f"  {name} {ours[name]:.2f}, at most {bound}: {said}")
    return ratios


def machine():
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{len(os.sched_getaffinity(0))} cores, {model}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", help=", ".join((*CASES, "reading")))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    parser.add_argument("--json", help="file to write every time to")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        side, options = args.worker
        return work(side, json.loads(options))
    for case in args.cases:
        if case not in (*CASES, "reading"):
            parser.error(f"unknown case {case!r}: {', '.join(CASES)}, reading")
    print(machine())
    collected = {}
    for case in args.cases or (*CASES, "reading"):
        print(f"\n{case}", flush=True)
        if case == "reading":
            subprocess.run([sys.executable, HERE / "reading.py"], check=False)
            continue
        results = duel(case, args.backends, args.rounds)
        report(case, results)
        collected[case] = results
    if args.json:
        Path(args.json).write_text(json.dumps(collected, indent=1))
    return None


if __name__ == "__main__":
    main()
