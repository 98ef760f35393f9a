"""The note of which stages of a study are done, from what and with what outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from mrmyo.files import remove_leftovers, replacing
from mrmyo.provenance import code_digest, digest, file_digest

__all__ = ["Stages", "write_json"]


class Stages:
    """Runs the stages of one study that need running; the note is ``stages.json`` in its folder.

    A stage is done when its inputs, the code and its outputs are the same, by their contents, as when it was noted.
    Before a stage runs its note is taken away, so that a kill in the middle leaves it undone.

    Parameters
    ----------
    folder : path
        Where the stages leave their outputs.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        remove_leftovers(self.folder)  # of a run that was killed
        try:
            notes = json.loads((self.folder / "stages.json").read_text())
            self.notes = notes if isinstance(notes, dict) else {}
        except (OSError, ValueError):
            self.notes = {}  # nothing done yet, or the note was torn: everything is done anew

    def run(self, name: str, inputs, outputs: list[str], make: Callable) -> str:
        """Run one stage unless it is done.

        Parameters
        ----------
        name : str
        inputs
            Whatever it depends on: keys of earlier stages, hashes of files, options.
        outputs : list of str
            Names of the files that `make` writes into the folder.
        make : callable

        Returns
        -------
        str
            The key of the stage, for those downstream.
        """
        key = digest(inputs, code_digest())
        note = self.notes.get(name)
        if note != {"key": key, "outputs": self._hash(outputs)} or note["outputs"] is None:
            self._note(name, None)
            make()
            self._note(name, {"key": key, "outputs": self._hash(outputs)})
        return key

    def changed_by_hand(self, name: str, outputs: list[str]) -> bool:
        """Whether some outputs of a finished stage are all there but are no longer what it wrote."""
        now, note = self._hash(outputs), self.notes.get(name)
        if not (note and now):
            return False
        noted = note["outputs"] or {}
        if isinstance(noted, str):  # an earlier version kept one hash for all outputs of a stage
            return noted != file_digest([self.folder / output for output in outputs])
        return any(noted.get(file) != new for file, new in now.items())

    def _hash(self, outputs):
        """A hash of every output, by its name alone, so that a folder may be moved; None unless all are there."""
        paths = [self.folder / output for output in outputs]
        whole = all(path.is_file() for path in paths)
        return {path.name: file_digest([path]) for path in paths} if whole else None

    def _note(self, name, note):
        self.notes = {
            **{key: value for key, value in self.notes.items() if key != name},
            **({name: note} if note else {}),
        }
        write_json(self.notes, self.folder / "stages.json")


def write_json(content, path) -> None:
    """Write JSON under another name, then rename it."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
