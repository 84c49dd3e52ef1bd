"""Runs the notebooks as they are committed: `python -m tests.notebooks`.

`--write` keeps the outputs, for a commit.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"


def run(path, write):
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
        ).execute()
    if write:
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            # What libraries say of this machine is of no use elsewhere.
            if "outputs" in cell:
                cell.outputs = [
                    o for o in cell.outputs if o.get("name") != "stderr"
                ]
        nbformat.write(notebook, path)
    cells = sum(c.cell_type == "code" for c in notebook.cells)
    print(f"{path.name}: {cells} cells ran")


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.ipynb")):
        run(path, "--write" in sys.argv)
