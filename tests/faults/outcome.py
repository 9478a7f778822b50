"""What one fault came to: a line of the table of ``make faults``, and what a test asserts."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.faults.truth import Account


@dataclass
class Outcome:
    """One fault, over all its rounds. ``wrong``: what did not hold, one sentence each."""

    fault: str
    how: str
    """What was done, in words."""
    rounds: int = 1
    provoked: int = 0
    stored: int = 0
    lost: int = 0
    """Named as lost by the ledger, and told so."""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.wrong

    def take(self, account: Account) -> None:
        """What was found of everything so far; a later look takes the place of an earlier one, but not of what it found wrong."""
        self.provoked, self.stored, self.lost = account.provoked, account.stored, account.lost
        self.wrong += account.wrong

    def must(self, holds: object, otherwise: str) -> None:
        """Something else that must hold."""
        if not holds:
            self.wrong.append(otherwise)
