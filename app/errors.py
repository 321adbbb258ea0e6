"""Errors that are shown to people as they are written."""


class NibbleError(Exception):
    """Something outside the program is wrong: the message says what happened, `hint` what to do about it.

    Everything else that is raised is a defect of ours and is reported with its traceback.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class OverridableError(NibbleError):
    """One that a person may decide to go on in spite of."""
