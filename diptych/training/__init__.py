"""Training by contrast."""

import diptych.engines  # noqa: F401 (first, for it must come before torch)
