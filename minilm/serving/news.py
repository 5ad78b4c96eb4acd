"""What callbacks have not been told yet: kept while a step changes things, told when all is in order."""
import warnings
from collections import deque
from collections.abc import Callable

from minilm.serving.request import Request


class News:
    """New tokens of requests that have a callback, in the order in which they came."""

    def __init__(self):
        self._waiting: deque[tuple[Request, int, list[int]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, request: Request, index: int, tokens: list[int]) -> None:
        """Tokens of its sample `index`."""
        self._waiting.append((request, index, tokens))

    def deliver(self, end: Callable[[Request, str], None]) -> None:
        """Tell callbacks; they may add and cancel requests. end: cancels the request of one that fails."""
        while self._waiting:
            request, index, tokens = self._waiting.popleft()
            if request.callback is None:                                # cancelled meanwhile
                continue
            try:
                request.callback(request.id, index, tokens)
            except Exception as error:                          # a user's mistake must not end the others' service
                request.error, request.callback = error, None
                if not request.done:
                    end(request, "cancel")
                warnings.warn(f"the callback of request {request.id} raised {type(error).__name__}: {error}; the "
                              "request ends here, the others go on", RuntimeWarning, stacklevel=4)
