"""The whole window in a process of its own, for tests that stop or kill it.

`python -m tests.faults.window_process STAMPS TEXT` is `python -m app` in `NIBBLE_HOME`, but for three things: its
engine is the fake one, which notes in the file STAMPS when it said what; it says TEXT as a person would; and it prints
`writing` once the reply has begun, `idle` once it has ended, and `refused: …` in place of the dialog that says why the
window cannot open. It closes on SIGTERM, as the real one does.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from PySide6.QtWidgets import QMessageBox

from app import main as window
from app.paths import Paths
from app.viewmodels.reply import ChatState


class TalkingProgram(window.Program):
    """Sends TEXT once a model is open, and tells how the reply goes."""

    text = ""

    def __init__(self, paths: Paths, command: Sequence[str], starter_path: Path) -> None:
        super().__init__(paths, command, starter_path)
        self._said = False
        self.models.session.state_changed.connect(self._follow)

    def _follow(self, state: ChatState) -> None:
        if state is ChatState.IDLE and not self._said:
            self._said = True
            self.window.composer.write(self.text)
            self.window.composer.send()
        elif state is ChatState.DECODING:
            print("writing", flush=True)
        elif state is ChatState.IDLE:
            print("idle", flush=True)


def main(stamps: str, text: str) -> int:
    """Run the window until it is closed; return its exit code."""
    engine = [sys.executable, "-m", "tests.faults.stamping_engine", stamps]
    with (
        tempfile.TemporaryDirectory() as model,
        mock.patch.object(TalkingProgram, "text", text),
        mock.patch.object(window, "Program", TalkingProgram),
        mock.patch.object(window, "engine_command", return_value=engine),
        mock.patch.object(window, "starter_model_path", return_value=Path(model)),
        mock.patch.object(QMessageBox, "critical", lambda *said: print(f"refused: {said[-1]}", flush=True)),
    ):
        return window.main(["nibble"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
