"""Seconds of audio that one core makes in a second, of each kind of corpus.

    python benchmarks/synthesis.py [--clips 200] [--rounds 5]

Kinds take turns, so that a busy moment hits all alike; each figure is the best
of its rounds, of the processor's time.
"""

import argparse
import time

from keras_audio_ssl.data import SyntheticCorpus

KINDS = ("sounds", "patches", "speech")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    best = dict.fromkeys(KINDS, 0.0)
    for turn in range(args.rounds + 1):
        for kind in KINDS:
            corpus = SyntheticCorpus(args.clips, kind=kind, seed=turn)
            begin = time.process_time()
            samples = sum(len(x) for x in corpus)
            spent = time.process_time() - begin
            # The first round makes what is made once.
            if turn:
                best[kind] = max(best[kind], samples / 16000 / spent)
    for kind, rate in best.items():
        print(f"{kind:<8} {rate:6.0f} s/s ({rate / best['sounds']:.1f})")


if __name__ == "__main__":
    main()
