"""A preparing process that ends at a picture with a certain content, as a decoder's crash would end it."""

import os
from typing import Any

from diptych.collect.lists import preparing_process


class Dying(preparing_process.Preparation):
    """Ends the process instead of refusing b"deadly"."""

    def answer(self, content: bytes) -> tuple[dict[str, Any], bytes]:
        """As in the class above."""
        if content == b"deadly":
            os.abort()
        return super().answer(content)


def main() -> None:
    """As in the module above."""
    preparing_process.Preparation = Dying  # type: ignore[misc]
    preparing_process.main()
