"""How the course is learnt: `check` an answer, ask for a `hint`, see your `progress`.

    from minilm.lab import check, hint, progress

Importing this is light: torch and the exercises come in with the first check. How exercises are written: AUTHORING.md.
"""

from minilm.lab.workshop import check, hint, progress

__all__ = ["check", "hint", "progress"]
