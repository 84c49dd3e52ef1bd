"""The cards of the weights, and the tables that are made of them."""

import hashlib
import json
from pathlib import Path

from keras_audio_ssl._files import write_text

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parent / "keras_audio_ssl" / "hub" / "shipped.py"
SHIPPED_HEAD = '''"""SHA-256 of the package's encoders, and their bytes.

`weights/train.py` writes this file.
"""
'''

READINGS = ("clip", "levels")
ROWS = ("log_mel", "clip", "clip_untrained", "levels", "levels_untrained")

# What the tables of the documentation show: for each family the title, the
# weights by name, and the tasks.
CLIP_TASKS = ("scene", "digit", "speaker_2", "emotion", "instrument", "pitch")
FAMILIES = (
    (
        "Methods that predict or rebuild frames",
        {
            "apc": "APC",
            "npc": "NPC",
            "tera": "TERA",
            "mockingjay": "Mockingjay",
            "audio_albert": "Audio ALBERT",
            "mpc": "MPC",
            "mam": "MAM",
            "dapc": "DAPC",
        },
        ("phone", "digit", "speaker_2", "emotion", "pitch"),
    ),
    (
        "Methods that tell clips apart",
        {
            "cola": "COLA",
            "byol_a": "BYOL-A",
            "fonseca": "Fonseca et al.",
            "clar": "CLAR",
            "multi_format": "multi-format",
            "lim": "LIM",
            "small": "Joint (`small`)",
            "synthetic": "Joint (`synthetic`)",
        },
        CLIP_TASKS,
    ),
    (
        "Slices and order",
        {
            "audio2vec_cbow": "Audio2Vec, CBoW",
            "audio2vec_skipgram": "Audio2Vec, skip-gram",
            "temporal_gap": "TemporalGap",
            "permutations": "permutations",
            "speech2vec_cbow": "Speech2Vec, CBoW",
            "speech2vec_skipgram": "Speech2Vec, skip-gram",
        },
        CLIP_TASKS,
    ),
)
HEADS = {"speaker_2": "2 speakers"}
WORDS = {
    "scene": "scenes",
    "digit": "digits",
    "speaker_2": "two speakers",
    "speaker_5": "five speakers",
    "phone": "phones",
    "instrument": "instruments",
}


def averaged(accuracies, n):
    """What a card says of a row: of several draws their mean, and each."""
    from keras_audio_ssl.evaluation.scoring import wilson

    mean = sum(accuracies) / len(accuracies)
    out = {
        "accuracy": round(mean, 4),
        "interval": [round(x, 4) for x in wilson(mean, n)],
    }
    return out | ({"draws": accuracies} if len(accuracies) > 1 else {})


def judge(scores):
    """Where an encoder differs from itself untrained, read in the same way.

    Args:
        scores: Those of its card.

    Returns:
        `beats_untrained` and `loses_to_untrained`, for each reading the names
        of tasks that lie beyond every draw of random weights, and from their
        mean by more than the 95 % interval of the difference, and a `verdict`
        in words.
    """
    from keras_audio_ssl.evaluation import differ

    better, worse, words = {}, {}, []
    for reading, title in zip(READINGS, ("Clip", "All levels"), strict=True):
        better[reading], worse[reading] = [], []
        for name, task in scores.items():
            word = differ(
                task[reading]["accuracy"],
                task[f"{reading}_untrained"]["draws"],
                task["n"],
            )
            if word != "like":
                (better if word == "better" else worse)[reading].append(name)
        told = [
            f"{word} {', '.join(names[reading])}"
            for word, names in (("better", better), ("worse", worse))
            if names[reading]
        ]
        words.append(f"{title}: {'; '.join(told) or 'no difference'}.")
    if not any(better.values()):
        words.append("It beats its untrained self on no task.")
    return {
        "beats_untrained": better,
        "loses_to_untrained": worse,
        "verdict": " ".join(words),
    }


def cards():
    """The cards that lie here, by name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(HERE.glob("*.json"))
    }


def table():
    """The cards in Markdown: a line a weight, then its scores."""
    lines = [
        "| name | what for | dim | parameters | MB | training |",
        "|---|---|---|---|---|---|",
    ]
    for name, card in cards().items():
        training = card["training"]
        lines.append(
            f"| `{name}` | {card['summary']} | {card['dim']} "
            f"| {card['parameters']:,} | {card['bytes'] / 1e6:.1f} "
            f"| {training['steps']:,} steps of {training['batch_size']}, "
            f"{trained_for(training)} |"
        )
    for name, card in cards().items():
        lines += [
            "",
            f"### {name}",
            "",
            f"Beside itself untrained. {card['verdict']}",
            "",
            "| task | tested | chance | log-mel | clip vector | untrained "
            "| all levels | untrained |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for task in card["scores"].values():
            cells = [
                task["title"],
                str(task["n"]),
                short(task["chance"]),
                *(cell(task[row]) for row in ROWS),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def trained_for(training):
    """Minutes, and on what where it was no processor."""
    minutes = f"{training['seconds_trained'] / 60:.0f} min"
    device = training.get("accelerator")
    return f"{minutes} on {device}" if device else minutes


def results_table():
    """`docs/results.md`'s: a table a family, two lines a weight."""
    found, lines = cards(), []
    for title, names, tasks in FAMILIES:
        heads = " | ".join(HEADS.get(task, task) for task in tasks)
        scores = found["npc"]["scores"]
        baseline = [short(scores[t]["log_mel"]["accuracy"]) for t in tasks]
        lines += [
            "",
            f"| {title} | {heads} |",
            "|---|" + "---|" * len(tasks),
            f"| log-mel | {' | '.join(baseline)} |",
        ]
        for name, words in names.items():
            card = found[name]
            first = f"{words}, {card['training']['steps']:,} steps"
            for reading, row in zip(
                READINGS, (first, "all levels"), strict=True
            ):
                cells = [beside(card, reading, task) for task in tasks]
                lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines[1:])


def beside(card, reading, task):
    """A score, marked where it is better or worse, and its untrained one."""
    scores = card["scores"][task]
    own = short(scores[reading]["accuracy"])
    if task in card["beats_untrained"][reading]:
        own = f"**{own}**"
    if task in card["loses_to_untrained"][reading]:
        own = f"*{own}*"
    return f"{own} ({short(scores[f'{reading}_untrained']['accuracy'])})"


def methods_table():
    """`docs/methods.md`'s: in words where each weight differs."""
    lines = [
        "| method | trained for | vector of the clip | all levels |",
        "|---|---|---|---|",
    ]
    for name, card in cards().items():
        training = card["training"]
        told = [in_words(card, reading) for reading in READINGS]
        lines.append(
            f"| `{name}` | {training['steps']:,} steps, "
            f"{trained_for(training)} | {' | '.join(told)} |"
        )
    return "\n".join(lines)


def in_words(card, reading):
    """The tasks on which a weight differs from itself untrained."""
    told = []
    for word, key in (
        ("better", "beats_untrained"),
        ("worse", "loses_to_untrained"),
    ):
        parts = []
        for task in card[key][reading]:
            scores = card["scores"][task]
            own = short(scores[reading]["accuracy"])
            other = short(scores[f"{reading}_untrained"]["accuracy"])
            parts.append(f"{WORDS.get(task, task)} {own} ({other})")
        if parts:
            told.append(f"{word}: {', '.join(parts)}")
    return "; ".join(told) or "no difference"


def cell(row):
    """A row's accuracy, its interval or the least and most of its draws."""
    draws = row.get("draws")
    ends = (min(draws), max(draws)) if draws else row["interval"]
    return f"{short(row['accuracy'])} ({'-'.join(map(short, ends))})"


def short(share):
    """A share with three digits, as `.890`."""
    return f"{share:.3f}".removeprefix("0")


def checksums():
    """`hub/shipped.py`: the encoders that open without being looked through."""
    lines = []
    for path in sorted(HERE.glob("*.keras")):
        content = path.read_bytes()
        key = hashlib.sha256(content).hexdigest()
        lines += [f"    # {path.name}", f'    "{key}": {len(content)},']
    return "\n".join([SHIPPED_HEAD, "SHIPPED = {", *lines, "}", ""])


DOCS = HERE.parent / "docs"
PAGES = {
    HERE / "README.md": table,
    DOCS / "results.md": results_table,
    DOCS / "methods.md": methods_table,
}
BEGIN, END = "<!-- from the cards -->\n", "\n<!-- to here -->"


def page(path):
    """A page of `PAGES` with the table of the cards that lie here."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{PAGES[path]()}{END}{rest.partition(END)[2]}"


def write_all():
    """Writes what is made of the cards and of the files beside them."""
    for path in PAGES:
        write_text(path, page(path))
    write_text(SHIPPED, checksums())
